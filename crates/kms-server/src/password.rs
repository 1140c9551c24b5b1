//! `dewpoint hash-password`: what a user's password is checked by, for the identity file.

use std::{
    fs::File,
    io::{self, IsTerminal as _, Read, Write as _},
};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use crate::{
    identity::passwords::{self, Work},
    secret_text::SecretText,
};

/// The longest password, in bytes.
const LONGEST: usize = 1024;
/// What the keys that interrupt a program give where they do not.
const INTERRUPT: u8 = 3;

/// Why there is no hash: one clear line.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// It cannot be read.
    #[error("the password cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    /// Nothing was given.
    #[error("the password is empty")]
    Empty,
    /// Too much was given.
    #[error("the password is longer than {LONGEST} bytes")]
    TooLong,
    /// Clients send it in JSON.
    #[error("the password is no UTF-8")]
    NoText,
    /// The second time it was another one.
    #[error("the two passwords differ")]
    Different,
    /// The system has no random bytes for a salt.
    #[error("the system has no random bytes")]
    NoRandomBytes,
}

/// The hash of the password that standard input holds, up to a line break at its end; or, if that is a terminal, of the
/// one that is typed there twice, unseen.
pub fn hash() -> Result<String, PasswordError> {
    let input = io::stdin();
    let password = if input.is_terminal() {
        let (first, second) = (typed("Password: ")?, typed("Once more: ")?);
        if first.expose_secret() != second.expose_secret() {
            return Err(PasswordError::Different);
        }
        first
    } else {
        read(input.lock())?
    };
    passwords::hash(&password, Work::Usual).ok_or(PasswordError::NoRandomBytes)
}

/// One line that is typed at the terminal, which shows nothing of it.
fn typed(prompt: &str) -> Result<SecretText, PasswordError> {
    let terminal = File::options().read(true).write(true).open("/dev/tty")?;
    let _hidden = Hidden::new(&terminal)?;
    (&terminal).write_all(prompt.as_bytes())?;
    let mut line = Zeroizing::new(Vec::with_capacity(LONGEST + 1));
    let mut byte = Zeroizing::new([0]);
    while line.len() <= LONGEST && (&terminal).read(&mut byte[..])? == 1 {
        match byte[0] {
            b'\n' => break,
            INTERRUPT => return Err(io::Error::from(io::ErrorKind::Interrupted).into()),
            byte => line.push(byte),
        }
    }
    (&terminal).write_all(b"\n")?;
    sound(line)
}

/// All of `input`, but for a line break at its end.
fn read(input: impl Read) -> Result<SecretText, PasswordError> {
    let mut text = Zeroizing::new(Vec::with_capacity(LONGEST + 2));
    input.take(LONGEST as u64 + 2).read_to_end(&mut text)?;
    if text.last() == Some(&b'\n') {
        text.pop();
    }
    sound(text)
}

fn sound(mut text: Zeroizing<Vec<u8>>) -> Result<SecretText, PasswordError> {
    match text.len() {
        0 => Err(PasswordError::Empty),
        length if length > LONGEST => Err(PasswordError::TooLong),
        _ => match String::from_utf8(std::mem::take(&mut *text)) {
            Ok(text) => Ok(SecretText::new(text)),
            Err(error) => {
                drop(Zeroizing::new(error.into_bytes()));
                Err(PasswordError::NoText)
            }
        },
    }
}

/// A terminal that does not show what is typed, until this is dropped.
struct Hidden<'a> {
    terminal: &'a File,
    shown: Termios,
}

impl<'a> Hidden<'a> {
    fn new(terminal: &'a File) -> io::Result<Self> {
        let shown = tcgetattr(terminal)?;
        let mut hidden = shown.clone();
        // An interrupt comes as a byte, or the terminal would be left so.
        hidden.local_modes.remove(LocalModes::ECHO | LocalModes::ISIG);
        tcsetattr(terminal, OptionalActions::Flush, &hidden)?;
        Ok(Self { terminal, shown })
    }
}

impl Drop for Hidden<'_> {
    fn drop(&mut self) {
        // There is nobody to tell.
        let _ = tcsetattr(self.terminal, OptionalActions::Flush, &self.shown);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_all_of_the_input_but_its_last_line_break() {
        for (input, expected) in [("one", "one"), ("one two\n", "one two"), ("\nx\n\n", "\nx\n")] {
            let password = read(input.as_bytes()).expect("sound");
            assert_eq!(password.expose_secret(), expected);
        }
        assert!(read("x".repeat(LONGEST).as_bytes()).is_ok());
        assert!(matches!(read(&b""[..]), Err(PasswordError::Empty)));
        assert!(matches!(read(&b"\n"[..]), Err(PasswordError::Empty)));
        assert!(matches!(read(&[0xff, 0xfe][..]), Err(PasswordError::NoText)));
        assert!(matches!(read("x".repeat(LONGEST + 1).as_bytes()), Err(PasswordError::TooLong)));
        assert!(matches!(read("x".repeat(5 * LONGEST).as_bytes()), Err(PasswordError::TooLong)));
    }
}
