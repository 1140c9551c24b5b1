//! The store on a real directory.

mod buckets;
mod lasting;
mod objects;
mod support;
