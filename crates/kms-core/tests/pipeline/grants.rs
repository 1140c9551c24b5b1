//! Grants: who may make, list, retire and revoke them, how many there may be, and what is left of them.

use std::{collections::BTreeSet, time::Duration};

use kms_core::{
    Error, Phase, Verdict,
    error::{Counted, Denial, Quota},
    grant::{Grant, GrantId, GrantName, GrantOperation, GrantOperations, Principal},
    identity::{Caller, UserId},
    key::KeyId,
    operation::Action,
    ops::{
        CreateGrant, CreateKey, DisableKey, IdempotencyToken, ListGrants, ListRetirableGrants, PageSize,
        PageToken, PendingDays, RetireGrant, RevokeGrant, ScheduleKeyDeletion,
    },
};

use crate::support::{World, alias, caller, create, finish, generate, grant, obs, owner, poll};

const REGION: &str = "cn-north-4";

/// What a store may hold of grants.
const PREFIXES: [&[u8]; 3] = [b"g/", b"n/", b"p/"];

fn user(account: &str, name: &str) -> Caller {
    Caller { user: UserId::parse(name).expect("a name"), ..caller(account, REGION) }
}

fn to_user(key: KeyId, name: &str) -> CreateGrant {
    CreateGrant { grantee: Principal::user(name).expect("a name"), ..grant(key) }
}

fn allowing(operation: GrantOperation, request: CreateGrant) -> CreateGrant {
    CreateGrant { operations: GrantOperations::parse([operation]).expect("one"), ..request }
}

fn made(world: &World, request: CreateGrant) -> Grant {
    world.run(&owner(), request).expect("nothing is in the way")
}

fn retire(world: &World, caller: &Caller, grant: &Grant) -> Result<(), Error> {
    world.run(caller, RetireGrant { key: grant.key_id.into(), grant_id: grant.id })
}

fn revoke(world: &World, caller: &Caller, grant: &Grant) -> Result<(), Error> {
    world.run(caller, RevokeGrant { key: grant.key_id.into(), grant_id: grant.id })
}

fn size(size: u32) -> PageSize {
    PageSize::parse(size).expect("a size")
}

/// All pages of a key's grants, each with at most `each`.
fn listed(world: &World, caller: &Caller, key: KeyId, each: u32) -> Vec<Grant> {
    let (mut grants, mut token) = (Vec::new(), None);
    loop {
        let list = ListGrants { key: key.into(), size: size(each), token };
        let found = world.run(caller, list).expect("the key exists");
        assert!(found.page.grants.len() <= usize::try_from(each).expect("small"));
        assert_eq!(usize::try_from(found.total), Ok(world.grants_of(key).len()));
        grants.extend(found.page.grants);
        let Some(next) = found.page.next else { return grants };
        token = PageToken::parse(&next.encode()).expect("it was answered");
    }
}

/// The same of the grants that `caller` may retire.
fn retirable(world: &World, caller: &Caller, each: u32) -> Vec<GrantId> {
    let (mut grants, mut token) = (Vec::new(), None);
    loop {
        let page = world.run(caller, ListRetirableGrants { size: size(each), token }).expect("listed");
        grants.extend(page.grants.into_iter().map(|grant| grant.id));
        let Some(next) = page.next else { return grants };
        token = PageToken::parse(&next.encode()).expect("it was answered");
    }
}

fn left(world: &World) -> Vec<Vec<u8>> {
    PREFIXES.iter().flat_map(|prefix| world.store.under(prefix)).map(|(path, _)| path).collect()
}

#[test]
fn a_grant_says_who_made_it_for_whom_and_what_it_allows() {
    let world = World::new();
    let key = world.key(&owner(), "key").id;
    let request = CreateGrant {
        name: GrantName::parse("for/reports").expect("a name"),
        retiring_principal: UserId::parse("carol"),
        key: alias("key"),
        ..to_user(key, "bob")
    };
    let (made, records) = world.records_of(|| made(&world, request.clone()));
    assert_eq!((made.key_id, made.region.as_str(), made.name.as_str()), (key, REGION, "for/reports"));
    assert_eq!((made.issuing_account, made.issuer), (owner().account, owner().user));
    assert_eq!((made.grantee, made.retiring_principal), (request.grantee, request.retiring_principal));
    assert_eq!(made.operations, request.operations);
    let told: Vec<_> = records.iter().map(|record| (record.phase, record.verdict, record.key_id)).collect();
    let expected = [(Phase::Intent, Verdict::Pending), (Phase::Outcome, Verdict::Succeeded)];
    assert_eq!(told, expected.map(|(phase, verdict)| (phase, verdict, Some(key))));
    let [listed] = &listed(&world, &owner(), key, 10)[..] else { panic!("one grant") };
    assert_eq!(listed.id, made.id);
}

#[test]
fn only_enabled_custom_keys_are_granted() {
    let world = World::new();
    let key = world.key(&owner(), "key").id;
    world.run(&owner(), DisableKey { key: key.into() }).expect("it is enabled");
    assert_eq!(world.run(&owner(), grant(key)), Err(Error::KeyDisabled));
    let default = world.run(&owner(), generate(obs())).expect("made on first use").sealed.key_id;
    assert_eq!(world.run(&owner(), grant(default)), Err(Error::DefaultKeyImmutable));
    for stranger in [caller("zeta", REGION), caller("acme", "cn-east-3")] {
        assert_eq!(world.run(&stranger, grant(key)), Err(Error::KeyNotFound));
    }
    assert_eq!(left(&world), Vec::<Vec<u8>>::new());
}

#[test]
fn a_grant_is_retired_by_whom_it_names_and_by_nobody_else() {
    let world = World::new();
    let key = world.key(&owner(), "key").id;
    let retirers = || {
        let with = |request| CreateGrant { retiring_principal: UserId::parse("carol"), ..request };
        let may = |request| with(allowing(GrantOperation::RetireGrant, request));
        let may_not = |request| with(allowing(GrantOperation::DecryptData, request));
        [
            (may(to_user(key, "bob")), vec![owner(), user("zeta", "carol"), user("zeta", "bob")]),
            (may_not(to_user(key, "bob")), vec![owner(), user("zeta", "carol")]),
            (may(grant(key)), vec![owner(), user("acme", "carol"), user("zeta", "anybody")]),
            (may_not(grant(key)), vec![owner(), user("acme", "carol")]),
        ]
    };
    for (request, allowed) in retirers() {
        for retirer in allowed {
            let grant = made(&world, request.clone());
            let other_region = Caller { region: caller("acme", "cn-east-3").region, ..retirer.clone() };
            for stranger in [user("zeta-2", "dave"), other_region] {
                assert_eq!(retire(&world, &stranger, &grant), Err(Error::KeyNotFound));
                assert_eq!(world.audit.records().pop().expect("a record").key_id, None);
                assert_eq!(retirable(&world, &stranger, 10), []);
            }
            let colleague = retire(&world, &user("acme", "dave"), &grant);
            assert_eq!(colleague, Err(Error::denied_on_key(Action::GrantRetire)));
            assert_eq!(retirable(&world, &retirer, 10), [grant.id], "once, whatever it may retire it as");
            assert_eq!(retire(&world, &retirer, &grant), Ok(()));
            assert_eq!(world.audit.records().pop().expect("a record").key_id, Some(key));
            assert_eq!(left(&world), Vec::<Vec<u8>>::new());
        }
    }
    assert_eq!(retire(&world, &owner(), &made_and_revoked(&world, key)), Err(Error::GrantNotFound));
}

fn made_and_revoked(world: &World, key: KeyId) -> Grant {
    let grant = made(world, grant(key));
    revoke(world, &owner(), &grant).expect("the key's account takes it away");
    grant
}

#[test]
fn a_grant_is_revoked_by_the_keys_account_only() {
    let world = World::new();
    let key = world.key(&owner(), "key").id;
    let grant = made(&world, to_user(key, "bob"));
    for stranger in [user("zeta", "carol"), caller("acme", "cn-east-3")] {
        assert_eq!(revoke(&world, &stranger, &grant), Err(Error::KeyNotFound));
    }
    // The grantee knows that the key exists.
    let missing = Action::GrantRevoke;
    assert_eq!(
        revoke(&world, &user("zeta", "bob"), &grant),
        Err(Error::PermissionDenied { missing, denial: Denial::NotGranted })
    );
    assert_eq!(revoke(&world, &user("acme", "dave"), &grant), Ok(()));
    assert_eq!(revoke(&world, &owner(), &grant), Err(Error::GrantNotFound));
    assert_eq!(left(&world), Vec::<Vec<u8>>::new());
}

#[test]
fn the_key_of_a_grant_is_told_to_who_sees_it_only() {
    let world = World::new();
    let (key, other) = (world.key(&owner(), "key").id, world.key(&owner(), "other").id);
    let stranger = caller("zeta", REGION);
    let theirs = world.key(&stranger, "theirs").id;
    let grant = made(&world, grant(key));
    for remove in [revoke, retire] {
        let under = |key_id| Grant { key_id, ..grant.clone() };
        assert_eq!(remove(&world, &owner(), &under(other)), Err(Error::GrantMismatch));
        assert_eq!(remove(&world, &stranger, &under(theirs)), Err(Error::GrantNotFound));
    }
}

#[test]
fn grants_are_listed_once_by_pages_of_any_size() {
    let world = World::new();
    let keys = ["a", "b"].map(|name| world.key(&owner(), name).id);
    let hers = |key| CreateGrant { retiring_principal: UserId::parse("carol"), ..grant(key) };
    let (mut all, mut of_carol) = (BTreeSet::new(), BTreeSet::new());
    for key in keys {
        for _ in 0..4 {
            all.insert(made(&world, grant(key)).id);
            of_carol.insert(made(&world, hers(key)).id);
        }
    }
    all.extend(&of_carol);
    let other_account = caller("zeta", REGION);
    let elsewhere = world.key(&other_account, "c").id;
    world.run(&other_account, grant(elsewhere)).expect("its own key");
    for each in 1..=9 {
        let mut found: Vec<_> =
            keys.iter().flat_map(|key| listed(&world, &owner(), *key, each)).map(|grant| grant.id).collect();
        assert_eq!(found.len(), 16);
        assert!(found.iter().all(|id| all.contains(id)));
        // As herself, and as one of the account that is granted to.
        found = retirable(&world, &user("zeta", "carol"), each);
        assert_eq!(found.len(), 17, "{each}");
        assert!(found[..8].iter().all(|id| of_carol.contains(id)));
        assert_eq!(found.iter().collect::<BTreeSet<_>>().len(), 17);
    }
    let list = |caller: &Caller| {
        let list = ListGrants { key: keys[0].into(), size: size(0), token: None };
        world.run(caller, list).expect_err("another account's").code()
    };
    assert_eq!(list(&other_account), "PERMISSION_DENIED", "it holds a grant of the key");
    assert_eq!(list(&caller("third", REGION)), "KEY_NOT_FOUND");
}

#[test]
fn a_key_has_a_hundred_grants_and_a_grantee_holds_a_hundred() {
    let world = World::new();
    let (key, other) = (world.key(&owner(), "key").id, world.key(&owner(), "other").id);
    let mut last = made(&world, to_user(key, "bob"));
    for number in 1..100 {
        last = made(&world, to_user(key, if number < 50 { "bob" } else { "eve" }));
    }
    let full = |what| Err(Error::QuotaExceeded(Quota { what, limit: 100, used: 100 }));
    assert_eq!(world.run(&owner(), to_user(key, "dave")), full(Counted::GrantsOfKey));
    for _ in 0..50 {
        made(&world, to_user(other, "bob"));
    }
    assert_eq!(world.run(&owner(), to_user(other, "bob")), full(Counted::GrantsToGrantee));
    made(&world, CreateGrant { grantee: Principal::account("bob").expect("a name"), ..grant(other) });
    retire(&world, &owner(), &last).expect("its creator");
    made(&world, to_user(key, "dave"));
    assert_eq!(world.run(&owner(), to_user(key, "dave")), full(Counted::GrantsOfKey));
}

#[test]
fn what_one_account_grants_takes_no_place_from_another() {
    let world = World::new();
    let foreign = user("zeta", "zeta-admin");
    let keys =
        [("one", &foreign), ("other", &foreign), ("own", &owner())].map(|(name, of)| world.key(of, name).id);
    let mut last = None;
    for number in 0..100 {
        last = world.run(&foreign, to_user(keys[number % 2], "bob")).ok();
    }
    let full = || Err(Error::QuotaExceeded(Quota { what: Counted::GrantsToGrantee, limit: 100, used: 100 }));
    assert_eq!(world.run(&foreign, to_user(keys[0], "bob")), full());
    for _ in 0..100 {
        made(&world, to_user(keys[2], "bob"));
    }
    // And what one takes away gives no place to the other.
    revoke(&world, &foreign, &last.expect("a grant")).expect("its own");
    let more = world.key(&owner(), "more").id;
    assert_eq!(world.run(&owner(), to_user(more, "bob")), full());
    world.run(&foreign, to_user(keys[0], "bob")).expect("a free place");
}

#[test]
fn a_race_for_the_last_place_has_one_winner() {
    let world = World::new();
    let key = world.key(&owner(), "key").id;
    for number in 0..99 {
        made(&world, to_user(key, &format!("user-{number}")));
    }
    let sibling = world.sibling();
    // Both have read the counts when their intents are held, and both commit after that.
    for one in [&world, &sibling] {
        one.audit.hold();
    }
    let mut running =
        [world.begin(&owner(), to_user(key, "one")), sibling.begin(&owner(), to_user(key, "other"))];
    for one in &mut running {
        assert!(poll(one).is_pending());
    }
    for one in [&world, &sibling] {
        one.audit.release();
    }
    let [won, lost] = running.map(finish);
    won.expect("the last place");
    assert_eq!(lost.expect_err("no place is left").code(), "QUOTA_EXCEEDED");
    assert_eq!(world.grants_of(key).len(), 100);
}

#[test]
fn a_key_that_is_disabled_meanwhile_gets_no_grant() {
    let world = World::new();
    let key = world.key(&owner(), "key").id;
    world.audit.hold();
    let mut running = world.begin(&owner(), grant(key));
    assert!(poll(&mut running).is_pending());
    world.sibling().run(&owner(), DisableKey { key: key.into() }).expect("it is enabled");
    world.audit.release();
    assert_eq!(finish(running), Err(Error::KeyDisabled));
    assert_eq!(left(&world), Vec::<Vec<u8>>::new());
}

#[test]
fn a_grant_that_two_remove_at_once_is_counted_off_once() {
    let world = World::new();
    let key = world.key(&owner(), "key").id;
    let (first, _) = (made(&world, grant(key)), made(&world, grant(key)));
    world.audit.hold();
    let revoked = RevokeGrant { key: key.into(), grant_id: first.id };
    let mut running = world.begin(&owner(), revoked);
    assert!(poll(&mut running).is_pending());
    retire(&world.sibling(), &owner(), &first).expect("its creator");
    world.audit.release();
    assert_eq!(finish(running), Err(Error::GrantNotFound));
    assert_eq!(listed(&world, &owner(), key, 10).len(), 1); // and counts one
}

#[test]
fn a_retry_with_its_token_answers_the_same_grant() {
    let world = World::new();
    let (key, other) = (world.key(&owner(), "key").id, world.key(&owner(), "other").id);
    let token = |text| Some(IdempotencyToken::parse(text).expect("a token"));
    let with = |request, text| CreateGrant { idempotency_token: token(text), ..request };
    let first = made(&world, with(grant(key), "one"));
    let (again, records) = world.records_of(|| made(&world, with(grant(key), "one")));
    assert_eq!(again, first);
    assert_eq!(records.last().expect("a record").reason, Some("EXISTED_ALREADY"));
    assert_ne!(made(&world, with(grant(key), "two")).id, first.id);
    for changed in [grant(other), to_user(key, "zeta"), allowing(GrantOperation::DescribeKey, grant(key))] {
        assert_eq!(world.run(&owner(), with(changed, "one")), Err(Error::IdempotencyTokenReused));
    }
    let reused = world.run(&owner(), create_with("one"));
    assert_eq!(reused, Err(Error::IdempotencyTokenReused));
    revoke(&world, &owner(), &first).expect("it exists");
    assert_eq!(world.run(&owner(), with(grant(key), "one")), Err(Error::GrantNotFound));
}

fn create_with(token: &str) -> CreateKey {
    let idempotency_token = Some(IdempotencyToken::parse(token).expect("a token"));
    CreateKey { idempotency_token, ..create("with-token") }
}

#[test]
fn a_key_whose_deletion_is_due_has_no_grants_for_anyone() {
    let world = World::new();
    let key = world.key(&owner(), "key").id;
    let grant = made(&world, CreateGrant { retiring_principal: UserId::parse("carol"), ..grant(key) });
    let pending = PendingDays::parse(7).expect("a waiting time");
    world.run(&owner(), ScheduleKeyDeletion { key: key.into(), pending }).expect("it is enabled");
    let carol = user("theta", "carol");
    assert_eq!(retirable(&world, &carol, 10), [grant.id]);
    world.clock.advance(Duration::from_secs(7 * 24 * 60 * 60));
    assert_eq!(retirable(&world, &carol, 10), []);
    assert_eq!(retire(&world, &carol, &grant), Err(Error::KeyNotFound));
}
