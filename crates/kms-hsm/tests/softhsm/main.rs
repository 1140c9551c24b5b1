//! The pool on SoftHSM2: the port's contract, the objects' attributes, the calls that reach the
//! module, and every way in which opening can fail.

mod ceremony;
mod healing;
mod objects;
mod opening;
mod pool;
mod support;
mod trace;
