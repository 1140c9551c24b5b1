//! Support for end-to-end tests: real `dewpoint` processes on real tokens, and clients for them.

mod calls;
mod description;
mod process;

pub use calls::{Clients, Identity, by_alias, by_id, by_service, reason};
pub use description::{Account, Description, User};
pub use process::{Dev, DevOptions, binary};
