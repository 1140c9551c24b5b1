//! Secrets that come as text, in files and in requests. Those of JSON bodies are read by `dew::json`.

use std::fmt;

use serde::{Deserialize, Deserializer, de::Error as _};
use zeroize::Zeroizing;

/// A secret text: wiped on drop, masked in `Debug`, in no message about its form.
pub(crate) struct SecretText(Zeroizing<String>);

impl SecretText {
    /// Takes the text over.
    pub(crate) fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The same of a text whose buffer has been wiped wherever it was.
    pub(crate) fn from_wiped(text: Zeroizing<String>) -> Self {
        Self(text)
    }

    /// The secret itself.
    pub(crate) fn expose_secret(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText")
    }
}

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The usual message shows the value.
        let text =
            String::deserialize(deserializer).map_err(|_| D::Error::custom("a secret must be a text"))?;
        Ok(Self::new(text))
    }
}
