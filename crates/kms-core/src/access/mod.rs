//! Access: who may do what with which key, and why. Pure: policies, grants and a request in, a ruling out.
//!
//! A user's [`Policy`] documents are compiled into [`Policies`]; [`decide`] adds the grants of the key. The form of the
//! documents and the order of evaluation are written in docs/access.md.

mod condition;
mod document;
mod names;
mod operations;
mod pattern;
mod policies;
mod policy;
mod request;
mod ruling;
mod system;
#[cfg(test)]
mod tests;

pub use condition::{Condition, ConditionKey};
pub use document::PolicyError;
pub use names::action_names;
pub use operations::Operations;
pub use pattern::Pattern;
pub use policies::{Decision, Policies, StatementName};
pub use policy::{Effect, KeyPattern, Policy, Resources, Statement};
pub use request::{AccessRequest, KeyFacts};
pub use ruling::{Asker, Ruling, could_allow, decide};
