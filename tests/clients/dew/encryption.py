"""Small data."""

import base64

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding

from .keys import create
from .openssl import openssl

OAEP = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
TEXT = "small data: ü, 密钥"


def public_key(suite, key):
    """The public half, as a library reads it."""
    return serialization.load_pem_public_key(public_pem(suite, key))


def public_pem(suite, key):
    return suite.admin.call("ShowPublicKey", key_id=key).public_key.encode()


def run(suite):
    admin = suite.admin
    aes = create(suite, "encryption/aes")
    for alias, fields in [("aes-2", {}), ("sm4", {"key_spec": "SM4"})]:
        key = create(suite, f"encryption/{alias}", **fields)
        bound = {"additional_authenticated_data": "bucket/object"}
        sealed = admin.call("EncryptData", key_id=key, plain_text=TEXT, **bound)
        assert sealed.key_id == key
        for named in ({}, {"key_id": key}, {"encryption_algorithm": "SYMMETRIC_DEFAULT"}):
            opened = admin.call("DecryptData", cipher_text=sealed.cipher_text, **bound, **named)
            assert (opened.key_id, opened.plain_text) == (key, TEXT)
            assert base64.b64decode(opened.plain_text_base64).decode() == TEXT
        admin.refused("DecryptData", "KMS.2201", cipher_text=sealed.cipher_text)
        admin.refused("DecryptData", "KMS.2201", cipher_text=sealed.cipher_text, key_id=aes, **bound)
    longest = admin.call("EncryptData", key_id=aes, plain_text="x" * 4096)
    assert admin.call("DecryptData", cipher_text=longest.cipher_text).plain_text == "x" * 4096
    suite.proves("EncryptData", "texts of 1 to 4096 bytes, under AES and SM4 keys")
    suite.proves("DecryptData", "without a key id, which the ciphertext names")
    asymmetric(suite)
    refuse(suite, aes, longest.cipher_text)


def asymmetric(suite):
    admin = suite.admin
    rsa = create(suite, "encryption/rsa", key_spec="RSA_2048", key_usage="ENCRYPT_DECRYPT")
    algorithm = {"encryption_algorithm": "RSAES_OAEP_SHA_256"}
    brought = base64.b64encode(public_key(suite, rsa).encrypt(b"\xff\x00", OAEP)).decode()
    opened = admin.call("DecryptData", key_id=rsa, cipher_text=brought, **algorithm)
    assert base64.b64decode(opened.plain_text_base64) == b"\xff\x00"
    suite.proves("DecryptData", "RSA-OAEP that another library encrypted, also of bytes that are no text")
    sm2 = create(suite, "encryption/sm2", key_spec="SM2", key_usage="ENCRYPT_DECRYPT")
    for key, name, code in [(rsa, "RSAES_OAEP_SHA_256", "KMS.2106"), (sm2, "SM2_ENCRYPT", "KMS.0308")]:
        sealed = admin.call("EncryptData", key_id=key, plain_text=TEXT, encryption_algorithm=name)
        opened = admin.call("DecryptData", key_id=key, cipher_text=sealed.cipher_text, encryption_algorithm=name)
        assert opened.plain_text == TEXT
        admin.refused("DecryptData", "KMS.0204", cipher_text=sealed.cipher_text, encryption_algorithm=name)
        admin.refused("EncryptData", code, key_id=key, plain_text=TEXT)
    admin.refused("EncryptData", "KMS.2108", key_id=rsa, plain_text="x" * 191, **algorithm)
    suite.proves("EncryptData", "RSA-OAEP and SM2")
    theirs = openssl("pkeyutl -encrypt -pubin -inkey key -in text", key=public_pem(suite, sm2), text=TEXT.encode())
    sealed = {"key_id": sm2, "cipher_text": base64.b64encode(theirs).decode(), "encryption_algorithm": "SM2_ENCRYPT"}
    assert admin.call("DecryptData", **sealed).plain_text == TEXT
    suite.proves("DecryptData", "SM2 that openssl encrypted")
    for code, kind in [
        ("KMS.1114", {"key_spec": "EC_P256"}),
        ("KMS.1114", {"key_spec": "EC_P256", "key_usage": "KEY_AGREEMENT"}),
        ("KMS.0341", {"key_spec": "HMAC_256"}),
        ("KMS.0335", {"key_spec": "RSA_2048", "key_usage": "SIGN_VERIFY"}),
        ("KMS.0325", {"key_spec": "SM2", "key_usage": "KEY_AGREEMENT"}),
    ]:
        other = create(suite, f"encryption/{'-'.join(kind.values())}", **kind)
        admin.refused("EncryptData", code, key_id=other, plain_text=TEXT, **algorithm)
        admin.refused("DecryptData", code, key_id=other, cipher_text=brought, **algorithm)


def refuse(suite, key, cipher_text):
    for code, fields in [
        ("KMS.0204", {"key_id": key}),
        ("KMS.0204", {"plain_text": "x"}),
        ("KMS.2101", {"key_id": key, "plain_text": ""}),
        ("KMS.2101", {"key_id": key, "plain_text": "x" * 4097}),
        ("KMS.2101", {"key_id": key, "plain_text": "ü" * 2049}),
        ("KMS.0308", {"key_id": key, "plain_text": "x", "encryption_algorithm": "ROT13"}),
        ("KMS.0208", {"key_id": key, "plain_text": "x", "additional_authenticated_data": "x" * 129}),
        ("KMS.2105", {"key_id": key, "plain_text": "x", "encryption_algorithm": "SM2_ENCRYPT"}),
    ]:
        suite.admin.refused("EncryptData", code, **fields)
    for code, fields in [
        ("KMS.0204", {}),
        ("KMS.2201", {"cipher_text": "no base64!"}),
        ("KMS.2201", {"cipher_text": "AAAA" * 40}),
    ]:
        suite.admin.refused("DecryptData", code, **fields)
    suite.nobody.refused("EncryptData", "KMS.0307", 403, key_id=key, plain_text="x")
    suite.nobody.refused("DecryptData", "KMS.0307", 403, cipher_text=cipher_text)
