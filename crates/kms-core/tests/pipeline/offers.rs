//! What is told of the service itself, and what it refuses to everyone.

use std::sync::Arc;

use kms_core::{
    Error, SecretBytes,
    access::{Policies, Policy},
    operation::{Action, OperationName, Permissions},
    ops::{
        CreateAccessPoint, CreateDataKeyCapsule, CreateKeyPolicy, CreatePin, DecryptDataKeyCapsule,
        DeleteAccessPoint, DeleteKeyPolicy, DescribeKeyPolicy, DisableAccessPoint,
        DownloadAccessPointPrivateKey, EnableAccessPoint, GetVersion, IssueToken, ListAccessPoints,
        ListKeyPolicies, ListProjects, ListVersions, Operation, UpdateKeyPolicy,
    },
    record::{Phase, Verdict},
};

use crate::support::{FOR_ANYONE, NOT_OFFERED, World, owner, with};

#[test]
fn one_version_of_the_api_is_spoken() {
    let world = World::new();
    let versions = world.run(&owner(), ListVersions).expect("it is permitted");
    let named = |version_id: &str| world.run(&owner(), GetVersion { version_id: version_id.to_owned() });
    assert_eq!(versions.iter().map(|version| named(version.id)).collect::<Vec<_>>(), [Ok(versions[0])]);
    for unknown in ["", "v2", "V1", "v1.0"] {
        assert_eq!(named(unknown), Err(Error::VersionNotFound), "{unknown:?}");
    }
}

#[test]
fn a_token_and_ones_own_projects_need_no_permission_and_no_policy_denies_them() {
    let world = World::new();
    let everything = r#"{"Version": "1.1", "Statement": [{"Effect": "Deny", "Action": ["*"]}]}"#;
    let denying = Policy::parse("nothing", everything).expect("a policy");
    let denying = Permissions::Of(Arc::new(Policies::new([Arc::new(denying)])));
    for permissions in [Permissions::NONE, denying] {
        let caller = with(permissions);
        let token = Arc::new(SecretBytes::new(b"a token".to_vec()));
        let (issued, records) = world.records_of(|| world.run(&caller, IssueToken { token: token.clone() }));
        assert!(Arc::ptr_eq(&issued.expect("for anyone"), &token));
        assert_eq!((records[0].operation, records[0].verdict), (FOR_ANYONE[0], Verdict::Succeeded));
        let (projects, records) = world.records_of(|| world.run(&caller, ListProjects));
        assert_eq!(projects.expect("for anyone"), caller.projects);
        assert_eq!((records[0].operation, records[0].verdict), (FOR_ANYONE[1], Verdict::Succeeded));
        assert_eq!(records.len(), 1);
    }
    assert_eq!(Action::parse(Action::Anyone.name()), None);
}

/// Refused to who may call it, after the permission, without touching anything, and with a record.
fn refused<O: Operation + Copy>(world: &World, operation: O) -> OperationName {
    let before = (world.hsm.calls(), world.store.reads(), world.store.commits());
    for (permissions, verdict, reason) in [
        ([O::NAME.info().action].into_iter().collect(), Verdict::Failed, "NOT_OFFERED"),
        (Permissions::NONE, Verdict::Denied, "PERMISSION_DENIED"),
    ] {
        let (result, records) = world.records_of(|| world.run(&with(permissions), operation).map(drop));
        assert_eq!(result.expect_err("nobody gets it").code(), reason);
        let [record] = &records[..] else { panic!("one record, not {}", records.len()) };
        assert_eq!((record.operation, record.phase), (O::NAME, Phase::Complete));
        assert_eq!((record.verdict, record.reason), (verdict, Some(reason)));
    }
    assert_eq!((world.hsm.calls(), world.store.reads(), world.store.commits()), before);
    O::NAME
}

#[test]
fn what_needs_trusted_execution_is_refused_and_recorded() {
    let world = World::new();
    let names = [
        refused(&world, CreateKeyPolicy),
        refused(&world, UpdateKeyPolicy),
        refused(&world, DeleteKeyPolicy),
        refused(&world, DescribeKeyPolicy),
        refused(&world, ListKeyPolicies),
        refused(&world, CreateAccessPoint),
        refused(&world, DeleteAccessPoint),
        refused(&world, EnableAccessPoint),
        refused(&world, DisableAccessPoint),
        refused(&world, ListAccessPoints),
        refused(&world, DownloadAccessPointPrivateKey),
        refused(&world, CreateDataKeyCapsule),
        refused(&world, DecryptDataKeyCapsule),
        refused(&world, CreatePin),
    ];
    assert_eq!(names, NOT_OFFERED);
}
