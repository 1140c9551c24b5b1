//! Every operation, so that a test can go through all of them.

use kms_core::{
    Error, SecretBytes,
    identity::Caller,
    key::KeyId,
    operation::OperationName,
    ops::{
        Alias, CancelKeyDeletion, DecryptDataKey, DescribeKey, Description, DisableKey, EnableKey,
        EncryptDataKey, GenerateDataKeyWithoutPlaintext, GenerateRandom, KeySelector, ListKeys, Operation,
        PageSize, PendingDays, ScheduleKeyDeletion, UpdateKeyAlias, UpdateKeyDescription,
    },
};

use super::{World, context, create, generate};

type Run = dyn Fn(&World, &Caller) -> Result<(), Error>;

/// One operation with its parameters.
pub(crate) struct Attempt {
    pub(crate) name: OperationName,
    run: Box<Run>,
}

impl Attempt {
    fn of<O: Operation + Clone>(operation: O) -> Self {
        let run = move |world: &World, caller: &Caller| world.run(caller, operation.clone()).map(drop);
        Self { name: O::NAME, run: Box::new(run) }
    }

    pub(crate) fn run(&self, world: &World, caller: &Caller) -> Result<(), Error> {
        (self.run)(world, caller)
    }

    /// Whether it names the key; the others work without one.
    pub(crate) fn needs_key(&self) -> bool {
        use OperationName::{CreateKey, GenerateRandom, ListKeys};
        !matches!(self.name, CreateKey | GenerateRandom | ListKeys)
    }

    /// Whether it seals or opens with the key.
    pub(crate) fn uses_key(&self) -> bool {
        use OperationName::{
            DecryptDataKey, EncryptDataKey, GenerateDataKey, GenerateDataKeyWithoutPlaintext,
        };
        matches!(
            self.name,
            GenerateDataKey | GenerateDataKeyWithoutPlaintext | EncryptDataKey | DecryptDataKey
        )
    }
}

/// All operations on an enabled key, in an order in which its owner succeeds with each. `ciphertext`
/// was sealed by the key with the context of the tests.
pub(crate) fn attempts(key_id: KeyId, ciphertext: &[u8]) -> Vec<Attempt> {
    let key = KeySelector::Id(key_id);
    let alias = Alias::parse("renamed").expect("an alias");
    let description = Description::parse("described").expect("a description");
    let secret = SecretBytes::new(vec![5; 32]);
    let encrypt = EncryptDataKey::new(key.clone(), secret, context()).expect("a data key");
    let decrypt = DecryptDataKey::new(ciphertext, None, context()).expect("a ciphertext");
    let size = PageSize::parse(0).expect("a size");
    let pending = PendingDays::parse(7).expect("a waiting time");
    let attempts = vec![
        Attempt::of(create("another")),
        Attempt::of(DescribeKey { key: key.clone() }),
        Attempt::of(ListKeys { size, token: None, state: None, spec: None }),
        Attempt::of(DisableKey { key_id }),
        Attempt::of(EnableKey { key_id }),
        Attempt::of(UpdateKeyAlias { key_id, alias }),
        Attempt::of(UpdateKeyDescription { key_id, description }),
        Attempt::of(generate(key.clone())),
        Attempt::of(GenerateDataKeyWithoutPlaintext(generate(key))),
        Attempt::of(encrypt),
        Attempt::of(decrypt),
        Attempt::of(GenerateRandom::new(32).expect("a length")),
        Attempt::of(ScheduleKeyDeletion { key_id, pending }),
        Attempt::of(CancelKeyDeletion { key_id }),
    ];
    let made_by_others = 3; // CreateDefaultKey, RotateKey and ReserveKeyUses have no calls of their own
    let about_root_keys = 6; // not for users: rotation.rs
    let of_moves = 2; // not for users: the backup and restore commands
    let about_the_clock = 2; // not for users: clock.rs
    let known = attempts.len() + made_by_others + about_root_keys + about_the_clock + of_moves;
    assert_eq!(known, OperationName::ALL.len(), "an operation is missing");
    attempts
}

impl World {
    /// A key of `caller` and all operations on it.
    pub(crate) fn key_with_attempts(&self, caller: &Caller) -> (KeyId, Vec<Attempt>) {
        let key = self.key(caller, "key").id;
        let sealed = self.run(caller, generate(KeySelector::Id(key))).expect("the key is enabled").sealed;
        (key, attempts(key, &sealed.ciphertext))
    }
}
