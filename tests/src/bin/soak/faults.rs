//! The faults: which there are, how one is drawn, and how it is brought about.

use std::{fs, time::Duration};

use dewpoint_tests::{eventually, has_ended, send};
use rustix::process::Signal;
use tokio::time::sleep;

use crate::{dice::Dice, site::Site};

/// Functions that the service calls while it works. A single one can fail alone.
const AT_WORK: [&str; 15] = [
    "C_SignInit",
    "C_Sign",
    "C_EncryptInit",
    "C_Encrypt",
    "C_DecryptInit",
    "C_Decrypt",
    "C_GenerateRandom",
    "C_GenerateKey",
    "C_WrapKey",
    "C_UnwrapKey",
    "C_DestroyObject",
    "C_GetAttributeValue",
    "C_OpenSession",
    "C_CloseSession",
    "*",
];
/// Functions that it calls when it opens a token anew.
const AT_HEALING: [&str; 7] = [
    "C_Initialize",
    "C_GetSlotList",
    "C_GetTokenInfo",
    "C_OpenSession",
    "C_Login",
    "C_FindObjects",
    "C_Finalize",
];
/// Functions in which the module crashes.
const CRASHING: [&str; 4] = ["C_Sign", "C_UnwrapKey", "C_Encrypt", "C_Decrypt"];
/// CKR_HOST_MEMORY, CKR_GENERAL_ERROR, CKR_FUNCTION_FAILED, CKR_DEVICE_ERROR, CKR_DEVICE_MEMORY,
/// CKR_CRYPTOKI_NOT_INITIALIZED, and one that only the vendor knows.
const ERRORS: [&str; 7] = ["0x2", "0x5", "0x6", "0x30", "0x31", "0x190", "0x80000001"];
/// CKR_SESSION_CLOSED, CKR_SESSION_HANDLE_INVALID, CKR_OPERATION_ACTIVE.
const LOST_SESSIONS: [&str; 3] = ["0xb0", "0xb3", "0x90"];
/// CKR_KEY_HANDLE_INVALID, CKR_OBJECT_HANDLE_INVALID.
const LOST_OBJECTS: [&str; 2] = ["0x60", "0x82"];
/// CKR_DEVICE_REMOVED, CKR_TOKEN_NOT_PRESENT, CKR_USER_NOT_LOGGED_IN.
const LOST_TOKENS: [&str; 3] = ["0x32", "0xe0", "0x101"];
/// How long a fault waits for a call that meets it.
const SHORT: Duration = Duration::from_millis(200);

/// A fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// These lines of faults, for so long.
    Module { name: &'static str, lines: String, lasts: Duration },
    /// The worker dies of a SIGSEGV in this function.
    Crash(&'static str),
    /// `kill -9` of the worker.
    Kill,
    /// The token's files are not there for so long.
    TokenAway(Duration),
}

impl Fault {
    /// How a report calls it.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Module { name, .. } => name,
            Self::Crash(_) => "crash in the module",
            Self::Kill => "kill -9 of the worker",
            Self::TokenAway(_) => "token files moved away",
        }
    }

    /// Draws one; `deaths`: the worker may die of it.
    pub(crate) fn draw(dice: &mut Dice, deaths: bool, token_can_move: bool) -> Self {
        match dice.between(0, 20) {
            5..7 => few(dice, "lost session", "C_SignInit", &LOST_SESSIONS),
            7..9 => few(dice, "lost object", "C_SignInit", &LOST_OBJECTS),
            9..11 => few(dice, "lost login or token", "C_SignInit", &LOST_TOKENS),
            11..14 => storm(dice),
            14..16 => hang(dice),
            16 => refused_healing(dice),
            17 if token_can_move => Self::TokenAway(millis(dice, 200, 2000)),
            18 if deaths => Self::Crash(dice.of::<&'static str>(&CRASHING)),
            19 if deaths => Self::Kill,
            _ => single(dice),
        }
    }

    /// Brings it about and takes it back.
    pub(crate) async fn happen(&self, site: &Site) {
        match self {
            Self::Module { lines, lasts, .. } => {
                site.inject(lines);
                sleep(*lasts).await;
                site.inject("");
            }
            Self::Crash(function) => {
                let worker = site.supervised.worker();
                site.inject(&format!("{function} crash"));
                eventually("the worker's death", async || has_ended(worker).then_some(())).await;
                site.inject("");
            }
            Self::Kill => send(site.supervised.worker(), Signal::KILL),
            Self::TokenAway(lasts) => {
                let tokens = site.token_directory().expect("only a directory is moved");
                let away = tokens.with_extension("away");
                fs::rename(&tokens, &away).expect("the directory is ours");
                fs::create_dir(&tokens).expect("the directory is ours");
                sleep(*lasts).await;
                fs::remove_dir(&tokens).expect("nobody makes a token");
                fs::rename(&away, &tokens).expect("the directory is ours");
            }
        }
    }
}

fn millis(dice: &mut Dice, from: u64, to: u64) -> Duration {
    Duration::from_millis(dice.between(from, to))
}

fn single(dice: &mut Dice) -> Fault {
    let function = dice.of(&AT_WORK);
    few(dice, "single errors", function, &ERRORS)
}

fn few(dice: &mut Dice, name: &'static str, function: &str, errors: &[&str]) -> Fault {
    let (error, count) = (*dice.of(errors), dice.between(1, 4));
    Fault::Module { name, lines: format!("{function} error {error} {count}"), lasts: SHORT }
}

fn storm(dice: &mut Dice) -> Fault {
    let (function, error) = (*dice.of(&AT_WORK), *dice.of(&ERRORS));
    let lasts = millis(dice, 200, 2000);
    Fault::Module { name: "storm of errors", lines: format!("{function} error {error}"), lasts }
}

/// One or two calls hang, or each does a little while.
fn hang(dice: &mut Dice) -> Fault {
    let function = dice.of(&AT_WORK);
    let hangs = dice.between(50, 4000);
    let count = dice.between(1, 3);
    let lasts = Duration::from_millis(hangs) + SHORT;
    Fault::Module { name: "hanging calls", lines: format!("{function} hang {hangs} {count}"), lasts }
}

fn refused_healing(dice: &mut Dice) -> Fault {
    let (function, error) = (*dice.of(&AT_HEALING), *dice.of(&ERRORS));
    let lines = format!("C_SignInit error 0x101 1\n{function} error {error}");
    Fault::Module { name: "refused healing", lines, lasts: millis(dice, 200, 2000) }
}
