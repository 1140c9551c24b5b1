//! The Dewpoint service: adapters and pipeline put together, the transports of gRPC and of DEW, identity and
//! traffic control. [`server::start`] is the composition root.

mod admin;
mod announced;
mod archiving;
pub mod backup;
mod carriers;
mod clock;
pub mod config;
pub mod dev;
mod dew;
mod floods;
#[doc(hidden)]
pub mod fuzzing;
mod gate;
mod grpc;
mod health;
mod identity;
mod keystores;
pub mod listeners;
mod located;
mod manual_clock;
#[doc(hidden)]
pub mod measuring;
mod metering;
mod metrics;
mod notary;
mod opening;
pub mod password;
mod peer;
mod reading;
mod reloading;
mod rotation;
mod secret_text;
mod serve_error;
pub mod server;
mod sockets;
pub mod start_watch;
pub mod supervisor;
mod tls;
mod traffic;
mod upkeep;
mod usage;
mod witness;
