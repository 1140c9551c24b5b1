"""Grants."""

from .keys import create

UNKNOWN_GRANT = "0" * 64


def run(suite):
    key = create(suite, "grants/key")
    for_user(suite, key)
    for_account(suite, key)
    walk(suite)
    end(suite, key)


def grantee(suite):
    return suite.user(suite.other_account, "admin")["user_id"]


def grant(suite, key, *operations, **fields):
    fields = {"grantee_principal": grantee(suite), **fields}
    return suite.admin.call("CreateGrant", key_id=key, operations=list(operations), **fields).grant_id


def for_user(suite, key):
    admin, other = suite.admin, suite.other_admin
    other.refused("CreateDatakey", "KMS.0207", 404, key_id=key)
    made = grant(suite, key, "create-datakey", "decrypt-datakey", name="to:another_account")
    assert len(made) == 64 and int(made, 16) >= 0, "hexadecimal digits"
    assert other.call("CreateDatakey", key_id=key).key_id == key
    other.refused("CreateDatakeyWithoutPlaintext", "KMS.0306", 403, key_id=key)
    other.refused("ListGrants", "KMS.0306", 403, key_id=key)
    suite.proves("CreateGrant", "a user of another account does what it names, and nothing else")
    (shown,) = admin.call("ListGrants", key_id=key).grants
    expected = {
        "key_id": key,
        "grant_id": made,
        "grantee_principal": grantee(suite),
        "grantee_principal_type": "user",
        "operations": ["create-datakey", "decrypt-datakey"],
        "issuing_principal": suite.user(suite.account, "admin")["user_id"],
        "name": "to:another_account",
        "retiring_principal": "",
    }
    for name, value in expected.items():
        assert getattr(shown, name) == value, f"{name} is {getattr(shown, name)!r}"
    suite.proves("ListGrants", "every field")
    admin.call("CancelGrant", key_id=key, grant_id=made)
    other.refused("CreateDatakey", "KMS.0207", 404, key_id=key)
    principal = {"grantee_principal": grantee(suite)}
    for code, fields in [
        ("KMS.0204", {}),
        ("KMS.0204", principal),
        ("KMS.2401", {**principal, "operations": []}),
        ("KMS.2401", {**principal, "operations": ["create-grant"]}),
        ("KMS.2401", {**principal, "operations": ["sign"]}),
        ("KMS.2402", {"grantee_principal": "a grantee", "operations": ["describe-key"]}),
        ("KMS.0308", {**principal, "operations": ["describe-key"], "name": "no blanks"}),
    ]:
        admin.refused("CreateGrant", code, key_id=key, **fields)
    suite.differs(
        "CreateGrant", "only the form of principals is checked", "ids of other accounts' users are not confirmed to anyone"
    )


def for_account(suite, key):
    domain = suite.other_account["domain_id"]
    made = grant(
        suite, key, "describe-key", grantee_principal=domain, grantee_principal_type="domain"
    )
    uploader = suite.client(suite.other_account, "uploader")
    assert uploader.call("ListKeyDetail", key_id=key).key_info.key_id == key
    suite.proves("CreateGrant", "to every user of an account")
    suite.admin.call("CancelGrant", key_id=key, grant_id=made)
    uploader.refused("ListKeyDetail", "KMS.0207", 404, key_id=key)
    suite.proves("CancelGrant", "the grantee cannot use the key from the next call on")


def walk(suite):
    key = create(suite, "grants/many")
    issuer = suite.user(suite.account, "admin")["user_id"]
    made = [grant(suite, key, "describe-key", retiring_principal=issuer) for _ in range(5)]
    for operation, fields in [("ListGrants", {"key_id": key}), ("ListRetirableGrants", {})]:
        walked = suite.admin.pages(operation, "grants", lambda page: page, **fields)
        assert sorted(one.grant_id for one in walked) == sorted(made)
        assert suite.admin.call(operation, **fields).total == len(made)
        suite.admin.refused(operation, "KMS.1601", limit="0", **fields)
        suite.admin.refused(operation, "KMS.1602", marker="first", **fields)
        suite.proves(operation, "all pages to the end")
    assert suite.other_admin.call("ListRetirableGrants").grants == []
    suite.proves("ListRetirableGrants", "those that the caller may retire")
    suite.admin.refused("ListGrants", "KMS.0204")


def end(suite, key):
    admin, other = suite.admin, suite.other_admin
    elsewhere = create(suite, "grants/other")
    made = grant(suite, key, "describe-key", "retire-grant")
    for operation in ("CancelGrant", "CancelSelfGrant"):
        admin.refused(operation, "KMS.2501", key_id=key, grant_id=UNKNOWN_GRANT)
        admin.refused(operation, "KMS.2501", key_id=key, grant_id="no id")
        admin.refused(operation, "KMS.2502", key_id=elsewhere, grant_id=made)
        admin.refused(operation, "KMS.0204", key_id=key)
    other.refused("CancelGrant", "KMS.0306", 403, key_id=key, grant_id=made)
    other.call("CancelSelfGrant", key_id=key, grant_id=made)
    other.refused("CancelSelfGrant", "KMS.0207", 404, key_id=key, grant_id=made)
    suite.proves("CancelSelfGrant", "by the grantee, if the grant holds retire-grant")
    kept = grant(suite, key, "describe-key")
    other.refused("CancelSelfGrant", "KMS.0207", 404, key_id=key, grant_id=kept)
    suite.differs(
        "CancelGrant",
        "by whoever has kms:grant:revoke for the key, not only by who created the key",
        "permissions say who may do what, as everywhere else",
    )
