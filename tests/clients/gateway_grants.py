"""Access to encrypted objects, row by row: users of the bucket's account by their permissions, and another account by each
subset of the three grants, on the bucket, on its objects and on the key; with data keys of their own and with bucket keys."""

import itertools
import json
import sys

from botocore.exceptions import ClientError

from store.deployment import Deployment

TEXT = bytes(range(256)) * 1000
KMS = {"ServerSideEncryption": "aws:kms"}
DENIED, UNKNOWN = ("AccessDenied", 403), ("KMS.NotFoundException", 400)

deployment = Deployment(sys.argv[1])
owner = deployment.s3()
KEY = deployment.key("grants")
OF_OTHER_SERVICE = sys.argv[2]
"""The default key that the owner's account has for another service."""
guest_account = deployment.dew.other_account
GUEST = deployment.dew.user(guest_account, "admin")["user_id"]
EVERYBODY = {"ID": [f"domain/{guest_account['domain_id']}"]}
PRINCIPAL = {"ID": [f"domain/{guest_account['domain_id']}:user/{GUEST}"]}
OPERATIONS = ["create-datakey", "decrypt-datakey", "describe-key"]


def outcome(call, *arguments, **named):
    try:
        answer = call(*arguments, **named)
        body = answer["Body"].read() if "Body" in answer else TEXT
        assert body == TEXT
        return None
    except ClientError as error:
        return error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]


def row(what, s3, put, get, bucket, with_bucket_key):
    """What the client's upload and its download come to; the download is of the owner's object."""
    named = {"SSEKMSKeyId": KEY, "BucketKeyEnabled": with_bucket_key, **KMS}
    found = (
        outcome(s3.put_object, Bucket=bucket, Key="theirs", Body=TEXT, **named),
        outcome(s3.get_object, Bucket=bucket, Key="ours"),
    )
    assert found == (put, get), f"{what}: {found}, not {(put, get)}"
    if put is None:
        assert owner.get_object(Bucket=bucket, Key="theirs")["Body"].read() == TEXT
        owner.delete_object(Bucket=bucket, Key="theirs")
    print(what, found)


for with_bucket_key in (False, True):
    bucket = f"grants-{with_bucket_key}".lower()
    owner.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": deployment.region})
    owner.put_object(Bucket=bucket, Key="ours", Body=TEXT, SSEKMSKeyId=KEY, BucketKeyEnabled=with_bucket_key, **KMS)
    for name, put, get in (
        ("admin", None, None),
        ("uploader", None, DENIED),
        ("downloader", None, None),  # its permissions are the uploader's and one more
        ("nobody", DENIED, DENIED),
    ):
        row(name, deployment.s3(name), put, get, bucket, with_bucket_key)
    guest = deployment.s3(account=1)
    statements = {
        "bucket": {"Action": ["HeadBucket", "ListBucket"], "Resource": [bucket]},
        "object": {"Action": ["GetObject", "PutObject"], "Resource": [f"{bucket}/*"]},
    }
    # From none up to all three, then each taken away in turn. A key that is taken away from a guest with bucket keys would be
    # used until these are over.
    subsets = [set(subset) for count in range(4) for subset in itertools.combinations(("bucket", "object", "key"), count)]
    subsets += [{"object", "key"}, {"bucket", "key"}] + ([] if with_bucket_key else [{"bucket", "object"}])
    for granted in subsets:
        allowed = [{"Effect": "Allow", "Principal": PRINCIPAL, **statements[one]} for one in sorted(granted & set(statements))]
        if allowed:
            owner.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Statement": allowed}))
        else:
            owner.delete_bucket_policy(Bucket=bucket)
        grant = None
        if "key" in granted:
            grant = deployment.dew.admin.call("CreateGrant", key_id=KEY, grantee_principal=GUEST, operations=OPERATIONS)
        # An upload needs no grant on the bucket itself; a download needs all three.
        put = DENIED if "object" not in granted else UNKNOWN if "key" not in granted else None
        get = DENIED if not {"bucket", "object"} <= granted else put
        # What is not granted tells nothing of the object, neither by its head nor by a condition.
        is_shown = {"bucket", "object"} <= granted
        assert outcome(guest.head_object, Bucket=bucket, Key="ours") == (None if is_shown else ("403", 403)), granted
        unmet = outcome(guest.get_object, Bucket=bucket, Key="ours", IfMatch='"other"')
        assert unmet == (("PreconditionFailed", 412) if is_shown else DENIED), granted
        row(f"another account with {sorted(granted) or 'nothing'}", guest, put, get, bucket, with_bucket_key)
        if grant:
            deployment.dew.admin.call("CancelGrant", key_id=KEY, grant_id=grant.grant_id)
        other = deployment.s3("uploader", account=1)
        row("another user of that account", other, DENIED, DENIED, bucket, with_bucket_key)
    # The policy is for the whole account and the grant for one user, who has bucket keys: for any other, the KMS decides.
    allowed = [{"Effect": "Allow", "Principal": EVERYBODY, **statement} for statement in statements.values()]
    owner.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Statement": allowed}))
    grant = deployment.dew.admin.call("CreateGrant", key_id=KEY, grantee_principal=GUEST, operations=OPERATIONS)
    row("the grantee", guest, None, None, bucket, with_bucket_key)
    # A default key encrypts in its own account's buckets only, whether the request asks for it or the bucket.
    asking = {"BucketKeyEnabled": with_bucket_key, **KMS}
    assert outcome(guest.put_object, Bucket=bucket, Key="theirs", Body=TEXT, **asking) == DENIED
    assert outcome(guest.create_multipart_upload, Bucket=bucket, Key="theirs", **asking) == DENIED
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms"}, "BucketKeyEnabled": with_bucket_key}
    owner.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration={"Rules": [rule]})
    assert outcome(guest.put_object, Bucket=bucket, Key="theirs", Body=TEXT) == DENIED
    assert outcome(owner.put_object, Bucket=bucket, Key="ours too", Body=TEXT) is None
    owner.delete_bucket_encryption(Bucket=bucket)
    # Nor does one of another service, though it is named.
    assert outcome(owner.put_object, Bucket=bucket, Key="x", Body=TEXT, SSEKMSKeyId=OF_OTHER_SERVICE, **asking) == DENIED
    row("who has no grant", deployment.s3("downloader", account=1), UNKNOWN, UNKNOWN, bucket, with_bucket_key)
    deployment.dew.admin.call("CancelGrant", key_id=KEY, grant_id=grant.grant_id)
