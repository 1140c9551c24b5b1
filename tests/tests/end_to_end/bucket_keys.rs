//! Bucket keys of a gateway: what they spare, how long what was taken away is still used, and what the log tells of them.

use std::{sync::Arc, time::Duration};

use dewpoint_tests::{Clients, Dev, DevOptions, check_log, records};
use kms_client::{
    Client, ClientConfig, KeyReference,
    bucket_keys::{BucketKeys, BucketKeysConfig, Error, ManualClock, ObjectName, Requester},
    envelope::{self, Opener, Sealer, Suite},
};
use kms_proto::v1::{
    AdvanceRequest, CreateGrantRequest, DisableKeyRequest, EnableKeyRequest, GrantOperation, Grantee,
    RevokeGrantRequest, grant_service_client::GrantServiceClient, grantee::Principal,
};
use serde_json::Value;
use tokio::task::JoinSet;

const SECOND: Duration = Duration::from_secs(1);
/// How long a bucket key is used in these tests.
const VALIDITY: Duration = Duration::from_secs(180);
const OBJECTS: usize = 1000;

/// A deployment and a gateway before it, on clocks that go together.
struct Site {
    dev: Dev,
    operator: Clients,
    clock: Arc<ManualClock>,
    client: Client,
    keys: Arc<BucketKeys>,
}

impl Site {
    async fn start() -> Self {
        let arguments = vec!["--traffic-control=off".into(), "--clock=manual".into()];
        let dev = Dev::start_with(DevOptions { arguments, ..DevOptions::default() });
        let (certificate, key) = dev.description.service("obs");
        let (endpoint, ca) = (dev.description.endpoint(), dev.description.ca());
        let config = ClientConfig::from_files(endpoint, ca, certificate, key).expect("certificates");
        let patient = config.deadline(Duration::from_secs(60)).connect_timeout(Duration::from_secs(60));
        let client = Client::connect(patient).await.expect("the service is there");
        let (operator, clock) = (dev.operator().await, Arc::<ManualClock>::default());
        let config = BucketKeysConfig { validity: VALIDITY, ..BucketKeysConfig::default() };
        let keys = BucketKeys::with(Arc::new(client.clone()), clock.clone(), config).expect("in range");
        Self { dev, operator, clock, client, keys: Arc::new(keys) }
    }

    fn requester(&self, account: usize, user: &str) -> Requester {
        Requester::user(self.dev.description.account(account).user(user).user_id.clone())
    }

    async fn advance(&mut self, by: Duration) {
        self.clock.advance(by);
        let by = Some(by.try_into().expect("a duration"));
        self.operator.dev.advance(AdvanceRequest { by }).await.expect("an operator");
    }

    /// Puts an object: what is to be kept of its key.
    async fn put(&self, requester: &Requester, key: &KeyReference) -> Result<Vec<u8>, Error> {
        let name = ObjectName { bucket: "photos", object: "harbour.jpg" };
        let made = self.keys.new_object_key(requester, name, key, Suite::Aes256Gcm).await;
        made.map(|made| made.sealed)
    }

    async fn get(&self, requester: &Requester, sealed: &[u8]) -> Result<(), Error> {
        let name = ObjectName { bucket: "photos", object: "harbour.jpg" };
        self.keys.open_object_key(requester, name, None, sealed).await.map(drop)
    }

    /// The records of one operation that the gateway was answered.
    fn answered(&self, operation: &str) -> Vec<Value> {
        let mut answered = records(self.dev.directory());
        answered.retain(|record| record["operation"] == operation && record["verdict"] == "succeeded");
        answered
    }
}

fn by_id(key_id: &str) -> KeyReference {
    KeyReference::KeyId(key_id.to_owned())
}

/// Puts an object and gets it back with a data key of its own.
async fn with_data_key(site: Arc<Site>, object: String) {
    let obs = KeyReference::Service("obs".to_owned());
    let [writer, reader] = ["uploader", "downloader"]
        .map(|user| site.client.for_requester(&site.requester(0, user)).expect("a user"));
    let context = [("object".to_owned(), object)].into();
    let made = writer.generate_data_key(&obs, 32, &context).await.expect("may upload");
    reader.decrypt_data_key(&made.ciphertext, None, &context).await.expect("may download");
}

/// The same with a key under a bucket key, and with all of the object.
async fn with_bucket_key(site: Arc<Site>, object: String) {
    let obs = KeyReference::Service("obs".to_owned());
    let [uploader, downloader] = ["uploader", "downloader"].map(|user| site.requester(0, user));
    let name = ObjectName { bucket: "photos", object: &object };
    let content = object.repeat(100).into_bytes();
    let made = site.keys.new_object_key(&uploader, name, &obs, Suite::Aes256Gcm).await.expect("may upload");
    let sealer = Sealer::new(Suite::Aes256Gcm, made.plaintext.expose(), &made.sealed).expect("a key");
    let mut stored = Vec::new();
    envelope::seal_stream(sealer, &mut &content[..], &mut stored).await.expect("sealed");

    let mut stored = &stored[..];
    let header = envelope::read_header(&mut stored).await.expect("an envelope");
    let opened = site.keys.open_object_key(&downloader, name, None, header.sealed_key()).await;
    let opener = Opener::new(header, opened.expect("may download").plaintext.expose()).expect("its key");
    let mut read = Vec::new();
    envelope::open_stream(&opener, &mut stored, &mut read).await.expect("it opens");
    assert_eq!(read, content);
}

/// How many calls of the gateway the log has.
fn calls(site: &Site) -> usize {
    let of_gateway = |record: &Value| record["acting_service"] == "obs";
    records(site.dev.directory()).into_iter().filter(of_gateway).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_puts_and_a_thousand_gets_cost_hardly_any_call() {
    let site = Arc::new(Site::start().await);
    let obs = KeyReference::Service("obs".to_owned());
    site.put(&site.requester(0, "uploader"), &obs).await.expect("made on first use");
    site.keys.invalidate_all();

    let before = calls(&site);
    let objects = (0..OBJECTS).map(|number| with_data_key(site.clone(), format!("object-{number}")));
    objects.collect::<JoinSet<()>>().join_all().await;
    let without = calls(&site) - before;
    assert!(without >= 2 * OBJECTS, "{without}");

    let before = calls(&site);
    let objects = (0..OBJECTS).map(|number| with_bucket_key(site.clone(), format!("object-{number}")));
    objects.collect::<JoinSet<()>>().join_all().await;
    site.keys.close().await;
    let with = calls(&site) - before; // with the reports
    println!("calls for {OBJECTS} puts and {OBJECTS} gets: {without} without bucket keys, {with} with");
    assert!(with * 100 <= without * 3, "{with} of {without}: not 97 % fewer");

    let reports = site.answered("ReportBucketKeyUse");
    let uses: u64 = reports.iter().map(|record| record["uses"].as_u64().expect("a number")).sum();
    assert_eq!(
        uses,
        u64::try_from(OBJECTS).expect("small") + 1,
        "the log tells how many objects hang on them"
    );
    let counters = site.keys.counters();
    assert_eq!((counters.reports, counters.lost_reports), (2, 0));
    check_log(site.dev.directory());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disabled_key_is_used_for_the_validity_at_the_longest() {
    let mut site = Site::start().await;
    let mut admin = site.dev.user(0, "admin").await;
    let key_id = admin.create("photos").await.key_id;
    let (uploader, downloader) = (site.requester(0, "uploader"), site.requester(0, "downloader"));
    let key = by_id(&key_id);
    let sealed = site.put(&uploader, &key).await.expect("may upload");
    site.get(&downloader, &sealed).await.expect("may download");
    assert_eq!(site.put(&downloader, &key).await.map(drop).ok(), Some(()), "may do both");
    let refused = site.get(&uploader, &sealed).await.expect_err("no permission to open");
    assert_eq!(refused.reason(), Some("PERMISSION_DENIED"), "what it writes with it cannot read with");

    site.advance(SECOND).await;
    admin.keys.disable_key(DisableKeyRequest { key_id: key_id.clone() }).await.expect("enabled");
    // From here on it is a matter of time, and never of more than the validity.
    site.advance(VALIDITY.saturating_sub(2 * SECOND)).await;
    site.put(&uploader, &key).await.expect("the last second");
    site.get(&downloader, &sealed).await.expect("the last second");
    site.advance(SECOND).await;
    for refused in [
        site.put(&uploader, &key).await.map(drop),
        site.get(&downloader, &sealed).await,
        site.put(&downloader, &key).await.map(drop),
    ] {
        assert_eq!(refused.expect_err("disabled").reason(), Some("KEY_DISABLED"));
    }

    // A gateway that learns of it need not wait.
    admin.keys.enable_key(EnableKeyRequest { key_id: key_id.clone() }).await.expect("disabled");
    site.put(&uploader, &key).await.expect("enabled");
    admin.keys.disable_key(DisableKeyRequest { key_id: key_id.clone() }).await.expect("enabled");
    site.put(&uploader, &key).await.expect("within the validity");
    assert_eq!(site.keys.invalidate_key(&key_id), Ok(1));
    let refused = site.put(&uploader, &key).await.expect_err("disabled");
    assert_eq!(refused.reason(), Some("KEY_DISABLED"));

    // Reports come although the key is disabled, and say what hangs on each bucket key.
    site.keys.close().await;
    let issued = site.answered("GenerateBucketKey");
    let reports = site.answered("ReportBucketKeyUse");
    let mut uses = Vec::new();
    for record in &issued {
        assert_eq!((&record["key_id"], &record["acting_service"]), (&key_id.as_str().into(), &"obs".into()));
        assert!(record["valid_until"].is_string() && record["context"]["bucket"].is_string(), "{record}");
        let of_it: Vec<&Value> =
            reports.iter().filter(|report| report["bucket_key"] == record["bucket_key"]).collect();
        let [report] = of_it[..] else { panic!("one report on {record}") };
        assert_eq!((&report["key_id"], &report["user"]), (&record["key_id"], &record["user"]));
        uses.push(report["uses"].as_u64().expect("a number"));
    }
    assert_eq!(uses, [2, 1, 2]);
    check_log(site.dev.directory());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_grant_is_used_for_the_validity_at_the_longest() {
    let mut site = Site::start().await;
    let mut owner = site.dev.user(0, "admin").await;
    let key_id = owner.create("shared").await.key_id;
    let (guest, key) = (site.requester(1, "admin"), by_id(&key_id));
    let refused = site.put(&guest, &key).await.expect_err("not granted");
    assert_eq!(refused.reason(), Some("KEY_NOT_FOUND"));

    let mut grants = GrantServiceClient::new(owner.channel.clone());
    let grantee = Principal::DomainId(site.dev.description.account(1).domain_id);
    let operations = [GrantOperation::CreateDatakey, GrantOperation::DecryptDatakey];
    let request = CreateGrantRequest {
        key_id: key_id.clone(),
        grantee: Some(Grantee { principal: Some(grantee) }),
        operations: operations.map(i32::from).to_vec(),
        ..CreateGrantRequest::default()
    };
    let made = grants.create_grant(request).await.expect("its own key").into_inner();
    let grant_id = made.grant.expect("a grant").grant_id;
    let sealed = site.put(&guest, &key).await.expect("granted");
    site.get(&guest, &sealed).await.expect("granted");

    grants.revoke_grant(RevokeGrantRequest { key_id, grant_id }).await.expect("its own key");
    site.advance(VALIDITY.saturating_sub(SECOND)).await;
    site.put(&guest, &key).await.expect("the last second");
    site.get(&guest, &sealed).await.expect("the last second");
    site.advance(SECOND).await;
    for refused in [site.put(&guest, &key).await.map(drop), site.get(&guest, &sealed).await] {
        assert_eq!(refused.expect_err("revoked").reason(), Some("KEY_NOT_FOUND"));
    }
    site.keys.close().await;
    let reports = site.answered("ReportBucketKeyUse");
    assert_eq!((reports.len(), &reports[0]["uses"]), (1, &2.into()), "told although the grant is gone");
    check_log(site.dev.directory());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_bounds_the_validity_whatever_a_gateway_wants() {
    let site = Site::start().await;
    let context = [("bucket".to_owned(), "photos".to_owned())].into();
    let client = site.client.for_requester(&site.requester(0, "admin")).expect("a user");
    let obs = KeyReference::Service("obs".to_owned());
    let ask = |seconds| client.generate_bucket_key(&obs, Suite::Sm4Gcm, seconds * SECOND, &context);
    assert_eq!(ask(0).await.expect("the default").validity, VALIDITY);
    let made = ask(900).await.expect("the longest");
    assert_eq!((made.validity, made.suite, made.most_uses), (900 * SECOND, Suite::Sm4Gcm, 1_000_000));
    assert_eq!(ask(901).await.expect("what is allowed").validity, 900 * SECOND);
    let opened = client.decrypt_bucket_key(&made.ciphertext, Some(&obs), &context).await.expect("it opens");
    assert_eq!((opened.suite, opened.validity), (Suite::Sm4Gcm, 900 * SECOND));
    assert_eq!(opened.plaintext.expose(), made.plaintext.expose());
    client.report_bucket_key_use(&made.receipt, 1_000_001).await.expect_err("too many");
    let other = site.client.for_requester(&site.requester(0, "uploader")).expect("a user");
    other.report_bucket_key_use(&made.receipt, 1).await.expect_err("another user's");
}

#[test]
fn dewctl_makes_opens_and_reports() {
    let dev = Dev::start();
    let text = |object: &Value, field: &str| object[field].as_str().expect("text").to_owned();
    let bound = ["--context", "bucket=photos"];
    let make = ["--json", "bucket-key", "generate", "obs/default", "--algorithm", "SM4"];
    let made = dev.ctl(&[&make[..], &["--validity-seconds", "60"], &bound].concat()).json();
    assert_eq!((&made["algorithm"], &made["validity_seconds"]), (&"SM4".into(), &60.into()));
    let sealed = text(&made, "ciphertext");
    let open = ["--json", "bucket-key", "decrypt", "--base64", &sealed];
    let opened = dev.ctl(&[&open[..], &bound].concat()).json();
    for field in ["plaintext", "bucket_key_id", "key_id", "algorithm"] {
        assert_eq!(opened[field], made[field], "{field}");
    }
    assert_eq!(dev.ctl(&open).refusal(), "CANNOT_DECRYPT");
    let as_data_key = ["--json", "data-key", "decrypt", "--base64", &sealed];
    assert_eq!(dev.ctl(&[&as_data_key[..], &bound].concat()).refusal(), "CANNOT_DECRYPT");
    let receipt = text(&made, "receipt");
    let report = ["--json", "bucket-key", "report", "--base64", &receipt, "--uses", "12"];
    let reported = dev.ctl(&report).json();
    assert_eq!((&reported["bucket_key_id"], &reported["uses"]), (&made["bucket_key_id"], &12.into()));
    assert_eq!(
        dev.ctl(&["--json", "bucket-key", "report", "--base64", &sealed, "--uses", "1"]).refusal(),
        "INVALID_FIELD"
    );
}
