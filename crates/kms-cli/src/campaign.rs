//! `dewctl campaign`: what older versions of a key sealed is moved under the current one.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File, OpenOptions},
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
};

use kms_client::{
    Repeat,
    proto::{
        self, RewrapRequest, RewrapResponse, campaign_service_client::CampaignServiceClient,
        rewrap_response::Result as Outcome,
    },
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    connection::ConnectionOptions,
    input::{from_base64, key_reference, to_base64},
    output::{Failure, show, show_all},
    rotation::at,
};

/// What to do about campaigns.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum CampaignCommand {
    /// Begin a campaign to the current version of a key
    Start {
        /// Its id
        key: String,
    },
    /// Show how far the campaigns of a key have come, and whether old versions are still needed
    Status {
        /// Its id or alias
        key: String,
    },
    /// Move ciphertexts under the current version of their key
    ///
    /// The input has one JSON object a line: {"ciphertext_blob": BASE64, "encryption_context": {...}}. The output gets
    /// one for each that was moved: {"line": NUMBER, "from_version": N, "to_version": N, "ciphertext_blob": BASE64}.
    /// Run again with the same files, it goes on where it stopped, however it was stopped.
    Rewrap(RewrapOptions),
}

/// What to move.
#[derive(Debug, clap::Args)]
pub(crate) struct RewrapOptions {
    /// The ciphertexts
    #[arg(long = "in", value_name = "FILE")]
    input: PathBuf,
    /// The moved ones; what it holds already is not moved again
    #[arg(long = "out", value_name = "FILE")]
    output: PathBuf,
}

/// Runs one of them.
pub(crate) async fn run(
    command: &CampaignCommand,
    connection: &ConnectionOptions,
    as_json: bool,
) -> Result<(), Failure> {
    let client = connection.user().await?;
    match command {
        CampaignCommand::Start { key } => {
            let request = proto::StartCampaignRequest { key_id: key.clone() };
            let started = client.call(Repeat::OnlyIfUndone, request, |channel, request| async move {
                CampaignServiceClient::new(channel).start_campaign(request).await
            });
            let campaign = started.await?.campaign.unwrap_or_default();
            show(&described(&campaign), as_json)
        }
        CampaignCommand::Status { key } => {
            let request = proto::ListCampaignsRequest {
                key: Some(proto::KeyReference { reference: Some(key_reference(key)) }),
            };
            let found = client.call(Repeat::Harmless, request, |channel, request| async move {
                CampaignServiceClient::new(channel).list_campaigns(request).await
            });
            let campaigns: Vec<Value> = found.await?.campaigns.iter().map(described).collect();
            show_all(
                &campaigns,
                &["target_version", "started_at", "started_by", "gate_open", "versions"],
                as_json,
            )
        }
        CampaignCommand::Rewrap(options) => show(&options.rewrap(connection).await?, as_json),
    }
}

fn described(campaign: &proto::Campaign) -> Value {
    let versions = campaign.versions.iter().map(|version| {
        json!({
            "number": version.number,
            "sealed": version.sealed,
            "moved": version.moved,
            "left": version.left,
            "known": version.known,
            "gate_open": version.gate_open,
        })
    });
    json!({
        "key_id": campaign.key_id,
        "target_version": campaign.target_version,
        "started_at": at(campaign.started_at.as_ref()),
        "started_by": campaign.started_by,
        "gate_open": campaign.gate_open,
        "versions": versions.collect::<Vec<_>>(),
    })
}

/// One line of the input.
#[derive(Deserialize)]
struct Item {
    ciphertext_blob: String,
    #[serde(default)]
    encryption_context: HashMap<String, String>,
}

/// One line of the output.
#[derive(Serialize, Deserialize)]
struct Moved {
    line: u64,
    from_version: u32,
    to_version: u32,
    ciphertext_blob: String,
}

impl RewrapOptions {
    async fn rewrap(&self, connection: &ConnectionOptions) -> Result<Value, Failure> {
        let done = done(&self.output)?;
        let input = File::open(&self.input).map_err(unusable(&self.input))?;
        let mut output = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.output)
            .map_err(unusable(&self.output))?;
        let (items, mut answers) = connection.user().await?.rewrap().await?;
        let (name, known) = (self.input.clone(), done.len());
        let sending = async move {
            for (number, line) in (1..).zip(BufReader::new(input).lines()) {
                let line = line.map_err(unusable(&name))?;
                if done.contains(&number) || line.trim().is_empty() {
                    continue;
                }
                if !items.send(request(number, &line)?).await {
                    break; // the answers say why
                }
            }
            Ok::<(), Failure>(())
        };
        let receiving = async {
            let (mut moved, mut failed) = (0_u64, 0_u64);
            while let Some(answer) = answers.next().await? {
                if let Some(line) = moved_line(answer) {
                    writeln!(output, "{line}").map_err(unusable(&self.output))?;
                    moved += 1;
                } else {
                    failed += 1;
                }
            }
            Ok::<_, Failure>((moved, failed))
        };
        let (sent, received) = tokio::join!(sending, receiving);
        sent?;
        let (moved, failed) = received?;
        output.sync_all().map_err(unusable(&self.output))?;
        if failed > 0 {
            return Err(Failure::Faulty(format!("{failed} ciphertexts could not be moved; {moved} were")));
        }
        Ok(json!({ "moved": moved, "moved_before": known }))
    }
}

fn request(id: u64, line: &str) -> Result<RewrapRequest, Failure> {
    let malformed = |error| Failure::Usage(format!("line {id} of the input: {error}"));
    let item: Item = serde_json::from_str(line).map_err(malformed)?;
    let ciphertext_blob = from_base64(&item.ciphertext_blob)?.into();
    Ok(RewrapRequest { id, ciphertext_blob, encryption_context: item.encryption_context, key: None })
}

/// What goes to the output; a failure goes to stderr.
fn moved_line(answer: RewrapResponse) -> Option<String> {
    match answer.result? {
        Outcome::Item(item) => serde_json::to_string(&Moved {
            line: answer.id,
            from_version: item.from_version,
            to_version: item.to_version,
            ciphertext_blob: to_base64(&item.ciphertext_blob),
        })
        .ok(),
        Outcome::Error(error) => {
            eprintln!(
                "dewctl: line {}: {}: {} (request {})",
                answer.id, error.reason, error.message, error.request_id
            );
            None
        }
    }
}

/// The lines of the input that the output has answers for. A last line that was cut off is removed from it.
fn done(output: &Path) -> Result<HashSet<u64>, Failure> {
    if !output.exists() {
        return Ok(HashSet::new());
    }
    let text = fs::read_to_string(output).map_err(unusable(output))?;
    let whole = text.rfind('\n').map_or(0, |end| end + 1);
    if whole < text.len() {
        let file = OpenOptions::new().write(true).open(output).map_err(unusable(output))?;
        file.set_len(whole as u64).map_err(unusable(output))?;
    }
    let malformed =
        |error| Failure::Usage(format!("{}: is no output of this command: {error}", output.display()));
    let lines = text[..whole].lines().map(|line| serde_json::from_str::<Moved>(line).map(|moved| moved.line));
    lines.collect::<Result<_, _>>().map_err(malformed)
}

fn unusable(path: &Path) -> impl Fn(std::io::Error) -> Failure {
    move |error| Failure::Usage(format!("{}: {error}", path.display()))
}
