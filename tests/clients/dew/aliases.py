"""Further aliases."""

from .keys import create


def run(suite):
    admin, key, other = suite.admin, create(suite, "aliases/key"), create(suite, "aliases/other")
    names = [f"alias/sdk-{number}" for number in range(5)]
    for name in names:
        made = admin.call("CreateAlias", key_id=key, alias=name)
        region, domain = suite.account["projects"][0]["region"], suite.account["domain_id"]
        assert (made.key_id, made.alias, made.domain_id) == (key, name, domain)
        assert made.alias_urn == f"kms:{region}:{domain}:alias:{name}", made.alias_urn
    assert admin.call("CreateDatakey", key_id=names[0]).key_id == key
    assert admin.call("CreateDatakey", key_id=made.alias_urn).key_id == key
    suite.proves("CreateAlias", "the key is used by it, and by its URN")
    walked = admin.pages("ListAliases", "aliases", lambda page: page.body[0], key_id=key)
    assert [one.alias for one in walked] == names
    assert admin.call("ListAliases", key_id=other).body[0].aliases == []
    suite.proves("ListAliases", "all pages to the end")
    moved = admin.call("AssociateAlias", alias=names[0], target_key_id=other)
    assert (moved.key_id, moved.alias, moved.create_time) == (other, names[0], walked[0].create_time)
    assert admin.call("CreateDatakey", key_id=names[0]).key_id == other
    suite.proves("AssociateAlias", "the alias names the other key from the next call on")
    admin.call("DeleteAlias", key_id=key, aliases=names[1:3])
    assert [one.alias for one in admin.call("ListAliases", key_id=key).body[0].aliases] == names[3:]
    admin.refused("CreateDatakey", "KMS.0207", 404, key_id=names[1])
    suite.proves("DeleteAlias", "several at once; they name nothing any more")
    refuse(suite, key, names)


def refuse(suite, key, names):
    admin = suite.admin
    for code, fields in [
        ("KMS.0204", {"key_id": key}),
        ("KMS.1101", {"key_id": key, "alias": "without-its-beginning"}),
        ("KMS.1104", {"key_id": key, "alias": names[3]}),
        ("KMS.0204", {"alias": "alias/x"}),
    ]:
        admin.refused("CreateAlias", code, **fields)
    admin.refused("AssociateAlias", "KMS.0204", alias=names[3])
    admin.refused("AssociateAlias", "KMS.1101", alias="alias/unknown", target_key_id=key)
    admin.refused("DeleteAlias", "KMS.0204", key_id=key)
    admin.refused("DeleteAlias", "KMS.1101", key_id=key, aliases=["alias/unknown"])
    admin.refused("ListAliases", "KMS.1601", limit="0")
    admin.refused("ListAliases", "KMS.1602", marker="nowhere")
    suite.nobody.refused("ListAliases", "KMS.0307", 403)
