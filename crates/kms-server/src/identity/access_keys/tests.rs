//! Access keys of the identity file, from their lines to callers.

use std::{fs, path::Path};

use super::*;
use crate::identity::{CurrentIdentities, file};

/// The sample has its access keys as comments, so that nobody runs with secrets that everybody knows.
const SAMPLE: &str = include_str!("../../../../../docs/examples/identity.toml");
const PROJECTS: [&str; 2] = ["p0000000000000000000000000000001", "p0000000000000000000000000000002"];
const PERMANENT: &str = "AKEXAMPLE00000000001";
const TEMPORARY: &str = "AKEXAMPLE00000000002";

/// The sample, with the lines of its access keys let in.
fn with_keys() -> String {
    let line = |line: &str| line.strip_prefix("#| ").unwrap_or(line).to_owned() + "\n";
    let text: String = SAMPLE.lines().map(line).collect();
    assert_eq!(text.matches("[[accounts.users.access_keys]]").count(), 2);
    text
}

fn read(text: &str) -> Result<Identities, String> {
    file::read(text, Path::new("/nowhere"))
}

fn id(text: &str) -> AccessKeyId {
    AccessKeyId::parse(text).expect("a name")
}

/// One second, in the year before the temporary key ends.
const NOW: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);

fn source() -> SocketAddr {
    ([192, 0, 2, 1], 4711).into()
}

#[test]
fn an_access_key_stands_for_its_user() {
    let identities = read(&with_keys()).expect("sound");
    let caller =
        identities.caller_by_access_key(&id(PERMANENT), ProjectChoice::First, source(), NOW).expect("known");
    assert_eq!(caller.user.as_str(), "u0000000000000000000000000000002");
    assert_eq!((caller.project.as_str(), caller.region.as_str()), (PROJECTS[0], "cn-north-4"));
    assert_eq!((caller.source, &caller.credential), (source(), &Credential::AccessKey(id(PERMANENT))));
    for choice in [ProjectChoice::Id(PROJECTS[1]), ProjectChoice::Name("cn-east-3")] {
        let second = identities.caller_by_access_key(&id(PERMANENT), choice, source(), NOW).expect("its");
        assert_eq!((second.project.as_str(), second.region.as_str()), (PROJECTS[1], "cn-east-3"));
    }
    for choice in [ProjectChoice::Id("p9"), ProjectChoice::Name("eu-west-0")] {
        let foreign = identities.caller_by_access_key(&id(PERMANENT), choice, source(), NOW);
        assert_eq!(foreign.expect_err("another's"), Unauthenticated::UnknownProject);
    }
}

#[test]
fn it_signs_with_its_secret_and_a_temporary_one_with_its_token() {
    let identities = read(&with_keys()).expect("sound");
    let secrets = identities.secrets_of(&id(PERMANENT), NOW).expect("known");
    assert_eq!((secrets.secret, secrets.security_token), (&b"example-secret-0123456789"[..], None));
    let secrets = identities.secrets_of(&id(TEMPORARY), NOW).expect("known");
    assert_eq!(secrets.security_token, Some(&b"example-security-token-0123456789"[..]));
}

#[test]
fn a_key_that_is_unknown_inactive_or_expired_stands_for_nobody() {
    let text = with_keys();
    let end = Timestamp::from_micros(1_798_761_599_000_000); // 2026-12-31T23:59:59Z
    let before = Timestamp::from_micros(end.as_micros() - 1);
    let inactive = text.replace(PERMANENT, &format!("{PERMANENT}\"\nstatus = \"inactive"));
    for (text, key, now, expected) in [
        (&text, PERMANENT, end, None),
        (&text, "AKEXAMPLE00000000009", NOW, Some(Unauthenticated::AccessKeyUnknown)),
        (&inactive, PERMANENT, NOW, Some(Unauthenticated::AccessKeyInactive)),
        (&text, TEMPORARY, before, None),
        (&text, TEMPORARY, end, Some(Unauthenticated::AccessKeyExpired)),
    ] {
        let identities = read(text).expect("sound");
        assert_eq!(identities.secrets_of(&id(key), now).err(), expected, "{key}");
        let caller = identities.caller_by_access_key(&id(key), ProjectChoice::First, source(), now);
        assert_eq!(caller.err(), expected, "{key}");
    }
}

#[test]
fn a_key_that_a_reload_drops_stands_for_nobody_from_then_on() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("identity.toml");
    fs::write(&path, with_keys()).expect("written");
    let current = CurrentIdentities::load(&path).expect("sound");
    current.now().secrets_of(&id(PERMANENT), NOW).expect("known");
    fs::write(&path, with_keys().replace(PERMANENT, "AKEXAMPLE00000000003")).expect("written");
    current.replace(current.read_anew().expect("sound").0);
    assert_eq!(current.now().secrets_of(&id(PERMANENT), NOW).err(), Some(Unauthenticated::AccessKeyUnknown));
    current.now().secrets_of(&id("AKEXAMPLE00000000003"), NOW).expect("known");
}

#[test]
fn a_secret_can_lie_in_a_file_beside() {
    let directory = tempfile::tempdir().expect("a directory");
    let text = with_keys()
        .replace("secret_access_key = \"example-secret-0123456789\"", "secret_access_key_file = \"secret\"");
    let read = || file::read(&text, directory.path());
    assert!(read().expect_err("no such file").contains("secret: "));
    fs::write(directory.path().join("secret"), "a secret in a file\n").expect("written");
    assert!(read().expect_err("blanks").contains("secret_access_key_file: must be"));
    fs::write(directory.path().join("secret"), "a-secret-in-a-file\n").expect("written");
    let identities = read().expect("sound");
    let secrets = identities.secrets_of(&id(PERMANENT), NOW).expect("known");
    assert_eq!(secrets.secret, b"a-secret-in-a-file");
}

#[test]
fn each_problem_is_told_with_its_line_and_without_the_secret() {
    let text = with_keys();
    let secret = "secret_access_key = \"example-secret-0123456789\"";
    for (cut, put, line_of, told) in [
        (TEMPORARY, PERMANENT, "", "stands twice"),
        (PERMANENT, "AK/1", "AK/1", "access_key_id: "),
        (secret, "secret_access_key = \"tooshort-s3\"", "s3", "16 to 128"),
        (secret, "secret_access_key = \"has a blank and is s3\"", "s3", "visible"),
        (secret, "secret_access_key = 1234567890123456", "1234567", "must be a text"),
        (secret, "secret_access_key_file = \"s3\"", "s3", "s3: "),
        (secret, "", PERMANENT, "needs either"),
        (secret, &format!("{secret}\nsecret_access_key_file = \"s3\""), PERMANENT, "needs either"),
        ("expires_at = \"2026-12-31T23:59:59Z\"", "", TEMPORARY, "go together"),
        ("2026-12-31T23:59:59Z", "tomorrow", "tomorrow", "expires_at: "),
        ("expires_at", "expires", "expires", "unknown field"),
        (secret, &format!("{secret}\nstatus = \"off\""), "\"off\"", "unknown variant"),
    ] {
        let altered = text.replacen(cut, put, 1);
        assert_ne!(altered, text, "{cut}");
        let refused = read(&altered).expect_err(put);
        assert!(refused.contains(told), "{put}: {refused}");
        let mut lines = (1..).zip(altered.lines());
        let place = if line_of.is_empty() {
            lines.filter(|(_, line)| line.contains(put)).last()
        } else {
            lines.find(|(_, line)| line.contains(line_of))
        };
        let line = place.expect("it was put in").0;
        assert!(refused.starts_with(&format!("line {line}: ")), "{put} in line {line}: {refused}");
        assert!(!refused.contains("tooshort") && !refused.contains("blank") && !refused.contains("12345"));
    }
}

#[test]
fn secrets_are_not_printed() {
    let shown = format!("{:?}", read(&with_keys()).expect("sound"));
    assert!(shown.contains(PERMANENT) && !shown.contains("example-se"), "{shown}");
}
