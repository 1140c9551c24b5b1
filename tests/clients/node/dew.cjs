// DEW through the official Node.js SDK: its core, which signs, sends and reads errors. The requests are written here as
// the SDK's modules write them.

const { BasicCredentials } = require("@huaweicloud/huaweicloud-sdk-core");
const { ClientBuilder } = require("@huaweicloud/huaweicloud-sdk-core/ClientBuilder");

// A client of dev mode's first account, as its user with this access key.
function client(described, ak, secret) {
    const credentials = new BasicCredentials()
        .withAk(ak)
        .withSk(secret)
        .withProjectId(described.accounts[0].projects[0].project_id);
    return new ClientBuilder((core) => core, "BasicCredentials")
        .withCredential(credentials)
        .withEndpoint(described.dew.endpoint)
        .build();
}

function send(core, operation, data) {
    return core.sendRequest({
        method: "POST",
        url: `/v1.0/{project_id}/kms/${operation}`,
        contentType: "application/json;charset=UTF-8",
        queryParams: {},
        pathParams: {},
        headers: {},
        data,
    });
}

module.exports = { client, send };
