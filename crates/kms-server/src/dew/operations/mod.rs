//! The operations of DEW, by the groups of its documentation.
#![allow(clippy::struct_field_names, reason = "fields are named as DEW names them")]
#![allow(clippy::unnecessary_wraps, reason = "every request is converted by a function of one form")]
#![allow(
    clippy::needless_pass_by_value,
    reason = "every request and answer is converted by a function of one form"
)]

mod account;
mod aliases;
mod data_key_pairs;
mod data_keys;
mod encryption;
mod grants;
mod import;
mod key_spaces;
mod keys;
mod keystores;
mod rotation;
mod signing;
mod tags;

use super::routes::Row;

/// Every operation that is offered, and those that are answered as not offered.
pub(super) fn all() -> Vec<Row> {
    let groups = [
        keys::rows(),
        data_keys::rows(),
        data_key_pairs::rows(),
        encryption::rows(),
        signing::rows(),
        import::rows(),
        grants::rows(),
        tags::rows(),
        aliases::rows(),
        rotation::rows(),
        keystores::rows(),
        account::rows(),
        key_spaces::rows(),
    ];
    groups.into_iter().flatten().collect()
}

/// Somebody, for tests of answers that do not depend on who asks.
#[cfg(test)]
fn anybody() -> kms_core::identity::Caller {
    use kms_core::identity::{Caller, UserId};
    Caller::operator(UserId::parse("admin").expect("a name"), [7; 32], ([127, 0, 0, 1], 4711).into())
}
