//! `--seed-file`: keys with fixed ids, names, tags, grants and material, for test suites.
//!
//! Seeds pass the same pipeline as calls do, as the administrator of their account, and are recorded. A key that
//! exists already stays as it is, whatever tests have done to it since.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use getrandom::SysRng;
use kms_core::{
    Call, Error, SecretBytes, Service,
    identity::{AccountId, Caller, ProjectId, Region, UserId},
    key::{KeyId, KeyOrigin, KeySpec, KeyState, KeyUsage},
    operation::Permissions,
    ops::{
        Alias, CreateKey, DescribeKey, Description, DisableKey, GetParametersForImport, ImportKeyMaterial,
        KeySelector, Operation, Tags, WrappingAlgorithm,
    },
};
use rsa::{Oaep, PublicKey, pkcs8::DecodePublicKey as _, rand_core::UnwrapErr};
use serde::Deserialize;
use sha2::Sha256;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::deployment::{self, Deployment};

/// How long the HSM may take for one step: RSA keys take seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a seed file says.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Seeds {
    #[serde(default)]
    keys: Vec<Seed>,
    #[serde(skip)]
    path: PathBuf,
}

/// A key that is to exist.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Seed {
    /// Its account, by name or `domain_id`.
    #[serde(default = "first_account")]
    account: String,
    /// Its region; by default the account's first.
    region: Option<String>,
    /// Its id: a lower-case UUID.
    key_id: String,
    /// Its alias.
    alias: String,
    #[serde(default)]
    description: String,
    /// As in DEW, `AES_256` by default.
    #[serde(default = "default_spec")]
    key_spec: String,
    /// As in DEW; by default what the kind is mostly for.
    key_usage: Option<String>,
    /// `ENABLED` (default) or `DISABLED`.
    #[serde(default)]
    state: SeedState,
    #[serde(default)]
    tags: BTreeMap<String, String>,
    /// Its material in base64, where tests need to know it; the key is then one of imported material.
    material: Option<Material>,
}

/// Key bytes of a seed file: for tests, and wiped all the same.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Material(SecretBytes);

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Material")
    }
}

impl TryFrom<String> for Material {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let text = Zeroizing::new(text);
        let decoded = STANDARD.decode(text.as_bytes());
        decoded.map(|bytes| Self(SecretBytes::new(bytes))).map_err(|_| "material must be base64")
    }
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum SeedState {
    #[default]
    Enabled,
    Disabled,
}

fn first_account() -> String {
    "alpha".to_owned()
}

fn default_spec() -> String {
    KeySpec::Aes256.name().to_owned()
}

/// Why seeds cannot be sown.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    /// The file cannot be read, or is no seed file.
    #[error("{}: {problem}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// What is wrong, and where.
        problem: String,
    },
    /// A key of the file is not possible.
    #[error("{}: the key {alias}: {problem}", path.display())]
    Key {
        /// Which file.
        path: PathBuf,
        /// Its alias.
        alias: String,
        /// What is wrong.
        problem: String,
    },
}

impl Seeds {
    /// Reads a seed file.
    pub(crate) fn load(path: &Path) -> Result<Self, SeedError> {
        let problem = |problem: String| SeedError::File { path: path.to_owned(), problem };
        let text = fs::read_to_string(path).map_err(|error| problem(error.to_string()))?;
        let seeds: Self = toml::from_str(&text).map_err(|error| problem(error.to_string()))?;
        let mut ids = BTreeSet::new();
        match seeds.keys.iter().find(|seed| !ids.insert(&seed.key_id)) {
            Some(twice) => Err(problem(format!("the key_id {} is given twice", twice.key_id))),
            None => Ok(Self { path: path.to_owned(), ..seeds }),
        }
    }

    /// Makes the keys that do not exist.
    pub(crate) async fn sow(&self, service: &Service) -> Result<(), SeedError> {
        let deployment = Deployment::standard();
        for seed in &self.keys {
            seed.sow(service, &deployment).await.map_err(|problem| SeedError::Key {
                path: self.path.clone(),
                alias: seed.alias.clone(),
                problem,
            })?;
        }
        Ok(())
    }
}

impl Seed {
    async fn sow(&self, service: &Service, deployment: &Deployment) -> Result<(), String> {
        let caller = self.owner(deployment)?;
        let key_id: KeyId = self.key_id.parse().map_err(|error: Error| error.to_string())?;
        let create = self.operation(key_id)?;
        let describe = DescribeKey { key: KeySelector::Id(key_id) };
        match run(service, &caller, describe).await {
            // An earlier start may have died before it imported the material.
            Ok(found) if found.spec == create.spec && found.state == KeyState::PendingImport => {
                return match &self.material {
                    Some(material) => import(service, &caller, key_id, material).await,
                    None => Ok(()),
                };
            }
            Ok(found) if found.spec == create.spec => return Ok(()),
            Ok(found) => return Err(format!("exists already, as a key of kind {}", found.spec.name())),
            Err(Error::KeyNotFound) => {}
            Err(error) => return Err(said(&error)),
        }
        let told = |error: Error| said(&error);
        run(service, &caller, create).await.map_err(told)?;
        if let Some(material) = &self.material {
            import(service, &caller, key_id, material).await?;
        }
        if self.state == SeedState::Disabled {
            let made = run(service, &caller, DisableKey { key: key_id.into() }).await.map_err(told)?;
            debug_assert_eq!(made.state, KeyState::Disabled);
        }
        Ok(())
    }

    fn operation(&self, key_id: KeyId) -> Result<CreateKey, String> {
        let told = |error: Error| error.to_string();
        let spec = KeySpec::parse(&self.key_spec)
            .ok_or_else(|| format!("key_spec: {} is no kind of key", self.key_spec))?;
        let usage = match &self.key_usage {
            None => None,
            Some(name) => {
                Some(KeyUsage::parse(name).ok_or_else(|| format!("key_usage: {name} is no usage"))?)
            }
        };
        Ok(CreateKey {
            description: Description::parse(&self.description).map_err(told)?,
            usage,
            origin: if self.material.is_some() { KeyOrigin::External } else { KeyOrigin::Kms },
            tags: Tags::parse(self.tags.iter().map(|(key, value)| (key.as_str(), value.as_str())))
                .map_err(told)?,
            fixed_id: Some(key_id),
            ..CreateKey::new(Alias::parse(&self.alias).map_err(told)?, spec)
        })
    }

    /// The administrator of the account, in the project of the region.
    fn owner(&self, deployment: &Deployment) -> Result<Caller, String> {
        let named = |account: &&deployment::Account| {
            account.name == self.account || account.domain_id == self.account
        };
        let account = deployment.accounts.iter().find(named);
        let account = account.ok_or_else(|| format!("account: there is no {}", self.account))?;
        let here = |project: &&deployment::Project| {
            self.region.as_ref().is_none_or(|region| project.region == region)
        };
        let project = account.projects.iter().find(here);
        let project = project.ok_or("region: the account has no project there")?;
        let admin = account.users.iter().find(|user| user.name == "admin").ok_or("no administrator")?;
        let unusable = "the deployment's own names cannot be used";
        Ok(Caller {
            account: AccountId::parse(&account.domain_id).ok_or(unusable)?,
            user: UserId::parse(&admin.user_id).ok_or(unusable)?,
            project: ProjectId::parse(&project.project_id).ok_or(unusable)?,
            region: Region::parse(project.region).ok_or(unusable)?,
            acting_service: None,
            permissions: Permissions::all(),
            certificate: [0; 32],
            source: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        })
    }
}

/// Gives a key its material by the same ceremony as everyone's.
async fn import(
    service: &Service,
    caller: &Caller,
    key_id: KeyId,
    material: &Material,
) -> Result<(), String> {
    let told = |error: Error| said(&error);
    let algorithm = WrappingAlgorithm::RsaesOaepSha256;
    let parameters =
        run(service, caller, GetParametersForImport { key: key_id.into(), algorithm }).await.map_err(told)?;
    let unusable = |_| "the wrapping key cannot be used".to_owned();
    let wrapping = PublicKey::from_public_key_der(&parameters.public_key).map_err(unusable)?;
    let random = &mut UnwrapErr(SysRng);
    let wrapped = wrapping.encrypt(random, Oaep::<Sha256>::new(), material.0.expose_secret());
    let wrapped_material = wrapped.map_err(|_| "material: too long to be wrapped".to_owned())?;
    let import = ImportKeyMaterial {
        key: key_id.into(),
        token: parameters.token,
        wrapped_material,
        wrapped_private_key: None,
        expires: None,
    };
    run(service, caller, import).await.map(|_| ()).map_err(told)
}

async fn run<O: Operation>(service: &Service, caller: &Caller, operation: O) -> Result<O::Output, Error> {
    let call = Call { request_id: Uuid::new_v4(), caller: caller.clone(), patience: PATIENCE };
    let ended = service.run(call, Ok(operation)).await;
    ended.map(kms_core::Recorded::into_inner).map_err(|refused| refused.error().clone())
}

fn said(error: &Error) -> String {
    error.operator_detail().map_or_else(|| error.to_string(), |detail| format!("{error}: {detail}"))
}
