//! The steps that most tests are made of.

use std::collections::HashMap;

use kms_proto::v1::{
    CreateKeyRequest, DecryptDataKeyRequest, DecryptDataKeyResponse, DescribeKeyRequest,
    EncryptDataKeyRequest, GenerateDataKeyRequest, GenerateDataKeyResponse, Key, KeyReference, KeySpec,
    ListKeysRequest,
};
use tonic::{Code, Response, Status};
use tonic_types::StatusExt as _;

use crate::{Clients, by_id, reason};

/// An encryption context.
pub type Context = HashMap<String, String>;

/// A context of these pairs.
pub fn context(pairs: &[(&str, &str)]) -> Context {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// The code and the reason of what must be a refusal.
///
/// # Panics
/// If it is none.
pub fn refusal<T>(answer: Result<T, Status>) -> (Code, String) {
    let Err(status) = answer else { panic!("this must be refused") };
    (status.code(), reason(&status))
}

/// The field that a refusal as malformed names.
///
/// # Panics
/// If it is no such refusal, or names none or several.
pub fn malformed_field<T>(answer: Result<T, Status>) -> String {
    let Err(status) = answer else { panic!("this must be refused") };
    assert_eq!((status.code(), &*reason(&status)), (Code::InvalidArgument, "INVALID_FIELD"), "{status:?}");
    let details = status.get_error_details();
    let violations = &details.bad_request().expect("a BadRequest").field_violations;
    assert_eq!(violations.len(), 1, "{violations:?}");
    assert!(!violations[0].description.is_empty());
    violations[0].field.clone()
}

/// The id under which the log keeps an answered call.
///
/// # Panics
/// If the answer does not name it.
pub fn request_id<T>(response: &Response<T>) -> String {
    let value = response.metadata().get("x-request-id").expect("every answer names its request");
    value.to_str().expect("a text").to_owned()
}

impl Clients {
    /// Makes an AES-256 key.
    ///
    /// # Panics
    /// If it is refused.
    pub async fn create(&mut self, alias: &str) -> Key {
        self.create_of(alias, KeySpec::Aes256).await
    }

    /// Makes a key of this kind.
    ///
    /// # Panics
    /// If it is refused.
    pub async fn create_of(&mut self, alias: &str, spec: KeySpec) -> Key {
        self.try_create(alias, spec).await.expect("a key is made")
    }

    /// Asks for a key of this kind.
    pub async fn try_create(&mut self, alias: &str, spec: KeySpec) -> Result<Key, Status> {
        let request =
            CreateKeyRequest { alias: alias.into(), key_spec: spec.into(), ..CreateKeyRequest::default() };
        Ok(self.keys.create_key(request).await?.into_inner().key.expect("the answer has the key"))
    }

    /// Describes a key.
    pub async fn describe(&mut self, key: Option<KeyReference>) -> Result<Key, Status> {
        let request = DescribeKeyRequest { key };
        Ok(self.keys.describe_key(request).await?.into_inner().key.expect("the answer has the key"))
    }

    /// Lists all keys, by pages of this size; 0: the default one.
    ///
    /// # Panics
    /// If it is refused, or a page is longer than it may be.
    pub async fn list(&mut self, filter: ListKeysRequest) -> Vec<Key> {
        let longest = if filter.page_size == 0 { 100 } else { filter.page_size as usize };
        let (mut keys, mut request) = (Vec::new(), filter);
        loop {
            let page = self.keys.list_keys(request.clone()).await.expect("a page").into_inner();
            assert!(page.keys.len() <= longest, "{} keys on a page of {longest}", page.keys.len());
            keys.extend(page.keys);
            if page.next_page_token.is_empty() {
                return keys;
            }
            request.page_token = page.next_page_token;
        }
    }

    /// Makes a data key of the default length.
    pub async fn generate(
        &mut self,
        key: Option<KeyReference>,
        encryption_context: Context,
    ) -> Result<GenerateDataKeyResponse, Status> {
        self.generate_bytes(key, 0, encryption_context).await
    }

    /// Makes a data key of this length.
    pub async fn generate_bytes(
        &mut self,
        key: Option<KeyReference>,
        length: u32,
        encryption_context: Context,
    ) -> Result<GenerateDataKeyResponse, Status> {
        let request = GenerateDataKeyRequest { key, length, encryption_context, ..Default::default() };
        Ok(self.data.generate_data_key(request).await?.into_inner())
    }

    /// Seals a data key.
    pub async fn encrypt(
        &mut self,
        key: Option<KeyReference>,
        plaintext: Vec<u8>,
        encryption_context: Context,
    ) -> Result<Vec<u8>, Status> {
        let request = EncryptDataKeyRequest {
            key,
            plaintext: plaintext.into(),
            encryption_context,
            ..Default::default()
        };
        Ok(self.data.encrypt_data_key(request).await?.into_inner().ciphertext_blob.into())
    }

    /// Opens a sealed data key.
    pub async fn decrypt(
        &mut self,
        ciphertext: &[u8],
        key: Option<KeyReference>,
        encryption_context: Context,
    ) -> Result<DecryptDataKeyResponse, Status> {
        let ciphertext_blob = ciphertext.to_vec().into();
        let request =
            DecryptDataKeyRequest { ciphertext_blob, key, encryption_context, ..Default::default() };
        Ok(self.data.decrypt_data_key(request).await?.into_inner())
    }

    /// Opens what was made without a context, and checks that it is the same data key.
    ///
    /// # Panics
    /// If it does not open, or opens to another one.
    pub async fn check_opens(&mut self, made: &GenerateDataKeyResponse) {
        let opened = self.decrypt(&made.ciphertext_blob, by_id(&made.key_id), Context::new()).await;
        assert_eq!(opened.expect("an acknowledged data key opens").plaintext, made.plaintext);
    }
}
