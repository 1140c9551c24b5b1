//! The key of a version: made in the HSM where the token offers that, or in the service and sealed.

use std::collections::BTreeMap;

use crate::{
    Timestamp,
    ciphertext::{Header, Purpose},
    context::EncryptionContext,
    crypto::{PublicKey, SecretKey},
    directory::Stored,
    error::Error,
    key::{BackingKey, BackingKind, Cipher, KeyClass, KeyRecord, KeySpec, KeyUsage, KeyVersion, Scheme},
    operation::OperationName,
    ports::HsmSession,
    root::RootRecord,
    secret::SecretBytes,
};

/// Adds the version that works from now on to a key of any kind. `wanted` is the scheme that the settings say.
pub(crate) fn make_version(
    session: &mut dyn HsmSession,
    root: &Stored<RootRecord>,
    record: &mut KeyRecord,
    created: Timestamp,
    wanted: Scheme,
) -> Result<(), Error> {
    let scheme = possible_scheme(session, record.spec, wanted)?;
    let kind = BackingKind::of(record.spec, scheme);
    if scheme == Scheme::InHsm && record.spec.is_pair() {
        let pair = session.generate_key_pair(kind)?;
        let wrapped = root.accept_at(&record.keystore, pair.wrapped)?;
        record.add_version(created, scheme, wrapped);
        return with_last(record, |version| version.public_key = pair.public_key);
    }
    let wrapped = root.accept_at(&record.keystore, session.generate_backing_key(kind)?)?;
    record.add_version(created, scheme, wrapped);
    if scheme == Scheme::Opened {
        let secret = SecretKey::generate(record.spec, session)?;
        return keep_sealed(session, record, &secret);
    }
    Ok(())
}

/// Adds the first version to a key whose material comes from outside. `material` is the key itself: its bytes, or
/// for a key pair the private key as PKCS#8 in DER.
pub(crate) fn bring_version(
    session: &mut dyn HsmSession,
    root: &Stored<RootRecord>,
    record: &mut KeyRecord,
    created: Timestamp,
    wanted: Scheme,
    material: &SecretBytes,
) -> Result<(), Error> {
    let scheme = possible_scheme(session, record.spec, wanted)?;
    let kind = BackingKind::of(record.spec, scheme);
    if scheme == Scheme::Opened {
        let secret = SecretKey::bring(record.spec, material).ok_or(Error::MaterialInvalid)?;
        let wrapped = root.accept_at(&record.keystore, session.generate_backing_key(kind)?)?;
        record.add_version(created, scheme, wrapped);
        return keep_sealed(session, record, &secret);
    }
    let (wrapped, public_key) = if record.spec.is_pair() {
        let pair = session.import_key_pair(kind, material)?;
        (pair.wrapped, pair.public_key)
    } else {
        (session.import_backing_key(kind, material)?, Vec::new())
    };
    record.add_version(created, scheme, root.accept_at(&record.keystore, wrapped)?);
    with_last(record, |version| version.public_key = public_key)
}

/// Where a key of this kind can live on this token. What seals is checked when the service starts; RSA is never in
/// software.
fn possible_scheme(session: &mut dyn HsmSession, spec: KeySpec, wanted: Scheme) -> Result<Scheme, Error> {
    let in_hsm = wanted == Scheme::InHsm;
    match spec.class() {
        KeyClass::Symmetric => Ok(wanted),
        _ if in_hsm && session.offers(BackingKind::of(spec, Scheme::InHsm))? => Ok(Scheme::InHsm),
        KeyClass::Rsa => Err(Error::NotOffered { feature: "RSA on this token" }),
        _ => Ok(Scheme::Opened),
    }
}

/// Makes `secret` the own key of the last version.
fn keep_sealed(
    session: &mut dyn HsmSession,
    record: &mut KeyRecord,
    secret: &SecretKey,
) -> Result<(), Error> {
    let version = record.current_version().ok_or(NO_VERSION)?;
    let sealed = seal_key(session, &record.backing_key(version), secret)?;
    with_last(record, |version| {
        version.public_key = secret.public_key_der();
        version.sealed_key = sealed;
    })
}

/// Seals a key under one that `backing` derives: what [`VersionKey::place`] opens.
pub(crate) fn seal_key(
    session: &mut dyn HsmSession,
    backing: &BackingKey,
    secret: &SecretKey,
) -> Result<Vec<u8>, Error> {
    let mut random = [0; 28];
    session.fill_random(&mut random)?;
    let (cipher, purpose) = (Cipher::Aes256Gcm, Purpose::KeyMaterial);
    let header =
        Header::fresh(Scheme::DerivedKey, cipher, purpose, backing.material, backing.version, &random);
    let derived = session.mac(backing, &header.derivation_input())?;
    header.seal(&derived, &no_context()?, secret.sealed_form())
}

/// The header names all that a stored key belongs to.
fn no_context() -> Result<EncryptionContext, Error> {
    EncryptionContext::new(BTreeMap::new())
}

const NO_VERSION: Error = Error::Internal { detail: "an enabled key has no version" };

fn with_last(record: &mut KeyRecord, change: impl FnOnce(&mut KeyVersion)) -> Result<(), Error> {
    record.versions.last_mut().map(change).ok_or(NO_VERSION)
}

/// One version of a key, ready to be used on an HSM worker.
#[derive(Debug)]
pub(crate) struct VersionKey {
    spec: KeySpec,
    backing: BackingKey,
    sealed: Option<Vec<u8>>,
}

/// Where a version's key is.
pub(crate) enum Place<'a> {
    /// In the HSM, under this name.
    Hsm(&'a BackingKey),
    /// Here, for this one use.
    Opened(SecretKey),
}

impl VersionKey {
    /// Of a key that belongs to no record. `sealed`: what [`seal_key`] gave; `None` if it is in the HSM.
    pub(crate) fn new(spec: KeySpec, backing: BackingKey, sealed: Option<Vec<u8>>) -> Self {
        Self { spec, backing, sealed }
    }

    pub(crate) fn of(record: &KeyRecord, version: &KeyVersion) -> Self {
        let sealed = (version.scheme == Scheme::Opened).then(|| version.sealed_key.clone());
        Self { spec: record.spec, backing: record.backing_key(version), sealed }
    }

    /// Opens it, if it is one that the service opens.
    pub(crate) fn place(&self, session: &mut dyn HsmSession) -> Result<Place<'_>, Error> {
        match &self.sealed {
            None => Ok(Place::Hsm(&self.backing)),
            Some(sealed) => SecretKey::open(self.spec, self.unseal(session, sealed)?).map(Place::Opened),
        }
    }

    /// The record is authenticated: so what does not open here was sealed by another key: never the caller's fault.
    fn unseal(&self, session: &mut dyn HsmSession, sealed: &[u8]) -> Result<SecretBytes, Error> {
        const DEFECT: Error = Error::Internal { detail: "a stored key does not open" };
        let (header, body) = Header::parse(sealed).map_err(|_| DEFECT)?;
        let own = (Purpose::KeyMaterial, self.backing.material, self.backing.version);
        if (header.purpose, header.material, header.version) != own {
            return Err(DEFECT);
        }
        let derived = session.mac(&self.backing, &header.derivation_input())?;
        header.open(&derived, &no_context()?, body).map_err(|_| DEFECT)
    }
}

impl KeyRecord {
    /// The version that works at `now`, for an operation that needs keys of this usage.
    pub(crate) fn check_use(
        &self,
        operation: OperationName,
        usage: KeyUsage,
        now: Timestamp,
    ) -> Result<&KeyVersion, Error> {
        self.check(operation, now)?;
        self.check_usage(usage)?;
        self.current_version().ok_or(NO_VERSION)
    }

    /// Refuses keys whose kind cannot have this usage, and those that have another.
    // DEW: KMS.0331 (kind) before KMS.0334 and KMS.0335 (usage)
    pub(crate) fn check_usage(&self, usage: KeyUsage) -> Result<(), Error> {
        if !self.spec.usages().contains(&usage) {
            return Err(Error::KeyKindUnsupported(self.spec.class()));
        }
        if self.usage == usage { Ok(()) } else { Err(Error::KeyUsageMismatch(self.usage)) }
    }

    /// The public key of a version of a key pair.
    pub(crate) fn public_key(&self, version: &KeyVersion) -> Result<PublicKey, Error> {
        PublicKey::parse(self.spec, &version.public_key)
            .ok_or(Error::Internal { detail: "a stored public key is none of its kind" })
    }
}
