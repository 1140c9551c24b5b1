//! A rotation campaign on a real service: counted, moved, killed in the middle, gone on with.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread::sleep,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use dewpoint_tests::{Clients, Dev, DevOptions, by_id, check_log, context};
use kms_proto::v1::{
    Campaign, DescribeKeyUsageRequest, GetCampaignRequest, RotateKeyOnDemandRequest, StartCampaignRequest,
    campaign_service_client::CampaignServiceClient, rotation_service_client::RotationServiceClient,
};
use serde_json::{Value, json};

/// How many data keys each of the two versions seals.
const DATA_KEYS: u64 = 500;
const CONTEXT: [(&str, &str); 1] = [("bucket", "photos")];

async fn rotate(clients: &Clients, key_id: &str) -> u32 {
    let request = RotateKeyOnDemandRequest { key_id: key_id.to_owned(), from_version: 0 };
    let mut rotations = RotationServiceClient::new(clients.channel.clone());
    rotations
        .rotate_key_on_demand(request)
        .await
        .expect("rotated")
        .into_inner()
        .key
        .expect("a key")
        .current_version
}

async fn campaign(clients: &Clients, key_id: &str) -> Campaign {
    let request = GetCampaignRequest { key: by_id(key_id), target_version: 3 };
    let mut campaigns = CampaignServiceClient::new(clients.channel.clone());
    campaigns.get_campaign(request).await.expect("begun").into_inner().campaign.expect("a campaign")
}

/// Data keys issued by version.
async fn issued(clients: &mut Clients, key_id: &str) -> Vec<u64> {
    let read = clients.keys.describe_key_usage(DescribeKeyUsageRequest { key: by_id(key_id) });
    let usage = read.await.expect("read").into_inner().usage.expect("a usage");
    usage.versions.iter().map(|version| version.data_keys).collect()
}

/// Seals many data keys; answers their plaintexts, and appends the input of a campaign.
async fn seal(clients: &Clients, key_id: &str, lines: &mut String) -> Vec<Vec<u8>> {
    let mut plaintexts = Vec::new();
    for _ in 0..DATA_KEYS {
        let made = clients.clone().generate(by_id(key_id), context(&CONTEXT)).await.expect("made");
        let line = json!({
            "ciphertext_blob": STANDARD.encode(&made.ciphertext_blob),
            "encryption_context": {"bucket": "photos"},
        });
        lines.push_str(&line.to_string());
        lines.push('\n');
        plaintexts.push(made.plaintext.to_vec());
    }
    plaintexts
}

fn rewrap(dev: &Dev, input: &Path, output: &Path) -> Command {
    let files = [input.to_str().expect("UTF-8"), output.to_str().expect("UTF-8")];
    let mut command = dev.dewctl(&["campaign", "rewrap", "--in", files[0], "--out", files[1]]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn lines(path: &Path) -> usize {
    fs::read_to_string(path).unwrap_or_default().lines().count()
}

/// Begins to move, and kills the client and the service when so many were moved.
fn killed_after(dev: &mut Dev, input: &Path, output: &Path, moved: usize) {
    let mut client = rewrap(dev, input, output).spawn().expect("dewctl");
    let patience = tokio::time::Instant::now() + Duration::from_secs(60);
    while lines(output) < moved {
        assert!(tokio::time::Instant::now() < patience, "nothing moves");
        sleep(Duration::from_millis(2));
    }
    dev.kill();
    client.kill().expect("it runs, or has ended");
    client.wait().expect("it has ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_campaign_that_is_killed_goes_on_and_the_gate_opens_at_its_end_only() {
    let options = DevOptions { arguments: vec!["--traffic-control=off".into()], ..DevOptions::default() };
    let mut dev = Dev::start_with(options);
    let mut admin = dev.user(0, "admin").await;
    let key = admin.create("campaign").await.key_id;
    let mut text = String::new();
    let mut plaintexts = seal(&admin, &key, &mut text).await;
    assert_eq!(rotate(&admin, &key).await, 2);
    plaintexts.extend(seal(&admin, &key, &mut text).await);
    assert_eq!(rotate(&admin, &key).await, 3);
    dev.kill();
    dev.start_again();
    let mut admin = dev.user(0, "admin").await;
    assert_eq!(issued(&mut admin, &key).await, [DATA_KEYS, DATA_KEYS, 0]);

    let request = StartCampaignRequest { key_id: key.clone() };
    CampaignServiceClient::new(admin.channel.clone()).start_campaign(request).await.expect("begun");
    let file = |name: &str| -> PathBuf { dev.directory().join(name) };
    let (input, output) = (file("sealed.jsonl"), file("moved.jsonl"));
    fs::write(&input, &text).expect("written");
    for moved in [200, 600] {
        killed_after(&mut dev, &input, &output, moved);
        dev.start_again();
        let admin = dev.user(0, "admin").await;
        let status = campaign(&admin, &key).await;
        let counted: u64 = status.versions.iter().map(|version| version.moved).sum();
        assert!(counted >= lines(&output) as u64 - 1, "{counted}");
        assert_eq!(status.gate_open, counted == 2 * DATA_KEYS);
    }
    assert!(rewrap(&dev, &input, &output).status().expect("dewctl").success());
    let admin = dev.user(0, "admin").await;
    let status = campaign(&admin, &key).await;
    let expected = |version: u32| (version, DATA_KEYS, DATA_KEYS, true);
    let versions: Vec<_> =
        status.versions.iter().map(|one| (one.number, one.sealed, one.moved, one.gate_open)).collect();
    assert_eq!((versions, status.gate_open), (vec![expected(1), expected(2)], true));
    check(&dev, &output, &plaintexts).await;
    assert!(dev.stop().success());
    check_log(dev.directory());
}

/// Every ciphertext is there once, under the newest version, with its content.
async fn check(dev: &Dev, output: &Path, plaintexts: &[Vec<u8>]) {
    let mut admin = dev.user(0, "admin").await;
    let text = fs::read_to_string(output).expect("written");
    let mut seen = vec![false; plaintexts.len()];
    for line in text.lines() {
        let moved: Value = serde_json::from_str(line).expect("JSON");
        let number = usize::try_from(moved["line"].as_u64().expect("a number") - 1).expect("small");
        assert!(!std::mem::replace(&mut seen[number], true), "line {number} twice");
        assert_eq!(moved["to_version"], 3);
        let blob = STANDARD.decode(moved["ciphertext_blob"].as_str().expect("text")).expect("Base64");
        let opened = admin.decrypt(&blob, None, context(&CONTEXT)).await.expect("opens");
        assert_eq!(opened.plaintext.to_vec(), plaintexts[number]);
    }
    assert!(seen.iter().all(|seen| *seen));
}
