"""Uploads without end, each told when it is acknowledged; and whether all that were told read back whole.

    gateway_crash.py load DEPLOYMENT    prints `KEY SHA256` for each object, until the gateway is gone
    gateway_crash.py check DEPLOYMENT   reads such lines from standard input
"""

import hashlib
import random
import sys
import threading

from botocore.exceptions import BotoCoreError, ClientError

from store.deployment import Deployment

BUCKET = "crashed"
TELLING = threading.Lock()


def whole(s3, key, text, asked):
    s3.put_object(Bucket=BUCKET, Key=key, Body=text, **asked)


def in_parts(s3, key, text, asked):
    begun = s3.create_multipart_upload(Bucket=BUCKET, Key=key, **asked)
    upload = {"Bucket": BUCKET, "Key": key, "UploadId": begun["UploadId"]}
    half = max(len(text) // 2, 100 * 1024)
    etags = [s3.upload_part(PartNumber=number, Body=part, **upload)["ETag"] for number, part in ((1, text[:half]), (2, text[half:]))]
    named = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, 1)]
    s3.complete_multipart_upload(MultipartUpload={"Parts": named}, **upload)


def load(deployment, worker):
    s3, chance = deployment.s3(), random.Random(worker)
    count = 0
    while True:
        key, text = f"{worker}/{count}", chance.randbytes(chance.choice([0, 100, 70_000, 300_000]))
        asked = {"ServerSideEncryption": "aws:kms", "BucketKeyEnabled": chance.random() < 0.5}
        try:
            (in_parts if len(text) > 200_000 else whole)(s3, key, text, asked)
        except (BotoCoreError, ClientError):
            return
        with TELLING:
            print(key, hashlib.sha256(text).hexdigest(), flush=True)
        count += 1


def check(deployment):
    s3, told = deployment.s3(), [line.split() for line in sys.stdin]
    for key, digest in told:
        text = s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        assert hashlib.sha256(text).hexdigest() == digest, f"{key} is not whole"
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
    listed = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
    assert {key for key, _ in told} <= set(listed)
    for key in listed:
        s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
    print(f"{len(told)} objects are whole")


deployment = Deployment(sys.argv[2])
if sys.argv[1] == "check":
    check(deployment)
else:
    location = {"LocationConstraint": deployment.region}
    try:
        deployment.s3().create_bucket(Bucket=BUCKET, CreateBucketConfiguration=location)
    except ClientError as error:
        assert error.response["Error"]["Code"] == "BucketAlreadyOwnedByYou", error
    workers = [threading.Thread(target=load, args=(deployment, f"{random.getrandbits(64):x}")) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
