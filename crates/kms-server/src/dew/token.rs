//! X-Auth-Token: what a user gets for its password, sealed, so that the service keeps no list of tokens.
//!
//! The key lies in the memory of this process alone. No token outlives the process, and none is good at another one:
//! after a restart clients ask for a new one, as they have to every day.

use std::time::Duration;

use aes_gcm::{
    Aes256Gcm,
    aead::{AeadInOut as _, KeyInit as _},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use kms_core::{
    Error, Timestamp,
    error::Unauthenticated,
    identity::{ProjectId, UserId},
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// How long a token is one.
// DEW: §1.1.
pub(crate) const LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// What the seal is for; and its first byte, the version.
const PURPOSE: &[u8] = b"dewpoint/v1/iam-token";
const VERSION: u8 = 1;
const NONCE_BYTES: usize = 12;
const TAG_BYTES: usize = 16;
/// No token is longer, in characters.
const LONGEST: usize = 2048;

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Token {
    /// Whose it is.
    pub user: UserId,
    /// The one project that it is good for.
    pub project: ProjectId,
    /// When it was issued.
    pub issued: Timestamp,
    /// From then on it is none.
    pub expires: Timestamp,
    /// SHA-256 of what the user's password was checked by: a token does not outlive the password.
    pub password: [u8; 32],
}

/// What tokens are sealed under.
pub(crate) struct TokenKey(Zeroizing<[u8; 32]>);

impl TokenKey {
    /// A new one.
    pub(crate) fn random() -> Result<Self, Error> {
        let mut key = Zeroizing::new([0; 32]);
        random(&mut key[..])?;
        Ok(Self(key))
    }

    /// The token as text that is safe in a header.
    pub(crate) fn issue(&self, token: &Token) -> Result<String, Error> {
        let mut sealed = vec![VERSION; 1 + NONCE_BYTES];
        random(&mut sealed[1..])?;
        let nonce: [u8; NONCE_BYTES] = sealed[1..].try_into().map_err(|_| UNSEALABLE)?;
        let mut text = serde_json::to_vec(token).map_err(|_| UNSEALABLE)?;
        let sealing =
            self.cipher().encrypt_inout_detached(&nonce.into(), PURPOSE, text.as_mut_slice().into());
        let tag = sealing.map_err(|_| UNSEALABLE)?;
        sealed.extend_from_slice(&text);
        sealed.extend_from_slice(&tag);
        Ok(URL_SAFE_NO_PAD.encode(sealed))
    }

    /// What a token says that was issued under this key and has not expired.
    pub(crate) fn open(&self, text: &str, now: Timestamp) -> Result<Token, Unauthenticated> {
        let token = self.opened(text).ok_or(Unauthenticated::TokenUnknown)?;
        if token.expires <= now { Err(Unauthenticated::TokenExpired) } else { Ok(token) }
    }

    fn opened(&self, text: &str) -> Option<Token> {
        let sealed = URL_SAFE_NO_PAD.decode(Some(text).filter(|text| text.len() <= LONGEST)?).ok()?;
        let (nonce, rest) = sealed.strip_prefix(&[VERSION])?.split_first_chunk::<NONCE_BYTES>()?;
        let (text, tag) = rest.split_last_chunk::<TAG_BYTES>()?;
        let mut text = text.to_vec();
        let (nonce, tag) = ((*nonce).into(), (*tag).into());
        self.cipher().decrypt_inout_detached(&nonce, PURPOSE, text.as_mut_slice().into(), &tag).ok()?;
        serde_json::from_slice(&text).ok()
    }

    fn cipher(&self) -> Aes256Gcm {
        Aes256Gcm::new(&(*self.0).into())
    }
}

const UNSEALABLE: Error = Error::Internal { detail: "a token cannot be sealed" };

fn random(bytes: &mut [u8]) -> Result<(), Error> {
    getrandom::fill(bytes).map_err(|_| Error::Internal { detail: "the system has no random bytes" })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);

    fn key() -> TokenKey {
        TokenKey::random().expect("random bytes")
    }

    fn token() -> Token {
        Token {
            user: UserId::parse("u1").expect("a name"),
            project: ProjectId::parse("p1").expect("a name"),
            issued: NOW,
            expires: NOW.plus(LIFETIME),
            password: [7; 32],
        }
    }

    #[test]
    fn what_was_issued_opens_for_a_day_and_under_its_key_alone() {
        let (key, token) = (key(), token());
        let text = key.issue(&token).expect("issued");
        assert_eq!(key.open(&text, NOW), Ok(token.clone()));
        let end = token.expires;
        assert_eq!(key.open(&text, Timestamp::from_micros(end.as_micros() - 1)), Ok(token.clone()));
        assert_eq!(key.open(&text, end), Err(Unauthenticated::TokenExpired));
        assert_eq!(self::key().open(&text, NOW), Err(Unauthenticated::TokenUnknown));
        assert_ne!(key.issue(&token).expect("issued"), text, "each has its own nonce");
        assert!(text.len() < LONGEST);
    }

    #[test]
    fn a_token_changed_in_any_place_is_none() {
        let key = key();
        let text = key.issue(&token()).expect("issued");
        for place in 0..text.len() {
            let other = if text.as_bytes()[place] == b'A' { "B" } else { "A" };
            let mut changed = text.clone();
            changed.replace_range(place..=place, other);
            assert_eq!(key.open(&changed, NOW), Err(Unauthenticated::TokenUnknown), "{place}");
            assert_eq!(key.open(&text[..place], NOW), Err(Unauthenticated::TokenUnknown), "{place}");
        }
    }

    #[test]
    fn the_longest_names_fit() {
        let name = "x".repeat(64);
        let user = UserId::parse(&name).expect("a name");
        let project = ProjectId::parse(&name).expect("a name");
        let (issued, expires) = (Timestamp::from_micros(i64::MIN), Timestamp::from_micros(i64::MAX));
        let token = Token { user, project, issued, expires, password: [255; 32] };
        let key = key();
        assert_eq!(key.open(&key.issue(&token).expect("issued"), NOW), Ok(token));
    }

    proptest! {
        #[test]
        fn no_junk_makes_it_panic(text in "[ -~]{0,200}|[A-Za-z0-9_-]{0,200}", now: i64) {
            let opened = key().open(&text, Timestamp::from_micros(now));
            prop_assert_eq!(opened, Err(Unauthenticated::TokenUnknown));
        }
    }
}
