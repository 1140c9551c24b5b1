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

/// Operations that no user can call: parts of other calls, the service's own, and the operators'.
pub(crate) const NO_CALLS_OF_USERS: &[OperationName] = &[
    OperationName::CreateDefaultKey,
    OperationName::RotateKey,
    OperationName::ReserveKeyUses,
    OperationName::DestroyKey,
    OperationName::ExpireKeyMaterial,
    OperationName::RotateRoot,
    OperationName::RetireRoot,
    OperationName::DescribeRoot,
    OperationName::RewrapKey,
    OperationName::ForgetRoots,
    OperationName::DestroyRoots,
    OperationName::ListDestroyedKeys,
    OperationName::AdvanceClock,
    OperationName::ReadClock,
    OperationName::CreateBackup,
    OperationName::RestoreBackup,
];
/// Operations that are named but not built.
pub(crate) const NOT_BUILT_YET: &[OperationName] = &[
    OperationName::CreateAlias,
    OperationName::AssociateAlias,
    OperationName::DeleteAlias,
    OperationName::ListAliases,
    OperationName::CreateTag,
    OperationName::DeleteTag,
    OperationName::BatchCreateTags,
    OperationName::BatchDeleteTags,
    OperationName::ListTags,
    OperationName::ListProjectTags,
    OperationName::ListKeysByTags,
    OperationName::CreateGrant,
    OperationName::ListGrants,
    OperationName::ListRetirableGrants,
    OperationName::RetireGrant,
    OperationName::RevokeGrant,
    OperationName::EnableKeyRotation,
    OperationName::DisableKeyRotation,
    OperationName::UpdateRotationInterval,
    OperationName::GetRotationStatus,
    OperationName::RotateKeyOnDemand,
    OperationName::GetParametersForImport,
    OperationName::ImportKeyMaterial,
    OperationName::DeleteImportedKeyMaterial,
    OperationName::ReplicateKey,
    OperationName::UpdatePrimaryRegion,
    OperationName::ListSupportedRegions,
    OperationName::CreateKeystore,
    OperationName::DeleteKeystore,
    OperationName::EnableKeystore,
    OperationName::DisableKeystore,
    OperationName::DescribeKeystore,
    OperationName::ListKeystores,
    OperationName::DescribeQuotas,
    OperationName::CountKeys,
    OperationName::DescribeKeyUsage,
    OperationName::EncryptData,
    OperationName::DecryptData,
    OperationName::Sign,
    OperationName::Verify,
    OperationName::GetPublicKey,
    OperationName::GenerateMac,
    OperationName::VerifyMac,
    OperationName::DeriveSharedSecret,
    OperationName::GenerateDataKeyPair,
    OperationName::GenerateDataKeys,
    OperationName::ReEncrypt,
    OperationName::Rewrap,
];

type Run = dyn Fn(&World, &Caller) -> Result<(), Error>;

/// One operation with its parameters.
pub(crate) struct Attempt {
    pub(crate) name: OperationName,
    run: Box<Run>,
    first: Vec<Box<Run>>,
}

impl Attempt {
    fn of<O: Operation + Clone>(operation: O) -> Self {
        let run = move |world: &World, caller: &Caller| world.run(caller, operation.clone()).map(drop);
        Self { name: O::NAME, run: Box::new(run), first: Vec::new() }
    }

    /// Makes it one that only succeeds when the enabled key was prepared by `operation`.
    #[allow(dead_code, reason = "for operations that come with changes of their own")]
    fn after<O: Operation + Clone>(mut self, operation: O) -> Self {
        self.first.push(Self::of(operation).run);
        self
    }

    /// Does to the enabled key what the operation needs to succeed.
    pub(crate) fn prepare(&self, world: &World, caller: &Caller) {
        for run in &self.first {
            run(world, caller).expect("nothing is in the way");
        }
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
        Attempt::of(DisableKey { key: key_id.into() }),
        Attempt::of(EnableKey { key: key_id.into() }),
        Attempt::of(UpdateKeyAlias { key: key_id.into(), alias }),
        Attempt::of(UpdateKeyDescription { key: key_id.into(), description }),
        Attempt::of(generate(key.clone())),
        Attempt::of(GenerateDataKeyWithoutPlaintext(generate(key))),
        Attempt::of(encrypt),
        Attempt::of(decrypt),
        Attempt::of(GenerateRandom::new(32).expect("a length")),
        Attempt::of(ScheduleKeyDeletion { key: key_id.into(), pending }),
        Attempt::of(CancelKeyDeletion { key: key_id.into() }),
    ];
    let tried: Vec<OperationName> = attempts.iter().map(|attempt| attempt.name).collect();
    let elsewhere = [NO_CALLS_OF_USERS, NOT_BUILT_YET].concat();
    for name in OperationName::ALL {
        assert!(
            tried.contains(name) != elsewhere.contains(name),
            "{name:?} is missing, or here and elsewhere"
        );
    }
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
