"""The OBS face by OBS' own SDK, with each of its three signatures, and with none named."""

import contextlib
import json
import urllib.parse

import requests
from obs import CompleteMultipartUploadRequest, CompletePart, CopyObjectHeader, DeleteObjectsRequest, GetObjectHeader
from obs import Object, ObsClient, PutObjectHeader, SseKmsHeader

from .names import names_of_buckets

TEXT = bytes(range(256)) * 1000


def client(deployment, name="admin", signature="obs"):
    """A client of one signature; without one, it is told nothing but where the gateway is, and asks it."""
    ak, sk, token = deployment.keys_of(name)
    named = {
        "signature": signature,
        "path_style": signature != "obs",
        "is_signature_negotiation": False,
        "region": deployment.region,
    }
    return ObsClient(
        access_key_id=ak,
        secret_access_key=sk,
        security_token=token,
        server=deployment.description["https"],
        ssl_verify=deployment.description["ca_cert"],
        max_retry_count=0,
        **(named if signature else {}),
    )


def done(answer):
    assert answer.status < 300, f"{answer.status} {answer.errorCode} {answer.errorMessage}"
    return answer


def failed(answer, status, code):
    assert (answer.status, answer.errorCode) == (status, code), f"{answer.status} {answer.errorCode} {answer.errorMessage}"
    assert len(answer.requestId) == 32, answer.requestId


def fetched(deployment, url, method="GET", data=None, **headers):
    """What a URL answers. The certificate's name with a star is not good for every library."""
    named = urllib.parse.urlsplit(url).netloc
    own = urllib.parse.urlsplit(deployment.description["https"]).netloc
    url, headers = url.replace(named, own, 1), {"Host": named, **headers}
    return requests.request(method, url, data=data, headers=headers, verify=deployment.description["ca_cert"])


def words_of(signature):
    """The headers of a mode and of a key, and the word for the mode."""
    if signature in ("v2", "v4"):
        mode = "x-amz-server-side-encryption"
        return mode, f"{mode}-aws-kms-key-id", "aws:kms"
    mode = "x-obs-server-side-encryption"
    return mode, f"{mode}-kms-key-id", "kms"


def shown(answer):
    return {name.lower(): value for name, value in answer.header}


def objects(deployment, obs, bucket, signature, sse):
    # The SDK takes the prefixes off.
    put = shown(done(obs.putContent(bucket, "dir/ö a", TEXT, headers=PutObjectHeader(sseHeader=sse))))
    assert put["server-side-encryption"] == words_of(signature)[2] and put["request-id"], put
    got = done(obs.getObject(bucket, "dir/ö a", loadStreamInMemory=True))
    assert got.body.buffer == TEXT, signature
    part = done(obs.getObject(bucket, "dir/ö a", headers=GetObjectHeader(range="2-4"), loadStreamInMemory=True))
    assert part.body.buffer == TEXT[2:5]
    assert done(obs.getObjectMetadata(bucket, "dir/ö a")).body.contentLength == len(TEXT)
    listed = done(obs.listObjects(bucket)).body
    assert [(one.key, one.size) for one in listed.contents] == [("dir/ö a", len(TEXT))]
    done(obs.copyObject(bucket, "dir/ö a", bucket, "copy", headers=CopyObjectHeader(destSseHeader=sse)))
    begun = done(obs.initiateMultipartUpload(bucket, "parts", sseHeader=sse)).body
    etags = [done(obs.uploadPart(bucket, "parts", number, begun.uploadId, content=TEXT)).body.etag for number in (1, 2)]
    etags.append(done(obs.copyPart(bucket, "parts", 3, begun.uploadId, f"{bucket}/copy")).body.etag)
    assert [one.partNumber for one in done(obs.listParts(bucket, "parts", begun.uploadId)).body.parts] == [1, 2, 3]
    parts = CompleteMultipartUploadRequest([CompletePart(number, etag) for number, etag in enumerate(etags, 1)])
    done(obs.completeMultipartUpload(bucket, "parts", begun.uploadId, parts))
    assert done(obs.getObject(bucket, "parts", loadStreamInMemory=True)).body.buffer == TEXT * 3
    failed(obs.getObject(bucket, "none"), 404, "NoSuchKey")


def copies_onto_itself(deployment, obs, bucket, signature, sse):
    """A plain object becomes an encrypted one in its place, and one that is encrypted gets another data key."""
    itself = lambda header: done(obs.copyObject(bucket, "itself", bucket, "itself", headers=header))
    done(obs.putContent(bucket, "itself", TEXT))
    assert deployment.streams(bucket)[-1].read_bytes() == TEXT
    copied = shown(itself(CopyObjectHeader(destSseHeader=sse)))
    assert copied["server-side-encryption"] == words_of(signature)[2], copied
    before = deployment.streams(bucket)[-1].read_bytes()
    itself(CopyObjectHeader(destSseHeader=sse))
    after = deployment.streams(bucket)[-1].read_bytes()
    assert before[:200] != TEXT[:200] and before[:200] != after[:200]
    assert done(obs.getObject(bucket, "itself", loadStreamInMemory=True)).body.buffer == TEXT


def configures(deployment, obs, bucket, signature, key):
    is_obs = signature not in ("v2", "v4")
    missing = "NoSuchEncryptionConfiguration" if is_obs else "ServerSideEncryptionConfigurationNotFoundError"
    failed(obs.getBucketEncryption(bucket), 404, missing)
    done(obs.setBucketEncryption(bucket, "kms", key))
    told = done(obs.getBucketEncryption(bucket)).body
    assert (told.encryption, told.key) == ("kms", key)
    by_default = shown(done(obs.putContent(bucket, "default", TEXT)))
    assert by_default["server-side-encryption"] == words_of(signature)[2], by_default
    done(obs.deleteBucketEncryption(bucket))
    failed(obs.getBucketEncryption(bucket), 404, missing)
    assert done(obs.getBucketLocation(bucket)).body.location == (deployment.region if is_obs else None)
    metadata = done(obs.getBucketMetadata(bucket))
    if is_obs:
        assert (metadata.body.location, metadata.body.obsVersion) == (deployment.region, "3.0")
        assert metadata.body.storageClass == "STANDARD"
    (own,) = [one for one in done(obs.listBuckets()).body.buckets if one.name == bucket]
    assert (own.location, own.bucket_type) == ((deployment.region, "OBJECT") if is_obs else (None, None))


def has_a_policy(deployment, obs, bucket, signature, sse):
    statement = {
        "Effect": "Deny",
        "Principal": {"ID": ["*"]},
        "Action": ["PutObject"],
        "Resource": [f"{bucket}/*"],
        "Condition": {"StringNotEquals": {"x-obs-server-side-encryption": "kms"}},
    }
    policy = json.dumps({"Statement": [statement]})
    failed(obs.getBucketPolicy(bucket), 404, "NoSuchBucketPolicy")
    done(obs.setBucketPolicy(bucket, policy))
    assert done(obs.getBucketPolicy(bucket)).body.policyJSON == policy
    failed(obs.putContent(bucket, "default", TEXT), 403, "AccessDenied")
    done(obs.putContent(bucket, "default", TEXT, headers=PutObjectHeader(sseHeader=sse)))
    done(obs.deleteBucketPolicy(bucket))
    done(obs.putContent(bucket, "default", TEXT))


def signs_urls(deployment, obs, bucket, signature, key):
    mode, key_id, word = words_of(signature)
    headers = {mode: word, key_id: key}
    put = obs.createSignedUrl("PUT", bucket, "url", expires=60, headers=headers).signedUrl
    assert fetched(deployment, put, "PUT", TEXT, **headers).status_code == 200
    assert obs.getObjectMetadata(bucket, "url").body.sseKms == word
    for wrong in ({mode: word}, {}, {**headers, key_id: "another"}, {**headers, f"{mode}-context": "e30="}):
        answer = fetched(deployment, put, "PUT", TEXT, **wrong)
        assert answer.status_code == 403, (signature, wrong, answer.text)
    url = obs.createSignedUrl("GET", bucket, "url", expires=60).signedUrl
    assert fetched(deployment, url).content == TEXT
    with contextlib.closing(client(deployment, "temporary", signature)) as temporary:
        url = temporary.createSignedUrl("GET", bucket, "url", expires=60).signedUrl
        assert "security-token" in url.lower()
        answer = fetched(deployment, url)
        assert answer.content == TEXT, (signature, url, answer.text)


def shows_sse_kms_with_each_signature_and_with_none_named(deployment):
    key = deployment.key("obs/custom")
    for signature in ("obs", "v2", "v4", None):
        with names_of_buckets(), contextlib.closing(client(deployment, signature=signature)) as obs:
            bucket, sse = f"sdk-{signature or 'asks'}", SseKmsHeader(encryption="kms", key=key)
            done(obs.createBucket(bucket, location=deployment.region))
            objects(deployment, obs, bucket, signature, sse)
            copies_onto_itself(deployment, obs, bucket, signature, sse)
            configures(deployment, obs, bucket, signature, key)
            has_a_policy(deployment, obs, bucket, signature, sse)
            signs_urls(deployment, obs, bucket, signature, key)
            with contextlib.closing(client(deployment, "temporary", signature)) as temporary:
                done(temporary.putContent(bucket, "default", TEXT, headers=PutObjectHeader(sseHeader=sse)))
                assert done(temporary.getObject(bucket, "default", loadStreamInMemory=True)).body.buffer == TEXT
            failed(obs.deleteBucket(bucket), 409, "BucketNotEmpty")
            keys = [Object(key) for key in ("dir/ö a", "copy", "parts", "default", "itself", "url")]
            deleted = done(obs.deleteObjects(bucket, DeleteObjectsRequest(quiet=False, objects=keys))).body
            assert len(deleted.deleted) == len(keys) and not deleted.error
            done(obs.deleteBucket(bucket))


def shows_sm4_by_a_header_of_its_own(deployment):
    with names_of_buckets(), contextlib.closing(client(deployment)) as obs:
        sealed = {"x-obs-server-side-encryption": "kms", "x-obs-server-side-data-encryption": "SM4"}
        done(obs.createBucket("sdk-sm4", extensionHeaders=sealed))
        done(obs.putContent("sdk-sm4", "default", TEXT))
        assert deployment.streams("sdk-sm4")[-1].read_bytes()[5] == 2, "made with the bucket"
        failed(obs.createBucket("elsewhere", location="eu-west-1"), 400, "InvalidLocationConstraint")
        failed(obs.createBucket("warm", extensionHeaders={"x-obs-storage-class": "WARM"}), 501, "ServiceNotImplemented")
        sm4 = {"x-obs-server-side-data-encryption": "SM4"}
        put = obs.putContent("sdk-sm4", "o", TEXT, headers=PutObjectHeader(sseHeader=SseKmsHeader(encryption="kms")), extensionHeaders=sm4)
        done(put)
        assert deployment.streams("sdk-sm4")[-1].read_bytes()[5] == 2
        assert done(obs.getObject("sdk-sm4", "o", loadStreamInMemory=True)).body.buffer == TEXT
    # Version 4 covers a header of OBS; under S3's old signature nothing does.
    with contextlib.closing(client(deployment, signature="v4")) as obs:
        sealed = PutObjectHeader(sseHeader=SseKmsHeader(encryption="kms"))
        done(obs.putContent("sdk-sm4", "v4", TEXT, headers=sealed, extensionHeaders=sm4))
        assert deployment.streams("sdk-sm4")[-1].read_bytes()[5] == 2
        assert done(obs.getObject("sdk-sm4", "v4", loadStreamInMemory=True)).body.buffer == TEXT
        for unread in ({"x-obs-forbid-overwrite": "true"}, {"x-obs-server-side-encryption": "kms"}):
            failed(obs.putContent("sdk-sm4", "v4", TEXT, extensionHeaders=unread), 501, "NotImplemented")
        failed(obs.createBucket("warm", extensionHeaders={"x-default-storage-class": "WARM"}), 501, "NotImplemented")
    with contextlib.closing(client(deployment, signature="v2")) as obs:
        failed(obs.putContent("sdk-sm4", "o", TEXT, extensionHeaders=sm4), 403, "AccessDenied")


def shows_the_version_asked_for(deployment):
    ca = deployment.description["ca_cert"]
    answer = requests.head(deployment.description["https"] + "/?apiversion", verify=ca)
    assert (answer.status_code, answer.headers["x-obs-api"]) == (200, "3.0")
    assert len(answer.headers["x-obs-request-id"]) == 32 and answer.headers["x-obs-id-2"]


def shows_errors_in_the_words_of_who_asked(deployment):
    with names_of_buckets(), contextlib.closing(client(deployment)) as obs:
        answer = obs.getObject("sdk-sm4", "none")
        failed(answer, 404, "NoSuchKey")
        assert answer.resource == "/sdk-sm4/none" and answer.hostId
        head = shown(obs.getObjectMetadata("sdk-sm4", "none"))
        assert head["error-code"] == "NoSuchKey" and head["error-message"], head
        failed(obs.getBucketVersioning("sdk-sm4"), 501, "ServiceNotImplemented")
        failed(obs.setObjectMetadata("sdk-sm4", "o", metadata={"a": "b"}), 501, "ServiceNotImplemented")
        failed(obs.truncateFile("sdk-sm4", "o", 1), 501, "ServiceNotImplemented")
        failed(obs.deleteAccessLabel("sdk-sm4", "o"), 501, "ServiceNotImplemented")
        failed(obs.deleteBucketDirectColdAccess("sdk-sm4"), 501, "ServiceNotImplemented")
        assert done(obs.getObject("sdk-sm4", "o", loadStreamInMemory=True)).body.buffer == TEXT
        failed(obs.putContent("sdk-sm4", "x", TEXT, extensionHeaders={"x-obs-forbid-overwrite": "true"}), 501, "ServiceNotImplemented")
    with contextlib.closing(client(deployment, signature="v2")) as obs:
        failed(obs.getBucketVersioning("sdk-sm4"), 501, "NotImplemented")


def shows_who_may_not(deployment):
    credentials = deployment.description["credentials"]
    ak, sk, _ = deployment.keys_of("admin")
    credentials["wrong"] = {"ak": ak, "sk": sk[:-1] + "!"}
    with names_of_buckets():
        for signature in ("obs", "v2", "v4"):
            for name, status in (("wrong", 403), ("expired", 403), ("temporary", 200), ("nobody", 403)):
                with contextlib.closing(client(deployment, name, signature)) as obs:
                    answer = obs.getObject("sdk-sm4", "o", loadStreamInMemory=True)
                    assert answer.status == status, (signature, name, answer.errorCode)
        with contextlib.closing(client(deployment)) as obs:
            url = obs.createSignedUrl("GET", "sdk-sm4", "o", expires=60).signedUrl
            assert fetched(deployment, url).content == TEXT
            assert fetched(deployment, url.replace("/o?", "/p?")).status_code == 403
            for foreign in ("x-obs-meta-a", "x-amz-meta-a"):
                assert fetched(deployment, url, **{foreign: "b"}).status_code == 403
            old = obs.createSignedUrl("GET", "sdk-sm4", "o", expires=-60).signedUrl
            assert fetched(deployment, old).status_code == 403
