//! Ciphertexts that were altered, cut, swapped or opened with the wrong key or context.

use dewpoint_tests::{
    Clients, Context, Dev, by_alias, by_id, by_service, context, malformed_field, reason, refusal,
};
use kms_proto::v1::{KeySpec, UpdateKeyAliasRequest};
use tonic::{Code, Status};

/// Where the fields of the header lie: docs/ciphertext-format.md.
const MATERIAL_ID: std::ops::Range<usize> = 4..20;
const VERSION: std::ops::Range<usize> = 20..24;
const HEADER: usize = 52;

fn cannot_decrypt<T>(answer: Result<T, Status>) -> Status {
    let Err(status) = answer else { panic!("this must not open") };
    assert_eq!((status.code(), &*reason(&status)), (Code::InvalidArgument, "CANNOT_DECRYPT"), "{status:?}");
    status
}

/// A key and a ciphertext of one byte under it: the shortest that there is.
async fn shortest(clients: &mut Clients, alias: &str, spec: KeySpec) -> (String, Vec<u8>) {
    let key = clients.create_of(alias, spec).await;
    let sealed = clients.encrypt(by_id(&key.key_id), vec![42], context(&[("bucket", "photos")])).await;
    (key.key_id, sealed.expect("sealed"))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_altered_byte_is_refused_and_only_the_format_and_the_key_are_told_apart() {
    let dev = Dev::start();
    let mut admin = dev.user(0, "admin").await;
    let photos = context(&[("bucket", "photos")]);
    for (alias, spec) in [("aes", KeySpec::Aes256), ("sm4", KeySpec::Sm4)] {
        let (key_id, sealed) = shortest(&mut admin, alias, spec).await;
        let mut messages = Vec::new();
        for position in 0..sealed.len() {
            for mask in [0x01, 0x80] {
                let mut altered = sealed.clone();
                altered[position] ^= mask;
                let unnamed = admin.decrypt(&altered, None, photos.clone()).await;
                let named = admin.decrypt(&altered, by_id(&key_id), photos.clone()).await;
                if position < MATERIAL_ID.start {
                    // 1 and 2 are the algorithms, and neither mask leads from one to the other.
                    assert_eq!(malformed_field(unnamed), "ciphertext_blob", "byte {position}");
                    assert_eq!(malformed_field(named), "ciphertext_blob", "byte {position}");
                    continue;
                }
                messages.push(cannot_decrypt(named).message().to_owned());
                if MATERIAL_ID.contains(&position) {
                    let expected = (Code::NotFound, "KEY_NOT_FOUND".to_owned());
                    assert_eq!(refusal(unnamed), expected, "byte {position}");
                } else {
                    messages.push(cannot_decrypt(unnamed).message().to_owned());
                }
            }
        }
        messages.dedup();
        assert_eq!(messages.len(), 1, "one message for all: {messages:?}");
        assert_eq!(&admin.decrypt(&sealed, None, photos.clone()).await.expect("opens").plaintext[..], [42]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_prefix_and_every_wrong_length_is_refused() {
    let dev = Dev::start();
    let mut admin = dev.user(0, "admin").await;
    for (alias, spec) in [("aes", KeySpec::Aes256), ("sm4", KeySpec::Sm4)] {
        let (key_id, sealed) = shortest(&mut admin, alias, spec).await;
        for length in 0..sealed.len() {
            let cut = admin.decrypt(&sealed[..length], by_id(&key_id), Context::new()).await;
            assert_eq!(malformed_field(cut), "ciphertext_blob", "{length} bytes");
        }
        let longest = admin.encrypt(by_id(&key_id), vec![1; 1024], Context::new()).await.expect("sealed");
        let too_long = [&longest[..], &[0]].concat();
        assert_eq!(malformed_field(admin.decrypt(&too_long, None, Context::new()).await), "ciphertext_blob");
        let lengthened = [&sealed[..], &[0]].concat();
        cannot_decrypt(admin.decrypt(&lengthened, None, context(&[("bucket", "photos")])).await);
        for length in [HEADER + 17, HEADER + 500, longest.len() - 1] {
            cannot_decrypt(admin.decrypt(&longest[..length], None, Context::new()).await);
        }
        let moved = [&longest[..HEADER], &longest[HEADER + 1..], &longest[HEADER..=HEADER]].concat();
        cannot_decrypt(admin.decrypt(&moved, None, Context::new()).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_key_another_algorithm_and_an_unknown_version_open_nothing() {
    let dev = Dev::start();
    let mut admin = dev.user(0, "admin").await;
    let none = Context::new;
    let aes = admin.create("aes").await;
    let (twin, sm4) = (admin.create("twin").await, admin.create_of("sm4", KeySpec::Sm4).await);
    let made = admin.generate(by_id(&aes.key_id), none()).await.expect("made");
    let sealed = made.ciphertext_blob.to_vec();
    admin.generate(by_service("obs"), none()).await.expect("the default key is made");
    for other in [by_id(&twin.key_id), by_id(&sm4.key_id), by_alias("twin"), by_service("obs")] {
        cannot_decrypt(admin.decrypt(&sealed, other, none()).await);
    }
    // The header says that another key sealed it.
    for other in [&twin.key_id, &sm4.key_id] {
        let mut claimed = sealed.clone();
        claimed[MATERIAL_ID].copy_from_slice(&hex::decode(other.replace('-', "")).expect("a UUID"));
        cannot_decrypt(admin.decrypt(&claimed, None, none()).await);
        cannot_decrypt(admin.decrypt(&claimed, by_id(other), none()).await);
    }
    for version in [0u32, 2, u32::MAX] {
        let mut claimed = sealed.clone();
        claimed[VERSION].copy_from_slice(&version.to_be_bytes());
        cannot_decrypt(admin.decrypt(&claimed, None, none()).await);
    }
    let mut swapped = sealed.clone();
    assert_eq!(swapped[2], 1, "AES_256");
    swapped[2] = 2;
    cannot_decrypt(admin.decrypt(&swapped, None, none()).await);
    swapped[2] = 0;
    assert_eq!(malformed_field(admin.decrypt(&swapped, None, none()).await), "ciphertext_blob");
    admin.check_opens(&made).await;
    let unknown = by_id("01890000-0000-7000-8000-000000000000");
    let expected = (Code::NotFound, "KEY_NOT_FOUND".to_owned());
    assert_eq!(refusal(admin.decrypt(&sealed, unknown, none()).await), expected);
    // The right key by each of its names, also by one that it got later.
    admin.decrypt(&sealed, by_alias("aes"), none()).await.expect("opens");
    let rename = UpdateKeyAliasRequest { key_id: aes.key_id, alias: "renamed".into() };
    admin.keys.update_key_alias(rename).await.expect("renamed");
    admin.decrypt(&sealed, by_alias("renamed"), none()).await.expect("opens");
    assert_eq!(refusal(admin.decrypt(&sealed, by_alias("aes"), none()).await), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_very_same_context_opens() {
    let dev = Dev::start();
    let mut admin = dev.user(0, "admin").await;
    let key = admin.create("k").await;
    let given = context(&[("bucket", "photos"), ("object", "a/b.jpg")]);
    let sealed = admin.generate(by_id(&key.key_id), given.clone()).await.expect("made").ciphertext_blob;
    for wrong in [
        context(&[]),
        context(&[("bucket", "photos")]),
        context(&[("bucket", "photos"), ("object", "a/b.jpg"), ("more", "")]),
        context(&[("bucket", "a/b.jpg"), ("object", "photos")]),
        context(&[("photos", "bucket"), ("a/b.jpg", "object")]),
        context(&[("bucket", "photosobject"), ("object", "a/b.jpg")]),
        context(&[("bucket", "Photos"), ("object", "a/b.jpg")]),
        context(&[("bucket", "photos"), ("object", "a/b.jpg ")]),
        context(&[("", "photos"), ("object", "a/b.jpg")]),
    ] {
        cannot_decrypt(admin.decrypt(&sealed, None, wrong.clone()).await);
        cannot_decrypt(admin.decrypt(&sealed, by_id(&key.key_id), wrong).await);
    }
    // A map has no order: the same pairs, put in the other way round, are the same context.
    let reversed = context(&[("object", "a/b.jpg"), ("bucket", "photos")]);
    admin.decrypt(&sealed, None, reversed).await.expect("opens");
    // Sealed without a context, it opens without one only.
    let bare = admin.generate(by_id(&key.key_id), Context::new()).await.expect("made");
    for wrong in [given, context(&[("", "")])] {
        cannot_decrypt(admin.decrypt(&bare.ciphertext_blob, None, wrong).await);
    }
    admin.check_opens(&bare).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_accounts_ciphertext_names_a_key_that_does_not_exist() {
    let dev = Dev::start();
    let (mut owner, mut stranger) = (dev.user(0, "admin").await, dev.user(1, "admin").await);
    let theirs = owner.generate(by_service("obs"), Context::new()).await.expect("made");
    let own = stranger.generate(by_service("obs"), Context::new()).await.expect("made");
    assert_ne!(theirs.key_id, own.key_id);
    let expected = (Code::NotFound, "KEY_NOT_FOUND".to_owned());
    let sealed = &theirs.ciphertext_blob;
    assert_eq!(refusal(stranger.decrypt(sealed, None, Context::new()).await), expected);
    assert_eq!(refusal(stranger.decrypt(sealed, by_id(&theirs.key_id), Context::new()).await), expected);
    cannot_decrypt(stranger.decrypt(sealed, by_service("obs"), Context::new()).await);
    owner.check_opens(&theirs).await;
}
