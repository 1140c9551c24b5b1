"""Who signs, and how."""

import requests
from botocore import UNSIGNED

from .deployment import refused


def shows_that_nobody_is_anonymous(deployment):
    with refused("AccessDenied", 403):
        deployment.s3(signature_version=UNSIGNED).get_object(Bucket="plain", Key="r")
    ca, url = deployment.description["ca_cert"], deployment.description["https"]
    for path in ("/", "/plain", "/plain/r", "/plain?encryption"):
        assert requests.get(url + path, verify=ca).status_code == 403, path


def shows_wrong_signatures(deployment):
    ak, sk, _ = deployment.keys_of("admin")
    credentials = deployment.description["credentials"]
    credentials["wrong"] = {"ak": ak, "sk": sk[:-1] + "!"}
    with refused("SignatureDoesNotMatch", 403):
        deployment.s3("wrong").get_object(Bucket="plain", Key="r")
    with refused("SignatureDoesNotMatch", 403):
        deployment.s3("wrong", signature_version="s3").get_object(Bucket="plain", Key="r")
    credentials["wrong"] = {"ak": "nobody", "sk": sk}
    with refused("InvalidAccessKeyId", 403):
        deployment.s3("wrong").get_object(Bucket="plain", Key="r")
    assert deployment.s3(signature_version="s3").head_object(Bucket="plain", Key="r")["ContentLength"] == 256000


def shows_temporary_keys(deployment):
    temporary = deployment.s3("temporary")
    temporary.put_object(Bucket="sealed", Key="temporary", Body=b"text", ServerSideEncryption="aws:kms")
    assert temporary.get_object(Bucket="sealed", Key="temporary")["Body"].read() == b"text"
    url = temporary.generate_presigned_url("get_object", {"Bucket": "sealed", "Key": "temporary"}, ExpiresIn=60)
    assert requests.get(url, verify=deployment.description["ca_cert"]).content == b"text"
    with refused("InvalidAccessKeyId", 403):
        deployment.s3("expired").get_object(Bucket="plain", Key="r")
    credentials = deployment.description["credentials"]
    credentials["tokenless"] = {**credentials["temporary"], "token": None}
    credentials["wrong"] = {**credentials["temporary"], "token": "another"}
    for name in ("tokenless", "wrong"):
        with refused("InvalidToken", 400):
            deployment.s3(name).get_object(Bucket="plain", Key="r")


def shows_buckets_by_their_own_names(deployment):
    s3 = deployment.s3(style="virtual")
    # localhost's names are not resolved everywhere; the connection goes to the same address.
    host = deployment.description["https"].removeprefix("https://")
    port = host.rsplit(":", 1)[1]
    url = s3.generate_presigned_url("get_object", {"Bucket": "plain", "Key": "r"}, ExpiresIn=60)
    named = url.split("/")[2]
    assert named == f"plain.localhost:{port}", named
    answer = requests.get(url.replace(named, host), headers={"Host": named}, verify=deployment.description["ca_cert"])
    assert answer.status_code == 200 and len(answer.content) == 256000
