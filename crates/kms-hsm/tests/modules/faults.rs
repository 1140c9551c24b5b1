//! What the pool makes of a module that fails.

use kms_core::ports::HsmError;

use crate::support::{Token, mac, new_key};

on_each_module!(
    with_faulty_token:
    a_device_error_fails_its_call_and_no_other,
);

fn a_device_error_fails_its_call_and_no_other(token: &Token) {
    let hsm = token.open_new();
    let key = new_key(&hsm);
    let expected = mac(&hsm, &key);
    token.inject("C_Sign error 0x30 1");
    let failed = HsmError::Unavailable { function: "C_Sign", detail: "CKR_DEVICE_ERROR".to_owned() };
    assert_eq!(mac(&hsm, &key), Err(failed));
    assert_eq!(mac(&hsm, &key), expected);
}
