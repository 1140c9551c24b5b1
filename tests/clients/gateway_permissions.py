"""One upload or one download, by a user whose permissions on keys a tester has set: `prepare`, or else `upload` or `download` and
the permission that is missing, or nothing; and `throttled` or `free`, as the key service is.

Each is tried with a data key of its own and with one under a bucket key, by the default key."""

import sys

from botocore.exceptions import ClientError

from store.deployment import Deployment

TEXT = bytes(range(256)) * 1000
KMS = {"ServerSideEncryption": "aws:kms"}
BUCKET = "permissions"

deployment = Deployment(sys.argv[1])
act = sys.argv[2]
owner, uploader, downloader = (deployment.s3(name) for name in ("admin", "uploader", "downloader"))


def put(s3, with_bucket_key, key):
    s3.put_object(Bucket=BUCKET, Key=key, Body=TEXT, BucketKeyEnabled=with_bucket_key, **KMS)


def get(s3, with_bucket_key):
    assert s3.get_object(Bucket=BUCKET, Key=f"object-{with_bucket_key}")["Body"].read() == TEXT


def refusal(call, *arguments):
    """The code, the status and the text of a refusal; nothing of what succeeds."""
    try:
        call(*arguments)
        return None
    except ClientError as error:
        told = error.response["Error"]
        return told["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"], told["Message"]


if act == "prepare":
    owner.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": deployment.region})
for with_bucket_key in (False, True):
    if act == "prepare":
        put(owner, with_bucket_key, f"object-{with_bucket_key}")
        continue
    calls = {
        "upload": (put, uploader, with_bucket_key, "theirs"),
        "download": (get, downloader, with_bucket_key),
    }
    if act in calls:
        missing = sys.argv[3]
        expected = ("AccessDenied", 403, f"the permission {missing} is missing") if missing else None
        found = refusal(*calls[act])
        assert found == expected, f"{act}: {found}, not {expected}"
    else:
        for call in calls.values():
            found = refusal(*call)
            assert (found and found[:2]) == (("SlowDown", 503) if act == "throttled" else None), f"{act}: {found}"
