//! An HSM in memory, and what every HSM has to keep to.

mod contract;
mod fake;
mod key_contract;
mod log_key_contract;
mod public_side;
mod software;

pub use contract::{hsm_contract, on_session, sealing_contract};
pub use fake::{FakeCalls, FakeHsm};
pub use key_contract::{import_contract, key_pair_contract, keyed_hash_contract};
pub use log_key_contract::{log_key_contract, missing_log_key_contract};
