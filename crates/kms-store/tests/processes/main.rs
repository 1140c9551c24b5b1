//! Processes that are killed, disks that fail under them, and power that is lost.

mod children;
mod failures;
mod power_cut;
#[path = "../support/mod.rs"]
mod support;

/// Not a test of its own: the other tests run this program again, for this one function.
#[test]
fn child() {
    children::run_task();
}
