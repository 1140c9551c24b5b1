//! How a call names a key.

use std::{fmt, sync::Arc};

use sha2::{Digest as _, Sha256};

use crate::{
    Timestamp,
    access::KeyFacts,
    admission::Standing,
    directory::{Stored, alias_path, default_path, replica_path},
    draft::Draft,
    error::{Error, Field},
    identity::{AccountId, Caller, Region, ServiceName},
    key::{Cipher, DEFAULT_ALIAS_SUFFIX, KeyId, KeyRecord, KeyState, MAX_TEXT_CHARACTERS, MaterialId},
    operation::OperationName,
    ops::{CreateDefaultKey, create_key::new_id},
    ports::StoreKey,
    service::Scope,
    states,
};

/// The services that have default keys.
// DEW: §5, known default key aliases.
pub const SERVICES: [&str; 7] = ["obs", "evs", "ims", "sfs", "rds", "dds", "csms"];

/// The aliases of their keys.
const DEFAULT_ALIASES: [&str; SERVICES.len()] = [
    "obs/default",
    "evs/default",
    "ims/default",
    "sfs/default",
    "rds/default",
    "dds/default",
    "csms/default",
];

/// The alias of the default keys of `service`.
pub(crate) fn default_alias(service: &ServiceName) -> Option<&'static str> {
    let of_service = |alias: &str| alias.strip_suffix(DEFAULT_ALIAS_SUFFIX) == Some(service.as_str());
    DEFAULT_ALIASES.into_iter().find(|alias| of_service(alias))
}

/// How often a name is looked up anew when it goes from key to key meanwhile.
const MAX_LOOKS: usize = 16;

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

/// An alias and where it is valid: `kms:<region>:<account>:alias:<alias>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AliasUrn {
    region: Region,
    account: AccountId,
    alias: Alias,
}

impl AliasUrn {
    /// DEW: alias_urn. `None`: the text has not this form.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(5, ':');
        let mut part = || parts.next();
        let (service, region, account, kind, alias) = (part()?, part()?, part()?, part()?, part()?);
        if (service, kind) != ("kms", "alias") {
            return None;
        }
        let (region, account) = (Region::parse(region)?, AccountId::parse(account)?);
        Some(Self { region, account, alias: Alias::parse(alias).ok()? })
    }

    /// The URN of this alias as text.
    pub fn of(region: &Region, account: &AccountId, alias: &str) -> String {
        format!("kms:{region}:{account}:alias:{alias}")
    }
}

impl fmt::Display for AliasUrn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&Self::of(&self.region, &self.account, self.alias.as_str()))
    }
}

/// Names a key in a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySelector {
    /// By its id.
    Id(KeyId),
    /// By the alias of a custom key in the caller's region.
    Alias(Alias),
    /// By the URN of such an alias.
    Urn(AliasUrn),
    /// The account's default key of a service.
    Service(ServiceName),
}

impl KeySelector {
    /// By whatever a `key_id` of a request may be: a key's id, an alias, or the URN of an alias.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if uuid::Uuid::try_parse(text).is_ok() {
            return text.parse().map(Self::Id);
        }
        let malformed = Error::invalid(Field::KeyId, "must be a key's id, an alias, or the URN of an alias");
        Self::alias(text).map_err(|_| malformed)
    }

    /// By alias: a custom key's, its URN, or `<service>/default`.
    pub fn alias(text: &str) -> Result<Self, Error> {
        if let Some(urn) = AliasUrn::parse(text) {
            return Ok(Self::Urn(urn));
        }
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

    /// Whether `record` has the name that this names a key by.
    fn names(&self, record: &KeyRecord) -> bool {
        match self {
            Self::Id(id) => *id == record.id,
            Self::Alias(alias) => record.is_named(alias.as_str()),
            Self::Urn(urn) => record.is_named(urn.alias.as_str()),
            Self::Service(service) => record.is_default_of(service),
        }
    }

    /// The alias that it names a key by, if it does.
    pub(crate) fn as_alias(&self) -> Option<&str> {
        match self {
            Self::Alias(alias) => Some(alias.as_str()),
            Self::Urn(urn) => Some(urn.alias.as_str()),
            Self::Service(service) => default_alias(service),
            Self::Id(_) => None,
        }
    }

    /// Whether using this selector may make a default key.
    pub(crate) fn may_make(&self) -> bool {
        matches!(self, Self::Service(_))
    }
}

impl From<KeyId> for KeySelector {
    fn from(id: KeyId) -> Self {
        Self::Id(id)
    }
}

impl Scope<'_> {
    /// The key that `selector` names for the caller; its id goes to the record.
    pub(crate) async fn key(
        &self,
        selector: &KeySelector,
        draft: &mut Draft,
    ) -> Result<Arc<KeyRecord>, Error> {
        Ok(self.stored(selector, draft).await?.value)
    }

    /// The same, with the revision that a change of it must name.
    pub(crate) async fn stored(
        &self,
        selector: &KeySelector,
        draft: &mut Draft,
    ) -> Result<Stored<Arc<KeyRecord>>, Error> {
        let stored = self.found(selector).await?;
        self.admit(&stored.value, selector.as_alias(), draft).await?;
        draft.key(stored.value.id, None);
        Ok(stored)
    }

    /// The same, whoever may use the key.
    pub(crate) async fn found(&self, selector: &KeySelector) -> Result<Stored<Arc<KeyRecord>>, Error> {
        let Some(path) = self.name_path(selector)? else {
            return match selector {
                KeySelector::Id(id) => self.existing(*id).await,
                _ => Err(Error::KeyNotFound),
            };
        };
        for _ in 0..MAX_LOOKS {
            let entry = self.directory().read::<KeyId>(path.clone()).await?.ok_or(Error::KeyNotFound)?;
            let stored = self.existing(entry.value).await?;
            if selector.names(&stored.value) {
                return Ok(stored);
            }
            // A name and its record change together, but are read one after the other: the name may have gone to
            // another key in between. An entry that names a key by a name that is not its own has been moved there.
            let now = self.directory().read::<KeyId>(path.clone()).await?;
            if now.is_some_and(|now| now.revision == entry.revision) {
                return Err(crate::directory::tampered("an alias points to a key of another name"));
            }
        }
        Err(Error::Contention)
    }

    /// Where the store says which key has this name; `None`: nowhere.
    fn name_path(&self, selector: &KeySelector) -> Result<Option<StoreKey>, Error> {
        let Caller { account, region, .. } = self.caller();
        Ok(match selector {
            KeySelector::Id(_) => None,
            KeySelector::Alias(alias) => Some(alias_path(account, region, alias.as_str())),
            // The names of other accounts and regions are none for this caller.
            KeySelector::Urn(urn) if (&urn.account, &urn.region) != (account, region) => {
                return Err(Error::KeyNotFound);
            }
            KeySelector::Urn(urn) => Some(alias_path(account, region, urn.alias.as_str())),
            KeySelector::Service(service) => Some(default_path(account, service)),
        })
    }

    /// The same, and a default key that does not exist yet is made. `part` is what the call does by the name of another
    /// operation.
    pub(crate) async fn key_or_default(
        &self,
        selector: &KeySelector,
        part: Option<OperationName>,
        draft: &mut Draft,
    ) -> Result<Arc<KeyRecord>, Error> {
        let key = match (self.key(selector, draft).await, selector) {
            (Err(Error::KeyNotFound), KeySelector::Service(service)) => {
                let make = CreateDefaultKey { service: service.clone(), id: self.id_of_default_key() };
                self.admit_default_key(&make, part, draft)?;
                self.service.make_default_key(self.call, make).await?;
                self.key(selector, draft).await?
            }
            (found, _) => found?,
        };
        if let Some(part) = part {
            self.refuse_if_denied(part, &key, selector.as_alias(), draft)?;
        }
        Ok(key)
    }

    /// The id of a default key that this call makes: it is known before anything is made, so that a denial of some ids
    /// is decided first. It follows from the call's id, which is as unique.
    // RFC 9562 §5.7
    fn id_of_default_key(&self) -> KeyId {
        let digest =
            Sha256::new().chain_update(b"dewpoint/v1/default-key").chain_update(self.call.request_id);
        let mut random = [0; 10];
        random.copy_from_slice(&digest.finalize()[..10]);
        new_id(self.now, &random)
    }

    /// Refuses to make a default key for a call that would be refused when it is there.
    fn admit_default_key(
        &self,
        make: &CreateDefaultKey,
        part: Option<OperationName>,
        draft: &mut Draft,
    ) -> Result<(), Error> {
        if self.standing != Standing::ByPermission {
            return Err(Error::denied(self.operation.info().action));
        }
        let (alias, facts) = (default_alias(&make.service), CreateDefaultKey::facts());
        let made = KeyFacts { id: Some(make.id), ..facts };
        self.admit_without_key(self.operation, Some(made), alias, draft)?;
        for denied in part.into_iter().chain([OperationName::CreateDefaultKey]) {
            self.refuse_if_making_is_denied(denied, made, &self.caller().region, alias, draft)?;
        }
        // The contract: made on first use by a caller who may kms:cmk:create.
        self.admit_without_key(OperationName::CreateDefaultKey, Some(facts), alias, draft)?;
        if self.call.dry_run { Err(Error::DryRun) } else { Ok(()) }
    }

    /// The key with this id, if it exists for the caller.
    pub(crate) async fn visible_key(&self, id: KeyId, draft: &mut Draft) -> Result<Arc<KeyRecord>, Error> {
        Ok(self.visible(id, draft).await?.value)
    }

    /// The key that opens what was sealed with this material, if there is one for the caller: the key whose
    /// material it was at first, or the one of the caller's region that shares it.
    pub(crate) async fn key_of_material(
        &self,
        material: MaterialId,
        draft: &mut Draft,
    ) -> Result<Arc<KeyRecord>, Error> {
        match self.visible_key(material.key_id(), draft).await {
            Err(Error::KeyNotFound) => {}
            found => return found,
        }
        let path = replica_path(material, &self.caller().region);
        let entry = self.directory().read::<KeyId>(path).await?.ok_or(Error::KeyNotFound)?;
        self.visible_key(entry.value, draft).await
    }

    async fn visible(&self, id: KeyId, draft: &mut Draft) -> Result<Stored<Arc<KeyRecord>>, Error> {
        let stored = self.existing(id).await?;
        self.admit(&stored.value, None, draft).await?;
        draft.key(id, None);
        Ok(stored)
    }

    /// The key with this id, whoever may use it: of a call that was admitted, or that decides by itself.
    pub(crate) async fn existing(&self, id: KeyId) -> Result<Stored<Arc<KeyRecord>>, Error> {
        let stored = self.directory().key(id).await?;
        stored.filter(|stored| stored.value.exists_at(self.now)).ok_or(Error::KeyNotFound)
    }
}

impl KeyRecord {
    /// Refuses what its state forbids `operation`, each state with its own reason.
    pub(crate) fn check(&self, operation: OperationName, now: Timestamp) -> Result<(), Error> {
        states::after(operation, self.state_at(now)?).map(|_| ())
    }

    /// Its state at `now`: imported material that has expired serves nobody, also before it is deleted.
    pub(crate) fn state_at(&self, now: Timestamp) -> Result<KeyState, Error> {
        if self.has_expired_at(now) {
            states::after(OperationName::ExpireKeyMaterial, self.state)
        } else {
            Ok(self.state)
        }
    }

    /// The same for an operation that seals or opens under a symmetric key; what it seals with.
    pub(crate) fn check_cipher(&self, operation: OperationName, now: Timestamp) -> Result<Cipher, Error> {
        self.check(operation, now)?;
        self.cipher()
    }

    /// What the key seals with. DEW: KMS.0325, KMS.0341.
    pub(crate) fn cipher(&self) -> Result<Cipher, Error> {
        self.spec.cipher().ok_or(Error::KeyKindUnsupported(self.spec.class()))
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
    fn a_key_id_of_a_request_is_an_id_an_alias_or_a_urn() {
        let id = "0193a000-0000-7000-8000-000000000000";
        assert_eq!(KeySelector::parse(id), id.parse().map(KeySelector::Id));
        assert_eq!(KeySelector::parse("alias/x"), Alias::parse("alias/x").map(KeySelector::Alias));
        assert_eq!(KeySelector::parse("obs/default"), KeySelector::service("obs"));
        let (region, account) = (Region::parse("cn-north-4"), AccountId::parse("acme"));
        let urn = AliasUrn::of(&region.expect("a name"), &account.expect("a name"), "alias/a:b");
        assert_eq!(urn, "kms:cn-north-4:acme:alias:alias/a:b");
        let Ok(KeySelector::Urn(parsed)) = KeySelector::parse(&urn) else { panic!("{urn} is a URN") };
        assert_eq!(parsed.alias.as_str(), "alias/a:b");
        for text in ["", "no id", "0193A000-0000-7000-8000-000000000000", "s3/default", &id.replace('-', "")]
        {
            let error = KeySelector::parse(text).expect_err(text);
            assert!(matches!(error, Error::InvalidField { field: Field::KeyId, .. }), "{text}: {error:?}");
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
        for name in SERVICES {
            let selector = KeySelector::service(name).expect("a known service");
            assert_eq!(selector.as_alias(), Some(&*format!("{name}/default")));
        }
    }
}
