//! Checkpoints as text that is signed: C2SP `signed-note` and `tlog-checkpoint`.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use ed25519_dalek::{Signature, VerifyingKey};
use sha2::{Digest as _, Sha256};

use crate::merkle::Hash;

/// Ed25519 in the first byte of an encoded key. C2SP signed-note, "Signature types".
const ED25519: u8 = 1;
/// What a signature line begins with.
pub(crate) const SIGNATURE_START: &str = "\u{2014} ";
/// The longest note that is read: a checkpoint with many cosignatures stays far below.
const LONGEST: usize = 64 << 10;

/// Why text is no note, no key, or no checkpoint that holds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Not in the form of a signed note.
    #[error("this is no signed note: {0}")]
    Note(&'static str),
    /// Not in the form of a verifier key.
    #[error("this is no verifier key: {0}")]
    Key(&'static str),
    /// The signed text is no checkpoint.
    #[error("the signed text is no checkpoint: {0}")]
    Checkpoint(&'static str),
    /// It has no signature under the given key.
    #[error("it is not signed by {name}+{id}", id = hex::encode(id))]
    NotSigned {
        /// The key's name.
        name: String,
        /// The key's id.
        id: [u8; 4],
    },
    /// It has a signature that names the given key and is not made with it.
    #[error("its signature by {name} is not valid")]
    Forged {
        /// The key's name.
        name: String,
    },
    /// Another log's checkpoint.
    #[error("it is a checkpoint of {found}, not of {wanted}")]
    Origin {
        /// The log that it speaks of.
        found: String,
        /// The log that was asked for.
        wanted: String,
    },
}

/// The public half of a key that signs notes, with its name.
///
/// As text: `name+id+key`, the id in hex, the key in base64. C2SP signed-note, "Verifier keys".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    key: VerifyingKey,
    id: [u8; 4],
}

impl VerifierKey {
    /// The key of that name.
    pub fn new(name: &str, public_key: &[u8; 32]) -> Result<Self, NoteError> {
        let (key, id) = named_key(name, ED25519, public_key)?;
        Ok(Self { name: name.to_owned(), key, id })
    }

    /// Reads the text form.
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        let (name, id, public_key) = key_parts(text, ED25519)?;
        let parsed = Self::new(name, &public_key)?;
        if hex::encode(parsed.id) == id { Ok(parsed) } else { Err(NoteError::Key("its id is not its own")) }
    }

    /// The key's name: for the key of a log, the log's origin.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The public key itself.
    pub fn public_key(&self) -> &[u8; 32] {
        self.key.as_bytes()
    }

    /// The signature line of a signature that this key's private half made.
    fn line(&self, signature: &[u8; 64]) -> String {
        let content = [&self.id[..], signature].concat();
        format!("{SIGNATURE_START}{} {}\n", self.name, BASE64.encode(content))
    }

    fn check(&self, note: &Note<'_>) -> Result<(), NoteError> {
        let mut found = false;
        for (name, content) in note.signatures() {
            let Some((id, signature)) = content.split_first_chunk::<4>() else { continue };
            if name == self.name && *id == self.id {
                found = true;
                let signature = Signature::from_slice(signature);
                let valid =
                    signature.is_ok_and(|one| self.key.verify_strict(note.text.as_bytes(), &one).is_ok());
                if !valid {
                    return Err(NoteError::Forged { name: self.name.clone() });
                }
            }
        }
        if found { Ok(()) } else { Err(NoteError::NotSigned { name: self.name.clone(), id: self.id }) }
    }
}

impl std::fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&key_text(&self.name, self.id, ED25519, &self.key))
    }
}

/// The key of that name and algorithm, with its id. C2SP signed-note, "Signatures".
pub(crate) fn named_key(
    name: &str,
    algorithm: u8,
    public_key: &[u8; 32],
) -> Result<(VerifyingKey, [u8; 4]), NoteError> {
    if name.is_empty() || name.contains(|letter: char| letter.is_whitespace() || letter == '+') {
        return Err(NoteError::Key("its name is empty, or has blanks or a + in it"));
    }
    let key = VerifyingKey::from_bytes(public_key).map_err(|_| NoteError::Key("it is no Ed25519 key"))?;
    let digest =
        Sha256::new().chain_update(name).chain_update([b'\n', algorithm]).chain_update(public_key).finalize();
    Ok((key, [digest[0], digest[1], digest[2], digest[3]]))
}

/// Name, id and public key of a verifier key as text.
pub(crate) fn key_parts(text: &str, algorithm: u8) -> Result<(&str, &str, [u8; 32]), NoteError> {
    let mut parts = text.trim_end().splitn(3, '+');
    let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(NoteError::Key("it has not three parts with a + between"));
    };
    let bytes = BASE64.decode(key).map_err(|_| NoteError::Key("its last part is not base64"))?;
    let Some(public_key) = bytes.strip_prefix(&[algorithm]) else {
        return Err(NoteError::Key("it is of another algorithm"));
    };
    let public_key = public_key.try_into().map_err(|_| NoteError::Key("it is not 32 bytes long"))?;
    Ok((name, id, public_key))
}

/// A verifier key as text.
pub(crate) fn key_text(name: &str, id: [u8; 4], algorithm: u8, key: &VerifyingKey) -> String {
    let content = [&[algorithm], &key.as_bytes()[..]].concat();
    format!("{name}+{}+{}", hex::encode(id), BASE64.encode(content))
}

/// A note, taken apart; nothing is verified.
pub(crate) struct Note<'a> {
    /// What is signed, with its last newline.
    pub(crate) text: &'a str,
    signatures: &'a str,
}

impl<'a> Note<'a> {
    pub(crate) fn parse(note: &'a str) -> Result<Self, NoteError> {
        if note.len() > LONGEST {
            return Err(NoteError::Note("it is too long"));
        }
        if note.contains(|letter: char| letter.is_control() && letter != '\n') {
            return Err(NoteError::Note("it has control characters in it"));
        }
        let Some(at) = note.rfind("\n\n") else {
            return Err(NoteError::Note("no empty line stands before its signatures"));
        };
        let (text, signatures) = (&note[..=at], &note[at + 2..]);
        let well_formed = signatures.ends_with('\n')
            && signatures.lines().all(|line| {
                let parts = line.strip_prefix(SIGNATURE_START).and_then(|line| line.split_once(' '));
                parts.is_some_and(|(name, content)| !name.is_empty() && BASE64.decode(content).is_ok())
            });
        if well_formed {
            Ok(Self { text, signatures })
        } else {
            Err(NoteError::Note("its signatures are malformed"))
        }
    }

    /// Name and content of each signature line.
    pub(crate) fn signatures(&self) -> impl Iterator<Item = (&'a str, Vec<u8>)> {
        self.signatures.lines().filter_map(|line| {
            let (name, content) = line.strip_prefix(SIGNATURE_START)?.split_once(' ')?;
            Some((name, BASE64.decode(content).ok()?))
        })
    }
}

/// What a log commits itself to: its first `size` lines, by their root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's name.
    pub origin: String,
    /// How many lines it covers.
    pub size: u64,
    /// The root of the tree over them.
    pub root: Hash,
}

impl Checkpoint {
    /// The text that is signed. C2SP tlog-checkpoint, without extension lines.
    pub fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, BASE64.encode(self.root))
    }

    /// Reads that text; lines after the third are left out.
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        let mut lines = text.lines();
        let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next()) else {
            return Err(NoteError::Checkpoint("it has less than three lines"));
        };
        if origin.is_empty() {
            return Err(NoteError::Checkpoint("it names no log"));
        }
        let parsed = size.parse::<u64>().ok().filter(|number| number.to_string() == size);
        let size = parsed.ok_or(NoteError::Checkpoint("its size is no number"))?;
        let root = BASE64.decode(root).ok().and_then(|root| Hash::try_from(root).ok());
        let root = root.ok_or(NoteError::Checkpoint("its root is no SHA-256 hash"))?;
        Ok(Self { origin: origin.to_owned(), size, root })
    }
}

/// A checkpoint with its signatures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedCheckpoint {
    /// What is signed.
    pub checkpoint: Checkpoint,
    /// The whole note.
    pub note: String,
}

impl SignedCheckpoint {
    /// Puts checkpoint and signature together.
    pub fn new(checkpoint: Checkpoint, key: &VerifierKey, signature: &[u8; 64]) -> Self {
        let note = format!("{}\n{}", checkpoint.text(), key.line(signature));
        Self { checkpoint, note }
    }

    /// Reads a note and verifies that `key`, the key of the log, signed it.
    pub fn open(note: &str, key: &VerifierKey) -> Result<Self, NoteError> {
        let parsed = Note::parse(note)?;
        key.check(&parsed)?;
        let checkpoint = Checkpoint::parse(parsed.text)?;
        if checkpoint.origin != key.name {
            return Err(NoteError::Origin { found: checkpoint.origin, wanted: key.name.clone() });
        }
        Ok(Self { checkpoint, note: note.to_owned() })
    }

    /// What is signed: the note without its signatures.
    pub fn text(&self) -> &str {
        let end = self.note.rfind("\n\n").map_or(self.note.len(), |at| at + 1);
        &self.note[..end]
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::{Signer as _, SigningKey};

    use super::*;

    /// A key, a text, and what Go's `golang.org/x/mod/sumdb/note` documents for them in its examples.
    const GO_KEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    const GO_NOTE: &str = "If you think cryptography is the answer to your problem,\n\
        then you don't know what your problem is.\n\n\
        \u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

    fn signed(seed: u8, name: &str, checkpoint: Checkpoint) -> (VerifierKey, SignedCheckpoint) {
        let signing = SigningKey::from_bytes(&[seed; 32]);
        let key = VerifierKey::new(name, signing.verifying_key().as_bytes()).expect("a key");
        let signature = signing.sign(checkpoint.text().as_bytes()).to_bytes();
        let note = SignedCheckpoint::new(checkpoint, &key, &signature);
        (key, note)
    }

    fn checkpoint() -> Checkpoint {
        Checkpoint { origin: "dewpoint.example/log".to_owned(), size: 12, root: [3; 32] }
    }

    #[test]
    fn a_note_made_by_others_is_read() {
        let key = VerifierKey::parse(GO_KEY).expect("a key");
        assert_eq!(key.to_string(), GO_KEY);
        let note = Note::parse(GO_NOTE).expect("a note");
        assert_eq!(key.check(&note), Ok(()));
        let altered = GO_NOTE.replace("answer", "Answer");
        let forged = NoteError::Forged { name: "PeterNeumann".to_owned() };
        assert_eq!(key.check(&Note::parse(&altered).expect("a note")), Err(forged));
    }

    #[test]
    fn a_checkpoint_comes_back_and_no_altered_one_does() {
        let (key, signed) = signed(1, "dewpoint.example/log", checkpoint());
        assert_eq!(SignedCheckpoint::open(&signed.note, &key).as_ref(), Ok(&signed));
        assert_eq!(VerifierKey::parse(&key.to_string()).as_ref(), Ok(&key));
        for at in 0..signed.note.len() {
            let mut altered = signed.note.clone().into_bytes();
            altered[at] ^= 1;
            if let Ok(altered) = String::from_utf8(altered) {
                assert!(SignedCheckpoint::open(&altered, &key).is_err(), "byte {at}: {altered:?}");
            }
            if signed.note.is_char_boundary(at) {
                assert!(SignedCheckpoint::open(&signed.note[..at], &key).is_err(), "cut at {at}");
            }
        }
    }

    #[test]
    fn another_key_and_another_log_are_told_apart() {
        let (key, note) = signed(1, "dewpoint.example/log", checkpoint());
        let (other, _) = signed(2, "dewpoint.example/log", checkpoint());
        assert!(matches!(SignedCheckpoint::open(&note.note, &other), Err(NoteError::NotSigned { .. })));
        let elsewhere = Checkpoint { origin: "dewpoint.example/other".to_owned(), ..checkpoint() };
        let (_, elsewhere) = signed(1, "dewpoint.example/log", elsewhere);
        assert!(matches!(SignedCheckpoint::open(&elsewhere.note, &key), Err(NoteError::Origin { .. })));
        // Signatures of others may follow.
        let cosigned = format!("{}\u{2014} witness {}\n", note.note, BASE64.encode([0; 76]));
        assert!(SignedCheckpoint::open(&cosigned, &key).is_ok());
    }

    #[test]
    fn what_is_no_key_and_no_checkpoint_is_refused() {
        let key = VerifierKey::new("a", &[0x58; 32]);
        for text in [
            "",
            "a",
            "a+b",
            "a+b+c",
            "a+00000000+AAAA",
            "PeterNeumann+c74f20a4+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        ] {
            assert!(matches!(VerifierKey::parse(text), Err(NoteError::Key(_))), "{text:?}");
        }
        assert!(VerifierKey::new("a b", &[0x58; 32]).is_err() && VerifierKey::new("", &[0x58; 32]).is_err());
        drop(key);
        for text in ["", "a\n", "a\n1\n", "a\n01\nAAAA\n", "a\n-1\nAAAA\n", "a\n1\nAAAA\n", "\n1\nAAAA\n"] {
            assert!(matches!(Checkpoint::parse(text), Err(NoteError::Checkpoint(_))), "{text:?}");
        }
    }
}
