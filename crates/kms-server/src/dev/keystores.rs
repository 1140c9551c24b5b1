//! Tokens of keystores in dev mode: further tokens of the directory's own SoftHSM2.
//!
//! SoftHSM2 reads from one place which tokens there are, so each is made apart and moved there. A process can
//! initialise a module file once, so each token has a copy of the file.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use kms_core::identity::KeystoreId;

use super::{DevError, make_token};
use crate::config::KeystoreConfig;

/// The longest label of a token, in bytes.
const MAX_LABEL: usize = 32;

/// A name that can be a token's label and a directory's name.
pub(super) fn parse_name(text: &str) -> Result<String, &'static str> {
    let fits = text.len() <= MAX_LABEL && !text.starts_with('.') && KeystoreId::parse(text).is_some();
    if fits {
        Ok(text.to_owned())
    } else {
        Err("must be 1 to 32 of A-Z a-z 0-9 . _ -, and not begin with a dot")
    }
}

/// Makes what is missing of the token. May be repeated after an interruption.
pub(super) fn make(directory: &Path, name: &str) -> Result<(), DevError> {
    let own = own_directory(directory, name);
    fs::create_dir_all(&own).map_err(|error| DevError::File { path: own.clone(), error })?;
    let module = make_token(&own, name)?;
    move_token(&own.join("tokens"), &directory.join("token"))
        .and_then(|()| copy(&module, &module_file(&own)))
        .map_err(|error| DevError::File { path: own, error })
}

/// As the configuration names it.
pub(super) fn configuration(directory: &Path, name: &str) -> KeystoreConfig {
    let own = own_directory(directory, name);
    KeystoreConfig {
        name: name.to_owned(),
        module: module_file(&own),
        token_label: name.to_owned(),
        pin_file: own.join("pin"),
        workers: 2,
    }
}

fn own_directory(directory: &Path, name: &str) -> PathBuf {
    directory.join("token/keystores").join(name)
}

fn module_file(own: &Path) -> PathBuf {
    own.join("libsofthsm2.so")
}

/// Moves a token that is complete to the others; the copy of its token object goes before it.
fn move_token(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (token, name) = (entry.path(), entry.file_name());
        copy(&token.join("token.object"), &to.join(&name).with_extension("object"))?;
        fs::rename(token, to.join("tokens").join(name))?;
    }
    Ok(())
}

/// A whole copy, or the one that was there before.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let unfinished = to.with_extension("new");
    fs::copy(from, &unfinished)?;
    fs::rename(unfinished, to)
}
