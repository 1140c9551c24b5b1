//! A token for each test, on the module of its choice, used in a process of its own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::mpsc,
};

use cryptoki::{
    context::Pkcs11,
    session::{Session, UserType},
    types::RawAuthPin,
};
use dewpoint_test_tokens::{Module, Token as TestToken, alone, assert_passed};
use kms_core::{
    key::{BackingKey, BackingKind, KeyId, MaterialId, WrappedKey},
    ports::{Hsm, HsmError, HsmSession, Mac},
    testing::hsm::on_session,
};
use kms_hsm::{OpenError, Pkcs11Config, Pkcs11Hsm};
use uuid::Uuid;

/// Set in the process that runs a scenario: the token's directory.
const DIRECTORY: &str = "DEWPOINT_TOKEN_DIRECTORY";
/// Set together with it: the module that the pool loads.
const MODULE: &str = "DEWPOINT_TOKEN_MODULE";

/// The file of the faults, in the token's directory.
const FAULTS: &str = "faults";
/// What strace has seen, there too.
const SYNCS: &str = "syncs";

pub(crate) const LABEL: &str = "dewpoint test";

/// A test of each scenario on each module, as `kryoptic::SCENARIO` and `softhsm2::SCENARIO`.
macro_rules! on_each_module {
    ($run:ident: $($scenario:ident),+ $(,)?) => {
        on_module!(kryoptic, Kryoptic, $run: $($scenario),+);
        on_module!(softhsm2, SoftHsm2, $run: $($scenario),+);
    };
}

/// A test of each scenario on one module.
macro_rules! on_module {
    ($name:ident, $module:ident, $run:ident: $($scenario:ident),+ $(,)?) => {
        mod $name {
            $(
                #[test]
                fn $scenario() {
                    let test = concat!(module_path!(), "::", stringify!($scenario));
                    crate::support::$run(dewpoint_test_tokens::Module::$module, test, super::$scenario);
                }
            )+
        }
    };
}

/// An empty token of the test's own.
pub(crate) struct Token {
    pub(crate) directory: PathBuf,
    pub(crate) module: PathBuf,
}

type Scenario = fn(&Token);

/// Runs `scenario` with a fresh token in a process of its own: in the one test of that path.
pub(crate) fn with_token(module: Module, test: &str, scenario: Scenario) {
    run(module, test, scenario, |token, _| token);
}

/// The same with OpenSC's recorder between the pool and the module: see [`Token::trace`].
pub(crate) fn with_recorded_token(module: Module, test: &str, scenario: Scenario) {
    run(module, test, scenario, |mut token, directory| {
        token.environment.push(("PKCS11SPY", token.module));
        token.environment.push(("PKCS11SPY_OUTPUT", directory.join("trace")));
        token.module = recorder();
        token
    });
}

/// The same with the stand-in between the pool and the module: see [`Token::inject`].
pub(crate) fn with_faulty_token(module: Module, test: &str, scenario: Scenario) {
    run(module, test, scenario, |token, directory| token.behind_stand_in(&directory.join(FAULTS)));
}

/// The same under strace, which tells when the process has all files brought to the disk: see [`Token::syncs`].
pub(crate) fn with_watched_token(module: Module, test: &str, scenario: Scenario) {
    run_through(
        module,
        test,
        scenario,
        |token, _| token,
        |itself, directory| under_strace(&itself, directory),
    );
}

fn run(module: Module, test: &str, scenario: Scenario, between: impl FnOnce(TestToken, &Path) -> TestToken) {
    run_through(module, test, scenario, between, |itself, _| itself);
}

fn run_through(
    module: Module,
    test: &str,
    scenario: Scenario,
    between: impl FnOnce(TestToken, &Path) -> TestToken,
    through: impl FnOnce(Command, &Path) -> Command,
) {
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        let module = std::env::var_os(MODULE).expect("set together with the directory");
        scenario(&Token { directory: directory.into(), module: module.into() });
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let token = between(module.token(directory.path(), LABEL), directory.path());
    let mut child = through(alone(test), directory.path());
    child.envs(token.environment).env(DIRECTORY, directory.path()).env(MODULE, token.module);
    assert_passed(child.output().expect("this program runs again"));
}

fn under_strace(itself: &Command, directory: &Path) -> Command {
    let mut strace = Command::new("strace"); // Debian: apt-get install strace
    strace.args(["-f", "-e", "trace=sync", "-o"]).arg(directory.join(SYNCS));
    strace.arg(itself.get_program()).args(itself.get_args());
    strace
}

fn recorder() -> PathBuf {
    let multiarch = fs::read_dir("/usr/lib").expect("a Linux system").filter_map(Result::ok);
    multiarch
        .map(|entry| entry.path().join("pkcs11-spy.so"))
        .find(|path| path.exists())
        .expect("pkcs11-spy.so is missing: apt-get install opensc-pkcs11")
}

impl Token {
    pub(crate) fn config(&self) -> Pkcs11Config {
        Pkcs11Config {
            module: self.module.clone(),
            token_label: LABEL.to_owned(),
            pin_file: self.directory.join("pin"),
            root_label: "root".to_owned(),
            workers: 2,
            loaded_keys: 16,
            renew_after: kms_hsm::DEFAULT_RENEW_AFTER,
            sm4: None,
        }
    }

    /// The pool on this token, with root keys made for it.
    pub(crate) fn open_new(&self) -> Pkcs11Hsm {
        Pkcs11Hsm::create_root_keys(&self.config()).expect("a fresh token");
        Pkcs11Hsm::open(&self.config()).expect("a token with root keys")
    }

    pub(crate) fn pin(&self) -> String {
        fs::read_to_string(self.directory.join("pin")).expect("the token's PIN")
    }

    /// The module, seen directly. It has to be initialised by the pool or by the test.
    pub(crate) fn module(&self) -> Pkcs11 {
        Pkcs11::new(&self.module).expect("the module loads")
    }

    /// A writable session beside those of the pool, logged in with them.
    pub(crate) fn session(&self) -> Session {
        let module = self.module();
        let slot = module.get_slots_with_initialized_token().expect("slots")[0];
        module.open_rw_session(slot).expect("a session")
    }

    /// Lets `work` change the token, with no pool open.
    pub(crate) fn with_raw_session(&self, work: impl FnOnce(&Session)) {
        use cryptoki::context::{CInitializeArgs, CInitializeFlags};
        let module = self.module();
        module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)).expect("the module starts");
        let session = self.session();
        let pin = RawAuthPin::new(Box::new(self.pin().into_bytes()));
        session.login_with_raw(UserType::User, &pin).expect("the token's PIN");
        work(&session);
        drop(session);
        module.finalize().expect("nothing is open");
    }

    /// Replaces the faults that the calls of this process meet.
    pub(crate) fn inject(&self, faults: &str) {
        dewpoint_test_tokens::inject(&self.directory.join(FAULTS), faults);
    }

    /// How often this process had all files brought to the disk so far.
    pub(crate) fn syncs(&self) -> usize {
        let seen = fs::read_to_string(self.directory.join(SYNCS)).expect("strace writes it");
        seen.lines().filter(|line| line.contains("sync()")).count()
    }

    /// The C functions that were called so far, in order.
    pub(crate) fn trace(&self) -> Vec<String> {
        let trace = fs::read(self.directory.join("trace")).expect("the recorder writes it");
        let call = |line: &str| {
            let (number, function) = line.trim().split_once(": ")?;
            (number.parse::<u64>().is_ok() && function.starts_with("C_")).then(|| function.to_owned())
        };
        String::from_utf8_lossy(&trace).lines().filter_map(call).collect()
    }
}

pub(crate) fn open_error(token: &Token) -> OpenError {
    Pkcs11Hsm::open(&token.config()).expect_err("this token must be refused")
}

pub(crate) fn new_material() -> MaterialId {
    MaterialId::of(KeyId::from_uuid(Uuid::new_v4()))
}

pub(crate) fn new_wrapped(hsm: &dyn Hsm) -> WrappedKey {
    on_session(hsm, |session| session.generate_backing_key(BackingKind::Mac)).expect("a backing key")
}

pub(crate) fn new_key(hsm: &dyn Hsm) -> BackingKey {
    BackingKey { material: new_material(), version: 1, kind: BackingKind::Mac, wrapped: new_wrapped(hsm) }
}

/// Runs `work` as a job, also when there may be no session for it.
pub(crate) fn ask<T: Send + 'static>(
    hsm: &dyn Hsm,
    work: impl FnOnce(&mut dyn HsmSession) -> Result<T, HsmError> + Send + 'static,
) -> Result<T, HsmError> {
    let (done, answer) = mpsc::channel();
    hsm.submit(Box::new(move |session| {
        done.send(session.and_then(work)).expect("the test waits");
    }));
    answer.recv().expect("a job answers")
}

pub(crate) fn mac(hsm: &dyn Hsm, key: &BackingKey) -> Result<Mac, HsmError> {
    let key = key.clone();
    on_session(hsm, move |session| session.mac(&key, b"input"))
}
