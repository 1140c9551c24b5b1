//! A small object store whose objects are encrypted with data keys of Dewpoint, as OBS does it with those of DEW.
//!
//! [`store`] keeps buckets and objects on a directory, [`format`](mod@format) is what encrypted objects are made of,
//! [`sse`] decides how they are encrypted and gets the data keys, [`gateway`] brings these together, and [`server`]
//! serves them in the words of S3 and of OBS. `docs/object-format.md` describes the bytes, `docs/obs-gateway.md` the
//! service.

pub mod access;
mod chunks;
pub mod clock;
pub mod config;
pub mod credentials;
pub mod format;
mod front;
pub mod gateway;
mod lingering;
mod obs;
mod offered;
mod patience;
mod s3;
pub mod server;
pub mod sse;
pub mod store;
