//! `dewctl root`: rotation of the root key.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use kms_client::{Client, Root, RootStatus, Rotation, RotationStage};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{
    connection::ConnectionOptions,
    moment,
    output::{Failure, print},
};

/// How often `--wait` looks.
const LOOK: Duration = Duration::from_millis(250);
/// How often in a row a look may fail before `--wait` gives up: about a minute, enough for a restart.
const FAILED_LOOKS: u32 = 60;
/// How long it rests after a look that failed.
const REST: Duration = Duration::from_secs(1);

/// What to do with the root key.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum RootCommand {
    /// Make a new root key and move all keys under it, online
    ///
    /// The service goes on answering all calls; keys move in the background, also over a restart. When all are moved,
    /// the old root key is destroyed on the token: from then on nothing that it wrapped can be opened, which completes the
    /// destruction of deleted keys, and backups of the key store from before the rotation can be restored no more.
    /// With --keep-old-root they can, until `dewctl root retire`.
    ///
    /// While a rotation is under way, this starts no other one and shows that one's state.
    Rotate {
        /// Keep the old root key when all keys are moved, until `dewctl root retire`
        #[arg(long)]
        keep_old_root: bool,
        /// Show progress and return when the rotation is over (with --keep-old-root: when all keys are moved)
        #[arg(long)]
        wait: bool,
    },
    /// Show the generations of the root key and the rotation that is under way
    Status,
    /// Destroy the old root key that `rotate --keep-old-root` kept
    ///
    /// It is destroyed once the service has made sure that no key needs it. Backups of the key store from before the
    /// rotation can be restored no more.
    Retire {
        /// Return when it is destroyed
        #[arg(long)]
        wait: bool,
    },
}

/// Runs one of them.
pub(crate) async fn run(
    command: &RootCommand,
    connection: &ConnectionOptions,
    as_json: bool,
) -> Result<(), Failure> {
    let client = connection.operator().await?;
    let begun = match command {
        RootCommand::Rotate { keep_old_root, .. } => client.rotate_root(*keep_old_root).await?,
        RootCommand::Retire { .. } => client.retire_root().await?,
        RootCommand::Status => return show(&client.describe_root().await?, as_json),
    };
    if matches!(command, RootCommand::Rotate { wait: true, .. } | RootCommand::Retire { wait: true }) {
        return show(&wait(&client, begun).await?, as_json);
    }
    show(&client.describe_root().await?, as_json)
}

/// Shows progress on stderr until the rotation is over, waits for an operator, or is blocked.
async fn wait(client: &Client, begun: Root) -> Result<RootStatus, Failure> {
    let bar = ProgressBar::new(0).with_style(style());
    bar.set_message(format!("generation {}", begun.generation));
    let mut failed = 0;
    loop {
        match client.describe_root().await {
            Ok(status) => {
                failed = 0;
                let rotation = status.root.rotation.as_ref();
                let Some(rotation) = rotation.filter(|one| one.stage() != RotationStage::KeepingOldRoot)
                else {
                    bar.finish_and_clear();
                    return Ok(status);
                };
                if rotation.keys_blocked > 0 && !rotation.problem.is_empty() {
                    bar.abandon();
                    let told = &rotation.problem;
                    return Err(Failure::Blocked(format!(
                        "{told}; the old root key stays until they are repaired"
                    )));
                }
                advance(&bar, rotation);
            }
            // The service may be restarted meanwhile: the rotation goes on with it.
            Err(error) => {
                failed += 1;
                if failed == FAILED_LOOKS {
                    bar.abandon();
                    return Err(error.into());
                }
                bar.set_message("the service does not answer; trying again");
                sleep(REST).await;
            }
        }
        sleep(LOOK).await;
    }
}

fn advance(bar: &ProgressBar, rotation: &Rotation) {
    bar.set_length(rotation.keys_moved + rotation.keys_left);
    bar.set_position(rotation.keys_moved);
    bar.set_message(if rotation.problem.is_empty() {
        stage_text(rotation.stage()).to_owned()
    } else {
        format!("held up: {}", rotation.problem)
    });
}

fn style() -> ProgressStyle {
    let template = "{spinner} {wide_bar} {pos}/{len} keys  {msg}";
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn show(status: &RootStatus, as_json: bool) -> Result<(), Failure> {
    print(&if as_json { format!("{:#}", described(status)) } else { sentences(status) })
}

fn described(status: &RootStatus) -> Value {
    let rotation = status.root.rotation.as_ref().map(|rotation| {
        json!({
            "started_at": moment(rotation),
            "started_by": rotation.started_by,
            "keep_old_root": rotation.keep_old_root,
            "stage": stage_name(rotation.stage()),
            "keys_moved": rotation.keys_moved,
            "keys_left": rotation.keys_left,
            "keys_blocked": rotation.keys_blocked,
            "problem": rotation.problem,
        })
    });
    json!({
        "generation": status.root.generation,
        "oldest_generation": status.root.oldest_generation,
        "token_generations": status.token_generations,
        "rotation": rotation,
    })
}

fn sentences(status: &RootStatus) -> String {
    let Root { generation, oldest_generation, rotation } = &status.root;
    let on_token: Vec<String> = status.token_generations.iter().map(u32::to_string).collect();
    let mut lines = vec![
        format!("generation  {generation} wraps new keys; keys may need {oldest_generation} and later ones"),
        format!("on token    {}", on_token.join(", ")),
    ];
    match rotation {
        None => lines.push("rotation    none is under way".to_owned()),
        Some(rotation) => {
            lines.push(format!("rotation    started {} by {}", moment(rotation), rotation.started_by));
            lines.push(format!("            {}", stage_text(rotation.stage())));
            lines.push(format!(
                "keys        {} moved, about {} left, {} blocked",
                rotation.keys_moved, rotation.keys_left, rotation.keys_blocked
            ));
            if !rotation.problem.is_empty() {
                lines.push(format!("problem     {}", rotation.problem));
            }
        }
    }
    lines.join("\n")
}

fn stage_name(stage: RotationStage) -> &'static str {
    match stage {
        RotationStage::Unspecified => "UNSPECIFIED",
        RotationStage::MovingKeys => "MOVING_KEYS",
        RotationStage::KeepingOldRoot => "KEEPING_OLD_ROOT",
        RotationStage::DestroyingOldRoot => "DESTROYING_OLD_ROOT",
    }
}

fn stage_text(stage: RotationStage) -> &'static str {
    match stage {
        RotationStage::Unspecified => "in a stage that this dewctl does not know",
        RotationStage::MovingKeys => "moving keys under the new root key",
        RotationStage::KeepingOldRoot => {
            "all keys moved; the old root key is kept until `dewctl root retire`"
        }
        RotationStage::DestroyingOldRoot => "all keys moved; destroying the old root key",
    }
}

fn moment(rotation: &Rotation) -> String {
    moment::of(rotation.started_at.as_ref().map(|at| at.seconds))
}
