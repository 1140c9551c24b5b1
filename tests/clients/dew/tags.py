"""Tags."""

from .keys import create
from .suite import UNKNOWN_KEY

RESOURCES = {"resource_instances": "resource_instances"}


def run(suite):
    key = create(suite, "tags/key")
    one(suite, key)
    several(suite, key)
    search(suite)
    refuse(suite, key)


def shown(suite, key):
    answer = suite.admin.call("ShowKmsTags", key_id=key)
    tags = {tag.key: tag.value for tag in answer.tags}
    assert answer.exist_tags_num == len(tags)
    return tags


def one(suite, key):
    admin = suite.admin
    for name, value in [("environment", "test"), ("a/b c?%", "ü:@"), ("empty", "")]:
        admin.call("CreateKmsTag", key_id=key, tag={"key": name, "value": value})
        assert suite.admin.status() == 204
    admin.call("CreateKmsTag", key_id=key, tag={"key": "environment", "value": "production"})
    assert shown(suite, key) == {"environment": "production", "a/b c?%": "ü:@", "empty": ""}
    suite.proves("CreateKmsTag", "a tag that is there gets the new value", "texts that are not ASCII")
    suite.proves("ShowKmsTags", "every tag, and their number")
    admin.call("DeleteTag", key_id=key, key="a/b c?%")
    assert admin.status() == 204
    admin.refused("DeleteTag", "KMS.0416", 404, key_id=key, key="a/b c?%")
    assert shown(suite, key) == {"environment": "production", "empty": ""}
    admin.call("CreateKmsTag", key_id=key, tag={"key": "action", "value": "create"})
    admin.call("DeleteTag", key_id=key, key="action")
    admin.refused("DeleteTag", "KMS.0416", 404, key_id=key, key="action")
    suite.proves("DeleteTag", "also one whose name has to be escaped in the path, and one named action")


def several(suite, key):
    admin = suite.admin
    admin.call(
        "BatchCreateKmsTags", key_id=key, action="create", tags=[{"key": f"t{n}", "value": "v"} for n in range(3)]
    )
    assert admin.status() == 204
    admin.call("BatchCreateKmsTags", key_id=key, action="delete", tags=[{"key": "t0"}, {"key": "empty"}])
    assert shown(suite, key) == {"environment": "production", "t1": "v", "t2": "v"}
    suite.proves("BatchCreateKmsTags", "several are created, and several deleted")
    tagged = create(suite, "tags/second")
    admin.call("CreateKmsTag", key_id=tagged, tag={"key": "environment", "value": "test"})
    values = {tag.key: tag.values for tag in admin.call("ListKmsTags").tags}
    assert values == {"environment": ["production", "test"], "t1": ["v"], "t2": ["v"]}
    suite.proves("ListKmsTags", "the tags of the project's keys, each with its values")


def search(suite):
    admin = suite.admin
    for number in range(5):
        key = create(suite, f"tags/found-{number}")
        admin.call("CreateKmsTag", key_id=key, tag={"key": "found", "value": "odd" if number % 2 else "even"})
    asked = {**RESOURCES, "tags": [{"key": "found", "values": ["odd", "even"]}]}
    assert admin.call("ListKmsByTags", action="count", **asked).total_count == 5
    found = []
    while True:
        page = admin.call("ListKmsByTags", action="filter", limit="2", offset=str(len(found)), **asked)
        if not page.resources:
            break
        assert len(page.resources) <= 2 and page.total_count == 5
        found += page.resources
    assert sorted(one.resource_name for one in found) == [f"tags/found-{number}" for number in range(5)]
    for resource in found:
        assert resource.resource_id == resource.resource_detail.key_id
        assert resource.resource_detail.key_alias == resource.resource_name
        assert [tag.key for tag in resource.tags] == ["found"]
    odd = [{"key": "found", "values": ["odd"]}]
    assert admin.call("ListKmsByTags", action="count", **RESOURCES, tags=odd).total_count == 2
    named = [{"key": "resource_name", "value": "found-3"}]
    (match,) = admin.call("ListKmsByTags", action="filter", **RESOURCES, matches=named).resources
    assert match.resource_name == "tags/found-3"
    suite.differs(
        "ListKmsByTags",
        "of several values of one tag a key needs any one, where the SDK says each",
        "a key has one value of a tag, so nothing would ever be found",
    )
    suite.proves("ListKmsByTags", "counted and listed, all pages to the end", "by tags and by a part of the alias")
    for code, fields in [
        ("KMS.0404", {"action": "find"}),
        ("KMS.0404", {}),
        ("KMS.0418", {"action": "count", "offset": "1"}),
        ("KMS.0417", {"action": "filter", "offset": "-1"}),
        ("KMS.1601", {"action": "filter", "limit": "1001"}),
        ("KMS.0403", {"action": "filter", "matches": [{"key": "name", "value": "x"}]}),
        ("KMS.0402", {"action": "filter", "matches": [{"key": "resource_name", "value": ""}]}),
        ("KMS.0402", {"action": "filter", "matches": [{"key": "resource_name"}]}),
        ("KMS.0402", {"action": "count", "matches": [{"key": "resource_name", "value": "x" * 256}]}),
        ("KMS.0415", {"action": "filter", "matches": 2 * [{"key": "resource_name", "value": "x"}]}),
        ("KMS.0212", {"action": "filter", "resource_instances": "keys"}),
    ]:
        admin.refused("ListKmsByTags", code, **{**RESOURCES, **fields})


def refuse(suite, key):
    admin = suite.admin
    for code, tag in [
        ("KMS.0406", {"key": "a=b"}),
        ("KMS.0406", {"key": ""}),
        ("KMS.0405", {"key": "a", "value": "<"}),
        ("KMS.0411", {"key": "k" * 129}),
        ("KMS.0410", {"key": "k", "value": "v" * 256}),
    ]:
        admin.refused("CreateKmsTag", code, key_id=key, tag=tag)
        admin.refused("BatchCreateKmsTags", code, key_id=key, action="create", tags=[tag])
    admin.refused("CreateKmsTag", "KMS.0204", key_id=key)
    many = [{"key": f"m{number}", "value": ""} for number in range(21)]
    for code, fields in [
        ("KMS.0204", {}),
        ("KMS.0204", {"tags": [{"key": "a"}]}),
        ("KMS.0401", {"action": "create", "tags": []}),
        ("KMS.0404", {"action": "change", "tags": [{"key": "a"}]}),
        ("KMS.0407", {"action": "create", "tags": many}),
        ("KMS.0409", {"action": "create", "tags": many[:20]}),
        ("KMS.0412", {"action": "create", "tags": [{"key": "a"}, {"key": "a"}]}),
    ]:
        admin.refused("BatchCreateKmsTags", code, key_id=key, **fields)
    for operation, fields in [
        ("CreateKmsTag", {"tag": {"key": "a"}}),
        ("BatchCreateKmsTags", {"action": "create", "tags": [{"key": "a"}]}),
        ("ShowKmsTags", {}),
        ("DeleteTag", {"key": "a"}),
    ]:
        admin.refused(operation, "KMS.0207", 404, key_id=UNKNOWN_KEY, **fields)
        admin.refused(operation, "KMS.0205", key_id="no-id", **fields)
        suite.differs(
            operation,
            "the wider of two documented limits: keys of up to 128, values of up to 255 characters, 20 a key",
            "the API's model and the user guides disagree; these refuse nothing that DEW takes",
        ) if operation in ("CreateKmsTag", "BatchCreateKmsTags") else None
    suite.nobody.refused("ListKmsTags", "KMS.0307", 403)
