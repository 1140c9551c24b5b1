"""Puts, copies and gets an encrypted object that is in nobody's memory: told the deployment's description and how many bytes."""

import hashlib
import sys

import requests

from store.deployment import Deployment, signed

PIECE = 1 << 20
BUCKET = "large"

deployment, length = Deployment(sys.argv[1]), int(sys.argv[2])
assert length % PIECE == 0
s3, ca = deployment.s3(), deployment.description["ca_cert"]
s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": deployment.region})


class Body:
    """Bytes that are made while they are sent; what `requests` has to know of a body."""

    def __init__(self):
        self.hash = hashlib.blake2b()

    def __iter__(self):
        for number in range(length // PIECE):
            piece = number.to_bytes(8, "big") * (PIECE // 8)
            self.hash.update(piece)
            yield piece

    def __len__(self):
        return length


body = Body()
kms = {"x-amz-server-side-encryption": "aws:kms"}
answer = signed(deployment, "PUT", f"{BUCKET}/o", body, is_body_signed=False, **kms)
assert answer.status_code == 200 and answer.headers["x-amz-server-side-encryption"] == "aws:kms", answer.text
s3.copy_object(Bucket=BUCKET, Key="copy", CopySource={"Bucket": BUCKET, "Key": "o"}, ServerSideEncryption="aws:kms")
got = hashlib.blake2b()
url = s3.generate_presigned_url("get_object", {"Bucket": BUCKET, "Key": "copy"})
with requests.get(url, stream=True, verify=ca) as answer:
    assert answer.status_code == 200 and int(answer.headers["content-length"]) == length
    for piece in answer.iter_content(PIECE):
        got.update(piece)
assert got.digest() == body.hash.digest()
