"""Objects put and got without end, whole and in parts, with bucket keys and without, each told when it is answered, until
standard input ends; and whether all that were put read back whole.

    gateway_outage.py load DEPLOYMENT    prints `put|got KIND KEY SHA256` and `refused put|got KIND`
    gateway_outage.py check DEPLOYMENT   reads such lines from standard input

Whatever is refused in another way than with 503 ends it with a failure.
"""

import hashlib
import os
import random
import sys
import threading

from botocore.exceptions import ClientError

from store.deployment import Deployment

BUCKET = "outage"
KMS = {"ServerSideEncryption": "aws:kms"}
PART = 110_000
TELLING, ENDING = threading.Lock(), threading.Event()


def tell(*words):
    with TELLING:
        print(*words, flush=True)


def put(s3, key, text, asked):
    if len(text) < PART:
        return s3.put_object(Bucket=BUCKET, Key=key, Body=text, **asked)
    upload = {"Bucket": BUCKET, "Key": key, "UploadId": s3.create_multipart_upload(Bucket=BUCKET, Key=key, **asked)["UploadId"]}
    parts = [text[start : start + PART] for start in range(0, len(text), PART)]
    etags = [s3.upload_part(PartNumber=number, Body=part, **upload)["ETag"] for number, part in enumerate(parts, 1)]
    s3.complete_multipart_upload(MultipartUpload={"Parts": [{"PartNumber": n, "ETag": e} for n, e in enumerate(etags, 1)]}, **upload)


def get(s3, key):
    return hashlib.sha256(s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()).hexdigest()


def attempt(what, kind, call, *arguments):
    """What a call answers; nothing, if it is refused for now."""
    try:
        return call(*arguments) or True
    except ClientError as error:
        told = (error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"])
        assert told == ("ServiceUnavailable", 503), error
        tell("refused", what, kind)


def load(deployment, kind, asked):
    s3, chance, stored = deployment.s3(), random.Random(), []
    while not ENDING.is_set():
        key, text = f"{kind}/{chance.getrandbits(64):x}", chance.randbytes(chance.choice([0, 100, 70_000, 200_000]))
        digest = hashlib.sha256(text).hexdigest()
        if attempt("put", kind, put, s3, key, text, asked):
            tell("put", kind, key, digest)
            stored.append((key, digest))
        if stored:
            key, digest = chance.choice(stored)
            found = attempt("got", kind, get, s3, key)
            assert found in (None, digest), f"{key} is not whole"
            if found:
                tell("got", kind, key, digest)


def guarded(*arguments):
    try:
        load(*arguments)
    except BaseException as error:
        print(f"{arguments[1]}: {error!r}", file=sys.stderr, flush=True)
        os._exit(1)


def check(deployment):
    s3 = deployment.s3()
    told = dict(line.split()[2:] for line in sys.stdin if line.startswith("put "))
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
    listed = {entry["Key"] for page in pages for entry in page.get("Contents", [])}
    assert set(told) <= listed
    for key in listed:
        # What was stored without its answer having arrived is whole, too.
        digest = get(s3, key)
        assert told.get(key, digest) == digest, f"{key} is not whole"


deployment = Deployment(sys.argv[2])
if sys.argv[1] == "check":
    check(deployment)
else:
    deployment.s3().create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": deployment.region})
    kinds = {"own": {"BucketKeyEnabled": False, **KMS}, "under": {"BucketKeyEnabled": True, **KMS}}
    workers = [threading.Thread(target=guarded, args=(deployment, *kind)) for kind in kinds.items() for _ in range(2)]
    for worker in workers:
        worker.start()
    sys.stdin.read()
    ENDING.set()
    for worker in workers:
        worker.join()
