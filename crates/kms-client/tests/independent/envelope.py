"""Seals and opens Dewpoint envelopes by the letter of docs/envelope-format.md, with no code of Dewpoint.

    envelope.py check VECTORS    opens every envelope of the vectors and seals every plaintext again
    envelope.py make VECTORS     writes the vectors

Needs the package `cryptography`, whose OpenSSL has to know SM4 in GCM mode.
"""

import hashlib
import json
import struct
import sys

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import SM4
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

FIXED = struct.Struct(">4sBBB32sH")
LABEL = b"dewpoint envelope v1"
TAG = 16
HEADER_TAG = 32
KEY_LENGTH = {1: 32, 2: 16}
# Envelopes up to this length are written in full into the vectors.
FULL_LENGTH = 4096


class Sm4Gcm:
    """SM4-GCM with the interface of AESGCM."""

    def __init__(self, key):
        self.key = key

    def encrypt(self, nonce, plaintext, _):
        encryptor = Cipher(SM4(self.key), modes.GCM(nonce)).encryptor()
        return encryptor.update(plaintext) + encryptor.finalize() + encryptor.tag

    def decrypt(self, nonce, sealed, _):
        decryptor = Cipher(SM4(self.key), modes.GCM(nonce, sealed[-TAG:])).decryptor()
        return decryptor.update(sealed[:-TAG]) + decryptor.finalize()


def derive(suite, data_key, salt, header):
    """Answers the segments' cipher, the nonce prefix and the header's tag."""
    assert len(data_key) == KEY_LENGTH[suite], "the data key does not fit the suite"
    length = KEY_LENGTH[suite]
    output = HKDF(hashes.SHA256(), length + 7 + HEADER_TAG, salt, LABEL + header).derive(data_key)
    cipher = (AESGCM if suite == 1 else Sm4Gcm)(output[:length])
    return cipher, output[length : length + 7], output[length + 7 :]


def nonce(prefix, index, is_last):
    return prefix + struct.pack(">IB", index, is_last)


def seal(suite, exponent, salt, sealed_key, data_key, plaintext):
    header = FIXED.pack(b"DPEN", 1, suite, exponent, salt, len(sealed_key)) + sealed_key
    cipher, prefix, header_tag = derive(suite, data_key, salt, header)
    size = 1 << exponent
    segments = [plaintext[at : at + size] for at in range(0, len(plaintext), size)] or [b""]
    sealed = [
        cipher.encrypt(nonce(prefix, index, index == len(segments) - 1), segment, None)
        for index, segment in enumerate(segments)
    ]
    return header + header_tag + b"".join(sealed)


def open_envelope(envelope, data_key):
    magic, version, suite, exponent, salt, sealed_length = FIXED.unpack_from(envelope)
    assert (magic, version) == (b"DPEN", 1), "not an envelope of version 1"
    assert suite in KEY_LENGTH and 10 <= exponent <= 24 and sealed_length > 0, "malformed header"
    header = envelope[: FIXED.size + sealed_length]
    body = len(header) + HEADER_TAG
    cipher, prefix, header_tag = derive(suite, data_key, salt, header)
    assert header_tag == envelope[len(header) : body], "the header is not authentic"
    size = (1 << exponent) + TAG
    places = range(body, len(envelope), size)
    assert places, "truncated"
    opened = []
    for index, at in enumerate(places):
        is_last = at + size >= len(envelope)
        opened.append(cipher.decrypt(nonce(prefix, index, is_last), envelope[at : at + size], None))
    assert opened[-1] or len(opened) == 1, "an empty segment after others"
    return b"".join(opened)


def pattern(length):
    return (bytes(range(251)) * (length // 251 + 1))[:length]


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def vector(suite, exponent, length):
    data_key = bytes(range(1, KEY_LENGTH[suite] + 1))
    salt = bytes(range(0xA0, 0xA0 + 32))
    sealed_key = b"a data key, sealed by the service"
    plaintext = pattern(length)
    envelope = seal(suite, exponent, salt, sealed_key, data_key, plaintext)
    body = FIXED.size + len(sealed_key) + HEADER_TAG
    described = {
        "suite": suite,
        "segment_exponent": exponent,
        "salt": salt.hex(),
        "sealed_data_key": sealed_key.hex(),
        "data_key": data_key.hex(),
        "plaintext_length": length,
        "plaintext_sha256": sha256(plaintext),
        "header": envelope[: body - HEADER_TAG].hex(),
        "header_tag": envelope[body - HEADER_TAG : body].hex(),
        "first_segment_begins": envelope[body : body + 32].hex(),
        "envelope_length": len(envelope),
        "envelope_sha256": sha256(envelope),
    }
    if len(envelope) <= FULL_LENGTH:
        described["envelope"] = envelope.hex()
    return described


def make(path):
    shapes = [(16, 0), (16, 1), (16, 65536), (16, 65537), (10, 2500)]
    vectors = [vector(suite, exponent, length) for suite in KEY_LENGTH for exponent, length in shapes]
    document = {
        "format": "docs/envelope-format.md, version 1",
        "plaintext": "byte i is i mod 251",
        "vectors": vectors,
    }
    with open(path, "w", encoding="utf-8") as file:
        json.dump(document, file, indent=1)
        file.write("\n")


def check_one(case):
    data_key = bytes.fromhex(case["data_key"])
    plaintext = pattern(case["plaintext_length"])
    assert sha256(plaintext) == case["plaintext_sha256"], "the plaintext differs"
    parameters = bytes.fromhex(case["salt"]), bytes.fromhex(case["sealed_data_key"])
    envelope = seal(case["suite"], case["segment_exponent"], *parameters, data_key, plaintext)
    assert sha256(envelope) == case["envelope_sha256"], "the envelope differs"
    assert case.get("envelope", envelope.hex()) == envelope.hex(), "the envelope's bytes differ"
    assert open_envelope(envelope, data_key) == plaintext, "the opened plaintext differs"
    try:
        open_envelope(envelope[:-1] + bytes([envelope[-1] ^ 1]), data_key)
    except InvalidTag:
        return
    raise AssertionError("a changed tag was taken")


def check(path):
    with open(path, encoding="utf-8") as file:
        cases = json.load(file)["vectors"]
    for case in cases:
        check_one(case)
    print(f"{len(cases)} envelopes agree")


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in ("check", "make"):
        sys.exit(__doc__)
    {"check": check, "make": make}[sys.argv[1]](sys.argv[2])
