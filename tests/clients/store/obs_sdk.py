"""The OBS face by OBS' own SDK, with each of its three signatures."""

import contextlib
import socket
import urllib.parse

import requests
from obs import CompleteMultipartUploadRequest, CompletePart, CopyObjectHeader, GetObjectHeader, ObsClient
from obs import PutObjectHeader, SseKmsHeader

TEXT = bytes(range(256)) * 1000


@contextlib.contextmanager
def names_of_buckets():
    """Has names under localhost resolved, which not every machine does by itself."""
    resolve = socket.getaddrinfo

    def resolved(host, *rest, **more):
        return resolve("localhost" if str(host).endswith(".localhost") else host, *rest, **more)

    socket.getaddrinfo = resolved
    try:
        yield
    finally:
        socket.getaddrinfo = resolve


def client(deployment, name="admin", signature="obs", **more):
    ak, sk, token = deployment.keys_of(name)
    return ObsClient(
        access_key_id=ak,
        secret_access_key=sk,
        security_token=token,
        server=deployment.description["https"],
        signature=signature,
        path_style=signature != "obs",
        is_signature_negotiation=False,
        region=deployment.region,
        ssl_verify=deployment.description["ca_cert"],
        max_retry_count=0,
        **more,
    )


def done(answer):
    assert answer.status < 300, f"{answer.status} {answer.errorCode} {answer.errorMessage}"
    return answer


def fetched(deployment, url, **headers):
    """What a URL answers. The certificate's name with a star is not good for every library."""
    named = urllib.parse.urlsplit(url).netloc
    own = urllib.parse.urlsplit(deployment.description["https"]).netloc
    ca = deployment.description["ca_cert"]
    return requests.get(url.replace(named, own, 1), headers={"Host": named, **headers}, verify=ca)


def shows_sse_kms_with_each_signature(deployment):
    key = deployment.key("obs/custom")
    for signature, mode in (("obs", "kms"), ("v2", "aws:kms"), ("v4", "aws:kms")):
        with names_of_buckets(), contextlib.closing(client(deployment, signature=signature)) as obs:
            bucket, sse = f"sdk-{signature}", SseKmsHeader(encryption=mode if signature == "obs" else "kms", key=key)
            done(obs.createBucket(bucket, location=deployment.region))
            put = done(obs.putContent(bucket, "dir/ö a", TEXT, headers=PutObjectHeader(sseHeader=sse)))
            shown = dict((name.lower(), value) for name, value in put.header)
            assert any("server-side-encryption" in name and value.endswith(mode.split(":")[-1]) for name, value in shown.items()), shown
            got = done(obs.getObject(bucket, "dir/ö a", loadStreamInMemory=True))
            assert got.body.buffer == TEXT, signature
            part = done(obs.getObject(bucket, "dir/ö a", headers=GetObjectHeader(range="2-4"), loadStreamInMemory=True))
            assert part.body.buffer == TEXT[2:5]
            assert done(obs.getObjectMetadata(bucket, "dir/ö a")).body.contentLength == len(TEXT)
            listed = done(obs.listObjects(bucket)).body.contents
            assert [(one.key, one.size) for one in listed] == [("dir/ö a", len(TEXT))]
            done(obs.copyObject(bucket, "dir/ö a", bucket, "copy", headers=CopyObjectHeader(destSseHeader=sse)))
            begun = done(obs.initiateMultipartUpload(bucket, "parts", sseHeader=sse)).body
            etags = [done(obs.uploadPart(bucket, "parts", number, begun.uploadId, content=TEXT)).body.etag for number in (1, 2)]
            parts = CompleteMultipartUploadRequest([CompletePart(number, etag) for number, etag in enumerate(etags, 1)])
            done(obs.completeMultipartUpload(bucket, "parts", begun.uploadId, parts))
            assert done(obs.getObject(bucket, "parts", loadStreamInMemory=True)).body.buffer == TEXT * 2
            done(obs.setBucketEncryption(bucket, "kms", key))
            assert done(obs.getBucketEncryption(bucket)).body.encryption == "kms"
            plain = done(obs.putContent(bucket, "default", TEXT))
            assert "server-side-encryption" in str(plain.header)
            done(obs.deleteBucketEncryption(bucket))
            assert obs.getBucketEncryption(bucket).status == 404
            url = obs.createSignedUrl("GET", bucket, "copy", expires=60).signedUrl
            assert fetched(deployment, url).content == TEXT
            for one in ("dir/ö a", "copy", "parts", "default"):
                done(obs.deleteObject(bucket, one))
            done(obs.deleteBucket(bucket))


def shows_sm4_by_a_header_of_its_own(deployment):
    with names_of_buckets(), contextlib.closing(client(deployment)) as obs:
        sealed = {"x-obs-server-side-encryption": "kms", "x-obs-server-side-data-encryption": "SM4"}
        done(obs.createBucket("sdk-sm4", extensionHeaders=sealed))
        done(obs.putContent("sdk-sm4", "default", TEXT))
        assert deployment.streams("sdk-sm4")[-1].read_bytes()[5] == 2, "made with the bucket"
        assert obs.createBucket("elsewhere", location="eu-west-1").status == 400
        sm4 = {"x-obs-server-side-data-encryption": "SM4"}
        put = obs.putContent("sdk-sm4", "o", TEXT, headers=PutObjectHeader(sseHeader=SseKmsHeader(encryption="kms")), extensionHeaders=sm4)
        done(put)
        assert deployment.streams("sdk-sm4")[-1].read_bytes()[5] == 2
        assert done(obs.getObject("sdk-sm4", "o", loadStreamInMemory=True)).body.buffer == TEXT
    # Under S3's old signature nothing covers a header of OBS.
    with contextlib.closing(client(deployment, signature="v2")) as obs:
        assert obs.putContent("sdk-sm4", "o", TEXT, extensionHeaders=sm4).status == 403


def shows_the_version_asked_for(deployment):
    ak, sk, _ = deployment.keys_of("admin")
    ca = deployment.description["ca_cert"]
    answer = requests.head(deployment.description["https"] + "/?apiversion", verify=ca)
    assert (answer.status_code, answer.headers["x-obs-api"]) == (200, "3.0")
    with names_of_buckets():
        obs = ObsClient(access_key_id=ak, secret_access_key=sk, server=deployment.description["https"], ssl_verify=ca)
        with contextlib.closing(obs):
            assert done(obs.getObject("sdk-sm4", "o", loadStreamInMemory=True)).body.buffer == TEXT


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
