"""Data keys and random numbers."""

import hashlib

from cryptography.hazmat.primitives import hashes

from .keys import create


def sm3(data):
    digest = hashes.Hash(hashes.SM3())
    digest.update(data)
    return digest.finalize()


def run(suite):
    aes, sm4 = create(suite, "data-keys/aes"), create(suite, "data-keys/sm4", key_spec="SM4")
    make(suite, aes)
    bring(suite, aes, lambda data: hashlib.sha256(data).digest())
    bring(suite, sm4, sm3)
    suite.proves("EncryptDatakey", "the digest is SHA-256, and SM3 under an SM4 key")
    decrypt(suite, aes)
    aliases(suite, aes)
    random(suite)


def opened(suite, key, cipher_text, length, **context):
    return suite.admin.call(
        "DecryptDatakey", key_id=key, cipher_text=cipher_text, datakey_cipher_length=str(length), **context
    )


def make(suite, key):
    admin = suite.admin
    lengths = [({}, 32), ({"key_spec": "AES_128"}, 16), ({"key_spec": "SM4"}, 16), ({"key_spec": "HMAC_512"}, 64)]
    lengths += [({"datakey_length": str(8 * length), "key_spec": "AES_128"}, length) for length in (1, 33, 64, 1024)]
    for operation in ("CreateDatakey", "CreateDatakeyWithoutPlaintext"):
        for fields, length in lengths:
            context = {"additional_authenticated_data": "bucket/object ü"}
            made = admin.call(operation, key_id=key, **fields, **context)
            assert made.key_id == key
            back = opened(suite, key, made.cipher_text, length, **context)
            assert len(bytes.fromhex(back.data_key)) == length
            assert operation != "CreateDatakey" or made.plain_text == back.data_key
            assert not hasattr(made, "plain_text") or operation == "CreateDatakey"
            admin.refused(
                "DecryptDatakey", "KMS.2201", key_id=key, cipher_text=made.cipher_text, datakey_cipher_length=str(length)
            )
        suite.proves(operation, "lengths from 8 to 8192 bits, and by kind", "bound to additional_authenticated_data")
        for code, fields in [
            ("KMS.0204", {}),
            ("KMS.1901", {"key_id": key, "datakey_length": "0"}),
            ("KMS.1901", {"key_id": key, "datakey_length": "8200"}),
            ("KMS.1901", {"key_id": key, "datakey_length": "long"}),
            ("KMS.1903", {"key_id": key, "datakey_length": "100"}),
            ("KMS.1902", {"key_id": key, "key_spec": "DES"}),
            ("KMS.0208", {"key_id": key, "additional_authenticated_data": "x" * 129}),
            ("KMS.0308", {"key_id": key, "pin": "1234"}),
        ]:
            admin.refused(operation, code, **fields)
        rsa = suite.admin.call("ListKeys", key_spec="RSA_2048").keys[0]
        admin.refused(operation, "KMS.0325", key_id=rsa)
        suite.nobody.refused(operation, "KMS.0307", 403, key_id=key)
        suite.differs(operation, "a PIN is refused (KMS.0308)", "keys of this service have none")


def bring(suite, key, digest):
    admin, data_key = suite.admin, bytes(range(48))
    whole = (data_key + digest(data_key)).hex()
    for text in (whole, whole.upper()):
        made = admin.call("EncryptDatakey", key_id=key, plain_text=text, datakey_plain_length="48")
        assert (made.key_id, made.datakey_length) == (key, "48")
        assert opened(suite, key, made.cipher_text, 48).data_key.lower() == data_key.hex()
    suite.proves("EncryptDatakey", "decrypt-datakey gives the key back")
    wrong = (data_key + bytes(32)).hex()
    for code, fields in [
        ("KMS.2103", {"plain_text": wrong, "datakey_plain_length": "48"}),
        ("KMS.2104", {"plain_text": whole, "datakey_plain_length": "47"}),
        ("KMS.2102", {"plain_text": whole, "datakey_plain_length": "0"}),
        ("KMS.2102", {"plain_text": whole, "datakey_plain_length": "1025"}),
        ("KMS.2101", {"plain_text": "no digits", "datakey_plain_length": "48"}),
        ("KMS.0204", {"plain_text": whole}),
        ("KMS.0204", {"datakey_plain_length": "48"}),
        ("KMS.0308", {"plain_text": whole, "datakey_plain_length": "48", "key_spec": "AES_256"}),
        ("KMS.0308", {"plain_text": whole, "datakey_plain_length": "48", "pin": "1234"}),
    ]:
        admin.refused("EncryptDatakey", code, key_id=key, **fields)
    suite.differs(
        "EncryptDatakey", "a PIN and a key_spec are refused (KMS.0308)", "both are for keys that this service has not"
    )


def decrypt(suite, key):
    admin = suite.admin
    made = admin.call("CreateDatakey", key_id=key)
    back = opened(suite, key, made.cipher_text.upper(), 32)
    data_key = bytes.fromhex(back.data_key)
    assert (back.datakey_length, back.datakey_dgst) == ("32", hashlib.sha256(data_key).hexdigest())
    suite.proves("DecryptDatakey", "the key, its length in bytes and its SHA-256")
    damaged = made.cipher_text[:-2] + format(int(made.cipher_text[-2:], 16) ^ 1, "02x")
    other = create(suite, "data-keys/other")
    for code, fields in [
        ("KMS.2201", {"cipher_text": damaged, "datakey_cipher_length": "32"}),
        ("KMS.2201", {"cipher_text": "no digits", "datakey_cipher_length": "32"}),
        ("KMS.2202", {"cipher_text": made.cipher_text, "datakey_cipher_length": "0"}),
        ("KMS.2204", {"cipher_text": made.cipher_text, "datakey_cipher_length": "64"}),
        ("KMS.0204", {"cipher_text": made.cipher_text}),
        ("KMS.2201", {"key_id": other, "cipher_text": made.cipher_text, "datakey_cipher_length": "32"}),
    ]:
        admin.refused("DecryptDatakey", code, **{"key_id": key, **fields})


def aliases(suite, key):
    """A key by its first alias, where the call does cryptography."""
    made = suite.admin.call("CreateDatakey", key_id="data-keys/aes")
    assert made.key_id == key
    assert suite.admin.call("ListKeyDetail", key_id="data-keys/aes").key_info.key_id == key
    suite.proves("CreateDatakey", "a key by its alias")


def random(suite):
    admin = suite.admin
    for bits in (8, 512, 8192):
        made = admin.call("CreateRandom", random_data_length=str(bits)).random_data
        assert len(bytes.fromhex(made)) * 8 == bits
    suite.proves("CreateRandom", "from 8 to 8192 bits")
    admin.refused("CreateRandom", "KMS.0204")
    for code, length in [("KMS.1801", "0"), ("KMS.1801", "8200"), ("KMS.1801", "some"), ("KMS.1802", "7")]:
        admin.refused("CreateRandom", code, random_data_length=length)
