"""Calls every operation of the contract as a stock gRPC client does: it knows nothing but the endpoint, the
certificates and what server reflection says. Fails if an operation that reflection names was not called.

    stock.py DEV_JSON
"""

import base64
import hashlib
import json
import sys

import grpc
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase


def read(path):
    with open(path, "rb") as file:
        return file.read()


class Client:
    """One identity's connection; messages are built from what reflection describes."""

    def __init__(self, dev, identity):
        credentials = grpc.ssl_channel_credentials(
            read(dev["ca_cert"]), read(identity["client_key"]), read(identity["client_cert"])
        )
        endpoint = dev["grpc"]["endpoint"].removeprefix("https://")
        self.channel = grpc.secure_channel(endpoint, credentials)
        self.database = ProtoReflectionDescriptorDatabase(self.channel)
        self.pool = descriptor_pool.DescriptorPool(self.database)
        self.called = set()

    def methods(self):
        """Every method of the contract, as `KeyService/CreateKey`."""
        services = [name for name in self.database.get_services() if name.startswith("kms.v1.")]
        for service in services:
            for method in self.pool.FindServiceByName(service).methods:
                yield f"{service.removeprefix('kms.v1.')}/{method.name}"

    def invoke(self, name, requests, metadata):
        service, method = name.split("/")
        described = self.pool.FindServiceByName(f"kms.v1.{service}").FindMethodByName(method)
        kinds = descriptor_pb2.MethodDescriptorProto()
        described.CopyToProto(kinds)
        made = message_factory.GetMessageClass(described.input_type)
        answered = message_factory.GetMessageClass(described.output_type)
        messages = [json_format.ParseDict(request, made()) for request in requests]
        form = ("stream" if kinds.client_streaming else "unary") + "_" + (
            "stream" if kinds.server_streaming else "unary"
        )
        stub = getattr(self.channel, form)(
            f"/kms.v1.{name}",
            request_serializer=made.SerializeToString,
            response_deserializer=answered.FromString,
        )
        sent = iter(messages) if kinds.client_streaming else messages[0]
        self.called.add(name)
        answer = stub(sent, timeout=60, metadata=metadata)
        answers = list(answer) if kinds.server_streaming else [answer]
        return [json_format.MessageToDict(one, preserving_proto_field_name=True) for one in answers]

    def call(self, name, request=None, project=None):
        """One unary call; answers the response's fields."""
        return self.stream(name, [request or {}], project)[0]

    def stream(self, name, requests, project=None):
        """One call of any form; answers all responses."""
        metadata = [("x-project-id", project)] if project else []
        try:
            return self.invoke(name, requests, metadata)
        except grpc.RpcError as error:
            raise AssertionError(f"{name}: {error.code()} {error.details()}") from error

    def refused(self, name, request, code, reason=""):
        """A call that must be refused with this gRPC code and a reason that holds this; answers its message."""
        try:
            self.invoke(name, [request], [])
        except grpc.RpcError as error:
            assert error.code() == code, f"{name}: {error.code()} {error.details()}, not {code}"
            details = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin", b"")
            assert reason.encode() in details, f"{name}: {details}"
            return error.details()
        raise AssertionError(f"{name} was not refused")


def text(value):
    return base64.b64encode(value).decode()


def life_cycle(user):
    key = user.call("KeyService/CreateKey", {"alias": "stock", "key_spec": "KEY_SPEC_AES_256"})["key"]
    by_id = {"key_id": key["key_id"]}
    assert user.call("KeyService/DescribeKey", {"key": {"alias": "stock"}})["key"] == key
    assert key in user.call("KeyService/ListKeys")["keys"]
    steps = [
        ("DisableKey", {}, "KEY_STATE_DISABLED"),
        ("EnableKey", {}, "KEY_STATE_ENABLED"),
        ("ScheduleKeyDeletion", {"pending_days": 7}, "KEY_STATE_PENDING_DELETION"),
        ("CancelKeyDeletion", {}, "KEY_STATE_DISABLED"),
        ("EnableKey", {}, "KEY_STATE_ENABLED"),
    ]
    for name, more, state in steps:
        assert user.call(f"KeyService/{name}", {**by_id, **more})["key"]["state"] == state, name
    assert user.call("KeyService/UpdateKeyAlias", {**by_id, "alias": "again"})["key"]["alias"] == "again"
    user.call("KeyService/UpdateKeyDescription", {**by_id, "description": "by a stock client"})
    return key


def data_keys(user, key):
    named, context = {"key_id": key["key_id"]}, {"object": "bucket/path"}
    made = user.call("DataKeyService/GenerateDataKey", {"key": named, "encryption_context": context})
    opened = user.call(
        "DataKeyService/DecryptDataKey",
        {"ciphertext_blob": made["ciphertext_blob"], "encryption_context": context},
    )
    assert opened["plaintext"] == made["plaintext"]
    refusal = user.refused(
        "DataKeyService/DecryptDataKey",
        {"ciphertext_blob": made["ciphertext_blob"]},
        grpc.StatusCode.INVALID_ARGUMENT,
    )
    assert refusal == "the ciphertext cannot be decrypted"
    user.call("DataKeyService/GenerateDataKeyWithoutPlaintext", {"key": named})
    sealed = user.call("DataKeyService/EncryptDataKey", {"key": named, "plaintext": text(b"k" * 32)})
    opened = user.call("DataKeyService/DecryptDataKey", {"ciphertext_blob": sealed["ciphertext_blob"]})
    assert base64.b64decode(opened["plaintext"]) == b"k" * 32
    assert len(base64.b64decode(user.call("DataKeyService/GenerateRandom", {"length": 48})["random"])) == 48


def more_data_keys(user, key):
    named = {"key_id": key["key_id"]}
    batch = user.call("DataKeyService/GenerateDataKeys", {"key": named, "count": 3, "with_plaintext": True})
    assert len(batch["data_keys"]) == 3
    pair = user.call(
        "DataKeyService/GenerateDataKeyPair",
        {"key": named, "key_pair_spec": "KEY_SPEC_EC_P256", "with_plaintext": True},
    )
    private = serialization.load_der_private_key(base64.b64decode(pair["private_key_plaintext"]), None)
    public = serialization.load_der_public_key(base64.b64decode(pair["public_key"]))
    assert private.public_key() == public
    other = user.call("KeyService/CreateKey", {"alias": "stock-sm4", "key_spec": "KEY_SPEC_SM4"})["key"]
    moved = user.call(
        "DataKeyService/ReEncrypt",
        {
            "ciphertext_blob": batch["data_keys"][0]["ciphertext_blob"],
            "destination_key": {"key_id": other["key_id"]},
        },
    )
    assert moved["key_id"] == other["key_id"]
    opened = user.call("DataKeyService/DecryptDataKey", {"ciphertext_blob": moved["ciphertext_blob"]})
    assert opened["plaintext"] == batch["data_keys"][0]["plaintext"]


def bucket_keys(user, key):
    context = {"bucket": "photos"}
    made = user.call(
        "BucketKeyService/GenerateBucketKey",
        {
            "key": {"key_id": key["key_id"]},
            "algorithm": "KEY_SPEC_SM4",
            "validity_seconds": 60,
            "encryption_context": context,
        },
    )
    assert (made["validity_seconds"], len(base64.b64decode(made["plaintext"]))) == (60, 32)
    opened = user.call(
        "BucketKeyService/DecryptBucketKey",
        {"ciphertext_blob": made["ciphertext_blob"], "encryption_context": context},
    )
    assert (opened["plaintext"], opened["algorithm"]) == (made["plaintext"], "KEY_SPEC_SM4")
    user.refused(
        "DataKeyService/DecryptDataKey",
        {"ciphertext_blob": made["ciphertext_blob"], "encryption_context": context},
        grpc.StatusCode.INVALID_ARGUMENT,
    )
    reported = user.call("BucketKeyService/ReportBucketKeyUse", {"receipt": made["receipt"], "uses": 5})
    assert reported["bucket_key_id"] == made["bucket_key_id"] == opened["bucket_key_id"]


def small_data(user, key):
    request = {"key": {"key_id": key["key_id"]}, "plaintext": text(b"small"), "encryption_context": {"a": "b"}}
    sealed = user.call("EncryptionService/EncryptData", request)
    opened = user.call(
        "EncryptionService/DecryptData",
        {"ciphertext_blob": sealed["ciphertext_blob"], "encryption_context": {"a": "b"}},
    )
    assert base64.b64decode(opened["plaintext"]) == b"small"


def rotation(user, key):
    by_id, named = {"key_id": key["key_id"]}, {"key": {"key_id": key["key_id"]}}
    first = user.call("DataKeyService/GenerateDataKey", named)
    user.call("RotationService/EnableKeyRotation", {**by_id, "interval_days": 90})
    user.call("RotationService/UpdateRotationInterval", {**by_id, "interval_days": 30})
    user.call("RotationService/RotateKeyOnDemand", by_id)
    status = user.call("RotationService/GetRotationStatus", named)
    assert (status["interval_days"], status["rotations"]) == (30, 1)
    user.call("RotationService/DisableKeyRotation", by_id)
    usage = user.call("KeyService/DescribeKeyUsage", named)
    assert usage["usage"]["versions"][0]["data_keys"], "uses are counted"
    user.call("CampaignService/StartCampaign", by_id)
    item = {"id": 7, "ciphertext_blob": first["ciphertext_blob"]}
    moved = user.stream("CampaignService/Rewrap", [item])
    assert [answer["id"] for answer in moved] == ["7"] and moved[0]["item"]["to_version"] == 2
    opened = user.call(
        "DataKeyService/DecryptDataKey", {"ciphertext_blob": moved[0]["item"]["ciphertext_blob"]}
    )
    assert opened["plaintext"] == first["plaintext"]
    user.call("CampaignService/GetCampaign", {**named, "target_version": 2})
    assert len(user.call("CampaignService/ListCampaigns", named)["campaigns"]) == 1


def signing(user):
    pair = user.call("KeyService/CreateKey", {"alias": "stock-ec", "key_spec": "KEY_SPEC_EC_P256"})["key"]
    named = {"key": {"key_id": pair["key_id"]}}
    message = {**named, "algorithm": "SIGNING_ALGORITHM_ECDSA_SHA_256", "message_type": "MESSAGE_TYPE_RAW"}
    signed = user.call("SigningService/Sign", {**message, "message": text(b"to sign")})
    public = user.call("SigningService/GetPublicKey", named)
    serialization.load_pem_public_key(public["public_key_pem"].encode()).verify(
        base64.b64decode(signed["signature"]), b"to sign", ec.ECDSA(hashes.SHA256())
    )
    check = {**message, "message": text(b"to sign"), "signature": signed["signature"]}
    assert user.call("SigningService/Verify", check)["valid"]
    assert not user.call("SigningService/Verify", {**check, "message": text(b"another")}).get("valid")

    mac_key = user.call("KeyService/CreateKey", {"alias": "stock-mac", "key_spec": "KEY_SPEC_HMAC_256"})["key"]
    request = {"key": {"key_id": mac_key["key_id"]}, "algorithm": "MAC_ALGORITHM_HMAC_SHA_256", "message": text(b"m")}
    mac = user.call("SigningService/GenerateMac", request)["mac"]
    assert user.call("SigningService/VerifyMac", {**request, "mac": mac})["valid"]

    agreeing = user.call(
        "KeyService/CreateKey",
        {"alias": "stock-ecdh", "key_spec": "KEY_SPEC_EC_P256", "key_usage": "KEY_USAGE_KEY_AGREEMENT"},
    )["key"]
    named = {"key": {"key_id": agreeing["key_id"]}}
    ours = ec.generate_private_key(ec.SECP256R1())
    peer = ours.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    derived = user.call(
        "SigningService/DeriveSharedSecret",
        {**named, "algorithm": "KEY_AGREEMENT_ALGORITHM_ECDH", "public_key": text(peer)},
    )
    theirs = serialization.load_der_public_key(
        base64.b64decode(user.call("SigningService/GetPublicKey", named)["public_key_der"])
    )
    assert base64.b64decode(derived["shared_secret"]) == ours.exchange(ec.ECDH(), theirs)


def imports(user):
    key = user.call("KeyService/CreateKey", {"alias": "stock-import", "origin": "KEY_ORIGIN_EXTERNAL"})["key"]
    assert key["state"] == "KEY_STATE_PENDING_IMPORT"
    by_id = {"key_id": key["key_id"]}
    parameters = user.call(
        "ImportService/GetParametersForImport", {**by_id, "wrapping_algorithm": "RSAES_OAEP_SHA_256"}
    )
    wrapping = serialization.load_der_public_key(base64.b64decode(parameters["public_key"]))
    oaep = padding.OAEP(mgf=padding.MGF1(hashes.SHA256()), algorithm=hashes.SHA256(), label=None)
    imported = user.call(
        "ImportService/ImportKeyMaterial",
        {
            **by_id,
            "import_token": parameters["import_token"],
            "wrapped_material": text(wrapping.encrypt(b"\x07" * 32, oaep)),
        },
    )
    assert imported["key"]["state"] == "KEY_STATE_ENABLED"
    gone = user.call("ImportService/DeleteImportedKeyMaterial", by_id)
    assert gone["key"]["state"] == "KEY_STATE_PENDING_IMPORT"


def keystores(user):
    vault = {"keystore_id": "vault"}
    made = user.call("KeystoreService/CreateKeystore", {**vault, "alias": "the-vault"})["keystore"]
    assert made["state"] == "KEYSTORE_STATE_DISABLED"
    assert user.call("KeystoreService/EnableKeystore", vault)["keystore"]["state"] == "KEYSTORE_STATE_ENABLED"
    assert user.call("KeystoreService/DescribeKeystore", vault)["keystore"]["alias"] == "the-vault"
    assert user.call("KeystoreService/ListKeystores")["total"] == 1
    user.call("KeystoreService/DisableKeystore", vault)
    user.call("KeystoreService/DeleteKeystore", vault)


def aliases(user, key):
    by_id = {"key_id": key["key_id"]}
    other = user.call("KeyService/CreateKey", {"alias": "stock-other"})["key"]
    made = user.call("AliasService/CreateAlias", {**by_id, "alias": "alias/stock"})["alias"]
    assert made["key_id"] == key["key_id"]
    named = user.call("KeyService/DescribeKey", {"key": {"alias": made["alias_urn"]}})["key"]
    assert named["key_id"] == key["key_id"] and named["aliases"] == ["alias/stock"]
    target = {"alias": "alias/stock", "target_key_id": other["key_id"]}
    moved = user.call("AliasService/AssociateAlias", target)["alias"]
    assert moved["key_id"] == other["key_id"]
    assert user.call("AliasService/ListAliases")["aliases"] == [moved]
    gone = {"key_id": other["key_id"], "aliases": ["alias/stock"]}
    assert user.call("AliasService/DeleteAlias", gone)["key"] == other
    assert user.call("AliasService/ListAliases", by_id) == {}


def tags(user, key):
    by_id = {"key_id": key["key_id"]}
    team, stage = {"key": "team", "value": "stock"}, {"key": "stage", "value": "test"}
    user.call("TagService/CreateTag", {**by_id, "tag": team})
    user.call("TagService/BatchCreateTags", {**by_id, "tags": [stage]})
    assert user.call("TagService/ListTags", by_id)["tags"] == [stage, team]
    named = [{"key": "stage", "values": ["test"]}, {"key": "team", "values": ["stock"]}]
    assert user.call("TagService/ListProjectTags")["tags"] == named
    found = user.call("TagService/ListKeysByTags", {"tags": named})
    assert [one["key_id"] for one in found["keys"]] == [key["key_id"]] and found["total"] == 1
    user.call("TagService/DeleteTag", {**by_id, "tag_key": "team"})
    left = user.call("TagService/BatchDeleteTags", {**by_id, "tag_keys": ["stage"]})["key"]
    assert "tags" not in left


def quotas(user):
    told = user.call("AccountService/DescribeQuotas")
    assert told, "quotas are told"
    user.call("AccountService/CountKeys")
    user.call("AccountService/DescribeTraffic")


def versions(user):
    version = {"id": "v1", "status": "VERSION_STATUS_CURRENT", "package": "kms.v1"}
    assert user.call("AccountService/ListVersions")["versions"] == [version]
    assert user.call("AccountService/GetVersion", {"version_id": "v1"})["version"] == version
    user.refused("AccountService/GetVersion", {"version_id": "v2"}, grpc.StatusCode.NOT_FOUND)


def not_offered(user):
    service = "TrustedExecutionService"
    refused = [name for name in user.methods() if name.startswith(f"{service}/")]
    assert len(refused) == 14, refused
    for name in refused:
        message = user.refused(name, {}, grpc.StatusCode.UNIMPLEMENTED, "NOT_OFFERED")
        assert message.endswith("is not offered here"), message


def grants(user, key):
    named = {"key_id": key["key_id"]}
    request = {
        **named,
        "grantee": {"user_id": "somebody"},
        "operations": ["GRANT_OPERATION_DECRYPT_DATAKEY", "GRANT_OPERATION_RETIRE_GRANT"],
    }
    for end in ["RetireGrant", "RevokeGrant"]:
        grant = user.call("GrantService/CreateGrant", request)["grant"]
        assert user.call("GrantService/ListGrants", named) == {"grants": [grant], "total": 1}
        assert grant in user.call("GrantService/ListRetirableGrants")["grants"]
        user.call(f"GrantService/{end}", {**named, "grant_id": grant["grant_id"]})
        assert user.call("GrantService/ListGrants", named) == {}


def replicas(user, key):
    regions = user.call("ReplicationService/ListSupportedRegions")["regions"]
    other = next(region for region in regions if region != key["region"])
    request = {"key_id": key["key_id"], "replica_region": other, "alias": "stock/replica"}
    replica = user.call("ReplicationService/ReplicateKey", request)["key"]
    assert (replica["region"], replica["primary_key_id"]) == (other, key["key_id"])
    by_id = {"key_id": key["key_id"], "primary_region": other}
    former = user.call("ReplicationService/UpdatePrimaryRegion", by_id)["key"]
    assert (former["key_id"], former["primary_key_id"]) == (key["key_id"], replica["key_id"])


def root_keys(operator):
    assert operator.call("OperatorService/DescribeRoot")["token_generations"]
    parts = operator.stream("OperatorService/BackUp", [{}])
    assert parts[-1]["digest"], "the backup is whole"
    operator.call("OperatorService/ListDestroyedKeys")
    assert operator.call("OperatorService/ReloadIdentities")["users"]
    assert operator.call("OperatorService/ReloadTrafficProfile")["digest"]
    used = operator.call("OperatorService/ListKeyUsage", {"page_size": 1000})["keys"]
    assert any(key["usage"].get("last_used_at") for key in used), "uses of all accounts are seen"
    operator.call("OperatorService/RotateRoot")
    operator.call("OperatorService/RetireRoot")


def witness(operator):
    request = {"checkpoint": "dewpoint.example/log\n0\n"}
    invalid = grpc.StatusCode.INVALID_ARGUMENT
    operator.refused("WitnessService/AddCheckpoint", request, invalid, "CHECKPOINT_NOT_WITNESSED")


def access(operator, key):
    explained = operator.call("OperatorService/ExplainAccess", {"key_id": key["key_id"]})
    assert any(user["allowed"] for user in explained["users"])


def audit(admin, operator, key):
    used = {"key_id": key["key_id"], "operation": "GenerateDataKey", "verdict": "VERDICT_SUCCEEDED"}
    found = admin.call("AuditService/QueryRecords", {"filter": used, "page_size": 1})["records"]
    assert json.loads(base64.b64decode(found[0]["line"]))["key_id"] == key["key_id"]
    messages = operator.stream("AuditService/StreamRecords", [{"filter": {"operation": "QueryRecords"}}])
    records = [record for message in messages for record in message.get("records", [])]
    assert [record["user"] for record in records] == [found[0]["user"]], "reading is recorded"
    meter(admin, operator, found[0]["account"])
    prove(operator)


def meter(admin, operator, account):
    own = admin.call("AuditService/GetMetering")["months"]
    assert {month["account"] for month in own} == {account}, "an account sees its own"
    answered = [calls for month in own for calls in month["calls"] if calls["operation"] == "GenerateDataKey"]
    assert int(answered[0]["answered"]) > 0
    asked = {"account": account, "from_month": own[0]["month"], "until_month": own[0]["month"], "page_size": 1}
    assert operator.call("AuditService/GetMetering", asked)["months"][0]["calls"]


def prove(operator):
    """Proves the log's first line and an earlier size, computing as RFC 9162 does."""
    checkpoint = operator.call("AuditService/GetCheckpoint")
    origin, size, root = checkpoint["checkpoint"].split("\n")[:3]
    assert checkpoint["verifier_key"].startswith(origin + "+")
    size = int(size)
    proof = operator.call("AuditService/ProveInclusion", {"seq": "0", "size": str(size)})
    value = base64.b64decode(proof["leaf_hash"])
    for sibling in proof.get("path", []):  # of the first leaf, all siblings lie to the right
        value = hashlib.sha256(b"\x01" + value + base64.b64decode(sibling)).digest()
    assert value == base64.b64decode(root), "the first line is in the tree"
    same = operator.call("AuditService/ProveConsistency", {"old_size": str(size), "new_size": str(size)})
    assert "path" not in same, "a tree is its own beginning"


def clock(operator):
    before = operator.call("DevService/Now")["now"]
    assert operator.call("DevService/Advance", {"by": "3600s"})["now"] > before


def throttling(admin, operator):
    operator.call("DevService/ThrottleOperation", {"operation": "CountKeys", "calls": 1})
    exhausted = grpc.StatusCode.RESOURCE_EXHAUSTED
    admin.refused("AccountService/CountKeys", {}, exhausted, "THROTTLED")
    admin.call("AccountService/CountKeys")


def main(path):
    dev = json.loads(read(path))
    account = dev["accounts"][0]
    admin = Client(dev, next(user for user in account["users"] if user["name"] == "admin"))
    operator = Client(dev, dev["operators"][0])
    key = life_cycle(admin)
    data_keys(admin, key)
    more_data_keys(admin, key)
    bucket_keys(admin, key)
    small_data(admin, key)
    rotation(admin, key)
    signing(admin)
    imports(admin)
    keystores(admin)
    quotas(admin)
    versions(admin)
    not_offered(admin)
    aliases(admin, key)
    tags(admin, key)
    grants(admin, key)
    replicas(admin, key)
    access(operator, key)
    audit(admin, operator, key)
    witness(operator)
    clock(operator)
    throttling(admin, operator)
    root_keys(operator)
    named = set(admin.methods())
    missing = sorted(named - admin.called - operator.called)
    assert not missing, f"never called: {', '.join(missing)}"
    print(f"{len(named)} operations called")


if __name__ == "__main__":
    main(sys.argv[1])
