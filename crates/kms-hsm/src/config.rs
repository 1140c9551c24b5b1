//! Which module, which token, which keys, and how many sessions.

use std::path::PathBuf;

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
    /// What the labels of the root keys begin with: `<root_label>-1`, `<root_label>-2`, … and
    /// `<root_label>-authentication`.
    pub root_label: String,
    /// How many threads with a session each; at least 1.
    pub workers: usize,
    /// How many backing keys stay loaded as session objects; at least 1. One takes about 8 KiB in
    /// SoftHSM2.
    pub loaded_keys: usize,
}

impl Pkcs11Config {
    /// The label of the root key of one generation.
    pub(crate) fn root_key_label(&self, generation: u32) -> String {
        format!("{}-{generation}", self.root_label)
    }

    /// The label of the authentication key.
    pub(crate) fn authentication_key_label(&self) -> String {
        format!("{}-authentication", self.root_label)
    }
}
