"""Key life cycle."""

from .suite import ENTERPRISE_PROJECT, UNKNOWN_KEY

SPECS = {
    "AES_256": "ENCRYPT_DECRYPT",
    "SM4": "ENCRYPT_DECRYPT",
    "RSA_2048": "ENCRYPT_DECRYPT",
    "RSA_3072": "SIGN_VERIFY",
    "EC_P256": "SIGN_VERIFY",
    "EC_P384": "SIGN_VERIFY",
    "SECP256K1": "SIGN_VERIFY",
    "SM2": "SIGN_VERIFY",
    "ED25519": "SIGN_VERIFY",
    "HMAC_256": "GENERATE_VERIFY_MAC",
    "HMAC_384": "GENERATE_VERIFY_MAC",
    "HMAC_512": "GENERATE_VERIFY_MAC",
    "HMAC_SM3": "GENERATE_VERIFY_MAC",
}
"""Kinds of keys, each with a usage that it may have."""


def create(suite, alias, **fields):
    """A key; answers its id."""
    return suite.admin.call("CreateKey", key_alias=alias, **fields).key_info.key_id


def details(suite, key):
    return suite.admin.call("ListKeyDetail", key_id=key).key_info


def run(suite):
    key = create_key(suite)
    describe_key(suite, key)
    switch(suite, key)
    rename(suite, key)
    delete(suite)
    list_keys(suite)


def create_key(suite):
    admin = suite.admin
    made = admin.call("CreateKey", key_alias="keys/first", key_description="made by the SDK").key_info
    assert made.domain_id == suite.account["domain_id"]
    assert made.region_id == suite.account["projects"][0]["region"]
    for spec, usage in SPECS.items():
        kind = details(suite, create(suite, f"keys/{spec}", key_spec=spec, key_usage=usage))
        assert (kind.key_spec, kind.key_usage) == (spec, usage)
    serial = "919c82d4-8046-4722-9094-35c3c6524cff"
    create(suite, "keys/with-sequence", sequence=serial)
    create(suite, "keys/with-project", enterprise_project_id="0", vm_id="")
    suite.proves("CreateKey", f"keys of {len(SPECS)} kinds, in their account and region", "AES_256 by default")
    refused = [
        ("KMS.0204", {}),
        ("KMS.0206", {"key_alias": "x", "sequence": "short"}),
        ("KMS.1101", {"key_alias": "no blanks"}),
        ("KMS.1101", {"key_alias": "obs/default"}),
        ("KMS.1103", {"key_alias": "x", "key_description": "d" * 256}),
        ("KMS.1104", {"key_alias": "keys/first"}),
        ("KMS.1110", {"key_alias": "x", "key_spec": "DES"}),
        ("KMS.0308", {"key_alias": "x", "enterprise_project_id": ENTERPRISE_PROJECT}),
        ("KMS.0308", {"key_alias": "x", "enterprise_project_id": "all"}),
        ("KMS.0308", {"key_alias": "x", "vm_id": "a-machine"}),
        ("KMS.0340", {"key_alias": "x", "keystore_id": "2"}),
        ("KMS.8003", {"key_alias": "x", "keystore_id": "no-such-store"}),
    ]
    for code, fields in refused:
        admin.refused("CreateKey", code, **fields)
    suite.nobody.refused("CreateKey", "KMS.0307", 403, key_alias="x")
    suite.differs(
        "CreateKey",
        "of keystores 1 and 2, clusters of the provider, no keys are made (KMS.0340)",
        "there is one token, and what the operator configured",
    )
    suite.differs(
        "CreateKey",
        "an enterprise project other than 0 and a vm_id are refused (KMS.0308)",
        "there is none of both, and a key would not be where its owner looks for it",
    )
    return made.key_id


def describe_key(suite, key):
    shown = details(suite, key)
    expected = {
        "key_id": key,
        "domain_id": suite.account["domain_id"],
        "key_alias": "keys/first",
        "realm": suite.account["projects"][0]["region"],
        "key_spec": "AES_256",
        "key_usage": "ENCRYPT_DECRYPT",
        "key_description": "made by the SDK",
        "scheduled_deletion_date": "",
        "key_state": "2",
        "default_key_flag": "0",
        "key_type": "1",
        "expiration_time": "",
        "origin": "kms",
        "key_rotation_enabled": "false",
        "sys_enterprise_project_id": "0",
        "keystore_id": "0",
    }
    for name, value in expected.items():
        assert getattr(shown, name) == value, f"{name} is {getattr(shown, name)!r}"
    assert len(shown.creation_date) == 13 and shown.creation_date.isdigit(), "milliseconds"
    suite.proves("ListKeyDetail", "every field", "times in milliseconds")
    suite.admin.refused("ListKeyDetail", "KMS.0204")
    suite.admin.refused("ListKeyDetail", "KMS.0205", key_id="no id, no alias")
    suite.admin.refused("ListKeyDetail", "KMS.0207", 404, key_id=UNKNOWN_KEY)
    # A key of another account is as if it were not there, and one of another region is.
    suite.other_admin.refused("ListKeyDetail", "KMS.0207", 404, key_id=key)
    suite.elsewhere.refused("ListKeyDetail", "KMS.0207", 404, key_id=key)
    suite.nobody.refused("ListKeyDetail", "KMS.0307", 403, key_id=key)


def switch(suite, key):
    admin = suite.admin
    for operation, state, again in [("DisableKey", "3", "KMS.1301"), ("EnableKey", "2", "KMS.1201")]:
        switched = admin.call(operation, key_id=key).key_info
        assert (switched.key_id, switched.key_state) == (key, state)
        admin.refused(operation, again, key_id=key)
        admin.refused(operation, "KMS.0204")
        admin.refused(operation, "KMS.0205", key_id="keys/first")
        admin.refused(operation, "KMS.0207", 404, key_id=UNKNOWN_KEY)
        suite.proves(operation, f"the key is in state {state}, once")


def rename(suite, key):
    admin = suite.admin
    renamed = admin.call("UpdateKeyAlias", key_id=key, key_alias="keys/renamed").key_info
    assert (renamed.key_id, renamed.key_alias) == (key, details(suite, key).key_alias) == (key, "keys/renamed")
    suite.proves("UpdateKeyAlias", "describe-key shows the new alias")
    admin.refused("UpdateKeyAlias", "KMS.1104", key_id=key, key_alias="keys/SM4")
    admin.refused("UpdateKeyAlias", "KMS.1101", key_id=key, key_alias="")
    admin.refused("UpdateKeyAlias", "KMS.0204", key_id=key)
    told = admin.call("UpdateKeyDescription", key_id=key, key_description="ein Schlüssel 密钥").key_info
    assert (told.key_id, told.key_description) == (key, "ein Schlüssel 密钥")
    assert details(suite, key).key_description == "ein Schlüssel 密钥"
    suite.proves("UpdateKeyDescription", "describe-key shows the new description, which need not be ASCII")
    admin.refused("UpdateKeyDescription", "KMS.1103", key_id=key, key_description="d" * 256)
    admin.refused("UpdateKeyDescription", "KMS.0204", key_id=key)


def delete(suite):
    admin, key = suite.admin, create(suite, "keys/deleted")
    for days in ("6", "1097", "soon"):
        admin.refused("DeleteKey", "KMS.1401", key_id=key, pending_days=days)
    admin.refused("CancelKeyDeletion", "KMS.1501", key_id=key)
    waits = admin.call("DeleteKey", key_id=key, pending_days="7")
    assert (waits.key_id, waits.key_state) == (key, "4")
    shown = details(suite, key)
    # The test's clock stands still.
    assert int(shown.scheduled_deletion_date) - int(shown.creation_date) >= 7 * 24 * 3600 * 1000
    admin.refused("DeleteKey", "KMS.1402", key_id=key, pending_days="7")
    admin.refused("EnableKey", "KMS.1201", key_id=key)
    admin.refused("UpdateKeyAlias", "KMS.0210", key_id=key, key_alias="keys/other")
    admin.refused("CreateDatakey", "KMS.0210", key_id=key)
    suite.proves("DeleteKey", "the key waits for its deletion, and its date is shown")
    back = admin.call("CancelKeyDeletion", key_id=key)
    assert (back.key_id, back.key_state) == (key, "3")
    admin.refused("CreateDatakey", "KMS.0209", key_id=key)
    suite.proves("CancelKeyDeletion", "the key is disabled")


def list_keys(suite):
    admin = suite.admin
    everything = admin.call("ListKeys", key_spec="ALL")
    assert everything.total == len(everything.keys) == len(everything.key_details)
    assert (everything.truncated, everything.next_marker) == ("false", "")
    walked = admin.pages("ListKeys", "key_details", lambda page: page, key_spec="ALL")
    assert walked == everything.key_details
    assert [key.key_id for key in walked] == everything.keys
    aes = admin.call("ListKeys").key_details
    assert aes == [key for key in walked if key.key_spec == "AES_256"], "AES_256 is listed by default"
    disabled = admin.call("ListKeys", key_spec="ALL", key_state="3").key_details
    assert disabled == [key for key in walked if key.key_state == "3"] != []
    assert admin.call("ListKeys", limit="2").truncated == "true"
    for project in ("", "all", "0"):
        assert admin.call("ListKeys", key_spec="ALL", enterprise_project_id=project).key_details == walked
    for nowhere in ({"key_state": "1"}, {"enterprise_project_id": ENTERPRISE_PROJECT}):
        none = admin.call("ListKeys", key_spec="ALL", **nowhere)
        assert (none.keys, none.key_details, none.total) == ([], [], 0)
        assert (none.truncated, none.next_marker) == ("false", "")
    suite.proves("ListKeys", "all pages to the end", "filters by kind, state and enterprise project", "AES_256 by default")
    for code, fields in [
        ("KMS.1601", {"limit": "0"}),
        ("KMS.1601", {"limit": "many"}),
        ("KMS.1602", {"marker": "-1"}),
        ("KMS.0308", {"key_state": "9"}),
        ("KMS.0308", {"enterprise_project_id": "mine"}),
    ]:
        admin.refused("ListKeys", code, **fields)
    suite.nobody.refused("ListKeys", "KMS.0307", 403)
    suite.client(suite.account, "admin", of=suite.other_account).refused("ListKeys", "KMS.0321", 403)
    suite.client(suite.account, "admin", secret="another").refused("ListKeys", "APIGW.0301", 401)
