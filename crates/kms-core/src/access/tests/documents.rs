//! What is a policy, and which line is wrong of what is none.

use super::{KEY, statement};
use crate::access::{Effect, Policy, PolicyError, Resources};

const WHOLE: &str = r#"{
    "Version": "1.1",
    "Statement": [
        {
            "Effect": "Allow",
            "Action": [
                "kms:cmk:get",
                "kms:dek:*"
            ],
            "Resource": [
                "KMS:*:*:KeyId:0193a000-0000-7000-8000-00000000000a",
                "kms:cn-north-4:acme:KeyId:0193*"
            ],
            "Condition": {
                "StringLike": {
                    "kms:EncryptionContext/bucket": [
                        "a*",
                        "b"
                    ]
                },
                "StringEqualsIfExists": {
                    "kms:KeySpec": "AES_256"
                },
                "Null": {
                    "kms:RequestAlias": "true"
                }
            }
        },
        { "Effect": "Deny", "Action": "kms:cmk:update" }
    ]
}
"#;

/// Lines to put in the place of others, and what is wrong with them then.
const MALFORMED: &[(usize, &str, &str)] = &[
    (2, "\"Version\": \"1.0\",", "Version must be \"1.1\""),
    (2, "\"Version\": 1.1,", "must be text"),
    (2, "\"version\": \"1.1\",", "\"version\" is none of Version, Statement"),
    (2, "\"Version\" \"1.1\",", "expected `:`"),
    (2, "\"Version\": \"1.1\", \"Version\": \"1.1\",", "\"Version\" stands twice"),
    (3, "\"Statement\": [ {},", "Effect is missing"),
    (3, "\"Statement\": [ \"x\",", "must be an object"),
    (3, "\"Statement\": {}, \"x\": [", "\"x\" is none of"),
    (5, "\"Effect\": \"allow\",", "Effect must be"),
    (5, "\"Effect\": [\"Allow\"],", "must be text"),
    (5, "\"Effect\": \"Allow\", \"Sid\": \"1\",", "\"Sid\" is none of"),
    (5, "\"Effect\": \"Allow\", \"NotAction\": \"*\",", "\"NotAction\" is none of"),
    (5, "\"Effect\": \"Allow\", \"Effect\": \"Deny\",", "\"Effect\" stands twice"),
    (7, "\"kms:cmk:gets\",", "\"kms:cmk:gets\" is no action"),
    (7, "7,", "must be text"),
    (8, "\"dewpoint:root:manage\"", "is no action"),
    (8, "\"KMS:*\"", "is no action"),
    (11, "\"KMS:*:*:KeyId:0193A000-0000-7000-8000-00000000000A\",", "is no resource"),
    (11, "\"KMS:*:*:KeyId:0193a000\",", "is no resource"),
    (11, "\"KMS:*:*:KeyId:\",", "is no resource"),
    (11, "\"KMS:*:*:KeyId:x*\",", "is no resource"),
    (11, "\"KMS:*:*:keyid:*\",", "is no resource"),
    (11, "\"KMS:*:*:*\",", "is no resource"),
    (11, "\"KMS:*:*:KeyId:*:*\",", "is no resource"),
    (11, "\"OBS:*:*:KeyId:*\",", "is no resource"),
    (11, "\"KMS:cn-*:*:KeyId:*\",", "is no resource"),
    (11, "\"KMS:*:a/b:KeyId:*\",", "is no resource"),
    (12, "null", "must be text"),
    (15, "\"StringLikes\": {", "\"StringLikes\" is no operator"),
    (15, "\"NullIfExists\": {", "\"NullIfExists\" is no operator"),
    (15, "\"IfExists\": {", "\"IfExists\" is no operator"),
    (15, "\"StringLike\": {}, \"x\": {", "must not be empty"),
    (15, "\"StringLike\": \"x\", \"x\": {", "must be an object"),
    (16, "\"kms:EncryptionContext/\": [", "is no condition key"),
    (16, "\"kms:keyspec\": [", "is no condition key"),
    (17, "[],", "must be text"),
    (18, "true", "must be text"),
    (22, "\"kms:KeySpec\": \"AES256\"", "\"AES256\" is no value"),
    (22, "\"kms:KeyUsage\": \"ENCRYPT\"", "is no value"),
    (22, "\"kms:KeyOrigin\": \"KMS\"", "is no value"),
    (22, "\"kms:KeySpec\": []", "must not be empty"),
    (25, "\"kms:RequestAlias\": \"yes\"", "must be \"true\" or \"false\""),
    (25, "\"kms:RequestAlias\": true", "must be text"),
    (29, "{ \"Effect\": \"Deny\" }", "Action is missing"),
    (29, "{ \"Effect\": \"Deny\", \"Action\": [] }", "must not be empty"),
    (29, "{ \"Effect\": \"Deny\", \"Action\": \"*\", \"Resource\": [] }", "must not be empty"),
    (29, "{ \"Effect\": \"Deny\", \"Action\": \"*\", \"Condition\": {} }", "must not be empty"),
    (29, "{ \"Effect\": \"Deny\", \"Action\": \"\\ud800\" }", "hex escape"),
    (31, "} }", "trailing characters"),
];

/// The error of the whole document with one line, from 1, replaced.
fn broken(line: usize, text: &str) -> PolicyError {
    let lines = (1..).zip(WHOLE.lines()).map(|(number, old)| if number == line { text } else { old });
    let document = lines.collect::<Vec<_>>().join("\n");
    Policy::parse("p", &document).expect_err(text)
}

#[test]
fn a_whole_policy_is_read() {
    let policy = Policy::parse("p", WHOLE).expect("a policy");
    assert_eq!(&**policy.name(), "p");
    let [first, second] = policy.statements() else { panic!("two statements") };
    assert_eq!((first.effect, second.effect), (Effect::Allow, Effect::Deny));
    assert_eq!(first.conditions.len(), 3);
    let Resources::Keys(keys) = &first.resources else { panic!("keys") };
    assert_eq!((keys.len(), &second.resources), (2, &Resources::All));
}

#[test]
fn a_list_of_one_is_the_same_as_the_one() {
    let condition = r#""Condition": {"StringEquals": {"kms:KeySpec": V}}"#;
    let one = format!(
        r#"{{"Version":"1.1","Statement":[{{"Effect":"Deny","Action":"kms:cmk:get","Resource":"*",{}}}]}}"#,
        condition.replace('V', "\"SM4\"")
    );
    let lists = one
        .replace("\"kms:cmk:get\"", "[\"kms:cmk:get\"]")
        .replace("\"*\"", "[\"*\"]")
        .replace("\"SM4\"", "[\"SM4\"]");
    assert_eq!(Policy::parse("p", &one).expect("a policy"), Policy::parse("p", &lists).expect("a policy"));
}

#[test]
fn everything_that_is_malformed_names_its_line() {
    for (line, text, problem) in MALFORMED {
        let error = broken(*line, text);
        assert_eq!(error.line, *line, "{text}: {error}");
        assert!(error.problem.contains(*problem), "{text}: {error} says nothing of {problem}");
        assert!(!error.problem.contains("column"), "{error}");
    }
}

#[test]
fn what_is_missing_is_missed_where_it_should_be() {
    for (document, line, problem) in [
        ("\n{\n}", 2, "Version is missing"),
        ("{\"Version\": \"1.1\"\n}", 1, "Statement is missing"),
        ("{\"Version\": \"1.1\",\n\"Statement\": []\n}", 2, "must not be empty"),
        ("{\"Version\": \"1.1\",\n\"Statement\": {}\n}", 2, "must be a list"),
        ("{\"Version\": [\n\"1.1\",\n]}", 3, "expected value"),
        ("", 1, "EOF"),
        ("{\n\n", 3, "EOF"),
        ("\n\"1.1\"", 2, "must be an object"),
    ] {
        let error = Policy::parse("p", document).expect_err(document);
        assert_eq!(error.line, line, "{document:?}: {error}");
        assert!(error.problem.contains(problem), "{document:?}: {error}");
        assert_eq!(error.to_string(), format!("line {line}: {}", error.problem));
    }
}

#[test]
fn a_name_may_be_escaped_as_json_allows_it() {
    let action = statement("Allow", "kms:cmk:get", "").replace("kms:", "kms\\u003a");
    let document = format!(r#"{{"Versio\u006e": "1.1", "Statement": [{action}]}}"#);
    Policy::parse("p", &document).expect(KEY);
}

#[test]
fn whatever_a_document_is_changed_to_is_a_policy_or_names_one_of_its_lines() {
    let characters: Vec<char> = WHOLE.chars().collect();
    let others = ['{', '}', '[', ']', '"', ',', ':', '*', '\\', '\n', '0'];
    for place in 0..characters.len() {
        let mut document = characters.clone();
        document[place] = others[place % others.len()];
        let document: String = document.into_iter().collect();
        for document in [&*document, &document[..place]] {
            let Err(error) = Policy::parse("p", document) else { continue };
            let lines = document.split('\n').count();
            assert!((1..=lines).contains(&error.line), "{error} of {document}");
            assert!(!error.problem.is_empty());
        }
    }
}
