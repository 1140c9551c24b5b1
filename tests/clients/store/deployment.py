"""The deployment under test: the key service, the gateway before it, and clients for their users."""

import contextlib
import json
import pathlib

import boto3
import requests
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from dew.suite import Suite


class Deployment:
    """What the file at `path` describes."""

    def __init__(self, path):
        self.description = json.loads(pathlib.Path(path).read_text())
        self.dew = Suite(json.loads(pathlib.Path(self.description["dev"]).read_text()))
        self.region = self.description["region"]

    def account(self, account):
        return self.dew.account if account == 0 else self.dew.other_account

    def keys_of(self, name, account=0):
        """The access key of a user: one of dev mode, or one of the credentials file's own."""
        own = self.description["credentials"].get(name)
        user = own or self.dew.user(self.account(account), name)
        return user["ak"], user["sk"], user.get("token")

    def s3(self, name="admin", account=0, plain=False, style="path", **configuration):
        ak, sk, token = self.keys_of(name, account)
        return boto3.client(
            "s3",
            aws_access_key_id=ak,
            aws_secret_access_key=sk,
            aws_session_token=token,
            region_name=self.region,
            endpoint_url=self.description["http" if plain else "https"],
            verify=self.description["ca_cert"],
            config=Config(
                retries={"total_max_attempts": 1}, s3={"addressing_style": style}, **{"signature_version": "s3v4", **configuration}
            ),
        )

    def put_in_chunks(self, path, chunks, length, trailer, with_length=True):
        """Puts an object in S3's chunks without signatures, before a trailer; without a length of the body, in HTTP's own chunks."""
        body = b"".join(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n" for chunk in chunks)
        body += b"0\r\n" + trailer.encode() + b"\r\n"
        headers = {
            "x-amz-decoded-content-length": str(length),
            "x-amz-trailer": "x-amz-checksum-crc32",
            "Content-Encoding": "aws-chunked",
        }
        request = AWSRequest("PUT", f"{self.description['https']}/{path}", headers)
        request.context["checksum"] = {"request_algorithm": {"in": "trailer"}}
        ak, sk, token = self.keys_of("admin")
        S3SigV4Auth(Credentials(ak, sk, token), "s3", self.region).add_auth(request)
        body = body if with_length else iter([body])
        return requests.put(request.url, data=body, headers=dict(request.headers), verify=self.description["ca_cert"])

    def key(self, alias, spec="AES_256", client=None):
        """A new custom key's id."""
        made = (client or self.dew.admin).call("CreateKey", key_alias=alias, key_spec=spec)
        return made.key_info.key_id

    def streams(self, bucket):
        """The files that hold what is stored in a bucket."""
        data = pathlib.Path(self.description["data_dir"], "buckets", bucket, "data")
        return sorted(data.iterdir(), key=lambda file: file.stat().st_mtime_ns)


@contextlib.contextmanager
def refused(code, status):
    """Holds what is inside to be refused like this."""
    try:
        yield
    except ClientError as error:
        told = (error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"])
        assert told == (code, status), f"{told} {error}, not {code}"
    else:
        raise AssertionError(f"not refused with {code}")


def signed(deployment, method, path, body=b"", name="admin", is_body_signed=True, sent=None, **headers):
    """A request as S3's libraries sign it; its body may be one that cannot be read twice if the signature leaves
    it out; `sent` is sent in its place."""
    request = AWSRequest(method, f"{deployment.description['https']}/{path}", headers, data=body)
    request.context["client_config"] = Config(s3={"payload_signing_enabled": is_body_signed})
    ak, sk, token = deployment.keys_of(name)
    S3SigV4Auth(Credentials(ak, sk, token), "s3", deployment.region).add_auth(request)
    body = body if sent is None else sent
    return requests.request(method, request.url, data=body, headers=dict(request.headers), verify=deployment.description["ca_cert"])
