"""SSE-KMS: which key, which algorithm, and who may."""

import base64
import hashlib
import json
import time

import requests
from botocore.exceptions import ClientError

from .deployment import refused

TEXT = bytes(range(256)) * 1000
KMS = {"ServerSideEncryption": "aws:kms"}


def bucket(deployment, name, account=0):
    location = {"LocationConstraint": deployment.region}
    deployment.s3(account=account).create_bucket(Bucket=name, CreateBucketConfiguration=location)
    return name


def sm4(s3):
    """A client whose uploads ask for SM4; S3's own libraries have no word for it."""
    add = lambda params, **_: params["headers"].update({"x-amz-server-side-data-encryption": "SM4"})
    s3.meta.events.register("before-call.s3.PutObject", add)
    return s3


def shows_the_default_key_made_at_its_first_use(deployment):
    s3 = deployment.s3("uploader")
    bucket(deployment, "sealed")
    put = s3.put_object(Bucket="sealed", Key="o", Body=TEXT, **KMS)
    assert put["ServerSideEncryption"] == "aws:kms"
    domain = deployment.dew.account["domain_id"]
    assert put["SSEKMSKeyId"].startswith(f"arn:aws:kms:{deployment.region}:{domain}:key/")
    stored = deployment.streams("sealed")[-1].read_bytes()
    assert put["ETag"] == f'"{hashlib.md5(stored).hexdigest()}"', "MD5 of the ciphertext"
    assert TEXT[:64] not in stored
    got = deployment.s3("downloader").get_object(Bucket="sealed", Key="o")
    assert got["Body"].read() == TEXT and got["SSEKMSKeyId"] == put["SSEKMSKeyId"]
    assert got["ContentLength"] == len(TEXT)
    (listed,) = s3.list_objects_v2(Bucket="sealed")["Contents"]
    assert listed["Size"] == len(TEXT) and listed["ETag"] == put["ETag"]
    part = deployment.s3("downloader").get_object(Bucket="sealed", Key="o", Range="bytes=65530-131080")
    assert part["Body"].read() == TEXT[65530:131081]
    again = s3.put_object(Bucket="sealed", Key="p", Body=TEXT, ContentMD5=base64.b64encode(hashlib.md5(TEXT).digest()).decode(), **KMS)
    assert again["SSEKMSKeyId"] == put["SSEKMSKeyId"], "one default key"


def shows_custom_keys_in_all_forms_of_their_ids(deployment):
    s3, domain = deployment.s3(), deployment.dew.account["domain_id"]
    key = deployment.key("gateway/aes")
    for form in (key, f"{deployment.region}:{domain}:key/{key}", f"arn:aws:kms:{deployment.region}:{domain}:key/{key}"):
        put = s3.put_object(Bucket="sealed", Key="custom", Body=TEXT, SSEKMSKeyId=form, **KMS)
        assert put["SSEKMSKeyId"].endswith(f":key/{key}")
        assert s3.get_object(Bucket="sealed", Key="custom")["Body"].read() == TEXT
    for form in (f"eu-west-1:{domain}:key/{key}", f"{deployment.region}:strange:key/{key}", "0" * 8 + key[8:]):
        with refused("KMS.NotFoundException", 400):
            s3.put_object(Bucket="sealed", Key="x", Body=TEXT, SSEKMSKeyId=form, **KMS)
    with refused("InvalidArgument", 400):
        s3.put_object(Bucket="sealed", Key="x", Body=TEXT, SSEKMSKeyId="nonsense", **KMS)
    elsewhere = deployment.key("gateway/elsewhere", client=deployment.dew.elsewhere)
    with refused("KMS.NotFoundException", 400):
        s3.put_object(Bucket="sealed", Key="x", Body=TEXT, SSEKMSKeyId=elsewhere, **KMS)
    pair = deployment.key("gateway/rsa", "RSA_2048")
    with refused("InvalidArgument", 400):
        s3.put_object(Bucket="sealed", Key="x", Body=TEXT, SSEKMSKeyId=pair, **KMS)


def shows_sm4_beside_aes(deployment):
    s3 = sm4(deployment.s3())
    for spec in ("SM4", "AES_256"):
        key = deployment.key(f"gateway/for-sm4-{spec}", spec)
        put = s3.put_object(Bucket="sealed", Key="sm4", Body=TEXT, SSEKMSKeyId=key, **KMS)
        assert put["ResponseMetadata"]["HTTPHeaders"]["x-obs-server-side-data-encryption"] == "SM4"
        assert deployment.streams("sealed")[-1].read_bytes()[5] == 2
        got = s3.get_object(Bucket="sealed", Key="sm4")
        assert got["Body"].read() == TEXT
    with refused("InvalidArgument", 400):
        s3.put_object(Bucket="sealed", Key="x", Body=TEXT)


def shows_other_modes_refused(deployment):
    s3 = deployment.s3()
    for mode in ("AES256", "aws:kms:dsse"):
        with refused("NotImplemented", 501):
            s3.put_object(Bucket="sealed", Key="x", Body=TEXT, ServerSideEncryption=mode)
    with refused("NotImplemented", 501):
        s3.put_object(Bucket="sealed", Key="x", Body=TEXT, SSECustomerAlgorithm="AES256", SSECustomerKey="k" * 32)


def shows_a_buckets_encryption(deployment):
    s3 = deployment.s3()
    bucket(deployment, "default")
    with refused("ServerSideEncryptionConfigurationNotFoundError", 404):
        s3.get_bucket_encryption(Bucket="default")
    key = deployment.key("gateway/bucket")
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key}}
    s3.put_bucket_encryption(Bucket="default", ServerSideEncryptionConfiguration={"Rules": [rule]})
    (shown,) = s3.get_bucket_encryption(Bucket="default")["ServerSideEncryptionConfiguration"]["Rules"]
    assert shown["ApplyServerSideEncryptionByDefault"] == rule["ApplyServerSideEncryptionByDefault"]
    assert s3.put_object(Bucket="default", Key="o", Body=TEXT)["SSEKMSKeyId"].endswith(key)
    own = s3.put_object(Bucket="default", Key="o", Body=TEXT, **KMS)
    assert not own["SSEKMSKeyId"].endswith(key), "the object's header goes first, as a whole"
    s3.delete_bucket_encryption(Bucket="default")
    assert "ServerSideEncryption" not in s3.put_object(Bucket="default", Key="plain", Body=TEXT)
    for rule in ({"SSEAlgorithm": "AES256"}, {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": "nonsense"}):
        configuration = {"Rules": [{"ApplyServerSideEncryptionByDefault": rule}]}
        code = ("NotImplemented", 501) if rule["SSEAlgorithm"] == "AES256" else ("InvalidArgument", 400)
        with refused(*code):
            s3.put_bucket_encryption(Bucket="default", ServerSideEncryptionConfiguration=configuration)


def shows_copies_that_encrypt_anew(deployment):
    s3, itself = deployment.s3(), {"Bucket": "default", "Key": "plain"}
    key = deployment.key("gateway/copy")
    copied = s3.copy_object(Bucket="default", Key="plain", CopySource=itself, SSEKMSKeyId=key, **KMS)
    assert copied["SSEKMSKeyId"].endswith(key)
    before = deployment.streams("default")[-1].read_bytes()
    assert s3.get_object(Bucket="default", Key="plain")["Body"].read() == TEXT
    # Only the metadata is to change: the data is sealed anew all the same, under the same key.
    again = s3.copy_object(Bucket="default", Key="plain", CopySource=itself, MetadataDirective="REPLACE", Metadata={"a": "b"})
    assert again["SSEKMSKeyId"].endswith(key)
    assert deployment.streams("default")[-1].read_bytes()[:200] != before[:200]
    got = s3.get_object(Bucket="default", Key="plain")
    assert got["Body"].read() == TEXT and got["Metadata"] == {"a": "b"}


def shows_a_policy_that_denies_plain_uploads(deployment):
    s3 = deployment.s3()
    for name, statement in {
        "denied-s3": {
            "Principal": "*",
            "Action": "s3:PutObject",
            "Resource": "arn:aws:s3:::denied-s3/*",
            "Condition": {"StringNotEquals": {"s3:x-amz-server-side-encryption": "aws:kms"}},
        },
        "denied-obs": {
            "Principal": {"ID": ["*"]},
            "Action": ["PutObject"],
            "Resource": ["denied-obs/*"],
            "Condition": {"StringNotEquals": {"x-obs-server-side-encryption": "kms"}},
        },
    }.items():
        bucket(deployment, name)
        s3.put_bucket_policy(Bucket=name, Policy=json.dumps({"Statement": [{"Effect": "Deny", **statement}]}))
        with refused("AccessDenied", 403):
            s3.put_object(Bucket=name, Key="o", Body=TEXT)
        with refused("AccessDenied", 403):
            s3.copy_object(Bucket=name, Key="o", CopySource={"Bucket": "plain", "Key": "r"})
        with refused("AccessDenied", 403):
            s3.create_multipart_upload(Bucket=name, Key="o")
        s3.put_object(Bucket=name, Key="o", Body=TEXT, **KMS)
        assert s3.get_object(Bucket=name, Key="o")["Body"].read() == TEXT
        begun = s3.create_multipart_upload(Bucket=name, Key="parts", **KMS)
        upload = {"Bucket": name, "Key": "parts", "UploadId": begun["UploadId"]}
        parts = [{"PartNumber": 1, "ETag": s3.upload_part(PartNumber=1, Body=TEXT, **upload)["ETag"]}]
        done = [s3.complete_multipart_upload(MultipartUpload={"Parts": parts}, **upload)["ETag"] for _ in range(2)]
        assert done[0] == done[1], "the answer may have been lost"


def shows_policies_on_keys_by_their_ids(deployment):
    s3, (good, other) = deployment.s3(), (deployment.key(f"gateway/policy-{n}") for n in range(2))
    bucket(deployment, "own-key")
    domain = deployment.dew.account["domain_id"]
    named = f"arn:aws:kms:{deployment.region}:{domain}:key/{good}"
    condition = {"StringNotEquals": {"s3:x-amz-server-side-encryption-aws-kms-key-id": named}}
    deny = {"Effect": "Deny", "Principal": "*", "Action": "s3:PutObject", "Resource": "own-key/*", "Condition": condition}
    s3.put_bucket_policy(Bucket="own-key", Policy=json.dumps({"Statement": [deny]}))
    for key in (good, named, named.removeprefix("arn:aws:kms:")):
        s3.put_object(Bucket="own-key", Key="o", Body=TEXT, SSEKMSKeyId=key, **KMS)
        begun = s3.create_multipart_upload(Bucket="own-key", Key="p", SSEKMSKeyId=key, **KMS)
        s3.upload_part(Bucket="own-key", Key="p", UploadId=begun["UploadId"], PartNumber=1, Body=TEXT)
    for wrong in ({"SSEKMSKeyId": other, **KMS}, {"SSEKMSKeyId": good.upper(), **KMS}, KMS, {}):
        with refused("AccessDenied", 403):
            s3.put_object(Bucket="own-key", Key="o", Body=TEXT, **wrong)


def shows_keys_that_cannot_be_used(deployment):
    s3, dew = deployment.s3(), deployment.dew.admin
    key = deployment.key("gateway/disabled")
    s3.put_object(Bucket="sealed", Key="disabled", Body=TEXT, SSEKMSKeyId=key, **KMS)
    dew.call("DisableKey", key_id=key)
    with refused("KMS.DisabledException", 400):
        s3.put_object(Bucket="sealed", Key="x", Body=TEXT, SSEKMSKeyId=key, **KMS)
    with refused("KMS.DisabledException", 400):
        s3.get_object(Bucket="sealed", Key="disabled")
    s3.head_object(Bucket="sealed", Key="disabled")
    dew.call("EnableKey", key_id=key)
    assert s3.get_object(Bucket="sealed", Key="disabled")["Body"].read() == TEXT
    dew.call("DeleteKey", key_id=key, pending_days="7")
    with refused("KMS.KMSInvalidStateException", 400):
        s3.get_object(Bucket="sealed", Key="disabled")


def shows_permissions_on_both_sides(deployment):
    for name in ("nobody", "uploader"):
        with refused("AccessDenied", 403):
            deployment.s3(name).get_object(Bucket="sealed", Key="o")
    with refused("AccessDenied", 403):
        deployment.s3("nobody").put_object(Bucket="sealed", Key="x", Body=TEXT, **KMS)
    # The reader is a user with all permissions of the KMS and the store's permission to read alone.
    reader = deployment.s3("reader")
    assert reader.get_object(Bucket="sealed", Key="o")["Body"].read() == TEXT
    with refused("AccessDenied", 403):
        reader.put_object(Bucket="sealed", Key="x", Body=TEXT, **KMS)
    with refused("AccessDenied", 403):
        reader.get_bucket_encryption(Bucket="sealed")


def shows_another_account_with_bucket_object_and_key(deployment):
    owner, other = deployment.s3(), deployment.s3(account=1)
    key = deployment.key("gateway/shared")
    bucket(deployment, "shared")
    owner.put_object(Bucket="shared", Key="o", Body=TEXT, SSEKMSKeyId=key, **KMS)
    owner.put_object(Bucket="shared", Key="default", Body=TEXT, **KMS)
    with refused("AccessDenied", 403):
        other.get_object(Bucket="shared", Key="o")
    domain = deployment.dew.other_account["domain_id"]
    allow = {"Effect": "Allow", "Principal": {"ID": [f"domain/{domain}"]}, "Action": ["HeadBucket", "GetObject", "PutObject"], "Resource": ["shared", "shared/*"]}
    owner.put_bucket_policy(Bucket="shared", Policy=json.dumps({"Statement": [allow]}))
    with refused("KMS.NotFoundException", 400):
        other.get_object(Bucket="shared", Key="o")
    grantee = deployment.dew.user(deployment.dew.other_account, "admin")["user_id"]
    operations = ["create-datakey", "decrypt-datakey", "describe-key"]
    grant = deployment.dew.admin.call("CreateGrant", key_id=key, grantee_principal=grantee, operations=operations)
    assert other.get_object(Bucket="shared", Key="o")["Body"].read() == TEXT
    put = other.put_object(Bucket="shared", Key="theirs", Body=TEXT, SSEKMSKeyId=key, **KMS)
    assert put["SSEKMSKeyId"].endswith(key)
    assert owner.get_object(Bucket="shared", Key="theirs")["Body"].read() == TEXT
    with refused("KMS.NotFoundException", 400):
        other.get_object(Bucket="shared", Key="default")
    deployment.dew.admin.call("CancelGrant", key_id=key, grant_id=grant.grant_id)
    with refused("KMS.NotFoundException", 400):
        other.get_object(Bucket="shared", Key="o")


def shows_that_https_is_needed(deployment):
    plain, secure = deployment.s3(plain=True), deployment.s3()
    plain.put_object(Bucket="plain", Key="http", Body=TEXT)
    assert plain.get_object(Bucket="plain", Key="http")["Body"].read() == TEXT
    with refused("AccessDenied", 403):
        plain.put_object(Bucket="sealed", Key="x", Body=TEXT, **KMS)
    with refused("AccessDenied", 403):
        plain.get_object(Bucket="sealed", Key="o")
    with refused("AccessDenied", 403):
        plain.copy_object(Bucket="plain", Key="x", CopySource={"Bucket": "sealed", "Key": "o"})
    with refused("403", 403):
        plain.head_object(Bucket="sealed", Key="o")
    with refused("AccessDenied", 403):
        plain.get_bucket_encryption(Bucket="plain")
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms"}}
    with refused("AccessDenied", 403):
        plain.put_bucket_encryption(Bucket="plain", ServerSideEncryptionConfiguration={"Rules": [rule]})
    with refused("ServerSideEncryptionConfigurationNotFoundError", 404):
        secure.get_bucket_encryption(Bucket="plain")


def shows_damage_refused_before_a_wrong_byte(deployment):
    s3 = deployment.s3()
    s3.put_object(Bucket="sealed", Key="harmed", Body=TEXT, **KMS)
    stream = deployment.streams("sealed")[-1]
    whole = stream.read_bytes()
    sealed = 65536 + 16
    harms = {
        "a byte": whole[:100] + bytes([whole[100] ^ 1]) + whole[101:],
        "the salt": whole[:10] + bytes([whole[10] ^ 1]) + whole[11:],
        "the last byte": whole[:-1],
        "the last segment": whole[: 39 + 3 * sealed],
        "all but the header": whole[:39],
        "everything": b"",
        "an exchange": whole[:39] + whole[39 + sealed : 39 + 2 * sealed] + whole[39 : 39 + sealed] + whole[39 + 2 * sealed :],
    }
    for what, harmed in harms.items():
        stream.write_bytes(harmed)
        try:
            s3.get_object(Bucket="sealed", Key="harmed")
        except ClientError as error:
            assert error.response["Error"]["Code"] == "InternalError", (what, error)
        else:
            raise AssertionError(f"{what} was not seen")
    # Where the first bytes were sent before the damage is met, they are right and the body ends too early.
    stream.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    big = bytes(1 << 20)
    stream.write_bytes(whole)
    s3.put_object(Bucket="sealed", Key="late", Body=big, **KMS)
    stream = deployment.streams("sealed")[-1]
    harmed = bytearray(stream.read_bytes())
    harmed[-1] ^= 1
    stream.write_bytes(harmed)
    try:
        read = s3.get_object(Bucket="sealed", Key="late")["Body"].read()
    except Exception as error:
        assert "IncompleteRead" in repr(error) or "Connection" in repr(error), error
    else:
        raise AssertionError(f"{len(read)} bytes were answered as if they were whole")
    assert s3.get_object(Bucket="sealed", Key="late", Range="bytes=0-99")["Body"].read() == big[:100]
    assert s3.get_object(Bucket="sealed", Key="harmed")["Body"].read() == TEXT


def shows_pre_signed_urls(deployment):
    s3, ca = deployment.s3(), deployment.description["ca_cert"]
    put = s3.generate_presigned_url("put_object", {"Bucket": "sealed", "Key": "url", **KMS}, ExpiresIn=60)
    headers = {"x-amz-server-side-encryption": "aws:kms"}
    assert requests.put(put, data=TEXT, headers=headers, verify=ca).status_code == 200
    for wrong in ({}, {**headers, "x-amz-server-side-encryption-aws-kms-key-id": deployment.key("gateway/url")}):
        assert requests.put(put, data=TEXT, headers=wrong, verify=ca).status_code == 403, wrong
    get = s3.generate_presigned_url("get_object", {"Bucket": "sealed", "Key": "url"}, ExpiresIn=60)
    assert requests.get(get, verify=ca).content == TEXT
    assert requests.get(get.replace("url?", "o?"), verify=ca).status_code == 403
    assert requests.get(get, headers={"x-amz-request-payer": "requester"}, verify=ca).status_code == 403
    # A header with a signature that nobody has looked at does not make a copy of what the URL's bearer may only write.
    claim = "AWS4-HMAC-SHA256 Credential=a/20261130/r/s3/aws4_request, SignedHeaders=host;x-amz-copy-source, Signature=" + "0" * 64
    put = s3.generate_presigned_url("put_object", {"Bucket": "sealed", "Key": "url"}, ExpiresIn=60)
    for wrong in ({"Authorization": claim, "x-amz-copy-source": "sealed/o"}, {"x-amz-copy-source": "sealed/o"}, {"Authorization": claim}):
        assert requests.put(put, headers=wrong, verify=ca).status_code in (400, 403), wrong
    assert requests.get(get, verify=ca).content == TEXT
    long = s3.generate_presigned_url("get_object", {"Bucket": "sealed", "Key": "url"}, ExpiresIn=604801)
    assert requests.get(long, verify=ca).status_code == 400
    short = s3.generate_presigned_url("get_object", {"Bucket": "sealed", "Key": "url"}, ExpiresIn=1)
    deadline = time.monotonic() + 30
    while requests.get(short, verify=ca).status_code != 403:
        assert time.monotonic() < deadline, "it does not expire"
        time.sleep(0.2)


def shows_an_encryption_context(deployment):
    s3 = deployment.s3()
    context = lambda **pairs: base64.b64encode(json.dumps(pairs).encode()).decode()
    s3.put_object(Bucket="sealed", Key="context", Body=TEXT, SSEKMSEncryptionContext=context(project="x"), **KMS)
    assert s3.get_object(Bucket="sealed", Key="context")["Body"].read() == TEXT
    with refused("InvalidArgument", 400):
        s3.put_object(Bucket="sealed", Key="x", Body=TEXT, SSEKMSEncryptionContext=context(bucket="x"), **KMS)
    # As long as the key service takes it, with bucket and object: kind and count, then each text with its length before it.
    longest = 8192 - 5 - 6 * 4 - len("bucket" + "sealed" + "object" + "x" + "a")
    s3.put_object(Bucket="sealed", Key="x", SSEKMSEncryptionContext=context(a="x" * longest), **KMS)
    for call in (s3.put_object, s3.create_multipart_upload):
        for length in (longest + 1, 17000):
            with refused("InvalidArgument", 400):
                call(Bucket="sealed", Key="x", SSEKMSEncryptionContext=context(a="x" * length), **KMS)
        told = {"Metadata": {"m": "v" * 8191}, "CacheControl": "x" * 100}
        with refused("MetadataTooLarge", 400):
            call(Bucket="sealed", Key="x", SSEKMSEncryptionContext=context(a="x" * longest), **told, **KMS)
