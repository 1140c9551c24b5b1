"""Key spaces, and what else this service does not have."""

ENCLAVES = "needs the provider's enclaves; a key and its grants stand in its place"
POLICY = {"policy_id": "0123456789abcdef"}
POINT = {"access_point_id": "0123456789abcdef"}


def run(suite):
    attestation = {"ecs_signature": "AA==", "service_token": "AA=="}
    key = "00000000-0000-4000-8000-000000000000"
    calls = {
        "CreateKeyPolicy": {"keyspace_id": "k", "policy_name": "p", "policy": "{}"},
        "UpdateKeyPolicy": {**POLICY, "policy": "{}"},
        "DeleteKeyPolicy": POLICY,
        "ShowKeyPolicy": POLICY,
        "ListKeyPolicy": {"keyspace_id": "k", "limit": "1"},
        "CreateAccessPoint": {"keyspace_id": "k", "access_point_name": "p", "type": 1},
        "DeleteAccessPoint": POINT,
        "EnableAccessPoint": POINT,
        "DisableAccessPoint": POINT,
        "ListAccessPoint": {"keyspace_id": "k", "limit": "1"},
        "DownloadAccessPointPrivateKey": POINT,
        "CreateDatakeyCapsule": {"key_id": key, "datakey_length": "256"},
        "DecryptDatakeyCapsule": {"key_id": key, "datakey_capsule": "AA==", "attestation_document": attestation},
    }
    for operation, fields in calls.items():
        suite.admin.not_offered(operation, ENCLAVES, **fields)
