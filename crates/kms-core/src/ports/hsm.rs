//! The hardware security module, as the domain sees it.

use zeroize::Zeroizing;

use crate::{
    key::{BackingKey, BackingKind, MaterialId, WrappedKey},
    secret::SecretBytes,
};

/// One HMAC-SHA256 output that came out of the HSM; wiped on drop.
pub type Mac = Zeroizing<[u8; 32]>;

/// Why the HSM did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HsmError {
    /// The device, the session or the module cannot be used now.
    #[error("the HSM is unavailable: {function}: {detail}")]
    Unavailable {
        /// The C function that failed, as `C_Sign`.
        function: &'static str,
        /// What the module answered, for the operator.
        detail: String,
    },
    /// More work is queued than the HSM can take.
    #[error("the HSM's queue is full")]
    Busy,
    /// A wrapped key was refused by the token: another root, or altered bytes.
    #[error("a wrapped key was refused by the HSM: {function}: {detail}")]
    WrappedKeyRefused {
        /// The C function that failed, as `C_UnwrapKey`.
        function: &'static str,
        /// What the module answered, for the operator.
        detail: String,
    },
    /// The token holds no root key of the generation that wrapped this key.
    #[error("the token has no root key of generation {generation}")]
    RootMissing {
        /// The generation that was asked for.
        generation: u32,
    },
    /// The HSM's cipher refused sealed bytes: altered, or of another key or context. Their fault, not
    /// the device's.
    #[error("the HSM's cipher refused the sealed bytes")]
    NotAuthentic,
    /// The token has no way to do this.
    #[error("the token does not offer {feature}")]
    NotOffered {
        /// What is missing, as `SM4-GCM`.
        feature: &'static str,
    },
    /// Key material or a public point that comes from outside is malformed, or of another kind than it should be.
    #[error("key material is not what it should be: {problem}")]
    InvalidMaterial {
        /// What is wrong with it; never the material itself.
        problem: &'static str,
    },
    /// The answer did not come in time; the call may still be under way.
    #[error("the HSM did not answer in time")]
    TimedOut,
}

/// The hash that a signature is made over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names say it")]
pub enum DigestAlgorithm {
    Sha256,
    Sha384,
    Sha512,
}

impl DigestAlgorithm {
    /// The length of its digests.
    pub const fn bytes(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }
}

/// How a private key signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SigningMechanism {
    /// RSASSA-PKCS1-v1_5. RFC 8017 §8.2.
    RsaPkcs1(DigestAlgorithm),
    /// RSASSA-PSS; MGF1 with the same hash, and a salt as long as the digest. RFC 8017 §8.1.
    RsaPss(DigestAlgorithm),
    /// ECDSA over a digest of any hash; what is longer than the curve's order is cut. FIPS 186-5 §6.4.
    Ecdsa,
    /// Ed25519 over the message itself. RFC 8032 §5.1.
    EdDsa,
}

/// A new key pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPair {
    /// The private key.
    pub wrapped: WrappedKey,
    /// The public key: a SubjectPublicKeyInfo in DER.
    // RFC 5280 §4.1.2.7, with RFC 8017 (RSA), RFC 5480 (EC) and RFC 8410 (Ed25519).
    pub public_key: Vec<u8>,
}

/// The public side of the key that signs the audit log's checkpoints. Each token has its own; it does not move to
/// another token with the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogKey {
    /// The Ed25519 public key. RFC 8032 §5.1.5.
    pub public_key: [u8; 32],
    /// Whether another key of the token vouches for it. `None` where the token itself signs by Ed25519, and where it
    /// signs neither by Ed25519 nor by ECDSA.
    pub certificate: Option<LogKeyCertificate>,
}

/// What a token that has no Ed25519 says of the log key: a P-256 key that cannot leave the token vouches for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogKeyCertificate {
    /// The P-256 public key: a SubjectPublicKeyInfo in DER. RFC 5480 §2.
    pub public_key_der: Vec<u8>,
    /// Its ECDSA-SHA256 signature over the [`statement`](Self::statement): an ECDSA-Sig-Value in DER, another one
    /// whenever the token is opened. RFC 3279 §2.2.3.
    pub signature_der: Vec<u8>,
}

impl LogKeyCertificate {
    /// What is signed: `dewpoint/v1/log-key-certificate`, a zero byte, and the Ed25519 public key.
    pub fn statement(public_key: &[u8; 32]) -> Vec<u8> {
        [&b"dewpoint/v1/log-key-certificate\0"[..], public_key].concat()
    }
}

/// Work for one HSM session: plain synchronous code.
///
/// Gets an error in place of the session when none can be had ([`HsmError::Busy`] or
/// [`HsmError::Unavailable`]). It must not panic and must not wait for anything but the HSM.
pub type HsmJob = Box<dyn FnOnce(Result<&mut dyn HsmSession, HsmError>) + Send>;

/// What kind of key a job makes, for as long as that takes it to find one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Birth {
    /// Milliseconds: a key pair on a curve, or a key of which the token has to be asked first whether it can make it.
    Quick,
    /// Seconds, on some devices a minute: an RSA key pair, for which primes have to be found.
    Slow,
}

/// A pool of HSM sessions, each on a thread of its own.
pub trait Hsm: Send + Sync {
    /// Queues `job` and returns at once. The job runs exactly once: on a worker's thread with its
    /// session, or with an error (then possibly on the calling thread).
    fn submit(&self, job: HsmJob);

    /// The same for a job that makes a key pair. A pool for whose other jobs that would be too long a wait runs one of
    /// these at a time, lets a few wait, and answers [`HsmError::Busy`] to the rest.
    fn submit_birth(&self, _: Birth, job: HsmJob) {
        self.submit(job);
    }

    /// Forgets the loaded handles of all versions of `material`, at once.
    fn evict(&self, material: MaterialId);
}

/// One session with the token. All calls block.
pub trait HsmSession {
    /// Fills `out` from the token's random number generator.
    fn fill_random(&mut self, out: &mut [u8]) -> Result<(), HsmError>;

    /// Makes a backing key inside the token, wraps it under the newest root key, proves that the
    /// wrapped form loads again and computes what the original computes, and destroys the extractable
    /// original. For all secret keys; pairs are made by [`generate_key_pair`](Self::generate_key_pair).
    fn generate_backing_key(&mut self, kind: BackingKind) -> Result<WrappedKey, HsmError>;

    /// The same key wrapped under the newest root key, proved to load as the same key. Inside the
    /// token it exists extractable for as long as this takes.
    fn rewrap_backing_key(&mut self, key: &BackingKey) -> Result<WrappedKey, HsmError>;

    /// Proves that a wrapped key loads and computes. Nothing of what it computes is answered, and no budget of
    /// uses is touched.
    fn prove_backing_key(&mut self, key: &BackingKey) -> Result<(), HsmError>;

    /// HMAC-SHA256 of `input` under a backing key, computed inside the token. Loads the key as a
    /// private, sensitive, non-extractable session object if it is not loaded yet.
    fn mac(&mut self, key: &BackingKey, input: &[u8]) -> Result<Mac, HsmError>;

    /// Seals `plaintext` inside the token with a key of [`BackingKind::Aes256`] or [`BackingKind::Sm4`] in
    /// GCM mode; answers the sealed bytes and the 16-byte tag.
    ///
    /// Uses with random initialisation vectors must stay under 2^32 for each key: the caller counts.
    // NIST SP 800-38D §8.3
    fn seal(
        &mut self,
        key: &BackingKey,
        iv: &[u8; 12],
        associated_data: &[u8],
        plaintext: &[u8],
    ) -> Result<Vec<u8>, HsmError>;

    /// Opens what [`seal`](Self::seal) gave; [`HsmError::NotAuthentic`] if anything about it is different.
    fn open(
        &mut self,
        key: &BackingKey,
        iv: &[u8; 12],
        associated_data: &[u8],
        sealed: &[u8],
    ) -> Result<SecretBytes, HsmError>;

    /// Whether the token makes, wraps, loads and uses keys of this kind. Found out once by doing it: the first
    /// question may take as long as it takes to make such a key.
    fn offers(&mut self, kind: BackingKind) -> Result<bool, HsmError>;

    /// Makes a key pair inside the token, wraps the private key under the newest root key, proves that the
    /// wrapped form loads and signs what the public key verifies, and destroys the extractable original.
    fn generate_key_pair(&mut self, kind: BackingKind) -> Result<KeyPair, HsmError>;

    /// Makes a key pair inside the token and hands both halves out: the private key as PKCS#8 in DER, and the
    /// public key as SubjectPublicKeyInfo. The token keeps nothing of it.
    fn generate_data_key_pair(&mut self, kind: BackingKind) -> Result<(SecretBytes, Vec<u8>), HsmError>;

    /// Signs with a private key: `input` is the digest, or for [`SigningMechanism::EdDsa`] the message.
    ///
    /// The signature of an RSA key is as long as its modulus; ECDSA's is r and s, each as long as the curve's
    /// order; Ed25519's has 64 bytes.
    fn sign(
        &mut self,
        key: &BackingKey,
        mechanism: SigningMechanism,
        input: &[u8],
    ) -> Result<Vec<u8>, HsmError>;

    /// What an RSA key makes of a ciphertext as long as its modulus: the whole block, with its leading zeros.
    /// The caller checks the padding. [`HsmError::NotAuthentic`] for a ciphertext that this key cannot take.
    // RFC 8017 §5.1.2 (RSADP)
    fn decrypt_rsa(&mut self, key: &BackingKey, ciphertext: &[u8]) -> Result<SecretBytes, HsmError>;

    /// What a private key on a curve agrees on with a peer's uncompressed point: the x coordinate, as long as
    /// the field's elements. [`HsmError::InvalidMaterial`] for what is no point of the curve.
    // NIST SP 800-56A §5.7.1.2 (ECC CDH; these curves have the cofactor 1)
    fn agree(&mut self, key: &BackingKey, peer: &[u8]) -> Result<SecretBytes, HsmError>;

    /// The HMAC of `input` with the key's own hash: for [`BackingKind::HmacSha256`] and its siblings.
    fn keyed_hash(&mut self, key: &BackingKey, input: &[u8]) -> Result<Vec<u8>, HsmError>;

    /// Brings a secret key into the token, wraps it as [`generate_backing_key`](Self::generate_backing_key) does,
    /// and leaves nothing else of it there. [`HsmError::InvalidMaterial`] if its length is another one.
    fn import_backing_key(
        &mut self,
        kind: BackingKind,
        material: &SecretBytes,
    ) -> Result<WrappedKey, HsmError>;

    /// The same for a private key, given as PKCS#8 in DER; tells the public key that belongs to it.
    fn import_key_pair(&mut self, kind: BackingKind, private_key: &SecretBytes) -> Result<KeyPair, HsmError>;

    /// HMAC-SHA256 of `input` under the token's authentication key: the key from which the
    /// service's own keys are derived at start (record authentication, context hiding).
    fn authentication_mac(&mut self, input: &[u8]) -> Result<Mac, HsmError>;

    /// The key that signs the log's checkpoints; `None` if the token has none yet.
    fn log_key(&mut self) -> Result<Option<LogKey>, HsmError>;

    /// Makes the key that signs the log's checkpoints, tries it out and writes it to stable storage. If the token has
    /// one, that one is answered.
    fn create_log_key(&mut self) -> Result<LogKey, HsmError>;

    /// Signs exactly these bytes with the log key: an Ed25519 signature that was seen to verify under its public key.
    /// [`HsmError::NotOffered`] if the token has no log key yet.
    // RFC 8032 §5.1.6
    fn sign_checkpoint(&mut self, text: &[u8]) -> Result<[u8; 64], HsmError>;

    /// The generations of the root keys that worked when the token was opened or since, rising; the last one wraps
    /// new keys.
    fn root_generations(&mut self) -> Result<Vec<u32>, HsmError>;

    /// Makes the root key of the next generation, tries it out and writes it to stable storage. From
    /// then on it wraps new keys. Answers its generation.
    fn create_root_key(&mut self) -> Result<u32, HsmError>;

    /// Destroys the root key of a generation: what it wrapped never opens again. The newest one is
    /// refused; one that is not there is no error.
    fn retire_root_key(&mut self, generation: u32) -> Result<(), HsmError>;

    /// Proves that the token works: loads a wrapped key of its own, computes with it, wraps one.
    fn self_test(&mut self) -> Result<(), HsmError>;
}
