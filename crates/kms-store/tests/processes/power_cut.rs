//! A loss of power, on a file system of its own that forgets what was not made durable: what was
//! acknowledged is there afterwards, and the database opens.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::PathBuf,
    process::{Command, Stdio},
};

use kms_store::EngineKind;
use tempfile::TempDir;

use crate::{
    children::{Answers, Words, itself, this_program},
    support::on_every_engine,
};

on_every_engine!(
    what_was_acknowledged_survives_a_power_cut_of_a_new_database,
    what_was_acknowledged_survives_power_cuts_of_an_old_database,
);

/// Stops a file system at once: nothing that waits to be written is, not even its journal.
/// `FS_IOC_SHUTDOWN` with `EXT4_GOING_FLAGS_NOLOGFLUSH`, of Linux's `ext4.h`.
const CUT: &str = "import fcntl, os, struct, sys; \
                   fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587D, struct.pack('I', 2))";

/// An ext4 file system in a file; unmounted on drop.
struct Disk {
    directory: TempDir,
}

impl Disk {
    /// `Err` says why this machine has none.
    fn make() -> Result<Self, String> {
        let directory = TempDir::new().expect("a temporary directory");
        let disk = Self { directory };
        let image = File::create(disk.image()).expect("writable");
        image.set_len(256 * 1024 * 1024).expect("a sparse file");
        run(Command::new("mkfs.ext4").arg("-q").arg(disk.image()))?;
        fs::create_dir(disk.path()).expect("writable");
        disk.mount()?;
        Ok(disk)
    }

    fn image(&self) -> PathBuf {
        self.directory.path().join("image")
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("disk")
    }

    fn mount(&self) -> Result<(), String> {
        run(Command::new("mount").args(["-o", "loop"]).arg(self.image()).arg(self.path()))
    }

    fn unmount(&self) -> Result<(), String> {
        run(Command::new("umount").arg(self.path()))
    }

    fn cut_power(&self) -> Result<(), String> {
        run(Command::new("python3").args(["-c", CUT]).arg(self.path()))
    }

    /// The machine is on again.
    fn restore_power(&self) {
        self.unmount().and_then(|()| self.mount()).expect("its journal is replayed");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(self.unmount());
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{name}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{name}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

/// A disk whose power can be cut. `None`, and a line that no test runner hides, where that cannot be tried.
fn disk() -> Option<Disk> {
    let disk = Disk::make().and_then(|disk| {
        disk.cut_power()?;
        disk.restore_power();
        Ok(disk)
    });
    let skip = |reason| writeln!(io::stderr(), "SKIPPED, no power can be cut on this machine: {reason}");
    disk.map_err(skip).ok()
}

/// Writes until so much is acknowledged, cuts the power, and tells what was answered.
fn write_and_cut(disk: &Disk, engine: EngineKind, round: u64, acknowledged: usize) -> Answers {
    let task = format!("burst-{round}");
    let mut words = Words::of(this_program(&disk.path(), engine, &task, itself()));
    let mut answers = Answers::default();
    while answers.written.len() < acknowledged {
        answers.note(&words.next().expect("the child goes on writing"));
    }
    disk.cut_power().expect("it could be cut before");
    words.child.kill().expect("it is our child");
    words.rest().iter().for_each(|line| answers.note(line));
    disk.restore_power();
    answers
}

fn what_was_acknowledged_survives_a_power_cut_of_a_new_database(engine: EngineKind) {
    for acknowledged in [1, 30, 500, 3000] {
        let Some(disk) = disk() else { return };
        write_and_cut(&disk, engine, 0, acknowledged).check(&disk.path(), engine);
    }
}

fn what_was_acknowledged_survives_power_cuts_of_an_old_database(engine: EngineKind) {
    let Some(disk) = disk() else { return };
    let mut all = Answers::default();
    for round in 1..=6 {
        let answers = write_and_cut(&disk, engine, round, 700);
        all.written.extend(answers.written);
        all.refused.extend(answers.refused);
        all.check(&disk.path(), engine);
    }
}
