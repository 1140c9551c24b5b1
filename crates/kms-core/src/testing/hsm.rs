//! An HSM in memory, and what every HSM has to keep to.

mod contract;
mod fake;

pub use contract::{hsm_contract, on_session, sealing_contract};
pub use fake::{FakeCalls, FakeHsm};
