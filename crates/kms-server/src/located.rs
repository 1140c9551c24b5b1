//! What is wrong with a file, told with its line.

use std::ops::Range;

use serde::de::DeserializeOwned;
use toml::Spanned;

/// What is wrong, and where.
pub(crate) struct Problem {
    /// Bytes of the text.
    pub at: Range<usize>,
    /// The words.
    pub text: String,
}

impl Problem {
    /// Wrong with this value.
    pub(crate) fn at<T>(place: &Spanned<T>, text: impl Into<String>) -> Self {
        Self { at: place.span(), text: text.into() }
    }

    /// In one line for the operator.
    pub(crate) fn told(&self, text: &str) -> String {
        let line = 1 + text.bytes().take(self.at.start).filter(|byte| *byte == b'\n').count();
        format!("line {line}: {}", self.text)
    }
}

/// Reads TOML, or says what is wrong with its form.
pub(crate) fn parse<T: DeserializeOwned>(text: &str) -> Result<T, Problem> {
    toml::from_str(text)
        .map_err(|error| Problem { at: error.span().unwrap_or_default(), text: error.message().to_owned() })
}
