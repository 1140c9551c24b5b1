//! Who reads and writes encrypted objects, row by row.

use dewpoint_tests::{Context, Dev, ObjectStore, by_service};

use super::gateway::python;

#[tokio::test(flavor = "multi_thread")]
async fn an_object_is_reached_with_all_that_its_way_asks_for_and_with_nothing_less() {
    let dev = Dev::start();
    let mut store = ObjectStore::start(&dev).await;
    let of_other_service = dev.user(0, "admin").await.generate(by_service("evs"), Context::new()).await;
    let of_other_service = of_other_service.expect("made at its first use").key_id;
    let mut client = python("gateway_grants.py");
    let ended = client.arg(store.description()).arg(of_other_service).output().expect("it starts");
    let (told, why) = (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    assert!(ended.status.success(), "{told}{why}");
    store.stop();
}
