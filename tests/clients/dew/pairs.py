"""Data key pairs, re-encryption, and PINs, which are not offered."""

import base64

from cryptography.hazmat.primitives import serialization

from .keys import create

PAIRS = {
    "CreateRsaDatakeyPair": ["RSA_2048", "RSA_3072"],
    "CreateEcDatakeyPair": ["ECC_NIST_P256", "ECC_NIST_P384", "ECC_SECG_P256K1", "SM2"],
}


def run(suite):
    key = create(suite, "pairs/aes")
    for operation, specs in PAIRS.items():
        pairs(suite, key, operation, specs)
    suite.differs(
        "CreateEcDatakeyPair", "not ECC_NIST_P521 (KMS.1902)", "keys of this curve are not offered, either"
    )
    re_encrypt(suite, key)
    suite.admin.not_offered("CreatePin", "keys of this service have no PIN", pin_type="CipherText")


def pairs(suite, key, operation, specs):
    admin = suite.admin
    for spec in specs:
        bound = {"key_id": key, "key_spec": spec, "additional_authenticated_data": "of a pair"}
        made = admin.call(operation, **bound)
        assert (made.key_id, made.key_spec) == (key, spec)
        private = base64.b64decode(made.private_key_plain_text)
        opened = admin.call(
            "DecryptDatakey",
            key_id=key,
            cipher_text=made.private_key_cipher_text,
            datakey_cipher_length=str(len(private)),
            additional_authenticated_data="of a pair",
        )
        assert bytes.fromhex(opened.data_key) == private
        if spec != "SM2":  # which the library does not know
            half = serialization.load_der_private_key(private, None)
            assert half.public_key() == serialization.load_der_public_key(base64.b64decode(made.public_key))
        hidden = admin.call(operation, **bound, with_plain_text=False)
        assert hidden.private_key_plain_text is None and hidden.private_key_cipher_text
    suite.proves(operation, f"{', '.join(specs)}; another library reads both halves", "decrypt-datakey opens what is sealed")
    suite.differs(operation, "halves in plain are base64 of DER, sealed ones hexadecimal digits", "DEW does not say")
    for code, fields in [
        ("KMS.0204", {"key_id": key}),
        ("KMS.0204", {"key_spec": specs[0]}),
        ("KMS.1902", {"key_id": key, "key_spec": "AES_256"}),
        ("KMS.1902", {"key_id": key, "key_spec": "ECC_NIST_P521"}),
        ("KMS.0208", {"key_id": key, "key_spec": specs[0], "additional_authenticated_data": "x" * 129}),
    ]:
        admin.refused(operation, code, **fields)
    suite.nobody.refused(operation, "KMS.0307", 403, key_id=key, key_spec=specs[0])


def re_encrypt(suite, key):
    admin, other = suite.admin, create(suite, "pairs/sm4", key_spec="SM4")
    source, destination = {"additional_authenticated_data": "old"}, {"additional_authenticated_data": "new"}
    contexts = {"source_additional_authenticated_data": "old", "destination_additional_authenticated_data": "new"}
    data_key = admin.call("CreateDatakey", key_id=key, **source)
    asked = {"cipher_text": data_key.cipher_text, "datakey_cipher_length": "32", "destination_key_id": other, **contexts}
    moved = admin.call("ReEncrypt", **asked)
    assert (moved.key_id, moved.source_key_id) == (other, key)
    assert moved.source_encryption_algorithm == moved.destination_encryption_algorithm == "SYMMETRIC_DEFAULT"
    opened = admin.call(
        "DecryptDatakey", key_id=other, cipher_text=moved.cipher_text, datakey_cipher_length="32", **destination
    )
    assert opened.data_key == data_key.plain_text
    text = admin.call("EncryptData", key_id=key, plain_text="moves", **source).cipher_text
    moved = admin.call("ReEncrypt", cipher_text=text, destination_key_id=other, source_key_id=key, **contexts)
    assert admin.call("DecryptData", cipher_text=moved.cipher_text, **destination).plain_text == "moves"
    suite.proves("ReEncrypt", "data keys and small data, to another key and another context")
    for code, fields in [
        ("KMS.2201", {"source_additional_authenticated_data": "other"}),
        ("KMS.2201", {"source_key_id": other}),
        ("KMS.2204", {"datakey_cipher_length": "64"}),
        ("KMS.2202", {"datakey_cipher_length": "none"}),
        ("KMS.0207", {"destination_key_id": "no/such/key"}),
        ("KMS.0325", {"source_encryption_algorithm": "RSAES_OAEP_SHA_256"}),
        ("KMS.0208", {"destination_additional_authenticated_data": "x" * 129}),
    ]:
        admin.refused("ReEncrypt", code, 404 if code == "KMS.0207" else 400, **{**asked, **fields})
    admin.refused("ReEncrypt", "KMS.0204", cipher_text=text)
    suite.nobody.refused("ReEncrypt", "KMS.0307", 403, **asked)
    suite.differs("ReEncrypt", "not from or to asymmetric keys (KMS.0325)", "only symmetric keys move what they sealed")
