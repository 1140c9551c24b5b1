//! An operator, and a shell that carries a rotation out step by step.

use kms_core::{
    Error,
    identity::{Caller, UserId},
    key::{KeyId, KeyRecord},
    ops::{
        DataKey, DecryptDataKey, DescribeKey, DisableKey, KeySelector, PendingDays, RotateRoot,
        ScheduleKeyDeletion,
    },
    root::RootRecord,
    testing::hsm::{FakeHsm, on_session},
};

use crate::support::{World, caller, context, finish, generate, obs, owner};

pub(crate) fn operator() -> Caller {
    let name = UserId::parse("olga").expect("a name");
    Caller::operator(name, [7; 32], owner().source)
}

pub(crate) fn generations(hsm: &FakeHsm) -> Vec<u32> {
    on_session(hsm, |session| session.root_generations()).expect("the fake works")
}

pub(crate) fn root(world: &World) -> RootRecord {
    futures_executor::block_on(world.service.root()).expect("the store works")
}

pub(crate) fn start(world: &World) -> RootRecord {
    world.run(&operator(), RotateRoot { keep_old_root: false }).expect("the token works")
}

pub(crate) fn old_keys(world: &World) -> Vec<KeyId> {
    let (mut keys, mut after) = (Vec::new(), None);
    loop {
        let page = world.service.keys_under_old_roots(after, 2);
        let page = futures_executor::block_on(page).expect("the store works");
        assert!(page.unreadable.is_empty(), "{:?}", page.unreadable);
        keys.extend(page.keys);
        after = page.next;
        if after.is_none() {
            return keys;
        }
    }
}

pub(crate) fn rewrap(world: &World, key: KeyId) -> Result<(), Error> {
    finish(world.service.rewrap_key(key))
}

/// The next step of the rotation that `m/root` tells of; `None` when there is none left.
pub(crate) fn step(world: &World) -> Option<Result<(), Error>> {
    let root = root(world);
    root.rotation.as_ref()?;
    if root.all_moved() {
        return Some(finish(world.service.destroy_roots()).map(drop));
    }
    Some(match old_keys(world).first() {
        Some(key) => rewrap(world, *key),
        None => finish(world.service.forget_roots()).map(drop),
    })
}

/// Carries a rotation out to its end.
pub(crate) fn carry_out(world: &World) {
    while let Some(done) = step(world) {
        done.expect("nothing is in the way");
    }
}

/// Keys of all kinds and states, each with a data key that it sealed.
pub(crate) struct Keys {
    pub(crate) sealed: Vec<(Caller, KeyRecord, DataKey)>,
    pub(crate) disabled: KeyId,
    pub(crate) pending: KeyId,
}

impl Keys {
    pub(crate) fn make(world: &World) -> Self {
        let zeta = caller("zeta", "cn-east-3");
        let mut sealed = Vec::new();
        for (caller, alias) in [(owner(), "one"), (owner(), "two"), (zeta.clone(), "one")] {
            let key = KeySelector::Id(world.key(&caller, alias).id);
            sealed.push(seal(world, caller, key));
        }
        sealed.push(seal(world, zeta, obs()));
        let disabled = world.key(&owner(), "disabled").id;
        let pending = world.key(&owner(), "pending").id;
        for key in [disabled, pending] {
            sealed.push(seal(world, owner(), KeySelector::Id(key)));
        }
        world.run(&owner(), DisableKey { key: (disabled).into() }).expect("enabled before");
        let days = PendingDays::parse(7).expect("a waiting time");
        world
            .run(&owner(), ScheduleKeyDeletion { key: (pending).into(), pending: days })
            .expect("enabled before");
        for (caller, record, _) in &mut sealed {
            *record = describe(world, caller, record.id);
        }
        Self { sealed, disabled, pending }
    }

    pub(crate) fn ids(&self) -> Vec<KeyId> {
        self.sealed.iter().map(|(_, record, _)| record.id).collect()
    }

    /// Every key that may be used opens what it sealed before, and seals anew.
    pub(crate) fn assert_usable(&self, world: &World) {
        for (caller, record, data_key) in &self.sealed {
            if [self.disabled, self.pending].contains(&record.id) {
                continue;
            }
            assert_opens(world, caller, data_key);
            let (_, _, fresh) = seal(world, caller.clone(), KeySelector::Id(record.id));
            assert_opens(world, caller, &fresh);
        }
    }

    /// Nothing but the wrapping has changed, and that of all versions: to this generation.
    pub(crate) fn assert_moved(&self, world: &World, generation: u32) {
        for (caller, before, _) in &self.sealed {
            let after = describe(world, caller, before.id);
            let mut expected = before.clone();
            for (version, moved) in expected.versions.iter_mut().zip(&after.versions) {
                assert_ne!(version.wrapped.blob, moved.wrapped.blob);
                assert_eq!(moved.wrapped.root_generation, generation);
                version.wrapped = moved.wrapped.clone();
            }
            assert_eq!(after, expected);
        }
    }
}

pub(crate) fn describe(world: &World, caller: &Caller, key: KeyId) -> KeyRecord {
    world.run(caller, DescribeKey { key: KeySelector::Id(key) }).expect("it exists")
}

fn seal(world: &World, caller: Caller, key: KeySelector) -> (Caller, KeyRecord, DataKey) {
    let made = world.run(&caller, generate(key)).expect("an enabled key");
    let record = describe(world, &caller, made.sealed.key_id);
    (caller, record, made)
}

pub(crate) fn assert_opens(world: &World, caller: &Caller, data_key: &DataKey) {
    let decrypt = DecryptDataKey::new(&data_key.sealed.ciphertext, None, context()).expect("a ciphertext");
    let opened = world.run(caller, decrypt).expect("it opens");
    assert_eq!(opened.plaintext.expose_secret(), data_key.plaintext.expose_secret());
}
