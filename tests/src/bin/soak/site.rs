//! The deployment: a supervised service with its token behind the stand-in, and keys of every kind.

use std::{path::PathBuf, time::Duration};

use dewpoint_tests::{Clients, Serve, Supervised, inject};
use kms_client::{Client, CreateKeyRequest, Key, KeySpec, RetryPolicy};

/// What forces evictions and renewals: far fewer loaded keys than there are.
const SMALL: &str = "workers = 2\nloaded_keys = 60\nrenew_after = 5000\n";
/// New AES keys seal in the HSM, and their versions are spent soon.
const IN_HSM: &str = "[hsm.cipher]\naes_256 = \"hsm\"\nbudget = 2000\n";
/// How many keys there are of each kind.
pub(crate) const KEYS_OF_EACH_KIND: usize = 100;

/// The deployment.
pub(crate) struct Site {
    pub(crate) supervised: Supervised,
    faults: PathBuf,
    /// Keys that seal in the service, AES_256 and SM4 in turn, and then those that seal in the HSM.
    pub(crate) keys: Vec<Key>,
}

/// Asks once.
fn once() -> RetryPolicy {
    RetryPolicy { max_tries: 1, ..RetryPolicy::default() }
}

impl Site {
    /// Makes it, with so many keys of each kind.
    pub(crate) async fn open(count: usize) -> Self {
        let mut serve = Serve::prepare();
        let faults = serve.directory().join("faults");
        serve.stand_in(&faults, SMALL);
        let mut supervised = Supervised::prepare_of(serve);
        supervised.start(supervised.command()).await;
        let mut keys = Vec::new();
        for number in 0..2 * count {
            let spec = if number % 2 == 0 { KeySpec::Aes256 } else { KeySpec::Sm4 };
            keys.push(create(&supervised.client().await, &format!("service-{number}"), spec).await);
        }
        assert!(supervised.stop().success(), "{}", supervised.log());
        supervised.serve.configure(&format!("{SMALL}{IN_HSM}"));
        supervised.start(supervised.command()).await;
        let client = supervised.client().await;
        for number in 0..count {
            keys.push(create(&client, &format!("hsm-{number}"), KeySpec::Aes256).await);
        }
        Self { supervised, faults, keys }
    }

    /// A client with the defaults of everyone.
    pub(crate) async fn client(&mut self) -> Client {
        Client::connect(self.supervised.client_config().await).await.expect("the service is there")
    }

    /// A client that asks once and does not wait for long.
    pub(crate) async fn probe(&mut self, deadline: Duration) -> Client {
        let config = self.supervised.client_config().await.retry(once()).deadline(deadline);
        Client::connect(config).await.expect("the service is there")
    }

    /// Generated clients, whose answers name the call in the log.
    pub(crate) async fn generated(&mut self) -> Clients {
        self.supervised.clients().await
    }

    /// One key of each kind: AES_256 and SM4 in the service, AES_256 in the HSM.
    pub(crate) fn one_of_each(&self) -> [String; 3] {
        [&self.keys[0], &self.keys[1], &self.keys[self.keys.len() - 1]].map(|key| key.key_id.clone())
    }

    /// Replaces the faults of the module.
    pub(crate) fn inject(&self, faults: &str) {
        inject(&self.faults, faults);
    }

    /// Where the token is, if that is a directory that can be moved.
    pub(crate) fn token_directory(&self) -> Option<PathBuf> {
        let tokens = self.supervised.serve.directory().join("token/tokens");
        tokens.is_dir().then_some(tokens)
    }
}

async fn create(client: &Client, alias: &str, spec: KeySpec) -> Key {
    let request =
        CreateKeyRequest { alias: alias.to_owned(), key_spec: spec.into(), ..CreateKeyRequest::default() };
    client.create_key(request).await.expect("a key is made")
}
