//! How a call names a key.

use std::sync::Arc;

use crate::{
    draft::Draft,
    error::{Error, Field},
    identity::ServiceName,
    key::{Cipher, DEFAULT_ALIAS_SUFFIX, KeyId, KeyRecord, MAX_TEXT_CHARACTERS},
    operation::{Action, OperationName},
    ops::CreateDefaultKey,
    service::Scope,
    states,
};

/// The services that have default keys.
// DEW: §5, known default key aliases.
pub const SERVICES: [&str; 7] = ["obs", "evs", "ims", "sfs", "rds", "dds", "csms"];

/// The alias of a custom key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alias(String);

impl Alias {
    /// DEW: key_alias, 1 to 255 of `A-Z a-z 0-9 : / _ -`, not ending in `/default`; KMS.1101.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b":/_-".contains(&byte);
        if !(1..=MAX_TEXT_CHARACTERS).contains(&text.len()) || !text.bytes().all(allowed) {
            return Err(Error::invalid(Field::Alias, "must be 1 to 255 of A-Z a-z 0-9 : / _ -"));
        }
        if text.ends_with(DEFAULT_ALIAS_SUFFIX) {
            return Err(Error::invalid(
                Field::Alias,
                "must not end in /default: such aliases are the default keys'",
            ));
        }
        Ok(Self(text.to_owned()))
    }

    /// The alias as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Names a key in a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySelector {
    /// By its id.
    Id(KeyId),
    /// By the alias of a custom key in the caller's region.
    Alias(Alias),
    /// The account's default key of a service.
    Service(ServiceName),
}

impl KeySelector {
    /// By alias: a custom key's, or `<service>/default`.
    pub fn alias(text: &str) -> Result<Self, Error> {
        match text.strip_suffix(DEFAULT_ALIAS_SUFFIX) {
            Some(service) => Self::service(service)
                .map_err(|_| Error::invalid(Field::Alias, "names the default key of an unknown service")),
            None => Alias::parse(text).map(Self::Alias),
        }
    }

    /// By service.
    pub fn service(name: &str) -> Result<Self, Error> {
        let known = SERVICES.contains(&name).then(|| ServiceName::parse(name)).flatten();
        known
            .map(Self::Service)
            .ok_or(Error::invalid(Field::Service, "must be one of obs, evs, ims, sfs, rds, dds, csms"))
    }

    /// Whether using this selector may make a default key.
    pub(crate) fn may_make(&self) -> bool {
        matches!(self, Self::Service(_))
    }
}

impl Scope<'_> {
    /// The key that `selector` names for the caller; its id goes to the record.
    pub(crate) async fn key(
        &self,
        selector: &KeySelector,
        draft: &mut Draft,
    ) -> Result<Arc<KeyRecord>, Error> {
        let (account, directory) = (&self.caller().account, self.directory());
        let id = match selector {
            KeySelector::Id(id) => Some(*id),
            KeySelector::Alias(alias) => directory.alias(self.caller(), alias.as_str()).await?,
            KeySelector::Service(service) => directory.default_key(account, service).await?,
        };
        let record = self.visible_key(id.ok_or(Error::KeyNotFound)?, draft).await?;
        // An index entry that names a key by an alias that is not its own has been moved there.
        let named = match selector {
            KeySelector::Id(_) => true,
            KeySelector::Alias(alias) => record.is_named(alias.as_str()),
            KeySelector::Service(service) => record.is_default_of(service),
        };
        if named {
            Ok(record)
        } else {
            Err(crate::directory::tampered("an alias points to a key of another name"))
        }
    }

    /// The same, and a default key that does not exist yet is made.
    pub(crate) async fn key_or_default(
        &self,
        selector: &KeySelector,
        draft: &mut Draft,
    ) -> Result<Arc<KeyRecord>, Error> {
        match (self.key(selector, draft).await, selector) {
            (Err(Error::KeyNotFound), KeySelector::Service(service)) => {
                // The contract: made on first use by a caller who may kms:cmk:create.
                if !self.caller().permissions.allow(Action::CmkCreate) {
                    return Err(Error::PermissionDenied { missing: Action::CmkCreate });
                }
                let make = CreateDefaultKey { service: service.clone() };
                self.service.make_default_key(self.call, make).await?;
                self.key(selector, draft).await
            }
            (found, _) => found,
        }
    }

    /// The key with this id, if it exists for the caller.
    pub(crate) async fn visible_key(&self, id: KeyId, draft: &mut Draft) -> Result<Arc<KeyRecord>, Error> {
        let stored = self.directory().key(id).await?;
        let record =
            stored.map(|stored| stored.value).filter(|record| record.exists_for(self.caller(), self.now));
        // A key of another account or region looks the same as one that does not exist.
        let record = record.ok_or(Error::KeyNotFound)?;
        draft.key(record.id, None);
        Ok(record)
    }
}

impl KeyRecord {
    /// Refuses what its state forbids `operation`, each state with its own reason.
    pub(crate) fn check(&self, operation: OperationName) -> Result<(), Error> {
        states::after(operation, self.state).map(|_| ())
    }

    /// The same for an operation that seals or opens under a symmetric key; what it seals with.
    pub(crate) fn check_cipher(&self, operation: OperationName) -> Result<Cipher, Error> {
        self.check(operation)?;
        self.cipher()
    }

    /// What the key seals with. DEW: KMS.0325, KMS.0341.
    pub(crate) fn cipher(&self) -> Result<Cipher, Error> {
        self.spec.cipher().ok_or(Error::KeyKindUnsupported)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_outside_of_the_rules_are_malformed() {
        for text in ["", "a b", "a.b", "ä", "obs/default", "/default", &"a".repeat(256)] {
            assert_eq!(Alias::parse(text).expect_err(text).code(), "INVALID_FIELD");
        }
        for text in ["a", "alias/my-key", "A:b_c/d-9", "obs/default/x", "default", &"a".repeat(255)] {
            assert_eq!(Alias::parse(text).expect(text).as_str(), text);
        }
    }

    #[test]
    fn default_aliases_name_known_services_only() {
        let selector = KeySelector::alias("obs/default").expect("a known service");
        assert_eq!(selector, KeySelector::service("obs").expect("a known service"));
        for text in ["s3/default", "/default", "OBS/default"] {
            KeySelector::alias(text).expect_err(text);
        }
        KeySelector::service("s3").expect_err("an unknown service");
    }
}
