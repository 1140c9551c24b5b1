"""How long a key is used after it was disabled, or after a grant on it was revoked, where nothing but the time tells the gateway of
it. Told the deployment's description, and which of both happens."""

import json
import sys
import time

from botocore.exceptions import ClientError

from store.deployment import Deployment, refused

KMS = {"ServerSideEncryption": "aws:kms", "BucketKeyEnabled": True}
DEADLINE = 30
VALIDITY = 1  # of bucket keys, in seconds, as the gateway is configured

deployment, what_happens = Deployment(sys.argv[1]), sys.argv[2]
owner, key, admin = deployment.s3(), deployment.key("bound"), deployment.dew.admin
owner.create_bucket(Bucket="bound", CreateBucketConfiguration={"LocationConstraint": deployment.region})


def disabled():
    """The owner's own use of the key, and how it is ended."""
    return owner, "KMS.DisabledException", lambda: admin.call("DisableKey", key_id=key)


def revoked():
    """The use of the key by another account's user to whom it is granted, and how that is ended."""
    account = deployment.dew.other_account
    guest = deployment.dew.user(account, "admin")["user_id"]
    principal = {"ID": [f"domain/{account['domain_id']}:user/{guest}"]}
    allowed = [
        {"Effect": "Allow", "Principal": principal, "Action": ["HeadBucket", "ListBucket"], "Resource": ["bound"]},
        {"Effect": "Allow", "Principal": principal, "Action": ["GetObject", "PutObject"], "Resource": ["bound/*"]},
    ]
    owner.put_bucket_policy(Bucket="bound", Policy=json.dumps({"Statement": allowed}))
    operations = ["create-datakey", "decrypt-datakey", "describe-key"]
    grant = admin.call("CreateGrant", key_id=key, grantee_principal=guest, operations=operations)
    cancel = lambda: admin.call("CancelGrant", key_id=key, grant_id=grant.grant_id)
    return deployment.s3(account=1), "KMS.NotFoundException", cancel


user, refusal, happens = {"disabled": disabled, "revoked": revoked}[what_happens]()
end = time.monotonic() + DEADLINE


def outcome():
    """Why an upload is refused; on a busy machine, a bucket key may be over before it can be used."""
    try:
        user.put_object(Bucket="bound", Key="o", Body=b"text", SSEKMSKeyId=key, **KMS)
    except ClientError as error:
        code = error.response["Error"]["Code"]
        assert code in ("ServiceUnavailable", refusal), error
        return code
    return None


while outcome() is not None:
    assert time.monotonic() < end, "nothing is stored"
happens()
happened = time.monotonic()
used = 0
while True:
    begun = time.monotonic()
    code = outcome()
    if code == refusal:
        break
    assert begun < end, "its bucket key is not over"
    if code is None:
        # The bucket key was given out before, and is used for so long at the most.
        assert begun <= happened + VALIDITY, f"the key was used {begun - happened:.3f} s after it was {what_happens}"
        used += 1
print(f"after it was {what_happens}, the key was used {used} times, within its bucket key's validity")
for _ in range(3):
    assert outcome() == refusal
with refused(refusal, 400):
    user.get_object(Bucket="bound", Key="o")
