//! Bucket policies: who may do what with a bucket and its objects, in the words of OBS or of S3.

use std::{fmt, marker::PhantomData};

use kms_client::rules::KeyName;
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor},
};
use serde_json::Value;

/// The actions that this gateway asks policies about. What names none of them would be a statement about nothing.
pub(crate) const ACTIONS: [&str; 15] = [
    "AbortMultipartUpload",
    "DeleteBucket",
    "DeleteBucketPolicy",
    "DeleteObject",
    "GetBucketLocation",
    "GetBucketPolicy",
    "GetEncryptionConfiguration",
    "GetObject",
    "HeadBucket",
    "ListBucket",
    "ListBucketMultipartUploads",
    "ListMultipartUploadParts",
    "PutBucketPolicy",
    "PutEncryptionConfiguration",
    "PutObject",
];

/// What a variable begins with, whose value nothing here would put in its place: a denial with one would deny nothing.
const VARIABLE: &str = "${";

/// A policy that was read whole: nothing in it is passed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    statements: Vec<Statement>,
}

/// Why a text is no policy that this gateway can hold somebody to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Not the JSON of a policy.
    #[error("this is not a policy: {0}")]
    Syntax(String),
    /// A part that this gateway does not know; it would not be kept.
    #[error("{0} is not offered in policies")]
    NotOffered(String),
    /// A resource that is neither the bucket nor in it.
    #[error("the resource {0} does not belong to the bucket")]
    Resource(String),
}

/// What is asked, as far as policies can see it.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The account of who asks.
    pub account: &'a str,
    /// The user who asks.
    pub user_id: &'a str,
    /// The action, as `PutObject`.
    pub action: &'a str,
    /// The bucket.
    pub bucket: &'a str,
    /// The object's key; `None` for what concerns the bucket.
    pub object: Option<&'a str>,
    /// The encryption that the request's headers name, without `aws:`.
    pub encryption: Option<&'a str>,
    /// The key that the request's headers name: its id alone, in small letters.
    pub key: Option<&'a str>,
    /// Whether the request came over TLS.
    pub is_secure: bool,
}

/// What a policy says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A statement denies it, whatever else allows it.
    Denied,
    /// A statement allows it.
    Allowed,
    /// No statement is about it.
    Silent,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Statement {
    is_deny: bool,
    principals: Vec<Principal>,
    actions: Vec<String>,
    resources: Vec<String>,
    conditions: Vec<Condition>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Principal {
    Everybody,
    Account(String),
    User(String, String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Condition {
    operator: Operator,
    key: ConditionKey,
    values: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Equals,
    NotEquals,
    Like,
    NotLike,
    Bool,
    Null,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ConditionKey {
    Encryption,
    KeyId,
    SecureTransport,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Document {
    #[serde(rename = "Version")]
    _version: Option<String>,
    #[serde(rename = "Id")]
    _id: Option<String>,
    statement: Vec<RawStatement>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct RawStatement {
    #[serde(rename = "Sid")]
    _sid: Option<String>,
    effect: Effect,
    principal: RawPrincipal,
    action: OneOrMany,
    resource: OneOrMany,
    #[serde(default)]
    condition: Pairs<Pairs<Value>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawPrincipal {
    Name(String),
    Kinds(Pairs<Value>),
}

#[derive(Deserialize, PartialEq, Eq)]
enum Effect {
    Allow,
    Deny,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

/// An object of JSON in which no name stands twice: of two, one would be passed over.
#[derive(Default)]
struct Pairs<Of>(Vec<(String, Of)>);

impl<'de, Of: Deserialize<'de>> Deserialize<'de> for Pairs<Of> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(PairsVisitor(PhantomData))
    }
}

struct PairsVisitor<Of>(PhantomData<Of>);

impl<'de, Of: Deserialize<'de>> Visitor<'de> for PairsVisitor<Of> {
    type Value = Pairs<Of>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut pairs: Vec<(String, Of)> = Vec::new();
        while let Some((name, value)) = map.next_entry::<String, Of>()? {
            if pairs.iter().any(|(known, _)| *known == name) {
                return Err(A::Error::custom(format!("{name} stands there twice")));
            }
            pairs.push((name, value));
        }
        Ok(Pairs(pairs))
    }
}

impl Policy {
    /// Reads the policy of a bucket.
    pub fn parse(text: &str, bucket: &str) -> Result<Self, PolicyError> {
        let document: Document =
            serde_json::from_str(text).map_err(|error| PolicyError::Syntax(error.to_string()))?;
        let statements = document.statement.into_iter().map(|raw| Statement::parse(raw, bucket));
        Ok(Self { statements: statements.collect::<Result<_, _>>()? })
    }

    /// What it says of a request.
    pub fn verdict(&self, facts: &Facts<'_>) -> Verdict {
        debug_assert!(ACTIONS.contains(&facts.action), "{} could not be named in policies", facts.action);
        let mut verdict = Verdict::Silent;
        for statement in self.statements.iter().filter(|statement| statement.is_about(facts)) {
            if statement.is_deny {
                return Verdict::Denied;
            }
            verdict = Verdict::Allowed;
        }
        verdict
    }
}

impl Statement {
    fn parse(raw: RawStatement, bucket: &str) -> Result<Self, PolicyError> {
        let strip = |text: String, prefix: &str| match text.strip_prefix(prefix) {
            Some(rest) => rest.to_owned(),
            None => text,
        };
        let actions =
            raw.action.into_vec()?.iter().map(|action| parse_action(action)).collect::<Result<_, _>>()?;
        let resources = raw.resource.into_vec()?.into_iter().map(|resource| strip(resource, "arn:aws:s3:::"));
        let resources: Vec<String> = resources.collect();
        let is_inside = |resource: &&String| {
            resource.strip_prefix(bucket).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        if let Some(stranger) = resources.iter().find(|resource| !is_inside(resource)) {
            return Err(PolicyError::Resource(stranger.clone()));
        }
        if let Some(variable) = resources.iter().find(|resource| resource.contains(VARIABLE)) {
            return Err(PolicyError::NotOffered(format!("the variable in the resource {variable}")));
        }
        let mut conditions = Vec::new();
        for (operator, tests) in raw.condition.0 {
            conditions.extend(Condition::parse_all(&operator, tests)?);
        }
        let principals = Principal::parse_all(raw.principal)?;
        Ok(Self { is_deny: raw.effect == Effect::Deny, principals, actions, resources, conditions })
    }

    fn is_about(&self, facts: &Facts<'_>) -> bool {
        let resource = match facts.object {
            Some(object) => format!("{}/{object}", facts.bucket),
            None => facts.bucket.to_owned(),
        };
        self.principals.iter().any(|principal| principal.is(facts))
            && self.actions.iter().any(|action| is_like(action, &facts.action.to_ascii_lowercase()))
            && self.resources.iter().any(|pattern| is_like(pattern, &resource))
            && self.conditions.iter().all(|condition| condition.holds(facts))
    }
}

/// An action in small letters: case does not count in the words of policies.
fn parse_action(action: &str) -> Result<String, PolicyError> {
    let word = action.to_ascii_lowercase();
    let word = word.strip_prefix("s3:").or_else(|| word.strip_prefix("obs:")).unwrap_or(&word);
    if ACTIONS.iter().any(|known| is_like(word, &known.to_ascii_lowercase())) {
        Ok(word.to_owned())
    } else {
        Err(PolicyError::NotOffered(format!("the action {action}")))
    }
}

impl Principal {
    /// `"*"`, S3's `{"AWS": …}` or OBS' `{"ID": …}`.
    fn parse_all(principal: RawPrincipal) -> Result<Vec<Self>, PolicyError> {
        let kinds = match principal {
            RawPrincipal::Name(name) if name == "*" => return Ok(vec![Self::Everybody]),
            RawPrincipal::Kinds(Pairs(kinds)) if !kinds.is_empty() => kinds,
            _ => return Err(PolicyError::Syntax("Principal".to_owned())),
        };
        let mut principals = Vec::new();
        for (kind, names) in kinds {
            if !matches!(&*kind, "AWS" | "ID" | "CanonicalUser") {
                return Err(PolicyError::NotOffered(format!("a principal of the kind {kind}")));
            }
            for name in texts(names)? {
                principals.push(Self::parse(&name)?);
            }
        }
        Ok(principals)
    }

    fn parse(name: &str) -> Result<Self, PolicyError> {
        let unknown = || PolicyError::NotOffered(format!("the principal {name}"));
        if name == "*" {
            return Ok(Self::Everybody);
        }
        // OBS: domain/DOMAIN, domain/DOMAIN:user/USER. S3: arn:aws:iam::DOMAIN:root, arn:aws:iam::DOMAIN:user/USER.
        let named = name.strip_prefix("arn:aws:iam::").or_else(|| name.strip_prefix("domain/"));
        let named = named.ok_or_else(unknown)?;
        let (account, user) = named.split_once(':').unwrap_or((named, "root"));
        // Accounts and users are compared whole: a denial of a pattern, or of a variable, would deny nobody.
        let is_name =
            |name: &&str| !name.is_empty() && !name.contains(['*', '?']) && !name.contains(VARIABLE);
        match user {
            _ if !is_name(&account) => Err(unknown()),
            "root" | "user/*" => Ok(Self::Account(account.to_owned())),
            _ => {
                let user = user.strip_prefix("user/").filter(is_name).ok_or_else(unknown)?;
                Ok(Self::User(account.to_owned(), user.to_owned()))
            }
        }
    }

    fn is(&self, facts: &Facts<'_>) -> bool {
        match self {
            Self::Everybody => true,
            Self::Account(account) => account == facts.account,
            Self::User(account, user) => account == facts.account && user == facts.user_id,
        }
    }
}

impl Condition {
    fn parse_all(operator: &str, tests: Pairs<Value>) -> Result<Vec<Self>, PolicyError> {
        let operator = match operator {
            "StringEquals" => Operator::Equals,
            "StringNotEquals" => Operator::NotEquals,
            "StringLike" => Operator::Like,
            "StringNotLike" => Operator::NotLike,
            "Bool" => Operator::Bool,
            "Null" => Operator::Null,
            _ => return Err(PolicyError::NotOffered(format!("the condition {operator}"))),
        };
        let parse = |(key, values): (String, Value)| {
            let key = ConditionKey::parse(&key)?;
            let values = texts(values)?;
            let values = values.iter().map(|value| key.normal(operator, value)).collect::<Result<_, _>>()?;
            Ok(Self { operator, key, values })
        };
        tests.0.into_iter().map(parse).collect()
    }

    // S3: what is negated holds also where the request does not name the thing.
    fn holds(&self, facts: &Facts<'_>) -> bool {
        let given = self.key.value(facts);
        let is_any = |like: fn(&str, &str) -> bool| {
            given.is_some_and(|given| self.values.iter().any(|value| like(value, given)))
        };
        match self.operator {
            Operator::Equals | Operator::Bool => is_any(|value, given| value == given),
            Operator::NotEquals => !is_any(|value, given| value == given),
            Operator::Like => is_any(is_like),
            Operator::NotLike => !is_any(is_like),
            Operator::Null => self.values.iter().any(|value| (value == "true") == given.is_none()),
        }
    }
}

impl ConditionKey {
    fn parse(key: &str) -> Result<Self, PolicyError> {
        match key {
            "x-obs-server-side-encryption" | "s3:x-amz-server-side-encryption" => Ok(Self::Encryption),
            "x-obs-server-side-encryption-kms-key-id" | "s3:x-amz-server-side-encryption-aws-kms-key-id" => {
                Ok(Self::KeyId)
            }
            "SecureTransport" | "aws:SecureTransport" => Ok(Self::SecureTransport),
            _ => Err(PolicyError::NotOffered(format!("the condition key {key}"))),
        }
    }

    /// A value as it is compared: as both faces mean it, `aws:kms` as `kms` and a key by its id alone. A value that
    /// nothing could be like is refused.
    fn normal(self, operator: Operator, value: &str) -> Result<String, PolicyError> {
        let unknown = || PolicyError::NotOffered(format!("the value {value} of a condition"));
        let is_pattern = matches!(operator, Operator::Like | Operator::NotLike);
        match (self, operator) {
            (Self::SecureTransport, Operator::Bool) | (_, Operator::Null) => {
                let truth = value.to_ascii_lowercase().parse::<bool>().map_err(|_| unknown())?;
                Ok(truth.to_string())
            }
            (Self::SecureTransport, _) | (_, Operator::Bool) => Err(unknown()),
            (Self::Encryption, _) if value.contains(VARIABLE) => Err(unknown()),
            (Self::Encryption, _) => Ok(value.strip_prefix("aws:").unwrap_or(value).to_owned()),
            (Self::KeyId, _) => match KeyName::parse(value) {
                Ok(key) => Ok(key.key_id),
                // A pattern is one of the id alone: how much of a longer one belongs to it cannot be told.
                Err(_) if is_pattern && !value.contains([':', '/']) => Ok(value.to_ascii_lowercase()),
                Err(_) => Err(unknown()),
            },
        }
    }

    fn value<'a>(self, facts: &Facts<'a>) -> Option<&'a str> {
        match self {
            Self::Encryption => facts.encryption,
            Self::KeyId => facts.key,
            Self::SecureTransport => Some(if facts.is_secure { "true" } else { "false" }),
        }
    }
}

impl OneOrMany {
    fn into_vec(self) -> Result<Vec<String>, PolicyError> {
        match self {
            Self::One(text) => Ok(vec![text]),
            Self::Many(texts) if !texts.is_empty() => Ok(texts),
            Self::Many(_) => Err(nothing()),
        }
    }
}

/// Why a list of nothing is refused: a statement about nothing would look like one that holds.
fn nothing() -> PolicyError {
    PolicyError::Syntax("a list is empty".to_owned())
}

fn texts(value: Value) -> Result<Vec<String>, PolicyError> {
    let text = |value: Value| match value {
        Value::String(text) => Ok(text),
        Value::Bool(truth) => Ok(truth.to_string()),
        _ => Err(PolicyError::Syntax("a text is missing".to_owned())),
    };
    match value {
        Value::Array(values) if values.is_empty() => Err(nothing()),
        Value::Array(values) => values.into_iter().map(text).collect(),
        value => Ok(vec![text(value)?]),
    }
}

/// Whether a text fits a pattern: `*` stands for any characters, `?` for one. In a time that is at most the product of
/// both lengths.
pub(crate) fn is_like(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut at, mut from) = (0, 0);
    // Where to go on if what follows the last star does not fit.
    let mut star: Option<(usize, usize)> = None;
    while from < text.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at + 1, from));
                at += 1;
            }
            Some(character) if *character == '?' || *character == text[from] => {
                at += 1;
                from += 1;
            }
            _ => {
                let Some((behind, taken)) = star else { return false };
                star = Some((behind, taken + 1));
                (at, from) = (behind, taken + 1);
            }
        }
    }
    pattern[at..].iter().all(|character| *character == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    const FACTS: Facts<'_> = Facts {
        account: "d1",
        user_id: "u1",
        action: "PutObject",
        bucket: "b",
        object: Some("a/o"),
        encryption: None,
        key: None,
        is_secure: true,
    };

    /// The rule of SSE-KMS, in OBS' words and in S3's.
    const DENIALS: [&str; 2] = [
        r#"{"Statement": [{"Sid": "s", "Effect": "Deny", "Principal": {"ID": ["*"]}, "Action": ["PutObject"],
            "Resource": ["b/*"], "Condition": {"StringNotEquals": {"x-obs-server-side-encryption": "kms"}}}]}"#,
        r#"{"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Principal": "*", "Action": "s3:PutObject",
            "Resource": "arn:aws:s3:::b/*",
            "Condition": {"StringNotEquals": {"s3:x-amz-server-side-encryption": "aws:kms"}}}]}"#,
    ];

    fn verdict(policy: &str, facts: Facts<'_>) -> Verdict {
        Policy::parse(policy, "b").unwrap().verdict(&facts)
    }

    #[test]
    fn plain_uploads_are_denied_in_both_dialects() {
        for policy in DENIALS {
            assert_eq!(verdict(policy, FACTS), Verdict::Denied);
            assert_eq!(verdict(policy, Facts { encryption: Some("AES256"), ..FACTS }), Verdict::Denied);
            assert_eq!(verdict(policy, Facts { encryption: Some("kms"), ..FACTS }), Verdict::Silent);
            assert_eq!(verdict(policy, Facts { action: "GetObject", ..FACTS }), Verdict::Silent);
            assert_eq!(verdict(policy, Facts { object: None, ..FACTS }), Verdict::Silent);
        }
    }

    #[test]
    fn a_denial_goes_before_what_allows() {
        let policy = r#"{"Statement": [
            {"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::d1:root"}, "Action": "s3:*", "Resource": "b/*"},
            {"Effect": "Deny", "Principal": {"ID": "domain/d1:user/u1"}, "Action": "Put*", "Resource": "b/a/*"}]}"#;
        assert_eq!(verdict(policy, FACTS), Verdict::Denied);
        assert_eq!(verdict(policy, Facts { user_id: "u2", ..FACTS }), Verdict::Allowed);
        assert_eq!(verdict(policy, Facts { object: Some("c"), ..FACTS }), Verdict::Allowed);
        assert_eq!(verdict(policy, Facts { account: "d2", ..FACTS }), Verdict::Silent);
    }

    #[test]
    fn what_came_over_tls_is_told_from_what_did_not() {
        let policy = r#"{"Statement": [{"Effect": "Deny", "Principal": "*", "Action": "*", "Resource": ["b", "b/*"],
            "Condition": {"Bool": {"aws:SecureTransport": "false"}}}]}"#;
        assert_eq!(verdict(policy, FACTS), Verdict::Silent);
        assert_eq!(verdict(policy, Facts { is_secure: false, ..FACTS }), Verdict::Denied);
    }

    #[test]
    fn a_policy_that_could_not_be_kept_is_refused() {
        let with = |part: &str| {
            let text = format!(
                r#"{{"Statement": [{{"Effect": "Deny", "Principal": "*", "Action": "*", "Resource": "b/*", {part}}}]}}"#
            );
            Policy::parse(&text, "b").unwrap_err()
        };
        assert!(matches!(with(r#""NotAction": "x""#), PolicyError::Syntax(_)));
        let ip = with(r#""Condition": {"IpAddress": {"aws:SourceIp": "::1"}}"#);
        assert!(matches!(ip, PolicyError::NotOffered(_)));
        let key = with(r#""Condition": {"StringEquals": {"aws:username": "x"}}"#);
        assert!(matches!(key, PolicyError::NotOffered(_)));
        let foreign =
            r#"{"Statement": [{"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "bb/*"}]}"#;
        assert_eq!(Policy::parse(foreign, "b"), Err(PolicyError::Resource("bb/*".to_owned())));
        assert!(matches!(Policy::parse("{", "b"), Err(PolicyError::Syntax(_))));
    }

    /// A statement that denies everything but for what `part` says.
    fn denied(part: &str, facts: Facts<'_>) -> bool {
        let text = format!(
            r#"{{"Statement": [{{"Effect": "Deny", "Principal": "*", "Resource": ["b", "b/*"], {part}}}]}}"#
        );
        verdict(&text, facts) == Verdict::Denied
    }

    fn refused(part: &str) -> PolicyError {
        let text = format!(
            r#"{{"Statement": [{{"Effect": "Deny", "Principal": "*", "Resource": "b/*", {part}}}]}}"#
        );
        Policy::parse(&text, "b").unwrap_err()
    }

    #[test]
    fn words_of_actions_count_in_any_case_and_unknown_ones_are_refused() {
        for action in ["PutObject", "putobject", "S3:PUTOBJECT", "OBS:put*", "s3:Put?bject", "*", "s3:*"] {
            assert!(denied(&format!(r#""Action": "{action}""#), FACTS), "{action}");
        }
        for action in ["PutObjekt", "s3:s3:PutObject", "", "PutObjectAcl", "Put"] {
            let refused = refused(&format!(r#""Action": ["PutObject", "{action}"]"#));
            assert!(matches!(refused, PolicyError::NotOffered(_)), "{action}");
        }
        assert!(matches!(refused(r#""Action": []"#), PolicyError::Syntax(_)));
    }

    #[test]
    fn principals_and_resources_that_nobody_could_be_like_are_refused() {
        let denial = |principal: &str, resource: &str| {
            let text = format!(
                r#"{{"Statement": [{{"Effect": "Deny", "Principal": {{"ID": "{principal}"}}, "Action": "*",
                    "Resource": ["b", "{resource}"]}}]}}"#
            );
            Policy::parse(&text, "b")
        };
        for principal in ["*", "domain/d1", "domain/d1:user/*", "domain/d1:user/u1", "arn:aws:iam::d1:user/*"]
        {
            let policy = denial(principal, "b/*").unwrap();
            assert_eq!(policy.verdict(&FACTS), Verdict::Denied, "{principal}");
        }
        for principal in [
            "domain/*",
            "domain/d?",
            "domain/*:user/*",
            "domain/d1:user/adm*",
            "domain/d1:user/u?",
            "domain/d1:user/**",
            "domain/d1:user/${aws:userid}",
            "domain/${aws:PrincipalAccount}",
            "arn:aws:iam::*:root",
            "arn:aws:iam::d1:user/adm*",
        ] {
            let refused = denial(principal, "b/*");
            assert!(matches!(refused, Err(PolicyError::NotOffered(_))), "{principal}: {refused:?}");
        }
        for resource in ["b/${aws:userid}/*", "arn:aws:s3:::b/home/${aws:username}"] {
            let refused = denial("*", resource);
            assert!(matches!(refused, Err(PolicyError::NotOffered(_))), "{resource}: {refused:?}");
        }
        denial("*", "b/$a{b}?").unwrap();
    }

    #[test]
    fn what_stands_there_twice_is_refused() {
        let mode = r#""x-obs-server-side-encryption": "kms""#;
        for part in [
            format!(r#""Condition": {{"StringNotEquals": {{{mode}, {mode}}}}}"#),
            format!(r#""Condition": {{"StringNotEquals": {{{mode}}}, "StringNotEquals": {{{mode}}}}}"#),
            r#""Condition": {"Null": {}}, "Condition": {}"#.to_owned(),
        ] {
            let refused = refused(&format!(r#""Action": "*", {part}"#));
            assert!(matches!(refused, PolicyError::Syntax(_)), "{part}");
        }
        let principal = r#"{"Statement": [{"Effect": "Deny", "Principal": {"ID": "*", "ID": "domain/d1"},
            "Action": "*", "Resource": "b/*"}]}"#;
        assert!(matches!(Policy::parse(principal, "b"), Err(PolicyError::Syntax(_))));
    }

    #[test]
    fn a_key_is_compared_by_its_id_in_whatever_form_it_is_named() {
        const ID: &str = "0d0466b0-e727-4d9c-b35d-f84bb474a37f";
        let with_key = Facts { key: Some(ID), ..FACTS };
        for named in [ID.to_owned(), format!("r1:d1:key/{ID}"), format!("arn:aws:kms:r1:d1:key/{ID}")] {
            let condition = |operator: &str| {
                let key = "s3:x-amz-server-side-encryption-aws-kms-key-id";
                format!(r#""Action": "*", "Condition": {{"{operator}": {{"{key}": "{named}"}}}}"#)
            };
            for (operator, is_denied) in
                [("StringEquals", true), ("StringNotEquals", false), ("StringNotLike", false)]
            {
                assert_eq!(denied(&condition(operator), with_key), is_denied, "{operator} {named}");
                assert_eq!(denied(&condition(operator), FACTS), !is_denied, "{operator} {named}");
            }
        }
        let like = |value: &str| {
            let key = "x-obs-server-side-encryption-kms-key-id";
            format!(r#""Action": "*", "Condition": {{"StringLike": {{"{key}": "{value}"}}}}"#)
        };
        assert!(denied(&like("0D0466B0-*"), with_key) && !denied(&like("1*"), with_key));
        assert!(matches!(refused(&like("arn:aws:kms:*:d1:key/*")), PolicyError::NotOffered(_)));
        for unnamed in ["x", &ID.to_uppercase()] {
            let equals = like(unnamed).replace("Like", "Equals");
            assert!(matches!(refused(&equals), PolicyError::NotOffered(_)), "{unnamed}");
        }
    }

    #[test]
    fn truths_count_in_any_case_and_nothing_else_is_one() {
        let transport = |operator: &str, value: &str| {
            format!(r#""Action": "*", "Condition": {{"{operator}": {{"aws:SecureTransport": {value}}}}}"#)
        };
        let plain = Facts { is_secure: false, ..FACTS };
        for value in ["false", "\"false\"", "\"False\""] {
            assert!(denied(&transport("Bool", value), plain) && !denied(&transport("Bool", value), FACTS));
        }
        for (operator, value) in
            [("Bool", "\"no\""), ("StringEquals", "\"false\""), ("Bool", "[]"), ("Null", "\"\"")]
        {
            refused(&transport(operator, value));
        }
        let null = r#""Action": "*", "Condition": {"Null": {"x-obs-server-side-encryption": "True"}}"#;
        assert!(denied(null, FACTS) && !denied(null, Facts { encryption: Some("kms"), ..FACTS }));
    }

    #[test]
    fn patterns_are_read_as_shells_read_them() {
        for (pattern, text) in [
            ("*", ""),
            ("a*c", "abbc"),
            ("a?c", "abc"),
            ("*b*", "abc"),
            ("a**", "a"),
            ("*ab", "aab"),
            ("a?c", "aéc"),
        ] {
            assert!(is_like(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in
            [("", "a"), ("a?c", "ac"), ("a*c", "abd"), ("*ab", "aba"), ("abc", "ab"), ("??", "é")]
        {
            assert!(!is_like(pattern, text), "{pattern} {text}");
        }
    }
}
