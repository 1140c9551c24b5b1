//! A disk for tests: a file system of its own that forgets, when its power is cut, what was not made durable.
#![allow(clippy::missing_panics_doc, reason = "support of tests panics where a test fails")]

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::PathBuf,
    process::{Command, Stdio},
};

use tempfile::TempDir;

/// Stops a file system at once: nothing that waits to be written is, not even its journal.
/// `FS_IOC_SHUTDOWN` with `EXT4_GOING_FLAGS_NOLOGFLUSH`, of Linux's `ext4.h`.
const CUT: &str = "import fcntl, os, struct, sys; \
                   fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587D, struct.pack('I', 2))";

/// An ext4 file system in a file; unmounted on drop.
#[derive(Debug)]
pub struct Disk {
    directory: TempDir,
}

impl Disk {
    /// A disk whose power can be cut. `None`, and a line that no test runner hides, where that cannot be tried.
    pub fn make() -> Option<Self> {
        let disk = Self::mounted().and_then(|disk| {
            disk.try_to_cut_power()?;
            disk.restore_power();
            Ok(disk)
        });
        let skip = |reason| writeln!(io::stderr(), "SKIPPED, no power can be cut on this machine: {reason}");
        disk.map_err(skip).ok()
    }

    /// Where it is mounted.
    pub fn path(&self) -> PathBuf {
        self.directory.path().join("disk")
    }

    /// From now on nothing can be read or written, and nothing that was not durable will come back.
    pub fn cut_power(&self) {
        self.try_to_cut_power().expect("it could be cut before");
    }

    /// The machine is on again. No process may hold a file of the disk open.
    pub fn restore_power(&self) {
        self.unmount().and_then(|()| self.mount()).expect("its journal is replayed");
    }

    /// `Err` says why this machine has none.
    fn mounted() -> Result<Self, String> {
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

    fn mount(&self) -> Result<(), String> {
        run(Command::new("mount").args(["-o", "loop"]).arg(self.image()).arg(self.path()))
    }

    fn unmount(&self) -> Result<(), String> {
        run(Command::new("umount").arg(self.path()))
    }

    fn try_to_cut_power(&self) -> Result<(), String> {
        run(Command::new("python3").args(["-c", CUT]).arg(self.path()))
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
