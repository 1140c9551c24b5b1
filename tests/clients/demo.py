"""The demo's step with OBS' own SDK: an object with SSE-KMS through the object gateway of `dewpoint dev --with-obs`.

Arguments: `dev.json`, the bucket to make, the id of a key, and the file that becomes an object. Prints what every call
answered, and fails if that is not what it should be.
"""

import contextlib
import json
import pathlib
import sys

from obs import ObsClient, PutObjectHeader, SseKmsHeader

description, bucket, key_id, file = sys.argv[1:]
dev = json.loads(pathlib.Path(description).read_text())
content = pathlib.Path(file).read_bytes()


def client(name):
    """For a user of the first account, told what `dev.json` says."""
    user = next(user for user in dev["accounts"][0]["users"] if user["name"] == name)
    obs = ObsClient(
        access_key_id=user["ak"],
        secret_access_key=user["sk"],
        server=dev["obs"]["endpoint"],
        ssl_verify=dev["ca_cert"],
        max_retry_count=0,
    )
    return contextlib.closing(obs)


def shown(what, answer, status, told):
    assert answer.status == status, f"{what}: {answer.status} {answer.errorCode} {answer.errorMessage}"
    print(f"   {what:<39} {status}  {told}", flush=True)


with client("admin") as admin:
    shown("the bucket, made by the admin", admin.createBucket(bucket, location="cn-north-4"), 200, bucket)
    shown("the file, put without encryption", admin.putContent(bucket, "plain", content), 200, f"{len(content)} bytes")
with client("uploader") as uploader:
    sealed = PutObjectHeader(sseHeader=SseKmsHeader(encryption="kms", key=key_id))
    put = uploader.putContent(bucket, "sealed", content, headers=sealed)
    shown("put with SSE-KMS by the uploader", put, 200, f"under {put.body.sseKmsKey}")
    assert put.body.sseKms and key_id in put.body.sseKmsKey, put.header
    got = uploader.getObject(bucket, "sealed", loadStreamInMemory=True)
    shown("got by the uploader", got, 403, got.errorCode)
with client("downloader") as downloader:
    got = downloader.getObject(bucket, "sealed", loadStreamInMemory=True)
    assert got.body.buffer == content, "what was got differs from what was put"
    shown("got by the downloader", got, 200, "all bytes are those of the file")
