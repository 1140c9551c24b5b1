//! All policies of one user, compiled, and what they decide.

use std::{fmt, sync::Arc};

use super::{AccessRequest, Effect, Operations, Policy, Statement, system};
use crate::{
    key::{KEY_ID_CHARACTERS, KeyId},
    operation::{Action, OperationName},
};

/// What a plain list of permissions is called as a policy.
const PERMISSIONS: &str = "permissions";

/// Policies that hold together. Deciding allocates nothing.
#[derive(Debug, Clone, Default)]
pub struct Policies {
    denies: Vec<Rule>,
    allows: Vec<Rule>,
    /// What is denied whatever the key and the request are.
    denied: Operations,
    /// What is denied or allowed for some key and request.
    deniable: Operations,
    allowable: Operations,
}

/// A statement, with what passes it over at once.
#[derive(Debug, Clone)]
struct Rule {
    operations: Operations,
    statement: Arc<Statement>,
    policy: Arc<str>,
    number: usize,
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
        deniable: Operations::NONE,
        allowable: Operations::NONE,
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
        Self::of([Action::RootManage])
    }

    /// The system policy with this name.
    pub fn system(name: &str) -> Option<Arc<Policy>> {
        system::policies().iter().find(|policy| &**policy.name() == name).cloned()
    }

    fn add(&mut self, policy: &Arc<str>, number: usize, statement: &Arc<Statement>) {
        let operations = statement.operations;
        let rule = Rule { operations, statement: statement.clone(), policy: policy.clone(), number };
        match statement.effect {
            Effect::Allow => {
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

    /// Whether they deny the operation whatever the key and the request are, and so also what a grant allows.
    pub const fn always_deny(&self, operation: OperationName) -> bool {
        self.denied.contains(operation)
    }

    /// What they decide. A deny wins over everything.
    pub fn decide(&self, request: &AccessRequest<'_>) -> Decision {
        if let Some(statement) = self.denial(request) {
            return Decision::Denied(statement);
        }
        match self.allowance(request) {
            Some(statement) => Decision::Allowed(statement),
            None => Decision::NotAllowed { considered: self.considered(request.operation) },
        }
    }

    /// The first statement that denies it.
    pub(super) fn denial(&self, request: &AccessRequest<'_>) -> Option<StatementName> {
        self.deniable.contains(request.operation).then(|| first(&self.denies, request)).flatten()
    }

    /// The first statement that allows it.
    pub(super) fn allowance(&self, request: &AccessRequest<'_>) -> Option<StatementName> {
        self.allowable.contains(request.operation).then(|| first(&self.allows, request)).flatten()
    }

    /// How many statements speak of the operation.
    pub(super) fn considered(&self, operation: OperationName) -> usize {
        let rules = self.denies.iter().chain(&self.allows);
        rules.filter(|rule| rule.operations.contains(operation)).count()
    }
}

fn first(rules: &[Rule], request: &AccessRequest<'_>) -> Option<StatementName> {
    let mut buffer = [0; KEY_ID_CHARACTERS];
    let id: Option<KeyId> = request.key.and_then(|key| key.id);
    let key_text = id.as_ref().map_or("", |id| id.encode(&mut buffer));
    let mut speaking = rules.iter().filter(|rule| rule.operations.contains(request.operation));
    let rule = speaking.find(|rule| rule.statement.applies(request, key_text))?;
    Some(StatementName { policy: rule.policy.clone(), statement: rule.number })
}
