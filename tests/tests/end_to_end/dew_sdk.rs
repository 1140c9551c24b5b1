//! DEW's official clients: every operation of the Python SDK, and the table of what it proves in docs/dew-compat.md.

use std::{
    env,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use dewpoint_tests::{Dev, DevOptions, Module};
use serde_json::{Map, Value};

/// Set it to write the document's table anew.
const WRITE: &str = "DEWPOINT_WRITE_DOCS";

/// What the table begins with; what stands before it in the document is written by hand.
const HEAD: &str = "## Every operation

Made of what `tests/clients/dew_sdk.py` proves: it calls every operation that the official Python SDK has, over TLS, and
checks the types and the values of every answer. `DEWPOINT_WRITE_DOCS=1 cargo test -p dewpoint-tests --test end_to_end
dew_sdk` writes this table anew. `…` is `/v1.0/{project_id}`; codes are those that the suite provokes.

| operation | call | | what is proved | refused with | how it differs, and why |
| --- | --- | --- | --- | --- | --- |
";

/// How many operations DEW has.
const OPERATIONS: usize = 75;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A service for a client of another language.
fn start() -> Dev {
    // Dev mode makes keystores beside a token of its own only.
    let module = Module::SoftHsm2;
    let arguments = ["--clock=manual", "--traffic-control=off", "--keystore=vault", "--keystore=spare"]
        .map(str::to_owned);
    Dev::start_with(DevOptions { module, arguments: arguments.to_vec(), ..DevOptions::default() })
}

/// What a client printed that was told where this service's description lies.
fn told(dev: &Dev, client: &mut Command) -> String {
    let ended = client.arg(dev.directory().join("dev.json")).output();
    let ended = ended.expect("it is there, or scripts/setup.sh test was not run");
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    String::from_utf8(ended.stdout).expect("UTF-8")
}

fn texts(list: &Value) -> Vec<&str> {
    list.as_array().expect("a list").iter().map(|item| item.as_str().expect("a text")).collect()
}

fn line(operation: &str, record: &Value) -> String {
    let call = record["call"].as_str().expect("a text");
    let (method, path) = call.split_once(' ').expect("a method and a path");
    let path = path.replace("/v1.0/{project_id}", "…");
    let differences = record["differences"].as_array().expect("a list").iter();
    let mut differences = differences
        .map(|one| {
            format!("{}: {}", one["how"].as_str().expect("a text"), one["why"].as_str().expect("a text"))
        })
        .collect::<Vec<_>>();
    let verdict = match record["not_offered"].as_str() {
        Some(why) => {
            differences.push(why.to_owned());
            "not offered"
        }
        None if differences.is_empty() => "works",
        None => "differs",
    };
    let codes = texts(&record["refusals"]).iter().map(|code| format!("`{code}`")).collect::<Vec<_>>();
    let (proved, codes, differences) =
        (texts(&record["proved"]).join("; "), codes.join(", "), differences.join("; "));
    format!("| {operation} | {method} `{path}` | {verdict} | {proved} | {codes} | {differences} |")
}

fn table(proved: &Map<String, Value>) -> String {
    let mut text = HEAD.to_owned();
    for (operation, record) in proved {
        writeln!(text, "{}", line(operation, record)).expect("a text");
    }
    text
}

#[test]
fn the_python_sdk_calls_every_operation_and_the_table_says_what_it_proved() {
    let root = root();
    let mut client = Command::new(root.join(".tools/venv/bin/python"));
    client.arg("-B").arg(root.join("tests/clients/dew_sdk.py")).env("PYTHONWARNINGS", "ignore");
    let told = told(&start(), &mut client);
    let proved: Map<String, Value> = serde_json::from_str(&told).expect("JSON");
    assert_eq!(proved.len(), OPERATIONS);
    let path = root.join("docs/dew-compat.md");
    let document = fs::read_to_string(&path).expect("the document exists");
    let heading = HEAD.lines().next().expect("a heading");
    let prose = document.split(heading).next().expect("a text").trim_end();
    let expected = format!("{prose}\n\n{}", table(&proved));
    if env::var_os(WRITE).is_some() {
        fs::write(&path, &expected).expect("the document can be written");
    }
    let document = fs::read_to_string(&path).expect("the document exists");
    let first = document.lines().zip(expected.lines()).find(|(is, proved)| is != proved);
    assert_eq!(first, None, "docs/dew-compat.md says something else than what was proved");
    assert_eq!(document, expected);
}

#[test]
fn the_node_sdk_makes_and_opens_data_keys() {
    let (root, dev) = (root(), start());
    let mut client = Command::new("node");
    client.arg(root.join("tests/clients/node/data_keys.cjs"));
    client
        .env("NODE_PATH", root.join(".tools/node/node_modules"))
        .env("NODE_EXTRA_CA_CERTS", dev.description.ca());
    let told = told(&dev, &mut client); // the SDK's own log, too
    assert!(told.ends_with("data keys made and opened\n"), "{told}");
}
