//! Rotation of the root key: every key moves, nothing is lost, and the old root key goes last.

mod faults;
mod moving;
mod operators;
mod races;
mod support;
mod tombstones;
