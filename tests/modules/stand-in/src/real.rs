//! The real module, loaded once in the life of a process.

use std::sync::LazyLock;

use cryptoki_sys::{CK_FUNCTION_LIST, CKR_OK, Pkcs11};

/// Names the real module.
const MODULE: &str = "STAND_IN_MODULE";

struct Real {
    /// Keeps the functions in memory.
    _library: Pkcs11,
    functions: &'static CK_FUNCTION_LIST,
}

static REAL: LazyLock<Real> = LazyLock::new(|| {
    let path = std::env::var_os(MODULE).expect("STAND_IN_MODULE names the real module");
    // SAFETY: the test that names the module vouches for it.
    let library = unsafe { Pkcs11::new(path) }.expect("the real module loads");
    let mut list = std::ptr::null_mut();
    // SAFETY: `list` is a place for a pointer.
    let answer = unsafe { library.C_GetFunctionList(&raw mut list) };
    assert_eq!(answer, CKR_OK, "the real module gives its functions");
    // SAFETY: PKCS#11 §5.4: the list belongs to the module, and the module is never unloaded.
    let functions = unsafe { list.as_ref() }.expect("a list");
    Real { _library: library, functions }
});

/// The real module's functions.
pub(crate) fn real() -> &'static CK_FUNCTION_LIST {
    REAL.functions
}
