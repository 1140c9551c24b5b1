"""Quotas, the number of keys, and the versions of the API."""


def run(suite):
    admin = suite.admin
    count = admin.call("ShowUserInstances").instance_num
    assert count == admin.call("ListKeys", key_spec="ALL").total
    suite.proves("ShowUserInstances", "as many as list-keys lists")
    quotas = {one.type: one for one in admin.call("ShowUserQuotas").quotas.resources}
    assert quotas.keys() == {"CMK", "grant_per_CMK"}
    assert quotas["CMK"].used == count < quotas["CMK"].quota
    suite.proves("ShowUserQuotas", "limits, and how many keys there are")
    suite.nobody.refused("ShowUserQuotas", "KMS.0307", 403)
    suite.nobody.refused("ShowUserInstances", "KMS.0307", 403)
    versions = admin.call("ShowVersions").versions
    assert [version.id for version in versions] == ["v1.0", "v2"]
    suite.proves("ShowVersions", "the two that paths begin with")
    assert admin.call("ShowVersion", version_id="v1.0").version["id"] == "v1.0"
    for version in versions:
        (link,) = version.links
        assert link.href == f"/{version.id}" and link.rel == "self"
    suite.proves("ShowVersion", "one of them")
    admin.refused("ShowVersion", "KMS.0201", version_id="v9")
    for operation in ("ShowVersions", "ShowVersion"):
        suite.differs(operation, "only callers who may list keys", "every call has a caller, a permission and a record")
