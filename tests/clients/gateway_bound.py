"""How long a key that was disabled is used, where nothing but the time tells the gateway of it."""

import sys
import time

from botocore.exceptions import ClientError

from store.deployment import Deployment, refused

KMS = {"ServerSideEncryption": "aws:kms", "BucketKeyEnabled": True}
DEADLINE = 30
VALIDITY = 1  # of bucket keys, in seconds, as the gateway is configured

deployment = Deployment(sys.argv[1])
s3, key = deployment.s3(), deployment.key("bound")
s3.create_bucket(Bucket="bound", CreateBucketConfiguration={"LocationConstraint": deployment.region})
put = lambda name: s3.put_object(Bucket="bound", Key=name, Body=b"text", SSEKMSKeyId=key, **KMS)
end = time.monotonic() + DEADLINE


def until(what, holds):
    while not holds():
        assert time.monotonic() < end, what


def outcome():
    """Why an upload is refused; on a busy machine, a bucket key may be over before it can be used."""
    try:
        put("o")
    except ClientError as error:
        code = error.response["Error"]["Code"]
        assert code in ("ServiceUnavailable", "KMS.DisabledException"), error
        return code
    return None


until("nothing is stored", lambda: outcome() is None)
deployment.dew.admin.call("DisableKey", key_id=key)
disabled = time.monotonic()
used = 0
while True:
    begun = time.monotonic()
    code = outcome()
    if code == "KMS.DisabledException":
        break
    assert begun < end, "its bucket key is not over"
    if code is None:
        # The bucket key was given out before the key was disabled, and is used for so long at the most.
        assert begun <= disabled + VALIDITY, f"the key was used {begun - disabled:.3f} s after it was disabled"
        used += 1
print(f"after it was disabled, the key was used {used} times, within its bucket key's validity")
for _ in range(3):
    assert outcome() == "KMS.DisabledException"
with refused("KMS.DisabledException", 400):
    s3.get_object(Bucket="bound", Key="o")
