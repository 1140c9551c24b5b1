"""Rotation, and keys in several regions."""

from .keys import create, details
from .suite import ENTERPRISE_PROJECT, UNKNOWN_KEY


def run(suite):
    rotate(suite)
    regions(suite)
    replicate(suite)


def status(suite, key):
    return suite.admin.call("ShowKeyRotationStatus", key_id=key)


def rotate(suite):
    admin, key = suite.admin, create(suite, "rotation/key")
    off = status(suite, key)
    assert (off.key_rotation_enabled, off.number_of_rotations, off.last_rotation_time) == (False, 0, "")
    for operation, fields in [("DisableKeyRotation", {}), ("UpdateKeyRotationInterval", {"rotation_interval": 30})]:
        admin.refused(operation, "KMS.0313", key_id=key, **fields)
    admin.call("EnableKeyRotation", key_id=key)
    on = status(suite, key)
    assert (on.key_rotation_enabled, on.rotation_interval) == (True, 365)
    assert details(suite, key).key_rotation_enabled == "true"
    admin.refused("EnableKeyRotation", "KMS.2901", key_id=key)
    suite.proves("EnableKeyRotation", "every 365 days")
    admin.call("UpdateKeyRotationInterval", key_id=key, rotation_interval=30)
    assert status(suite, key).rotation_interval == 30
    for days in (29, 366):
        admin.refused("UpdateKeyRotationInterval", "KMS.3001", key_id=key, rotation_interval=days)
    admin.refused("UpdateKeyRotationInterval", "KMS.0204", key_id=key)
    suite.proves("UpdateKeyRotationInterval", "the new interval is shown")
    before = admin.call("CreateDatakey", key_id=key)
    assert admin.call("RotateOnDemand", key_id=key).key_id == key
    opened = admin.call("DecryptDatakey", key_id=key, cipher_text=before.cipher_text, datakey_cipher_length="32")
    assert opened.data_key == before.plain_text
    suite.proves("RotateOnDemand", "what older versions sealed still opens")
    rotated = status(suite, key)
    assert rotated.number_of_rotations == 1 and len(rotated.last_rotation_time) == 13
    assert [(material.material_id, material.state) for material in rotated.key_materials] == [("1", 2), ("2", 2)]
    suite.proves("ShowKeyRotationStatus", "interval, rotations, and every material")
    admin.call("DisableKeyRotation", key_id=key)
    assert not status(suite, key).key_rotation_enabled
    suite.proves("DisableKeyRotation", "off, once")
    refuse(suite)


def refuse(suite):
    admin = suite.admin
    pair, external = create(suite, "rotation/ec", key_spec="EC_P256"), create(suite, "rotation/own", origin="external")
    for operation in ("EnableKeyRotation", "DisableKeyRotation", "RotateOnDemand", "ShowKeyRotationStatus"):
        admin.refused(operation, "KMS.0204")
        admin.refused(operation, "KMS.0207", 404, key_id=UNKNOWN_KEY)
        suite.nobody.refused(operation, "KMS.0307", 403, key_id=pair)
    rsa, hmac = create(suite, "rotation/rsa", key_spec="RSA_2048"), create(suite, "rotation/hmac", key_spec="HMAC_256")
    for code, key in [("KMS.0324", rsa), ("KMS.0325", pair), ("KMS.0341", hmac)]:
        for operation in ("EnableKeyRotation", "DisableKeyRotation", "RotateOnDemand"):
            admin.refused(operation, code, key_id=key)
        admin.refused("UpdateKeyRotationInterval", code, key_id=key, rotation_interval=30)
    admin.refused("EnableKeyRotation", "KMS.1301", key_id=external)


def regions(suite):
    expected = sorted({project["region"] for account in suite.description["accounts"] for project in account["projects"]})
    found = []
    while True:
        page = suite.admin.call("ListSupportRegions", limit=1, offset=len(found)).regions
        if not page:
            break
        assert len(page) == 1
        found += page
    assert sorted(found) == expected, found
    suite.proves("ListSupportRegions", "all pages to the end")
    suite.admin.refused("ListSupportRegions", "KMS.1601", limit=0)
    suite.admin.refused("ListSupportRegions", "KMS.1603", offset=-1)


def replicate(suite):
    admin, key = suite.admin, create(suite, "replication/key")
    here, there = suite.account["projects"][:2]
    target = {"replica_region": there["region"], "replica_project_id": there["project_id"]}
    asked = {"key_id": key, "key_alias": "replication/there", **target}
    made = admin.call("ReplicateKey", **asked, tags=[{"key": "copy", "value": "yes"}])
    assert (made.region, made.domain_id) == (there["region"], suite.account["domain_id"])
    assert made.key_id != key
    shown = suite.elsewhere.call("ListKeyDetail", key_id=made.key_id).key_info
    assert (shown.realm, shown.key_alias) == (there["region"], "replication/there")
    sealed = admin.call("CreateDatakey", key_id=key)
    fields = {"cipher_text": sealed.cipher_text, "datakey_cipher_length": "32"}
    opened = suite.elsewhere.call("DecryptDatakey", key_id=made.key_id, **fields)
    assert opened.data_key == sealed.plain_text
    suite.proves("ReplicateKey", "what the one sealed the other opens")
    admin.call("EnableKeyRotation", key_id=key)
    (listed,) = suite.elsewhere.call("ListKeys").key_details
    for shown in (suite.elsewhere.call("ListKeyDetail", key_id=made.key_id).key_info, listed):
        assert (shown.key_id, shown.key_rotation_enabled) == (made.key_id, "true"), "it is rotated with its primary"
    assert suite.elsewhere.call("ShowKeyRotationStatus", key_id=made.key_id).key_rotation_enabled
    admin.refused("ReplicateKey", "KMS.3801", **asked)
    for code, fields in [
        ("KMS.0204", {"replica_region": there["region"]}),
        ("KMS.0308", {**target, "key_alias": "replication/x", "replica_region": "no region"}),
        ("KMS.0308", {**target, "key_alias": "replication/x", "replica_project_id": "no/project"}),
        ("KMS.0308", {**target, "key_alias": "replication/x", "enterprise_project_id": ENTERPRISE_PROJECT}),
    ]:
        admin.refused("ReplicateKey", code, key_id=key, **fields)
    suite.elsewhere.refused("RotateOnDemand", "KMS.0106", key_id=made.key_id)
    wrapping = {"wrapping_algorithm": "RSAES_OAEP_SHA_256"}
    suite.elsewhere.refused("CreateParametersForImport", "KMS.0309", key_id=made.key_id, **wrapping)
    suite.differs("ReplicateKey", "a replica has an id of its own", "DEW does not say; ids are unique in a deployment")
    suite.differs("ReplicateKey", "an enterprise project other than 0 is refused (KMS.0308)", "there is no other")
    suite.differs("ReplicateKey", "not an imported key (KMS.3801)", "its material is its owner's to carry")
    moved = admin.call("UpdatePrimaryRegion", key_id=key, primary_region=there["region"])
    assert (moved.key_id, moved.primary_region) == (key, there["region"])
    admin.refused("RotateOnDemand", "KMS.0106", key_id=key)
    suite.elsewhere.call("RotateOnDemand", key_id=made.key_id)
    suite.proves("UpdatePrimaryRegion", "the other one is rotated from then on")
    suite.elsewhere.refused("UpdatePrimaryRegion", "KMS.0204", key_id=made.key_id)
    suite.elsewhere.refused("UpdatePrimaryRegion", "KMS.0308", key_id=made.key_id, primary_region="nowhere-1")
    assert here["region"] != there["region"]
