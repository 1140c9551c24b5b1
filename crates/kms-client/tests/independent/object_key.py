"""Derives keys of objects from a bucket key as docs/bucket-keys.md says: shares no code with the client.

Prints the keys that the client's tests expect, for a bucket key of 32 bytes 01 and a salt of 32 bytes 07.
"""

import hashlib
import hmac

LABEL = b"dewpoint object key v1"


def hkdf_sha256(salt, key, info, length):
    """RFC 5869."""
    pseudorandom_key = hmac.new(salt, key, hashlib.sha256).digest()
    block, output = b"", b""
    while len(output) < length:
        block = hmac.new(pseudorandom_key, block + info + bytes([len(output) // 32 + 1]), hashlib.sha256).digest()
        output += block
    return output[:length]


def object_key(bucket_key, salt, suite, bucket, name):
    """The key of an object; suite 1: AES-256-GCM, 2: SM4-GCM."""
    info = LABEL + bytes([suite])
    for text in (bucket.encode(), name.encode()):
        info += len(text).to_bytes(8, "big") + text
    return hkdf_sha256(salt, bucket_key, info, {1: 32, 2: 16}[suite])


if __name__ == "__main__":
    for suite in (1, 2):
        print(suite, object_key(b"\x01" * 32, b"\x07" * 32, suite, "photos", "a/b.jpg").hex())
