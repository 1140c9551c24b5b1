"""Objects in parts."""

import hashlib
import io

from boto3.s3.transfer import TransferConfig

from .deployment import refused

KMS = {"ServerSideEncryption": "aws:kms"}
PART = bytes(range(256)) * 1024


def shows_parts_sealed_each_for_itself(deployment):
    s3 = deployment.s3()
    begun = s3.create_multipart_upload(Bucket="sealed", Key="parts", Metadata={"a": "b"}, ContentType="text/x", **KMS)
    upload = {"Bucket": "sealed", "Key": "parts", "UploadId": begun["UploadId"]}
    assert begun["ServerSideEncryption"] == "aws:kms"
    first = s3.upload_part(PartNumber=1, Body=PART, **upload)
    tried = deployment.streams("sealed")[-1].read_bytes()
    again = s3.upload_part(PartNumber=1, Body=PART, **upload)
    stored = deployment.streams("sealed")[-1].read_bytes()
    assert first["ETag"] != again["ETag"] and tried[:200] != stored[:200], "another salt, so another key and nonce"
    assert again["ETag"] == f'"{hashlib.md5(stored).hexdigest()}"' and again["ServerSideEncryption"] == "aws:kms"
    second = s3.upload_part(PartNumber=2, Body=b"end", **upload)
    copied = s3.upload_part_copy(PartNumber=3, CopySource="sealed/o", CopySourceRange="bytes=10-19", **upload)
    (shown,) = s3.list_multipart_uploads(Bucket="sealed")["Uploads"]
    assert (shown["Key"], shown["UploadId"]) == ("parts", begun["UploadId"])
    parts = s3.list_parts(MaxParts=2, **upload)
    assert [part["Size"] for part in parts["Parts"]] == [len(PART), 3] and parts["IsTruncated"]
    etags = [again["ETag"], second["ETag"], copied["CopyPartResult"]["ETag"]]
    named = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, 1)]
    for wrong, code in [(named[::-1], "InvalidPartOrder"), ([{**named[0], "ETag": first["ETag"]}], "InvalidPart")]:
        with refused(code, 400):
            s3.complete_multipart_upload(MultipartUpload={"Parts": wrong}, **upload)
    with refused("EntityTooSmall", 400):
        s3.complete_multipart_upload(MultipartUpload={"Parts": named}, **upload)
    for guard, code, status in [
        ({"MpuObjectSize": len(PART)}, "InvalidRequest", 400),
        ({"ChecksumSHA256": "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="}, "NotImplemented", 501),
    ]:
        with refused(code, status):
            s3.complete_multipart_upload(MultipartUpload={"Parts": named[:2]}, **guard, **upload)
    long = {"MpuObjectSize": len(PART) + 3}
    done = s3.complete_multipart_upload(MultipartUpload={"Parts": named[:2]}, **long, **upload)
    digests = b"".join(bytes.fromhex(etag.strip('"')) for etag in etags[:2])
    assert done["ETag"] == f'"{hashlib.md5(digests).hexdigest()}-2"'
    assert s3.complete_multipart_upload(MultipartUpload={"Parts": named[:2]}, **upload)["ETag"] == done["ETag"]
    with refused("InvalidRequest", 400):
        s3.complete_multipart_upload(MultipartUpload={"Parts": named[:2]}, MpuObjectSize=1, **upload)
    got = s3.get_object(Bucket="sealed", Key="parts")
    assert got["Body"].read() == PART + b"end" and got["Metadata"] == {"a": "b"} and got["ContentType"] == "text/x"
    middle = s3.get_object(Bucket="sealed", Key="parts", Range=f"bytes={len(PART) - 2}-{len(PART)}")
    assert middle["Body"].read() == PART[-2:] + b"e"
    with refused("NoSuchUpload", 404):
        s3.upload_part(PartNumber=4, Body=b"", **upload)


def shows_that_sealed_parts_come_over_https_alone(deployment):
    s3, plain = deployment.s3(), deployment.s3(plain=True)
    place = {"Bucket": "sealed", "Key": "secure"}
    with refused("AccessDenied", 403):
        plain.create_multipart_upload(**place, **KMS)
    upload = {**place, "UploadId": s3.create_multipart_upload(**place, **KMS)["UploadId"]}
    with refused("AccessDenied", 403):
        plain.upload_part(PartNumber=1, Body=PART, **upload)
    with refused("AccessDenied", 403):
        plain.upload_part_copy(PartNumber=1, CopySource="plain/r", **upload)
    part = {"PartNumber": 1, "ETag": s3.upload_part(PartNumber=1, Body=PART, **upload)["ETag"]}
    named = {"MultipartUpload": {"Parts": [part]}}
    with refused("AccessDenied", 403):
        plain.complete_multipart_upload(**named, **upload)
    done = s3.complete_multipart_upload(**named, **upload)
    with refused("AccessDenied", 403):
        plain.complete_multipart_upload(**named, **upload)
    assert s3.complete_multipart_upload(**named, **upload)["ETag"] == done["ETag"]


def shows_exchanged_parts_refused(deployment):
    s3 = deployment.s3()
    begun = s3.create_multipart_upload(Bucket="sealed", Key="swapped", **KMS)
    upload = {"Bucket": "sealed", "Key": "swapped", "UploadId": begun["UploadId"]}
    named, streams = [], []
    for number in (1, 2):
        etag = s3.upload_part(PartNumber=number, Body=PART, **upload)["ETag"]
        named.append({"PartNumber": number, "ETag": etag})
        streams.append(deployment.streams("sealed")[-1])
    s3.complete_multipart_upload(MultipartUpload={"Parts": named}, **upload)
    first, second = (stream.read_bytes() for stream in streams)
    streams[0].write_bytes(second)
    streams[1].write_bytes(first)
    with refused("InternalError", 500):
        s3.get_object(Bucket="sealed", Key="swapped")
    streams[0].write_bytes(first)
    streams[1].write_bytes(second)
    assert s3.get_object(Bucket="sealed", Key="swapped")["Body"].read() == PART * 2


def shows_uploads_given_up(deployment):
    s3 = deployment.s3()
    before = len(deployment.streams("plain"))
    begun = s3.create_multipart_upload(Bucket="plain", Key="given-up")
    upload = {"Bucket": "plain", "Key": "given-up", "UploadId": begun["UploadId"]}
    s3.upload_part(PartNumber=1, Body=PART, **upload)
    s3.abort_multipart_upload(**upload)
    assert len(deployment.streams("plain")) == before
    with refused("NoSuchUpload", 404):
        s3.list_parts(**upload)


def shows_the_librarys_own_way_with_large_files(deployment):
    s3, text = deployment.s3(), PART * 48
    config = TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=5 << 20)
    s3.upload_fileobj(io.BytesIO(text), "sealed", "large", ExtraArgs=KMS, Config=config)
    assert s3.head_object(Bucket="sealed", Key="large")["ETag"].endswith('-3"')
    got = io.BytesIO()
    s3.download_fileobj("sealed", "large", got, Config=config)
    assert got.getvalue() == text
    s3.copy({"Bucket": "sealed", "Key": "large"}, "sealed", "large copy", ExtraArgs=KMS, Config=config)
    assert s3.get_object(Bucket="sealed", Key="large copy")["Body"].read() == text


def shows_that_a_part_needs_the_key(deployment):
    uploader = deployment.s3("uploader")
    begun = uploader.create_multipart_upload(Bucket="sealed", Key="halfway", **KMS)
    upload = {"Bucket": "sealed", "Key": "halfway", "UploadId": begun["UploadId"]}
    with refused("AccessDenied", 403):
        uploader.upload_part(PartNumber=1, Body=PART, **upload)
    uploader.abort_multipart_upload(**upload)
