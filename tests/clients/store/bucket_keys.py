"""Bucket keys: who asks for them, what tells of them, and when they are over."""

import base64
import contextlib
import hashlib
import json
import pathlib

from obs import PutObjectHeader, SseKmsHeader

from .deployment import refused
from .encryption import bucket, sm4
from .obs_sdk import client as obs_client, done, names_of_buckets

TEXT = bytes(range(256)) * 1000
KMS = {"ServerSideEncryption": "aws:kms"}
ASKED = {"BucketKeyEnabled": True, **KMS}


def kept(deployment, bucket, key):
    """What the store keeps of an object's data key: under a bucket key, salt and sealed bucket key; else the sealed data key."""
    name = f"{hashlib.sha256(key.encode()).hexdigest()}.json"
    record = json.loads(pathlib.Path(deployment.description["data_dir"], "buckets", bucket, "objects", name).read_text())
    sealed, under = bytes(record["encryption"]["sealed_key"]), record["encryption"].get("bucket_key", False)
    assert (sealed[:6] in (b"DPOK\1\1", b"DPOK\1\2")) == under
    return (sealed[6:38], sealed[38:]) if under else None


def told(answer):
    return answer.get("BucketKeyEnabled", False)


def shows_bucket_keys_told_in_every_answer(deployment):
    s3 = deployment.s3()
    bucket(deployment, "keyed")
    assert told(s3.put_object(Bucket="keyed", Key="o", Body=TEXT, **ASKED))
    assert told(s3.head_object(Bucket="keyed", Key="o"))
    got = s3.get_object(Bucket="keyed", Key="o")
    assert told(got) and got["Body"].read() == TEXT
    part = s3.get_object(Bucket="keyed", Key="o", Range="bytes=65530-131080")
    assert told(part) and part["Body"].read() == TEXT[65530:131081]
    begun = s3.create_multipart_upload(Bucket="keyed", Key="parts", **ASKED)
    upload = {"Bucket": "keyed", "Key": "parts", "UploadId": begun["UploadId"]}
    parts = [s3.upload_part(PartNumber=number, Body=TEXT, **upload) for number in (1, 2)]
    assert told(begun) and all(told(part) for part in parts)
    copied = s3.upload_part_copy(PartNumber=3, CopySource="keyed/o", **upload)
    assert told(copied)
    etags = [part["ETag"] for part in parts] + [copied["CopyPartResult"]["ETag"]]
    named = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, 1)]
    assert told(s3.complete_multipart_upload(MultipartUpload={"Parts": named}, **upload))
    assert s3.get_object(Bucket="keyed", Key="parts")["Body"].read() == TEXT * 3
    assert not told(s3.put_object(Bucket="keyed", Key="own", Body=TEXT, BucketKeyEnabled=False, **KMS))
    assert not told(s3.put_object(Bucket="keyed", Key="own", Body=TEXT, **KMS))
    assert kept(deployment, "keyed", "own") is None
    # The header of OBS under a signature of S3.
    words = {"x-obs-server-side-encryption-bucket-key-enabled": "true"}
    s3.meta.events.register("before-call.s3.PutObject", lambda params, **_: params["headers"].update(words))
    assert told(s3.put_object(Bucket="keyed", Key="words", Body=TEXT, **KMS))


def shows_one_bucket_key_for_many_objects_of_one_requester(deployment):
    s3 = deployment.s3()
    for key in ("one", "two"):
        s3.put_object(Bucket="keyed", Key=key, Body=TEXT, **ASKED)
    (salt, bucket_key), (other_salt, same) = (kept(deployment, "keyed", key) for key in ("one", "two"))
    assert salt != other_salt and bucket_key == same
    s3.put_object(Bucket="keyed", Key="one", Body=TEXT, **ASKED)
    assert kept(deployment, "keyed", "one")[0] != salt, "fresh each time"
    # Another user, the same user by a temporary key, another bucket, another key, another algorithm.
    deployment.s3("uploader").put_object(Bucket="keyed", Key="uploader", Body=TEXT, **ASKED)
    deployment.s3("temporary").put_object(Bucket="keyed", Key="temporary", Body=TEXT, **ASKED)
    s3.put_object(Bucket=bucket(deployment, "keyed-too"), Key="o", Body=TEXT, **ASKED)
    s3.put_object(Bucket="keyed", Key="custom", Body=TEXT, SSEKMSKeyId=deployment.key("bucket-keys/custom"), **ASKED)
    sm4(deployment.s3()).put_object(Bucket="keyed", Key="sm4", Body=TEXT, **ASKED)
    others = [("keyed", "uploader"), ("keyed", "temporary"), ("keyed-too", "o"), ("keyed", "custom"), ("keyed", "sm4")]
    assert len({bucket_key} | {kept(deployment, *other)[1] for other in others}) == 6
    for other in others:
        assert deployment.s3("downloader").get_object(Bucket=other[0], Key=other[1])["Body"].read() == TEXT
    with refused("AccessDenied", 403):
        deployment.s3("uploader").get_object(Bucket="keyed", Key="uploader")
    with refused("AccessDenied", 403):
        deployment.s3("nobody").put_object(Bucket="keyed", Key="x", Body=TEXT, **ASKED)


def shows_what_the_bucket_says_where_the_object_says_nothing(deployment):
    s3 = deployment.s3()
    bucket(deployment, "keyed-default")
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms"}, "BucketKeyEnabled": True}
    s3.put_bucket_encryption(Bucket="keyed-default", ServerSideEncryptionConfiguration={"Rules": [rule]})
    (shown,) = s3.get_bucket_encryption(Bucket="keyed-default")["ServerSideEncryptionConfiguration"]["Rules"]
    assert shown == rule
    assert told(s3.put_object(Bucket="keyed-default", Key="o", Body=TEXT))
    assert told(s3.put_object(Bucket="keyed-default", Key="o", Body=TEXT, **KMS)), "its mode, the bucket's bucket key"
    assert not told(s3.put_object(Bucket="keyed-default", Key="own", Body=TEXT, BucketKeyEnabled=False))
    begun = s3.create_multipart_upload(Bucket="keyed-default", Key="parts")
    assert told(begun)
    s3.abort_multipart_upload(Bucket="keyed-default", Key="parts", UploadId=begun["UploadId"])
    context = base64.b64encode(b'{"project": "x"}').decode()
    own = s3.put_object(Bucket="keyed-default", Key="context", Body=TEXT, SSEKMSEncryptionContext=context, **KMS)
    assert not told(own) and s3.get_object(Bucket="keyed-default", Key="context")["Body"].read() == TEXT
    with refused("InvalidArgument", 400):
        s3.put_object(Bucket="keyed-default", Key="x", Body=TEXT, SSEKMSEncryptionContext=context, **ASKED)
    with refused("InvalidArgument", 400):
        s3.put_object(Bucket="plain", Key="x", Body=TEXT, BucketKeyEnabled=True)


def shows_copies_with_and_without(deployment):
    s3 = deployment.s3()
    source, bucket_name = {"Bucket": "keyed", "Key": "own"}, bucket(deployment, "keyed-copies")
    copied = s3.copy_object(Bucket="keyed", Key="own", CopySource=source, BucketKeyEnabled=True)
    assert told(copied) and kept(deployment, "keyed", "own"), "an object that was there before"
    copied = s3.copy_object(Bucket=bucket_name, Key="o", CopySource=source)
    assert copied["ServerSideEncryption"] == "aws:kms" and not told(copied), "the source's bucket key does not count"
    assert told(s3.copy_object(Bucket="keyed-default", Key="copy", CopySource=source)), "the destination's setting does"
    salt = kept(deployment, "keyed", "own")[0]
    s3.copy_object(Bucket="keyed", Key="own", CopySource=source, BucketKeyEnabled=True, MetadataDirective="REPLACE")
    assert kept(deployment, "keyed", "own")[0] != salt
    for name, key in (("keyed", "own"), (bucket_name, "o"), ("keyed-default", "copy")):
        assert s3.get_object(Bucket=name, Key=key)["Body"].read() == TEXT


def shows_that_a_refusal_ends_bucket_keys_at_once(deployment):
    s3, key = deployment.s3(), deployment.key("bucket-keys/disabled")
    put = lambda name: s3.put_object(Bucket="keyed", Key=name, Body=TEXT, SSEKMSKeyId=key, **ASKED)
    put("disabled")
    deployment.dew.admin.call("DisableKey", key_id=key)
    # The gateway learns of it from another requester, who has no bucket key yet.
    with refused("KMS.DisabledException", 400):
        deployment.s3("downloader").get_object(Bucket="keyed", Key="disabled")
    with refused("KMS.DisabledException", 400):
        put("x")
    deployment.dew.admin.call("EnableKey", key_id=key)
    put("disabled")
    assert s3.get_object(Bucket="keyed", Key="disabled")["Body"].read() == TEXT


def shows_that_a_refusal_ends_what_all_access_keys_of_the_user_have(deployment):
    permanent, temporary, other = deployment.s3(), deployment.s3("temporary"), deployment.dew.other_admin
    key = deployment.key("bucket-keys/lent", client=other)
    grantee = deployment.dew.user(deployment.dew.account, "admin")["user_id"]
    operations = ["create-datakey", "decrypt-datakey", "describe-key"]
    grant = other.call("CreateGrant", key_id=key, grantee_principal=grantee, operations=operations)
    put = lambda s3, name: s3.put_object(Bucket="keyed", Key=name, Body=TEXT, SSEKMSKeyId=key, **ASKED)
    assert told(put(permanent, "lent")) and told(put(temporary, "lent too"))
    other.call("CancelGrant", key_id=key, grant_id=grant.grant_id)
    # The permanent access key has no bucket key to read with yet, the temporary one has one to write with.
    with refused("KMS.NotFoundException", 400):
        permanent.get_object(Bucket="keyed", Key="lent too")
    with refused("KMS.NotFoundException", 400):
        put(temporary, "x")


def shows_that_a_user_whom_the_key_service_does_not_serve_is_denied(deployment):
    stranger = deployment.s3("stranger")
    for asked in (KMS, ASKED):
        with refused("AccessDenied", 403):
            stranger.put_object(Bucket="keyed", Key="x", Body=TEXT, **asked)
    with refused("AccessDenied", 403):
        stranger.get_object(Bucket="keyed", Key="own")


def shows_that_words_of_obs_are_refused_where_they_would_not_be_read(deployment):
    s3 = deployment.s3()
    add = lambda request, **_: request.headers.add_header("x-obs-server-side-encryption", "kms")
    s3.meta.events.register("before-sign.s3.PutObject", add)
    with refused("NotImplemented", 501):
        s3.put_object(Bucket="plain", Key="x", Body=TEXT)


def shows_that_a_grant_that_is_gone_ends_the_grantees_bucket_keys(deployment):
    owner, guest, key = deployment.s3(), deployment.s3(account=1), deployment.key("bucket-keys/shared")
    domain = deployment.dew.other_account["domain_id"]
    allow = {"Effect": "Allow", "Principal": {"ID": [f"domain/{domain}"]}, "Action": ["*"], "Resource": ["keyed-shared", "keyed-shared/*"]}
    bucket(deployment, "keyed-shared")
    owner.put_bucket_policy(Bucket="keyed-shared", Policy=json.dumps({"Statement": [allow]}))
    grantee = deployment.dew.user(deployment.dew.other_account, "admin")["user_id"]
    operations = ["create-datakey", "decrypt-datakey", "describe-key"]
    grant = deployment.dew.admin.call("CreateGrant", key_id=key, grantee_principal=grantee, operations=operations)
    put = lambda s3, name: s3.put_object(Bucket="keyed-shared", Key=name, Body=TEXT, SSEKMSKeyId=key, **ASKED)
    assert told(put(guest, "theirs")) and told(put(owner, "ours"))
    deployment.dew.admin.call("CancelGrant", key_id=key, grant_id=grant.grant_id)
    with refused("KMS.NotFoundException", 400):
        guest.get_object(Bucket="keyed-shared", Key="ours")
    with refused("KMS.NotFoundException", 400):
        put(guest, "x")
    put(owner, "ours")
    assert owner.get_object(Bucket="keyed-shared", Key="theirs")["Body"].read() == TEXT


def shows_bucket_keys_by_the_sdk_of_obs(deployment):
    header, key = "x-obs-server-side-encryption-bucket-key-enabled", deployment.key("bucket-keys/obs")
    answered = lambda answer: dict((name.lower(), value) for name, value in answer.header)
    sse = lambda key: PutObjectHeader(sseHeader=SseKmsHeader(encryption="kms", key=key))
    with names_of_buckets(), contextlib.closing(obs_client(deployment)) as obs:
        sealed = {"x-obs-server-side-encryption": "kms", "x-obs-server-side-encryption-kms-key-id": key}
        assert obs.createBucket("keyed-obs", extensionHeaders={"x-obs-server-side-encryption": "kms", header: "true"}).status == 400
        project = {"x-obs-sse-kms-key-project-id": "p1"}
        done(obs.createBucket("keyed-obs", extensionHeaders={header: "true", **sealed, **project}))
        answers = [done(obs.putContent("keyed-obs", "default", TEXT))]
        asked = {header: "true"}
        assert obs.putContent("keyed-obs", "x", TEXT, headers=sse(None), extensionHeaders=asked).status == 400, "no key is named"
        assert obs.putContent("keyed-obs", "x", TEXT, headers=sse(key), extensionHeaders={header: "perhaps"}).status == 400
        answers += [done(obs.putContent("keyed-obs", "o", TEXT, headers=sse(key), extensionHeaders=asked))]
        answers += [done(obs.getObjectMetadata("keyed-obs", "o"))]
        assert all(answered(answer)["server-side-encryption-bucket-key-enabled"] == "true" for answer in answers), answers
        own = done(obs.putContent("keyed-obs", "own", TEXT, headers=sse(key), extensionHeaders={header: "false"}))
        assert "bucket-key-enabled" not in str(own.header)
        assert kept(deployment, "keyed-obs", "own") is None and kept(deployment, "keyed-obs", "default")
        for name in ("default", "o", "own"):
            assert done(obs.getObject("keyed-obs", name, loadStreamInMemory=True)).body.buffer == TEXT
