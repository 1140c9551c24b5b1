#!/usr/bin/env python3
"""Opens the ciphertext vectors by a path that shares no code with the service.

    ciphertext.py write SCHEME FILE    make the vectors of scheme 1 or 2
    ciphertext.py write purposes FILE  make those of all purposes and both kinds of context, in scheme 1
    ciphertext.py check FILE...        open them; compute the derivations of scheme 1 on a SoftHSM2 token, too

Needs PyPI's `cryptography`; `check` also needs softhsm2, gnutls-bin (p11tool) and opensc (pkcs11-tool).
Written from docs/ciphertext-format.md alone.
"""

import hashlib
import hmac
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

SUITES = {1: ("AES_256", algorithms.AES, 32), 2: ("SM4", algorithms.SM4, 16)}
LABEL = b"DEWPOINT-WRAPKEY"
DERIVED_KEY, IN_HSM = 1, 2


def canonical(pairs):
    if isinstance(pairs, bytes):
        return b"\x02" + struct.pack(">I", len(pairs)) + pairs if pairs else b"\x00"
    if not pairs:
        return b"\x00"
    out = b"\x01" + struct.pack(">I", len(pairs))
    for key, value in sorted((k.encode(), v.encode()) for k, v in pairs.items()):
        out += struct.pack(">I", len(key)) + key + struct.pack(">I", len(value)) + value
    return out


def derivation_input(header):
    fields = [header[0:1], header[2:3], header[3:4], header[4:20], header[20:24], header[24:40]]
    context = b"".join(bytes([len(field)]) + field for field in fields)
    bits = SUITES[header[2]][2] * 8
    return struct.pack(">I", 1) + LABEL + b"\x00" + context + struct.pack(">I", bits)


def wrapping_key(backing_key, header):
    block = hmac.new(backing_key, derivation_input(header), hashlib.sha256).digest()
    return block[: SUITES[header[2]][2]]


def sealing_key(backing_key, header):
    return wrapping_key(backing_key, header) if header[1] == DERIVED_KEY else backing_key


def seal(backing_key, header, context, plaintext):
    algorithm = SUITES[header[2]][1]
    cipher = Cipher(algorithm(sealing_key(backing_key, header)), modes.GCM(header[40:52])).encryptor()
    cipher.authenticate_additional_data(header + canonical(context))
    return header + cipher.update(plaintext) + cipher.finalize() + cipher.tag


def open_sealed(backing_key, ciphertext, context):
    header, body, tag = ciphertext[:52], ciphertext[52:-16], ciphertext[-16:]
    algorithm = SUITES[header[2]][1]
    cipher = Cipher(algorithm(sealing_key(backing_key, header)), modes.GCM(header[40:52], tag)).decryptor()
    cipher.authenticate_additional_data(header + canonical(context))
    return cipher.update(body) + cipher.finalize()


def context_of(vector):
    data = bytes.fromhex(vector.get("additional_authenticated_data", ""))
    return data or vector["encryption_context"]


def purpose_vectors():
    """Small data, key material and private halves of pairs, of either algorithm, with pairs and with bytes."""
    for algorithm in SUITES:
        for number, (purpose, context) in enumerate(
            (purpose, context) for purpose in (1, 2, 3, 4) for context in ({"bucket": "photos"}, bytes(range(128)))
        ):
            seed = hashlib.sha512(f"dewpoint vector {algorithm} purpose {purpose} {number}".encode()).digest()
            backing_key, material = seed[:32], seed[32:48]
            fresh = hashlib.sha256(seed).digest()[:28]
            header = bytes([1, DERIVED_KEY, algorithm, purpose]) + material + struct.pack(">I", number + 1) + fresh
            plaintext = bytes((5 * index + number) % 256 for index in range(32 if purpose == 1 else 1500))
            data = isinstance(context, bytes)
            yield {
                "algorithm": SUITES[algorithm][0],
                "backing_key": backing_key.hex(),
                "encryption_context": {} if data else context,
                **({"additional_authenticated_data": context.hex()} if data else {}),
                "canonical_context": canonical(context).hex(),
                "derivation_input": derivation_input(header).hex(),
                "wrapping_key": wrapping_key(backing_key, header).hex(),
                "plaintext": plaintext.hex(),
                "ciphertext": seal(backing_key, header, context, plaintext).hex(),
            }


def vectors(scheme):
    contexts = [{}, {"bucket": "photos", "object": "2026/11/24/\u4e91.jpg"}]
    for algorithm in SUITES:
        for number, length in enumerate((1, 16, 32, 1024)):
            name = f"dewpoint vector {algorithm} {length}" + ("" if scheme == DERIVED_KEY else f" scheme {scheme}")
            seed = hashlib.sha512(name.encode()).digest()
            # Scheme 1 has the HSM derive from 32 bytes; scheme 2 has it seal with a key of the algorithm's own size.
            size = 32 if scheme == DERIVED_KEY else SUITES[algorithm][2]
            backing_key, material = seed[:size], seed[32:48]
            fresh = hashlib.sha256(seed).digest()[:28]
            header = bytes([1, scheme, algorithm, 1]) + material + struct.pack(">I", number + 1) + fresh
            context = contexts[number % 2]
            plaintext = bytes((7 * index + number) % 256 for index in range(length))
            derivation = {
                "derivation_input": derivation_input(header).hex(),
                "wrapping_key": wrapping_key(backing_key, header).hex(),
            }
            yield {
                "algorithm": SUITES[algorithm][0],
                "backing_key": backing_key.hex(),
                "encryption_context": context,
                "canonical_context": canonical(context).hex(),
                **(derivation if scheme == DERIVED_KEY else {}),
                "plaintext": plaintext.hex(),
                "ciphertext": seal(backing_key, header, context, plaintext).hex(),
            }


def require(condition, what):
    if not condition:
        raise SystemExit(f"ciphertext.py: {what}")


def check_vector(vector):
    read = {name: bytes.fromhex(value) for name, value in vector.items() if name not in ("algorithm", "encryption_context")}
    header = read["ciphertext"][:52]
    require(canonical(context_of(vector)) == read["canonical_context"], "another canonical context")
    if header[1] == DERIVED_KEY:
        require(derivation_input(header) == read["derivation_input"], "another derivation input")
        require(wrapping_key(read["backing_key"], header) == read["wrapping_key"], "another wrapping key")
    else:
        require(header[1] == IN_HSM and len(read["backing_key"]) == SUITES[header[2]][2], "another scheme or key size")
    opened = open_sealed(read["backing_key"], read["ciphertext"], context_of(vector))
    require(opened == read["plaintext"], "another plaintext")
    last, nonce = (bytearray(read["ciphertext"]) for _ in range(2))
    last[-1] ^= 1
    nonce[24] ^= 1  # N: derived from in scheme 1, authenticated in both
    altered = [(bytes(ciphertext), context_of(vector)) for ciphertext in (last, nonce)]
    for ciphertext, context in (*altered, (read["ciphertext"], {"bucket": "other"})):
        try:
            open_sealed(read["backing_key"], ciphertext, context)
        except InvalidTag:
            continue
        require(False, "an altered ciphertext or another context opens")
    return read


def run(*words, **environment):
    done = subprocess.run(words, env={**os.environ, **environment}, capture_output=True)
    require(done.returncode == 0, f"{words[0]} failed: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout.decode().strip()


def check_on_token(vectors_read):
    """The same derivations, computed by a PKCS#11 token that holds the backing keys as secrets."""
    for tool, package in (("pkcs11-tool", "opensc"), ("p11tool", "gnutls-bin"), ("softhsm2-util", "softhsm2")):
        require(shutil.which(tool), f"{tool} is missing: apt-get install {package}")
    script = Path(__file__).resolve().parents[2] / "softhsm-config" / "init-token.sh"
    for number, read in enumerate(vectors_read):
        # A token for each: pkcs11-tool signs with the first key that it finds.
        with tempfile.TemporaryDirectory() as directory:
            token, message, answer = (Path(directory) / name for name in ("token", "message", "answer"))
            module = run("sh", str(script), str(token), "vector")
            pin = (token / "pin").read_text().strip()
            environment = {"SOFTHSM2_CONF": str(token / "softhsm2.conf"), "PIN": pin, "GNUTLS_PIN": pin}
            message.write_bytes(read["derivation_input"])
            run("p11tool", "--batch", "--provider", module, "--login", "--write", "--mark-sign", "--label", "vector",
                "--secret-key", read["backing_key"].hex(), "pkcs11:token=vector", **environment)
            run("pkcs11-tool", "--module", module, "--token-label", "vector", "--login", "--pin", "env:PIN", "--sign",
                "--mechanism", "SHA256-HMAC", "--label", "vector", "--input-file", str(message),
                "--output-file", str(answer), **environment)
            derived = answer.read_bytes()
        agrees = derived[: len(read["wrapping_key"])] == read["wrapping_key"]
        require(agrees, f"vector {number}: the token derives another key")


def main(arguments):
    match arguments:
        case ["write", "1" | "2" | "purposes" as kind, path]:
            made = purpose_vectors() if kind == "purposes" else vectors(int(kind))
            text = json.dumps({"format": 1, "vectors": list(made)}, indent=1, ensure_ascii=True)
            Path(path).write_text(text + "\n")
        case ["check", *paths] if paths:
            for path in paths:
                read = [check_vector(vector) for vector in json.loads(Path(path).read_text())["vectors"]]
                require(read, f"{path} holds no vectors")
                derived = [vector for vector in read if "derivation_input" in vector]
                check_on_token(derived)
                print(f"{path}: {len(read)} ciphertexts agree; {len(derived)} of their keys were derived on a token, too")
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
