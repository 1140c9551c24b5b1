//! Bucket policies: who may do what with a bucket and its objects, in the words of OBS or of S3.

use serde::Deserialize;
use serde_json::Value;

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
    /// The key that the request's headers name.
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
    principal: Value,
    action: OneOrMany,
    resource: OneOrMany,
    #[serde(default)]
    condition: serde_json::Map<String, Value>,
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
        let actions = raw.action.into_vec().into_iter();
        let actions = actions.map(|action| strip(strip(action, "s3:"), "obs:")).collect();
        let resources = raw.resource.into_vec().into_iter().map(|resource| strip(resource, "arn:aws:s3:::"));
        let resources: Vec<String> = resources.collect();
        let is_inside = |resource: &&String| {
            resource.strip_prefix(bucket).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        if let Some(stranger) = resources.iter().find(|resource| !is_inside(resource)) {
            return Err(PolicyError::Resource(stranger.clone()));
        }
        let mut conditions = Vec::new();
        for (operator, tests) in raw.condition {
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
            && self.actions.iter().any(|action| is_like(action, facts.action))
            && self.resources.iter().any(|pattern| is_like(pattern, &resource))
            && self.conditions.iter().all(|condition| condition.holds(facts))
    }
}

impl Principal {
    /// `"*"`, S3's `{"AWS": …}` or OBS' `{"ID": …}`.
    fn parse_all(value: Value) -> Result<Vec<Self>, PolicyError> {
        if value == "*" {
            return Ok(vec![Self::Everybody]);
        }
        let Value::Object(kinds) = value else { return Err(PolicyError::Syntax("Principal".to_owned())) };
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
        match user {
            _ if account.is_empty() => Err(unknown()),
            "root" | "user/*" => Ok(Self::Account(account.to_owned())),
            _ => {
                let user = user.strip_prefix("user/").filter(|user| !user.is_empty()).ok_or_else(unknown)?;
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
    fn parse_all(operator: &str, tests: Value) -> Result<Vec<Self>, PolicyError> {
        let operator = match operator {
            "StringEquals" => Operator::Equals,
            "StringNotEquals" => Operator::NotEquals,
            "StringLike" => Operator::Like,
            "StringNotLike" => Operator::NotLike,
            "Bool" => Operator::Bool,
            "Null" => Operator::Null,
            _ => return Err(PolicyError::NotOffered(format!("the condition {operator}"))),
        };
        let Value::Object(tests) = tests else { return Err(PolicyError::Syntax("Condition".to_owned())) };
        let parse = |(key, values): (String, Value)| {
            let key = ConditionKey::parse(&key)?;
            let values = texts(values)?;
            let values = values.iter().map(|value| key.normal(value).to_owned()).collect();
            Ok(Self { operator, key, values })
        };
        tests.into_iter().map(parse).collect()
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

    /// A value as both faces mean it: `aws:kms` is `kms`.
    fn normal(self, value: &str) -> &str {
        match self {
            Self::Encryption => value.strip_prefix("aws:").unwrap_or(value),
            _ => value,
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
    fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(text) => vec![text],
            Self::Many(texts) => texts,
        }
    }
}

fn texts(value: Value) -> Result<Vec<String>, PolicyError> {
    let text = |value: Value| match value {
        Value::String(text) => Ok(text),
        Value::Bool(truth) => Ok(truth.to_string()),
        _ => Err(PolicyError::Syntax("a text is missing".to_owned())),
    };
    match value {
        Value::Array(values) => values.into_iter().map(text).collect(),
        value => Ok(vec![text(value)?]),
    }
}

/// Whether a text fits a pattern: `*` stands for any characters, `?` for one. In a time that is at most the product of
/// both lengths.
pub(crate) fn is_like(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut at, mut from) = (0, 0);
    // Where to go on if what follows the last star does not fit.
    let mut star: Option<(usize, usize)> = None;
    while from < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at + 1, from));
                at += 1;
            }
            Some(byte) if *byte == b'?' || *byte == text[from] => {
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
    pattern[at..].iter().all(|byte| *byte == b'*')
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

    #[test]
    fn patterns_are_read_as_shells_read_them() {
        for (pattern, text) in
            [("*", ""), ("a*c", "abbc"), ("a?c", "abc"), ("*b*", "abc"), ("a**", "a"), ("*ab", "aab")]
        {
            assert!(is_like(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [("", "a"), ("a?c", "ac"), ("a*c", "abd"), ("*ab", "aba"), ("abc", "ab")] {
            assert!(!is_like(pattern, text), "{pattern} {text}");
        }
    }
}
