//! The requests of `vectors.json`, signed by the official SDK; the same ones after somebody has changed them.

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue, Method};
use proptest::prelude::*;
use serde::Deserialize;

use super::*;

/// Made by `scripts/signature_vectors.py`.
const VECTORS: &str = include_str!("vectors.json");
/// Their X-Sdk-Date, 20260101T000000Z.
const SIGNED: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);
const TOKEN: &str = "SECURITYTOKEN";

#[derive(Deserialize)]
struct Vectors {
    access_key_id: String,
    secret: String,
    requests: Vec<Sent>,
}

/// A request that was sent.
#[derive(Clone, Deserialize)]
struct Sent {
    name: String,
    method: String,
    path: String,
    query: String,
    headers: BTreeMap<String, String>,
    body: String,
    canonical_request: String,
}

impl Sent {
    fn headers(&self) -> HeaderMap {
        let header = |(name, value): (&String, &String)| {
            let value = HeaderValue::from_bytes(value.as_bytes()).expect("a value");
            (HeaderName::try_from(name).expect("a name"), value)
        };
        self.headers.iter().map(header).collect()
    }

    fn header(&mut self, name: &str) -> &mut String {
        self.headers.get_mut(name).expect("it has one")
    }

    /// As it is taken at this time.
    fn verified(&self, now: Timestamp) -> Result<AccessKeyId, Refusal> {
        self.verified_with(
            &self.headers(),
            now,
            self.headers.contains_key("X-Security-Token").then_some(TOKEN),
        )
    }

    fn verified_with(
        &self,
        headers: &HeaderMap,
        now: Timestamp,
        security_token: Option<&str>,
    ) -> Result<AccessKeyId, Refusal> {
        let Sent { method, path, query, body, .. } = self;
        let secret = vectors().secret;
        verify(Request { method, path, query, headers, body: body.as_bytes() }, now, |id| {
            let is_known = id.as_str() == vectors().access_key_id;
            let security_token = security_token.map(str::as_bytes);
            is_known
                .then_some(Secrets { secret: secret.as_bytes(), security_token })
                .ok_or(Unauthenticated::AccessKeyUnknown)
        })
    }

    fn refused(&self) -> Fault {
        self.verified(SIGNED).expect_err(&self.name).fault
    }
}

fn vectors() -> Vectors {
    serde_json::from_str(VECTORS).expect("vectors")
}

fn named(name: &str) -> Sent {
    vectors().requests.into_iter().find(|sent| sent.name == name).expect("a vector")
}

/// Those whose signature is to be taken.
fn sound() -> Vec<Sent> {
    vectors().requests.into_iter().filter(|sent| sent.name != "a body that is not signed").collect()
}

fn after(seconds: i64) -> Timestamp {
    Timestamp::from_micros(SIGNED.as_micros() + seconds * 1_000_000)
}

#[test]
fn what_the_official_sdk_signs_is_taken() {
    for sent in sound() {
        let taken = sent.verified(SIGNED).unwrap_or_else(|refusal| panic!("{}: {refusal:?}", sent.name));
        assert_eq!(taken.as_str(), vectors().access_key_id);
    }
}

#[test]
fn the_canonical_request_is_that_of_the_official_sdk() {
    for sent in sound() {
        let headers = sent.headers();
        let claim = Claim::parse(&sent.headers["Authorization"]).expect("a claim");
        let Sent { method, path, query, body, .. } = &sent;
        let request = Request { method, path, query, headers: &headers, body: body.as_bytes() };
        let hash = body_hash(request).expect("a hash");
        let canonical = claim.canonical_request(request, &hash).expect("headers");
        let canonical = String::from_utf8(canonical).expect("UTF-8");
        assert_eq!(canonical, sent.canonical_request, "{}", sent.name);
    }
}

#[test]
fn nothing_that_is_signed_can_be_changed() {
    for sent in sound() {
        let changed = |alter: &dyn Fn(&mut Sent)| {
            let mut sent = sent.clone();
            alter(&mut sent);
            sent.refused()
        };
        let mismatch = [Fault::Mismatch, Fault::BodyMismatch, Fault::SecurityToken];
        for method in [Method::GET, Method::POST, Method::PUT, Method::DELETE] {
            if method != *sent.method {
                assert_eq!(changed(&|sent| sent.method = method.to_string()), Fault::Mismatch);
            }
        }
        assert_eq!(changed(&|sent| sent.path.insert(1, 'x')), Fault::Mismatch, "{}", sent.name);
        assert_eq!(changed(&|sent| sent.path.push_str("/x")), Fault::Mismatch);
        assert_eq!(changed(&|sent| sent.query.push_str("&x=1")), Fault::Mismatch);
        assert!(mismatch.contains(&changed(&|sent| sent.body.push(' '))) || sent.body.is_empty());
        let names = Claim::parse(&sent.headers["Authorization"]).expect("a claim").signed_headers.to_owned();
        let is_signed = |name: &str| names.split(';').any(|signed| signed == name.to_lowercase());
        for name in sent.headers.keys().filter(|name| is_signed(name)) {
            let longer = changed(&|sent| sent.header(name).push('1'));
            assert!(mismatch.contains(&longer) || longer == Fault::DateMalformed, "{name}: {longer:?}");
            let absent = changed(&|sent| drop(sent.headers.remove(name)));
            assert_eq!(absent, Fault::NotOnce(name.to_lowercase()), "{}", sent.name);
        }
        let later = changed(&|sent| "20260101T000001Z".clone_into(sent.header("X-Sdk-Date")));
        assert_eq!(later, Fault::Mismatch);
        let claim = sent.headers["Authorization"].replace("AKEX", "AKEY");
        let other_key = changed(&|sent| sent.header("Authorization").clone_from(&claim));
        assert_eq!(other_key, Fault::AccessKey(Unauthenticated::AccessKeyUnknown));
    }
}

#[test]
fn each_part_of_a_query_is_signed() {
    let sent = named("an unsorted query with lists and truths");
    for (from, to) in
        [("z=1", "z=2"), ("b=10", "b=11"), ("%2B", "%20"), ("flag=true", "flag=false"), ("empty=", "empty")]
    {
        let mut changed = sent.clone();
        changed.query = sent.query.replace(from, to);
        assert_ne!(changed.query, sent.query, "{from}");
        let refused = changed.verified(SIGNED);
        // A name without a value has an empty one.
        assert_eq!(refused.is_ok(), from == "empty=", "{from}");
    }
    let mut reversed = sent.clone();
    let mut pairs: Vec<_> = sent.query.split('&').collect();
    pairs.reverse();
    reversed.query = pairs.join("&");
    reversed.verified(SIGNED).expect("the order is not signed");
}

#[test]
fn a_query_is_read_as_it_is_signed() {
    let text = |text: &str| text.as_bytes().to_vec();
    assert_eq!(
        parameters("a=%2B+&b&&c=1=2"),
        [(text("a"), text("++")), (text("b"), text("")), (text("c"), text("1=2"))]
    );
    assert!(parameters("").is_empty());
}

#[test]
fn a_signature_holds_for_a_quarter_of_an_hour_before_and_after() {
    let sent = named("no body");
    for seconds in [-900, -1, 0, 899, 900] {
        sent.verified(after(seconds)).expect("near");
    }
    for seconds in [-901, 901, 100_000_000] {
        let refusal = sent.verified(after(seconds)).expect_err("far");
        assert_eq!(refusal.fault.why(), Unauthenticated::SignatureSkewed);
    }
    assert_eq!(
        sent.verified(after(901)).expect_err("far").told(),
        "Incorrect IAM authentication information: calc aksk signature fail:signature expired, \
         signature time:20260101T000000Z,server time:20260101T001501Z"
    );
    for date in ["", "2026-01-01T00:00:00Z", "20260101T000000", "20261301T000000Z", "20260101T000000Zx"] {
        let mut sent = sent.clone();
        date.clone_into(sent.header("X-Sdk-Date"));
        assert_eq!(sent.refused(), Fault::DateMalformed, "{date}");
    }
}

#[test]
fn host_date_and_project_have_to_be_signed() {
    for (cut, name) in [(";host", "host"), (";x-project-id", PROJECT), (";x-sdk-date", DATE)] {
        let mut sent = named("no body");
        *sent.header("Authorization") = sent.header("Authorization").replace(cut, "");
        assert_eq!(sent.refused(), Fault::NotSigned(name));
    }
}

#[test]
fn a_header_that_is_there_twice_is_none() {
    let sent = named("no body");
    for name in ["host", DATE, "user-agent", "authorization"] {
        let mut headers = sent.headers();
        let value = headers[name].clone();
        headers.append(HeaderName::from_static(name), value);
        let refusal = sent.verified_with(&headers, SIGNED, None).expect_err(name);
        assert_eq!(refusal.fault, Fault::NotOnce(name.to_owned()));
    }
}

#[test]
fn a_temporary_key_is_nothing_without_its_token() {
    let sent = named("a security token");
    let refused = |headers: &HeaderMap, token: Option<&str>| {
        sent.verified_with(headers, SIGNED, token).expect_err("refused").fault
    };
    assert_eq!(refused(&sent.headers(), Some("ANOTHERTOKEN0")), Fault::SecurityToken);
    assert_eq!(refused(&sent.headers(), None), Fault::SecurityToken);
    let permanent = named("create a key");
    let fault =
        permanent.verified_with(&permanent.headers(), SIGNED, Some(TOKEN)).expect_err("refused").fault;
    assert_eq!(fault, Fault::SecurityToken);
    let mut unsigned = permanent.headers();
    unsigned.insert(SECURITY_TOKEN, HeaderValue::from_static(TOKEN));
    let fault = permanent.verified_with(&unsigned, SIGNED, Some(TOKEN)).expect_err("refused").fault;
    assert_eq!(fault, Fault::NotSigned(SECURITY_TOKEN));
}

#[test]
fn a_body_has_to_be_signed_and_to_be_the_one_that_was() {
    assert_eq!(named("a body that is not signed").refused(), Fault::BodyNotSigned);
    let mut sent = named("a body whose hash is given");
    sent.body.push(' ');
    assert_eq!(sent.refused(), Fault::BodyMismatch);
    let mut filled = named("nothing where a body would not be signed");
    filled.body.push('x');
    assert_eq!(filled.refused(), Fault::BodyNotSigned);
    // The hash alone is taken from nobody's word, also where it is not signed.
    let plain = named("create a key");
    let mut headers = plain.headers();
    headers.insert(BODY_HASH, HeaderValue::from_static("00"));
    assert_eq!(plain.verified_with(&headers, SIGNED, None).expect_err("refused").fault, Fault::BodyMismatch);
}

#[test]
fn headers_of_another_form_are_refused() {
    let sent = named("no body");
    let signature = &sent.headers["Authorization"];
    let (head, tail) = signature.split_at(signature.len() - 64);
    for malformed in [
        String::new(),
        "Basic dTpw".to_owned(),
        signature.replace("SHA256", "SM3"),
        signature.replace("SDK-HMAC-SHA256 ", "SDK-HMAC-SHA256"),
        signature.replace("AKEXAMPLE0000000001", ""),
        signature.replace("AKEXAMPLE", "AK/EXAMPLE"),
        signature.replace("host;", "host;host;"),
        signature.replace("content-type;host", "host;content-type"),
        signature.replace("content-type", "Content-Type"),
        signature.replace("content-type;", ";"),
        signature.replace("Access", "Credential"),
        format!("{head}{}", &tail[1..]),
        format!("{head}{tail}0"),
        format!("{head}{}", tail.replace(|letter: char| letter.is_ascii_digit(), "g")),
        format!("{signature}, Signature={tail}"),
    ] {
        let mut sent = sent.clone();
        sent.header("Authorization").clone_from(&malformed);
        assert_eq!(sent.refused(), Fault::Malformed, "{malformed}");
    }
    let mut sent = sent.clone();
    sent.headers.remove("Authorization");
    assert_eq!(sent.refused(), Fault::Absent);
}

#[test]
fn a_key_that_cannot_be_used_is_to_its_caller_one_that_does_not_exist() {
    let refusal = |why| {
        let access_key_id = AccessKeyId::parse("AK1");
        Refusal { access_key_id, fault: Fault::AccessKey(why) }
    };
    for why in [
        Unauthenticated::AccessKeyUnknown,
        Unauthenticated::AccessKeyInactive,
        Unauthenticated::AccessKeyExpired,
    ] {
        assert_eq!(
            refusal(why).told(),
            "Incorrect IAM authentication information: Get secretKey failed,ak:AK1,err:ak not exist"
        );
        assert_eq!(refusal(why).fault.why(), why);
    }
}

proptest! {
    #[test]
    fn no_junk_makes_it_panic_or_is_taken(
        method in "[A-Z]{0,8}",
        path in any::<String>(),
        query in any::<String>(),
        headers in prop::collection::vec((any::<prop::sample::Index>(), prop::collection::vec(any::<u8>(), 0..80)), 0..8),
        body in prop::collection::vec(any::<u8>(), 0..80),
    ) {
        let names = ["host", DATE, "authorization", BODY_HASH, SECURITY_TOKEN, "x-other"];
        let mut map = HeaderMap::new();
        for (name, value) in &headers {
            if let Ok(value) = HeaderValue::from_bytes(value) {
                map.append(HeaderName::from_static(names[name.index(names.len())]), value);
            }
        }
        let request = Request { method: &method, path: &path, query: &query, headers: &map, body: &body };
        let refused = verify(request, SIGNED, |_| Ok(Secrets { secret: b"s", security_token: None }));
        prop_assert!(!refused.expect_err("junk").told().is_empty());
    }

    #[test]
    fn no_claim_makes_it_panic_or_is_taken(
        claim in "SDK-HMAC-SHA256 Access=[A-Z]{0,3}, ?SignedHeaders=(host|x-sdk-date|user-agent|;){0,6}, Signature=[0-9a-f]{60,66}",
        path in "(/|%|%2[Ff]|%[0-9a-zA-Z]{2}|[a-zü+]){0,20}",
        query in "(&|=|%|%2[Ff]|[a-zü+]){0,20}",
        now: i64,
    ) {
        let mut sent = named("no body");
        *sent.header("Authorization") = claim;
        (sent.path, sent.query) = (path, query);
        prop_assert!(sent.verified(Timestamp::from_micros(now)).is_err());
    }

    #[test]
    fn a_signature_changed_in_one_place_is_refused(place in 0_usize..64, digit in "[0-9a-f]") {
        let mut sent = named("create a key");
        let header = sent.header("Authorization");
        let at = header.len() - 64 + place;
        prop_assume!(header[at..=at] != digit);
        header.replace_range(at..=at, &digit);
        prop_assert_eq!(sent.refused(), Fault::Mismatch);
    }
}
