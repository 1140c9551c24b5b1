//! Each operator and each condition key, present and absent.

use super::{World, allowed, facts, policies, statement};
use crate::{
    access::AccessRequest,
    key::{KeyOrigin, KeySpec, KeyUsage},
    operation::OperationName,
};

/// Whether this condition is true of a request.
fn holds(condition: &str, request: &AccessRequest<'_>) -> bool {
    let more = format!(r#", "Condition": {{{condition}}}"#);
    let by_allow = allowed(&policies(&statement("Allow", "*", &more)), request);
    // The same condition on a deny denies exactly where it allows on an allow.
    let denying = format!("{}, {}", statement("Allow", "*", ""), statement("Deny", "*", &more));
    assert_eq!(by_allow, !allowed(&policies(&denying), request), "{condition}");
    by_allow
}

/// Whether `operator` with these values is true where the context has the pair with this value, or has not.
fn on_bucket(operator: &str, values: &str, value: Option<&str>) -> bool {
    let mut world = World::new();
    world.context = match value {
        Some(value) => super::context(&[("bucket", value)]),
        None => super::context(&[("other", "x")]),
    };
    let condition = format!(r#""{operator}": {{"kms:EncryptionContext/bucket": {values}}}"#);
    holds(&condition, &world.on_key(OperationName::DecryptDataKey))
}

/// Each positive operator, values, what has one of them, and what has none.
const OPERATORS: &[(&str, &str, &[&str], &[&str])] = &[
    ("String@Equals", r#"["a", "b*"]"#, &["a", "b*"], &["", "A", "b", "bx", "ab"]),
    ("String@EqualsIgnoreCase", r#"["a", "Ä*"]"#, &["a", "A", "ä*", "Ä*"], &["", "b", "ä", "äx"]),
    ("String@Like", r#"["a*c", "b"]"#, &["ac", "a*c", "abbc", "b"], &["", "a", "AC", "acb", "bb"]),
    ("String@StartWith", r#"["a*", "bc"]"#, &["a*", "a*b", "bc", "bcd"], &["", "a", "ab", "b", "BC", "xbc"]),
    ("String@EndWith", r#"["*a", "bc"]"#, &["*a", "b*a", "bc", "abc"], &["", "a", "ba", "c", "BC", "bcx"]),
];

#[test]
fn a_positive_operator_wants_one_of_its_values_and_a_negated_one_none_of_them() {
    for (operator, values, fitting, others) in OPERATORS {
        for (text, fits) in
            fitting.iter().map(|text| (text, true)).chain(others.iter().map(|text| (text, false)))
        {
            for suffix in ["", "IfExists"] {
                let positive = operator.replace('@', "") + suffix;
                let negated = operator.replace('@', "Not") + suffix;
                assert_eq!(on_bucket(&positive, values, Some(text)), fits, "{positive} {text}");
                assert_eq!(on_bucket(&negated, values, Some(text)), !fits, "{negated} {text}");
            }
        }
    }
}

#[test]
fn an_absent_key_fails_positive_operators_and_holds_for_negated_ones_and_for_if_exists() {
    for (operator, values, ..) in OPERATORS {
        for (not, suffix, expected) in
            [("", "", false), ("Not", "", true), ("", "IfExists", true), ("Not", "IfExists", true)]
        {
            let operator = operator.replace('@', not) + suffix;
            assert_eq!(on_bucket(&operator, values, None), expected, "{operator}");
        }
    }
}

#[test]
fn null_tells_absent_from_present() {
    for (wanted, absent, present) in [("\"true\"", true, false), ("\"false\"", false, true)] {
        assert_eq!(on_bucket("Null", wanted, None), absent);
        assert_eq!(on_bucket("Null", wanted, Some("")), present);
    }
}

#[test]
fn letters_beyond_ascii_have_cases_too() {
    for (value, wanted, same) in [("STRASSE", "strasse", true), ("Äß", "äß", true), ("\u{212a}", "k", true)]
    {
        assert_eq!(on_bucket("StringEqualsIgnoreCase", &format!("{wanted:?}"), Some(value)), same, "{value}");
        assert!(!on_bucket("StringEquals", &format!("{wanted:?}"), Some(value)), "{value}");
    }
}

#[test]
fn all_conditions_have_to_be_true() {
    let world = World::new();
    let request = world.on_key(OperationName::Sign);
    let (yes, no) = (r#""kms:KeySpec": "AES_256""#, r#""kms:KeyUsage": "SIGN_VERIFY""#);
    assert!(holds(&format!(r#""StringEquals": {{{yes}}}"#), &request));
    assert!(!holds(&format!(r#""StringEquals": {{{yes}, {no}}}"#), &request));
    assert!(holds(&format!(r#""StringEquals": {{{yes}}}, "StringNotEquals": {{{no}}}"#), &request));
    assert!(!holds(&format!(r#""StringEquals": {{{yes}}}, "StringLike": {{{no}}}"#), &request));
}

#[test]
fn each_key_reads_its_own_part_of_the_request() {
    let world = World::new();
    let mut request = world.on_key(OperationName::Sign);
    let key = facts(super::KEY);
    request.alias = Some("alias/photos");
    request.key = Some(super::KeyFacts {
        spec: KeySpec::Sm2,
        usage: KeyUsage::KeyAgreement,
        origin: KeyOrigin::External,
        ..key
    });
    let values = [
        ("kms:KeySpec", "SM2"),
        ("kms:KeyUsage", "KEY_AGREEMENT"),
        ("kms:KeyOrigin", "external"),
        ("kms:RequestAlias", "alias/photos"),
        ("g:RequestedRegion", "cn-north-4"),
        ("kms:EncryptionContext/bucket", "Photos"),
        ("kms:EncryptionContext/empty", ""),
    ];
    for (key, value) in values {
        assert!(holds(&format!(r#""StringEquals": {{"{key}": "{value}"}}"#), &request), "{key}");
        assert!(holds(&format!(r#""Null": {{"{key}": "false"}}"#), &request), "{key}");
        let keyless = world.keyless(OperationName::ListKeys);
        let absent = key != "g:RequestedRegion";
        assert_eq!(holds(&format!(r#""Null": {{"{key}": "true"}}"#), &keyless), absent, "{key}");
    }
}

#[test]
fn names_of_pairs_are_exact_and_may_hold_anything() {
    let mut world = World::new();
    world.context = super::context(&[("a/b:c*", "1")]);
    let request = world.on_key(OperationName::Sign);
    for (name, present) in [("a/b:c*", true), ("A/b:c*", false), ("a/b:cd", false), ("a", false)] {
        let condition = format!(r#""Null": {{"kms:EncryptionContext/{name}": "false"}}"#);
        assert_eq!(holds(&condition, &request), present, "{name}");
    }
}

#[test]
fn a_key_that_is_yet_to_be_made_has_a_kind_already() {
    let world = World::new();
    let mut request = world.on_key(OperationName::CreateKey);
    request.key = Some(super::KeyFacts { id: None, spec: KeySpec::Sm4, ..world.key });
    assert!(holds(r#""StringEquals": {"kms:KeySpec": "SM4"}"#, &request));
    assert!(!holds(r#""StringEquals": {"kms:KeySpec": "AES_256"}"#, &request));
}

#[test]
fn however_many_keys_are_looked_at_each_is_read() {
    let mut world = World::new();
    let names: Vec<String> = (0..40).map(|number| format!("pair-{number}")).collect();
    let pairs: Vec<(&str, &str)> = names.iter().map(|name| (&**name, &**name)).collect();
    world.context = super::context(&pairs);
    let request = world.on_key(OperationName::Sign);
    let all: Vec<String> =
        names.iter().map(|name| format!(r#""kms:EncryptionContext/{name}": "{name}""#)).collect();
    assert!(holds(&format!(r#""StringEquals": {{{}}}"#, all.join(",")), &request));
    for wrong in [0, 15, 16, 39] {
        let all = all.join(",").replace(&format!(r#": "pair-{wrong}""#), r#": "another""#);
        assert!(!holds(&format!(r#""StringEquals": {{{all}}}"#), &request), "{wrong}");
    }
}
