//! The table of operations: names, permissions, trace names, traffic groups.

/// A permission, named as in DEW's policies (version 1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Action {
    /// `kms:cmk:create`
    CmkCreate,
    /// `kms:cmk:get`
    CmkGet,
    /// `kms:cmk:list`
    CmkList,
    /// `kms:cmk:enable`
    CmkEnable,
    /// `kms:cmk:disable`
    CmkDisable,
    /// `kms:cmk:update`
    CmkUpdate,
    /// `kms:cmk:generate`
    CmkGenerate,
    /// `kms:dek:create`
    DekCreate,
    /// `kms:dek:crypto`
    DekCrypto,
    /// `dewpoint:root:manage`: the operators' only one; no user can be given it.
    RootManage,
}

impl Action {
    /// All that users can be given.
    pub const ALL: [Self; 9] = [
        Self::CmkCreate,
        Self::CmkGet,
        Self::CmkList,
        Self::CmkEnable,
        Self::CmkDisable,
        Self::CmkUpdate,
        Self::CmkGenerate,
        Self::DekCreate,
        Self::DekCrypto,
    ];

    /// The name in policies and in errors.
    // DEW: §9, the older action names, which the SSE-KMS description uses too.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CmkCreate => "kms:cmk:create",
            Self::CmkGet => "kms:cmk:get",
            Self::CmkList => "kms:cmk:list",
            Self::CmkEnable => "kms:cmk:enable",
            Self::CmkDisable => "kms:cmk:disable",
            Self::CmkUpdate => "kms:cmk:update",
            Self::CmkGenerate => "kms:cmk:generate",
            Self::DekCreate => "kms:dek:create",
            Self::DekCrypto => "kms:dek:crypto",
            Self::RootManage => "dewpoint:root:manage",
        }
    }

    /// The action with this name, if users can be given it.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.name() == name)
    }
}

/// A set of actions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Permissions(u32);

impl Permissions {
    /// No action.
    pub const NONE: Self = Self(0);

    /// What an operator may do: nothing with keys.
    pub const OPERATOR: Self = Self(1 << Action::RootManage as u32);

    /// Everything that users can be given.
    pub fn all() -> Self {
        Action::ALL.into_iter().collect()
    }

    /// Whether `action` is allowed.
    pub const fn allow(self, action: Action) -> bool {
        self.0 & (1 << action as u32) != 0
    }
}

impl FromIterator<Action> for Permissions {
    fn from_iter<I: IntoIterator<Item = Action>>(actions: I) -> Self {
        Self(actions.into_iter().fold(0, |set, action| set | (1 << action as u32)))
    }
}

/// Which budget of the traffic control an operation draws on. DEW: §7.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TrafficGroup {
    /// Life cycle of keys.
    LifeCycle,
    /// Data keys and random numbers.
    DataKeys,
    /// Reads, whose limits DEW does not document.
    Queries,
    /// What operators and the service itself do; DEW has no such calls, and so no limits.
    Administration,
}

/// What an operation may do to the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperationClass {
    /// Reads the store.
    Read,
    /// Uses the HSM, changes nothing.
    Use,
    /// Changes the store: an intent is recorded before, an outcome after.
    Change,
}

/// Everything fixed that is known about an operation.
#[derive(Debug)]
pub struct OperationInfo {
    /// The name in the gRPC contract and in the log.
    pub name: &'static str,
    /// The permission it needs.
    pub action: Action,
    /// DEW's trace name, where DEW traces the operation. DEW: §10.
    pub trace_name: Option<&'static str>,
    /// The traffic budget.
    pub traffic: TrafficGroup,
    /// What it may do.
    pub class: OperationClass,
}

macro_rules! operations {
    ($($(#[$doc:meta])* $name:ident: $action:ident, $trace:expr, $traffic:ident, $class:ident;)*) => {
        /// An operation of the service.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum OperationName { $($(#[$doc])* $name,)* }

        impl OperationName {
            /// All of them, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// What is fixed about it.
            pub const fn info(self) -> &'static OperationInfo {
                match self { $(Self::$name => &OperationInfo {
                    name: stringify!($name),
                    action: Action::$action,
                    trace_name: $trace,
                    traffic: TrafficGroup::$traffic,
                    class: OperationClass::$class,
                },)* }
            }
        }
    };
}

operations! {
    /// Makes a custom key.
    CreateKey: CmkCreate, Some("createKey"), LifeCycle, Change;
    /// Makes the default key of an account for a service.
    CreateDefaultKey: CmkCreate, Some("createKey"), LifeCycle, Change;
    /// Reads one key's description.
    DescribeKey: CmkGet, None, Queries, Read;
    /// Reads the keys of the account in the region, by pages.
    ListKeys: CmkList, None, Queries, Read;
    /// Disabled to enabled.
    EnableKey: CmkEnable, Some("enableKey"), LifeCycle, Change;
    /// Enabled to disabled.
    DisableKey: CmkDisable, Some("disableKey"), LifeCycle, Change;
    /// To pending deletion.
    ScheduleKeyDeletion: CmkUpdate, Some("scheduleKeyDeletion"), LifeCycle, Change;
    /// Pending deletion to disabled.
    CancelKeyDeletion: CmkUpdate, Some("cancelKeyDeletion"), LifeCycle, Change;
    /// Changes the alias.
    UpdateKeyAlias: CmkUpdate, Some("updateKeyAlias"), LifeCycle, Change;
    /// Changes the description.
    UpdateKeyDescription: CmkUpdate, Some("updateKeyDescription"), LifeCycle, Change;
    /// Makes the next version of a key. The service does it by itself when a version's budget is spent:
    /// then it is a part of the call that needed it, whose permission suffices and whose traffic counts.
    RotateKey: CmkUpdate, None, LifeCycle, Change;
    /// Takes uses from the budget of a version that seals in the HSM; always such a part.
    ReserveKeyUses: DekCreate, None, DataKeys, Change;
    /// Makes a data key; answers it in plain and sealed.
    GenerateDataKey: DekCreate, Some("createDataKey"), DataKeys, Use;
    /// Makes a data key; answers it sealed only.
    GenerateDataKeyWithoutPlaintext: DekCreate, Some("createDataKeyWithoutPlaintext"), DataKeys, Use;
    /// Seals a data key that the caller made.
    EncryptDataKey: DekCrypto, Some("encryptDatakey"), DataKeys, Use;
    /// Opens a sealed data key.
    DecryptDataKey: DekCrypto, Some("decryptDatakey"), DataKeys, Use;
    /// Answers random bytes of the HSM.
    GenerateRandom: CmkGenerate, Some("genRandom"), DataKeys, Use;
    /// Makes the next generation of the root key and begins to move all keys under it.
    RotateRoot: RootManage, None, Administration, Change;
    /// Lets go of old root keys that a rotation was told to keep.
    RetireRoot: RootManage, None, Administration, Change;
    /// Reads the state of the root keys.
    DescribeRoot: RootManage, None, Administration, Use;
    /// The service itself: wraps one key's material under the newest root key.
    RewrapKey: RootManage, None, Administration, Change;
    /// The service itself: notes that no key needs the old root keys any more.
    ForgetRoots: RootManage, None, Administration, Change;
    /// The service itself: destroys the old root keys on the token.
    DestroyRoots: RootManage, None, Administration, Change;
    /// Moves a clock that stands still otherwise; in dev mode only.
    AdvanceClock: RootManage, None, Administration, Read;
    /// Reads that clock.
    ReadClock: RootManage, None, Administration, Read;
    /// `dewpoint backup`: hands all keys over to another token.
    CreateBackup: RootManage, None, Administration, Change;
    /// `dewpoint restore`: takes all keys over from another token.
    RestoreBackup: RootManage, None, Administration, Change;
}
