//! The stand-in as a program that loads it sees it: through its C interface, before each real module.
#![allow(unsafe_code, reason = "it is a C interface that is tested")]

#[macro_use]
mod client;

mod faults;
mod sm4;
