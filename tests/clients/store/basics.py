"""Buckets and plain objects."""

import base64
import datetime
import hashlib
import json
import time
import zlib

import requests
from botocore.exceptions import ClientError

from .deployment import refused, signed

TEXT = bytes(range(256)) * 1000


def shows_buckets_made_listed_and_removed(deployment):
    s3 = deployment.s3()
    location = {"LocationConstraint": deployment.region}
    s3.create_bucket(Bucket="first", CreateBucketConfiguration=location)
    with refused("BucketAlreadyOwnedByYou", 409):
        s3.create_bucket(Bucket="first", CreateBucketConfiguration=location)
    with refused("BucketAlreadyExists", 409):
        deployment.s3(account=1).create_bucket(Bucket="first", CreateBucketConfiguration=location)
    with refused("IllegalLocationConstraintException", 400):
        s3.create_bucket(Bucket="other", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    listed = s3.list_buckets()
    assert [bucket["Name"] for bucket in listed["Buckets"]] == ["first"]
    age = datetime.datetime.now(datetime.timezone.utc) - listed["Buckets"][0]["CreationDate"]
    assert abs(age) < datetime.timedelta(minutes=5)
    assert deployment.s3(account=1).list_buckets()["Buckets"] == []
    assert s3.head_bucket(Bucket="first")["BucketRegion"] == deployment.region
    assert s3.get_bucket_location(Bucket="first")["LocationConstraint"] == deployment.region
    with refused("404", 404):
        s3.head_bucket(Bucket="none")
    s3.put_object(Bucket="first", Key="o", Body=b"text")
    with refused("BucketNotEmpty", 409):
        s3.delete_bucket(Bucket="first")
    s3.delete_object(Bucket="first", Key="o")
    s3.delete_bucket(Bucket="first")
    with refused("NoSuchBucket", 404):
        s3.list_objects_v2(Bucket="first")


def shows_plain_objects_with_all_that_belongs_to_them(deployment):
    s3 = deployment.s3()
    s3.create_bucket(Bucket="plain", CreateBucketConfiguration={"LocationConstraint": deployment.region})
    told = {"ContentType": "text/x-test", "CacheControl": "no-store", "ContentDisposition": "inline", "Metadata": {"a": "b"}}
    put = s3.put_object(Bucket="plain", Key="dir/ö a+b&c%.txt", Body=TEXT, **told)
    assert put["ETag"] == f'"{hashlib.md5(TEXT).hexdigest()}"'
    assert "ServerSideEncryption" not in put
    got = s3.get_object(Bucket="plain", Key="dir/ö a+b&c%.txt")
    assert got["Body"].read() == TEXT and got["ETag"] == put["ETag"]
    head = s3.head_object(Bucket="plain", Key="dir/ö a+b&c%.txt")
    for answer in (got, head):
        assert {name: answer[name] for name in told} == told and answer["ContentLength"] == len(TEXT)
    s3.put_object(Bucket="plain", Key="empty")
    assert s3.get_object(Bucket="plain", Key="empty")["Body"].read() == b""
    with refused("NoSuchKey", 404):
        s3.get_object(Bucket="plain", Key="none")
    with refused("404", 404):
        s3.head_object(Bucket="plain", Key="none")


def shows_that_every_answer_names_its_request(deployment):
    s3, named = deployment.s3(), set()
    for _ in range(2):
        named.add(s3.head_bucket(Bucket="plain")["ResponseMetadata"]["RequestId"])
        try:
            s3.get_object(Bucket="plain", Key="none")
        except ClientError as error:
            told = error.response["ResponseMetadata"]
            assert error.response["Error"]["Resource"] == "/plain/none" and told["HostId"], error.response
            assert told["RequestId"] == told["HTTPHeaders"]["x-amz-request-id"]
            named.add(told["RequestId"])
    assert len(named) == 4 and all(len(name) == 32 for name in named), named


def shows_ranges_and_conditions(deployment):
    s3 = deployment.s3()
    s3.put_object(Bucket="plain", Key="r", Body=TEXT)
    for asked, expected in [
        ("bytes=2-4", TEXT[2:5]),
        ("bytes=65530-65545", TEXT[65530:65546]),
        ("bytes=255990-", TEXT[255990:]),
        ("bytes=-7", TEXT[-7:]),
        ("bytes=255999-999999", TEXT[255999:]),
    ]:
        got = s3.get_object(Bucket="plain", Key="r", Range=asked)
        assert got["Body"].read() == expected and got["ResponseMetadata"]["HTTPStatusCode"] == 206
        assert got["ContentRange"].endswith(f"/{len(TEXT)}")
    with refused("InvalidRange", 416):
        s3.get_object(Bucket="plain", Key="r", Range="bytes=256000-")
    with refused("InvalidRange", 416):
        s3.get_object(Bucket="plain", Key="empty", Range="bytes=-5")
    etag = s3.head_object(Bucket="plain", Key="r")["ETag"]
    for known, expected in [(etag, TEXT[2:5]), ('"0"', TEXT), (f"W/{etag}", TEXT)]:
        url = s3.generate_presigned_url("get_object", {"Bucket": "plain", "Key": "r"})
        asked = {"Range": "bytes=2-4", "If-Range": known}
        got = requests.get(url, headers=asked, verify=deployment.description["ca_cert"])
        assert (got.status_code, got.content) == (206 if known == etag else 200, expected), known
    s3.get_object(Bucket="plain", Key="r", IfMatch=etag)
    with refused("PreconditionFailed", 412):
        s3.get_object(Bucket="plain", Key="r", IfMatch='"0"')
    with refused("304", 304):
        s3.get_object(Bucket="plain", Key="r", IfNoneMatch=etag)
    for operation in ("get_object", "head_object"):
        url = s3.generate_presigned_url(operation, {"Bucket": "plain", "Key": "r"})
        ask = requests.get if operation == "get_object" else requests.head
        got = ask(url, headers={"If-None-Match": etag}, verify=deployment.description["ca_cert"])
        assert (got.status_code, got.content, got.headers["ETag"]) == (304, b"", etag) and got.headers["Last-Modified"]


def shows_objects_modified_when_their_bodies_had_come(deployment):
    s3, sent = deployment.s3(), []

    def body():
        yield b"a"
        time.sleep(1.5)
        sent.append(int(time.time()))
        yield b"b"

    url = s3.generate_presigned_url("put_object", {"Bucket": "plain", "Key": "slow"})
    assert requests.put(url, data=body(), verify=deployment.description["ca_cert"]).status_code == 200
    assert s3.head_object(Bucket="plain", Key="slow")["LastModified"].timestamp() >= sent[0]


def shows_that_nothing_happens_where_a_guard_is_not_kept(deployment):
    s3, own = deployment.s3(), deployment.account(0)["domain_id"]
    other = deployment.account(1)["domain_id"]
    guarded = {"Bucket": "plain", "Key": "guarded"}
    for guard in ({"IfMatchSize": 1}, {"IfMatchLastModifiedTime": datetime.datetime(2026, 11, 30)}, {"IfMatch": '"0"'}):
        s3.put_object(**guarded, Body=b"text")
        with refused("NotImplemented", 501):
            s3.delete_object(**guarded, **guard)
    for guard in ({"ETag": '"0"'}, {"Size": 1}, {"LastModifiedTime": datetime.datetime(2026, 11, 30)}):
        told = s3.delete_objects(Bucket="plain", Delete={"Objects": [{"Key": "guarded", **guard}]})
        assert [error["Code"] for error in told["Errors"]] == ["NotImplemented"], guard
    for ask, more in [
        (s3.put_object, {**guarded, "Body": b"other"}),
        (s3.get_object, guarded),
        (s3.delete_object, guarded),
        (s3.create_multipart_upload, guarded),
        (s3.copy_object, {**guarded, "CopySource": "plain/guarded"}),
        (s3.list_objects_v2, {"Bucket": "plain"}),
        (s3.put_bucket_policy, {"Bucket": "plain", "Policy": "{}"}),
        (s3.delete_bucket, {"Bucket": "plain"}),
        (s3.get_bucket_encryption, {"Bucket": "plain"}),
    ]:
        with refused("AccessDenied", 403):
            ask(**more, ExpectedBucketOwner=other)
    with refused("AccessDenied", 403):
        s3.copy_object(**guarded, CopySource="plain/r", ExpectedSourceBucketOwner=other)
    assert s3.get_object(**guarded, ExpectedBucketOwner=own)["Body"].read() == b"text"
    s3.copy_object(**guarded, CopySource="plain/r", ExpectedBucketOwner=own, ExpectedSourceBucketOwner=own)
    s3.delete_object(**guarded, ExpectedBucketOwner=own)


def shows_long_requests_refused(deployment):
    s3 = deployment.s3()
    longest = [{"Key": f"{number:04}" + "k" * 1020} for number in range(1000)]
    told = s3.delete_objects(Bucket="plain", Delete={"Objects": longest, "Quiet": True})
    assert "Errors" not in told, told
    with refused("MaxMessageLengthExceeded", 400):
        s3.delete_objects(Bucket="plain", Delete={"Objects": [{"Key": "k" * 1024}] * 2000})


def shows_bodies_that_are_not_as_promised(deployment):
    s3 = deployment.s3()
    with refused("BadDigest", 400):
        s3.put_object(Bucket="plain", Key="bad", Body=TEXT, ContentMD5=base64.b64encode(bytes(16)).decode())
    with refused("BadDigest", 400):
        s3.put_object(Bucket="plain", Key="bad", Body=TEXT, ChecksumSHA256=base64.b64encode(bytes(32)).decode())
    # The others need a library that these tests do without.
    for algorithm in ("CRC32", "SHA1", "SHA256"):
        s3.put_object(Bucket="plain", Key="good", Body=TEXT, ChecksumAlgorithm=algorithm)
    with refused("404", 404):
        s3.head_object(Bucket="plain", Key="bad")
    for unkept in ({"ACL": "public-read"}, {"StorageClass": "GLACIER"}, {"Tagging": "a=b"}, {"IfNoneMatch": "*"}):
        with refused("NotImplemented", 501):
            s3.put_object(Bucket="plain", Key="bad", Body=TEXT, **unkept)


def shows_short_bodies_that_are_not_as_promised(deployment):
    deployment.s3().put_object(Bucket="plain", Key="kept", Body=TEXT)
    delete = b"<Delete><Object><Key>kept</Key></Object></Delete>"
    policy = json.dumps({"Statement": [{"Effect": "Deny", "Principal": {"ID": ["*"]}, "Action": ["PutObject"], "Resource": ["plain/*"]}]})
    of = lambda body: base64.b64encode(hashlib.md5(body).digest()).decode()
    crc = lambda body: base64.b64encode(zlib.crc32(body).to_bytes(4)).decode()
    for method, path, body in (("POST", "plain?delete", delete), ("PUT", "plain?policy", policy.encode())):
        for headers, code in (
            ({"Content-MD5": of(b"other")}, "BadDigest"),
            ({"Content-MD5": "other"}, "InvalidDigest"),
            ({"x-amz-checksum-crc32": crc(b"other")}, "BadDigest"),
            ({"Content-MD5": of(body), "x-amz-checksum-crc32": crc(b"other")}, "BadDigest"),
        ):
            answer = signed(deployment, method, path, body, **headers)
            assert answer.status_code == 400 and f"<Code>{code}</Code>" in answer.text, (path, headers, answer.text)
    # However its path is written.
    answer = signed(deployment, "PUT", "plain%2F?policy", policy.encode(), **{"Content-MD5": of(b"other")})
    assert answer.status_code in (400, 403), answer.text
    altered = signed(deployment, "POST", "plain?delete", delete, sent=delete.replace(b"kept", b"good"))
    assert altered.status_code == 400 and "<Code>XAmzContentSHA256Mismatch</Code>" in altered.text, altered.text
    assert deployment.s3().get_object(Bucket="plain", Key="kept")["Body"].read() == TEXT
    with refused("NoSuchBucketPolicy", 404):
        deployment.s3().get_bucket_policy(Bucket="plain")
    # Without its length a body would be read whole before it is known how long it is.
    endless = iter([delete, b" " * (3 << 20)])
    answer = signed(deployment, "POST", "plain?delete", endless, is_body_signed=False)
    assert answer.status_code == 411 and "<Code>MissingContentLength</Code>" in answer.text, answer.text
    as_promised = {"Content-MD5": of(delete), "x-amz-checksum-crc32": crc(delete)}
    assert signed(deployment, "POST", "plain?delete", delete, **as_promised).status_code == 200
    with refused("404", 404):
        deployment.s3().head_object(Bucket="plain", Key="kept")


def shows_bodies_in_chunks(deployment):
    big, crc = b"x" * (20 << 20), lambda body: base64.b64encode(zlib.crc32(body).to_bytes(4)).decode()
    trailer = lambda body: f"x-amz-checksum-crc32:{crc(body)}\r\n"
    # A client may send all of an object as one chunk.
    assert deployment.put_in_chunks("plain/chunks", [big], len(big), trailer(big)).status_code == 200
    assert deployment.s3().get_object(Bucket="plain", Key="chunks")["Body"].read() == big
    assert deployment.put_in_chunks("plain/chunks", [b"a", b"bc"], 3, trailer(b"abc")).status_code == 200
    for told in (deployment.s3().get_object, deployment.s3().head_object):
        assert "ContentEncoding" not in told(Bucket="plain", Key="chunks"), "the body's, not the object's"
    for chunks, length, behind, code in [
        ([b"abc"], 3, trailer(b"abd"), "BadDigest"),
        ([b"abc"], 3, "", "InvalidRequest"),
        ([b"abc"], 3, "x-amz-checksum-sha1:AAAA\r\n", "InvalidRequest"),
        ([b"abc"], 4, trailer(b"abc"), "IncompleteBody"),
        ([b"abc"], 2, trailer(b"abc"), "IncompleteBody"),
    ]:
        for with_length in (True, False):
            answer = deployment.put_in_chunks("plain/chunks", chunks, length, behind, with_length)
            assert answer.status_code == 400 and f"<Code>{code}</Code>" in answer.text, (code, answer.text)
    assert deployment.s3().get_object(Bucket="plain", Key="chunks")["Body"].read() == b"abc"


def shows_listings_of_both_versions(deployment):
    s3 = deployment.s3()
    s3.create_bucket(Bucket="many", CreateBucketConfiguration={"LocationConstraint": deployment.region})
    keys = [f"d{group}/k {number}" for group in range(3) for number in range(4)] + ["z"]
    for key in keys:
        s3.put_object(Bucket="many", Key=key, Body=key.encode())
    for version in ("list_objects", "list_objects_v2"):
        pages = s3.get_paginator(version).paginate(Bucket="many", PaginationConfig={"PageSize": 5})
        found = [entry for page in pages for entry in page.get("Contents", [])]
        assert [entry["Key"] for entry in found] == keys, version
        assert [entry["Size"] for entry in found] == [len(key) for key in keys]
        pages = s3.get_paginator(version).paginate(Bucket="many", Delimiter="/", PaginationConfig={"PageSize": 2})
        pages = list(pages)
        assert [one["Prefix"] for page in pages for one in page.get("CommonPrefixes", [])] == ["d0/", "d1/", "d2/"]
        assert [one["Key"] for page in pages for one in page.get("Contents", [])] == ["z"]
        page = getattr(s3, version)(Bucket="many", Prefix="d1/", Delimiter="/", MaxKeys=2)
        assert [one["Key"] for one in page["Contents"]] == keys[4:6] and page["IsTruncated"]
    deleted = s3.delete_objects(Bucket="many", Delete={"Objects": [{"Key": key} for key in keys]})
    assert len(deleted["Deleted"]) == len(keys) and "Errors" not in deleted
    s3.delete_bucket(Bucket="many")


def shows_copies_of_plain_objects(deployment):
    s3 = deployment.s3()
    source = {"Bucket": "plain", "Key": "dir/ö a+b&c%.txt"}
    s3.copy_object(Bucket="plain", Key="copy", CopySource=source)
    got = s3.get_object(Bucket="plain", Key="copy")
    assert got["Body"].read() == TEXT and got["Metadata"] == {"a": "b"} and got["ContentType"] == "text/x-test"
    s3.copy_object(Bucket="plain", Key="copy", CopySource=source, MetadataDirective="REPLACE", Metadata={"c": "d"})
    assert s3.head_object(Bucket="plain", Key="copy")["Metadata"] == {"c": "d"}
    with refused("PreconditionFailed", 412):
        s3.copy_object(Bucket="plain", Key="copy", CopySource=source, CopySourceIfMatch='"0"')
    with refused("NoSuchKey", 404):
        s3.copy_object(Bucket="plain", Key="copy", CopySource={"Bucket": "plain", "Key": "none"})


def shows_policies_kept_and_refused(deployment):
    s3 = deployment.s3()
    with refused("NoSuchBucketPolicy", 404):
        s3.get_bucket_policy(Bucket="plain")
    policy = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Deny", "Principal": "*", "Action": "s3:PutObject", "Resource": "arn:aws:s3:::plain/locked/*"}],
    }
    s3.put_bucket_policy(Bucket="plain", Policy=json.dumps(policy))
    assert json.loads(s3.get_bucket_policy(Bucket="plain")["Policy"]) == policy
    with refused("AccessDenied", 403):
        s3.put_object(Bucket="plain", Key="locked/o", Body=b"")
    s3.put_object(Bucket="plain", Key="open", Body=b"")
    s3.delete_bucket_policy(Bucket="plain")
    s3.put_object(Bucket="plain", Key="locked/o", Body=b"")
    policy["Statement"][0]["Action"] = "s3:PUTOBJECT"
    s3.put_bucket_policy(Bucket="plain", Policy=json.dumps(policy))
    with refused("AccessDenied", 403):
        s3.put_object(Bucket="plain", Key="locked/o", Body=b"")
    policy["Statement"][0]["Action"] = "s3:PutObjekt"
    with refused("NotImplemented", 501):
        s3.put_bucket_policy(Bucket="plain", Policy=json.dumps(policy))
    s3.delete_bucket_policy(Bucket="plain")
    policy["Statement"][0]["Action"] = "s3:PutObject"
    policy["Statement"][0]["Condition"] = {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}
    with refused("NotImplemented", 501):
        s3.put_bucket_policy(Bucket="plain", Policy=json.dumps(policy))
    with refused("MalformedPolicy", 400):
        s3.put_bucket_policy(Bucket="plain", Policy="{}")


def shows_what_is_not_offered(deployment):
    s3 = deployment.s3()
    s3.put_object(Bucket="plain", Key="stays", Body=TEXT)
    for method, path in [
        ("PUT", "plain/stays?metadata"),
        ("PUT", "plain/stays?truncate&length=1"),
        ("PUT", "plain/stays?uploadId=x"),
        ("PUT", "plain/stays?renameObject"),
        ("DELETE", "plain/stays?x-obs-accesslabel"),
        ("DELETE", "plain?directcoldaccess"),
        ("PUT", "new?quota"),
        ("GET", "plain?storageinfo"),
    ]:
        answer = signed(deployment, method, path)
        assert answer.status_code == 501 and "<Code>NotImplemented</Code>" in answer.text, (method, path, answer.text)
    assert s3.get_object(Bucket="plain", Key="stays")["Body"].read() == TEXT
    with refused("404", 404):
        s3.head_bucket(Bucket="new")
    for call in (s3.get_bucket_versioning, s3.get_bucket_cors, s3.get_bucket_acl, s3.get_bucket_tagging):
        try:
            call(Bucket="plain")
        except ClientError as error:
            assert error.response["Error"]["Code"] == "NotImplemented", error
        else:
            raise AssertionError(f"{call} is offered")
