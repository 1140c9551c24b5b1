//! A worker's death costs a restart and nothing else: no failed call, no wrong answer, no missing record.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File},
    net::TcpListener,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use dewpoint_tests::{Serve, Supervised, check_log, eventually, has_ended, inject, records, send};
use kms_client::{Client, CreateKeyRequest, KeyReference, ListKeysRequest};
use rustix::process::Signal;
use tokio::{task::JoinSet, time::Instant};

/// How many callers there are at once.
const CALLERS: usize = 16;
/// How many round trips must be answered before the next worker may die.
const ROUND_TRIPS: usize = 100;
/// Far beyond the 2 s that a restart may take, for a machine that does other things too.
const LOOSE_LIMIT: Duration = Duration::from_secs(10);

/// What the callers share.
#[derive(Default)]
struct Load {
    answered: AtomicUsize,
    stop: AtomicBool,
}

impl Load {
    async fn more(&self, count: usize) {
        let goal = self.answered.load(Ordering::Relaxed) + count;
        let more = async || (self.answered.load(Ordering::Relaxed) >= goal).then_some(());
        eventually("answers", more).await;
    }
}

/// Makes and opens data keys until told to stop; answers their names and the longest time of a round trip.
async fn round_trips(
    client: Client,
    caller: usize,
    key: KeyReference,
    load: Arc<Load>,
) -> (Vec<String>, Duration) {
    let (mut names, mut longest) = (Vec::new(), Duration::ZERO);
    while !load.stop.load(Ordering::Relaxed) {
        // The log keeps a context's keys as they are: the name finds the records.
        let name = format!("{caller}-{}", names.len());
        let context = HashMap::from([(name.clone(), String::new())]);
        let begin = Instant::now();
        let made = client.generate_data_key(&key, 32, &context).await.expect("a data key is made");
        let opened = client.decrypt_data_key(&made.ciphertext, None, &context).await.expect("it opens");
        assert_eq!(opened.plaintext.expose(), made.plaintext.expose());
        longest = longest.max(begin.elapsed());
        names.push(name);
        load.answered.fetch_add(1, Ordering::Relaxed);
    }
    (names, longest)
}

/// Makes keys until told to stop; answers their ids.
async fn creations(client: Client, load: Arc<Load>) -> HashSet<String> {
    let mut made = HashSet::new();
    while !load.stop.load(Ordering::Relaxed) {
        let alias = format!("k-{}", made.len());
        let request = CreateKeyRequest { alias, ..CreateKeyRequest::default() };
        assert!(made.insert(client.create_key(request).await.expect("a key is made").key_id));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    made
}

async fn all_keys(client: &Client) -> Vec<String> {
    let (mut keys, mut request) = (Vec::new(), ListKeysRequest::default());
    loop {
        let page = client.list_keys(request.clone()).await.expect("a page");
        keys.extend(page.keys.into_iter().map(|key| key.key_id));
        if page.next_page_token.is_empty() {
            return keys;
        }
        request.page_token = page.next_page_token;
    }
}

/// How a worker ends.
#[derive(Debug, Clone, Copy)]
enum End {
    Killed,
    SegmentationFault,
    /// The module's own code is not there any more when it is called: a real fault, in its thread.
    FaultInModule,
    /// Told to by the supervisor, which was asked for a new worker.
    Replaced,
    /// In order, and nobody asked the supervisor for that.
    ByItself,
}

/// A module that its deployment can lose.
struct Module(PathBuf);

impl Module {
    fn copy(supervised: &Supervised) -> Self {
        let config = fs::read_to_string(supervised.serve.directory().join("dewpoint.toml")).expect("a file");
        let line = config.lines().find(|line| line.starts_with("module = ")).expect("a module");
        let original = line.split('"').nth(1).expect("a path");
        let copy = supervised.serve.directory().join("module.so");
        fs::copy(original, &copy).expect("a copy");
        supervised.configure(original, copy.to_str().expect("a text"));
        Self(copy)
    }

    /// Takes the code away from who has loaded it, and not from who loads it next.
    fn pull_away(&self) {
        let loaded = File::options().write(true).open(&self.0).expect("the module");
        let next = self.0.with_extension("next");
        fs::copy(&self.0, &next).expect("a copy");
        fs::rename(&next, &self.0).expect("renamed");
        loaded.set_len(0).expect("emptied");
    }
}

/// Ends the worker, and waits until it is gone; answers how the supervisor must say that it ended.
async fn end_worker(supervised: &Supervised, module: &Module, end: End) -> &'static str {
    let worker = supervised.worker();
    let how = match end {
        End::Killed => {
            send(worker, Signal::KILL);
            "signal: 9 (SIGKILL)"
        }
        End::SegmentationFault => "signal: 11 (SIGSEGV)",
        End::FaultInModule => {
            module.pull_away();
            "signal: 7 (SIGBUS)"
        }
        End::Replaced => {
            send(supervised.supervisor(), Signal::HUP);
            "exit status: 0"
        }
        End::ByItself => {
            send(worker, Signal::TERM);
            "exit status: 0"
        }
    };
    eventually("the worker's end", async || {
        if matches!(end, End::SegmentationFault) {
            // Rust's own handler takes the first one for a fault that will come again by itself.
            send(worker, Signal::SEGV);
        }
        has_ended(worker).then_some(())
    })
    .await;
    how
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_die_under_load_fail_no_call_and_lose_no_record() {
    let mut supervised = Supervised::prepare();
    let module = Module::copy(&supervised);
    supervised.start(supervised.command()).await;
    let client = supervised.client().await;
    let made = client.create_key(CreateKeyRequest { alias: "load".into(), ..CreateKeyRequest::default() });
    let key_id = made.await.expect("a key").key_id;
    let key = KeyReference::KeyId(key_id.clone());
    let load = Arc::new(Load::default());
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        callers.spawn(round_trips(supervised.client().await, caller, key.clone(), load.clone()));
    }
    let creator = tokio::spawn(creations(supervised.client().await, load.clone()));
    let ends = [End::Killed, End::SegmentationFault, End::FaultInModule, End::Replaced, End::ByItself];
    for (index, end) in ends.into_iter().enumerate() {
        load.more(ROUND_TRIPS).await;
        let begin = Instant::now();
        let how = end_worker(&supervised, &module, end).await;
        client.generate_data_key(&key, 32, &HashMap::new()).await.expect("the next worker answers");
        let back = begin.elapsed();
        eprintln!("{end:?}: answered again {back:?} after");
        assert!(back < LOOSE_LIMIT, "{end:?}: {back:?}");
        supervised.ready(index + 2).await;
        let asked = matches!(end, End::Replaced);
        let message = if asked { "the worker ended as it was told" } else { "the worker died" };
        assert!(supervised.said(message).iter().any(|line| line["how"] == how), "{}", supervised.log());
    }
    load.more(ROUND_TRIPS).await;
    load.stop.store(true, Ordering::Relaxed);
    let callers = callers.join_all().await;
    let longest = callers.iter().map(|(_, longest)| *longest).max();
    let names: Vec<_> = callers.into_iter().flat_map(|(names, _)| names).collect();
    eprintln!("{} round trips, all answered; the longest took {longest:?}", names.len());
    let mut created = creator.await.expect("no creation fails");
    created.insert(key_id);
    let listed = all_keys(&client).await;
    assert_eq!(listed.len(), created.len(), "a creation was done twice, or not at all");
    assert_eq!(HashSet::from_iter(listed), created);
    assert!(supervised.stop().success());
    check_records(&supervised.data_dir(), &names);
}

/// Every answer that a caller got has its record.
fn check_records(data_dir: &Path, names: &[String]) {
    check_log(data_dir);
    let recorded: HashSet<(String, String)> = records(data_dir)
        .into_iter()
        .filter(|record| record["verdict"] == "succeeded")
        .filter_map(|record| {
            let name = record["context"].as_object()?.keys().next()?.clone();
            Some((record["operation"].as_str()?.to_owned(), name))
        })
        .collect();
    for name in names {
        for operation in ["GenerateDataKey", "DecryptDataKey"] {
            let answer = (operation.to_owned(), name.clone());
            assert!(recorded.contains(&answer), "no record of {answer:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_loop_backs_off_says_why_and_ends_with_its_cause() {
    let mut supervised = Supervised::start_new().await;
    let client = supervised.client().await;
    let identity = supervised.serve.directory().join("identity.toml");
    let away = identity.with_extension("away");
    fs::rename(&identity, &away).expect("renamed");
    send(supervised.worker(), Signal::KILL);
    let waiting = tokio::spawn(async move { client.generate_random(16).await });
    let failed = eventually("failed starts", async || {
        let failed = supervised.said("the worker could not start");
        (failed.len() >= 3).then_some(failed)
    })
    .await;
    let waits: Vec<_> = failed.iter().map(|line| line["next_start_in"].as_str().expect("a wait")).collect();
    let doubled = ["100ms", "200ms", "400ms", "800ms", "1.6s", "3.2s"];
    let first = doubled.iter().position(|wait| *wait == waits[0]).expect("a wait of the back-off");
    assert_eq!(waits[..3], doubled[first..first + 3]);
    assert!(failed.iter().all(|line| line["how"] == "exit status: 1" && line["worker"].is_u64()));
    let why = format!("dewpoint: {}: ", identity.display());
    assert!(supervised.log().lines().any(|line| line.starts_with(&why)), "{}", supervised.log());
    fs::rename(&away, &identity).expect("renamed");
    waiting.await.expect("no panic").expect("who called meanwhile has waited, and is answered");
    assert!(supervised.stop().success());
}

/// A hang-up reads all files anew, and only if they can be used.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_is_replaced_on_request_unless_the_next_one_could_not_start() {
    let mut supervised = Supervised::start_new().await;
    let (supervisor, worker) = (supervised.supervisor(), supervised.worker());
    let client = supervised.client().await;
    let identity = supervised.serve.directory().join("identity.toml");
    let text = fs::read_to_string(&identity).expect("a file");
    fs::write(&identity, text.replace("kms:*:*", "kms:*:none")).expect("written");
    send(supervisor, Signal::HUP);
    let refused = async || {
        let said = supervised.said("the worker is not replaced: the next one could not start");
        said.first()?["error"].as_str().map(str::to_owned)
    };
    let error = eventually("a refusal", refused).await;
    assert!(error.contains("identity.toml") && error.contains("kms:*:none"), "{error}");
    client.generate_random(16).await.expect("the worker still answers");
    assert_eq!(supervised.worker(), worker);

    fs::write(&identity, text.replace("kms:*:*", "kms:cmk:get")).expect("written");
    let profile = supervised.serve.directory().join("profile.toml");
    let limits = fs::read_to_string(&profile).expect("a file");
    fs::write(&profile, limits.replace("window = \"second\"", "window = \"moment\"")).expect("written");
    send(supervisor, Signal::HUP);
    let refused = async || {
        let said = supervised.said("the worker is not replaced: the next one could not start");
        said.get(1)?["error"].as_str().map(str::to_owned)
    };
    let error = eventually("another refusal", refused).await;
    assert!(error.contains("profile.toml") && error.contains("moment"), "{error}");
    client.generate_random(16).await.expect("the worker still answers");
    assert_eq!(supervised.worker(), worker);

    fs::write(&profile, limits).expect("written");
    send(supervisor, Signal::HUP);
    supervised.ready(2).await;
    let error = client.generate_random(16).await.expect_err("it is not permitted any more");
    assert_eq!(error.reason(), Some("PERMISSION_DENIED"));
    assert!(has_ended(worker));
    assert!(supervised.stop().success());
}

/// New addresses need a new start: the sockets are the supervisor's.
#[tokio::test(flavor = "multi_thread")]
async fn a_hang_up_with_another_address_leaves_the_worker_alone() {
    let mut supervised = Supervised::start_new().await;
    let worker = supervised.worker();
    let client = supervised.client().await;
    supervised.configure("listen = \"127.0.0.1:0\"", "listen = \"127.0.0.2:0\"");
    send(supervised.supervisor(), Signal::HUP);
    let refused = async || {
        let said = supervised.said("the worker is not replaced: the next one could not start");
        said.first()?["error"].as_str().map(str::to_owned)
    };
    let error = eventually("a refusal", refused).await;
    assert!(error.contains("no address of the configuration"), "{error}");
    client.generate_random(16).await.expect("the worker still answers");
    assert_eq!(supervised.worker(), worker);
    assert!(supervised.stop().success());
}

/// Tokens lock after a few wrong PINs: a supervisor tries one once.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_pin_is_not_tried_again_until_its_file_is_changed() {
    let mut supervised = Supervised::start_new().await;
    let client = supervised.client().await;
    let pin_file = supervised.serve.directory().join("token/pin");
    let pin = fs::read(&pin_file).expect("a PIN");
    fs::write(&pin_file, "not the PIN").expect("written");
    send(supervised.worker(), Signal::KILL);
    let waits =
        "the token refused the PIN; the next worker starts when the PIN's file is changed, or on SIGHUP";
    eventually("a refusal", async || supervised.said(waits).first().map(|_| ())).await;
    // Many times as long as a back-off would wait.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let tried = supervised.log().matches("refused the PIN, tried once").count();
    assert_eq!(tried, 1, "{}", supervised.log());
    fs::write(&pin_file, pin).expect("written");
    client.generate_random(16).await.expect("who called meanwhile has waited, and is answered");
    assert!(supervised.stop().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_supervisor_that_is_told_to_end_ends_its_worker_first() {
    let mut supervised = Supervised::start_new().await;
    let worker = supervised.worker();
    supervised.client().await.generate_random(16).await.expect("an answer");
    assert_eq!(supervised.stop().code(), Some(0));
    assert!(has_ended(worker));
    assert!(supervised.said("the worker died").is_empty(), "{}", supervised.log());
    check_log(&supervised.data_dir());
}

/// The start looks at no signal itself, and this one never ends.
#[tokio::test(flavor = "multi_thread")]
async fn told_to_end_while_its_start_hangs_in_the_module_a_worker_ends() {
    let mut serve = Serve::prepare();
    let faults = serve.directory().join("faults");
    serve.stand_in(&faults, "workers = 1\n");
    let mut supervised = Supervised::prepare_of(serve);
    inject(&faults, "C_Login hang 60000");
    supervised.spawn(supervised.command());
    let module = supervised.serve.token().module.clone();
    eventually("a worker that has loaded the module", async || {
        let maps = format!("/proc/{}/maps", supervised.worker_now()?.as_raw_pid());
        fs::read_to_string(maps).ok()?.contains(module.to_str()?).then_some(())
    })
    .await;
    assert_eq!(supervised.stop().code(), Some(128 + Signal::ABORT.as_raw()), "{}", supervised.log());
    let why = "the start goes on 10s after the process was told to end; this process gives up";
    assert_eq!(supervised.said(why).len(), 1, "{}", supervised.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_does_not_end_as_told_is_killed_by_the_next_signal() {
    let mut supervised = Supervised::start_new().await;
    let (supervisor, worker) = (supervised.supervisor(), supervised.worker());
    send(worker, Signal::STOP);
    eventually("the supervisor's end", async || {
        send(supervisor, Signal::TERM);
        has_ended(supervisor).then_some(())
    })
    .await;
    assert_eq!(supervised.wait().code(), Some(128 + Signal::KILL.as_raw()));
    assert!(has_ended(worker));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_supervisor_that_is_killed_leaves_nothing_behind() {
    let mut supervised = Supervised::start_new().await;
    let address = supervised.ready(1).await;
    let worker = supervised.worker();
    send(supervised.supervisor(), Signal::KILL);
    supervised.wait();
    eventually("the worker's end", async || has_ended(worker).then_some(())).await;
    assert_eq!(supervised.said("the supervisor is gone").len(), 1, "{}", supervised.log());
    check_log(&supervised.data_dir());
    // The same port, the same store, the same log.
    supervised.configure("127.0.0.1:0", &address);
    supervised.start(supervised.command()).await;
    supervised.client().await.generate_random(16).await.expect("an answer");
    assert!(supervised.stop().success());
}

/// The command as systemd starts it when a connection comes: the socket is descriptor 3.
fn activated(command: &Command, socket: &TcpListener) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", "exec 3<&0 </dev/null; export LISTEN_PID=$$ LISTEN_FDS=1; exec \"$@\"", "sh"]);
    shell.arg(command.get_program()).args(command.get_args());
    shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell.stdin(OwnedFd::from(socket.try_clone().expect("a socket")));
    shell
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_of_an_activation_are_taken_over_with_and_without_a_supervisor() {
    let mut supervised = Supervised::prepare();
    // It stays open here: to bind its address again would fail.
    let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = socket.local_addr().expect("an address").to_string();
    supervised.configure("127.0.0.1:0", &address);
    for command in [supervised.command(), supervised.serve.command("serve")] {
        supervised.start(activated(&command, &socket)).await;
        supervised.client().await.generate_random(16).await.expect("an answer");
        assert!(supervised.stop().success());
    }
    supervised.configure(&address, "127.0.0.2:0");
    let strange = activated(&supervised.command(), &socket).output().expect("it runs");
    let said = String::from_utf8_lossy(&strange.stderr);
    assert_eq!(strange.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("{address}, which is no address of the configuration")), "{said}");
}
