//! Policies: documents that say what is allowed and what is denied.

use std::sync::Arc;

use super::{AccessRequest, Condition, Operations, Pattern, PolicyError, document::Node, names};
use crate::{
    identity::{AccountId, Region},
    key::KeyId,
};

/// The form of policies that is understood.
const VERSION: &str = "1.1";
/// Where statements stop to be about certain keys.
const ALL_RESOURCES: &str = "*";
/// What a resource says before the id, and what it has to be.
const RESOURCE_FORM: &str = "must be * or KMS:<region or *>:<account or *>:KeyId:<id, which may hold *>";

/// A policy: statements under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    name: Arc<str>,
    statements: Vec<Arc<Statement>>,
}

/// One rule of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// What follows from it.
    pub effect: Effect,
    /// The operations that it speaks of.
    pub operations: Operations,
    /// What they are done to.
    pub resources: Resources,
    /// What has to be true besides: all of it.
    pub conditions: Box<[Condition]>,
}

/// What follows from a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// What it speaks of is allowed, unless something denies it.
    Allow,
    /// What it speaks of is denied, whatever allows it.
    Deny,
}

/// What a statement speaks of operations on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resources {
    /// Everything: all keys, and what is no key.
    All,
    /// Keys that fit one of these.
    Keys(Box<[KeyPattern]>),
}

/// Some keys: `KMS:<region>:<account>:KeyId:<id>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPattern {
    region: Option<Region>,
    account: Option<AccountId>,
    ids: Ids,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Ids {
    One(KeyId),
    Like(Pattern),
}

impl Policy {
    /// Reads a policy in DEW's form.
    // DEW: §9, policy form.
    pub fn parse(name: &str, json: &str) -> Result<Self, PolicyError> {
        let root = Node::new(json)?;
        let [version, statements] = root.members(["Version", "Statement"])?;
        let version = required(root, version, "Version")?;
        if version.text()? != VERSION {
            return Err(version.error(format!("Version must be {VERSION:?}")));
        }
        let statements = required(root, statements, "Statement")?.items()?;
        let statements = statements.into_iter().map(|node| Statement::parse(node).map(Arc::new));
        Ok(Self { name: name.into(), statements: statements.collect::<Result<_, _>>()? })
    }

    /// Allows these operations, on everything.
    pub fn allowing(name: &str, operations: Operations) -> Self {
        let statement = Statement {
            effect: Effect::Allow,
            operations,
            resources: Resources::All,
            conditions: Box::default(),
        };
        Self { name: name.into(), statements: vec![Arc::new(statement)] }
    }

    /// Its name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Its statements, in its order.
    pub fn statements(&self) -> &[Arc<Statement>] {
        &self.statements
    }
}

impl Statement {
    fn parse(node: Node<'_>) -> Result<Self, PolicyError> {
        let [effect, action, resource, condition] =
            node.members(["Effect", "Action", "Resource", "Condition"])?;
        let effect = required(node, effect, "Effect")?;
        let effect = match &*effect.text()? {
            "Allow" => Effect::Allow,
            "Deny" => Effect::Deny,
            _ => return Err(effect.error("Effect must be \"Allow\" or \"Deny\"")),
        };
        Ok(Self {
            effect,
            operations: operations(required(node, action, "Action")?)?,
            resources: resource.map_or(Ok(Resources::All), Resources::parse)?,
            conditions: condition.map_or(Ok(Box::default()), Condition::parse_all)?,
        })
    }

    /// Whether it speaks of every key and every request.
    pub(super) fn is_plain(&self) -> bool {
        self.resources == Resources::All && self.conditions.is_empty()
    }
}

fn required<'a>(node: Node<'a>, member: Option<Node<'a>>, name: &str) -> Result<Node<'a>, PolicyError> {
    member.ok_or_else(|| node.error(format!("{name} is missing")))
}

fn operations(node: Node<'_>) -> Result<Operations, PolicyError> {
    node.texts()?.into_iter().try_fold(Operations::NONE, |all, (place, name)| {
        let some = names::operations_of(&name);
        some.map(|some| all.union(some)).ok_or_else(|| place.error(format!("{name:?} is no action")))
    })
}

impl Resources {
    fn parse(node: Node<'_>) -> Result<Self, PolicyError> {
        let (mut keys, mut all) = (Vec::new(), false);
        for (place, text) in node.texts()? {
            if text == ALL_RESOURCES {
                all = true;
            } else {
                let key = KeyPattern::parse(&text);
                keys.push(
                    key.ok_or_else(|| place.error(format!("{text:?} is no resource: {RESOURCE_FORM}")))?,
                );
            }
        }
        Ok(if all { Self::All } else { Self::Keys(keys.into()) })
    }

    /// Whether the request is on one of them. `key_text`: the id of its key.
    pub(super) fn cover(&self, request: &AccessRequest<'_>, key_text: &str) -> bool {
        match (self, request.key.and_then(|key| key.id)) {
            (Self::All, _) => true,
            // Nobody could say which keys an operation without a key is about.
            (Self::Keys(_), None) => false,
            (Self::Keys(patterns), Some(id)) => {
                patterns.iter().any(|pattern| pattern.matches(request, id, key_text))
            }
        }
    }
}

impl KeyPattern {
    // DEW: §9, resource type KeyId.
    fn parse(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.split(':').collect();
        let [service, region, account, "KeyId", id] = parts[..] else { return None };
        let region = if region == "*" { None } else { Some(Region::parse(region)?) };
        let account = if account == "*" { None } else { Some(AccountId::parse(account)?) };
        service.eq_ignore_ascii_case("kms").then_some(Self { region, account, ids: Ids::parse(id)? })
    }

    fn matches(&self, request: &AccessRequest<'_>, id: KeyId, key_text: &str) -> bool {
        self.ids.include(id, key_text)
            && self.region.as_ref().is_none_or(|region| region == request.region)
            && self.account.as_ref().is_none_or(|account| account == request.account)
    }
}

impl Ids {
    fn parse(text: &str) -> Option<Self> {
        if !text.contains('*') {
            return text.parse().ok().map(Self::One);
        }
        // What no id can hold would never match: a deny on it would deny nothing.
        let known = |byte: u8| byte.is_ascii_digit() || b"abcdef-*".contains(&byte);
        text.bytes().all(known).then(|| Self::Like(Pattern::new(text)))
    }

    fn include(&self, id: KeyId, key_text: &str) -> bool {
        match self {
            Self::One(one) => *one == id,
            Self::Like(pattern) => pattern.matches(key_text),
        }
    }
}
