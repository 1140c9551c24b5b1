"""Requests signed by the official SDK (huaweicloudsdkcore): writes crates/kms-server/src/dew/signature/vectors.json.

To be run again when a case is added: `pip install huaweicloudsdkcore`, then `python3 scripts/signature_vectors.py`.
"""

import json
from pathlib import Path
from types import SimpleNamespace

from huaweicloudsdkcore.sdk_request import SdkRequest
from huaweicloudsdkcore.signer.signer import Signer

OUT = Path(__file__).parent.parent / "crates/kms-server/src/dew/signature/vectors.json"
ACCESS_KEY_ID = "AKEXAMPLE0000000001"
SECRET = "sk-example-secret-0123456789abcdef"
PROJECT = "0123456789abcdef0123456789abcdef"
KEY = "0d0466b0-e727-4d9c-b35d-f84bb474a37f"
TAGS = f"/v1.0/{PROJECT}/kms/{KEY}/tags/"

# name, method, path as it is sent, query as pairs, body, further headers
CASES = [
    ("create a key", "POST", f"/v1.0/{PROJECT}/kms/create-key", [], '{"key_alias": "test"}', {}),
    ("no body", "GET", f"/v1.0/{PROJECT}/kms/user-quotas", [], None, {}),
    ("a query", "GET", f"/v1.0/{PROJECT}/kms/aliases", [("key_id", KEY), ("limit", "10")], None, {}),
    ("an encoded path", "DELETE", TAGS + "a%20b%2F%C3%BC", [], None, {}),
    ("the root", "GET", "/", [], None, {}),
    ("a security token", "POST", f"/v1.0/{PROJECT}/kms/create-key", [], '{"key_alias": "test"}',
     {"X-Security-Token": "SECURITYTOKEN"}),
    ("a body in UTF-8", "POST", f"/v1.0/{PROJECT}/kms/encrypt-data", [],
     f'{{"key_id": "{KEY}", "plain_text": "héllo 你好"}}', {}),
    ("a path that ends with a slash", "GET", f"/v1.0/{PROJECT}/kms/aliases/", [], None, {}),
    ("signs that are kept, and signs that are not", "DELETE", TAGS + "a-b_c.d~e%2Bf+g:h@i", [], None, {}),
    ("a percent sign that encodes nothing", "DELETE", TAGS + "100%25%zz", [], None, {}),
    ("an unsorted query with lists and truths", "GET", f"/v1.0/{PROJECT}/kms/aliases",
     [("z", "1"), ("b", ["2", "10", "1"]), ("a:", "1"), ("a-", "ü &=+/"), ("flag", True), ("empty", "")], None, {}),
    ("blanks around a value, and names that are not signed", "GET", f"/v1.0/{PROJECT}/kms/aliases", [], None,
     {"User-Agent": "  agent/1  (a b)\t", "X_Under_Score": "1", "X-Text": "你好"}),
    ("a body whose hash is given", "POST", f"/v1.0/{PROJECT}/kms/create-key", [], '{"key_alias": "test"}',
     {"X-Sdk-Content-Sha256": "9c0186efb92bbffca3fd4b3451737f877b0336f04270715253517a9df851e7aa"}),
    ("a body that is not signed", "POST", f"/v1.0/{PROJECT}/kms/create-key", [], "key_alias=test",
     {"Content-Type": "application/x-www-form-urlencoded"}),
    ("nothing where a body would not be signed", "GET", f"/v1.0/{PROJECT}/kms/aliases", [], None,
     {"Content-Type": "text/plain"}),
]


def signed(name, method, path, query, body, further):
    """One case, signed."""
    headers = {
        "Content-Type": "application/json;charset=UTF-8" if body else "application/json",
        "X-Sdk-Date": "20260101T000000Z",
        "User-Agent": "huaweicloud-usdk-python/3.0",
        "X-Project-Id": PROJECT,
        "Host": "127.0.0.1:8443",
    } | further
    request = SdkRequest(method=method, schema="https", host=headers["Host"], resource_path=path,
                         query_params=list(query), header_params=headers, body=body)
    signer = Signer(SimpleNamespace(ak=ACCESS_KEY_ID, sk=SECRET))
    request = signer.sign(request)
    path, _, query = request.uri.partition("?")
    names = signer._process_signed_headers(request)
    # Values are bytes of UTF-8 by now, written as if they were Latin-1: as they are sent.
    sent = {key: value.encode("iso-8859-1").decode() for key, value in request.header_params.items()}
    canonical = SdkRequest(method=method, resource_path=path, query_params=request.query_params,
                           header_params=dict(sent), body=request.body)
    del canonical.header_params["Authorization"]
    names.remove("authorization")
    return {
        "name": name,
        "method": method,
        "path": path,
        "query": query,
        "headers": sent,
        "body": body or "",
        "canonical_request": signer._process_canonical_request(canonical, names),
    }


def main():
    """Writes the file."""
    vectors = {"access_key_id": ACCESS_KEY_ID, "secret": SECRET, "requests": [signed(*case) for case in CASES]}
    OUT.write_text(json.dumps(vectors, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
