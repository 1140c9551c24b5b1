//! Every operation, so that a test can go through all of them.

use kms_core::{
    Error, SecretBytes, Timestamp,
    context::EncryptionContext,
    grant::{GrantId, GrantName, GrantOperation, GrantOperations, Principal},
    identity::Caller,
    key::{KeyId, KeySpec},
    operation::OperationName,
    ops::{
        Alias, AssociateAlias, BatchCreateTags, BatchDeleteTags, BatchSize, CancelKeyDeletion, CountKeys,
        CreateAlias, CreateGrant, CreateTag, DataKeyPairSpec, DecryptBucketKey, DecryptData, DecryptDataKey,
        DeleteAlias, DeleteKeystore, DeleteTag, DescribeKey, DescribeKeyUsage, DescribeKeystore,
        DescribeQuotas, DescribeTraffic, Description, DisableKey, DisableKeyRotation, DisableKeystore,
        EnableKey, EnableKeyRotation, EnableKeystore, EncryptData, EncryptDataKey, EncryptionAlgorithm,
        FurtherAlias, GenerateBucketKey, GenerateDataKeyPair, GenerateDataKeyWithoutPlaintext,
        GenerateDataKeys, GenerateRandom, GetCampaign, GetMetering, GetRotationStatus, GetVersion,
        KeySelector, ListAliases, ListCampaigns, ListGrants, ListKeys, ListKeysByTags, ListKeystores,
        ListProjectTags, ListRetirableGrants, ListSupportedRegions, ListTags, ListVersions, ListWindow,
        MeteredAccounts, MeteringSource, Operation, PageSize, PendingDays, ProofSource, Prove, QueryRecords,
        ReEncrypt, RecordSource, ReplicateKey, RetireGrant, RevokeGrant, Rewrap, RotateKeyOnDemand,
        RotationInterval, ScheduleKeyDeletion, StartCampaign, StreamRecords, TagKey, Tags, UpdateKeyAlias,
        UpdateKeyDescription, UpdatePrimaryRegion, UpdateRotationInterval,
    },
    ports::{AuditError, BoxFuture},
    reading::{RecordFilter, Selection},
};

use super::{SPARE, VAULT, World, context, create, create_keystore, generate, keystore, region_named};

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
    OperationName::ListKeyUsage,
    OperationName::ReloadIdentities,
    OperationName::ReloadTrafficProfile,
    OperationName::ExplainAccess,
    OperationName::ArchiveSegment,
    OperationName::CosignCheckpoint,
    OperationName::AdvanceClock,
    OperationName::ReadClock,
    OperationName::ThrottleOperation,
    OperationName::CreateBackup,
    OperationName::RestoreBackup,
];
/// Operations that nobody is refused: `offers.rs` tries them.
pub(crate) const FOR_ANYONE: &[OperationName] = &[
    OperationName::IssueToken,
    OperationName::ListProjects,
    // `bucket_keys.rs` has it.
    OperationName::ReportBucketKeyUse,
];

/// Operations that everyone is refused: `offers.rs` tries them.
pub(crate) const NOT_OFFERED: &[OperationName] = &[
    OperationName::CreateKeyPolicy,
    OperationName::UpdateKeyPolicy,
    OperationName::DeleteKeyPolicy,
    OperationName::DescribeKeyPolicy,
    OperationName::ListKeyPolicies,
    OperationName::CreateAccessPoint,
    OperationName::DeleteAccessPoint,
    OperationName::EnableAccessPoint,
    OperationName::DisableAccessPoint,
    OperationName::ListAccessPoints,
    OperationName::DownloadAccessPointPrivateKey,
    OperationName::CreateDataKeyCapsule,
    OperationName::DecryptDataKeyCapsule,
    OperationName::CreatePin,
];

/// Operations on keys that do not seal: `other_attempts` has them.
pub(crate) const ON_OTHER_KEYS: &[OperationName] = &[
    OperationName::Sign,
    OperationName::Verify,
    OperationName::GetPublicKey,
    OperationName::GenerateMac,
    OperationName::VerifyMac,
    OperationName::DeriveSharedSecret,
];

/// Operations that only keys have whose material is imported: `external_attempts` has them.
pub(crate) const ON_EXTERNAL_KEYS: &[OperationName] = &[
    OperationName::GetParametersForImport,
    OperationName::ImportKeyMaterial,
    OperationName::DeleteImportedKeyMaterial,
];

/// What makes a replica of the key.
pub(crate) fn replicate(key_id: KeyId, region: &str, alias: &str) -> ReplicateKey {
    ReplicateKey {
        key: key_id.into(),
        region: region_named(region),
        project: None,
        alias: Alias::parse(alias).expect("an alias"),
        description: Description::default(),
        tags: Tags::default(),
        idempotency_token: None,
    }
}

/// The tree of a log that has nothing to prove.
macro_rules! no_proof {
    ($($source:ident: $name:ident,)*) => {$(
        #[derive(Debug, Clone)]
        struct $source;

        impl ProofSource for $source {
            const NAME: OperationName = OperationName::$name;
            type Proof = ();

            fn read(&self) -> BoxFuture<'_, Result<(), Error>> {
                Box::pin(std::future::ready(Ok(())))
            }
        }
    )*};
}

no_proof!(
    NewestCheckpoint: GetCheckpoint,
    Inclusion: ProveInclusion,
    Consistency: ProveConsistency,
);

/// Answers no record, whatever is selected.
#[derive(Clone)]
struct NoRecords;

impl RecordSource for NoRecords {
    type Page = ();

    fn read(&self, _: Selection) -> BoxFuture<'_, Result<(), AuditError>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

/// Answers nothing, for whomever.
#[derive(Clone)]
struct NoSums;

impl MeteringSource for NoSums {
    type Page = ();

    fn read(&self, _: MeteredAccounts, _: Timestamp) -> BoxFuture<'_, Result<(), AuditError>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

type Run = dyn Fn(&World, &Caller) -> Result<(), Error>;

/// One operation with its parameters.
pub(crate) struct Attempt {
    pub(crate) name: OperationName,
    run: Box<Run>,
    first: Vec<Box<Run>>,
}

impl Attempt {
    pub(super) fn of<O: Operation + Clone>(operation: O) -> Self {
        let run = move |world: &World, caller: &Caller| world.run(caller, operation.clone()).map(drop);
        Self { name: O::NAME, run: Box::new(run), first: Vec::new() }
    }

    /// Makes it one that only succeeds when the enabled key was prepared by `operation`.
    fn after<O: Operation + Clone>(mut self, operation: O) -> Self {
        self.first.push(Self::of(operation).run);
        self
    }

    /// One on the key's first grant, or on one that does not exist.
    fn on_grant<O: Operation>(key: KeyId, operation: impl Fn(GrantId) -> O + 'static) -> Self {
        let run = move |world: &World, caller: &Caller| {
            let grant_id = world.grants_of(key).first().copied();
            let unknown = || GrantId::parse(&"0".repeat(64)).expect("an id");
            world.run(caller, operation(grant_id.unwrap_or_else(unknown))).map(drop)
        };
        Self { name: O::NAME, run: Box::new(run), first: Vec::new() }
    }

    /// Does to the enabled key what the operation needs to succeed.
    pub(crate) fn prepare(&self, world: &World, caller: &Caller) {
        for run in &self.first {
            run(world, caller).expect("nothing is in the way");
        }
    }

    /// The same as far as the key lets it.
    pub(crate) fn prepare_if_possible(&self, world: &World, caller: &Caller) {
        for run in &self.first {
            drop(run(world, caller));
        }
    }

    pub(crate) fn run(&self, world: &World, caller: &Caller) -> Result<(), Error> {
        (self.run)(world, caller)
    }

    /// Whether it names the key; the others work without one.
    pub(crate) fn needs_key(&self) -> bool {
        use OperationName::{
            CountKeys, CreateKey, CreateKeystore, DeleteKeystore, DescribeKeystore, DescribeQuotas,
            DescribeTraffic, DisableKeystore, EnableKeystore, GenerateRandom, GetCheckpoint, GetMetering,
            GetVersion, ListKeys, ListKeysByTags, ListKeystores, ListProjectTags, ListRetirableGrants,
            ListSupportedRegions, ListVersions, ProveConsistency, ProveInclusion, QueryRecords,
            StreamRecords,
        };
        !matches!(
            self.name,
            CreateKey
                | CountKeys
                | DescribeQuotas
                | DescribeTraffic
                | GenerateRandom
                | ListKeys
                | CreateKeystore
                | DeleteKeystore
                | DescribeKeystore
                | DisableKeystore
                | EnableKeystore
                | ListKeystores
                | ListProjectTags
                | ListKeysByTags
                | ListRetirableGrants
                | ListSupportedRegions
                | ListVersions
                | GetVersion
                | QueryRecords
                | StreamRecords
                | GetCheckpoint
                | GetMetering
                | ProveInclusion
                | ProveConsistency
        )
    }

    /// Whether it seals or opens with the key.
    pub(crate) fn uses_key(&self) -> bool {
        use OperationName::{
            DecryptBucketKey, DecryptData, DecryptDataKey, EncryptData, EncryptDataKey, GenerateBucketKey,
            GenerateDataKey, GenerateDataKeyPair, GenerateDataKeyWithoutPlaintext, GenerateDataKeys,
            ReEncrypt, Rewrap,
        };
        matches!(
            self.name,
            GenerateDataKey
                | GenerateDataKeyWithoutPlaintext
                | GenerateDataKeys
                | GenerateDataKeyPair
                | GenerateBucketKey
                | DecryptBucketKey
                | EncryptDataKey
                | DecryptDataKey
                | ReEncrypt
                | Rewrap
                | EncryptData
                | DecryptData
        )
    }
}

/// A data key, small data and a bucket key that the same key sealed, with the context of the tests.
pub(crate) struct Sealed {
    pub(crate) data_key: Vec<u8>,
    pub(crate) small_data: Vec<u8>,
    pub(crate) bucket_key: Vec<u8>,
}

impl Sealed {
    /// Ciphertexts that look like it and were sealed by no key.
    pub(crate) fn forged(data_key: Vec<u8>) -> Self {
        let (mut small_data, mut bucket_key) = (data_key.clone(), data_key.clone());
        (small_data[3], bucket_key[3]) = (2, 5); // the purposes
        Self { data_key, small_data, bucket_key }
    }
}

pub(crate) fn bucket_key(key: KeySelector) -> GenerateBucketKey {
    GenerateBucketKey { key, algorithm: None, validity: None, encryption_context: context() }
}

pub(crate) fn encrypt_data(key: KeySelector) -> EncryptData {
    let data = SecretBytes::new(vec![6; 100]);
    EncryptData::new(key, data, EncryptionAlgorithm::SymmetricDefault, context()).expect("small data")
}

pub(crate) fn decrypt_data(ciphertext: &[u8], context: EncryptionContext) -> Result<DecryptData, Error> {
    DecryptData::new(ciphertext, None, EncryptionAlgorithm::SymmetricDefault, context)
}

/// Lets another account use a key.
pub(crate) fn grant(key: KeyId) -> CreateGrant {
    let operations = GrantOperations::parse([GrantOperation::EncryptDatakey, GrantOperation::RetireGrant]);
    CreateGrant {
        key: key.into(),
        grantee: Principal::account("zeta").expect("an account"),
        operations: operations.expect("two operations"),
        name: GrantName::default(),
        retiring_principal: None,
        idempotency_token: None,
    }
}

/// All operations on an enabled key, in an order in which its owner succeeds with each. `sealed` was sealed by the
/// key.
#[allow(clippy::too_many_lines, reason = "one line for each operation")]
pub(crate) fn attempts(key_id: KeyId, sealed: &Sealed) -> Vec<Attempt> {
    let ciphertext = &sealed.data_key[..];
    let key = KeySelector::Id(key_id);
    let alias = Alias::parse("renamed").expect("an alias");
    let description = Description::parse("described").expect("a description");
    let secret = SecretBytes::new(vec![5; 32]);
    let encrypt = EncryptDataKey::new(key.clone(), secret, context()).expect("a data key");
    let decrypt = DecryptDataKey::new(ciphertext, None, context()).expect("a ciphertext");
    let rewrap = Rewrap::new(ciphertext, None, context()).expect("a ciphertext");
    let size = PageSize::parse(0).expect("a size");
    let interval = RotationInterval::parse(30).expect("an interval");
    let pending = PendingDays::parse(7).expect("a waiting time");
    let named = CreateAlias { key: key.clone(), alias: further("alias/further") };
    let unnamed = DeleteAlias::new(key.clone(), vec![named.alias.clone()]).expect("an alias");
    let tag_key = TagKey::parse("team").expect("a key");
    let tagged = CreateTag::new(key.clone(), "team", "shop").expect("a tag");
    let tags = Tags::parse([("team", "shop")]).expect("a tag");
    let all_tagged = BatchCreateTags::new(key.clone(), tags).expect("a tag");
    let attempts = vec![
        Attempt::of(create("another")),
        Attempt::of(DescribeKey { key: key.clone() }),
        Attempt::of(ListKeys { size, token: None, state: None, spec: None }),
        Attempt::of(grant(key_id)),
        Attempt::of(ListGrants { key: key.clone(), size, token: None }),
        Attempt::of(ListRetirableGrants { size, token: None }),
        Attempt::on_grant(key_id, move |grant_id| RetireGrant { key: key_id.into(), grant_id })
            .after(grant(key_id)),
        Attempt::of(grant(key_id)),
        Attempt::on_grant(key_id, move |grant_id| RevokeGrant { key: key_id.into(), grant_id })
            .after(grant(key_id)),
        Attempt::of(DisableKey { key: key_id.into() }),
        Attempt::of(EnableKey { key: key_id.into() }),
        Attempt::of(UpdateKeyAlias { key: key_id.into(), alias }),
        Attempt::of(UpdateKeyDescription { key: key_id.into(), description }),
        Attempt::of(named.clone()),
        Attempt::of(AssociateAlias { alias: named.alias.clone(), target: key.clone() }).after(named.clone()),
        Attempt::of(ListAliases { key: Some(key.clone()), size, token: None }),
        Attempt::of(unnamed).after(named),
        Attempt::of(tagged.clone()),
        Attempt::of(ListTags { key: key.clone() }),
        Attempt::of(ListProjectTags { size, token: None }),
        Attempt::of(ListKeysByTags::new(Vec::new(), String::new(), None).expect("a search")),
        Attempt::of(DeleteTag { key: key.clone(), tag_key: tag_key.clone() }).after(tagged),
        Attempt::of(all_tagged.clone()),
        Attempt::of(BatchDeleteTags::new(key.clone(), vec![tag_key]).expect("a tag")).after(all_tagged),
        Attempt::of(generate(key.clone())),
        Attempt::of(GenerateDataKeyWithoutPlaintext(generate(key.clone()))),
        Attempt::of(GenerateDataKeys {
            each: generate(key.clone()),
            count: BatchSize::parse(3).expect("a size"),
            with_plaintext: true,
        }),
        Attempt::of(GenerateDataKeyPair {
            key: key.clone(),
            spec: DataKeyPairSpec::of(KeySpec::EcP256).expect("a pair"),
            with_plaintext: true,
            encryption_context: context(),
        }),
        Attempt::of(
            ReEncrypt::new(ciphertext, None, context(), key.clone(), context()).expect("a ciphertext"),
        ),
        Attempt::of(bucket_key(key.clone())),
        Attempt::of(DecryptBucketKey::new(&sealed.bucket_key, None, context()).expect("a ciphertext")),
        Attempt::of(encrypt_data(key.clone())),
        Attempt::of(decrypt_data(&sealed.small_data, context()).expect("a ciphertext")),
        Attempt::of(encrypt),
        Attempt::of(decrypt),
        Attempt::of(GenerateRandom::new(32).expect("a length")),
        Attempt::of(EnableKeyRotation { key: key_id.into(), interval }),
        Attempt::of(UpdateRotationInterval { key: key_id.into(), interval })
            .after(EnableKeyRotation { key: key_id.into(), interval }),
        Attempt::of(GetRotationStatus { key: key.clone() }),
        Attempt::of(DescribeKeyUsage { key: key.clone() }),
        Attempt::of(StartCampaign { key: key_id.into() }),
        Attempt::of(GetCampaign { key: key.clone(), target: 1 }).after(StartCampaign { key: key_id.into() }),
        Attempt::of(ListCampaigns { key: key.clone() }),
        Attempt::of(RotateKeyOnDemand { key: key_id.into(), from_version: None }),
        Attempt::of(ListSupportedRegions),
        Attempt::of(rewrap).after(RotateKeyOnDemand { key: key_id.into(), from_version: Some(1) }),
        Attempt::of(DisableKeyRotation { key: key_id.into() })
            .after(EnableKeyRotation { key: key_id.into(), interval }),
        Attempt::of(replicate(key_id, "cn-east-3", "replica")),
        // A replica from now on, which can be deleted.
        Attempt::of(UpdatePrimaryRegion { key: key_id.into(), region: region_named("cn-east-3") })
            .after(replicate(key_id, "cn-east-3", "replica")),
        Attempt::of(ScheduleKeyDeletion { key: key_id.into(), pending }),
        Attempt::of(CancelKeyDeletion { key: key_id.into() }),
        Attempt::of(create_keystore(SPARE)),
        Attempt::of(CountKeys),
        Attempt::of(DescribeQuotas),
        Attempt::of(ListVersions),
        Attempt::of(DescribeTraffic),
        Attempt::of(GetVersion { version_id: "v1".to_owned() }),
        Attempt::of(QueryRecords { filter: RecordFilter::default(), source: NoRecords }),
        Attempt::of(StreamRecords { filter: RecordFilter::default() }),
        Attempt::of(Prove(NewestCheckpoint)),
        Attempt::of(Prove(Inclusion)),
        Attempt::of(Prove(Consistency)),
        Attempt::of(GetMetering { account: None, source: NoSums }),
        Attempt::of(ListKeystores { window: ListWindow::parse(0, 0).expect("a window") }),
        Attempt::of(DescribeKeystore { keystore_id: keystore(VAULT) }),
        Attempt::of(EnableKeystore { keystore_id: keystore(VAULT) }),
        Attempt::of(DisableKeystore { keystore_id: keystore(VAULT) }),
        Attempt::of(DeleteKeystore { keystore_id: keystore(VAULT) }),
    ];
    let tried: Vec<OperationName> = attempts.iter().map(|attempt| attempt.name).collect();
    let elsewhere = [NO_CALLS_OF_USERS, FOR_ANYONE, NOT_OFFERED, ON_EXTERNAL_KEYS, ON_OTHER_KEYS].concat();
    for name in OperationName::ALL {
        assert!(
            tried.contains(name) != elsewhere.contains(name),
            "{name:?} is missing, or here and elsewhere"
        );
    }
    attempts
}

pub(crate) fn further(alias: &str) -> FurtherAlias {
    FurtherAlias::parse(alias).expect("a further alias")
}

impl World {
    /// The ids of all grants of a key, as the store has them.
    pub(crate) fn grants_of(&self, key: KeyId) -> Vec<GrantId> {
        let prefix = [b"g/", &key.as_bytes()[..], b"/"].concat();
        let id = |path: &[u8]| GrantId::parse(std::str::from_utf8(&path[prefix.len()..]).expect("hex"));
        self.store.under(&prefix).iter().map(|(path, _)| id(path).expect("an id")).collect()
    }

    /// A key of `caller` and all operations on it.
    pub(crate) fn key_with_attempts(&self, caller: &Caller) -> (KeyId, Vec<Attempt>) {
        let key = self.key(caller, "key").id;
        self.run(caller, create_keystore(VAULT)).expect("the token is free");
        let sealed = self.run(caller, generate(KeySelector::Id(key))).expect("the key is enabled").sealed;
        let small_data = self.run(caller, encrypt_data(KeySelector::Id(key))).expect("enabled").ciphertext;
        let bucket_key =
            self.run(caller, bucket_key(KeySelector::Id(key))).expect("enabled").sealed.ciphertext;
        (key, attempts(key, &Sealed { data_key: sealed.ciphertext, small_data, bucket_key }))
    }
}
