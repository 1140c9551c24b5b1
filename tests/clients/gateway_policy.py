"""A bucket whose policy nobody can read any more.

    gateway_policy.py begin|replace|remove STORE_JSON
"""

import json
import sys

from store.deployment import Deployment, refused

BUCKET = "broken-policy"
ALLOW = {"Effect": "Allow", "Principal": "*", "Action": "GetObject", "Resource": f"{BUCKET}/*"}
POLICY = json.dumps({"Statement": [ALLOW]})


def begin(deployment):
    s3 = deployment.s3()
    s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": deployment.region})
    s3.put_object(Bucket=BUCKET, Key="o", Body=b"text")
    s3.put_bucket_policy(Bucket=BUCKET, Policy=POLICY)


def nothing_is_allowed(deployment):
    """While the policy cannot be read, nobody has the objects, and the policy only who may see and mend it in any case."""
    s3 = deployment.s3()
    for call, more in (
        (s3.get_object, {"Key": "o"}),
        (s3.put_object, {"Key": "o", "Body": b"other"}),
        (s3.put_object, {"Key": "new", "Body": b"other"}),
        (s3.delete_object, {"Key": "o"}),
        (s3.list_objects, {}),
        (s3.list_objects_v2, {}),
        (s3.create_multipart_upload, {"Key": "o"}),
    ):
        with refused("InternalError", 500):
            call(Bucket=BUCKET, **more)
    (error,) = s3.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": "o"}]})["Errors"]
    assert (error["Key"], error["Code"]) == ("o", "InternalError"), error
    # A user of the owner's without a permission on policies, and one of another account with all.
    for other in (deployment.s3("reader"), deployment.s3(account=1)):
        for call, more in (
            (other.get_bucket_policy, {}),
            (other.put_bucket_policy, {"Policy": POLICY}),
            (other.delete_bucket_policy, {}),
            (other.get_object, {"Key": "o"}),
        ):
            with refused("InternalError", 500):
                call(Bucket=BUCKET, **more)
    assert s3.get_bucket_policy(Bucket=BUCKET)["Policy"] == "{"


def nothing_was_changed(s3):
    assert s3.get_object(Bucket=BUCKET, Key="o")["Body"].read() == b"text"
    assert [object_["Key"] for object_ in s3.list_objects_v2(Bucket=BUCKET)["Contents"]] == ["o"]
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=BUCKET)


def replace(deployment):
    nothing_is_allowed(deployment)
    s3 = deployment.s3()
    s3.put_bucket_policy(Bucket=BUCKET, Policy=POLICY)
    assert s3.get_bucket_policy(Bucket=BUCKET)["Policy"] == POLICY
    nothing_was_changed(s3)


def remove(deployment):
    nothing_is_allowed(deployment)
    s3 = deployment.s3()
    s3.delete_bucket_policy(Bucket=BUCKET)
    with refused("NoSuchBucketPolicy", 404):
        s3.get_bucket_policy(Bucket=BUCKET)
    nothing_was_changed(s3)


{"begin": begin, "replace": replace, "remove": remove}[sys.argv[1]](Deployment(sys.argv[2]))
