"""A bucket whose policy nobody can read any more.

    gateway_policy.py begin|replace|remove STORE_JSON
"""

import json
import sys

from store.deployment import Deployment, refused

BUCKET = "broken-policy"
ALLOW = {"Effect": "Allow", "Principal": "*", "Action": "GetObject", "Resource": f"{BUCKET}/*"}
POLICY = json.dumps({"Statement": [ALLOW]})


def begin(s3, region):
    s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": region})
    s3.put_object(Bucket=BUCKET, Key="o", Body=b"text")
    s3.put_bucket_policy(Bucket=BUCKET, Policy=POLICY)


def mend(s3, mended):
    """Nothing is allowed while the policy cannot be read, but to see and to mend it."""
    with refused("InternalError", 500):
        s3.get_object(Bucket=BUCKET, Key="o")
    assert s3.get_bucket_policy(Bucket=BUCKET)["Policy"] == "{"
    mended()
    assert s3.get_object(Bucket=BUCKET, Key="o")["Body"].read() == b"text"


def replace(s3, _):
    mend(s3, lambda: s3.put_bucket_policy(Bucket=BUCKET, Policy=POLICY))
    assert s3.get_bucket_policy(Bucket=BUCKET)["Policy"] == POLICY


def remove(s3, _):
    mend(s3, lambda: s3.delete_bucket_policy(Bucket=BUCKET))


deployment = Deployment(sys.argv[2])
{"begin": begin, "replace": replace, "remove": remove}[sys.argv[1]](deployment.s3(), deployment.region)
