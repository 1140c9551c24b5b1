//! All policies of one user, compiled, and what they decide.

use std::{fmt, sync::Arc};

use super::{AccessRequest, ConditionKey, Effect, Operations, Policy, Statement, system};
use crate::{
    key::KEY_ID_CHARACTERS,
    operation::{Action, OperationName},
};

/// What a plain list of permissions is called as a policy.
const PERMISSIONS: &str = "permissions";

/// How many condition keys are read once for each decision; more than a user's policies look at. Further ones are read
/// for each condition.
const READ_ONCE: usize = 16;

/// Policies that hold together. Deciding allocates nothing.
#[derive(Debug, Clone, Default)]
pub struct Policies {
    denies: Vec<Rule>,
    allows: Vec<Rule>,
    /// What is denied whatever the key and the request are.
    denied: Operations,
    /// What is allowed whatever they are, as far as nothing denies it.
    allowed: Operations,
    /// What is denied or allowed for some key and request.
    deniable: Operations,
    allowable: Operations,
    /// What the conditions look at, each once.
    keys: Vec<ConditionKey>,
}

/// A statement, with what passes it over at once.
#[derive(Debug, Clone)]
struct Rule {
    operations: Operations,
    statement: Arc<Statement>,
    /// For each of the statement's conditions, where its key stands among all keys.
    keys: Box<[usize]>,
    policy: Arc<str>,
    number: usize,
}

/// A request, and what statements look at in it.
pub(super) struct Subject<'a> {
    request: &'a AccessRequest<'a>,
    key_text: &'a str,
    values: [Option<&'a str>; READ_ONCE],
}

/// Which statement decided.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StatementName {
    /// The policy.
    pub policy: Arc<str>,
    /// Which of its statements, from 1.
    pub statement: usize,
}

impl fmt::Display for StatementName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "statement {} of {}", self.statement, self.policy)
    }
}

/// What policies decide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// This statement allows it, and none denies it.
    Allowed(StatementName),
    /// This statement denies it, whatever allows it.
    Denied(StatementName),
    /// No statement applies.
    NotAllowed {
        /// How many speak of the operation, but not of this key or request.
        considered: usize,
    },
}

impl Policies {
    /// No policy: nothing is allowed.
    pub const NONE: Self = Self {
        denies: Vec::new(),
        allows: Vec::new(),
        denied: Operations::NONE,
        allowed: Operations::NONE,
        deniable: Operations::NONE,
        allowable: Operations::NONE,
        keys: Vec::new(),
    };

    /// All of these together.
    pub fn new(policies: impl IntoIterator<Item = Arc<Policy>>) -> Self {
        let mut all = Self::NONE;
        for policy in policies {
            for (number, statement) in (1..).zip(policy.statements()) {
                all.add(policy.name(), number, statement);
            }
        }
        all
    }

    /// A list of actions, each allowed on everything.
    pub fn of(actions: impl IntoIterator<Item = Action>) -> Self {
        let operations = actions.into_iter().map(Operations::of).fold(Operations::NONE, Operations::union);
        Self::new([Arc::new(Policy::allowing(PERMISSIONS, operations))])
    }

    /// Everything that users can be allowed.
    pub fn all() -> Self {
        Self::new([Arc::new(Policy::allowing(PERMISSIONS, Operations::OF_USERS))])
    }

    /// What an operator may do: nothing with keys.
    pub fn operator() -> Self {
        Self::of([Action::RootManage, Action::AuditRead])
    }

    /// What the operator of a log that is witnessed may do at the witness.
    pub fn cosign() -> Self {
        let operations = [OperationName::CosignCheckpoint].into_iter().collect();
        Self::new([Arc::new(Policy::allowing(PERMISSIONS, operations))])
    }

    /// The system policy with this name.
    pub fn system(name: &str) -> Option<Arc<Policy>> {
        system::policies().iter().find(|policy| &**policy.name() == name).cloned()
    }

    fn add(&mut self, policy: &Arc<str>, number: usize, statement: &Arc<Statement>) {
        let operations = statement.operations;
        let keys =
            statement.conditions.iter().map(|condition| place(condition.key(), &mut self.keys)).collect();
        let rule = Rule { operations, statement: statement.clone(), keys, policy: policy.clone(), number };
        match statement.effect {
            Effect::Allow => {
                if statement.is_plain() {
                    self.allowed = self.allowed.union(operations);
                }
                self.allowable = self.allowable.union(operations);
                self.allows.push(rule);
            }
            Effect::Deny => {
                if statement.is_plain() {
                    self.denied = self.denied.union(operations);
                }
                self.deniable = self.deniable.union(operations);
                self.denies.push(rule);
            }
        }
    }

    /// Whether there are a key and a request for which they may allow the operation.
    pub const fn could_allow(&self, operation: OperationName) -> bool {
        self.allowable.contains(operation) && !self.denied.contains(operation)
    }

    /// Whether they allow the operation on every key of the caller's account, whatever the request is.
    pub const fn always_allow(&self, operation: OperationName) -> bool {
        self.allowed.contains(operation) && !self.deniable.contains(operation)
    }

    /// Whether they deny the operation whatever the key and the request are, and so also what a grant allows.
    pub const fn always_deny(&self, operation: OperationName) -> bool {
        self.denied.contains(operation)
    }

    /// What they decide. A deny wins over everything.
    pub fn decide(&self, request: &AccessRequest<'_>) -> Decision {
        let mut buffer = [0; KEY_ID_CHARACTERS];
        let subject = self.subject(request, &mut buffer);
        if let Some(statement) = self.denial(&subject) {
            return Decision::Denied(statement);
        }
        match self.allowance(&subject) {
            Some(statement) => Decision::Allowed(statement),
            None => Decision::NotAllowed { considered: self.considered(request.operation) },
        }
    }

    /// Reads what their statements look at.
    pub(super) fn subject<'a>(
        &self,
        request: &'a AccessRequest<'_>,
        buffer: &'a mut [u8; KEY_ID_CHARACTERS],
    ) -> Subject<'a> {
        let key_text = match request.key.and_then(|key| key.id) {
            Some(id) => id.encode(buffer),
            None => "",
        };
        let mut values = [None; READ_ONCE];
        for (value, key) in values.iter_mut().zip(&self.keys) {
            *value = key.value(request);
        }
        Subject { request, key_text, values }
    }

    /// The first statement that denies it.
    pub(super) fn denial(&self, subject: &Subject<'_>) -> Option<StatementName> {
        self.deniable.contains(subject.request.operation).then(|| first(&self.denies, subject)).flatten()
    }

    /// The first statement that allows it.
    pub(super) fn allowance(&self, subject: &Subject<'_>) -> Option<StatementName> {
        self.allowable.contains(subject.request.operation).then(|| first(&self.allows, subject)).flatten()
    }

    /// How many statements speak of the operation.
    pub(super) fn considered(&self, operation: OperationName) -> usize {
        let rules = self.denies.iter().chain(&self.allows);
        rules.filter(|rule| rule.operations.contains(operation)).count()
    }
}

impl Rule {
    fn applies(&self, subject: &Subject<'_>) -> bool {
        let Subject { request, key_text, values } = subject;
        let mut conditions = self.statement.conditions.iter().zip(&self.keys);
        self.statement.resources.cover(request, key_text)
            && conditions.all(|(condition, place)| {
                let read = values.get(*place).copied();
                condition.holds(read.unwrap_or_else(|| condition.key().value(request)))
            })
    }
}

fn first(rules: &[Rule], subject: &Subject<'_>) -> Option<StatementName> {
    let operation = subject.request.operation;
    let rule = rules.iter().find(|rule| rule.operations.contains(operation) && rule.applies(subject))?;
    Some(StatementName { policy: rule.policy.clone(), statement: rule.number })
}

/// Where `key` stands among `keys`, which it is put to if it is new.
fn place(key: &ConditionKey, keys: &mut Vec<ConditionKey>) -> usize {
    keys.iter().position(|known| known == key).unwrap_or_else(|| {
        keys.push(key.clone());
        keys.len() - 1
    })
}
