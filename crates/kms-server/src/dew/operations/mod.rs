//! The operations of DEW, by the groups of its documentation.
#![allow(
    clippy::needless_pass_by_value,
    reason = "every request and answer is converted by a function of one form"
)]

mod data_keys;
mod keys;

use super::routes::Row;

/// Every operation that is offered, and those that are answered as not offered.
pub(super) fn all() -> Vec<Row> {
    [keys::rows(), data_keys::rows()].into_iter().flatten().collect()
}
