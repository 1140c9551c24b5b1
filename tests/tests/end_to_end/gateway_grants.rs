//! Who reads and writes encrypted objects, row by row.

use dewpoint_tests::{Dev, ObjectStore};

use super::gateway::python;

#[tokio::test(flavor = "multi_thread")]
async fn an_object_is_reached_with_all_that_its_way_asks_for_and_with_nothing_less() {
    let dev = Dev::start();
    let mut store = ObjectStore::start(&dev).await;
    let ended = python("gateway_grants.py").arg(store.description()).output().expect("it starts");
    let (told, why) = (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    assert!(ended.status.success(), "{told}{why}");
    store.stop();
}
