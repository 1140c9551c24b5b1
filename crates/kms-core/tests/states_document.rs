//! docs/states.md is made of the table of states, and is what the code does.

use std::{env, fmt::Write as _, fs, path::Path};

use kms_core::{
    key::KeyState,
    operation::OperationName,
    states::{Effect, STATES, row},
};

/// Set it to write the document anew.
const WRITE: &str = "DEWPOINT_WRITE_DOCS";

const HEAD: &str = "# Operations and states

What each operation does to a key in each state, or why it refuses. Made of the table in `crates/kms-core/src/states.rs`,
which is all that operations ask; a test compares the two. Each cell is held by a call that is really made: by
`every_operation_in_every_state_does_what_the_table_says` (`crates/kms-core/tests/pipeline/states.rs`) for what users call,
on a key that can have the operation, and by `every_operation_of_the_service_itself_in_every_state_does_what_the_table_says`
(`crates/kms-core/src/upkeep/tests/states.rs`) for what the service does by itself. Both also prove that a refusal changes
nothing.
`DEWPOINT_WRITE_DOCS=1 cargo test -p kms-core --test states_document` writes this file anew.

A dash means that the state stays; an arrow leads to the next state; everything else is the error that refuses the
call. Before the state is looked at, it is checked whether the caller may do this at all (`PERMISSION_DENIED`), and
whether the key exists for it (`KEY_NOT_FOUND`): a key does not from the moment that its deletion is due. For what uses
its material or imports it, a key is in the state that ExpireKeyMaterial leads to from the moment that its material expires.

";

const SEVERAL: &str = "
CancelKeyDeletion leads to pending import if the key has no material. DestroyKey and ExpireKeyMaterial are what the
service does by itself when they are due; RewrapKey, RotateKey and ReserveKeyUses when they are needed.

## Operations that depend on no key's state

These work with no key, or with many:

";

const fn state(state: KeyState) -> &'static str {
    match state {
        KeyState::Enabled => "enabled",
        KeyState::Disabled => "disabled",
        KeyState::PendingDeletion => "pending deletion",
        KeyState::PendingImport => "pending import",
    }
}

fn cell(effect: Effect) -> String {
    match effect {
        Effect::Stays => "–".to_owned(),
        Effect::Becomes(next) => format!("→ {}", state(next)),
        Effect::Ends => "→ destroyed".to_owned(),
        Effect::Refused(refusal) => format!("`{}`", refusal.error().code()),
    }
}

fn document() -> String {
    let mut text = HEAD.to_owned();
    let mut line =
        |cells: &[String]| writeln!(text, "| {} |", cells.join(" | ")).expect("a string takes all");
    let mut title = vec!["operation".to_owned()];
    title.extend(STATES.map(|of| state(of).to_owned()));
    line(&title);
    line(&title.iter().map(|_| "---".to_owned()).collect::<Vec<_>>());
    let mut others = Vec::new();
    for operation in OperationName::ALL {
        let name = operation.info().name;
        match row(*operation) {
            Some(row) => {
                let mut cells = vec![name.to_owned()];
                cells.extend(row.iter().copied().map(cell));
                line(&cells);
            }
            None => others.push(name),
        }
    }
    text.push_str(SEVERAL);
    text.push_str(&others.join(", "));
    text.push_str(".\n");
    text
}

#[test]
fn the_document_says_what_the_table_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/states.md");
    let expected = document();
    if env::var_os(WRITE).is_some() {
        fs::write(&path, &expected).expect("the document can be written");
    }
    let actual = fs::read_to_string(&path).expect("docs/states.md");
    assert!(actual == expected, "docs/states.md is stale: run this test with {WRITE}=1");
}
