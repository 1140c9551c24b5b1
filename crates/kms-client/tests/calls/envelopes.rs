//! Envelopes whose data keys come from the server.

use std::{collections::HashMap, io::Cursor, path::Path};

use kms_client::{
    Client,
    envelope::{self, RangeReader, Suite},
};

use crate::{context, obs, support::Server};

fn pattern(length: usize) -> Vec<u8> {
    (0..=250).cycle().take(length).collect()
}

async fn encrypted(client: &Client, suite: Suite, plaintext: &[u8]) -> Vec<u8> {
    let mut envelope = Vec::new();
    let done = envelope::encrypt(client, suite, &obs(), &context(), &mut &*plaintext, &mut envelope).await;
    let done = done.expect("memory takes it");
    assert_eq!((done.plaintext_length, done.key_version), (plaintext.len() as u64, 3));
    envelope
}

#[tokio::test]
async fn a_stream_comes_back_whole_and_in_parts() {
    let server = Server::start();
    let client = server.client().await;
    let plaintext = pattern(3 * 65536 + 5);
    for suite in [Suite::Aes256Gcm, Suite::Sm4Gcm] {
        let sealed = encrypted(&client, suite, &plaintext).await;
        let mut opened = Vec::new();
        let length = envelope::decrypt(&client, None, &context(), &mut &*sealed, &mut opened).await;
        assert_eq!(length.expect("it opens"), plaintext.len() as u64);
        assert_eq!(opened, plaintext);

        let mut reader = Cursor::new(sealed);
        let header = envelope::read_header(&mut reader).await.expect("a header");
        let opener = envelope::open(&client, Some(&obs()), &context(), header).await.expect("it opens");
        let mut ranges = RangeReader::new(opener, reader).await.expect("it is whole");
        let mut part = Vec::new();
        ranges.read_range(65530..65540, &mut part).await.expect("it is within");
        assert_eq!(part, plaintext[65530..65540]);
    }
}

#[tokio::test]
async fn another_context_or_sealed_key_opens_nothing() {
    let server = Server::start();
    let client = server.client().await;
    let mut sealed = encrypted(&client, Suite::Aes256Gcm, b"plaintext").await;
    let mut opened = Vec::new();
    let other = HashMap::from([("object".to_owned(), "bucket/other".to_owned())]);
    let error = envelope::decrypt(&client, None, &other, &mut &*sealed, &mut opened).await;
    assert_cannot_decrypt(error.expect_err("another context"));
    sealed[envelope::FIXED_LENGTH] ^= 1;
    let error = envelope::decrypt(&client, None, &context(), &mut &*sealed, &mut opened).await;
    assert_cannot_decrypt(error.expect_err("another sealed key"));
    assert!(opened.is_empty());
}

fn assert_cannot_decrypt(error: envelope::Error) {
    match error {
        envelope::Error::Service(error) => assert_eq!(error.reason(), Some("CANNOT_DECRYPT")),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_file_appears_only_when_all_of_it_is_authentic() {
    let server = Server::start();
    let client = server.client().await;
    let plaintext = pattern(2 * 65536);
    let sealed = encrypted(&client, Suite::Aes256Gcm, &plaintext).await;
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("plain");
    let to_path = async |envelope: &[u8]| {
        envelope::decrypt_to_path(&client, None, &context(), &mut &*envelope, &path).await
    };

    to_path(&sealed[..sealed.len() - 1]).await.expect_err("it was cut off");
    assert_eq!(names(directory.path()), Vec::<String>::new());
    std::fs::write(&path, b"before").expect("a file");
    to_path(&sealed[..100]).await.expect_err("it was cut off");
    assert_eq!(std::fs::read(&path).expect("the old file"), b"before");
    assert_eq!(to_path(&sealed).await.expect("it opens"), plaintext.len() as u64);
    assert_eq!(std::fs::read(&path).expect("the new file"), plaintext);
    assert_eq!(names(directory.path()), ["plain"]);
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).expect("a directory");
    entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("ASCII")).collect()
}
