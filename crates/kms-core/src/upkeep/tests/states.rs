//! The operations of the service itself, on keys in every state: what the table of states says of them.

use super::*;
use crate::{
    due::{Due, DueEntry},
    operation::OperationName,
    ops::{DestroyKey, ExpireKeyMaterial, ReserveKeyUses, RewrapKey, RotateKey, RotateRoot, RotationCause},
    states::{self, Effect, STATES},
};

/// A key in this state, without a way that led there, for this operation: what it is about is due.
fn key_for(world: &World, name: OperationName, state: KeyState) -> KeyId {
    let key_id = world.imported("key", Some(world.service.now()));
    let before = world.record(key_id);
    let mut after = before.clone();
    after.state = state;
    match state {
        KeyState::PendingImport => after.drop_material(),
        _ if name == OperationName::ExpireKeyMaterial => {}
        _ => (after.origin, after.import) = (KeyOrigin::Kms, None),
    }
    if state == KeyState::PendingDeletion {
        let left = if name == OperationName::DestroyKey { Duration::ZERO } else { DAY };
        after.deletion_due = Some(world.service.now().plus(left));
    }
    world.replace(&before, &after);
    key_id
}

/// Does it, and answers the reason of a refusal.
fn run(world: &World, name: OperationName, key_id: KeyId) -> Result<(), &'static str> {
    let (service, now) = (&world.service, world.service.now());
    let own = |answer: Result<(), Refused>| answer.map_err(|refused| refused.error().code());
    match name {
        OperationName::DestroyKey => {
            let entry = DueEntry::new(now, Due::Deletion, key_id);
            own(block_on(service.run_own(DestroyKey { entry })).map(drop))
        }
        OperationName::ExpireKeyMaterial => {
            let entry = DueEntry::new(now, Due::MaterialExpiry, key_id);
            own(block_on(service.run_own(ExpireKeyMaterial { entry })).map(drop))
        }
        OperationName::RewrapKey => own(block_on(service.run_own(RewrapKey { key_id })).map(drop)),
        OperationName::ReserveKeyUses => {
            own(block_on(service.run(call(Permissions::all()), Ok(ReserveKeyUses { key_id, version: 1 })))
                .map(drop))
        }
        _ => {
            let rotate = RotateKey { key_id, version: 1, cause: RotationCause::BudgetSpent };
            own(block_on(service.run(call(Permissions::all()), Ok(rotate))).map(drop))
        }
    }
}

#[test]
fn every_operation_of_the_service_itself_in_every_state_does_what_the_table_says() {
    use OperationName as Name;
    for name in
        [Name::DestroyKey, Name::ExpireKeyMaterial, Name::RewrapKey, Name::RotateKey, Name::ReserveKeyUses]
    {
        for state in STATES {
            let world = World::new();
            let key_id = key_for(&world, name, state);
            let rotate = RotateRoot { keep_old_root: false };
            block_on(world.service.run(call(Permissions::OPERATOR), Ok(rotate)))
                .expect("nothing is in the way");
            let before = world.record(key_id);
            let actual = run(&world, name, key_id);
            let after = world.record(key_id);
            match states::effect(name, state).expect("it is in the table") {
                Effect::Refused(refusal) => {
                    assert_eq!(actual, Err(refusal.error().code()), "{name:?} in {state:?}");
                    assert_eq!(after, before, "{name:?} in {state:?} changed something");
                }
                Effect::Ends => assert!(actual == Ok(()) && after.is_destroyed(), "{name:?} in {state:?}"),
                Effect::Stays => assert_eq!((actual, after.state), (Ok(()), state), "{name:?} in {state:?}"),
                Effect::Becomes(next) => {
                    assert_eq!((actual, after.state), (Ok(()), next), "{name:?} in {state:?}");
                }
            }
            assert!(after.is_destroyed() || name != Name::DestroyKey || after == before, "{state:?}");
            let moved = after.versions.iter().all(|version| version.wrapped.root_generation == 2);
            assert!(moved || name != Name::RewrapKey, "{state:?}");
            assert!(after.versions.is_empty() || name != Name::ExpireKeyMaterial, "{state:?}");
        }
    }
}
