//! Each kind of fault, as a caller meets it.

use std::{os::unix::process::ExitStatusExt as _, sync::mpsc, thread, time::Duration};

use cryptoki_sys::{
    CK_RV, CKA_SIGN, CKA_VALUE_LEN, CKM_GENERIC_SECRET_KEY_GEN, CKM_SHA256_HMAC, CKR_DEVICE_ERROR,
    CKR_DEVICE_REMOVED, CKR_OK,
};
use dewpoint_test_tokens::Module;

use crate::client::{Client, again, before_each_module, flag, inject, is_alone, len, mechanism, number};

fn random(client: &Client) -> CK_RV {
    let mut bytes = [0; 16];
    call!(client, C_GenerateRandom(client.session, bytes.as_mut_ptr(), len(&bytes)))
}

#[test]
fn an_error_is_answered_as_often_as_it_says() {
    before_each_module(concat!(module_path!(), "::an_error_is_answered_as_often_as_it_says"), |client| {
        assert_eq!(random(client), CKR_OK, "there is no file");
        inject("C_GenerateRandom error 0x30 2\nC_GenerateRandom error 0x32 1\nC_Sign error 0x5");
        let answers = [(); 5].map(|()| random(client));
        assert_eq!(answers, [CKR_DEVICE_ERROR, CKR_DEVICE_ERROR, CKR_DEVICE_REMOVED, CKR_OK, CKR_OK]);
        inject("* error 0x30");
        assert_eq!(random(client), CKR_DEVICE_ERROR);
        inject("");
        assert_eq!(random(client), CKR_OK);
    });
}

#[test]
fn a_count_holds_for_all_threads_together() {
    before_each_module(concat!(module_path!(), "::a_count_holds_for_all_threads_together"), |client| {
        inject("C_GenerateRandom error 0x30 100");
        let failures = thread::scope(|scope| {
            let calls = || (0..100).filter(|_| random(client) == CKR_DEVICE_ERROR).count();
            let threads = [(); 4].map(|()| scope.spawn(calls));
            threads.into_iter().map(|thread| thread.join().expect("it ends")).sum::<usize>()
        });
        assert_eq!(failures, 100);
    });
}

#[test]
fn a_hanging_call_goes_on_later() {
    before_each_module(concat!(module_path!(), "::a_hanging_call_goes_on_later"), |client| {
        inject("C_GenerateRandom hang 1000 1");
        thread::scope(|scope| {
            let (done, answer) = mpsc::channel();
            scope.spawn(move || done.send(random(client)).expect("the test waits"));
            answer.recv_timeout(Duration::from_millis(200)).expect_err("it hangs");
            assert_eq!(answer.recv(), Ok(CKR_OK));
        });
        assert_eq!(random(client), CKR_OK);
    });
}

#[test]
fn a_crash_is_a_real_one() {
    const SIGSEGV: i32 = 11;
    if is_alone() {
        let client = Client::open();
        inject("C_GenerateRandom crash");
        random(&client);
        return;
    }
    let (mut child, _directory) = again(concat!(module_path!(), "::a_crash_is_a_real_one"), Module::SoftHsm2);
    let ended = child.output().expect("this program runs again");
    assert_eq!(ended.status.signal(), Some(SIGSEGV), "{ended:?}");
}

#[test]
fn an_error_ends_the_operation_as_pkcs_11_says() {
    let test = concat!(module_path!(), "::an_error_ends_the_operation_as_pkcs_11_says");
    before_each_module(test, |client| {
        let mut template = [number(CKA_VALUE_LEN, 32), flag(CKA_SIGN, true)];
        let key = client.generate(CKM_GENERIC_SECRET_KEY_GEN, &mut template).expect("a key");
        let mut hmac = mechanism(CKM_SHA256_HMAC);
        inject("C_Sign error 0x30 1");
        for expected in [CKR_DEVICE_ERROR, CKR_OK] {
            assert_eq!(call!(client, C_SignInit(client.session, &raw mut hmac, key)), CKR_OK);
            let (mut input, mut mac, mut length) = ([7; 8], [0; 32], 32);
            let (data, place) = (input.as_mut_ptr(), mac.as_mut_ptr());
            let answer = call!(client, C_Sign(client.session, data, len(&input), place, &raw mut length));
            assert_eq!(answer, expected);
        }
    });
}
