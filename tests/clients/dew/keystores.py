"""Keystores."""

from .keys import create, details


def run(suite):
    admin = suite.admin
    admin.call("CreateKeyStore", keystore_alias="first", hsm_cluster_id="vault", hsm_ca_cert="-")
    admin.call("DeleteKeyStore", keystore_id="vault")
    assert admin.status() == 204
    admin.refused("ShowKeyStore", "KMS.8003", keystore_id="vault")
    suite.proves("DeleteKeyStore", "gone, and the token can be taken again")
    wanted = {"keystore_alias": "sdk-vault", "hsm_cluster_id": "vault", "hsm_ca_cert": "-"}
    for fields in ({"keystore_type": "CDMS"}, {"keystore_type": "DEFAULT"}, {"cluster_id": "spare"}):
        admin.refused("CreateKeyStore", "KMS.0308", **{**wanted, **fields})
    made = admin.call("CreateKeyStore", **wanted, cluster_id="vault", keystore_type="DHSM").keystore
    assert (made.keystore_id, made.domain_id) == ("vault", suite.account["domain_id"])
    admin.refused("CreateKeyStore", "KMS.0318", keystore_alias="again", hsm_cluster_id="vault", hsm_ca_cert="-")
    admin.refused("CreateKeyStore", "KMS.0318", keystore_alias="sdk-vault", hsm_cluster_id="spare")
    admin.refused("CreateKeyStore", "KMS.0204", keystore_alias="x")
    admin.refused("CreateKeyStore", "KMS.0204", keystore_alias="x", hsm_cluster_id="", cluster_id="")
    admin.call("CreateKeyStore", keystore_alias="sdk-spare", hsm_cluster_id="", cluster_id="spare")
    admin.call("DeleteKeyStore", keystore_id="spare")
    suite.proves("CreateKeyStore", "it starts disabled")
    suite.differs(
        "CreateKeyStore",
        "a cluster is a PKCS#11 token that the operator configured, and its name is the keystore's id",
        "whoever hosts this service is the provider",
    )
    suite.differs(
        "CreateKeyStore",
        "hsm_ca_cert is not looked at, and a keystore_type other than DHSM is refused (KMS.0308)",
        "what a token is known by is the operator's to configure, and there are no clusters of other kinds",
    )
    shown = admin.call("ShowKeyStore", keystore_id="vault").keystore
    assert (shown.keystore_alias, shown.keystore_type, shown.hsm_cluster_id) == ("sdk-vault", "DHSM", "vault")
    assert len(shown.create_time) == 13
    suite.proves("ShowKeyStore", "every field")
    admin.refused("CreateKey", "KMS.0317", key_alias="keystores/key", keystore_id="vault")
    switched = admin.call("EnableKeyStore", keystore_id="vault").keystore
    assert (switched.keystore_id, switched.keystore_state) == ("vault", "2")
    suite.proves("EnableKeyStore", "keys can be made in it")
    key = create(suite, "keystores/key", keystore_id="vault")
    assert details(suite, key).keystore_id == "vault"
    admin.call("CreateDatakey", key_id=key)
    admin.refused("EnableKeyRotation", "KMS.0338", key_id=key)
    admin.refused("RotateOnDemand", "KMS.0338", key_id=key)
    admin.refused("CreateKey", "KMS.0339", key_alias="keystores/own", keystore_id="vault", origin="external")
    listed = admin.call("ListKeyStores")
    assert listed.total == 1 and [one.keystore_id for one in listed.keystores] == ["vault"]
    assert admin.call("ListKeyStores", limit=1, offset=1).keystores == []
    suite.proves("ListKeyStores", "by limit and offset")
    admin.refused("ListKeyStores", "KMS.1601", limit=0)
    admin.refused("ListKeyStores", "KMS.1603", offset=-1)
    admin.refused("DeleteKeyStore", "KMS.0308", keystore_id="vault")
    switched = admin.call("DisableKeyStore", keystore_id="vault").keystore
    assert (switched.keystore_id, switched.keystore_state) == ("vault", "3")
    admin.refused("CreateDatakey", "KMS.0317", key_id=key)
    suite.proves("DisableKeyStore", "its keys cannot be used")
    delete(suite)


def delete(suite):
    """Of a keystore that had no keys. Of one with keys: refused above, and with a key that waits for its deletion."""
    admin = suite.admin
    for operation in ("ShowKeyStore", "EnableKeyStore", "DisableKeyStore", "DeleteKeyStore"):
        admin.refused(operation, "KMS.8003", keystore_id="unknown")
        suite.nobody.refused(operation, "KMS.0307", 403, keystore_id="vault")
    admin.refused("DeleteKeyStore", "KMS.0308", keystore_id="vault")
    suite.proves("DeleteKeyStore", "refused while keys are in it")
    suite.differs(
        "DeleteKeyStore", "refused with KMS.0308 while it is enabled or has keys", "DEW does not say with which code"
    )
