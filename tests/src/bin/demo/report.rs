//! What the demo says: results on stdout, progress on stderr.

use std::{
    fmt::{self, Display},
    io::{IsTerminal as _, stderr},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};

/// One line of the results.
#[allow(clippy::print_stdout, reason = "the result of the program")]
pub(crate) fn say(line: impl Display) {
    println!("{line}");
}

/// One line about what goes on.
pub(crate) fn note(line: impl Display) {
    eprintln!("{line}");
}

/// The heading of a part of the results.
pub(crate) fn heading(line: impl Display) {
    say(format_args!("\n{line}"));
}

/// Bytes, to be read in MiB.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mebibytes(pub(crate) u64);

impl Display for Mebibytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} MiB", as_f64(self.0) / as_f64(1 << 20))
    }
}

/// What one pass over all files took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured {
    pub(crate) files: usize,
    pub(crate) bytes: u64,
    pub(crate) elapsed: Duration,
}

impl Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.elapsed.as_secs_f64();
        let keys = as_f64(self.files as u64) / seconds;
        let mebibytes = as_f64(self.bytes >> 10) / 1024.0 / seconds;
        write!(f, "{seconds:5.1} s  {keys:5.0} data keys/s  {mebibytes:5.1} MiB/s")
    }
}

#[allow(clippy::cast_precision_loss, reason = "for people, who read three digits of it")]
fn as_f64(number: u64) -> f64 {
    number as f64
}

/// How far a pass over all files has come: a bar on a terminal, elsewhere a line every tenth.
#[derive(Debug)]
pub(crate) struct Progress {
    what: String,
    files: usize,
    done: AtomicUsize,
    bar: Option<ProgressBar>,
}

impl Progress {
    pub(crate) fn start(what: String, files: usize) -> Self {
        let bar = stderr().is_terminal().then(|| bar(&what, files));
        if bar.is_none() {
            note(format_args!("{what}: {files} files"));
        }
        Self { what, files, done: AtomicUsize::new(0), bar }
    }

    /// One more file is done.
    pub(crate) fn advance(&self) {
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        match &self.bar {
            Some(bar) => bar.inc(1),
            None if done * 10 / self.files > (done - 1) * 10 / self.files => {
                note(format_args!("{}: {done} of {} files", self.what, self.files));
            }
            None => {}
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn bar(what: &str, files: usize) -> ProgressBar {
    let template = "   {msg} {wide_bar} {pos}/{len} files, {elapsed}";
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(files as u64).with_style(style).with_message(what.to_owned())
}
