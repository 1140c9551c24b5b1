//! The PIN, from its file to the token.

use std::{fs::File, io::Read, os::unix::fs::PermissionsExt, path::Path};

use cryptoki::types::RawAuthPin;
use zeroize::Zeroizing;

use crate::OpenError;

/// Longer than any token's longest PIN.
const MAX_PIN_BYTES: usize = 255;

/// Reads the PIN into memory that is wiped. One newline at the end does not belong to it.
pub(crate) fn read_pin(path: &Path) -> Result<RawAuthPin, OpenError> {
    let unreadable = |detail: String| OpenError::PinFileUnreadable { path: path.to_owned(), detail };
    let mut file = File::open(path).map_err(|error| unreadable(error.to_string()))?;
    let metadata = file.metadata().map_err(|error| unreadable(error.to_string()))?;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(OpenError::PinFileExposed { path: path.to_owned(), mode });
    }
    let mut buffer = Zeroizing::new([0; MAX_PIN_BYTES + 2]);
    let length = read_up_to(&mut file, &mut *buffer).map_err(|error| unreadable(error.to_string()))?;
    let content = &buffer[..length];
    let pin = content.strip_suffix(b"\n").unwrap_or(content);
    match pin.len() {
        0 => Err(unreadable("it is empty".to_owned())),
        1..=MAX_PIN_BYTES => Ok(RawAuthPin::new(Box::new(pin.to_vec()))),
        _ => Err(unreadable(format!("it is longer than {MAX_PIN_BYTES} bytes"))),
    }
}

/// Reads until `buffer` is full or the file ends; gives the number of bytes read.
fn read_up_to(file: &mut File, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match file.read(&mut buffer[length..])? {
            0 => break,
            count => length += count,
        }
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf};

    use super::*;

    fn pin_file(directory: &tempfile::TempDir, content: &[u8], mode: u32) -> PathBuf {
        let path = directory.path().join("pin");
        fs::write(&path, content).expect("the directory is ours");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("the file is ours");
        path
    }

    fn refusal(content: &[u8], mode: u32) -> String {
        let directory = tempfile::tempdir().expect("a directory");
        let error = read_pin(&pin_file(&directory, content, mode)).expect_err("this must be refused");
        error.to_string()
    }

    #[test]
    fn private_files_are_read() {
        let directory = tempfile::tempdir().expect("a directory");
        for (content, mode) in [(&b"1234"[..], 0o600), (b"1234\n", 0o400), (&[b'9'; 255], 0o600)] {
            let path = pin_file(&directory, content, mode);
            read_pin(&path).expect("a private PIN file");
            fs::remove_file(path).expect("the file is ours");
        }
    }

    #[test]
    fn files_that_others_reach_are_refused() {
        for mode in [0o640, 0o604, 0o666, 0o660, 0o610] {
            let message = refusal(b"secret-pin", mode);
            assert!(message.contains("chmod 600") && message.contains(&format!("{mode:04o}")), "{message}");
            assert!(!message.contains("secret-pin"));
        }
    }

    #[test]
    fn files_without_a_pin_are_refused() {
        assert!(refusal(b"", 0o600).contains("empty"));
        assert!(refusal(b"\n", 0o600).contains("empty"));
        assert!(refusal(&[b'9'; 256], 0o600).contains("longer than 255"));
        let missing = read_pin(Path::new("/nonexistent/pin")).expect_err("there is no such file");
        assert!(matches!(missing, OpenError::PinFileUnreadable { .. }));
    }
}
