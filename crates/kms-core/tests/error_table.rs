//! The table of errors in the contract is complete, and names nothing that no operation answers.

use std::{collections::BTreeSet, fs, path::Path};

/// Where the second column of the table begins.
const REASONS: usize = "//   RESOURCE_EXHAUSTED   ".len();

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect("it is in the repository")
}

fn is_reason(text: &str) -> bool {
    text.len() > 1 && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
}

/// Every reason that an arm of `code` answers.
fn answered() -> BTreeSet<String> {
    let source = read("src/error.rs");
    let arms = source.lines().filter_map(|line| line.split_once(" => \"")?.1.strip_suffix("\","));
    arms.filter(|reason| is_reason(reason)).map(str::to_owned).collect()
}

/// Every reason in the second column of the table.
fn documented() -> BTreeSet<String> {
    let contract = read("../../proto/kms/v1/kms.proto");
    let head = contract.split("syntax =").next().expect("a file has a beginning");
    let table = head.lines().skip_while(|line| !line.starts_with("// ERRORS.")).skip(1);
    let column = table.filter(|line| line.starts_with("//   ")).filter_map(|line| line.get(REASONS..));
    let words =
        column.flat_map(|text| text.split(|letter: char| !letter.is_ascii_alphabetic() && letter != '_'));
    words.filter(|word| is_reason(word)).map(str::to_owned).collect()
}

#[test]
fn the_contract_names_every_reason_and_no_other() {
    let (answered, documented) = (answered(), documented());
    assert!(answered.contains("KEY_NOT_FOUND") && answered.contains("NO_CERTIFICATE"), "{answered:?}");
    let missing: Vec<_> = answered.difference(&documented).collect();
    let unknown: Vec<_> = documented.difference(&answered).collect();
    assert!(missing.is_empty(), "not in the table of kms.proto: {missing:?}");
    assert!(unknown.is_empty(), "only in the table of kms.proto: {unknown:?}");
}
