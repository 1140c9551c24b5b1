//! DEW's own REST protocol, beside gRPC and on the same gate, so that DEW's official clients work.
//!
//! [`listener`] accepts connections, [`exchange`] carries one request to its answer, [`routes`] is the table of
//! operations. An operation is one row and two conversions in [`operations`]; what is odd about DEW's values lies in
//! [`forms`], what its errors are called in [`codes`], and how its requests are authenticated in [`credentials`],
//! [`signature`] and [`token`]. The little of IAM that its clients call by themselves stands in [`iam`].

mod answer;
mod codes;
mod credentials;
mod exchange;
mod forms;
pub(crate) mod iam;
mod json;
mod listener;
mod operations;
mod routes;
pub(crate) mod signature;
pub(crate) mod token;

pub(crate) use exchange::Rest;
pub(crate) use listener::serve;
