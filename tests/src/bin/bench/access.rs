//! The row about access: what a decision costs with a hundred statements, of which the last one decides.

use std::{collections::BTreeMap, hint::black_box, sync::Arc, time::Instant};

use kms_core::{
    access::{AccessRequest, Decision, KeyFacts, Policies, Policy},
    context::EncryptionContext,
    identity::{AccountId, Region},
    key::{KeyId, KeyOrigin, KeySpec, KeyUsage},
    operation::OperationName,
};

use crate::rows::{Bound, ROUNDS, Table};

const STATEMENTS: usize = 100;
/// Decisions for the time of one.
const DECISIONS: u32 = 200_000;
const KEY: &str = "0193a000-0000-7000-8000-00000000000a";

/// Measures it.
#[allow(clippy::disallowed_methods, reason = "measures real time")]
pub(crate) fn row(table: &mut Table) {
    let policies = policies();
    let pairs = [("bucket", "photos-of-2026"), ("object", "a/b/c.jpg"), ("tenant", "acme")];
    let pairs: BTreeMap<_, _> = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let context = EncryptionContext::new(pairs).expect("short enough");
    let request = AccessRequest {
        operation: OperationName::DecryptDataKey,
        account: &AccountId::parse("acme").expect("a name"),
        region: &Region::parse("cn-north-4").expect("a name"),
        key: Some(KeyFacts {
            id: Some(KEY.parse::<KeyId>().expect("an id")),
            spec: KeySpec::Aes256,
            usage: KeyUsage::EncryptDecrypt,
            origin: KeyOrigin::Kms,
            is_default: false,
        }),
        context: Some(&context),
        alias: None,
    };
    let Decision::Allowed(last) = policies.decide(&request) else { panic!("the last statement allows it") };
    assert_eq!(last.statement, STATEMENTS, "no other statement decides");
    let times = (0..ROUNDS).map(|_| {
        let started = Instant::now();
        for _ in 0..DECISIONS {
            black_box(policies.decide(black_box(&request)));
        }
        started.elapsed().as_secs_f64() * 1e6 / f64::from(DECISIONS)
    });
    table.row(
        "access decision, 100 statements, µs",
        "all speak of the operation, half of them deny; the last one decides",
        times.collect(),
        "<= 2",
        Bound::AtMost(2.0),
    );
}

/// Statements that all speak of the operation, on other keys or under other conditions, but for the last one.
fn policies() -> Policies {
    let others = [
        r#""Resource": "KMS:*:*:KeyId:0193b000-0000-7000-8000-00000000000b""#,
        r#""Resource": ["KMS:cn-north-4:acme:KeyId:0193c*", "KMS:*:*:KeyId:0193*-00000000000d"]"#,
        r#""Condition": {"StringEquals": {"kms:EncryptionContext/tenant": ["globex", "initech"]}}"#,
        r#""Condition": {"StringLike": {"kms:EncryptionContext/bucket": ["logs-*", "*-of-2025"]}}"#,
        r#""Condition": {"StringEquals": {"kms:KeySpec": "SM4"}, "Null": {"kms:RequestAlias": "true"}}"#,
        r#""Condition": {"StringNotStartWith": {"kms:EncryptionContext/object": ["x/", "a/"]}}"#,
        r#""Condition": {"StringEqualsIgnoreCase": {"kms:EncryptionContext/tenant": "ACMF"}}"#,
        r#""Condition": {"StringNotEqualsIfExists": {"g:RequestedRegion": ["cn-south-1", "cn-north-4"]}}"#,
    ];
    let others = others.iter().cycle().take(STATEMENTS - 1).enumerate().map(|(index, other)| {
        let effect = if index % 2 == 0 { "Deny" } else { "Allow" };
        format!(r#"{{"Effect": "{effect}", "Action": "kms:dek:*", {other}}}"#)
    });
    let last = format!(
        r#"{{"Effect": "Allow", "Action": "kms:cmk:decryptDataKey", "Resource": "KMS:*:*:KeyId:{KEY}",
            "Condition": {{"StringLike": {{"kms:EncryptionContext/bucket": "photos-*"}}}}}}"#
    );
    let statements: Vec<String> = others.chain([last]).collect();
    let json = format!(r#"{{"Version": "1.1", "Statement": [{}]}}"#, statements.join(","));
    Policies::new([Arc::new(Policy::parse("bench", &json).expect("a policy"))])
}
