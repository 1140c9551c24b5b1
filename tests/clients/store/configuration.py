"""The XML of a bucket's encryption, with what OBS adds to S3's."""

import base64
import contextlib
import hashlib
import json
import re

import requests

from .deployment import refused, signed
from .encryption import bucket
from .obs_sdk import client as obs_client, names_of_buckets

TEXT = bytes(range(256)) * 1000


def configuration(default, rule="", namespace=""):
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<ServerSideEncryptionConfiguration{namespace}>
    <Rule>
        <ApplyServerSideEncryptionByDefault>
            {default}
        </ApplyServerSideEncryptionByDefault>
        {rule}
    </Rule>
</ServerSideEncryptionConfiguration>""".encode()


def elements(text):
    return dict(re.findall(r"<(\w+)>([^<]+)<", text))


def code(answer):
    found = re.search("<Code>(.*)</Code>", answer.text)
    return answer.status_code, found and found[1]


def shows_what_obs_adds_put_and_got(deployment):
    key = deployment.key("configuration/sm4", "SM4")
    default = f"<SSEAlgorithm>kms</SSEAlgorithm><KMSDataEncryption>SM4</KMSDataEncryption><KMSMasterKeyID>{key}</KMSMasterKeyID>"
    put = configuration(default + "<ProjectID>p1</ProjectID>", "<BucketKeyEnabled>true</BucketKeyEnabled>")
    bucket(deployment, "configured")
    md5 = base64.b64encode(hashlib.md5(put).digest()).decode()
    assert signed(deployment, "PUT", "configured?encryption", put, **{"Content-MD5": md5}).status_code == 200
    got = signed(deployment, "GET", "configured?encryption")
    expected = {"KMSDataEncryption": "SM4", "KMSMasterKeyID": key, "ProjectID": "p1", "BucketKeyEnabled": "true"}
    assert got.headers["content-type"] == "application/xml"
    assert elements(got.text) == {"SSEAlgorithm": "aws:kms", **expected}, got.text
    assert 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"' in got.text
    stored = deployment.s3().put_object(Bucket="configured", Key="o", Body=TEXT)
    assert stored["BucketKeyEnabled"] and stored["SSEKMSKeyId"].endswith(key)
    assert stored["ResponseMetadata"]["HTTPHeaders"]["x-obs-server-side-data-encryption"] == "SM4"
    assert deployment.s3().get_object(Bucket="configured", Key="o")["Body"].read() == TEXT
    # The same in the words of OBS, under its own signature and the bucket's own name.
    with names_of_buckets(), contextlib.closing(obs_client(deployment)) as obs:
        ca = deployment.description["ca_cert"]
        own = deployment.description["https"].removeprefix("https://")
        named = f"configured.localhost:{own.rsplit(':', 1)[1]}"
        url = lambda method: obs.createSignedUrl(method, "configured", specialParam="encryption", expires=60).signedUrl.replace(named, own)
        got = requests.get(url("GET"), headers={"Host": named}, verify=ca)
        assert elements(got.text) == {"SSEAlgorithm": "kms", **expected}, got.text
        assert f'xmlns="http://obs.{deployment.region}.myhuaweicloud.com/doc/2015-06-30/"' in got.text
        put = configuration(default.replace("SM4", "AES256"))
        assert requests.put(url("PUT"), data=put, headers={"Host": named}, verify=ca).status_code == 200
        got = requests.get(url("GET"), headers={"Host": named}, verify=ca)
        expected = {"SSEAlgorithm": "kms", "KMSDataEncryption": "AES256", "KMSMasterKeyID": key, "BucketKeyEnabled": "false"}
        assert elements(got.text) == expected, got.text
        assert requests.get(url("GET").replace("encryption", "policy"), headers={"Host": named}, verify=ca).status_code == 403


def shows_configurations_refused(deployment):
    kms = "<SSEAlgorithm>kms</SSEAlgorithm>"
    before = signed(deployment, "GET", "configured?encryption").text
    for default, rule, expected in [
        (kms + "<KMSDataEncryption>DES</KMSDataEncryption>", "", (400, "InvalidArgument")),
        (kms + "<Other/>", "", (400, "MalformedXML")),
        (kms, "<BucketKeyRotationPeriod>365</BucketKeyRotationPeriod>", (501, "NotImplemented")),
        ("<SSEAlgorithm>AES256</SSEAlgorithm>", "", (501, "NotImplemented")),
    ]:
        answer = signed(deployment, "PUT", "configured?encryption", configuration(default, rule))
        assert code(answer) == expected, answer.text
    sound = configuration(kms)
    wrong = {"Content-MD5": base64.b64encode(bytes(16)).decode()}
    assert code(signed(deployment, "PUT", "configured?encryption", sound, **wrong)) == (400, "BadDigest")
    assert code(signed(deployment, "PUT", "configured?encryption", sound + b" " * 70000)) == (400, "MalformedXML")
    assert code(signed(deployment, "PUT", "none?encryption", sound)) == (404, "NoSuchBucket")
    for method in ("GET", "PUT"):
        assert code(signed(deployment, method, "configured?encryption", sound, name="reader")) == (403, "AccessDenied")
        assert code(signed(deployment, method, "configured?encryption", sound, name="tokenless")) == (400, "InvalidToken")
        url, ca = f"{deployment.description['https']}/configured?encryption", deployment.description["ca_cert"]
        assert code(requests.request(method, url, data=sound, verify=ca)) == (403, "AccessDenied")
        assert requests.request(method, url, data=sound, headers={"Authorization": "AWS a:b"}, verify=ca).status_code == 403
    assert signed(deployment, "GET", "configured?encryption").text == before
    # An object whose name is a word of the protocol is an object.
    deployment.s3().put_object(Bucket="configured", Key="encryption", Body=b"text")
    assert deployment.s3().get_object(Bucket="configured", Key="encryption")["Body"].read() == b"text"


def shows_configurations_granted_by_a_policy(deployment):
    bucket(deployment, "granted")
    owner, user = deployment.s3(), deployment.s3("reader")
    default = {"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms"}}]}
    calls = {
        "PutEncryptionConfiguration": lambda: user.put_bucket_encryption(
            Bucket="granted", ServerSideEncryptionConfiguration=default
        ),
        "GetEncryptionConfiguration": lambda: user.get_bucket_encryption(Bucket="granted"),
    }
    account = deployment.dew.account
    principal = {"ID": [f"domain/{account['domain_id']}:user/{deployment.dew.user(account, 'admin')['user_id']}"]}
    for granted in ([], *([action] for action in calls), list(calls)):
        owner.put_bucket_encryption(Bucket="granted", ServerSideEncryptionConfiguration=default)
        if granted:
            allow = {"Effect": "Allow", "Principal": principal, "Action": granted, "Resource": "granted"}
            owner.put_bucket_policy(Bucket="granted", Policy=json.dumps({"Statement": [allow]}))
        for action, call in calls.items():
            with contextlib.nullcontext() if action in granted else refused("AccessDenied", 403):
                call()
    deny = {"Effect": "Deny", "Principal": "*", "Action": list(calls), "Resource": "granted"}
    owner.put_bucket_policy(Bucket="granted", Policy=json.dumps({"Statement": [deny]}))
    with refused("AccessDenied", 403):
        owner.get_bucket_encryption(Bucket="granted")
