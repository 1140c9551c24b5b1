//! `kill -9` of the key service under the gateway's load: what was acknowledged is whole, what cannot be done is refused, and
//! the gateway goes on by itself when the service is back.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader},
    process::{ChildStdout, Stdio},
};

use dewpoint_tests::{Dev, ObjectStore, Relay, check_log};

use super::gateway::python;

/// How often the service is killed.
const KILLS: usize = 3;
/// How many answers of each kind have to come before a kill, and refusals before the service is back.
const ANSWERS: usize = 3;
const REFUSALS: usize = 1;
/// Where nobody listens.
const AWAY: &str = "https://127.0.0.1:1";

/// What the client tells, line by line.
struct Told {
    lines: std::io::Lines<BufReader<ChildStdout>>,
    all: Vec<String>,
}

impl Told {
    /// Reads until there were so many lines with each of these beginnings.
    fn until(&mut self, count: usize, beginnings: &[&str]) {
        let mut missing: Vec<usize> = vec![count; beginnings.len()];
        while missing.iter().any(|missing| *missing > 0) {
            let line = self.lines.next().expect("the client goes on").expect("a line");
            for (beginning, missing) in beginnings.iter().zip(&mut missing) {
                if line.starts_with(beginning) {
                    *missing = missing.saturating_sub(1);
                }
            }
            self.all.push(line);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_service_costs_refusals_and_no_object() {
    let mut dev = Dev::start();
    let relay = Relay::before(&dev).await;
    let mut store = ObjectStore::start_with(&dev, &relay.endpoint(), "").await;
    let mut client = python("gateway_outage.py");
    client.args(["load".as_ref(), store.description().as_os_str()]);
    let mut client = client.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
    let lines = BufReader::new(client.stdout.take().expect("a pipe")).lines();
    let mut told = Told { lines, all: Vec::new() };
    let answers = ["put own", "got own", "put under", "got under"];
    for _ in 0..KILLS {
        told.until(ANSWERS, &answers);
        dev.kill();
        told.until(REFUSALS, &["refused put own", "refused got own"]);
        dev.start_again();
        relay.follow(&dev);
    }
    told.until(ANSWERS, &answers);
    drop(client.stdin.take());
    told.all.extend(told.lines.by_ref().map(|line| line.expect("a line")));
    assert!(client.wait().expect("it ends").success(), "something was refused otherwise");

    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("told");
    fs::write(&file, told.all.join("\n")).expect("a file");
    store.stop();
    store.start_again(&dev).await;
    let mut client = python("gateway_outage.py");
    client.args(["check".as_ref(), store.description().as_os_str()]);
    let ended = client.stdin(File::open(&file).expect("a file")).status().expect("it starts");
    assert!(ended.success(), "an object is not whole");
    store.stop();
    check_log(dev.directory());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_away_is_passed_over() {
    let dev = Dev::start();
    let there = format!("also_at = [{:?}]\n", dev.description.endpoint());
    let mut store = ObjectStore::start_with(&dev, AWAY, &there).await;
    let ended = python("gateway_nodes.py").arg(store.description()).output().expect("it starts");
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    store.stop();
}
