//! `make demo`: real files encrypted and decrypted through a real service, its refusals, an object in the gateway before
//! it, and its log.

mod failure;
mod log;
mod objects;
mod refusals;
mod report;
mod stage;
mod story;
mod tree;
mod users;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use tokio::{runtime::Runtime, signal::ctrl_c};

use crate::{
    failure::{During as _, Failure},
    report::{note, say},
};

const USAGE: &str = "Usage: demo [--data-dir DIR]

Encrypts real files of this machine through `dewpoint dev`, decrypts them after a restart, puts an object into the
gateway before it by OBS' own SDK, and shows what the service refuses and records. Needs no network. Everything is removed at the end, unless DIR is given: a new or empty directory.";

fn main() -> ExitCode {
    let told = match std::env::args_os().skip(1).collect::<Vec<_>>().as_slice() {
        [] => in_temporary_directory(),
        [option, directory] if option == "--data-dir" => in_kept_directory(directory.as_ref()),
        [option] if option == "--help" => {
            say(USAGE);
            return ExitCode::SUCCESS;
        }
        _ => Err(Failure::new(USAGE)),
    };
    match told {
        Ok(()) => {
            say("\nDEMO OK");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            note(format_args!("demo: {failure}"));
            ExitCode::FAILURE
        }
    }
}

fn in_temporary_directory() -> Result<(), Failure> {
    let directory = tempfile::Builder::new().prefix("dewpoint-demo-").tempdir();
    let directory = directory.during("making a temporary directory")?;
    let told = run(directory.path().to_owned());
    let path = directory.path().to_owned();
    told.and(directory.close().during(format_args!("removing {}", path.display())))
}

fn in_kept_directory(directory: &Path) -> Result<(), Failure> {
    let made = fs::create_dir_all(directory).and_then(|()| directory.canonicalize());
    let directory = made.during(directory.display())?;
    if fs::read_dir(&directory).during(directory.display())?.next().is_some() {
        return Err(Failure::new(format!("{} is not empty", directory.display())));
    }
    run(directory.clone())?;
    say(format_args!("\nAll files are in {}.", directory.display()));
    say(format_args!(
        "Start the service again: dewpoint dev --with-obs --data-dir {}",
        directory.join("service").display()
    ));
    Ok(())
}

/// Tells the story until it ends or somebody interrupts it. A panic on the way is a failure like any other.
fn run(directory: PathBuf) -> Result<(), Failure> {
    let runtime = Runtime::new().during("starting")?;
    runtime.block_on(async {
        let story = tokio::spawn(story::tell(directory));
        tokio::select! {
            ended = story => ended.during("the demo broke off")?,
            _ = ctrl_c() => Err(Failure::new("interrupted")),
        }
    })
}
