"""The object gateway of `dewpoint dev --with-obs`, by boto3 and by the SDK of OBS, which know nothing but `dev.json`.

Arguments: where that lies, and `use` (a new deployment) or `again` (the same one after a restart).
"""

import contextlib
import json
import pathlib
import sys

import boto3
from botocore.config import Config
from obs import ObsClient, PutObjectHeader, SseKmsHeader

from store.deployment import refused

BUCKET, REGION, TEXT = "kept", "cn-north-4", bytes(range(256)) * 1000
KMS = {"ServerSideEncryption": "aws:kms"}
dev = json.loads(pathlib.Path(sys.argv[1]).read_text())


def user(name, account=0):
    return next(user for user in dev["accounts"][account]["users"] if user["name"] == name)


def s3(name, account=0, **configuration):
    own = user(name, account)
    return boto3.client(
        "s3",
        aws_access_key_id=own["ak"],
        aws_secret_access_key=own["sk"],
        region_name=REGION,
        endpoint_url=dev["obs"]["endpoint"],
        verify=dev["ca_cert"],
        config=Config(retries={"total_max_attempts": 1}, **configuration),
    )


def obs(name):
    own = user(name)
    client = ObsClient(
        access_key_id=own["ak"],
        secret_access_key=own["sk"],
        server=dev["obs"]["endpoint"],
        ssl_verify=dev["ca_cert"],
        max_retry_count=0,
    )
    return contextlib.closing(client)


def read(client, key):
    return client.get_object(Bucket=BUCKET, Key=key)["Body"].read()


def use():
    admin, uploader, downloader, nobody = (s3(name) for name in ("admin", "uploader", "downloader", "nobody"))
    admin.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    admin.put_object(Bucket=BUCKET, Key="plain", Body=TEXT)
    uploader.put_object(Bucket=BUCKET, Key="sealed", Body=TEXT, **KMS)
    assert read(downloader, "sealed") == read(admin, "sealed") == TEXT
    assert admin.head_object(Bucket=BUCKET, Key="sealed")["ServerSideEncryption"] == "aws:kms"
    downloader.put_object(Bucket=BUCKET, Key="downloaders", Body=TEXT, **KMS)
    for client in (uploader, downloader):
        assert {one["Key"] for one in client.list_objects_v2(Bucket=BUCKET)["Contents"]} == {"plain", "sealed", "downloaders"}
        with refused("AccessDenied", 403):
            client.delete_object(Bucket=BUCKET, Key="sealed")
        with refused("AccessDenied", 403):
            client.create_bucket(Bucket="other", CreateBucketConfiguration={"LocationConstraint": REGION})
    with refused("AccessDenied", 403):
        read(uploader, "plain")
    for forbidden in (nobody, s3("admin", account=1)):
        with refused("AccessDenied", 403):
            read(forbidden, "plain")
        with refused("AccessDenied", 403):
            forbidden.put_object(Bucket=BUCKET, Key="never", Body=TEXT)
    # Where the bucket lets the uploader read, the key service still does not have the data key opened.
    allow = {"Effect": "Allow", "Principal": "*", "Action": "GetObject", "Resource": f"{BUCKET}/*"}
    admin.put_bucket_policy(Bucket=BUCKET, Policy=json.dumps({"Statement": [allow]}))
    assert read(uploader, "plain") == TEXT
    with refused("AccessDenied", 403):
        read(uploader, "sealed")
    admin.delete_bucket_policy(Bucket=BUCKET)
    with obs("downloader") as client:
        sealed = PutObjectHeader(sseHeader=SseKmsHeader(encryption="kms"))
        put = client.putContent(BUCKET, "of-obs", TEXT, headers=sealed)
        assert put.status == 200, put


def again():
    downloader = s3("downloader")
    for key in ("plain", "sealed", "downloaders", "of-obs"):
        assert read(downloader, key) == TEXT, key
    with obs("downloader") as client:
        got = client.getObject(BUCKET, "sealed", loadStreamInMemory=True)
        assert got.status == 200 and got.body.buffer == TEXT, got


{"use": use, "again": again}[sys.argv[2]]()
