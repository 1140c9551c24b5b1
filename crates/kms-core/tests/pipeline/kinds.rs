//! docs/kinds.md: what operations answer on keys of every kind. Written down by driving each of them.

use std::{collections::BTreeMap, env, fmt::Write as _, fs, path::Path};

use kms_core::{
    key::{KeyId, KeyOrigin, KeySpec, KeyState, KeyUsage},
    operation::OperationName,
    ops::{
        CreateKey, DisableKey, EnableKeystore, ImportKeyMaterial, KeySelector, PendingDays,
        ScheduleKeyDeletion,
    },
    states::{self, Effect, STATES},
};

use crate::{
    states::as_if_sealed_by,
    support::{
        Attempt, NO_CALLS_OF_USERS, Sealed, VAULT, World, attempts, bucket_key, create, create_keystore,
        encrypt_data, generate, import_attempts, import_of, keystore, obs, other_attempts, owner,
    },
};

/// Set it to write the document anew.
const WRITE: &str = "DEWPOINT_WRITE_DOCS";

const HEAD: &str = "# Operations and kinds of keys

What each operation that works with a key answers to the key's owner, by the kind of the key. Written down by
`docs_kinds_says_what_every_operation_does_on_every_kind` (`crates/kms-core/tests/pipeline/kinds.rs`), which makes each of
these calls and compares; `DEWPOINT_WRITE_DOCS=1 cargo test -p kms-core --test pipeline kinds` writes this file anew.

A dash means that it is done; everything else is the error. The key is in the first state in which
[states.md](states.md) allows the operation, as far as keys of its kind get there, so that nothing but its kind is in the
way. Small data is asked for with SYMMETRIC_DEFAULT, signatures with ECDSA_SHA_256, MACs with HMAC_SHA_256. What the request
itself can be refused for (malformed fields, quotas, traffic) is not in the table.

- default: an AES_256 key that the service made for a DEW service
- imported: AES_256, its material imported
- keystore: AES_256, on a token of the account's own
- decrypts: RSA_2048, ENCRYPT_DECRYPT
- signs, agrees: EC_P256, SIGN_VERIFY and KEY_AGREEMENT
- authenticates: HMAC_256

";

/// A kind of key, by the title of its column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Custom,
    Default,
    Imported,
    Keystore,
    Of(&'static str, KeySpec, KeyUsage),
}

const KINDS: [Kind; 8] = [
    Kind::Custom,
    Kind::Default,
    Kind::Imported,
    Kind::Keystore,
    Kind::Of("decrypts", KeySpec::Rsa2048, KeyUsage::EncryptDecrypt),
    Kind::Of("signs", KeySpec::EcP256, KeyUsage::SignVerify),
    Kind::Of("agrees", KeySpec::EcP256, KeyUsage::KeyAgreement),
    Kind::Of("authenticates", KeySpec::Hmac256, KeyUsage::GenerateVerifyMac),
];

impl Kind {
    const fn title(self) -> &'static str {
        match self {
            Self::Custom => "custom",
            Self::Default => "default",
            Self::Imported => "imported",
            Self::Keystore => "keystore",
            Self::Of(title, ..) => title,
        }
    }

    /// A new key of this kind; one that is imported has its material already, unless it `waits` for it.
    fn make(self, world: &World, waits: bool) -> KeyId {
        let key = match self {
            Self::Default => {
                return world.run(&owner(), generate(obs())).expect("made on first use").sealed.key_id;
            }
            Self::Custom => create("key"),
            Self::Imported => CreateKey { origin: KeyOrigin::External, ..create("key") },
            Self::Keystore => {
                world
                    .run(&owner(), EnableKeystore { keystore_id: keystore(VAULT) })
                    .expect("the token is free");
                CreateKey { keystore: Some(keystore(VAULT)), ..create("key") }
            }
            Self::Of(_, spec, usage) => CreateKey { spec, usage: Some(usage), ..create("key") },
        };
        let key_id = world.run(&owner(), key).expect("nothing is in the way").id;
        if self == Self::Imported && !waits {
            world.run(&owner(), import_of(world, key_id)).expect("it waits for material");
        }
        key_id
    }
}

/// All operations on one key.
fn all_attempts(world: &World, key_id: KeyId, waits: bool) -> Vec<Attempt> {
    let key = KeySelector::Id(key_id);
    // A key that seals nothing is named by what it could never have sealed.
    let sealed = match world.run(&owner(), generate(key.clone())) {
        Ok(data_key) => Sealed {
            data_key: data_key.sealed.ciphertext,
            small_data: world.run(&owner(), encrypt_data(key.clone())).expect("it seals").ciphertext,
            bucket_key: world.run(&owner(), bucket_key(key)).expect("it seals").sealed.ciphertext,
        },
        Err(_) => Sealed::forged(as_if_sealed_by(world, key_id)),
    };
    let import = if waits {
        import_of(world, key_id)
    } else {
        ImportKeyMaterial {
            key: key_id.into(),
            token: vec![1],
            wrapped_material: vec![1; 256],
            wrapped_private_key: None,
            expires: None,
        }
    };
    let mut all = attempts(key_id, &sealed);
    for usage in [KeyUsage::SignVerify, KeyUsage::KeyAgreement, KeyUsage::GenerateVerifyMac] {
        all.extend(other_attempts(world, key_id, usage));
    }
    all.extend(import_attempts(key_id, import));
    all.retain(|attempt| states::row(attempt.name).is_some());
    all
}

/// The first state in which the table allows it.
fn fitting_state(name: OperationName) -> KeyState {
    let allowed = |state: &KeyState| !matches!(states::effect(name, *state), Some(Effect::Refused(_)));
    STATES.into_iter().find(allowed).expect("every operation is allowed in some state")
}

/// What the operation of this number answers on such a key; `None`: there are no more.
fn answer(kind: Kind, number: usize, name: Option<OperationName>) -> Option<(OperationName, String)> {
    let world = World::new();
    world.run(&owner(), create_keystore(VAULT)).expect("the token is free");
    let waits =
        kind == Kind::Imported && name.is_some_and(|name| fitting_state(name) == KeyState::PendingImport);
    let key_id = kind.make(&world, waits);
    let attempt = all_attempts(&world, key_id, waits).into_iter().nth(number)?;
    attempt.prepare_if_possible(&world, &owner());
    match fitting_state(attempt.name) {
        KeyState::Enabled | KeyState::PendingImport => {}
        KeyState::Disabled => drop(world.run(&owner(), DisableKey { key: key_id.into() })),
        KeyState::PendingDeletion => {
            let pending = PendingDays::parse(7).expect("a waiting time");
            drop(world.run(&owner(), ScheduleKeyDeletion { key: key_id.into(), pending }));
        }
    }
    let answer = match attempt.run(&world, &owner()) {
        Ok(()) => "–".to_owned(),
        Err(error) => format!("`{}`", error.code()),
    };
    Some((attempt.name, answer))
}

/// The answers of one kind.
fn column(kind: Kind) -> BTreeMap<&'static str, String> {
    let mut column = BTreeMap::new();
    for number in 0.. {
        let Some((name, cell)) = answer(kind, number, None) else { break };
        // A second world, where an imported key is in the state that the operation needs.
        let cell = match kind {
            Kind::Imported => answer(kind, number, Some(name)).map_or(cell, |(_, cell)| cell),
            _ => cell,
        };
        // An operation that is tried twice answers the same.
        let earlier = column.insert(name.info().name, cell.clone());
        assert!(earlier.is_none_or(|earlier| earlier == cell), "{name:?} on {kind:?}");
    }
    column
}

fn document() -> String {
    let columns = KINDS.map(column);
    let mut text = HEAD.to_owned();
    let mut line = |cells: &[&str]| writeln!(text, "| {} |", cells.join(" | ")).expect("a string takes all");
    let titles: Vec<&str> = [&["operation"][..], &KINDS.map(Kind::title)].concat();
    line(&titles);
    line(&titles.iter().map(|_| "---").collect::<Vec<_>>());
    for operation in OperationName::ALL {
        let called = !NO_CALLS_OF_USERS.contains(operation);
        if states::row(*operation).is_some() && called {
            let name = operation.info().name;
            let cell = |column: &BTreeMap<&str, String>| column.get(name).expect("it was driven").clone();
            let cells: Vec<String> = columns.iter().map(cell).collect();
            line(&[&[name][..], &cells.iter().map(String::as_str).collect::<Vec<_>>()].concat());
        }
    }
    text
}

#[test]
fn docs_kinds_says_what_every_operation_does_on_every_kind() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/kinds.md");
    let expected = document();
    if env::var_os(WRITE).is_some() {
        fs::write(&path, &expected).expect("the document can be written");
    }
    let actual = fs::read_to_string(&path).expect("docs/kinds.md");
    assert!(actual == expected, "docs/kinds.md is stale: run this test with {WRITE}=1");
}
