"""Derives keys of objects from a bucket key as docs/bucket-keys.md says: shares no code with the client.

    object_key.py check FILE    holds the published keys in FILE against its own
"""

import hashlib
import hmac
import json
import sys

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


def check(path):
    with open(path, encoding="utf-8") as file:
        cases = json.load(file)["vectors"]
    for case in cases:
        secrets = bytes.fromhex(case["bucket_key"]), bytes.fromhex(case["salt"])
        key = object_key(*secrets, case["suite"], case["bucket"], case["object"])
        assert key.hex() == case["key"], f"another key for {case}"
    print(f"{len(cases)} keys of objects agree")


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] != "check":
        sys.exit(__doc__)
    check(sys.argv[2])
