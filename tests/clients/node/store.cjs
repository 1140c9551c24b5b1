// The OBS face of the object gateway through OBS' SDK for Node.js, with each signature that it makes, and with none named:
// it asks the gateway which one.
//
//     store.cjs STORE_JSON

const assert = require("node:assert/strict");
const { createHash } = require("node:crypto");
const dns = require("node:dns");
const { readFileSync } = require("node:fs");
const https = require("node:https");

// Names under localhost, which not every machine resolves by itself.
const lookup = dns.lookup;
dns.lookup = (name, ...rest) => lookup(name.endsWith(".localhost") ? "localhost" : name, ...rest);

const ObsClient = require("esdk-obs-nodejs");

const dew = require("./dew.cjs");

const described = JSON.parse(readFileSync(process.argv[2], "utf8"));
const dev = JSON.parse(readFileSync(described.dev, "utf8"));
const account = dev.accounts[0];
const admin = account.users.find((user) => user.name === "admin");
const keys = { admin, wrong: { ak: admin.ak, sk: "another secret" }, ...described.credentials };
// This SDK sends bytes as if they were UTF-8.
const TEXT = Buffer.alloc(256000, "0123456789abcdef ");
const UUID = /[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

// This SDK's clients become ready a moment after they are made.
async function client(options, name = "admin") {
    const { ak, sk, token } = keys[name];
    const made = new ObsClient({
        access_key_id: ak,
        secret_access_key: sk,
        security_token: token ?? undefined,
        server: described.obs,
        ssl_verify: described.ca_cert,
        max_retry_count: 0,
        ...options,
    });
    await new Promise(setImmediate);
    return made;
}

async function done(call) {
    const { CommonMsg: told, InterfaceResult: result } = await call;
    assert.ok(told.Status < 300, `${told.Status} ${told.Code} ${told.Message}`);
    assert.match(told.RequestId, /^[0-9A-F]{32}$/);
    assert.equal(told.Id2.length, 44);
    return result;
}

async function refused(call, status, code) {
    const { CommonMsg: told } = await call;
    assert.deepEqual([told.Status, told.Code], [status, code], told.Message);
    assert.match(told.RequestId, /^[0-9A-F]{32}$/);
}

// The body of a download: as a text, this SDK would read it as UTF-8.
async function content(call) {
    const chunks = [];
    for await (const chunk of (await done(call)).Content) chunks.push(chunk);
    return Buffer.concat(chunks);
}

// What a URL answers.
function fetched({ ActualSignedRequestHeaders: headers, SignedUrl: url }, method = "GET", body = undefined) {
    return new Promise((resolve, reject) => {
        const options = { method, headers, ca: readFileSync(described.ca_cert) };
        const request = https.request(url, options, (answer) => {
            const chunks = [];
            answer.on("data", (chunk) => chunks.push(chunk));
            answer.on("end", () => resolve({ status: answer.statusCode, body: Buffer.concat(chunks) }));
        });
        request.on("error", reject);
        request.end(body);
    });
}

async function objects(obs, Bucket, isObs, key) {
    const sealed = { SseKms: "kms", SseKmsKey: key };
    const at = (Key) => ({ Bucket, Key });
    const name = "dir/ö a+b";
    const put = await done(obs.putObject({ ...at(name), Body: TEXT, Metadata: { a: "b" }, ...sealed }));
    assert.equal(put.SseKms, isObs ? "kms" : "aws:kms");
    assert.match(put.SseKmsKey, UUID);
    assert.ok(put.SseKmsKey.endsWith(key));
    const etag = createHash("md5").update(TEXT).digest("hex");
    assert.notEqual(put.ETag, `"${etag}"`, "of what is stored");
    const get = (Key, more) => content(obs.getObject({ ...at(Key), SaveAsStream: true, ...more }));
    assert.deepEqual(await get(name), TEXT);
    assert.deepEqual(await get(name, { Range: "bytes=65530-65545" }), TEXT.subarray(65530, 65546));
    const head = await done(obs.getObjectMetadata(at(name)));
    assert.deepEqual([head.ContentLength, head.ETag], [String(TEXT.length), put.ETag]);
    assert.equal(head.Metadata.a, "b");

    const begun = await done(obs.initiateMultipartUpload({ ...at("parts"), ...sealed }));
    const upload = { ...at("parts"), UploadId: begun.UploadId };
    const Parts = [];
    for (const PartNumber of [1, 2]) {
        const { ETag } = await done(obs.uploadPart({ ...upload, PartNumber, Body: TEXT }));
        Parts.push({ PartNumber, ETag });
    }
    const copied = await done(obs.copyPart({ ...upload, PartNumber: 3, CopySource: `${Bucket}/${name}` }));
    Parts.push({ PartNumber: 3, ETag: copied.ETag });
    const listed = await done(obs.listParts(upload));
    assert.deepEqual(listed.Parts.map((part) => part.Size), Array(3).fill(String(TEXT.length)));
    const uploads = await done(obs.listMultipartUploads({ Bucket }));
    assert.deepEqual(uploads.Uploads.map((one) => one.UploadId), [begun.UploadId]);
    const completed = await done(obs.completeMultipartUpload({ ...upload, Parts }));
    assert.match(completed.ETag, /-3"$/);
    assert.deepEqual(await get("parts"), Buffer.concat([TEXT, TEXT, TEXT]));
    const given = await done(obs.initiateMultipartUpload({ ...at("given-up"), ...sealed }));
    await done(obs.abortMultipartUpload({ ...at("given-up"), UploadId: given.UploadId }));

    await done(obs.copyObject({ ...at("copy"), CopySource: `${Bucket}/${name}`, ...sealed }));
    assert.deepEqual(await get("copy"), TEXT);

    const list = await done(obs.listObjects({ Bucket, Delimiter: "/" }));
    assert.deepEqual(list.Contents.map(({ Key, Size }) => [Key, Size]), [
        ["copy", String(TEXT.length)],
        ["parts", String(3 * TEXT.length)],
    ]);
    assert.deepEqual(list.CommonPrefixes.map((one) => one.Prefix), ["dir/"]);
    assert.equal(list.Location, described.region);
    const page = await done(obs.listObjects({ Bucket, MaxKeys: 1 }));
    assert.deepEqual([page.IsTruncated, page.NextMarker], ["true", "copy"]);
}

async function urls(obs, Bucket, isObs, key) {
    const words = isObs ? "x-obs-server-side-encryption" : "x-amz-server-side-encryption";
    const headers = {
        [words]: isObs ? "kms" : "aws:kms",
        [isObs ? `${words}-kms-key-id` : `${words}-aws-kms-key-id`]: key,
        "Content-Type": "text/plain",
    };
    const signed = (Method, Headers) =>
        obs.createSignedUrlSync({ Method, Bucket, Key: "dir/url", Expires: 60, Headers });
    const put = signed("PUT", headers);
    assert.equal((await fetched(put, "PUT", TEXT)).status, 200);
    const { [words]: _, ...fewer } = put.ActualSignedRequestHeaders;
    assert.equal((await fetched({ ...put, ActualSignedRequestHeaders: fewer }, "PUT", TEXT)).status, 403);
    assert.deepEqual((await fetched(signed("GET"))).body, TEXT);
    const stored = await done(obs.getObjectMetadata({ Bucket, Key: "dir/url" }));
    assert.equal(stored.SseKms, isObs ? "kms" : "aws:kms");
}

async function configuration(obs, Bucket, isObs, key) {
    const missing = isObs ? "NoSuchEncryptionConfiguration" : "ServerSideEncryptionConfigurationNotFoundError";
    await refused(obs.getBucketEncryption({ Bucket }), 404, missing);
    const Rule = { ApplyServerSideEncryptionByDefault: { SSEAlgorithm: "kms", KMSMasterKeyID: key } };
    await done(obs.setBucketEncryption({ Bucket, Rule }));
    const shown = (await done(obs.getBucketEncryption({ Bucket }))).Rule.ApplyServerSideEncryptionByDefault;
    assert.deepEqual([shown.SSEAlgorithm, shown.KMSMasterKeyID], [isObs ? "kms" : "aws:kms", key]);
    const put = await done(obs.putObject({ Bucket, Key: "default", Body: TEXT }));
    assert.ok(put.SseKmsKey.endsWith(key), "the bucket's key");
    await done(obs.deleteBucketEncryption({ Bucket }));
    await refused(obs.getBucketEncryption({ Bucket }), 404, missing);

    const deny = {
        Effect: "Deny",
        Principal: { ID: ["*"] },
        Action: ["PutObject"],
        Resource: [`${Bucket}/*`],
        Condition: { StringNotEquals: { "x-obs-server-side-encryption": "kms" } },
    };
    const Policy = JSON.stringify({ Statement: [deny] });
    await done(obs.setBucketPolicy({ Bucket, Policy }));
    assert.equal((await done(obs.getBucketPolicy({ Bucket }))).Policy, Policy);
    await refused(obs.putObject({ Bucket, Key: "plain", Body: TEXT }), 403, "AccessDenied");
    await done(obs.putObject({ Bucket, Key: "default", Body: TEXT, SseKms: "kms" }));
    await done(obs.deleteBucketPolicy({ Bucket }));
}

// A customer's bucket with all that it may hold, until nothing is left of it.
async function bucket(options, Bucket, isObs, key) {
    const obs = await client(options);
    await done(obs.createBucket({ Bucket, Location: described.region }));
    const location = await done(obs.getBucketLocation({ Bucket }));
    const metadata = await done(obs.getBucketMetadata({ Bucket }));
    if (isObs) {
        assert.equal(location.Location, described.region);
        assert.deepEqual([metadata.Location, metadata.ObsVersion], [described.region, "3.0"]);
        const { Buckets } = await done(obs.listBuckets());
        const own = Buckets.find((one) => one.BucketName === Bucket);
        assert.deepEqual([own.Location, own.BucketType], [described.region, "OBJECT"]);
    }
    await objects(obs, Bucket, isObs, key);
    await urls(obs, Bucket, isObs, key);
    await configuration(obs, Bucket, isObs, key);

    await refused(obs.getObject({ Bucket, Key: "none" }), 404, "NoSuchKey");
    await refused(obs.getObjectMetadata({ Bucket, Key: "none" }), 404, isObs ? "NoSuchKey" : "");
    const unknown = "00000000-0000-4000-8000-000000000000";
    const never = { Bucket, Key: "x", Body: TEXT, SseKms: "kms", SseKmsKey: unknown };
    await refused(obs.putObject(never), 400, "KMS.NotFoundException");
    await refused(obs.deleteBucket({ Bucket }), 409, "BucketNotEmpty");
    const temporary = await client(options, "temporary");
    assert.deepEqual(await content(temporary.getObject({ Bucket, Key: "copy", SaveAsStream: true })), TEXT);
    await refused((await client(options, "expired")).getObject({ Bucket, Key: "copy" }), 403, "InvalidAccessKeyId");
    await refused((await client(options, "wrong")).getObject({ Bucket, Key: "copy" }), 403, "SignatureDoesNotMatch");

    const Objects = ["dir/ö a+b", "dir/url", "parts", "copy", "default"].map((Key) => ({ Key }));
    const { Deleteds } = await done(obs.deleteObjects({ Bucket, Objects }));
    assert.equal(Deleteds.length, Objects.length);
    await done(obs.deleteBucket({ Bucket }));
    await refused(obs.headBucket({ Bucket }), 404, isObs ? "NoSuchBucket" : "");
}

async function main() {
    const kms = dew.client(dev, admin.ak, admin.sk);
    const key = (await dew.send(kms, "create-key", { key_alias: "node/store" })).key_info.key_id;
    for (const [name, options, isObs] of [
        ["obs", { signature: "obs", is_signature_negotiation: false }, true],
        ["v2", { signature: "v2", is_signature_negotiation: false }, false],
        ["v2-path", { signature: "v2", path_style: true }, false],
        ["none", {}, true],
    ]) {
        await bucket(options, `node-${name}`, isObs, key);
        process.stdout.write(`${name}: all done\n`);
    }
}

main().then(
    () => process.exit(0), // this SDK keeps its connections open
    (error) => {
        process.stderr.write(`${error.stack}\n`);
        process.exit(1);
    },
);
