//! A program with a session on a token behind the stand-in, in a process of its own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    ptr,
};

use cryptoki_sys::{
    CK_ATTRIBUTE, CK_ATTRIBUTE_TYPE, CK_C_INITIALIZE_ARGS, CK_FUNCTION_LIST, CK_MECHANISM, CK_MECHANISM_TYPE,
    CK_OBJECT_HANDLE, CK_RV, CK_SESSION_HANDLE, CK_SLOT_ID, CK_ULONG, CKF_OS_LOCKING_OK, CKF_SERIAL_SESSION,
    CKR_OK, CKU_USER, Pkcs11,
};
use dewpoint_test_tokens::{Module, alone, assert_passed, stand_in};
use tempfile::TempDir;

const PIN_FILE: &str = "DEWPOINT_TOKEN_PIN_FILE";
const FAULTS: &str = "STAND_IN_FAULTS";

/// A loaded module with a session that is logged in.
pub(crate) struct Client {
    pub(crate) functions: &'static CK_FUNCTION_LIST,
    pub(crate) slot: CK_SLOT_ID,
    pub(crate) session: CK_SESSION_HANDLE,
}

/// Calls a function of the module.
macro_rules! call {
    ($client:expr, $name:ident($($argument:expr),* $(,)?)) => {
        // SAFETY: the test keeps the rules of PKCS#11.
        unsafe { ($client.functions.$name.expect("a v2.40 list is whole"))($($argument),*) }
    };
}

/// Runs `scenario` before each real module, in the one test of that path and in a process of its own.
pub(crate) fn before_each_module(test: &str, scenario: fn(&Client)) {
    if is_alone() {
        return scenario(&Client::open());
    }
    for module in [Module::SoftHsm2, Module::Kryoptic] {
        let (mut child, _directory) = again(test, module);
        assert_passed(child.output().expect("this program runs again"));
    }
}

/// Whether this is the process of a scenario.
pub(crate) fn is_alone() -> bool {
    std::env::var_os(PIN_FILE).is_some()
}

/// The command that runs this test again with a token behind the stand-in.
pub(crate) fn again(test: &str, module: Module) -> (Command, TempDir) {
    let directory = tempfile::tempdir().expect("a directory");
    let token = module.token(directory.path(), "stand-in").behind_stand_in(&directory.path().join("faults"));
    let mut child = alone(test);
    child.envs(token.environment).env(PIN_FILE, token.pin_file);
    (child, directory)
}

/// Sets the faults of this process.
pub(crate) fn inject(faults: &str) {
    let file = PathBuf::from(std::env::var_os(FAULTS).expect("a scenario has it"));
    dewpoint_test_tokens::inject(&file, faults);
}

impl Client {
    pub(crate) fn open() -> Self {
        let functions = load(&stand_in());
        let mut client = Self { functions, slot: 0, session: 0 };
        let mut arguments = CK_C_INITIALIZE_ARGS {
            CreateMutex: None,
            DestroyMutex: None,
            LockMutex: None,
            UnlockMutex: None,
            flags: CKF_OS_LOCKING_OK,
            pReserved: ptr::null_mut(),
        };
        assert_eq!(call!(client, C_Initialize((&raw mut arguments).cast())), CKR_OK);
        let (mut slots, mut count) = ([0; 8], 8);
        assert_eq!(call!(client, C_GetSlotList(1, slots.as_mut_ptr(), &raw mut count)), CKR_OK);
        client.slot = slots[0];
        client.session = client.new_session();
        let pin_file = std::env::var_os(PIN_FILE).expect("a scenario has it");
        let mut pin = fs::read(pin_file).expect("the token's PIN");
        assert_eq!(call!(client, C_Login(client.session, CKU_USER, pin.as_mut_ptr(), len(&pin))), CKR_OK);
        client
    }

    pub(crate) fn new_session(&self) -> CK_SESSION_HANDLE {
        let mut session = 0;
        let answer = call!(
            self,
            C_OpenSession(self.slot, CKF_SERIAL_SESSION, ptr::null_mut(), None, &raw mut session)
        );
        assert_eq!(answer, CKR_OK);
        session
    }

    pub(crate) fn generate(
        &self,
        kind: CK_MECHANISM_TYPE,
        template: &mut [Value],
    ) -> Result<CK_OBJECT_HANDLE, CK_RV> {
        let (mut mechanism, mut template, mut key) = (mechanism(kind), attributes(template), 0);
        let (count, template) = (len(&template), template.as_mut_ptr());
        answered(
            call!(self, C_GenerateKey(self.session, &raw mut mechanism, template, count, &raw mut key)),
            key,
        )
    }

    pub(crate) fn create(&self, template: &mut [Value]) -> Result<CK_OBJECT_HANDLE, CK_RV> {
        let (mut template, mut object) = (attributes(template), 0);
        let (count, template) = (len(&template), template.as_mut_ptr());
        answered(call!(self, C_CreateObject(self.session, template, count, &raw mut object)), object)
    }

    pub(crate) fn attribute(
        &self,
        object: CK_OBJECT_HANDLE,
        type_: CK_ATTRIBUTE_TYPE,
    ) -> Result<Vec<u8>, CK_RV> {
        let mut value = vec![0; 64];
        let mut attribute =
            CK_ATTRIBUTE { type_, pValue: value.as_mut_ptr().cast(), ulValueLen: len(&value) };
        let answer = call!(self, C_GetAttributeValue(self.session, object, &raw mut attribute, 1));
        answered(answer, ())?;
        value.truncate(usize::try_from(attribute.ulValueLen).expect("it fits"));
        Ok(value)
    }
}

/// `value` if the answer is `CKR_OK`.
pub(crate) fn answered<T>(answer: CK_RV, value: T) -> Result<T, CK_RV> {
    if answer == CKR_OK { Ok(value) } else { Err(answer) }
}

/// An attribute and its value.
pub(crate) type Value = (CK_ATTRIBUTE_TYPE, Vec<u8>);

pub(crate) fn flag(kind: CK_ATTRIBUTE_TYPE, value: bool) -> Value {
    (kind, vec![u8::from(value)])
}

pub(crate) fn number(kind: CK_ATTRIBUTE_TYPE, value: CK_ULONG) -> Value {
    (kind, value.to_ne_bytes().to_vec())
}

pub(crate) fn attributes(template: &mut [Value]) -> Vec<CK_ATTRIBUTE> {
    let attribute = |(kind, value): &mut Value| CK_ATTRIBUTE {
        type_: *kind,
        pValue: value.as_mut_ptr().cast(),
        ulValueLen: len(value),
    };
    template.iter_mut().map(attribute).collect()
}

/// A mechanism without a parameter.
pub(crate) fn mechanism(mechanism: CK_MECHANISM_TYPE) -> CK_MECHANISM {
    CK_MECHANISM { mechanism, pParameter: ptr::null_mut(), ulParameterLen: 0 }
}

pub(crate) fn len<T>(elements: &[T]) -> CK_ULONG {
    elements.len().try_into().expect("it fits")
}

fn load(path: &Path) -> &'static CK_FUNCTION_LIST {
    // SAFETY: the stand-in is a PKCS#11 module.
    let library = unsafe { Pkcs11::new(path) }.expect("the stand-in loads");
    let mut list = ptr::null_mut();
    // SAFETY: `list` is a place for a pointer.
    assert_eq!(unsafe { library.C_GetFunctionList(&raw mut list) }, CKR_OK);
    std::mem::forget(library); // the list lives as long as the module is loaded
    // SAFETY: the module gave its list, and stays.
    unsafe { list.as_ref() }.expect("a list")
}
