//! What a module and a token offer, tried out: for the operator who brings an HSM.

use std::sync::Arc;

use cryptoki::mechanism::MechanismType;
use kms_core::{key::BackingKind, ports::HsmError};

use crate::{
    OpenError, Pkcs11Config,
    door::{Description, Door, Occupied, load},
    failure::Trouble,
    form::{Form, Task},
    inventory::Inventory,
    keys, log_key,
    mechanisms::{Capabilities, CheckpointSignature, WrapMechanism},
    offers,
    parameters::MechanismId,
    session::TokenSession,
    token::login,
};

/// What a module and a token offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survey {
    /// What the module says of itself: description, maker, version.
    pub module: String,
    /// The PKCS#11 version that it speaks, as `2.40`.
    pub cryptoki_version: String,
    /// What the token says of itself: maker, model, serial number.
    pub token: String,
    /// How many sessions one program may have open; `None`: no limit, or the token does not say.
    pub session_limit: Option<u64>,
    /// What Dewpoint does with a token, each with what is known of it here.
    pub features: Vec<Feature>,
    /// The generations of the root key that work; or why there is none that does.
    pub root_keys: Result<Vec<u32>, String>,
    /// All mechanisms that the token lists, by name where there is one.
    pub mechanisms: Vec<String>,
}

impl Survey {
    /// Whether everything works that nothing works without.
    pub fn suffices(&self) -> bool {
        self.features.iter().all(|feature| !feature.needed || feature.state == FeatureState::Works)
    }
}

/// Something that Dewpoint does with a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feature {
    /// What it is.
    pub name: &'static str,
    /// By which mechanisms.
    pub mechanisms: &'static str,
    /// Whether nothing works without it.
    pub needed: bool,
    /// What was found.
    pub state: FeatureState,
}

/// What was found of a feature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FeatureState {
    /// It was tried with keys made for that, and works.
    Works,
    /// The token says that it can, which was not tried.
    Offered,
    /// The token does not offer it.
    Missing,
    /// The configuration does not say by which numbers.
    NotConfigured,
    /// The token says that it can, and it failed: how.
    Fails(String),
}

/// Loads the module, logs in, and tries everything with session objects that are gone afterwards. The PIN is
/// tried once; nothing is written to the token.
pub fn survey(config: &Pkcs11Config) -> Result<Survey, OpenError> {
    let door = Door::open(config, &load(config)?, &Arc::default(), Occupied::Refuse)?;
    let session = door.session()?;
    login(&session, config)?;
    let capabilities = door.capabilities(config.sm4.as_ref());
    let Description { library, token, mechanisms } = door.description()?;
    let (major, minor) = (library.cryptoki_version().major(), library.cryptoki_version().minor());
    Ok(Survey {
        module: format!(
            "{}, {}, version {}",
            library.library_description(),
            library.manufacturer_id(),
            library.library_version()
        ),
        cryptoki_version: format!("{major}.{minor}"),
        token: format!("{}, {}, serial {}", token.manufacturer_id(), token.model(), token.serial_number()),
        session_limit: session_limit(&token),
        root_keys: root_keys(&session, capabilities.as_ref(), config),
        features: features(&session, capabilities.as_ref().ok(), &mechanisms, config),
        mechanisms: mechanisms.into_iter().map(mechanism_name).collect(),
    })
}

fn session_limit(token: &cryptoki::slot::TokenInfo) -> Option<u64> {
    match token.max_session_count() {
        cryptoki::slot::Limit::Max(limit) => Some(limit),
        cryptoki::slot::Limit::Infinite | cryptoki::slot::Limit::Unavailable => None,
    }
}

fn root_keys(
    session: &TokenSession,
    capabilities: Result<&Capabilities, &OpenError>,
    config: &Pkcs11Config,
) -> Result<Vec<u32>, String> {
    let wrap = capabilities.map_err(ToString::to_string)?.wrap();
    let inventory =
        Inventory::take(session, wrap, config).map_err(|failure| OpenError::from(failure).to_string())?;
    let keys = inventory.sound_keys(config).map_err(|error| error.to_string())?;
    Ok(keys.roots.into_keys().collect())
}

/// Kinds of keys that are tried out.
const KEYS: [(BackingKind, &str, &str); 9] = {
    const RSA: &str = "CKM_RSA_PKCS, CKM_RSA_PKCS_PSS, CKM_RSA_X_509, and one that wraps and pads";
    const CURVE: &str = "CKM_ECDSA, CKM_ECDH1_DERIVE, and one that wraps and pads";
    [
        (BackingKind::HmacSha384, "HMAC-SHA-384 keys", "CKM_SHA384_HMAC"),
        (BackingKind::HmacSha512, "HMAC-SHA-512 keys", "CKM_SHA512_HMAC"),
        (BackingKind::Rsa2048, "RSA-2048 key pairs", RSA),
        (BackingKind::Rsa3072, "RSA-3072 key pairs", RSA),
        (BackingKind::Rsa4096, "RSA-4096 key pairs", RSA),
        (BackingKind::EcP256, "key pairs on P-256", CURVE),
        (BackingKind::EcP384, "key pairs on P-384", CURVE),
        (BackingKind::EcSecp256k1, "key pairs on secp256k1", CURVE),
        (BackingKind::Ed25519, "Ed25519 key pairs", "CKM_EDDSA, and one that wraps and pads"),
    ]
};

fn features(
    session: &TokenSession,
    capabilities: Option<&Capabilities>,
    offered: &[MechanismId],
    config: &Pkcs11Config,
) -> Vec<Feature> {
    let trial = Trial { session, capabilities, offered, config };
    let mut features = vec![
        Feature {
            name: "random numbers",
            mechanisms: "C_GenerateRandom",
            needed: true,
            state: tried(session.fill_random(&mut [0; 32]).map_err(Trouble::from)),
        },
        Feature {
            name: "master keys that derive, wrapped for the store",
            mechanisms: "CKM_GENERIC_SECRET_KEY_GEN, CKM_SHA256_HMAC, and one that wraps",
            needed: true,
            state: trial.of_kind(BackingKind::Mac),
        },
    ];
    features.extend(WrapMechanism::ALL.map(|mechanism| Feature {
        name: "wrapping: one of three suffices",
        mechanisms: mechanism.name(),
        needed: false,
        state: trial.of_wrapping(mechanism),
    }));
    features.extend([
        Feature {
            name: "AES keys that seal inside the HSM",
            mechanisms: "CKM_AES_GCM",
            needed: false,
            state: trial.of_kind(BackingKind::Aes256),
        },
        Feature {
            name: "SM4 keys that seal inside the HSM",
            mechanisms: "the vendor's, by the numbers in [hsm.sm4]",
            needed: false,
            state: config.sm4.map_or(FeatureState::NotConfigured, |_| trial.of_kind(BackingKind::Sm4)),
        },
    ]);
    features.extend(KEYS.map(|(kind, name, mechanisms)| Feature {
        name,
        mechanisms,
        needed: false,
        state: trial.of_kind(kind),
    }));
    features.extend(trial.of_checkpoints());
    features.push(trial.of_transfer());
    features
}

/// A session on which features are tried.
struct Trial<'a> {
    session: &'a TokenSession,
    /// `None` if the token lacks something that is needed.
    capabilities: Option<&'a Capabilities>,
    offered: &'a [MechanismId],
    config: &'a Pkcs11Config,
}

impl Trial<'_> {
    fn of_kind(&self, kind: BackingKind) -> FeatureState {
        let wraps = WrapMechanism::ALL.into_iter().find(|mechanism| self.offered.contains(&mechanism.id()));
        let form = match self.capabilities {
            Some(capabilities) => Form::of(kind, capabilities, self.config.sm4.as_ref()),
            None if kind == BackingKind::Mac => Ok(Form::MAC),
            None => Err(HsmError::NotOffered { feature: "what is needed" }),
        };
        match (form, wraps) {
            (Ok(form), Some(_)) if matches!(form.task, Task::Pair(_)) => {
                let wrap = self.capabilities.and_then(Capabilities::padded_wrap);
                wrap.map_or(FeatureState::Missing, |wrap| tried(offers::try_out(self.session, form, wrap)))
            }
            (Ok(form), Some(wrap)) => tried(keys::prove_device(self.session, form, wrap)),
            (Err(HsmError::NotOffered { .. }), _) | (_, None) => FeatureState::Missing,
            (Err(error), _) => FeatureState::Fails(error.to_string()),
        }
    }

    /// The first suffices; with neither of them nothing vouches for the log's key.
    fn of_checkpoints(&self) -> [Feature; 2] {
        [
            Feature {
                name: "checkpoints of the log signed inside the HSM",
                mechanisms: "CKM_EC_EDWARDS_KEY_PAIR_GEN, CKM_EDDSA",
                needed: false,
                state: self.of_log_pair(CheckpointSignature::EdDsa),
            },
            Feature {
                name: "or by a derived key, for which the HSM vouches",
                mechanisms: "CKM_EC_KEY_PAIR_GEN, CKM_ECDSA",
                needed: false,
                state: self.of_log_pair(CheckpointSignature::Ecdsa),
            },
        ]
    }

    fn of_log_pair(&self, signature: CheckpointSignature) -> FeatureState {
        if self.offered.contains(&signature.mechanism()) {
            tried(log_key::prove_device(self.session, signature.pair()))
        } else {
            FeatureState::Missing
        }
    }

    /// Not tried: its mechanisms say that it is there.
    fn of_transfer(&self) -> Feature {
        let offered = self.capabilities.is_some_and(|offers| offers.transfer);
        Feature {
            name: "keys taken over from another token",
            mechanisms: "CKM_RSA_PKCS_KEY_PAIR_GEN, CKM_RSA_PKCS_OAEP",
            needed: false,
            state: if offered { FeatureState::Offered } else { FeatureState::Missing },
        }
    }

    fn of_wrapping(&self, mechanism: WrapMechanism) -> FeatureState {
        if self.offered.contains(&mechanism.id()) {
            tried(keys::prove_device(self.session, Form::MAC, mechanism))
        } else {
            FeatureState::Missing
        }
    }
}

fn tried(outcome: Result<(), Trouble>) -> FeatureState {
    match outcome {
        Ok(()) => FeatureState::Works,
        Err(trouble) => FeatureState::Fails(HsmError::from(trouble).to_string()),
    }
}

fn mechanism_name(mechanism: MechanismId) -> String {
    MechanismType::try_from(mechanism).map_or_else(|_| format!("{mechanism:#x}"), |known| known.to_string())
}
