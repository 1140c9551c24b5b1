//! What docs/access.md says, in Cedar's language.

use std::collections::{BTreeMap, HashMap, HashSet};

use cedar_policy::{
    Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, Policy, PolicyId, PolicySet, Request,
    RestrictedExpression,
};
use kms_core::{
    grant::GrantOperation,
    operation::{Action, OperationName},
};

use crate::model::{
    self, ACCOUNTS, Asked, Condition, ConditionKey, Demand, GrantModel, Resource, Statement, Test,
};

/// The newer names of actions, by the operations that have them.
const FINE_NAMES: [(OperationName, &str); 12] = [
    (OperationName::GenerateDataKey, "kms:cmk:createDataKey"),
    (OperationName::GenerateDataKeys, "kms:cmk:createDataKey"),
    (OperationName::GenerateBucketKey, "kms:cmk:createDataKey"),
    (OperationName::GenerateDataKeyWithoutPlaintext, "kms:cmk:createDataKeyWithoutPlaintext"),
    (OperationName::EncryptDataKey, "kms:cmk:encryptDataKey"),
    (OperationName::DecryptDataKey, "kms:cmk:decryptDataKey"),
    (OperationName::DecryptBucketKey, "kms:cmk:decryptDataKey"),
    (OperationName::EncryptData, "kms:cmk:encryptData"),
    (OperationName::DecryptData, "kms:cmk:decryptData"),
    (OperationName::RetireGrant, "kms:cmk:retireGrant"),
    (OperationName::ListTags, "kms:cmk:getTags"),
    (OperationName::GenerateRandom, "kms::generateRandom"),
];

/// The operations that have each operation of grants; the operation of grants is a name of theirs.
const GRANTED: [(OperationName, GrantOperation); 12] = [
    (OperationName::GenerateDataKey, GrantOperation::CreateDatakey),
    (OperationName::GenerateDataKeys, GrantOperation::CreateDatakey),
    (OperationName::GenerateBucketKey, GrantOperation::CreateDatakey),
    (OperationName::GenerateDataKeyWithoutPlaintext, GrantOperation::CreateDatakeyWithoutPlaintext),
    (OperationName::EncryptDataKey, GrantOperation::EncryptDatakey),
    (OperationName::DecryptDataKey, GrantOperation::DecryptDatakey),
    (OperationName::DecryptBucketKey, GrantOperation::DecryptDatakey),
    (OperationName::DescribeKey, GrantOperation::DescribeKey),
    (OperationName::CreateGrant, GrantOperation::CreateGrant),
    (OperationName::RetireGrant, GrantOperation::RetireGrant),
    (OperationName::EncryptData, GrantOperation::EncryptData),
    (OperationName::DecryptData, GrantOperation::DecryptData),
];

/// A world in Cedar's terms.
pub(crate) struct World {
    pub(crate) policies: PolicySet,
    pub(crate) entities: Entities,
}

impl World {
    pub(crate) fn of(world: &model::World) -> Self {
        let mut policies = PolicySet::new();
        let mut add = |id: String, text: String| {
            let policy = Policy::parse(Some(PolicyId::new(id)), &text);
            policies.add(policy.unwrap_or_else(|error| panic!("{error}: {text}"))).expect("its own id");
        };
        for user in &world.users {
            for policy in &user.policies {
                for (number, statement) in (1..).zip(&policy.statements) {
                    add(statement_id(&user.name, &policy.name, number), rule(&user.name, statement));
                }
            }
        }
        for grant in &world.grants {
            add(grant_id(&grant.id), grant_rule(world, grant));
        }
        Self { policies, entities: entities(world) }
    }

    pub(crate) fn request(&self, world: &model::World, asked: &Asked) -> Request {
        let key = asked.key.map(|key| &world.keys[key]);
        let resource = match key.filter(|_| !asked.is_new) {
            Some(key) => uid("Key", &key.id),
            None => uid("Service", world.users[asked.user].account),
        };
        let mut values = vec![("region", asked.region)];
        if let Some(key) = key {
            values.extend([
                ("spec", key.spec.name()),
                ("usage", key.usage.name()),
                ("origin", key.origin.name()),
            ]);
        }
        values.extend(asked.alias.as_deref().map(|alias| ("alias", alias)));
        let plain = record(&values, &asked.pairs, str::to_owned);
        let folded = record(&values, &asked.pairs, str::to_lowercase);
        let context = Context::from_pairs([("plain".to_owned(), plain), ("folded".to_owned(), folded)]);
        Request::new(
            uid("User", &world.users[asked.user].name),
            uid("Action", asked.operation.info().name),
            resource,
            context.expect("two records"),
            None,
        )
        .expect("no schema to break")
    }
}

/// What is known of a request, each text by way of `form`.
fn record(
    values: &[(&str, &str)],
    pairs: &[(String, String)],
    form: fn(&str) -> String,
) -> RestrictedExpression {
    let text = |value: &str| RestrictedExpression::new_string(form(value));
    let pairs = pairs.iter().map(|(name, value)| (name.clone(), text(value)));
    let pairs = RestrictedExpression::new_record(pairs).expect("each name once");
    let values = values.iter().map(|(name, value)| ((*name).to_owned(), text(value)));
    RestrictedExpression::new_record(values.chain([("pairs".to_owned(), pairs)])).expect("each name once")
}

/// The id of the rule that a statement becomes.
pub(crate) fn statement_id(user: &str, policy: &str, number: usize) -> String {
    format!("{user} {policy} {number}")
}

/// The id of the rule that a grant becomes.
pub(crate) fn grant_id(id: &str) -> String {
    format!("grant {id}")
}

fn uid(kind: &str, id: &str) -> EntityUid {
    let kind: EntityTypeName = kind.parse().expect("a name");
    EntityUid::from_type_name_and_id(kind, EntityId::new(id))
}

fn entities(world: &model::World) -> Entities {
    let text = |value: &str| RestrictedExpression::new_string(value.to_owned());
    let entity = |uid, attributes: Vec<(&str, RestrictedExpression)>, parents: HashSet<EntityUid>| {
        let attributes: HashMap<_, _> =
            attributes.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Entity::new(uid, attributes, parents).expect("plain attributes")
    };
    let mut all = Vec::new();
    for account in ACCOUNTS {
        all.push(entity(uid("Account", account), vec![], HashSet::new()));
        all.push(entity(uid("Service", account), vec![("account", text(account))], HashSet::new()));
    }
    for user in &world.users {
        let account = vec![("account", text(user.account))];
        all.push(entity(uid("User", &user.name), account, [uid("Account", user.account)].into()));
    }
    for key in &world.keys {
        let attributes = vec![
            ("id", text(&key.id)),
            ("account", text(key.account)),
            ("isDefault", RestrictedExpression::new_bool(key.is_default)),
        ];
        all.push(entity(uid("Key", &key.id), attributes, HashSet::new()));
    }
    // The names of actions are groups of operations.
    let groups = groups();
    for (operation, names) in &groups {
        let parents = names.iter().map(|name| uid("Action", name)).collect();
        all.push(entity(uid("Action", operation), vec![], parents));
    }
    let names: HashSet<&String> = groups.values().flatten().collect();
    all.extend(names.into_iter().map(|name| entity(uid("Action", name), vec![], HashSet::new())));
    Entities::from_entities(all, None).expect("no cycle")
}

/// Each operation with its names in policies and in grants. What is the operators' has none, and what needs no
/// permission.
fn groups() -> BTreeMap<&'static str, Vec<String>> {
    let mut groups: BTreeMap<_, Vec<String>> = BTreeMap::new();
    for operation in OperationName::ALL {
        let names = groups.entry(operation.info().name).or_default();
        let action = operation.info().action;
        names.extend(Action::ALL.contains(&action).then(|| action.name().to_owned()));
        names.extend(
            FINE_NAMES.iter().filter(|(known, _)| known == operation).map(|(_, name)| (*name).into()),
        );
        names.extend(GRANTED.iter().filter(|(known, _)| known == operation).map(|(_, name)| granted(*name)));
    }
    groups
}

fn granted(operation: GrantOperation) -> String {
    format!("grant:{}", operation.name())
}

fn rule(user: &str, statement: &Statement) -> String {
    let known = Action::ALL.iter().map(|action| action.name()).chain(FINE_NAMES.map(|(_, name)| name));
    let names: HashSet<String> = known
        .filter(|name| statement.actions.iter().any(|pattern| glob(pattern.as_bytes(), name.as_bytes())))
        .map(str::to_owned)
        .collect();
    let effect = if statement.deny { "forbid" } else { "permit" };
    let mut rule = format!("{effect} (principal == User::{}, {}, resource)", quoted(user), actions(names));
    if !statement.deny {
        // Policies of users say nothing about other accounts' keys, but for what they deny.
        rule += " when { resource.account == principal.account }";
    }
    if let Some(resources) = &statement.resources {
        let any: Vec<String> = resources.iter().map(of_resource).collect();
        rule += &format!(" when {{ {} }}", any.join(" || "));
    }
    for condition in &statement.conditions {
        rule += &format!(" when {{ {} }}", of_condition(condition));
    }
    rule + ";"
}

fn grant_rule(world: &model::World, grant: &GrantModel) -> String {
    let principal = match &grant.user {
        Some(user) => format!("principal == User::{}", quoted(user)),
        None => format!("principal in Account::{}", quoted(grant.account)),
    };
    format!(
        "permit ({principal}, {}, resource == Key::{}) when {{ context.plain.region == {} }} unless {{ resource.isDefault }};",
        actions(grant.operations.iter().map(|operation| granted(*operation))),
        quoted(&world.keys[grant.key].id),
        quoted(grant.region),
    )
}

fn actions(names: impl IntoIterator<Item = String>) -> String {
    let names: Vec<String> = names.into_iter().map(|name| format!("Action::{}", quoted(&name))).collect();
    format!("action in [{}]", names.join(", "))
}

fn of_resource(resource: &Resource) -> String {
    let Resource::Keys { region, account, id } = resource else { return "true".to_owned() };
    let region = region.map(|region| format!(" && context.plain.region == {}", quoted(region)));
    let account = account.map(|account| format!(" && resource.account == {}", quoted(account)));
    format!(
        "(resource is Key && resource.id like {}{}{})",
        pattern(id),
        region.unwrap_or_default(),
        account.unwrap_or_default()
    )
}

fn of_condition(condition: &Condition) -> String {
    let (present, plain, folded) = match &condition.key {
        ConditionKey::Pair(name) => {
            let name = quoted(name);
            (
                format!("context.plain.pairs has {name}"),
                format!("context.plain.pairs[{name}]"),
                format!("context.folded.pairs[{name}]"),
            )
        }
        ConditionKey::Spec => attribute("spec"),
        ConditionKey::Usage => attribute("usage"),
        ConditionKey::Origin => attribute("origin"),
        ConditionKey::Alias => attribute("alias"),
        ConditionKey::Region => attribute("region"),
    };
    match &condition.demand {
        Demand::Null(true) => format!("!({present})"),
        Demand::Null(false) => present,
        Demand::Value { test, negated, if_exists, values } => {
            let any = values.iter().map(|value| match test {
                Test::Equals => format!("{plain} == {}", quoted(value)),
                Test::EqualsIgnoreCase => format!("{folded} == {}", quoted(&value.to_lowercase())),
                Test::Like => format!("{plain} like {}", pattern(value)),
                Test::StartWith => format!("{plain} like \"{}*\"", escaped(value, true)),
                Test::EndWith => format!("{plain} like \"*{}\"", escaped(value, true)),
            });
            let any = any.collect::<Vec<_>>().join(" || ");
            match (negated, if_exists) {
                (false, false) => format!("{present} && ({any})"),
                (false, true) => format!("!({present}) || ({any})"),
                (true, _) => format!("!({present}) || !({any})"),
            }
        }
    }
}

fn attribute(name: &str) -> (String, String, String) {
    (format!("context.plain has {name}"), format!("context.plain.{name}"), format!("context.folded.{name}"))
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", escaped(text, false))
}

/// A pattern in which `*` keeps its meaning, which Cedar shares.
fn pattern(text: &str) -> String {
    quoted(text)
}

fn escaped(text: &str, asterisks: bool) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
    if asterisks { escaped.replace('*', "\\*") } else { escaped }
}

fn glob(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, _) => text.is_empty(),
        (Some((b'*', rest)), None) => glob(rest, text),
        (Some((b'*', rest)), Some((_, left))) => glob(rest, text) || glob(pattern, left),
        (Some((first, rest)), Some((next, left))) => first == next && glob(rest, left),
        (Some(_), None) => false,
    }
}
