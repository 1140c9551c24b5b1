//! `kill -9` in the middle of things: nothing acknowledged is lost, nothing half-made is usable.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use dewpoint_tests::{Clients, Dev, by_alias, by_id, check_log, reason};
use kms_proto::v1::{CreateKeyRequest, DecryptDataKeyRequest, GenerateDataKeyRequest};

/// What was acknowledged before the kill.
#[derive(Default)]
struct Acknowledged {
    /// Alias to key id.
    keys: HashMap<String, String>,
    /// Ciphertext and plaintext.
    data_keys: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Makes keys and data keys until the service is gone.
async fn work(mut clients: Clients, name: String, first_key: String, seen: Arc<Mutex<Acknowledged>>) {
    for number in 0.. {
        let alias = format!("{name}-{number}");
        let request = CreateKeyRequest { alias: alias.clone(), ..CreateKeyRequest::default() };
        let Ok(made) = clients.keys.create_key(request).await else { return };
        let key = made.into_inner().key.expect("a key");
        seen.lock().expect("no panic").keys.insert(alias, key.key_id);
        for _ in 0..20 {
            let request =
                GenerateDataKeyRequest { key: by_id(&first_key), ..GenerateDataKeyRequest::default() };
            let Ok(made) = clients.data.generate_data_key(request).await else { return };
            let made = made.into_inner();
            let pair = (made.ciphertext_blob.to_vec(), made.plaintext.to_vec());
            seen.lock().expect("no panic").data_keys.push(pair);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_service_keeps_everything_that_it_acknowledged() {
    let mut dev = Dev::start();
    let mut admin = dev.user(0, "admin").await;
    let request = CreateKeyRequest { alias: "first".into(), ..CreateKeyRequest::default() };
    let first =
        admin.keys.create_key(request).await.expect("created").into_inner().key.expect("a key").key_id;
    let seen = Arc::new(Mutex::new(Acknowledged::default()));
    for round in 0..4 {
        let mut workers = Vec::new();
        for worker in 0..8 {
            let clients = dev.user(0, "admin").await;
            workers.push(tokio::spawn(work(
                clients,
                format!("k-{round}-{worker}"),
                first.clone(),
                seen.clone(),
            )));
        }
        // Any moment will do: the workers are busy all the time.
        tokio::time::sleep(Duration::from_millis(150 + 70 * round)).await;
        dev.kill();
        for worker in workers {
            worker.await.expect("no panic");
        }
        dev.start_again();
        check(&dev, &seen, round).await;
    }
    assert!(dev.stop().success());
    check_log(dev.directory());
}

async fn check(dev: &Dev, seen: &Mutex<Acknowledged>, round: u64) {
    let mut admin = dev.user(0, "admin").await;
    let (keys, data_keys) = {
        let seen = seen.lock().expect("no panic");
        assert!(
            !seen.keys.is_empty() && !seen.data_keys.is_empty(),
            "nothing was acknowledged before the kill"
        );
        (seen.keys.clone(), seen.data_keys.clone())
    };
    for (ciphertext, plaintext) in data_keys {
        let request =
            DecryptDataKeyRequest { ciphertext_blob: ciphertext.into(), ..DecryptDataKeyRequest::default() };
        let opened = admin.data.decrypt_data_key(request).await.expect("opens").into_inner();
        assert_eq!(opened.plaintext, plaintext);
    }
    for (alias, id) in &keys {
        let request = GenerateDataKeyRequest { key: by_alias(alias), ..GenerateDataKeyRequest::default() };
        let made =
            admin.data.generate_data_key(request).await.expect("an acknowledged key works").into_inner();
        assert_eq!(&made.key_id, id);
    }
    // What was not acknowledged is whole or absent.
    for worker in 0..8 {
        let count = keys.keys().filter(|alias| alias.starts_with(&format!("k-{round}-{worker}-"))).count();
        let request = GenerateDataKeyRequest {
            key: by_alias(&format!("k-{round}-{worker}-{count}")),
            ..GenerateDataKeyRequest::default()
        };
        if let Err(refused) = admin.data.generate_data_key(request).await {
            assert_eq!(reason(&refused), "KEY_NOT_FOUND");
        }
    }
}
