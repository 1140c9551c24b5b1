"""Imported material."""

import base64
import hashlib
import hmac
import os
import time

from cryptography.hazmat.primitives import hashes, keywrap, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils

from .encryption import OAEP, public_key
from .keys import create, details
from .signing import MESSAGE, text


def run(suite):
    symmetric(suite)
    pair(suite)
    code(suite)
    refuse(suite)


def parameters(suite, key):
    return suite.admin.call("CreateParametersForImport", key_id=key, wrapping_algorithm="RSAES_OAEP_SHA_256")


def wrapped(given, material):
    public = serialization.load_der_public_key(base64.b64decode(given.public_key))
    return text(public.encrypt(material, OAEP))


def bring(suite, key, material, **fields):
    given = parameters(suite, key)
    fields = {"key_id": key, "import_token": given.import_token, **fields}
    suite.admin.call("ImportKeyMaterial", encrypted_key_material=wrapped(given, material), **fields)


def symmetric(suite):
    admin, material = suite.admin, os.urandom(32)
    key = create(suite, "imports/aes", origin="external")
    assert (details(suite, key).key_state, details(suite, key).origin) == ("5", "external")
    given = parameters(suite, key)
    assert given.key_id == key and given.expiration_time > time.time()
    assert 200 <= len(given.import_token) <= 6144
    suite.proves("CreateParametersForImport", "the key of RSAES_OAEP_SHA_256, as another library reads it; its end in seconds")
    expires = int(time.time()) + 90 * 24 * 3600
    bring(suite, key, material, expiration_time=expires)
    shown = details(suite, key)
    assert (shown.key_state, shown.expiration_time) == ("2", str(1000 * expires))
    there = suite.account["projects"][1]
    there = {"replica_region": there["region"], "replica_project_id": there["project_id"]}
    admin.refused("ReplicateKey", "KMS.3801", key_id=key, key_alias="imports/there", **there)
    sealed = admin.call("EncryptData", key_id=key, plain_text="under my own key").cipher_text
    admin.call("DeleteImportedKeyMaterial", key_id=key)
    assert details(suite, key).key_state == "5"
    admin.refused("DecryptData", "KMS.1301", cipher_text=sealed)
    admin.refused("DeleteImportedKeyMaterial", "KMS.2701", key_id=key)
    suite.proves("DeleteImportedKeyMaterial", "the key waits for its material, and opens nothing")
    given = parameters(suite, key)
    other = {"key_id": key, "import_token": given.import_token}
    admin.refused("ImportKeyMaterial", "KMS.2606", encrypted_key_material=wrapped(given, os.urandom(32)), **other)
    bring(suite, key, material)
    assert admin.call("DecryptData", cipher_text=sealed).plain_text == "under my own key"
    for operation in ("EnableKeyRotation", "RotateOnDemand"):
        admin.refused(operation, "KMS.0312", key_id=key)
    suite.proves("ImportKeyMaterial", "the same material, again; with and without an end")
    sm4 = create(suite, "imports/sm4", key_spec="SM4", origin="external")
    bring(suite, sm4, os.urandom(16))
    admin.call("CreateDatakey", key_id=sm4)


def pair(suite):
    own = ec.generate_private_key(ec.SECP256R1())
    form = serialization.PrivateFormat.PKCS8
    encoded = own.private_bytes(serialization.Encoding.DER, form, serialization.NoEncryption())
    key = create(suite, "imports/ec", key_spec="EC_P256", origin="external")
    temporary = os.urandom(32)
    bring(suite, key, temporary, encrypted_privatekey=text(keywrap.aes_key_wrap_with_padding(temporary, encoded)))
    assert public_key(suite, key) == own.public_key()
    digest = hashlib.sha256(MESSAGE).digest()
    made = suite.admin.call("Sign", key_id=key, message=text(digest), signing_algorithm="ECDSA_SHA_256")
    rule = ec.ECDSA(utils.Prehashed(hashes.SHA256()))
    own.public_key().verify(base64.b64decode(made.signature), digest, rule)
    suite.proves("ImportKeyMaterial", "an EC pair, which signs as its owner's")
    suite.admin.refused("DeleteImportedKeyMaterial", "KMS.2702", key_id=key)


def code(suite):
    key, material = create(suite, "imports/hmac", key_spec="HMAC_256", origin="external"), os.urandom(32)
    bring(suite, key, material)
    made = suite.admin.call("GenerateMac", key_id=key, mac_algorithm="HMAC_SHA_256", message=text(MESSAGE))
    known = hmac.new(material, MESSAGE, hashlib.sha256).hexdigest()
    assert made.mac == known
    suite.proves("GenerateMac", "what another library computes with the same material")
    suite.differs("ImportKeyMaterial", "HMAC keys, too", "documents of DEW disagree on them")


def refuse(suite):
    admin = suite.admin
    key, made_here = create(suite, "imports/refused", origin="external"), create(suite, "imports/not-external")
    asked = {"wrapping_algorithm": "RSAES_OAEP_SHA_256"}
    admin.refused("CreateParametersForImport", "KMS.0204", key_id=key)
    admin.refused("CreateParametersForImport", "KMS.0308", key_id=key, wrapping_algorithm="RSAES_PKCS1")
    admin.refused("CreateParametersForImport", "KMS.0309", key_id=made_here, **asked)
    admin.refused("DeleteImportedKeyMaterial", "KMS.0309", key_id=made_here)
    admin.refused("DeleteImportedKeyMaterial", "KMS.0204")
    suite.nobody.refused("CreateParametersForImport", "KMS.0307", 403, key_id=key, **asked)
    suite.nobody.refused("DeleteImportedKeyMaterial", "KMS.0307", 403, key_id=key)
    given, other = parameters(suite, key), create(suite, "imports/other", origin="external")
    good = {"key_id": key, "import_token": given.import_token, "encrypted_key_material": wrapped(given, bytes(range(32)))}
    pair = create(suite, "imports/pair", key_spec="EC_P256", origin="external")
    of_pair = parameters(suite, pair)
    for code, fields in [
        ("KMS.0204", {"import_token": None}),
        ("KMS.0204", {"encrypted_key_material": None}),
        ("KMS.2605", {"import_token": text(bytes(300))}),
        ("KMS.2603", {"key_id": other}),
        ("KMS.2602", {"expiration_time": 1}),
        ("KMS.0311", {"encrypted_key_material": text(bytes(256))}),
        ("KMS.0311", {"encrypted_key_material": wrapped(given, bytes(7))}),
        ("KMS.2609", {"encrypted_privatekey": "no base64!"}),
        ("KMS.2608", {"key_id": pair, "import_token": of_pair.import_token, "encrypted_key_material": wrapped(of_pair, bytes(32))}),
    ]:
        given_fields = {name: value for name, value in {**good, **fields}.items() if value is not None}
        admin.refused("ImportKeyMaterial", code, **given_fields)
    suite.nobody.refused("ImportKeyMaterial", "KMS.0307", 403, **good)
    bring(suite, key, os.urandom(32))
    admin.refused("CreateParametersForImport", "KMS.0310", key_id=key, **asked)
    admin.refused("ImportKeyMaterial", "KMS.0310", **good)
    suite.differs(
        "ImportKeyMaterial",
        "one error, KMS.0311, for all that does not open or fit",
        "errors that tell which check failed are what padding oracles are made of",
    )
