//! Faults of the module, injected by the stand-in before it: typed errors, and work goes on.

use dewpoint_tests::{Context, Dev, DevOptions, by_alias, refusal};
use tonic::Code;

#[tokio::test(flavor = "multi_thread")]
async fn one_device_error_is_one_refused_call() {
    let mut dev = Dev::start_with(DevOptions { stand_in: true, ..DevOptions::default() });
    let mut admin = dev.user(0, "admin").await;
    admin.create("k").await;
    let before = admin.generate(by_alias("k"), Context::new()).await.expect("no fault yet");
    dev.inject("C_Sign error 0x30 1"); // CKR_DEVICE_ERROR
    let refused = refusal(admin.generate(by_alias("k"), Context::new()).await);
    assert_eq!(refused, (Code::Unavailable, "HSM_UNAVAILABLE".to_owned()));
    admin.generate(by_alias("k"), Context::new()).await.expect("the device works again");
    admin.check_opens(&before).await;
    assert!(dev.stop().success());
}
