//! A session with the fake: every call counts, fails if the test wants that, and works in software.

use aes_gcm::aead::{Aead as _, Payload};
use ed25519_dalek::{Signer as _, SigningKey};
use sha2::{Sha256, Sha384, Sha512};

use super::{FakeCalls, Shared, hmac, hmac_sha256, random_key, refused};
use crate::{
    key::{BackingKey, BackingKind, WrappedKey},
    ports::{HsmError, HsmSession, KeyPair, LogKey, Mac, SigningMechanism},
    secret::SecretBytes,
    testing::hsm::software,
};

/// One session with the fake.
pub(super) struct FakeSession<'a> {
    pub(super) shared: &'a Shared,
}

impl FakeSession<'_> {
    /// Counts the call, and fails it if the test wants that.
    fn begin(&self, count: impl FnOnce(&mut FakeCalls) -> &mut u64) -> Result<(), HsmError> {
        let mut state = self.shared.state();
        *count(&mut state.calls) += 1;
        state.failures.pop_front().map_or(Ok(()), Err)
    }

    fn require(&self, kind: BackingKind) -> Result<(), HsmError> {
        let lacks = self.shared.state().lacks.contains(&kind);
        if lacks { Err(HsmError::NotOffered { feature: "keys of this kind" }) } else { Ok(()) }
    }

    /// Works with a private key, once the call was counted; `None` from `work` is of no such key.
    fn with_private_key<T>(
        &self,
        key: &BackingKey,
        otherwise: HsmError,
        work: impl FnOnce(&[u8]) -> Option<T>,
    ) -> Result<T, HsmError> {
        self.begin(|calls| &mut calls.private_key)?;
        let private_key = self.shared.unwrap(&key.wrapped)?;
        let is_pair = secret_bytes(key.kind).is_none();
        if is_pair && software::public_key(key.kind, &private_key).is_none() {
            return Err(refused("the wrapped key is of another kind"));
        }
        work(&private_key).ok_or(otherwise)
    }
}

fn public_side(key: &SigningKey) -> LogKey {
    LogKey { public_key: key.verifying_key().to_bytes(), certificate: None }
}

const NO_SECRET_KEY: HsmError = HsmError::NotOffered { feature: "a key pair as one secret key" };
const NO_KEY_PAIR: HsmError = HsmError::NotOffered { feature: "a secret key as a key pair" };

/// The length of a secret key; `None` for key pairs.
const fn secret_bytes(kind: BackingKind) -> Option<usize> {
    match kind {
        BackingKind::Sm4 => Some(16),
        BackingKind::Mac | BackingKind::Aes256 | BackingKind::HmacSha256 => Some(32),
        BackingKind::HmacSha384 => Some(48),
        BackingKind::HmacSha512 => Some(64),
        _ => None,
    }
}

impl HsmSession for FakeSession<'_> {
    fn fill_random(&mut self, out: &mut [u8]) -> Result<(), HsmError> {
        self.begin(|calls| &mut calls.random)?;
        for (counter, chunk) in out.chunks_mut(32).enumerate() {
            let block = hmac_sha256(&*random_key(), &counter.to_be_bytes());
            chunk.copy_from_slice(&block[..chunk.len()]);
        }
        Ok(())
    }

    fn generate_backing_key(&mut self, kind: BackingKind) -> Result<WrappedKey, HsmError> {
        self.begin(|calls| &mut calls.generate)?;
        self.require(kind)?;
        let length = secret_bytes(kind).ok_or(NO_SECRET_KEY)?;
        self.shared.wrap(&[*random_key(), *random_key()].concat()[..length])
    }

    fn rewrap_backing_key(&mut self, key: &BackingKey) -> Result<WrappedKey, HsmError> {
        self.begin(|calls| &mut calls.rewrap)?;
        let material = self.shared.unwrap(&key.wrapped)?;
        self.shared.wrap(&material)
    }

    fn prove_backing_key(&mut self, key: &BackingKey) -> Result<(), HsmError> {
        self.begin(|calls| &mut calls.mac)?;
        self.shared.unwrap(&key.wrapped).map(drop)
    }

    fn mac(&mut self, key: &BackingKey, input: &[u8]) -> Result<Mac, HsmError> {
        self.begin(|calls| &mut calls.mac)?;
        let material = self.shared.unwrap(&key.wrapped)?;
        Ok(hmac_sha256(&material, input))
    }

    fn seal(
        &mut self,
        key: &BackingKey,
        iv: &[u8; 12],
        associated_data: &[u8],
        plaintext: &[u8],
    ) -> Result<Vec<u8>, HsmError> {
        self.begin(|calls| &mut calls.cipher)?;
        let payload = || Payload { msg: plaintext, aad: associated_data };
        self.shared.cipher(
            key,
            |cipher| cipher.encrypt(&(*iv).into(), payload()),
            |cipher| cipher.encrypt(&(*iv).into(), payload()),
        )
    }

    fn open(
        &mut self,
        key: &BackingKey,
        iv: &[u8; 12],
        associated_data: &[u8],
        sealed: &[u8],
    ) -> Result<SecretBytes, HsmError> {
        self.begin(|calls| &mut calls.cipher)?;
        let payload = || Payload { msg: sealed, aad: associated_data };
        let opened = self.shared.cipher(
            key,
            |cipher| cipher.decrypt(&(*iv).into(), payload()),
            |cipher| cipher.decrypt(&(*iv).into(), payload()),
        );
        opened.map(SecretBytes::new)
    }

    fn offers(&mut self, kind: BackingKind) -> Result<bool, HsmError> {
        self.begin(|calls| &mut calls.administration)?;
        Ok(self.require(kind).is_ok())
    }

    fn generate_key_pair(&mut self, kind: BackingKind) -> Result<KeyPair, HsmError> {
        let (private_key, public_key) = self.generate_data_key_pair(kind)?;
        Ok(KeyPair { wrapped: self.shared.wrap(private_key.expose_secret())?, public_key })
    }

    fn generate_data_key_pair(&mut self, kind: BackingKind) -> Result<(SecretBytes, Vec<u8>), HsmError> {
        self.begin(|calls| &mut calls.generate_pair)?;
        self.require(kind)?;
        let private_key = software::generate(kind).ok_or(NO_KEY_PAIR)?;
        let public_key = software::public_key(kind, private_key.expose_secret()).ok_or(NO_KEY_PAIR)?;
        Ok((private_key, public_key))
    }

    fn sign(
        &mut self,
        key: &BackingKey,
        mechanism: SigningMechanism,
        input: &[u8],
    ) -> Result<Vec<u8>, HsmError> {
        let otherwise = HsmError::NotOffered { feature: "such a signature with this key" };
        self.with_private_key(key, otherwise, |private_key| {
            software::sign(key.kind, private_key, mechanism, input)
        })
    }

    fn decrypt_rsa(&mut self, key: &BackingKey, ciphertext: &[u8]) -> Result<SecretBytes, HsmError> {
        let is_rsa = software::modulus_bits(key.kind).is_some();
        let otherwise = if is_rsa { HsmError::NotAuthentic } else { NO_KEY_PAIR };
        self.with_private_key(key, otherwise, |private_key| {
            software::decrypt(key.kind, private_key, ciphertext)
        })
    }

    fn agree(&mut self, key: &BackingKey, peer: &[u8]) -> Result<SecretBytes, HsmError> {
        let otherwise = match key.kind {
            BackingKind::EcP256 | BackingKind::EcP384 | BackingKind::EcSecp256k1 => {
                HsmError::InvalidMaterial { problem: "no point of the curve" }
            }
            _ => HsmError::NotOffered { feature: "key agreement with this key" },
        };
        self.with_private_key(key, otherwise, |private_key| software::agree(key.kind, private_key, peer))
    }

    fn keyed_hash(&mut self, key: &BackingKey, input: &[u8]) -> Result<Vec<u8>, HsmError> {
        self.begin(|calls| &mut calls.keyed_hash)?;
        let hash: fn(&[u8], &[u8]) -> Vec<u8> = match key.kind {
            BackingKind::HmacSha256 => hmac::<Sha256>,
            BackingKind::HmacSha384 => hmac::<Sha384>,
            BackingKind::HmacSha512 => hmac::<Sha512>,
            _ => return Err(HsmError::NotOffered { feature: "an HMAC with this key" }),
        };
        let material = self.shared.unwrap(&key.wrapped)?;
        if Some(material.len()) != secret_bytes(key.kind) {
            return Err(refused("the wrapped key has another size"));
        }
        Ok(hash(&material, input))
    }

    fn import_backing_key(
        &mut self,
        kind: BackingKind,
        material: &SecretBytes,
    ) -> Result<WrappedKey, HsmError> {
        self.begin(|calls| &mut calls.import)?;
        self.require(kind)?;
        if secret_bytes(kind).ok_or(NO_SECRET_KEY)? != material.len() {
            return Err(HsmError::InvalidMaterial { problem: "another length than such a key" });
        }
        self.shared.wrap(material.expose_secret())
    }

    fn import_key_pair(&mut self, kind: BackingKind, private_key: &SecretBytes) -> Result<KeyPair, HsmError> {
        self.begin(|calls| &mut calls.import)?;
        self.require(kind)?;
        if secret_bytes(kind).is_some() {
            return Err(NO_KEY_PAIR);
        }
        let public_key = software::public_key(kind, private_key.expose_secret())
            .ok_or(HsmError::InvalidMaterial { problem: "no PKCS#8 of such a key" })?;
        Ok(KeyPair { wrapped: self.shared.wrap(private_key.expose_secret())?, public_key })
    }

    fn authentication_mac(&mut self, input: &[u8]) -> Result<Mac, HsmError> {
        self.begin(|calls| &mut calls.authentication_mac)?;
        Ok(hmac_sha256(&*self.shared.authentication, input))
    }

    fn log_key(&mut self) -> Result<Option<LogKey>, HsmError> {
        self.begin(|calls| &mut calls.administration)?;
        Ok(self.shared.log_key().as_ref().map(public_side))
    }

    fn create_log_key(&mut self) -> Result<LogKey, HsmError> {
        self.begin(|calls| &mut calls.administration)?;
        let mut log_key = self.shared.log_key();
        Ok(public_side(log_key.get_or_insert_with(|| SigningKey::from_bytes(&random_key()))))
    }

    fn sign_checkpoint(&mut self, text: &[u8]) -> Result<[u8; 64], HsmError> {
        self.begin(|calls| &mut calls.administration)?;
        let log_key = self.shared.log_key();
        let key = log_key.as_ref().ok_or(HsmError::NotOffered { feature: "a log key: none was made yet" })?;
        Ok(key.sign(text).to_bytes())
    }

    fn root_generations(&mut self) -> Result<Vec<u32>, HsmError> {
        self.begin(|calls| &mut calls.administration)?;
        Ok(self.shared.roots().keys().copied().collect())
    }

    fn create_root_key(&mut self) -> Result<u32, HsmError> {
        self.begin(|calls| &mut calls.administration)?;
        let mut roots = self.shared.roots();
        let generation = roots.last_key_value().map_or(0, |(newest, _)| *newest) + 1;
        roots.insert(generation, random_key());
        Ok(generation)
    }

    fn retire_root_key(&mut self, generation: u32) -> Result<(), HsmError> {
        self.begin(|calls| &mut calls.administration)?;
        let mut roots = self.shared.roots();
        if roots.last_key_value().is_some_and(|(newest, _)| *newest == generation) {
            return Err(HsmError::NotOffered { feature: "retiring the newest root key" });
        }
        roots.remove(&generation);
        Ok(())
    }

    fn self_test(&mut self) -> Result<(), HsmError> {
        self.begin(|calls| &mut calls.administration)
    }
}
