//! A tracer between the service and its token.

use std::path::{Path, PathBuf};

use dewpoint_test_tokens::Token;

const TRACERS: [&str; 2] =
    ["/usr/lib/x86_64-linux-gnu/pkcs11-spy.so", "/usr/lib/aarch64-linux-gnu/pkcs11-spy.so"];

/// The same token, seen through a tracer that writes every call into `trace`.
pub(crate) fn spied(token: &Token, trace: &Path) -> Token {
    let tracer = TRACERS.iter().map(PathBuf::from).find(|path| path.exists());
    let module = tracer.expect("pkcs11-spy.so is missing: apt-get install opensc-pkcs11");
    let mut environment = token.environment.clone();
    environment.push(("PKCS11SPY", token.module.clone()));
    environment.push(("PKCS11SPY_OUTPUT", trace.to_owned()));
    Token { module, pin_file: token.pin_file.clone(), environment }
}
