//! What a witness adds to a checkpoint: C2SP `tlog-cosignature`.
//!
//! It says that the witness saw the checkpoint at a time, and that it continues every one of this log that the
//! witness saw before.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use ed25519_dalek::{Signature, VerifyingKey};

use crate::note::{
    Note, NoteError, SIGNATURE_START, SignedCheckpoint, VerifierKey, key_parts, key_text, named_key,
};

/// Timestamped Ed25519 in the first byte of an encoded key. C2SP signed-note, "Signature types".
const TIMESTAMPED_ED25519: u8 = 4;

/// The text that a witness signs: never the text of a checkpoint, for that begins with the name of a log and its size.
/// `time` counts seconds since 1970. C2SP tlog-cosignature, "Signed message".
pub fn cosigned_message(signed: &SignedCheckpoint, time: u64) -> String {
    message(signed.text(), time)
}

fn message(text: &str, time: u64) -> String {
    format!("cosignature/v1\ntime {time}\n{text}")
}

/// The public half of a key that cosigns, with the witness' name.
///
/// As text: as a [`VerifierKey`], with the algorithm of cosignatures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CosignerKey {
    name: String,
    key: VerifyingKey,
    id: [u8; 4],
}

impl CosignerKey {
    /// The key by which the log of this key cosigns other logs: the same key pair, which signs another kind of text.
    pub fn of(key: &VerifierKey) -> Result<Self, NoteError> {
        Self::new(key.name(), key.public_key())
    }

    fn new(name: &str, public_key: &[u8; 32]) -> Result<Self, NoteError> {
        let (key, id) = named_key(name, TIMESTAMPED_ED25519, public_key)?;
        Ok(Self { name: name.to_owned(), key, id })
    }

    /// Reads the text form.
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        let (name, id, public_key) = key_parts(text, TIMESTAMPED_ED25519)?;
        let parsed = Self::new(name, &public_key)?;
        if hex::encode(parsed.id) == id { Ok(parsed) } else { Err(NoteError::Key("its id is not its own")) }
    }

    /// The witness' name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The line of a cosignature that this key's private half made at `time`, with its newline.
    pub fn line(&self, time: u64, signature: &[u8; 64]) -> String {
        let content = [&self.id[..], &time.to_be_bytes(), signature].concat();
        format!("{SIGNATURE_START}{} {}\n", self.name, BASE64.encode(content))
    }

    /// When the witness cosigned this note, in seconds since 1970; of several times, the latest.
    pub fn check(&self, note: &str) -> Result<u64, NoteError> {
        let note = Note::parse(note)?;
        let mut latest = None;
        for (_, content) in note.signatures().filter(|(name, content)| self.made(name, content)) {
            let time = self.check_content(&content, note.text)?;
            latest = latest.max(Some(time));
        }
        latest.ok_or_else(|| NoteError::NotSigned { name: self.name.clone(), id: self.id })
    }

    /// Whether a signature says that it is by this key.
    fn made(&self, name: &str, content: &[u8]) -> bool {
        name == self.name && content.starts_with(&self.id)
    }

    fn check_content(&self, content: &[u8], text: &str) -> Result<u64, NoteError> {
        let forged = || NoteError::Forged { name: self.name.clone() };
        let (time, signature) = content[self.id.len()..].split_first_chunk().ok_or_else(forged)?;
        let time = u64::from_be_bytes(*time);
        let signature = Signature::from_slice(signature).map_err(|_| forged())?;
        let valid = self.key.verify_strict(message(text, time).as_bytes(), &signature);
        valid.map(|()| time).map_err(|_| forged())
    }
}

impl std::fmt::Display for CosignerKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&key_text(&self.name, self.id, TIMESTAMPED_ED25519, &self.key))
    }
}

impl SignedCheckpoint {
    /// The same with a witness' line, in the place of any that it had from this witness. The line is verified.
    pub fn cosigned(&self, line: &str, witness: &CosignerKey) -> Result<Self, NoteError> {
        let parsed = Note::parse(&self.note)?;
        let others = parsed.signatures().filter(|(name, content)| !witness.made(name, content));
        let others =
            others.map(|(name, content)| format!("{SIGNATURE_START}{name} {}\n", BASE64.encode(content)));
        let note = format!("{}\n{}{line}", parsed.text, others.collect::<String>());
        witness.check(&note)?;
        if Note::parse(&note)?.text != parsed.text {
            return Err(NoteError::Note("the witness' line is more than a line"));
        }
        Ok(Self { checkpoint: self.checkpoint.clone(), note })
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::{Signer as _, SigningKey};

    use super::*;
    use crate::note::Checkpoint;

    const TIME: u64 = 1_679_315_147;

    fn log() -> (VerifierKey, SignedCheckpoint) {
        let signing = SigningKey::from_bytes(&[1; 32]);
        let key =
            VerifierKey::new("dewpoint.example/log", signing.verifying_key().as_bytes()).expect("a key");
        let checkpoint = Checkpoint { origin: "dewpoint.example/log".to_owned(), size: 12, root: [3; 32] };
        let signature = signing.sign(checkpoint.text().as_bytes()).to_bytes();
        let signed = SignedCheckpoint::new(checkpoint, &key, &signature);
        (key, signed)
    }

    fn witness(seed: u8) -> (SigningKey, CosignerKey) {
        let signing = SigningKey::from_bytes(&[seed; 32]);
        let own =
            VerifierKey::new("dewpoint.example/witness", signing.verifying_key().as_bytes()).expect("a key");
        let key = CosignerKey::of(&own).expect("a key");
        (signing, key)
    }

    fn line((signing, key): &(SigningKey, CosignerKey), signed: &SignedCheckpoint, time: u64) -> String {
        key.line(time, &signing.sign(cosigned_message(signed, time).as_bytes()).to_bytes())
    }

    #[test]
    fn the_form_is_that_of_the_specification() {
        let (_, signed) = log();
        let message = cosigned_message(&signed, TIME);
        let root = BASE64.encode([3; 32]);
        assert_eq!(message, format!("cosignature/v1\ntime 1679315147\ndewpoint.example/log\n12\n{root}\n"));
        let witness = witness(2);
        let line = line(&witness, &signed, TIME);
        let content = line.strip_prefix("\u{2014} dewpoint.example/witness ").expect("its name").trim_end();
        let content = BASE64.decode(content).expect("base64");
        assert_eq!((content.len(), &content[4..12]), (4 + 8 + 64, &TIME.to_be_bytes()[..]));
        let (_, key) = witness;
        assert_eq!(CosignerKey::parse(&key.to_string()).as_ref(), Ok(&key));
        let own = VerifierKey::new(key.name(), key.key.as_bytes()).expect("a key");
        assert!(
            VerifierKey::parse(&key.to_string()).is_err() && CosignerKey::parse(&own.to_string()).is_err()
        );
    }

    #[test]
    fn a_cosigned_checkpoint_is_still_the_logs_and_says_when() {
        let ((key, signed), first, second) = (log(), witness(2), witness(3));
        let cosigned = signed.cosigned(&line(&first, &signed, TIME), &first.1).expect("valid");
        assert_eq!((first.1.check(&cosigned.note), cosigned.text()), (Ok(TIME), signed.text()));
        assert!(matches!(second.1.check(&cosigned.note), Err(NoteError::NotSigned { .. })));
        let by_both = cosigned.cosigned(&line(&second, &signed, TIME + 1), &second.1).expect("valid");
        let renewed = by_both.cosigned(&line(&first, &signed, TIME + 5), &first.1).expect("valid");
        assert_eq!(
            (first.1.check(&renewed.note), second.1.check(&renewed.note)),
            (Ok(TIME + 5), Ok(TIME + 1))
        );
        assert_eq!(renewed.note.lines().count(), by_both.note.lines().count());
        assert_eq!(
            SignedCheckpoint::open(&renewed.note, &key).map(|signed| signed.checkpoint),
            Ok(signed.checkpoint)
        );
    }

    #[test]
    fn what_the_witness_did_not_sign_is_found() {
        let ((_, signed), witness) = (log(), witness(2));
        let cosigned = signed.cosigned(&line(&witness, &signed, TIME), &witness.1).expect("valid");
        let forged = Err(NoteError::Forged { name: witness.1.name.clone() });
        assert_eq!(witness.1.check(&cosigned.note.replace("\n12\n", "\n13\n")), forged);
        let other_time =
            witness.1.line(TIME, &witness.0.sign(cosigned_message(&signed, 1).as_bytes()).to_bytes());
        let bare = witness.1.line(TIME, &witness.0.sign(signed.text().as_bytes()).to_bytes());
        for line in [&other_time, &bare] {
            assert!(matches!(signed.cosigned(line, &witness.1), Err(NoteError::Forged { .. })), "{line}");
        }
        let text = line(&witness, &signed, TIME);
        for line in
            [String::new(), "\u{2014} a AAAA\n".to_owned(), format!("{text}\nx\n"), format!("\n{text}")]
        {
            assert!(signed.cosigned(&line, &witness.1).is_err(), "{line:?}");
        }
    }
}
