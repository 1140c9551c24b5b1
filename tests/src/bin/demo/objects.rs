//! An object with SSE-KMS, put and got by OBS' own SDK through the object gateway.

use std::{fs, path::Path};

use dewpoint_tests::Dev;
use serde_json::Value;
use tokio::process::Command;

use crate::{
    failure::{During as _, Failure},
    log,
    report::say,
    stage::Places,
    tree::{PlainFile, Tree},
};

const BUCKET: &str = "demo";
/// The file that becomes an object: text, so that everybody sees what is no longer one.
const FILE: &str = "repository/README.md";
/// As much of the plaintext as nothing else holds by chance.
const PIECE: usize = 16;

/// Has the SDK put and get the object under this key, and shows what lies on disk and in the log.
pub(crate) async fn show(dev: &Dev, places: &Places, tree: &Tree, key_id: &str) -> Result<(), Failure> {
    let file = tree.files.iter().find(|file| file.name == FILE);
    let file = file.ok_or_else(|| Failure::new(format!("{FILE} is missing")))?;
    let audit = places.service().join("audit");
    let before = log::end(&audit)?;
    call_sdk(dev, &places.plain().join(&file.name), key_id).await?;
    let streams = places.service().join("obs/data/buckets").join(BUCKET).join("data");
    on_disk(&streams, file, &places.plain())?;
    in_the_log(dev, &audit, before, key_id)
}

async fn call_sdk(dev: &Dev, file: &Path, key_id: &str) -> Result<(), Failure> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut client = Command::new(root.join(".tools/venv/bin/python"));
    client.arg("-B").arg(root.join("tests/clients/demo.py")).env("PYTHONWARNINGS", "ignore");
    client.arg(dev.directory().join("dev.json")).args([BUCKET, key_id]).arg(file);
    let ended = client.kill_on_drop(true).status().await;
    let status = ended.during("starting OBS' SDK (scripts/setup.sh demo installs it)")?;
    if status.success() { Ok(()) } else { Err(Failure::new(format!("OBS' SDK ended with {status}"))) }
}

/// What lies on disk of the two objects. The plain one shows that the plaintext would be found.
fn on_disk(streams: &Path, file: &PlainFile, plain: &Path) -> Result<(), Failure> {
    let plaintext = fs::read(plain.join(&file.name)).during(&file.name)?;
    let pieces: Vec<_> = plaintext.chunks_exact(PIECE).collect();
    let mut found = Vec::new();
    for entry in fs::read_dir(streams).during(streams.display())? {
        let path = entry.during(streams.display())?.path();
        let stored = fs::read(&path).during(path.display())?;
        let held =
            pieces.iter().filter(|piece| stored.windows(PIECE).any(|window| window == **piece)).count();
        found.push((held, stored));
    }
    found.sort_unstable();
    let held: Vec<_> = found.iter().map(|(held, _)| *held).collect();
    if held != [0, pieces.len()] {
        return Err(Failure::new(format!(
            "the files of the two objects hold {held:?} pieces of the plaintext"
        )));
    }
    for (what, (held, stored)) in ["on disk, with SSE-KMS", "on disk, without"].iter().zip(&found) {
        let begin = stored.get(..PIECE).map(hex::encode).unwrap_or_default();
        say(format_args!(
            "   {what:<39} begins with {begin}, has {held} of the file's {} pieces of {PIECE} bytes",
            pieces.len()
        ));
    }
    Ok(())
}

/// Both data-key records: the gateway called, for the user who had signed.
fn in_the_log(dev: &Dev, audit: &Path, since: u64, key_id: &str) -> Result<(), Failure> {
    let account = dev.description.account(0);
    for (operation, user) in [("GenerateDataKey", "uploader"), ("DecryptDataKey", "downloader")] {
        let user_id = &account.user(user).user_id;
        let is_it = |record: &Value| {
            record["operation"] == operation
                && record["verdict"] == "succeeded"
                && record["key_id"] == key_id
                && record["user"] == user_id.as_str()
                && record["acting_service"] == "obs"
        };
        let record = log::find(audit, since, is_it)?;
        let record =
            record.ok_or_else(|| Failure::new(format!("there is no record of {operation} for {user}")))?;
        say(format_args!(
            "   {:<39} by the service obs for {user}, request {}",
            format!("in the log, {operation}"),
            record["request_id"].as_str().unwrap_or_default()
        ));
    }
    say(
        "   What else a user needs, the gateway tries out: those records are of failed calls, with the reason DRY_RUN.",
    );
    Ok(())
}
