//! `--seed-file`: keys with fixed ids, names, tags, grants and material, for test suites.
//!
//! Seeds pass the same pipeline as calls do, as the administrator of their account, and are recorded. A key that
//! exists already stays as it is, whatever tests have done to it since; it is only given the further aliases and the
//! grants of the file that it never had. What differs otherwise is told, and what no key can become is an error.

mod additions;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    net::{Ipv4Addr, SocketAddr},
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use getrandom::SysRng;
use kms_core::{
    Call, Error, SecretBytes, Service,
    identity::{AccountId, Caller, Credential, ProjectId, Region, UserId},
    key::{KeyId, KeyOrigin, KeyRecord, KeySpec, KeyState, KeyUsage},
    operation::Permissions,
    ops::{
        Alias, CreateKey, DescribeKey, Description, DisableKey, GetParametersForImport, ImportKeyMaterial,
        KeySelector, Operation, Tags, WrappingAlgorithm,
    },
};
use rsa::{Oaep, PublicKey, pkcs8::DecodePublicKey as _, rand_core::UnwrapErr};
use serde::Deserialize;
use sha2::Sha256;
use toml::Spanned;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::deployment::{self, Deployment};
use additions::{Additions, SeedGrant};

/// How long the HSM may take for one step: RSA keys take seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a seed file says.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Seeds {
    #[serde(default)]
    keys: Vec<Spanned<Seed>>,
    #[serde(skip)]
    path: PathBuf,
    /// Where its lines end.
    #[serde(skip)]
    line_ends: Vec<usize>,
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
    /// Further aliases.
    #[serde(default)]
    aliases: Vec<Spanned<String>>,
    /// Grants of it.
    #[serde(default)]
    grants: Vec<Spanned<SeedGrant>>,
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
    #[error("{}: line {line}: the key {alias}: {problem}", path.display())]
    Key {
        /// Which file.
        path: PathBuf,
        /// The line where what is wrong begins.
        line: usize,
        /// Its alias.
        alias: String,
        /// What is wrong.
        problem: String,
    },
}

/// What is wrong with a key of the file.
struct Problem {
    /// Where that begins, if not with the key.
    at: Option<usize>,
    text: String,
}

impl Problem {
    /// With what stands there.
    fn at(span: Range<usize>, text: String) -> Self {
        Self { at: Some(span.start), text }
    }
}

impl From<String> for Problem {
    fn from(text: String) -> Self {
        Self { at: None, text }
    }
}

impl Seeds {
    /// Reads a seed file.
    pub(crate) fn load(path: &Path) -> Result<Self, SeedError> {
        let problem = |problem: String| SeedError::File { path: path.to_owned(), problem };
        let text = fs::read_to_string(path).map_err(|error| problem(error.to_string()))?;
        let text = Zeroizing::new(text); // it may hold material
        let mut seeds: Self = toml::from_str(&text).map_err(|error| problem(error.to_string()))?;
        path.clone_into(&mut seeds.path);
        seeds.line_ends = text.match_indices('\n').map(|(at, _)| at).collect();
        let mut ids = BTreeSet::new();
        match seeds.keys.iter().find(|seed| !ids.insert(&seed.get_ref().key_id)) {
            Some(twice) => {
                let (line, id) = (seeds.line(twice.span().start), &twice.get_ref().key_id);
                Err(problem(format!("line {line}: the key_id {id} is given twice")))
            }
            None => Ok(seeds),
        }
    }

    /// The number of the line, from 1, in which this byte is.
    fn line(&self, at: usize) -> usize {
        self.line_ends.partition_point(|end| *end < at) + 1
    }

    /// Makes the keys that do not exist, and adds to the others what they never had.
    pub(crate) async fn sow(&self, service: &Service) -> Result<(), SeedError> {
        let deployment = Deployment::standard();
        for entry in &self.keys {
            let seed = entry.get_ref();
            seed.sow(service, &deployment).await.map_err(|problem| SeedError::Key {
                path: self.path.clone(),
                line: self.line(problem.at.unwrap_or(entry.span().start)),
                alias: seed.alias.clone(),
                problem: problem.text,
            })?;
        }
        Ok(())
    }
}

impl Seed {
    async fn sow(&self, service: &Service, deployment: &Deployment) -> Result<(), Problem> {
        let caller = self.owner(deployment)?;
        let key_id: KeyId = self.key_id.parse().map_err(|error: Error| error.to_string())?;
        let create = self.operation(key_id)?;
        let additions = Additions::read(key_id, &self.aliases, &self.grants, deployment)?;
        match run(service, &caller, DescribeKey { key: KeySelector::Id(key_id) }).await {
            Ok(found) => {
                self.compare(&found, &create)?;
                // An earlier start may have died before it imported the material.
                if let (KeyState::PendingImport, Some(material)) = (found.state, &self.material) {
                    import(service, &caller, key_id, material).await?;
                }
                additions.make(service, &caller, key_id, Some(&found)).await
            }
            // The key may be another account's that has granted this administrator something: making it says so.
            Err(Error::KeyNotFound | Error::PermissionDenied { .. }) => {
                self.make(service, &caller, key_id, create).await?;
                additions.make(service, &caller, key_id, None).await?;
                self.disable(service, &caller, key_id).await.map_err(Problem::from)
            }
            Err(error) => Err(said(&error).into()),
        }
    }

    async fn make(
        &self,
        service: &Service,
        caller: &Caller,
        key_id: KeyId,
        create: CreateKey,
    ) -> Result<(), String> {
        run(service, caller, create).await.map_err(|error| match error {
            // Nobody else calls yet, so the id is taken.
            Error::Contention => {
                "key_id: another account or region has a key with this id, or the key was destroyed"
                    .to_owned()
            }
            error => said(&error),
        })?;
        match &self.material {
            Some(material) => import(service, caller, key_id, material).await,
            None => Ok(()),
        }
    }

    async fn disable(&self, service: &Service, caller: &Caller, key_id: KeyId) -> Result<(), String> {
        if self.state == SeedState::Disabled {
            let disable = DisableKey { key: key_id.into() };
            let made = run(service, caller, disable).await.map_err(|error| said(&error))?;
            debug_assert_eq!(made.state, KeyState::Disabled);
        }
        Ok(())
    }

    /// Holds a key that exists against the file: what it can never become is an error; what a test may have changed
    /// since is told, and stays.
    fn compare(&self, found: &KeyRecord, create: &CreateKey) -> Result<(), String> {
        if found.spec != create.spec {
            return Err(format!("key_spec: exists already, as a key of kind {}", found.spec.name()));
        }
        if create.usage.is_some_and(|usage| usage != found.usage) {
            return Err(format!("key_usage: exists already, for {}", found.usage.name()));
        }
        if create.origin != found.origin {
            let other = match found.origin {
                KeyOrigin::Kms => "material of the service's own",
                KeyOrigin::External => "imported material",
            };
            return Err(format!("material: exists already, as a key of {other}"));
        }
        let state = if self.state == SeedState::Disabled { KeyState::Disabled } else { KeyState::Enabled };
        let imports = found.state == KeyState::PendingImport && self.material.is_some();
        let differences = [
            ("alias", found.alias != self.alias),
            ("description", found.description != self.description),
            ("tags", found.tags != self.tags),
            ("state", found.state != state && !imports),
        ];
        let differs: Vec<_> =
            differences.into_iter().filter_map(|(field, differs)| differs.then_some(field)).collect();
        if !differs.is_empty() {
            let (key_id, differs) = (found.id, differs.join(", "));
            tracing::warn!(%key_id, differs, "a seeded key is not as the seed file says, and stays as it is");
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
        let account = deployment.account(&self.account);
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
            projects: Arc::new([]),
            acting_service: None,
            permissions: Permissions::all(),
            credential: Credential::Certificate([0; 32]),
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
    let call =
        Call { request_id: Uuid::new_v4(), caller: caller.clone(), patience: PATIENCE, dry_run: false };
    let ended = service.run(call, Ok(operation)).await;
    ended.map(kms_core::Recorded::into_inner).map_err(|refused| refused.error().clone())
}

fn said(error: &Error) -> String {
    error.operator_detail().map_or_else(|| error.to_string(), |detail| format!("{error}: {detail}"))
}
