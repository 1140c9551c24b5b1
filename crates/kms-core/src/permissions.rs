//! What a caller may do by himself.

use std::sync::{Arc, LazyLock};

use crate::{
    access::{Operations, Policies},
    operation::Action,
};

/// What a caller may do: nothing, what operators do or one thing of it, or what policies say.
#[derive(Debug, Clone)]
pub enum Permissions {
    /// Nothing.
    None,
    /// What an operator may: nothing with keys.
    Operator,
    /// To have checkpoints of another log cosigned, and nothing else that operators do.
    Cosign,
    /// What these policies say together.
    Of(Arc<Policies>),
}

static OF_NOBODY: Policies = Policies::NONE;
static OF_OPERATORS: LazyLock<Policies> = LazyLock::new(Policies::operator);
static OF_WITNESSED: LazyLock<Policies> = LazyLock::new(Policies::cosign);

impl Permissions {
    /// Nothing.
    pub const NONE: Self = Self::None;
    /// What an operator may: nothing with keys.
    pub const OPERATOR: Self = Self::Operator;

    /// Everything that users can be allowed.
    pub fn all() -> Self {
        Self::Of(Arc::new(Policies::all()))
    }

    /// As policies.
    pub fn policies(&self) -> &Policies {
        match self {
            Self::None => &OF_NOBODY,
            Self::Operator => &OF_OPERATORS,
            Self::Cosign => &OF_WITNESSED,
            Self::Of(policies) => policies,
        }
    }

    /// Whether they may allow everything that `action` names, on some key.
    pub fn allow(&self, action: Action) -> bool {
        Operations::of(action).iter().all(|operation| self.policies().could_allow(operation))
    }
}

impl FromIterator<Action> for Permissions {
    fn from_iter<I: IntoIterator<Item = Action>>(actions: I) -> Self {
        Self::Of(Arc::new(Policies::of(actions)))
    }
}
