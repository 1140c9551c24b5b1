//! The key-record store: an embedded database behind the store port, with one writer thread that
//! commits for all.
//!
//! Three rules hold throughout, and the tests break the disk to see that they do:
//! an acknowledged transaction survives a loss of power; an error says truthfully whether anything
//! was changed; and no read sees less than what was acknowledged before it began.

mod cache;
mod engine;
mod error;
mod files;
mod limits;
mod queue;
mod store;
mod writer;

pub use engine::EngineKind;
pub use error::OpenError;
pub use store::EmbeddedStore;
