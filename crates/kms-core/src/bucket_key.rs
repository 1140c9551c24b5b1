//! Bucket keys: keys under which a gateway keeps many objects of a bucket, each under a data key that it derives itself.
//!
//! What is sealed of a bucket key says besides which one it is, what it is for and how long new objects may be put under
//! it; `docs/ciphertext-format.md` is the reference. Whoever was given one gets a receipt with it, by which it reports
//! in the end how many objects hang on it.

use std::{fmt, time::Duration};

use uuid::{Builder, Uuid};

use crate::{
    Timestamp,
    directory::Directory,
    error::{Error, Field},
    identity::Caller,
    key::{Cipher, KeyId},
    ports::HsmSession,
    secret::SecretBytes,
};

/// How long a bucket key is valid if nothing else is asked for.
pub const DEFAULT_VALIDITY: Duration = Duration::from_secs(180);
/// The longest validity that can be asked for, where the deployment decides nothing else.
pub const LONGEST_VALIDITY: Duration = Duration::from_secs(900);
/// The most that a deployment may allow: a permission that is withdrawn is still used for as long.
pub const MAX_LONGEST_VALIDITY: Duration = Duration::from_secs(3600);
/// How many objects may hang on one bucket key.
pub const MOST_USES: u64 = 1_000_000;
/// How long after the end of its validity the use of a bucket key may be reported.
pub const REPORT_PERIOD: Duration = Duration::from_secs(24 * 60 * 60);

/// The length of the key itself, in bytes, whatever is derived from it.
pub const KEY_BYTES: usize = 32;
/// The length of what is sealed, in bytes.
pub(crate) const CONTENT_BYTES: usize = HEAD_BYTES + KEY_BYTES;

const HEAD_BYTES: usize = 1 + 1 + 16 + 8 + 8;
const CONTENT_VERSION: u8 = 1;
const RECEIPT_VERSION: u8 = 1;
const SAID_BYTES: usize = 1 + 16 + 16 + 4 + 8;
/// The length of a receipt, in bytes.
pub const RECEIPT_BYTES: usize = SAID_BYTES + 32;
/// A path that no value of the store has.
const RECEIPT_PATH: &[u8] = b"dewpoint/v1/bucket-key-receipt";

/// Names one bucket key; in answers and in the log.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct BucketKeyId(Uuid);

impl BucketKeyId {
    /// The bucket key with this id.
    pub const fn from_uuid(id: Uuid) -> Self {
        Self(id)
    }

    /// The id as the log has it.
    pub const fn as_uuid(self) -> Uuid {
        self.0
    }

    // RFC 9562 §5.4
    fn random(session: &mut dyn HsmSession) -> Result<Self, Error> {
        let mut random = [0; 16];
        session.fill_random(&mut random)?;
        Ok(Self(Builder::from_random_bytes(random).into_uuid()))
    }
}

impl fmt::Display for BucketKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for BucketKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// For how long a bucket key is asked for: whole seconds, 1 at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity(Duration);

impl Validity {
    /// Takes what a request says; 0: nothing in particular.
    pub fn parse(seconds: u32) -> Option<Self> {
        (seconds > 0).then(|| Self(Duration::from_secs(seconds.into())))
    }

    /// How long that is where no more than `longest` is allowed.
    pub(crate) fn within(asked: Option<Self>, longest: Duration) -> Duration {
        asked.map_or(DEFAULT_VALIDITY, |Self(asked)| asked).min(longest)
    }
}

/// How many objects hang on a bucket key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UseCount(u64);

impl UseCount {
    /// Takes up to [`MOST_USES`].
    pub fn parse(uses: u64) -> Result<Self, Error> {
        if uses <= MOST_USES {
            Ok(Self(uses))
        } else {
            Err(Error::invalid(Field::Uses, "must be at most 1000000"))
        }
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// A bucket key with all that is sealed of it.
#[derive(Debug)]
pub(crate) struct BucketKeyContent {
    pub(crate) id: BucketKeyId,
    /// What the data keys are for that are derived from it.
    pub(crate) algorithm: Cipher,
    pub(crate) issued: Timestamp,
    /// The end of its validity.
    pub(crate) expires: Timestamp,
    /// The key itself.
    pub(crate) key: SecretBytes,
}

impl BucketKeyContent {
    /// A new one.
    pub(crate) fn make(
        session: &mut dyn HsmSession,
        algorithm: Cipher,
        issued: Timestamp,
        expires: Timestamp,
    ) -> Result<Self, Error> {
        let mut key = SecretBytes::zeroed(KEY_BYTES);
        session.fill_random(key.expose_secret_mut())?;
        Ok(Self { id: BucketKeyId::random(session)?, algorithm, issued, expires, key })
    }

    /// What is to be sealed.
    pub(crate) fn encode(&self) -> SecretBytes {
        let mut content = Vec::with_capacity(CONTENT_BYTES); // never grows: nothing is left behind
        content.extend_from_slice(&[CONTENT_VERSION, self.algorithm as u8]);
        content.extend_from_slice(self.id.0.as_bytes());
        content.extend_from_slice(&self.issued.as_micros().to_be_bytes());
        content.extend_from_slice(&self.expires.as_micros().to_be_bytes());
        content.extend_from_slice(self.key.expose_secret());
        SecretBytes::new(content)
    }

    /// Reads what was sealed. It is authentic, so one that cannot be read is of a newer service's form.
    pub(crate) fn decode(content: &SecretBytes) -> Result<Self, Error> {
        Self::read(content.expose_secret()).ok_or(Error::CannotDecrypt)
    }

    fn read(content: &[u8]) -> Option<Self> {
        let (head, key) = content.split_first_chunk::<HEAD_BYTES>()?;
        let algorithm = match head[..2] {
            [CONTENT_VERSION, 1] => Cipher::Aes256Gcm,
            [CONTENT_VERSION, 2] => Cipher::Sm4Gcm,
            _ => return None,
        };
        let time = |from: usize| {
            let bytes = head.get(from..from + 8)?.try_into().ok()?;
            Some(Timestamp::from_micros(i64::from_be_bytes(bytes)))
        };
        (key.len() == KEY_BYTES).then_some(())?;
        Some(Self {
            id: BucketKeyId(Uuid::from_slice(&head[2..18]).ok()?),
            algorithm,
            issued: time(18)?,
            expires: time(26)?,
            key: SecretBytes::new(key.to_vec()),
        })
    }
}

/// What a receipt says: which bucket key was given out, and by which key it is sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Receipt {
    pub(crate) id: BucketKeyId,
    pub(crate) key_id: KeyId,
    pub(crate) key_version: u32,
    /// The end of the bucket key's validity.
    pub(crate) expires: Timestamp,
}

impl Receipt {
    /// As it is handed out to this user.
    pub(crate) fn seal(&self, directory: &Directory, caller: &Caller) -> Vec<u8> {
        let said = self.encode();
        [&said[..], &directory.seal(RECEIPT_PATH, &bound(&said, caller))].concat()
    }

    /// Reads a receipt that was handed out to this user, and not too long ago.
    pub(crate) fn open(
        receipt: &[u8],
        directory: &Directory,
        caller: &Caller,
        now: Timestamp,
    ) -> Result<Self, Error> {
        let (said, seal) = receipt
            .split_first_chunk::<SAID_BYTES>()
            .ok_or(Error::invalid(Field::Receipt, "must be 77 bytes long"))?;
        if !directory.is_seal(RECEIPT_PATH, &bound(said, caller), seal) {
            return Err(Error::invalid(Field::Receipt, "must be one that this user was given"));
        }
        let receipt = Self::read(said).ok_or(Error::invalid(Field::Receipt, "is of an unknown form"))?;
        if now > receipt.expires.plus(REPORT_PERIOD) {
            return Err(Error::invalid(
                Field::Receipt,
                "has expired: a bucket key's use is reported within a day",
            ));
        }
        Ok(receipt)
    }

    fn encode(&self) -> [u8; SAID_BYTES] {
        let mut said = [0; SAID_BYTES];
        said[0] = RECEIPT_VERSION;
        said[1..17].copy_from_slice(self.id.0.as_bytes());
        said[17..33].copy_from_slice(self.key_id.as_bytes());
        said[33..37].copy_from_slice(&self.key_version.to_be_bytes());
        said[37..].copy_from_slice(&self.expires.as_micros().to_be_bytes());
        said
    }

    fn read(said: &[u8; SAID_BYTES]) -> Option<Self> {
        let id = |from: usize| Uuid::from_slice(said.get(from..from + 16)?).ok();
        (said[0] == RECEIPT_VERSION).then_some(())?;
        Some(Self {
            id: BucketKeyId(id(1)?),
            key_id: KeyId::from_uuid(id(17)?),
            key_version: u32::from_be_bytes(said[33..37].try_into().ok()?),
            expires: Timestamp::from_micros(i64::from_be_bytes(said[37..].try_into().ok()?)),
        })
    }
}

/// What a receipt is authenticated with: nobody but the user that it was given to can use it.
fn bound(said: &[u8; SAID_BYTES], caller: &Caller) -> Vec<u8> {
    let account = caller.account.as_str().as_bytes();
    let length = u32::try_from(account.len()).unwrap_or(u32::MAX); // at most 64
    [&said[..], &length.to_be_bytes(), account, caller.user.as_str().as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content() -> BucketKeyContent {
        BucketKeyContent {
            id: BucketKeyId(Uuid::from_u128(7)),
            algorithm: Cipher::Sm4Gcm,
            issued: Timestamp::from_micros(1),
            expires: Timestamp::from_micros(2),
            key: SecretBytes::new(vec![9; KEY_BYTES]),
        }
    }

    #[test]
    fn content_is_read_as_it_was_written_and_nothing_else_is() {
        let written = content().encode();
        let read = BucketKeyContent::decode(&written).expect("its own form");
        assert_eq!((read.id, read.algorithm), (content().id, Cipher::Sm4Gcm));
        assert_eq!((read.issued.as_micros(), read.expires.as_micros()), (1, 2));
        assert_eq!((read.key.expose_secret(), written.len()), (&[9; KEY_BYTES][..], CONTENT_BYTES));
        let bytes = written.expose_secret();
        let longer = [bytes, &[0]].concat();
        let (mut version, mut algorithm) = (bytes.to_vec(), bytes.to_vec());
        (version[0], algorithm[1]) = (2, 3);
        for other in [&bytes[..65], &longer, &version, &algorithm, &[]] {
            let error =
                BucketKeyContent::decode(&SecretBytes::new(other.to_vec())).expect_err("another form");
            assert_eq!(error, Error::CannotDecrypt);
        }
    }

    #[test]
    fn a_validity_is_what_was_asked_for_up_to_the_longest() {
        let within = |seconds, longest| {
            Validity::within(Validity::parse(seconds), Duration::from_secs(longest)).as_secs()
        };
        assert_eq!([within(0, 900), within(0, 60), within(1, 60)], [180, 60, 1]);
        assert_eq!([within(60, 60), within(61, 60), within(u32::MAX, 900)], [60, 60, 900]);
    }

    #[test]
    fn the_count_of_uses_has_a_bound() {
        assert_eq!(UseCount::parse(MOST_USES).map(UseCount::get), Ok(MOST_USES));
        assert_eq!(UseCount::parse(MOST_USES + 1).expect_err("too many").code(), "INVALID_FIELD");
    }
}
