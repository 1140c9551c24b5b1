//! The faults that calls meet, as a file says that a test can replace at any time.

use std::{
    fs::{self, File, Metadata},
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    str::FromStr,
    sync::{LazyLock, Mutex, PoisonError},
    thread,
    time::Duration,
};

use cryptoki_sys::{CK_MECHANISM_TYPE, CK_RV};

/// Names the file of the faults.
const FILE: &str = "STAND_IN_FAULTS";

/// One line of the file: `FUNCTION ACTION [COUNT]`.
///
/// FUNCTION is a name as `C_Sign`, or `*` for all. COUNT is how many calls meet the fault, all threads
/// together; without it all do. Of several faults for a function the first one that is left is met. What
/// was counted is forgotten when the file is replaced. Empty lines do not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// `None`: every function.
    pub function: Option<String>,
    /// What happens.
    pub action: Action,
    /// How many calls it happens to; `None`: all.
    pub left: Option<u64>,
}

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// `error 0x30`: it answers this, and the real module is not called.
    Error(CK_RV),
    /// `hang 500`: it waits so many milliseconds, and then does what it does.
    Hang(Duration),
    /// `crash`: the process dies of a SIGSEGV.
    Crash,
    /// `C_GetMechanismInfo lacks 0x2109`: the token does not know this mechanism.
    Lacks(CK_MECHANISM_TYPE),
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let wrong = || format!("not `FUNCTION error 0xNN|hang MILLISECONDS|crash [COUNT]`: {line:?}");
        let mut words = line.split_whitespace();
        let function = words.next().ok_or_else(wrong)?;
        let action = action(&mut words).ok_or_else(wrong)?;
        let left = words.next().map(|count| count.parse().map_err(|_| wrong())).transpose()?;
        let known = function == "*" || function.starts_with("C_");
        if !known || words.next().is_some() {
            return Err(wrong());
        }
        Ok(Self { function: (function != "*").then(|| function.to_owned()), action, left })
    }
}

fn action<'a>(words: &mut impl Iterator<Item = &'a str>) -> Option<Action> {
    match words.next()? {
        "error" => CK_RV::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok().map(Action::Error),
        "hang" => words.next()?.parse().ok().map(|millis| Action::Hang(Duration::from_millis(millis))),
        "crash" => Some(Action::Crash),
        "lacks" => {
            let mechanism = words.next()?.strip_prefix("0x")?;
            CK_MECHANISM_TYPE::from_str_radix(mechanism, 16).ok().map(Action::Lacks)
        }
        _ => None,
    }
}

/// Lets a call meet its fault. Gives the error that it shall answer, if it shall not go on.
pub(crate) fn meet(function: &str) -> Option<CK_RV> {
    match next(function)? {
        Action::Error(answer) => return Some(answer),
        Action::Hang(duration) => thread::sleep(duration),
        Action::Crash => crash(),
        Action::Lacks(_) => {}
    }
    None
}

/// Whether the token is to lack a mechanism.
pub(crate) fn lacks(mechanism: CK_MECHANISM_TYPE) -> bool {
    with_faults(|faults| faults.faults.iter().any(|fault| fault.action == Action::Lacks(mechanism)))
}

fn next(function: &str) -> Option<Action> {
    with_faults(|faults| faults.next(function))
}

fn with_faults<T: Default>(ask: impl FnOnce(&mut Faults) -> T) -> T {
    static PATH: LazyLock<Option<PathBuf>> = LazyLock::new(|| std::env::var_os(FILE).map(PathBuf::from));
    static FAULTS: Mutex<Faults> = Mutex::new(Faults { version: None, faults: Vec::new() });
    let mut faults = FAULTS.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(path) = PATH.as_deref() else { return T::default() };
    faults.look_at(path);
    ask(&mut faults)
}

fn crash() {
    // SAFETY: it is not safe: nothing is mapped at this address, and dying of that is the purpose.
    unsafe { std::ptr::without_provenance_mut::<u8>(0x10).write_volatile(0) }
}

/// What tells one version of the file from another.
type Version = (u64, i64, i64, u64);

fn version(file: &Metadata) -> Version {
    (file.ino(), file.mtime(), file.mtime_nsec(), file.size())
}

struct Faults {
    /// `None`: there is no file.
    version: Option<Version>,
    faults: Vec<Fault>,
}

impl Faults {
    /// Reads the file if it is another one than that which was read last.
    fn look_at(&mut self, path: &Path) {
        if fs::metadata(path).ok().map(|metadata| version(&metadata)) != self.version {
            *self = Self::read(path).unwrap_or(Self { version: None, faults: Vec::new() });
        }
    }

    fn read(path: &Path) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let version = Some(version(&file.metadata()?));
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        let lines = text.lines().filter(|line| !line.trim().is_empty());
        // A test that does not say what it means must not pass.
        let faults = lines.map(|line| line.parse().unwrap_or_else(|wrong| panic!("{wrong}"))).collect();
        Ok(Self { version, faults })
    }

    fn next(&mut self, function: &str) -> Option<Action> {
        let meets = |fault: &&mut Fault| {
            let happens = fault.left != Some(0) && !matches!(fault.action, Action::Lacks(_));
            happens && fault.function.as_deref().is_none_or(|named| named == function)
        };
        let fault = self.faults.iter_mut().find(meets)?;
        fault.left = fault.left.map(|left| left - 1);
        Some(fault.action)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_say_function_action_and_count() {
        let fault = |line: &str| line.parse::<Fault>().expect("a fault");
        let sign = |action, left| Fault { function: Some("C_Sign".to_owned()), action, left };
        assert_eq!(fault("C_Sign error 0x30"), sign(Action::Error(0x30), None));
        assert_eq!(fault(" C_Sign  error 0x30 2 "), sign(Action::Error(0x30), Some(2)));
        assert_eq!(fault("C_Sign hang 20 1"), sign(Action::Hang(Duration::from_millis(20)), Some(1)));
        assert_eq!(fault("C_Sign lacks 0x2109"), sign(Action::Lacks(0x2109), None));
        assert_eq!(fault("* crash"), Fault { function: None, action: Action::Crash, left: None });
    }

    #[test]
    fn other_lines_are_refused() {
        let wrong =
            ["", "C_Sign", "Sign crash", "C_Sign error", "C_Sign error 30", "C_Sign hang", "C_Sign crash x"];
        for line in wrong.into_iter().chain(["C_Sign crash 1 2", "C_Sign wait 3", "C_Sign error 0xg"]) {
            assert!(line.parse::<Fault>().is_err(), "{line:?}");
        }
    }

    #[test]
    fn the_first_fault_that_is_left_is_met() {
        let lines = ["C_Sign error 0x1 2", "* error 0x2 1", "C_Sign error 0x3"];
        let faults = lines.map(|line| line.parse().expect("a fault")).into();
        let mut faults = Faults { version: None, faults };
        let met = ["C_Sign", "C_Login", "C_Login", "C_Sign", "C_Sign"].map(|function| faults.next(function));
        let error = |answer| Some(Action::Error(answer));
        assert_eq!(met, [error(1), error(2), None, error(1), error(3)]);
    }
}
