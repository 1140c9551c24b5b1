//! The pool on each PKCS#11 module: the port's contract, the objects' attributes, the calls that reach
//! the module, and every way in which opening can fail.

#[macro_use]
mod support;

mod ceremony;
mod faults;
mod healing;
mod key_pairs;
mod log_key;
mod log_key_faults;
mod moving;
mod objects;
mod opening;
mod pair_faults;
mod pool;
mod token_files;
mod trace;
mod vendor_sm4;
