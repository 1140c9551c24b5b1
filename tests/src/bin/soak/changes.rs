//! Who makes keys, and who disables and enables them.

use std::{sync::Arc, time::Duration};

use kms_client::{Client, CreateKeyRequest, Key, KeyReference, KeySpec, KeyState};
use tokio::time::{Instant, sleep};

use crate::{
    dice::Dice,
    ledger::{Caller, Ledger},
    load::context,
};

const REST: Duration = Duration::from_millis(300);

/// Makes keys until told to stop, and uses each once.
pub(crate) async fn create(client: Client, ledger: Arc<Ledger>) {
    let mut number = 0;
    while ledger.runs() {
        number += 1;
        let spec = if number % 2 == 0 { KeySpec::Aes256 } else { KeySpec::Sm4 };
        let request = CreateKeyRequest {
            alias: format!("new-{number}"),
            key_spec: spec.into(),
            ..CreateKeyRequest::default()
        };
        let begin = Instant::now();
        ledger.called();
        match client.create_key(request).await {
            Ok(key) => acknowledge_creation(&ledger, key),
            Err(error) => {
                ledger.acknowledged().failed_creations += 1;
                ledger.failed(Caller::Retrying, begin, "CreateKey", &error);
            }
        }
        sleep(REST).await;
    }
}

fn acknowledge_creation(ledger: &Ledger, key: Key) {
    let mut acknowledged = ledger.acknowledged();
    *acknowledged.changes.entry(("CreateKey", key.key_id.clone())).or_default() += 1;
    if !acknowledged.created.insert(key.key_id) {
        drop(acknowledged);
        ledger.violation("a key was made twice".to_owned());
    }
}

/// Disables and enables keys of its own in turn, and checks that they refuse while they are disabled.
pub(crate) async fn toggle(client: Client, key_ids: Vec<String>, ledger: Arc<Ledger>, mut dice: Dice) {
    while ledger.runs() {
        let key_id = dice.of(&key_ids);
        for enable in [false, true] {
            if switch(&client, key_id, enable, &ledger).await {
                use_it(&client, key_id, enable, &ledger).await;
            }
        }
        sleep(REST).await;
    }
}

/// Brings the key into the state; says whether that is certain.
async fn switch(client: &Client, key_id: &str, enable: bool, ledger: &Ledger) -> bool {
    let (begin, mut doubtful) = (Instant::now(), false);
    loop {
        ledger.called();
        let (operation, changed, already) = if enable {
            ("EnableKey", client.enable_key(key_id).await, "KEY_NOT_DISABLED")
        } else {
            ("DisableKey", client.disable_key(key_id).await, "KEY_NOT_ENABLED")
        };
        let error = match changed {
            Ok(key) => {
                let mut acknowledged = ledger.acknowledged();
                *acknowledged.changes.entry((operation, key_id.to_owned())).or_default() += 1;
                drop(acknowledged);
                let wanted = if enable { KeyState::Enabled } else { KeyState::Disabled };
                if key.state() != wanted {
                    ledger.violation(format!("{operation} answers {:?}", key.state()));
                }
                return true;
            }
            Err(error) => error,
        };
        // Only who has got no answer can meet what he has done.
        if doubtful && error.reason() == Some(already) {
            return true;
        }
        ledger.failed(Caller::Changing, begin, operation, &error);
        doubtful = true;
        if !ledger.runs() {
            return false;
        }
        sleep(REST).await;
    }
}

async fn use_it(client: &Client, key_id: &str, enabled: bool, ledger: &Ledger) {
    let (key, begin) = (KeyReference::KeyId(key_id.to_owned()), Instant::now());
    ledger.called();
    match client.generate_data_key(&key, 32, &context(0)).await {
        Ok(made) if enabled => ledger.handed_out(made.plaintext.expose()),
        Ok(_) => ledger.violation(format!("{key_id} is disabled, and makes a data key")),
        Err(error) if !enabled && error.reason() == Some("KEY_DISABLED") => {}
        Err(error) => ledger.failed(Caller::Retrying, begin, "GenerateDataKey", &error),
    }
}
