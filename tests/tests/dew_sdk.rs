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
checks the types and the values of every answer. `DEWPOINT_WRITE_DOCS=1 cargo test -p dewpoint-tests --test dew_sdk` writes
this table anew. `…` is `/v1.0/{project_id}`; codes are those that the suite provokes.

| operation | call | | what is proved | refused with | how it differs, and why |
| --- | --- | --- | --- | --- | --- |
";

/// How many operations DEW has.
const OPERATIONS: usize = 75;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Runs a client of another language against a service of its own; answers what it printed.
fn run(program: &Path, arguments: &[&Path]) -> String {
    // Dev mode makes keystores beside a token of its own only.
    let module = Module::SoftHsm2;
    let arguments_of_dev = ["--clock=manual", "--traffic-control=off", "--keystore=vault"].map(str::to_owned);
    let dev =
        Dev::start_with(DevOptions { module, arguments: arguments_of_dev.to_vec(), ..DevOptions::default() });
    assert!(program.exists(), "{} is missing: run scripts/setup.sh test", program.display());
    let client = Command::new(program).args(arguments).arg(dev.directory().join("dev.json")).output();
    let client = client.expect("it starts");
    assert!(client.status.success(), "{}", String::from_utf8_lossy(&client.stderr));
    String::from_utf8(client.stdout).expect("UTF-8")
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
    let suite = root.join("tests/clients/dew_sdk.py");
    let told = run(&root.join(".tools/venv/bin/python"), &[Path::new("-B"), &suite]);
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
