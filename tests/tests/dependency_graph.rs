//! Holds the workspace to the dependency graph that ARCHITECTURE.md draws.
//!
//! Only what ships is bound: development dependencies are free, and so is this package.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// The crates of the workspace, each with exactly the other ones that it depends on.
const EDGES: &[(&str, &[&str])] = &[
    ("kms-core", &[]),
    ("kms-hsm", &["kms-core"]),
    ("kms-store", &["kms-core"]),
    ("kms-audit", &["kms-core"]),
    ("kms-proto", &[]),
    ("kms-server", &["kms-core", "kms-hsm", "kms-store", "kms-audit", "kms-proto"]),
    ("kms-sm4", &[]),
    ("kms-client", &["kms-proto", "kms-sm4"]),
    ("kms-cli", &["kms-audit", "kms-client", "kms-hsm"]),
    ("obs-gateway", &["kms-client", "kms-sm4"]),
];

/// Heavy dependencies that one crate fences off from all others.
const FENCES: &[(&str, &str)] = &[
    ("cryptoki", "kms-hsm"),
    ("redb", "kms-store"),
    ("sled", "kms-store"),
    ("governor", "kms-server"),
    ("s3s", "obs-gateway"),
];

/// What the domain must not know: runtimes, wire types, tokens, stores and the operating system.
const FORBIDDEN_IN_CORE: &[&str] =
    &["tokio", "tonic", "prost", "cryptoki", "redb", "sled", "rustix", "hyper"];

/// May depend on anything, because nothing that ships depends on them.
const TESTS: &[&str] =
    &["dewpoint-tests", "dewpoint-test-disks", "dewpoint-test-tokens", "dewpoint-stand-in-module"];

const RULE: &str = "The rule is written in ARCHITECTURE.md, and held by tests/tests/dependency_graph.rs.";

/// The name of each member of the workspace, with what it depends on when it is built to be shipped.
fn shipped_dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .args(["--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml")])
        .output()
        .expect("cargo, which runs this test, can be started");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
    array(&metadata, "packages").iter().map(|package| (name(package), dependencies(package))).collect()
}

fn dependencies(package: &Value) -> BTreeSet<String> {
    array(package, "dependencies").iter().filter(|dependency| dependency["kind"] != "dev").map(name).collect()
}

fn array<'a>(value: &'a Value, field: &str) -> &'a Vec<Value> {
    value[field].as_array().expect("cargo metadata lists packages and dependencies")
}

fn name(value: &Value) -> String {
    value["name"].as_str().expect("cargo metadata names packages and dependencies").to_owned()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn every_member_of_the_workspace_has_its_place_in_the_graph() {
    let members: BTreeSet<String> = shipped_dependencies().into_keys().collect();
    let mut known: BTreeSet<String> = EDGES.iter().map(|(member, _)| (*member).to_owned()).collect();
    known.extend(set(TESTS));
    assert_eq!(members, known, "a crate came or went without its edges. {RULE}");
}

#[test]
fn the_crates_depend_on_each_other_exactly_as_drawn() {
    let graph = shipped_dependencies();
    let members: BTreeSet<String> = graph.keys().cloned().collect();
    let mut faults = Vec::new();
    for (member, drawn) in EDGES {
        let drawn = set(drawn);
        let actual: BTreeSet<String> = graph[*member].intersection(&members).cloned().collect();
        faults.extend(actual.difference(&drawn).map(|other| format!("{member} -> {other} is new")));
        faults.extend(drawn.difference(&actual).map(|other| format!("{member} -> {other} is gone")));
    }
    assert!(faults.is_empty(), "edges differ from those drawn: {faults:?}. {RULE}");
}

#[test]
fn a_fenced_dependency_is_named_by_its_crate_only() {
    for (member, dependencies) in shipped_dependencies() {
        for (fenced, owner) in FENCES {
            let allowed = member == *owner || TESTS.contains(&&*member);
            assert!(
                allowed || !dependencies.contains(*fenced),
                "{member} -> {fenced} is a new edge; only {owner} may name {fenced}. {RULE}"
            );
        }
    }
}

#[test]
fn the_domain_knows_no_runtime_no_wire_and_no_adapter() {
    let core = &shipped_dependencies()["kms-core"];
    for forbidden in FORBIDDEN_IN_CORE {
        assert!(!core.contains(*forbidden), "kms-core -> {forbidden} is a new edge. {RULE}");
    }
}
