// The data keys of DEW through the official Node.js SDK.
//
//     data_keys.cjs DEV_JSON

const assert = require("node:assert/strict");
const { createHash } = require("node:crypto");
const { readFileSync } = require("node:fs");

const dew = require("./dew.cjs");

const described = JSON.parse(readFileSync(process.argv[2], "utf8"));
const account = described.accounts[0];
const admin = account.users.find((user) => user.name === "admin");

const { send } = dew;

function client(secret) {
    return dew.client(described, admin.ak, secret);
}

// This SDK looks for the code of an error where the gateway in front of KMS has it, and not where KMS has it itself.
async function refused(call, status, code) {
    await assert.rejects(call, (error) => {
        assert.equal(error.httpStatusCode, status, `${error}`);
        assert.equal(error.errorCode, code);
        assert.match(error.requestId, /^[0-9a-f-]{36}$/);
        return true;
    });
}

async function main() {
    const kms = client(admin.sk);
    const call = (operation, data) => send(kms, operation, data);
    const key_id = (await call("create-key", { key_alias: "node/key" })).key_info.key_id;
    const named = { key_id, additional_authenticated_data: "bucket/object ü" };

    const made = await call("create-datakey", { ...named, datakey_length: "512" });
    const opening = { ...named, datakey_cipher_length: "64" };
    const opened = await call("decrypt-datakey", { ...opening, cipher_text: made.cipher_text });
    assert.equal(opened.data_key, made.plain_text);
    const digest = createHash("sha256").update(Buffer.from(opened.data_key, "hex")).digest("hex");
    assert.equal(opened.datakey_dgst, digest);

    const hidden = await call("create-datakey-without-plaintext", { ...named, datakey_length: "512" });
    assert.equal(hidden.plain_text, undefined);
    const again = await call("decrypt-datakey", { ...opening, cipher_text: hidden.cipher_text });
    assert.equal(again.datakey_length, "64");

    const brought = { ...named, plain_text: made.plain_text + digest, datakey_plain_length: "64" };
    const sealed = await call("encrypt-datakey", brought);
    const back = await call("decrypt-datakey", { ...opening, cipher_text: sealed.cipher_text });
    assert.equal(back.data_key, made.plain_text);
    assert.equal((await call("gen-random", { random_data_length: "256" })).random_data.length, 64);

    const other = { ...opening, additional_authenticated_data: "other", cipher_text: made.cipher_text };
    await refused(call("decrypt-datakey", other), 400);
    await refused(call("create-datakey", {}), 400);
    await refused(call("create-datakey", { key_id: "00000000-0000-4000-8000-000000000000" }), 404);
    await refused(send(client("another secret"), "create-datakey", named), 401, "APIGW.0301");
    process.stdout.write("data keys made and opened\n");
}

main().catch((error) => {
    process.stderr.write(`${error.stack}\n`);
    process.exitCode = 1;
});
