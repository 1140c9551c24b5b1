"""Signatures, shared secrets and message authentication codes, each against another library."""

import base64

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, utils

from .data_keys import sm3
from .encryption import public_key, public_pem
from .keys import create
from .openssl import openssl

MESSAGE = b"what is signed"
HASHES = {"SHA_256": hashes.SHA256(), "SHA_384": hashes.SHA384(), "SHA_512": hashes.SHA512()}
CURVES = {"EC_P256": "ECDSA_SHA_256", "EC_P384": "ECDSA_SHA_384", "SECP256K1": "ECDSA_SHA_256"}
MACS = {"HMAC_256": "HMAC_SHA_256", "HMAC_384": "HMAC_SHA_384", "HMAC_512": "HMAC_SHA_512", "HMAC_SM3": "HMAC_SM3"}


def text(data):
    return base64.b64encode(data).decode()


def digest(algorithm):
    chosen = hashes.Hash(HASHES[algorithm[-7:]])
    chosen.update(MESSAGE)
    return chosen.finalize()


def run(suite):
    sign_with_rsa(suite)
    sign_with_curves(suite)
    sign_by_other_rules(suite)
    suite.proves("ShowPublicKey", "PEM that another library reads")
    refuse(suite)
    agree(suite)
    codes(suite)


def signed(suite, key, algorithm, **fields):
    """A signature that the service itself holds for good, and no other for that."""
    asked = {"key_id": key, "signing_algorithm": algorithm, **fields}
    made = suite.admin.call("Sign", **asked)
    assert made.key_id == key
    signature = base64.b64decode(made.signature)
    assert suite.admin.call("ValidateSignature", **asked, signature=made.signature).signature_valid == "true"
    damaged = bytearray(signature)
    damaged[-1] ^= 1
    told = suite.admin.call("ValidateSignature", **asked, signature=text(bytes(damaged)))
    assert (told.key_id, told.signature_valid) == (key, "false")
    return signature


def sign_with_rsa(suite):
    key = create(suite, "signing/rsa", key_spec="RSA_2048", key_usage="SIGN_VERIFY")
    public = public_key(suite, key)
    for name, algorithm in HASHES.items():
        pss = padding.PSS(padding.MGF1(algorithm), algorithm.digest_size)
        for scheme, rule in [("RSASSA_PSS", pss), ("RSASSA_PKCS1_V1_5", padding.PKCS1v15())]:
            whole = f"{scheme}_{name}"
            for fields in ({"message": text(digest(name))}, {"message": text(MESSAGE), "message_type": "RAW"}):
                public.verify(signed(suite, key, whole, **fields), MESSAGE, rule, algorithm)
    suite.proves("Sign", "RSASSA-PSS and PKCS#1 with three digests, of digests and messages; another library verifies")


def sign_with_curves(suite):
    for spec, algorithm in CURVES.items():
        key = create(suite, f"signing/{spec}", key_spec=spec, key_usage="SIGN_VERIFY")
        public, rule = public_key(suite, key), HASHES[algorithm[-7:]]
        signature = signed(suite, key, algorithm, message=text(digest(algorithm)), message_type="DIGEST")
        public.verify(signature, digest(algorithm), ec.ECDSA(utils.Prehashed(rule)))
        # What another key signed is no error.
        other = ec.generate_private_key(public.curve).sign(MESSAGE, ec.ECDSA(rule))
        fields = {"key_id": key, "message": text(MESSAGE), "message_type": "RAW", "signing_algorithm": algorithm}
        assert suite.admin.call("ValidateSignature", **fields, signature=text(other)).signature_valid == "false"
    suite.proves("Sign", "ECDSA over three curves; another library verifies")
    suite.proves("ValidateSignature", '"true" and "false", which is no error')


def sign_by_other_rules(suite):
    edwards = create(suite, "signing/ed25519", key_spec="ED25519", key_usage="SIGN_VERIFY")
    signature = signed(suite, edwards, "ED25519_SHA_512", message=text(MESSAGE), message_type="RAW")
    public_key(suite, edwards).verify(signature, MESSAGE)
    try:
        public_key(suite, edwards).verify(signature, MESSAGE + b"?")
        raise AssertionError("anything is verified")
    except InvalidSignature:
        pass
    asked = {"key_id": edwards, "signing_algorithm": "ED25519_SHA_512", "message": text(bytes(64))}
    suite.admin.refused("Sign", "KMS.0308", **asked)
    suite.differs("Sign", "ED25519_SHA_512 takes a message and no digest", "RFC 8032 signs the message itself")
    sm2 = create(suite, "signing/sm2", key_spec="SM2", key_usage="SIGN_VERIFY")
    public = public_pem(suite, sm2)
    signature = signed(suite, sm2, "SM2DSA_SM3", message=text(MESSAGE), message_type="RAW")
    command = "dgst -sm3 -verify key -sigopt distid:1234567812345678 -signature signature message"
    openssl(command, key=public, signature=signature, message=MESSAGE)
    # Without a digest, openssl takes what is signed for SM3(Z || M).
    signature = signed(suite, sm2, "SM2DSA_SM3", message=text(sm3(MESSAGE)))
    command = "pkeyutl -verify -pubin -inkey key -in digest -sigfile signature"
    openssl(command, key=public, signature=signature, digest=sm3(MESSAGE))
    suite.proves("Sign", "Ed25519, which another library verifies, and SM2, which openssl does")


def refuse(suite):
    admin = suite.admin
    curve = create(suite, "signing/refused", key_spec="EC_P256", key_usage="SIGN_VERIFY")
    rsa = create(suite, "signing/encrypts", key_spec="RSA_2048", key_usage="ENCRYPT_DECRYPT")
    aes = create(suite, "signing/aes")
    agrees = create(suite, "signing/only-agrees", key_spec="EC_P256", key_usage="KEY_AGREEMENT")
    hmac = create(suite, "signing/hmac", key_spec="HMAC_256")
    whole = {"key_id": curve, "message": text(bytes(32)), "signing_algorithm": "ECDSA_SHA_256"}
    for operation, more in [("Sign", {}), ("ValidateSignature", {"signature": text(b"?")})]:
        for code, fields in [
            ("KMS.0204", {"message": None}),
            ("KMS.0204", {"signing_algorithm": None}),
            ("KMS.0329", {"message": text(bytes(31))}),
            ("KMS.0308", {"message": "no base64!"}),
            ("KMS.0308", {"signing_algorithm": "DSA"}),
            ("KMS.0308", {"message_type": "TEXT"}),
            ("KMS.0332", {"signing_algorithm": "RSASSA_PSS_SHA_256"}),
            ("KMS.0334", {"key_id": rsa, "signing_algorithm": "RSASSA_PSS_SHA_256"}),
            ("KMS.1115", {"key_id": aes}),
            ("KMS.0325", {"key_id": agrees}),
            ("KMS.0341", {"key_id": hmac}),
        ]:
            given = {**whole, **more, **fields}
            admin.refused(operation, code, **{name: value for name, value in given.items() if value is not None})
        suite.nobody.refused(operation, "KMS.0307", 403, **whole, **more)
    admin.refused("ShowPublicKey", "KMS.0331", key_id=aes)
    admin.refused("ShowPublicKey", "KMS.0341", key_id=hmac)
    mac = {"mac_algorithm": "HMAC_SHA_256", "message": text(MESSAGE)}
    for code, key in [("KMS.0331", aes), ("KMS.0325", curve), ("KMS.0325", rsa), ("KMS.0325", agrees)]:
        admin.refused("GenerateMac", code, key_id=key, **mac)
        admin.refused("VerifyMac", code, key_id=key, mac="00" * 32, **mac)
    admin.refused("ShowPublicKey", "KMS.0204")
    suite.nobody.refused("ShowPublicKey", "KMS.0307", 403, key_id=curve)


def agree(suite):
    admin, key = suite.admin, create(suite, "signing/agrees", key_spec="EC_P256", key_usage="KEY_AGREEMENT")
    own = ec.generate_private_key(ec.SECP256R1())
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    public = text(own.public_key().public_bytes(serialization.Encoding.DER, form))
    asked = {"key_id": key, "key_agreement_algorithm": "ECDH", "public_key": public}
    made = admin.call("DeriveSharedSecret", **asked)
    assert (made.key_id, made.key_agreement_algorithm) == (key, "ECDH")
    assert base64.b64decode(made.shared_secret) == own.exchange(ec.ECDH(), public_key(suite, key))
    suite.proves("DeriveSharedSecret", "another library agrees on the same secret")
    suite.differs(
        "DeriveSharedSecret", "the usage of such keys is KEY_AGREEMENT", "DEW does not say; one usage for each key"
    )
    for code, fields in [
        ("KMS.0308", {"key_agreement_algorithm": "DH"}),
        ("KMS.0308", {"public_key": text(b"no key")}),
        ("KMS.0308", {"recipient": {"attestation_document": "AA==", "key_encryption_algorithm": "RSAES_OAEP_SHA_256"}}),
        ("KMS.0331", {"key_id": create(suite, "signing/agrees-not")}),
        ("KMS.0325", {"key_id": create(suite, "signing/agrees-never", key_spec="RSA_2048")}),
        ("KMS.0341", {"key_id": create(suite, "signing/hmac-agrees-not", key_spec="HMAC_256")}),
        ("KMS.0335", {"key_id": create(suite, "signing/signs", key_spec="EC_P256", key_usage="SIGN_VERIFY")}),
    ]:
        admin.refused("DeriveSharedSecret", code, **{**asked, **fields})
    suite.differs("DeriveSharedSecret", "a recipient is refused (KMS.0308)", "there are no enclaves")


def codes(suite):
    admin = suite.admin
    for spec, algorithm in MACS.items():
        key = create(suite, f"signing/{spec}", key_spec=spec)
        asked = {"key_id": key, "mac_algorithm": algorithm, "message": text(MESSAGE)}
        made = admin.call("GenerateMac", **asked)
        assert (made.key_id, made.mac_algorithm) == (key, algorithm)
        length = 32 if algorithm == "HMAC_SM3" else int(spec[-3:]) // 8
        assert len(bytes.fromhex(made.mac)) == length
        checked = admin.call("VerifyMac", **asked, mac=made.mac.upper())
        assert (checked.key_id, checked.mac_algorithm, checked.mac_valid) == (key, algorithm, True)
        other = {**asked, "message": text(MESSAGE + b"?")}
        assert admin.call("VerifyMac", **other, mac=made.mac).mac_valid is False
        for code, fields in [
            ("KMS.0308", {"mac_algorithm": "CRC"}),
            ("KMS.0308", {"message": ""}),
            ("KMS.0308", {"message": text(bytes(4097))}),
            ("KMS.0332", {"mac_algorithm": "HMAC_SM3" if algorithm != "HMAC_SM3" else "HMAC_SHA_256"}),
        ]:
            admin.refused("GenerateMac", code, **{**asked, **fields})
            admin.refused("VerifyMac", code, **{**asked, **fields}, mac=made.mac)
        admin.refused("VerifyMac", "KMS.0204", **asked)
        admin.refused("VerifyMac", "KMS.0308", **asked, mac="no digits")
        suite.nobody.refused("GenerateMac", "KMS.0307", 403, **asked)
    suite.proves("GenerateMac", "four algorithms, as hexadecimal digits")
    suite.proves("VerifyMac", "true and false, also of upper case")
