"""DEW's official SDK without a project id: it asks IAM for it by itself, and does the rest by the endpoint alone.

Is told where dev.json lies. Everything but the two endpoints and the authority is what a user of DEW writes.
"""

import json
import sys

from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.exceptions.exceptions import ClientRequestException, SdkException
from huaweicloudsdkcore.http.http_config import HttpConfig
from huaweicloudsdkcore.region.region import Region
from huaweicloudsdkkms.v2 import CreateKeyRequest, CreateKeyRequestBody, KmsClient, ListKeyDetailRequest
from huaweicloudsdkkms.v2 import OperateKeyRequestBody


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        deployment = json.load(file)
    endpoint = deployment["dew"]["endpoint"]

    def client(user, region, secret=None):
        credentials = BasicCredentials(user["ak"], secret or user["sk"]).with_iam_endpoint(endpoint)
        config = HttpConfig.get_default_config()
        config.ssl_ca_cert = deployment["ca_cert"]
        builder = KmsClient.new_builder().with_http_config(config).with_credentials(credentials)
        return builder.with_region(Region(region, endpoint)).build()

    def describe(kms, key_id):
        body = OperateKeyRequestBody(key_id=key_id)
        return kms.list_key_detail(ListKeyDetailRequest(body=body)).key_info

    for account in deployment["accounts"]:
        admin = next(user for user in account["users"] if user["name"] == "admin")
        made = {}
        for project in account["projects"]:
            region = project["region"]
            kms = client(admin, region)
            body = CreateKeyRequestBody(key_alias="of-" + region)
            made[region] = kms.create_key(CreateKeyRequest(body=body)).key_info.key_id
            found = describe(kms, made[region])
            assert (found.key_id, found.realm) == (made[region], region), found
        one, other = made
        try:
            describe(client(admin, one), made[other])
        except ClientRequestException as error:
            assert (error.status_code, error.error_code) == (404, "KMS.0207"), error
            assert len(error.request_id) == 36, error
        else:
            raise AssertionError("a key of another region")

    # Errors of IAM reach the user as IAM's do.
    for arguments, said in [(("eu-west-0",), "project"), ((region, "another secret"), "verify aksk signature fail")]:
        try:
            client(admin, *arguments).create_key(CreateKeyRequest(body=CreateKeyRequestBody(key_alias="none")))
        except SdkException as error:
            assert said in str(error), error
        else:
            raise AssertionError(said)
    print("projects found for", len(deployment["accounts"]), "accounts")


main()
