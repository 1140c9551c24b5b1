//! Which module, which token, which keys, and how many sessions.

use std::path::PathBuf;

use crate::mechanisms::VendorSm4;

/// Where the HSM is and how it is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pkcs11Config {
    /// The PKCS#11 module, a shared library.
    pub module: PathBuf,
    /// The label of the token, without the blanks that pad it.
    pub token_label: String,
    /// The file that holds the user's PIN and nothing else but perhaps a newline; only its owner may
    /// be able to read it.
    pub pin_file: PathBuf,
    /// What the labels of the root keys begin with: `<root_label>-1`, `<root_label>-2`, …,
    /// `<root_label>-authentication` and `<root_label>-log`.
    pub root_label: String,
    /// How many threads with a session each; at least 1.
    pub workers: usize,
    /// How many backing keys stay loaded as session objects; at least 1. One takes about 8 KiB in
    /// SoftHSM2.
    pub loaded_keys: usize,
    /// After how many destroyed session objects the module is finalised and initialised again; at least
    /// 1. SoftHSM2 keeps about 245 bytes of each until then: 100,000 are 25 MB.
    pub renew_after: u64,
    /// The vendor's own SM4, if keys may seal with it inside the HSM.
    pub sm4: Option<VendorSm4>,
}

/// A renewal after so many takes 50 to 80 ms on SoftHSM2, in which calls wait, and then each key in use is
/// loaded anew; after ten times as many half a second.
pub const DEFAULT_RENEW_AFTER: u64 = 100_000;

impl Pkcs11Config {
    /// The label of the root key of one generation.
    pub(crate) fn root_key_label(&self, generation: u32) -> String {
        format!("{}-{generation}", self.root_label)
    }

    /// The label of the authentication key.
    pub(crate) fn authentication_key_label(&self) -> String {
        format!("{}-authentication", self.root_label)
    }

    /// The label of the key pair that signs the log's checkpoints, or vouches for the key that does.
    pub(crate) fn log_key_label(&self) -> String {
        format!("{}-log", self.root_label)
    }

    /// The label of the key pair that takes a store over from another token.
    pub(crate) fn transfer_key_label(&self) -> String {
        format!("{}-transfer", self.root_label)
    }
}
