//! The callers: they make and open data keys, and check every answer.

use std::{collections::HashMap, sync::Arc, time::Duration};

use dewpoint_tests::{Clients, by_id, request_id};
use kms_client::{Client, Code, Error, KeyReference};
use kms_proto::v1::{DecryptDataKeyRequest, GenerateDataKeyRequest};
use tokio::time::{Instant, sleep};
use tonic::{Request, Response, Status};

use crate::{
    dice::Dice,
    ledger::{Caller, Ledger, Operation},
};

/// The longest rest between two calls of one caller.
const LONGEST_REST: u64 = 30;
/// How many of its data keys a caller remembers, to open one of them now and then.
const REMEMBERED: usize = 200;
/// How long a call of a generated client may take: as long as kms-client's.
pub(crate) const DEADLINE: Duration = Duration::from_secs(5);

type Context = HashMap<String, String>;

const GENERATE: Operation = "GenerateDataKey";
const DECRYPT: Operation = "DecryptDataKey";

/// How a caller calls.
#[derive(Clone)]
pub(crate) enum Via {
    Retrying(Client),
    Once(Box<Clients>),
}

/// An answer, and under which id the log keeps it, if that is known.
struct Answer<T> {
    value: T,
    id: Option<String>,
}

/// A data key that was acknowledged.
struct Made {
    name: u64,
    plaintext: Vec<u8>,
    ciphertext: Vec<u8>,
}

/// The log keeps a context's keys as they are: the name finds the records.
pub(crate) fn context(name: u64) -> Context {
    HashMap::from([(format!("{name:x}"), String::new())])
}

fn request<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(DEADLINE);
    request
}

fn named<T>(answer: Result<Response<T>, Status>) -> Result<(T, Option<String>), Error> {
    let response = answer?;
    let id = request_id(&response);
    Ok((response.into_inner(), Some(id)))
}

impl Via {
    const fn caller(&self) -> Caller {
        match self {
            Self::Retrying(_) => Caller::Retrying,
            Self::Once(_) => Caller::Once,
        }
    }

    async fn generate(&mut self, key_id: &str, name: u64) -> Result<Answer<Made>, Error> {
        let context = context(name);
        match self {
            Self::Retrying(client) => {
                let key = KeyReference::KeyId(key_id.to_owned());
                let made = client.generate_data_key(&key, 32, &context).await?;
                let plaintext = made.plaintext.expose().to_vec();
                Ok(Answer { value: Made { name, plaintext, ciphertext: made.ciphertext }, id: None })
            }
            Self::Once(clients) => {
                let key = by_id(key_id);
                let message = GenerateDataKeyRequest {
                    key,
                    length: 32,
                    encryption_context: context,
                    ..Default::default()
                };
                let (made, id) = named(clients.data.generate_data_key(request(message)).await)?;
                let (plaintext, ciphertext) = (made.plaintext.to_vec(), made.ciphertext_blob.to_vec());
                Ok(Answer { value: Made { name, plaintext, ciphertext }, id })
            }
        }
    }

    async fn decrypt(&mut self, ciphertext: &[u8], context: Context) -> Result<Answer<Vec<u8>>, Error> {
        match self {
            Self::Retrying(client) => {
                let opened = client.decrypt_data_key(ciphertext, None, &context).await?;
                Ok(Answer { value: opened.plaintext.expose().to_vec(), id: None })
            }
            Self::Once(clients) => {
                let ciphertext_blob = ciphertext.to_vec().into();
                let message = DecryptDataKeyRequest {
                    ciphertext_blob,
                    key: None,
                    encryption_context: context,
                    ..Default::default()
                };
                let (opened, id) = named(clients.data.decrypt_data_key(request(message)).await)?;
                Ok(Answer { value: opened.plaintext.to_vec(), id })
            }
        }
    }
}

/// One caller.
pub(crate) struct Load {
    pub(crate) via: Via,
    pub(crate) keys: Arc<Vec<String>>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) dice: Dice,
    /// Names of its data keys begin with this.
    pub(crate) number: u64,
}

impl Load {
    /// Calls until told to stop.
    pub(crate) async fn run(mut self) {
        let mut made: Vec<Made> = Vec::new();
        let mut name = self.number << 40;
        while self.ledger.runs() {
            name += 1;
            if let Some(new) = self.generate(name).await {
                if made.len() < REMEMBERED {
                    made.push(new);
                } else {
                    let place = self.dice.index(REMEMBERED);
                    made[place] = new;
                }
            }
            if !made.is_empty() {
                let one = &made[self.dice.index(made.len())];
                if self.dice.between(0, 8) == 0 {
                    self.open_wrongly(one).await;
                } else {
                    self.open(one).await;
                }
            }
            sleep(Duration::from_millis(self.dice.between(0, LONGEST_REST))).await;
        }
        for one in &made {
            self.open(one).await; // whatever happened since, they open
        }
    }

    async fn generate(&mut self, name: u64) -> Option<Made> {
        let (key_id, begin) = (self.dice.of(&self.keys).clone(), Instant::now());
        self.ledger.called();
        let answer = self.via.generate(&key_id, name).await;
        let answer = self.checked(GENERATE, name, begin, answer)?;
        self.ledger.handed_out(&answer.plaintext);
        Some(answer)
    }

    async fn open(&mut self, made: &Made) {
        let begin = Instant::now();
        self.ledger.called();
        let answer = self.via.decrypt(&made.ciphertext, context(made.name)).await;
        if let Some(plaintext) = self.checked(DECRYPT, made.name, begin, answer)
            && plaintext != made.plaintext
        {
            self.ledger.violation(format!("data key {:x} opens to another one", made.name));
        }
    }

    async fn open_wrongly(&mut self, made: &Made) {
        let begin = Instant::now();
        self.ledger.called();
        let context = HashMap::from([(format!("{:x}", made.name), "another".to_owned())]);
        match self.via.decrypt(&made.ciphertext, context).await {
            Ok(_) => {
                self.ledger.violation(format!("data key {:x} opens with a wrong context", made.name));
            }
            Err(Error::Refused(refusal))
                if refusal.code == Code::InvalidArgument && refusal.reason == "CANNOT_DECRYPT" =>
            {
                self.ledger.acknowledged().refused.extend(refusal.request_id);
            }
            Err(error) => self.ledger.failed(self.via.caller(), begin, DECRYPT, &error),
        }
    }

    /// Writes down what the log must say of this answer.
    fn checked<T>(
        &self,
        operation: Operation,
        name: u64,
        begin: Instant,
        answer: Result<Answer<T>, Error>,
    ) -> Option<T> {
        match answer {
            Ok(Answer { value, id }) => {
                let mut acknowledged = self.ledger.acknowledged();
                match id {
                    Some(id) => drop(acknowledged.requests.insert(id, operation)),
                    None => *acknowledged.named.entry((operation, name)).or_default() += 1,
                }
                Some(value)
            }
            Err(error) => {
                self.ledger.failed(self.via.caller(), begin, operation, &error);
                None
            }
        }
    }
}
