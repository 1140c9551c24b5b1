//! Who may do what with a bucket: the user's own permissions and the bucket's policy together.

use crate::{
    credentials::User,
    sse::{Facts, Policy, Verdict},
};

/// The actions that the owner's users keep whatever the policy says, or nobody could correct a policy.
const OF_POLICIES: [&str; 3] = ["PutBucketPolicy", "GetBucketPolicy", "DeleteBucketPolicy"];

/// Whether a user may do this with a bucket of `owner` whatever its policy says, also if nobody can read that any more.
pub fn is_allowed_in_any_case(user: &User, owner: &str, action: &str) -> bool {
    user.requester.account == owner && user.may(action) && OF_POLICIES.contains(&action)
}

/// Whether a user may do what `facts` say with a bucket of `owner`.
///
/// A denial of the policy goes before all. In the owner's account either side may allow; a user of another account
/// needs both: its own permission and the policy's.
pub fn is_allowed(user: &User, owner: &str, policy: Option<&Policy>, facts: &Facts<'_>) -> bool {
    if is_allowed_in_any_case(user, owner, facts.action) {
        return true;
    }
    let is_own = user.requester.account == owner;
    let may = user.may(facts.action);
    match policy.map_or(Verdict::Silent, |policy| policy.verdict(facts)) {
        Verdict::Denied => false,
        Verdict::Allowed => is_own || may,
        Verdict::Silent => is_own && may,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::Credentials;

    const ALLOW: &str =
        r#"{"Statement": [{"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": ["b", "b/*"]}]}"#;
    const DENY: &str =
        r#"{"Statement": [{"Effect": "Deny", "Principal": "*", "Action": "*", "Resource": ["b", "b/*"]}]}"#;

    fn decided(permission: &str, owner: &str, policy: Option<&str>, action: &str) -> bool {
        let file = format!(
            "[[accounts]]\ndomain_id = \"d1\"\nproject_id = \"p1\"\n[[accounts.users]]\nuser_id = \"u1\"\n\
             permissions = [\"{permission}\"]\naccess_keys = [{{ access_key_id = \"AK\", secret_access_key = \"SK\" }}]"
        );
        let credentials = Credentials::parse(&file).unwrap();
        let policy = policy.map(|policy| Policy::parse(policy, "b").unwrap());
        let (account, user_id, object) = ("d1", "u1", Some("o"));
        let (encryption, key, is_secure) = (None, None, true);
        let facts = Facts { account, user_id, action, bucket: "b", object, encryption, key, is_secure };
        is_allowed(&credentials.usable("AK", 0).unwrap().user, owner, policy.as_ref(), &facts)
    }

    #[test]
    fn in_the_owners_account_either_side_allows() {
        assert!(decided("*", "d1", None, "PutObject"));
        assert!(decided("none", "d1", Some(ALLOW), "PutObject"));
        assert!(!decided("none", "d1", None, "PutObject"));
    }

    #[test]
    fn across_accounts_both_sides_have_to_allow() {
        assert!(decided("*", "d2", Some(ALLOW), "PutObject"));
        assert!(!decided("*", "d2", None, "PutObject"));
        assert!(!decided("none", "d2", Some(ALLOW), "PutObject"));
    }

    #[test]
    fn a_denial_goes_before_all_but_the_owners_hold_on_the_policy() {
        assert!(!decided("*", "d1", Some(DENY), "PutObject"));
        assert!(decided("*", "d1", Some(DENY), "DeleteBucketPolicy"));
        assert!(!decided("none", "d1", Some(DENY), "DeleteBucketPolicy"));
        assert!(!decided("*", "d2", Some(DENY), "DeleteBucketPolicy"));
    }
}
