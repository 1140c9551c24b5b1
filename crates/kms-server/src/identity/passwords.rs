//! Callers by password, and by the tokens that they get for one.

use std::{collections::BTreeMap, net::SocketAddr};

use argon2::{Algorithm, Argon2, Params, PasswordHash, PasswordHasher as _, PasswordVerifier as _, Version};
use kms_core::{
    Timestamp,
    error::Unauthenticated,
    identity::{Caller, Credential, UserId},
};
use sha2::{Digest as _, Sha256};

use super::{Identities, ProjectChoice};
use crate::{
    dew::{
        iam::Login,
        token::{LIFETIME, Token},
    },
    secret_text::SecretText,
};

/// How long salts are. RFC 9106 §3.1.
const SALT_BYTES: usize = 16;

/// Salt and hash of the password of nobody, as a PHC string has them. No password has this hash that anybody could find.
const NOBODYS: &str = "bm9ib2R5LW5vYm9keQ$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// How much work it is to check a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// For a password that a person chose: what OWASP's cheat sheet on storing passwords asks for at least (19 MiB,
    /// two passes).
    Usual,
    /// As little as argon2 knows. For a random password alone, which nobody finds by trying.
    Least,
}

/// What the password is checked by from now on: a hash of argon2id with a salt of its own, as a PHC string. `None`:
/// the system has no random bytes.
pub(crate) fn hash(password: &SecretText, work: Work) -> Option<String> {
    let params = match work {
        Work::Usual => Params::DEFAULT,
        Work::Least => Params::new(Params::MIN_M_COST, Params::MIN_T_COST, Params::MIN_P_COST, None).ok()?,
    };
    let mut salt = [0; SALT_BYTES];
    getrandom::fill(&mut salt).ok()?;
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let hash = argon2.hash_password_with_salt(password.expose_secret().as_bytes(), &salt).ok()?;
    Some(hash.to_string())
}

/// What a user's password is checked by: argon2id, in the form of a PHC string.
#[derive(Debug)]
pub(super) struct PasswordCheck {
    text: SecretText,
    costs: Costs,
}

/// What a check takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Costs {
    /// In KiB.
    memory: u32,
    passes: u32,
    lanes: u32,
}

impl Costs {
    fn of(params: &Params) -> Self {
        Self { memory: params.m_cost(), passes: params.t_cost(), lanes: params.p_cost() }
    }

    /// How much memory is written.
    fn work(self) -> u64 {
        u64::from(self.memory) * u64::from(self.passes)
    }
}

impl PasswordCheck {
    /// Takes a PHC string of argon2id. `None`: it is none.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let parsed = PasswordHash::new(text).ok()?;
        let is_sound =
            parsed.algorithm.as_str() == "argon2id" && parsed.salt.is_some() && parsed.hash.is_some();
        let costs = Costs::of(&Params::try_from(&parsed).ok()?);
        is_sound.then(|| Self { text: SecretText::new(text.to_owned()), costs })
    }

    /// What the password of nobody is checked by, so that it takes as long as most of these; as [`Work::Usual`], if there
    /// are none. Of parameters that equally many have, it is the costliest.
    pub(super) fn of_nobody<'a>(checks: impl Iterator<Item = &'a Self>) -> Self {
        let mut users = BTreeMap::<Costs, usize>::new();
        for check in checks {
            *users.entry(check.costs).or_default() += 1;
        }
        let most = users.into_iter().max_by_key(|(costs, count)| (*count, costs.work()));
        let costs = most.map_or(Costs::of(&Params::DEFAULT), |(costs, _)| costs);
        let Costs { memory, passes, lanes } = costs;
        let text = format!("$argon2id$v=19$m={memory},t={passes},p={lanes}${NOBODYS}");
        Self { text: SecretText::new(text), costs }
    }

    fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.text.expose_secret()).into()
    }
}

impl Identities {
    /// The user with these names who has a password, whether or not this is it.
    pub(crate) fn user_named(&self, login: Login<'_>) -> Option<&UserId> {
        self.logins.get(&(login.domain.to_owned(), login.user.to_owned()))
    }

    /// What the token of a user says who gave the right password, and the user as a caller. Takes as long as argon2
    /// takes, also where there is no such user: not for an asynchronous task, and not for many at a time.
    pub(crate) fn log_in(
        &self,
        login: Login<'_>,
        source: SocketAddr,
        now: Timestamp,
    ) -> Result<(Token, Caller), Unauthenticated> {
        let found = self.user_named(login).and_then(|id| self.users.get_key_value(id));
        let checked = found.and_then(|(id, user)| Some(((id, user), user.password.as_ref()?)));
        let hash = checked.map_or(&self.nobody, |(_, check)| check).text.expose_secret();
        let verified = Argon2::default().verify_password(login.password.expose_secret().as_bytes(), hash);
        let (user, check) = checked.filter(|_| verified.is_ok()).ok_or(Unauthenticated::PasswordWrong)?;
        let credential = Credential::Token { issued: now };
        let caller = Self::caller_in_project(user, login.project, credential, source)?;
        let token = Token {
            user: caller.user.clone(),
            project: caller.project.clone(),
            issued: now,
            expires: now.plus(LIFETIME),
            password: check.digest(),
        };
        Ok((token, caller))
    }

    /// The caller whose token this is, as long as it has the password that it had then; in the token's project.
    pub(crate) fn caller_by_token(
        &self,
        token: &Token,
        source: SocketAddr,
    ) -> Result<Caller, Unauthenticated> {
        let user = self.users.get_key_value(&token.user).ok_or(Unauthenticated::TokenUnknown)?;
        let holds = user.1.password.as_ref().is_some_and(|check| check.digest() == token.password);
        if !holds {
            return Err(Unauthenticated::TokenUnknown);
        }
        let credential = Credential::Token { issued: token.issued };
        Self::caller_in_project(user, ProjectChoice::Id(token.project.as_str()), credential, source)
    }
}

/// The users that have a password, by the names of account and user.
pub(super) type Logins = std::collections::HashMap<(String, String), UserId>;

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::identity::file;

    const SAMPLE: &str = include_str!("../../../../docs/examples/identity.toml");
    /// Of `correct horse`, with the least work that argon2 knows.
    const HASH: &str =
        "$argon2id$v=19$m=8,t=1,p=1$Y29zdC1pcy1sb3c$P9FRgiX0nruoqospGI5j6gI//uascOCR01Uo3kxHFck";
    const NOW: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);

    fn text(hash: &str) -> String {
        let line = format!("name = \"downloader\"\npassword_hash = \"{hash}\"");
        let text = SAMPLE.replacen("name = \"downloader\"", &line, 1);
        assert_ne!(text, SAMPLE);
        text
    }

    fn read(text: &str) -> Result<Identities, String> {
        file::read(text, Path::new("/nowhere"))
    }

    fn source() -> SocketAddr {
        ([192, 0, 2, 1], 4711).into()
    }

    fn log_in(
        identities: &Identities,
        (domain, user, password): (&str, &str, &str),
        project: ProjectChoice<'_>,
    ) -> Result<(Token, Caller), Unauthenticated> {
        let password = &SecretText::new(password.to_owned());
        identities.log_in(Login { domain, user, password, project }, source(), NOW)
    }

    const RIGHT: (&str, &str, &str) = ("example", "downloader", "correct horse");

    #[test]
    fn the_right_password_gets_a_token_for_one_project() {
        let identities = read(&text(HASH)).expect("sound");
        for (project, expected) in [
            (ProjectChoice::First, "p0000000000000000000000000000001"),
            (ProjectChoice::Name("cn-east-3"), "p0000000000000000000000000000002"),
            (ProjectChoice::Id("p0000000000000000000000000000002"), "p0000000000000000000000000000002"),
        ] {
            let (token, _) = log_in(&identities, RIGHT, project).expect("right");
            let caller = identities.caller_by_token(&token, source()).expect("its user");
            assert_eq!((token.project.as_str(), caller.project.as_str()), (expected, expected));
            assert_eq!(caller.user.as_str(), "u0000000000000000000000000000002");
            assert_eq!(caller.credential, Credential::Token { issued: NOW });
            assert_eq!((token.issued, token.expires), (NOW, NOW.plus(LIFETIME)));
        }
        let elsewhere = log_in(&identities, RIGHT, ProjectChoice::Id("p9")).expect_err("another's");
        assert_eq!(elsewhere, Unauthenticated::UnknownProject);
    }

    #[test]
    fn nobody_else_gets_one() {
        let identities = read(&text(HASH)).expect("sound");
        for wrong in [
            ("example", "downloader", "correct horse "),
            ("example", "downloader", ""),
            ("example", "admin", "correct horse"), // has no password
            ("example", "nobody", "correct horse"),
            ("another", "downloader", "correct horse"),
        ] {
            let refused = log_in(&identities, wrong, ProjectChoice::First).expect_err("wrong");
            assert_eq!(refused, Unauthenticated::PasswordWrong, "{wrong:?}");
        }
    }

    #[test]
    fn a_token_ends_with_its_user_and_with_its_password() {
        let (token, _) =
            log_in(&read(&text(HASH)).expect("sound"), RIGHT, ProjectChoice::First).expect("right");
        let other = HASH.replacen("$P9", "$Q9", 1);
        assert_ne!(other, HASH);
        for changed in [SAMPLE.to_owned(), text(&other), SAMPLE.replace("000002\"\nname", "000009\"\nname")] {
            let identities = read(&changed).expect("sound");
            let refused = identities.caller_by_token(&token, source()).expect_err("over");
            assert_eq!(refused, Unauthenticated::TokenUnknown);
        }
    }

    #[test]
    fn what_is_hashed_is_taken_and_checks_its_password_alone() {
        let [right, wrong] = ["correct horse", "correct hors"].map(|text| SecretText::new(text.to_owned()));
        for (work, parameters) in [(Work::Usual, "m=19456,t=2,p=1"), (Work::Least, "m=8,t=1,p=1")] {
            let hashed = hash(&right, work).expect("random bytes");
            assert!(hashed.starts_with(&format!("$argon2id$v=19${parameters}$")), "{hashed}");
            assert_ne!(hash(&right, work), Some(hashed.clone()), "each has its own salt");
            let identities = read(&text(&hashed)).expect("sound");
            let try_one = |password| {
                let (domain, user, project) = (RIGHT.0, RIGHT.1, ProjectChoice::First);
                identities.log_in(Login { domain, user, password, project }, source(), NOW)
            };
            assert!(try_one(&right).is_ok() && try_one(&wrong).is_err());
        }
    }

    #[test]
    fn a_password_of_nobody_takes_as_long_as_most() {
        let check = |parameters| {
            let text = HASH.replacen("m=8,t=1,p=1", parameters, 1);
            PasswordCheck::parse(&text).expect("sound")
        };
        let (least, long, wide) = ("m=8,t=1,p=1", "m=64,t=3,p=1", "m=128,t=1,p=2");
        for (users, expected) in [
            (&[][..], "m=19456,t=2,p=1"),
            (&[least], least),
            (&[least, long, least], least),
            (&[least, long, wide], long),
        ] {
            let users: Vec<_> = users.iter().map(|parameters| check(parameters)).collect();
            let nobody = PasswordCheck::of_nobody(users.iter());
            assert_eq!(nobody.costs, check(expected).costs);
            assert!(nobody.text.expose_secret().contains(&format!("${expected}$")));
            assert_eq!(PasswordCheck::parse(nobody.text.expose_secret()).expect("sound").costs, nobody.costs);
        }
        let identities = read(&text(HASH)).expect("sound");
        assert_eq!(identities.nobody.costs, check(least).costs);
    }

    #[test]
    fn only_hashes_of_argon2id_are_taken_and_none_is_printed() {
        for wrong in ["correct horse", "", &HASH.replace("argon2id", "argon2i"), "$argon2id$v=19$m=8,t=1,p=1"]
        {
            let refused = read(&text(wrong)).expect_err(wrong);
            assert!(refused.contains("password_hash: must be"), "{refused}");
        }
        let twice = text(HASH)
            .replace("name = \"reader\"", &format!("name = \"downloader\"\npassword_hash = \"{HASH}\""));
        assert!(read(&twice).expect_err("ambiguous").contains("stands twice"));
        assert!(!format!("{:?}", read(&text(HASH)).expect("sound")).contains("argon2id"));
    }
}
