//! Random accounts, users, policies, keys, grants and requests, from few names and values, so that they meet.

use kms_core::{
    grant::GrantOperation,
    key::{KeyOrigin, KeySpec, KeyUsage},
    operation::OperationName,
};
use serde_json::{Value, json};

pub(crate) const ACCOUNTS: [&str; 3] = ["acme", "globex", "initech"];
const REGIONS: [&str; 2] = ["cn-north-4", "cn-south-1"];
const PAIRS: [&str; 4] = ["bucket", "tenant id", "Ä", "a\"b\\*"];
const VALUES: [&str; 10] = ["", "a", "A", "ab", "abc", "ba*", "ä", "Ä*b", "a\"\\b", "\\*"];
const PATTERNS: [&str; 12] = ["*", "a*", "*b", "a*c", "*a*", "A", "ä", "Ä*", "*\"*", "\\*", "**", "a"];
const ALIASES: [&str; 4] = ["a", "ab", "ABC", "ba"];
/// Names in policies: old, new, and with wildcards.
const ACTIONS: [&str; 22] = [
    "*",
    "kms:*",
    "kms:cmk:*",
    "kms:*:get*",
    "kms:*:create*",
    "kms:dek:*",
    "kms:*:*Data*",
    "kms:dek:create",
    "kms:dek:crypto",
    "kms:cmk:crypto",
    "kms:cmk:get",
    "kms:cmk:list",
    "kms:cmk:create",
    "kms:grant:*",
    "kms:cmk:createDataKey",
    "kms:cmk:createDataKeyWithoutPlaintext",
    "kms:cmk:encryptDataKey",
    "kms:cmk:decryptDataKey",
    "kms:cmk:decryptData",
    "kms:cmk:retireGrant",
    "kms:cmk:getTags",
    "kms::generateRandom",
];
/// What is mostly asked for.
const OPERATIONS: [OperationName; 18] = [
    OperationName::CreateKey,
    OperationName::DescribeKey,
    OperationName::ListKeys,
    OperationName::GenerateDataKey,
    OperationName::GenerateDataKeys,
    OperationName::GenerateBucketKey,
    OperationName::DecryptBucketKey,
    OperationName::GenerateDataKeyWithoutPlaintext,
    OperationName::EncryptDataKey,
    OperationName::DecryptDataKey,
    OperationName::EncryptData,
    OperationName::DecryptData,
    OperationName::CreateGrant,
    OperationName::RetireGrant,
    OperationName::ListTags,
    OperationName::GenerateRandom,
    OperationName::Sign,
    OperationName::ReEncrypt,
];
/// What is asked for of keys that have grants.
const GRANTED: [OperationName; 6] = [
    OperationName::GenerateDataKey,
    OperationName::GenerateDataKeys,
    OperationName::GenerateBucketKey,
    OperationName::DecryptDataKey,
    OperationName::DecryptBucketKey,
    OperationName::DescribeKey,
];
const TESTS: [Test; 5] = [Test::Equals, Test::EqualsIgnoreCase, Test::Like, Test::StartWith, Test::EndWith];

/// SplitMix64.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// True in so many of a hundred cases.
    fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }

    /// `least` to `most` things.
    fn several<T>(&mut self, least: usize, most: usize, mut make: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let count = least + self.below(most - least + 1);
        (0..count).map(|_| make(self)).collect()
    }
}

pub(crate) struct World {
    pub(crate) users: Vec<User>,
    pub(crate) keys: Vec<Key>,
    pub(crate) grants: Vec<GrantModel>,
}

pub(crate) struct User {
    pub(crate) account: &'static str,
    pub(crate) name: String,
    pub(crate) policies: Vec<PolicyModel>,
}

pub(crate) struct PolicyModel {
    pub(crate) name: String,
    pub(crate) statements: Vec<Statement>,
}

pub(crate) struct Statement {
    pub(crate) deny: bool,
    pub(crate) actions: Vec<&'static str>,
    /// `None`: the member is left out.
    pub(crate) resources: Option<Vec<Resource>>,
    pub(crate) conditions: Vec<Condition>,
}

pub(crate) enum Resource {
    All,
    Keys { region: Option<&'static str>, account: Option<&'static str>, id: String },
}

pub(crate) struct Condition {
    pub(crate) key: ConditionKey,
    pub(crate) demand: Demand,
}

#[derive(Clone, PartialEq)]
pub(crate) enum ConditionKey {
    Pair(&'static str),
    Spec,
    Usage,
    Origin,
    Alias,
    Region,
}

pub(crate) enum Demand {
    Null(bool),
    Value { test: Test, negated: bool, if_exists: bool, values: Vec<String> },
}

#[derive(Clone, Copy)]
pub(crate) enum Test {
    Equals,
    EqualsIgnoreCase,
    Like,
    StartWith,
    EndWith,
}

pub(crate) struct Key {
    pub(crate) id: String,
    pub(crate) account: &'static str,
    pub(crate) region: &'static str,
    pub(crate) spec: KeySpec,
    pub(crate) usage: KeyUsage,
    pub(crate) origin: KeyOrigin,
    pub(crate) is_default: bool,
}

#[derive(Clone)]
pub(crate) struct GrantModel {
    pub(crate) id: String,
    pub(crate) key: usize,
    pub(crate) region: &'static str,
    /// `None`: all users of the account.
    pub(crate) user: Option<String>,
    pub(crate) account: &'static str,
    pub(crate) operations: Vec<GrantOperation>,
}

/// A request.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) user: usize,
    pub(crate) operation: OperationName,
    pub(crate) key: Option<usize>,
    /// The key is yet to be made, of the kind of this one.
    pub(crate) is_new: bool,
    pub(crate) region: &'static str,
    pub(crate) pairs: Vec<(String, String)>,
    pub(crate) alias: Option<String>,
}

impl World {
    pub(crate) fn random(random: &mut Random) -> Self {
        let keys: Vec<Key> = ACCOUNTS
            .iter()
            .flat_map(|account| [false, false, true].map(|is_default| (*account, is_default)))
            .map(|(account, is_default)| Key::random(random, account, is_default))
            .collect();
        let mut users = Vec::new();
        for account in ACCOUNTS {
            for number in 0..2 {
                let mut policies = random.several(1, 2, |random| PolicyModel {
                    name: String::new(),
                    statements: random.several(1, 4, |random| Statement::random(random, &keys)),
                });
                for (index, policy) in policies.iter_mut().enumerate() {
                    policy.name = format!("policy-{index}");
                }
                users.push(User { account, name: format!("{account}-{number}"), policies });
            }
        }
        let grants = random.several(12, 24, |random| GrantModel::random(random, &keys, &users));
        Self { users, keys, grants }
    }

    pub(crate) fn request(&self, random: &mut Random) -> Asked {
        let user = random.below(self.users.len());
        let mut key = random.percent(85).then(|| random.below(self.keys.len()));
        let mut operations: &[OperationName] =
            if random.percent(85) { &OPERATIONS } else { OperationName::ALL };
        if random.percent(30) {
            (key, operations) = (Some(random.one(&self.grants).key), &GRANTED);
        }
        let is_new = key.is_some() && random.percent(10);
        let mut pairs = Vec::new();
        for name in PAIRS {
            if random.percent(60) {
                pairs.push((name.to_owned(), random.one(&VALUES).to_owned()));
            }
        }
        let of_key = key.filter(|_| random.percent(90)).map(|key| self.keys[key].region);
        Asked {
            user,
            operation: random.one(operations),
            key,
            is_new,
            region: of_key.unwrap_or_else(|| random.one(&REGIONS)),
            pairs: if random.percent(80) { pairs } else { Vec::new() },
            alias: random.percent(50).then(|| random.one(&ALIASES).to_owned()),
        }
    }

    /// Whose the key is that is asked for; the caller's account, if there is none yet.
    pub(crate) fn account_of(&self, asked: &Asked) -> &'static str {
        let key = asked.key.filter(|_| !asked.is_new);
        key.map_or(self.users[asked.user].account, |key| self.keys[key].account)
    }
}

impl Key {
    fn random(random: &mut Random, account: &'static str, is_default: bool) -> Self {
        let spec = random.one(&KeySpec::ALL);
        let digits = "0123456789abcdef".chars().collect::<Vec<_>>();
        let begin: String = (0..2).map(|_| random.one(&digits)).collect();
        let end: String = (0..8).map(|_| random.one(&digits)).collect();
        Self {
            id: format!("0193a0{begin}-0000-7000-8000-0000{end}"),
            account,
            region: random.one(&REGIONS),
            spec,
            usage: random.one(spec.usages()),
            origin: random.one(&[KeyOrigin::Kms, KeyOrigin::External]),
            is_default,
        }
    }
}

impl GrantModel {
    fn random(random: &mut Random, keys: &[Key], users: &[User]) -> Self {
        let key = random.below(keys.len());
        let mut operations = random.several(1, 4, |random| random.one(GrantOperation::ALL));
        operations.push(random.one(&[GrantOperation::DecryptDatakey, GrantOperation::CreateDatakey]));
        let user = random.below(users.len());
        Self {
            id: (0..4).map(|_| format!("{:016x}", random.next())).collect(),
            key,
            region: if random.percent(90) { keys[key].region } else { random.one(&REGIONS) },
            user: random.percent(50).then(|| users[user].name.clone()),
            account: users[user].account,
            operations,
        }
    }
}

impl Statement {
    fn random(random: &mut Random, keys: &[Key]) -> Self {
        let statement = Self {
            deny: random.percent(35),
            actions: random.several(1, 3, |random| random.one(&ACTIONS)),
            resources: random
                .percent(60)
                .then(|| random.several(1, 3, |random| Resource::random(random, keys))),
            conditions: if random.percent(50) { random.several(1, 3, Condition::random) } else { Vec::new() },
        };
        statement.without_doubles()
    }

    fn json(&self) -> Value {
        let mut statement = json!({
            "Effect": if self.deny { "Deny" } else { "Allow" },
            "Action": one_or_all(&self.actions),
        });
        if let Some(resources) = &self.resources {
            let texts: Vec<String> = resources.iter().map(Resource::text).collect();
            statement["Resource"] = one_or_all(&texts);
        }
        for Condition { key, demand } in &self.conditions {
            let (operator, values) = match demand {
                Demand::Null(absent) => ("Null".to_owned(), json!(absent.to_string())),
                Demand::Value { test, negated, if_exists, values } => {
                    let (not, suffix) =
                        (if *negated { "Not" } else { "" }, if *if_exists { "IfExists" } else { "" });
                    let test = match test {
                        Test::Equals => "Equals",
                        Test::EqualsIgnoreCase => "EqualsIgnoreCase",
                        Test::Like => "Like",
                        Test::StartWith => "StartWith",
                        Test::EndWith => "EndWith",
                    };
                    (format!("String{not}{test}{suffix}"), one_or_all(values))
                }
            };
            statement["Condition"][operator][key.text()] = values;
        }
        statement
    }

    /// The same without conditions that another one of the same operator and key replaces.
    fn without_doubles(mut self) -> Self {
        let mut seen: Vec<(String, ConditionKey)> = Vec::new();
        self.conditions.retain(|condition| {
            let operator = match &condition.demand {
                Demand::Null(_) => "Null".to_owned(),
                Demand::Value { test, negated, if_exists, .. } => {
                    format!("{} {negated} {if_exists}", *test as u8)
                }
            };
            let place = (operator, condition.key.clone());
            let new = !seen.contains(&place);
            seen.push(place);
            new
        });
        self
    }
}

impl PolicyModel {
    pub(crate) fn json(&self) -> String {
        let statements: Vec<Value> = self.statements.iter().map(Statement::json).collect();
        json!({"Version": "1.1", "Statement": statements}).to_string()
    }
}

/// A list of one is also written as the one.
fn one_or_all<T: AsRef<str>>(texts: &[T]) -> Value {
    match texts {
        [one] => json!(one.as_ref()),
        all => all.iter().map(AsRef::as_ref).collect(),
    }
}

impl Resource {
    fn random(random: &mut Random, keys: &[Key]) -> Self {
        if random.percent(10) {
            return Self::All;
        }
        let key = random.one(&keys.iter().map(|key| &key.id).collect::<Vec<_>>());
        let id = match random.below(6) {
            0 | 1 => key.clone(),
            2 => format!("{}*", &key[..7]),
            3 => format!("*{}", &key[35..]),
            4 => format!("0193*-7000-*{}*", &key[34..35]),
            _ => "*".to_owned(),
        };
        Self::Keys {
            region: random.percent(30).then(|| random.one(&REGIONS)),
            account: random.percent(20).then(|| random.one(&ACCOUNTS)),
            id,
        }
    }

    fn text(&self) -> String {
        match self {
            Self::All => "*".to_owned(),
            Self::Keys { region, account, id } => {
                format!("KMS:{}:{}:KeyId:{id}", region.unwrap_or("*"), account.unwrap_or("*"))
            }
        }
    }
}

impl Condition {
    fn random(random: &mut Random) -> Self {
        let key = match random.below(10) {
            0 => ConditionKey::Spec,
            1 => ConditionKey::Usage,
            2 => ConditionKey::Origin,
            3 => ConditionKey::Alias,
            4 => ConditionKey::Region,
            _ => ConditionKey::Pair(random.one(&PAIRS)),
        };
        if random.percent(10) {
            return Self { key, demand: Demand::Null(random.percent(50)) };
        }
        let test = random.one(&TESTS);
        let values = random.several(1, 3, |random| key.value(random, test));
        let demand =
            Demand::Value { test, negated: random.percent(40), if_exists: random.percent(30), values };
        Self { key, demand }
    }
}

impl ConditionKey {
    fn text(&self) -> String {
        match self {
            Self::Pair(name) => return format!("kms:EncryptionContext/{name}"),
            Self::Spec => "kms:KeySpec",
            Self::Usage => "kms:KeyUsage",
            Self::Origin => "kms:KeyOrigin",
            Self::Alias => "kms:RequestAlias",
            Self::Region => "g:RequestedRegion",
        }
        .to_owned()
    }

    /// A value that a condition on this key may have.
    fn value(&self, random: &mut Random, test: Test) -> String {
        let whole = match self {
            Self::Spec => random.one(&KeySpec::ALL).name(),
            Self::Usage => random.one(&KeyUsage::ALL).name(),
            Self::Origin => random.one(&["kms", "external"]),
            Self::Region => random.one(&REGIONS),
            Self::Alias => random.one(&ALIASES),
            Self::Pair(_) => random.one(&VALUES),
        };
        let cut = random.below(3).min(whole.chars().count());
        let (begin, end): (String, String) =
            (whole.chars().take(cut).collect(), whole.chars().skip(cut).collect());
        match test {
            Test::Equals => whole.to_owned(),
            Test::EqualsIgnoreCase if random.percent(50) => whole.to_uppercase(),
            Test::EqualsIgnoreCase => whole.to_lowercase(),
            Test::Like if random.percent(50) => random.one(&PATTERNS).to_owned(),
            Test::Like => format!("{begin}*"),
            Test::StartWith => begin,
            Test::EndWith => end,
        }
    }
}
