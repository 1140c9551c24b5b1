//! Support for end-to-end tests: real `dewpoint` processes on real tokens, and clients for them.
#![allow(
    clippy::missing_panics_doc,
    clippy::unnecessary_debug_formatting,
    reason = "support of tests panics where a test fails, and writes TOML texts"
)]

mod authority;
mod calls;
mod description;
mod dewctl;
mod log;
mod openssl;
mod process;
mod relay;
mod rest;
mod rpc;
mod serve;
mod spy;
mod steps;
mod store;
mod supervised;
mod wait;

pub use authority::{Authority, Validity, expired, valid};
pub use calls::{Clients, Identity, by_alias, by_id, by_service, reason, reflected};
pub use description::{Account, Description, User};
pub use dewctl::Ended;
pub use dewpoint_test_tokens::{Module, inject};
pub use log::{all_changes_ended, check_log, records, records_of};
pub use openssl::Openssl;
pub use process::{Dev, DevOptions, binary, get, most_memory};
pub use relay::Relay;
pub use rest::{Rest, RestAnswer, RestConnection, RestRequest, Signer};
pub use rpc::{Rpc, Subject};
pub use serve::{ACCOUNT, ADMIN, Serve};
pub use steps::{Context, context, malformed_field, refusal, request_id};
pub use store::ObjectStore;
pub use supervised::{Supervised, has_ended, send};
pub use wait::eventually;
