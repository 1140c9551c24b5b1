//! What the gateway needs does not grow with an object: the memory of its process is measured around a large one.

use dewpoint_tests::{Dev, ObjectStore};

use super::gateway::{python, succeeds};

/// The object's length in bytes.
const LENGTH: u64 = 64 << 20;
/// What the gateway may have in memory at any time, in MiB.
const MOST_MEMORY: f64 = 40.0;

#[tokio::test(flavor = "multi_thread")]
async fn a_large_object_needs_no_more_memory_than_a_small_one() {
    let dev = Dev::start();
    let mut store = ObjectStore::start(&dev).await;
    succeeds(python("gateway_memory.py").arg(store.description()).arg(LENGTH.to_string()));
    let most = store.most_memory();
    println!("{most:.1} MiB for an object of {} MiB", LENGTH >> 20);
    assert!(most < MOST_MEMORY, "{most} MiB");
    store.stop();
}
