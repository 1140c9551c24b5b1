"""Calls every operation of the contract as a stock gRPC client does: it knows nothing but the endpoint, the
certificates and what server reflection says. Fails if an operation that reflection names was not called.

    stock.py DEV_JSON
"""

import base64
import json
import sys

import grpc
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

    def refused(self, name, request, code):
        """A call that must be refused with this gRPC code; answers its message."""
        try:
            self.invoke(name, [request], [])
        except grpc.RpcError as error:
            assert error.code() == code, f"{name}: {error.code()} {error.details()}, not {code}"
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


def root_keys(operator):
    assert operator.call("OperatorService/DescribeRoot")["token_generations"]
    parts = operator.stream("OperatorService/BackUp", [{}])
    assert parts[-1]["digest"], "the backup is whole"
    operator.call("OperatorService/ListDestroyedKeys")
    operator.call("OperatorService/RotateRoot")
    operator.call("OperatorService/RetireRoot")


def clock(operator):
    before = operator.call("DevService/Now")["now"]
    assert operator.call("DevService/Advance", {"by": "3600s"})["now"] > before


def main(path):
    dev = json.loads(read(path))
    account = dev["accounts"][0]
    admin = Client(dev, next(user for user in account["users"] if user["name"] == "admin"))
    operator = Client(dev, dev["operators"][0])
    key = life_cycle(admin)
    data_keys(admin, key)
    grants(admin, key)
    clock(operator)
    root_keys(operator)
    named = set(admin.methods())
    missing = sorted(named - admin.called - operator.called)
    assert not missing, f"never called: {', '.join(missing)}"
    print(f"{len(named)} operations called")


if __name__ == "__main__":
    main(sys.argv[1])
