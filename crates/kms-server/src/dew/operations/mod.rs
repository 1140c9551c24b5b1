//! The operations of DEW, by the groups of its documentation.
#![allow(
    clippy::needless_pass_by_value,
    reason = "every request and answer is converted by a function of one form"
)]

mod account;
mod aliases;
mod data_keys;
mod grants;
mod key_spaces;
mod keys;
mod keystores;
mod rotation;
mod tags;

use super::routes::Row;

/// Every operation that is offered, and those that are answered as not offered.
pub(super) fn all() -> Vec<Row> {
    [
        keys::rows(),
        data_keys::rows(),
        grants::rows(),
        tags::rows(),
        aliases::rows(),
        rotation::rows(),
        keystores::rows(),
        account::rows(),
        key_spaces::rows(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
