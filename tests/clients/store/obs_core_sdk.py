"""The OBS face by the newer of OBS' SDKs, which has the headers of SSE-KMS as fields: SM4 and bucket keys without a raw header.

It signs as OBS does and reaches buckets by their own names. Uploads in parts and `?encryption` are not in it."""

import contextlib
import io
import tempfile
from xml.etree import ElementTree

from huaweicloudsdkcore.exceptions.exceptions import ServiceResponseException
from huaweicloudsdkcore.http.http_config import HttpConfig
from huaweicloudsdkobs import v1 as obs
from huaweicloudsdkobs.v1.obs_credentials import ObsCredentials

from .names import names_of_buckets

TEXT = bytes(range(256)) * 1000
BUCKET = "core-sdk"


def client(deployment, name="admin"):
    ak, sk, token = deployment.keys_of(name)
    made = obs.ObsClient.new_builder().with_credentials(ObsCredentials(ak, sk, token))
    config = HttpConfig(ssl_ca_cert=deployment.description["ca_cert"])
    return made.with_http_config(config).with_endpoint(deployment.description["obs"]).build()


@contextlib.contextmanager
def refused(code, status):
    """Holds what is inside to be refused like this. The SDK reads no errors of OBS: it hands the body over."""
    try:
        yield
    except ServiceResponseException as error:
        told = ElementTree.fromstring(error.error_msg)
        assert (told.findtext("Code"), error.status_code) == (code, status), f"{error}, not {code}"
        assert len(told.findtext("RequestId")) == 32 and told.findtext("HostId"), error
    else:
        raise AssertionError(f"not refused with {code}")


def put(client, key, text=TEXT, bucket=BUCKET, **headers):
    """What is answered to an upload; the SDK wants a file."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(text)
        file.flush()
        return client.put_object(obs.PutObjectRequest(bucket_name=bucket, object_key=key, stream=file.name, **headers))


def got(client, key, bucket=BUCKET, **asked):
    """What is answered to a download, and its body."""
    answer, body = client.get_object(obs.GetObjectRequest(bucket_name=bucket, object_key=key, **asked)), io.BytesIO()
    answer.consume_download_stream(lambda stream: [body.write(chunk) for chunk in stream.iter_content(65536)])
    return answer, body.getvalue()


def shows_buckets_made_with_their_encryption(deployment):
    key = deployment.key("core-sdk/bucket")
    domain = deployment.dew.account["domain_id"]
    with names_of_buckets():
        client_ = client(deployment)
        body = obs.CreateBucketRequestBody(location=deployment.region)
        sealed = {"x_obs_server_side_encryption": "kms", "x_obs_server_side_encryption_kms_key_id": key}
        made = client_.create_bucket(
            obs.CreateBucketRequest(bucket_name=BUCKET, body=body, x_obs_server_side_data_encryption="SM4", **sealed)
        )
        assert len(made.x_obs_request_id) == 32 and made.x_obs_id_2
        answer = put(client_, "default")
        assert answer.x_obs_server_side_encryption == "kms"
        assert answer.x_obs_server_side_encryption_kms_key_id == f"{deployment.region}:{domain}:key/{key}"
        assert deployment.streams(BUCKET)[-1].read_bytes()[5] == 2, "SM4, as the bucket was made with"
        shown = client_.get_bucket_metadata(obs.GetBucketMetadataRequest(bucket_name=BUCKET))
        assert (shown.x_obs_bucket_location, shown.x_obs_version) == (deployment.region, "3.0")
        assert shown.x_obs_storage_class == "STANDARD"
        listed = client_.list_buckets(obs.ListBucketsRequest())
        (own,) = [bucket for bucket in listed.buckets.bucket if bucket.name == BUCKET]
        assert own.location == deployment.region and listed.owner.id == domain
        with refused("BucketAlreadyOwnedByYou", 409):
            client_.create_bucket(obs.CreateBucketRequest(bucket_name=BUCKET, body=body))
        with refused("InvalidLocationConstraint", 400):
            elsewhere = obs.CreateBucketRequestBody(location="eu-west-1")
            client_.create_bucket(obs.CreateBucketRequest(bucket_name="elsewhere", body=elsewhere))
        with refused("ServiceNotImplemented", 501):
            client_.create_bucket(
                obs.CreateBucketRequest(bucket_name="files", body=body, x_obs_fs_file_interface="Enabled")
            )


def shows_objects_sealed_as_their_headers_say(deployment):
    key = deployment.key("core-sdk/object")
    with names_of_buckets():
        client_ = client(deployment)
        sealed = {"x_obs_server_side_encryption": "kms", "x_obs_server_side_encryption_kms_key_id": key}
        for algorithm, number in (("AES256", 1), ("SM4", 2)):
            name = f"dir/ö {algorithm}"
            answer = put(client_, name, x_obs_server_side_data_encryption=algorithm, **sealed)
            assert answer.x_obs_server_side_encryption == "kms"
            assert deployment.streams(BUCKET)[-1].read_bytes()[5] == number
            read, text = got(client_, name)
            assert text == TEXT and read.x_obs_server_side_encryption_kms_key_id.endswith(f":key/{key}")
            assert got(client_, name, range="bytes=65530-65545")[1] == TEXT[65530:65546]
            head = client_.head_object(obs.HeadObjectRequest(bucket_name=BUCKET, object_key=name))
            assert (head.x_obs_server_side_encryption, head.e_tag) == ("kms", answer.e_tag)
            assert int(head.content_length) == len(TEXT)
        with refused("InvalidArgument", 400):
            put(client_, "x", x_obs_server_side_data_encryption="DES", **sealed)
        with refused("ServiceNotImplemented", 501):
            put(client_, "x", x_obs_server_side_encryption="AES256")
        with refused("KMS.NotFoundException", 400):
            unknown = {**sealed, "x_obs_server_side_encryption_kms_key_id": "00000000-0000-4000-8000-000000000000"}
            put(client_, "x", **unknown)
        deployment.dew.admin.call("DisableKey", key_id=key)
        with refused("KMS.DisabledException", 400):
            got(client_, "dir/ö SM4")
        deployment.dew.admin.call("EnableKey", key_id=key)


def shows_bucket_keys(deployment):
    """What the answer says of them, the SDK does not hand on: S3's does."""
    key, s3 = deployment.key("core-sdk/bucket-key"), deployment.s3()
    sealed = {"x_obs_server_side_encryption": "kms", "x_obs_server_side_encryption_bucket_key_enabled": "true"}
    with names_of_buckets():
        client_ = client(deployment)
        for algorithm, number in (("AES256", 1), ("SM4", 2)):
            named = {"x_obs_server_side_encryption_kms_key_id": key, "x_obs_server_side_data_encryption": algorithm}
            put(client_, "bucket-key", **sealed, **named)
            assert deployment.streams(BUCKET)[-1].read_bytes()[5] == number
            read, text = got(client_, "bucket-key")
            assert text == TEXT and read.x_obs_server_side_encryption_kms_key_id.endswith(f":key/{key}")
            assert s3.head_object(Bucket=BUCKET, Key="bucket-key")["BucketKeyEnabled"] is True
        # OBS: it needs the header that names the key, too.
        with refused("InvalidArgument", 400):
            put(client_, "x", **sealed)
        client_.delete_object(obs.DeleteObjectRequest(bucket_name=BUCKET, object_key="bucket-key"))
        body = obs.CreateBucketRequestBody(location=deployment.region)
        named = {"x_obs_server_side_encryption_kms_key_id": key}
        client_.create_bucket(obs.CreateBucketRequest(bucket_name="core-sdk-keys", body=body, **sealed, **named))
        put(client_, "default", bucket="core-sdk-keys")
        assert s3.head_object(Bucket="core-sdk-keys", Key="default")["BucketKeyEnabled"] is True


def shows_copies_and_lists(deployment):
    with names_of_buckets():
        client_ = client(deployment)
        copied = client_.copy_object(
            obs.CopyObjectRequest(
                bucket_name=BUCKET,
                object_key="copy",
                x_obs_copy_source=f"/{BUCKET}/default",
                x_obs_server_side_encryption="kms",
            )
        )
        assert copied.x_obs_server_side_encryption == "kms" and copied.last_modified
        assert got(client_, "copy")[1] == TEXT
        listed = client_.list_objects(obs.ListObjectsRequest(bucket_name=BUCKET, delimiter="/"))
        assert [(one.key, int(one.size)) for one in listed.contents] == [("copy", len(TEXT)), ("default", len(TEXT))]
        assert [one.prefix for one in listed.common_prefixes] == ["dir/"]
        page = client_.list_objects(obs.ListObjectsRequest(bucket_name=BUCKET, prefix="dir/", max_keys=1))
        assert page.next_marker == page.contents[0].key == "dir/ö AES256" and page.is_truncated
        with refused("NoSuchKey", 404):
            got(client_, "none")
        with refused("NoSuchBucket", 404):
            client_.list_objects(obs.ListObjectsRequest(bucket_name="no-such-bucket"))


def shows_temporary_and_wrong_keys(deployment):
    with names_of_buckets():
        assert got(client(deployment, "temporary"), "default")[1] == TEXT
        with refused("InvalidAccessKeyId", 403):
            got(client(deployment, "expired"), "default")
        with refused("AccessDenied", 403):
            put(client(deployment, "reader"), "x")
        ak, sk, _ = deployment.keys_of("admin")
        deployment.description["credentials"]["wrong"] = {"ak": ak, "sk": sk[:-1] + "!"}
        with refused("SignatureDoesNotMatch", 403):
            got(client(deployment, "wrong"), "default")


def shows_that_all_goes_as_it_came(deployment):
    with names_of_buckets():
        client_ = client(deployment)
        with refused("BucketNotEmpty", 409):
            client_.delete_bucket(obs.DeleteBucketRequest(bucket_name=BUCKET))
        for key in ("default", "copy", "dir/ö AES256", "dir/ö SM4"):
            client_.delete_object(obs.DeleteObjectRequest(bucket_name=BUCKET, object_key=key))
        client_.delete_bucket(obs.DeleteBucketRequest(bucket_name=BUCKET))
