//! A hundred thousand random decisions on access, each made by `kms_core::access` and by Cedar: no difference.
//!
//! `model.rs` makes accounts, users, policies, keys and grants; `cedar.rs` says in Cedar's language what
//! docs/access.md says of them, without any code of ours; here both decide, and have to name the same rule.

mod cedar;
mod model;

use std::{collections::BTreeMap, sync::Arc};

use cedar_policy::{Authorizer, Decision};
use kms_core::{
    Timestamp,
    access::{AccessRequest, Asker, KeyFacts, Policies, Policy, Ruling, could_allow, decide},
    context::EncryptionContext,
    grant::{Grant, GrantId, GrantName, GrantOperations, Principal},
    identity::{AccountId, Region, UserId},
};

use model::{Asked, Random, World};

const WORLDS: u64 = 250;
const REQUESTS: u64 = 440;
/// Changes every case; any other number should do as well.
const SEED: u64 = 0x0dec_ade5;

/// A world in our own terms.
struct Ours {
    policies: Vec<Policies>,
    grants: Vec<Grant>,
}

impl Ours {
    fn of(world: &World) -> Self {
        let policies = world.users.iter().map(|user| {
            let policies = user.policies.iter().map(|policy| {
                let json = policy.json();
                let parsed = Policy::parse(&policy.name, &json);
                Arc::new(parsed.unwrap_or_else(|error| panic!("{error} of {json}")))
            });
            Policies::new(policies)
        });
        let grants = world.grants.iter().map(|grant| Grant {
            id: GrantId::parse(&grant.id).expect("an id"),
            key_id: world.keys[grant.key].id.parse().expect("an id"),
            region: region(grant.region),
            issuing_account: account("acme"),
            issuer: UserId::parse("owner").expect("a name"),
            grantee: match &grant.user {
                Some(user) => Principal::user(user).expect("a user"),
                None => Principal::account(grant.account).expect("an account"),
            },
            operations: GrantOperations::parse(grant.operations.iter().copied()).expect("more than granting"),
            name: GrantName::default(),
            retiring_principal: None,
            created: Timestamp::from_micros(0),
        });
        Self { policies: policies.collect(), grants: grants.collect() }
    }

    fn rule(&self, world: &World, asked: &Asked) -> Ruling {
        let caller = &world.users[asked.user];
        let (of_caller, user) = (account(caller.account), UserId::parse(&caller.name).expect("a name"));
        let pairs: BTreeMap<_, _> = asked.pairs.iter().cloned().collect();
        let context = EncryptionContext::new(pairs).expect("short enough");
        let facts = |key: &model::Key| KeyFacts {
            id: (!asked.is_new).then(|| key.id.parse().expect("an id")),
            spec: key.spec,
            usage: key.usage,
            origin: key.origin,
            is_default: key.is_default && !asked.is_new,
        };
        let request = AccessRequest {
            operation: asked.operation,
            account: &account(world.account_of(asked)),
            region: &region(asked.region),
            key: asked.key.map(|key| facts(&world.keys[key])),
            context: (!asked.pairs.is_empty()).then_some(&context),
            alias: asked.alias.as_deref(),
        };
        let policies = &self.policies[asked.user];
        let ruling = decide(&Asker { account: &of_caller, user: &user, policies }, &request, &self.grants);
        assert!(!ruling.is_allowed() || could_allow(policies, asked.operation), "{asked:?}: it could not be");
        ruling
    }
}

fn account(name: &str) -> AccountId {
    AccountId::parse(name).expect("a name")
}

fn region(name: &str) -> Region {
    Region::parse(name).expect("a name")
}

#[test]
fn cedar_decides_the_same() {
    let (mut random, authorizer) = (Random::new(SEED), Authorizer::new());
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for number in 0..WORLDS {
        let world = World::random(&mut random);
        let (ours, theirs) = (Ours::of(&world), cedar::World::of(&world));
        for _ in 0..REQUESTS {
            let asked = world.request(&mut random);
            let ruling = ours.rule(&world, &asked);
            let response =
                authorizer.is_authorized(&theirs.request(&world, &asked), &theirs.policies, &theirs.entities);
            let errors: Vec<_> = response.diagnostics().errors().collect();
            assert!(errors.is_empty(), "{errors:?}");
            let reasons: Vec<String> = response.diagnostics().reason().map(ToString::to_string).collect();
            let user = &world.users[asked.user].name;
            let (kind, decision, reason) = match &ruling {
                Ruling::AllowedByPolicy(name) => {
                    ("policy", Decision::Allow, Some(cedar::statement_id(user, &name.policy, name.statement)))
                }
                Ruling::AllowedByGrant(id) => {
                    ("grant", Decision::Allow, Some(cedar::grant_id(&id.to_string())))
                }
                Ruling::Denied(name) => {
                    ("deny", Decision::Deny, Some(cedar::statement_id(user, &name.policy, name.statement)))
                }
                Ruling::NotAllowed { .. } => ("nothing", Decision::Deny, None),
            };
            let same = response.decision() == decision
                && match &reason {
                    Some(reason) => reasons.contains(reason),
                    None => reasons.is_empty(),
                };
            assert!(
                same,
                "world {number}: {asked:?} of {user}: {ruling:?}, but {:?} by {reasons:?} in\n{}",
                response.decision(),
                theirs.policies
            );
            *counts.entry(kind).or_default() += 1;
        }
    }
    let of = |kind: &str| counts.get(kind).copied().unwrap_or_default();
    let total = WORLDS * REQUESTS;
    assert!(total >= 100_000, "too few to prove anything");
    for count in [of("policy") + of("grant"), of("deny"), of("nothing")] {
        assert!(count * 10 >= total, "one outcome is too rare to prove anything: {counts:?}");
    }
    assert!(of("grant") * 50 >= total && of("policy") * 50 >= total, "{counts:?}");
    println!("{total}: {counts:?}");
}
