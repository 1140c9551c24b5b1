//! What must not work, and does not: each refusal is checked for its exact reason.

use std::path::{Path, PathBuf};

use kms_client::{
    Client,
    envelope::{self, Header, Layout},
};
use tokio::fs;

use crate::{
    failure::{During as _, Failure, causes},
    report::say,
    stage::{Places, Vault, decrypt_file},
    tree::PlainFile,
    users::Users,
};

/// The envelope that everybody tries to open.
pub(crate) struct Subject<'a> {
    places: &'a Places,
    name: &'a str,
    path: PathBuf,
    bytes: Vec<u8>,
    header: Header,
}

impl<'a> Subject<'a> {
    /// The envelope of `file`, which should have several segments.
    pub(crate) async fn load(
        places: &'a Places,
        vault: &Vault,
        file: &'a PlainFile,
    ) -> Result<Self, Failure> {
        let path = places.encrypted(vault).join(&file.name);
        let bytes = fs::read(&path).await.during(path.display())?;
        let header = Header::parse(&bytes).during(path.display())?;
        Ok(Self { places, name: &file.name, path, bytes, header })
    }

    /// Shows that `client` cannot open the envelope, for this reason.
    async fn refused(&self, client: &Client, what: &str, reason: &str) -> Result<(), Failure> {
        self.refused_as(self.name, client, &self.path, what, reason).await
    }

    /// Shows that `client` can open the envelope, so that nothing but what is changed is refused.
    async fn opens(&self, client: &Client, what: &str) -> Result<(), Failure> {
        let to = self.places.0.join("opened");
        decrypt_file(client, self.name, &self.path, &to).await.during(what)?;
        line(what, "OK", "decrypted");
        fs::remove_file(&to).await.during(to.display())
    }

    /// As [`Self::refused`], for an envelope of other bytes.
    async fn altered(&self, client: &Client, bytes: &[u8], what: &str, reason: &str) -> Result<(), Failure> {
        let path = self.places.0.join("altered");
        fs::write(&path, bytes).await.during(path.display())?;
        self.refused_as(self.name, client, &path, what, reason).await
    }

    async fn refused_as(
        &self,
        name: &str,
        client: &Client,
        from: &Path,
        what: &str,
        reason: &str,
    ) -> Result<(), Failure> {
        let to = self.places.0.join("refused");
        let Err(error) = decrypt_file(client, name, from, &to).await else {
            return Err(Failure::new(format!("{what}: it was decrypted")));
        };
        if found(&error) != reason {
            return Err(Failure::new(format!("{what}: {} instead of {reason}", causes(&error))));
        }
        if to.exists() {
            return Err(Failure::new(format!("{what}: it left a file behind")));
        }
        line(what, reason, &sentence(&error));
        Ok(())
    }

    fn with_flipped_bit(&self, offset: usize) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        if let Some(byte) = bytes.get_mut(offset) {
            *byte ^= 1;
        }
        bytes
    }

    /// Where the sealed data key ends in the envelope.
    fn end_of_sealed_key(&self) -> usize {
        envelope::FIXED_LENGTH + self.header.sealed_key().len()
    }

    /// Where the last segment begins: cut there, an envelope has only whole segments.
    fn start_of_last_segment(&self) -> Result<usize, Failure> {
        let layout = Layout::new(&self.header, self.bytes.len() as u64).during(self.path.display())?;
        usize::try_from(layout.segment(layout.last_index()).start).during("a file too long")
    }
}

/// Those that the service makes. `key_id` is the key of the subject; it is enabled again.
pub(crate) async fn by_the_service(
    subject: &Subject<'_>,
    users: &Users,
    key_id: &str,
) -> Result<(), Failure> {
    users.admin.disable_key(key_id).await.during("disabling the key")?;
    subject.refused(&users.downloader, "under a disabled key", "KEY_DISABLED").await?;
    users.admin.enable_key(key_id).await.during("enabling the key")?;
    subject.opens(&users.downloader, "under the key enabled again").await?;
    subject.refused(&users.stranger, "by the admin of another account", "KEY_NOT_FOUND").await?;
    subject
        .refused(&users.uploader, "by a user who may only upload", "PERMISSION_DENIED kms:dek:crypto")
        .await?;
    let renamed = "another/name";
    let what = "as another file (its context differs)";
    subject.refused_as(renamed, &users.downloader, &subject.path, what, "CANNOT_DECRYPT").await?;
    let altered = subject.with_flipped_bit(subject.end_of_sealed_key() - 1);
    subject
        .altered(&users.downloader, &altered, "one bit of the sealed data key flipped", "CANNOT_DECRYPT")
        .await
}

/// Those that the client makes: the service opens the data key, but the envelope is not whole under it.
pub(crate) async fn by_the_client(subject: &Subject<'_>, users: &Users) -> Result<(), Failure> {
    let client = &users.downloader;
    let altered = subject.with_flipped_bit(subject.bytes.len() / 2);
    subject.altered(client, &altered, "one bit in its middle flipped", "not authentic").await?;
    let altered = &subject.bytes[..subject.start_of_last_segment()?];
    subject.altered(client, altered, "its last segment cut off", "not authentic").await?;
    let altered = &subject.bytes[..subject.end_of_sealed_key()];
    subject.altered(client, altered, "cut off in its header", "truncated").await
}

fn line(what: &str, reason: &str, sentence: &str) {
    say(format_args!("   {what:<39} {reason:<32}  {sentence}"));
}

/// The stable reason of a refusal, with the permission that was missing.
fn found(error: &envelope::Error) -> String {
    match error {
        envelope::Error::NotAuthentic => "not authentic".to_owned(),
        envelope::Error::Truncated => "truncated".to_owned(),
        envelope::Error::Service(error) => {
            let missing = error.refusal().and_then(|refusal| refusal.metadata.get("missing_action"));
            let missing = missing.map(|action| format!(" {action}")).unwrap_or_default();
            error.reason().unwrap_or_default().to_owned() + &missing
        }
        _ => String::new(),
    }
}

/// What a person is told.
fn sentence(error: &envelope::Error) -> String {
    match error {
        envelope::Error::Service(error) => {
            error.refusal().map_or_else(|| error.to_string(), |refusal| refusal.message.clone())
        }
        _ => error.to_string(),
    }
}
