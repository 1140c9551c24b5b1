//! Callers, keys and refusals that the tests of access have in common.

use std::sync::Arc;

use kms_core::{
    Error,
    access::{Policies, Policy},
    error::Denial,
    grant::{GrantId, GrantName, GrantOperation, GrantOperations, Principal},
    identity::{Caller, UserId},
    key::KeyId,
    operation::{Action, Permissions},
    ops::{CreateGrant, DecryptDataKey, KeySelector},
};

use crate::support::{World, caller, context, encrypt_data, generate, owner};

pub(super) const REGION: &str = "cn-north-4";

/// A user of another account who may do nothing by himself.
pub(super) fn stranger() -> Caller {
    Caller { permissions: Permissions::NONE, ..caller("zeta", REGION) }
}

/// One of another account who may do everything with his own keys.
pub(super) fn foreign_owner() -> Caller {
    caller("zeta", REGION)
}

pub(super) fn to_user(caller: &Caller) -> Principal {
    Principal::User(caller.user.clone())
}

pub(super) fn give(
    world: &World,
    by: &Caller,
    key: KeyId,
    grantee: Principal,
    operations: &[GrantOperation],
) -> Result<GrantId, Error> {
    let request = CreateGrant {
        key: key.into(),
        grantee,
        operations: GrantOperations::parse(operations.iter().copied())?,
        name: GrantName::default(),
        retiring_principal: None,
        idempotency_token: None,
    };
    world.run(by, request).map(|grant| grant.id)
}

pub(super) fn open(world: &World, by: &Caller, ciphertext: &[u8]) -> Result<Vec<u8>, Error> {
    let operation = DecryptDataKey::new(ciphertext, None, context()).expect("a ciphertext");
    world.run(by, operation).map(|opened| opened.plaintext.expose_secret().to_vec())
}

pub(super) fn seal(world: &World, by: &Caller, key: KeyId) -> Result<Vec<u8>, Error> {
    world.run(by, generate(KeySelector::Id(key))).map(|made| made.sealed.ciphertext)
}

pub(super) fn denied(missing: Action) -> Error {
    Error::denied(missing)
}

pub(super) fn user(name: &str) -> UserId {
    UserId::parse(name).expect("a name")
}

/// A key of the owner's, with what it sealed.
pub(super) fn world() -> (World, KeyId, (Vec<u8>, Vec<u8>)) {
    let world = World::new();
    let key = world.key(&owner(), "key").id;
    let data_key = seal(&world, &owner(), key).expect("its owner");
    let small_data = world.run(&owner(), encrypt_data(key.into())).expect("its owner").ciphertext;
    (world, key, (data_key, small_data))
}

pub(super) fn sorted<T: Ord>(mut list: Vec<T>) -> Vec<T> {
    list.sort();
    list
}

/// What these policies say, in DEW's form.
pub(super) fn policies(documents: &[&str]) -> Permissions {
    let policy = |document: &&str| Arc::new(Policy::parse("test", document).expect("a policy"));
    Permissions::Of(Arc::new(Policies::new(documents.iter().map(policy))))
}

pub(super) fn allow(actions: &str, more: &str) -> String {
    statement("Allow", actions, more)
}

pub(super) fn statement(effect: &str, actions: &str, more: &str) -> String {
    format!(r#"{{"Version":"1.1","Statement":[{{"Effect":"{effect}","Action":["{actions}"]{more}}}]}}"#)
}

/// Everything but what this statement denies.
pub(super) fn all_but(actions: &str, more: &str) -> Caller {
    let (everything, deny) = (allow("*", ""), statement("Deny", actions, more));
    Caller { permissions: policies(&[&everything, &deny]), ..owner() }
}

pub(super) fn policy_denies(missing: Action) -> Error {
    Error::PermissionDenied { missing, denial: Denial::PolicyDenies }
}

pub(super) fn policy_denies_key(missing: Action) -> Error {
    Error::PermissionDenied { missing, denial: Denial::PolicyDeniesKey }
}
