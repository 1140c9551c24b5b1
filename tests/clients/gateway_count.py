"""A thousand objects put by one user and got by another, with bucket keys or without.

    gateway_count.py DEPLOYMENT BUCKET true|false
"""

import concurrent.futures
import sys
import threading
import uuid

from botocore.exceptions import ClientError

from store.deployment import Deployment

OBJECTS = 1000
THREADS = 8

deployment, bucket = Deployment(sys.argv[1]), sys.argv[2]
own = threading.local()


def client(name):
    """Each thread has clients of its own."""
    if not hasattr(own, name):
        setattr(own, name, deployment.s3(name))
    return getattr(own, name)


def put(number):
    if number % 50 == 0:
        refused_for_a_key_that_is_not()
    client("uploader").put_object(Bucket=bucket, Key=f"object {number}", Body=f"text {number}".encode())


def refused_for_a_key_that_is_not():
    """It ends nothing that is kept of other keys."""
    try:
        named = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": str(uuid.uuid4())}
        client("uploader").put_object(Bucket=bucket, Key="none", Body=b"", **named)
    except ClientError as error:
        assert error.response["Error"]["Code"] == "KMS.NotFoundException", error
    else:
        raise AssertionError("stored under a key that is not")


def get(number):
    assert client("downloader").get_object(Bucket=bucket, Key=f"object {number}")["Body"].read() == f"text {number}".encode()


admin = deployment.s3()
admin.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": deployment.region})
key = deployment.key(f"count/{bucket}")
rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key}, "BucketKeyEnabled": sys.argv[3] == "true"}
admin.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration={"Rules": [rule]})
with concurrent.futures.ThreadPoolExecutor(THREADS) as threads:
    for each in (put, get):
        assert len(list(threads.map(each, range(OBJECTS)))) == OBJECTS
