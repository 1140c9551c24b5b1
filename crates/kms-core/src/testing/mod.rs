//! In-memory fakes of the ports and the contract suites that the fakes and every real adapter pass.

pub mod audit;
pub mod clock;
pub mod hsm;
pub mod store;
