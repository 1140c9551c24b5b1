//! Keys that sign, authenticate and agree: each kind in the HSM and, where that is allowed, opened in the service.

use std::sync::Arc;

use kms_core::{
    Error,
    crypto::{AgreementAlgorithm, MacAlgorithm, MessageType, SigningAlgorithm},
    key::{BackingKind, KeyClass, KeyRecord, KeySpec, KeyUsage, Scheme},
    ops::{
        CreateKey, DeriveSharedSecret, DisableKey, GenerateMac, GetPublicKey, KeySelector, Sign, Verify,
        VerifyMac,
    },
    testing::hsm::FakeHsm,
};

use super::support::{SpyStore, World, create, owner};

fn key(world: &World, spec: KeySpec, usage: KeyUsage) -> Result<KeyRecord, Error> {
    let alias = format!("{}-{}", spec.name(), usage.name());
    world.run(&owner(), CreateKey { spec, usage: Some(usage), ..create(&alias) })
}

/// A token that offers no keys that do not seal, but RSA.
fn poor() -> World {
    let hsm = Arc::new(FakeHsm::default());
    for spec in KeySpec::ALL {
        if !matches!(spec.class(), KeyClass::Rsa | KeyClass::Symmetric) {
            let kind = BackingKind::of(spec, Scheme::InHsm);
            if kind != BackingKind::Mac {
                hsm.lack(kind);
            }
        }
    }
    World::on(hsm, Arc::new(SpyStore::default())).expect("starts")
}

#[test]
fn every_kind_signs_what_its_public_key_verifies_and_nothing_else() {
    for world in [World::new(), poor()] {
        for spec in KeySpec::ALL.into_iter().filter(|spec| spec.usages().contains(&KeyUsage::SignVerify)) {
            let record = key(&world, spec, KeyUsage::SignVerify).expect("a key");
            let selector = KeySelector::Id(record.id);
            let opened = record.versions[0].scheme == Scheme::Opened;
            for algorithm in SigningAlgorithm::ALL {
                let message = b"a message".to_vec();
                let sign = Sign::new(selector.clone(), algorithm, MessageType::Raw, message.clone());
                let signed = world.run(&owner(), sign.expect("well-formed"));
                if !algorithm.is_for(spec) {
                    assert_eq!(signed, Err(Error::AlgorithmMismatch(spec.class())), "{spec:?} {algorithm:?}");
                    continue;
                }
                if algorithm == SigningAlgorithm::Ed25519Ph && !opened {
                    assert!(matches!(signed, Err(Error::NotOffered { .. })), "{signed:?}");
                    continue;
                }
                let signature = signed.expect("signs").bytes;
                let valid = |message: &[u8], signature: Vec<u8>| {
                    let verify = Verify::new(
                        selector.clone(),
                        algorithm,
                        MessageType::Raw,
                        message.to_vec(),
                        signature,
                    );
                    world.run(&owner(), verify.expect("well-formed")).expect("an answer").valid
                };
                assert!(valid(&message, signature.clone()), "{spec:?} {algorithm:?}");
                assert!(!valid(b"another", signature.clone()), "{spec:?} {algorithm:?}");
                let mut altered = signature.clone();
                *altered.last_mut().expect("not empty") ^= 1;
                assert!(!valid(&message, altered), "{spec:?} {algorithm:?}");
                assert!(!valid(&message, signature[1..].to_vec()), "{spec:?} {algorithm:?}");
                assert!(!valid(&message, vec![0; 3]), "{spec:?} {algorithm:?}");
            }
        }
    }
}

#[test]
fn both_sides_of_an_agreement_get_the_same() {
    for world in [World::new(), poor()] {
        for spec in KeySpec::ALL.into_iter().filter(|spec| spec.usages().contains(&KeyUsage::KeyAgreement)) {
            let one = key(&world, spec, KeyUsage::KeyAgreement).expect("a key").id;
            let other = CreateKey {
                spec,
                usage: Some(KeyUsage::KeyAgreement),
                ..create(&format!("{}-2", spec.name()))
            };
            let other = world.run(&owner(), other).expect("a key").id;
            let public =
                |id| world.run(&owner(), GetPublicKey { key: KeySelector::Id(id) }).expect("a key pair").der;
            let derive = |id, public_key| {
                let (key, algorithm) = (KeySelector::Id(id), AgreementAlgorithm::Ecdh);
                world.run(&owner(), DeriveSharedSecret { key, algorithm, public_key })
            };
            let secret = derive(one, public(other)).expect("agrees").secret;
            let same = derive(other, public(one)).expect("agrees").secret;
            assert_eq!(secret.expose_secret(), same.expose_secret(), "{spec:?}");
            let mut off_curve = public(other);
            *off_curve.last_mut().expect("not empty") ^= 1;
            for wrong in [off_curve, public(other)[1..].to_vec(), Vec::new()] {
                assert_eq!(derive(one, wrong).expect_err("no point").code(), "INVALID_FIELD");
            }
        }
    }
}

#[test]
fn macs_are_recognised_and_no_others() {
    for world in [World::new(), poor()] {
        for algorithm in MacAlgorithm::ALL {
            let spec = KeySpec::ALL.into_iter().find(|spec| algorithm.is_for(*spec)).expect("a kind");
            let id = key(&world, spec, KeyUsage::GenerateVerifyMac).expect("a key").id;
            let (key, message) = (KeySelector::Id(id), b"a message".to_vec());
            let generate = GenerateMac::new(key.clone(), algorithm, message.clone()).expect("well-formed");
            let mac = world.run(&owner(), generate).expect("a MAC").bytes;
            let valid = |message: &[u8], mac: &[u8]| {
                let verify = VerifyMac::new(key.clone(), algorithm, message.to_vec(), mac.to_vec());
                world.run(&owner(), verify.expect("well-formed")).expect("an answer").valid
            };
            assert!(valid(&message, &mac), "{spec:?}");
            assert!(!valid(b"another", &mac) && !valid(&message, &mac[1..]), "{spec:?}");
        }
    }
}

#[test]
fn wrong_kinds_usages_and_states_are_refused_each_with_its_reason() {
    let world = World::new();
    let sign = |id| {
        let algorithm = SigningAlgorithm::Sm2Sm3;
        let sign = Sign::new(KeySelector::Id(id), algorithm, MessageType::Digest, vec![1; 32]);
        world.run(&owner(), sign.expect("well-formed")).map(drop)
    };
    assert_eq!(sign(world.key(&owner(), "aes").id), Err(Error::KeyKindUnsupported(KeyClass::Symmetric)));
    let agrees = key(&world, KeySpec::Sm2, KeyUsage::KeyAgreement).expect("a key").id;
    assert_eq!(sign(agrees), Err(Error::KeyUsageMismatch(KeyUsage::KeyAgreement)));
    let signs = key(&world, KeySpec::Sm2, KeyUsage::SignVerify).expect("a key").id;
    assert_eq!(sign(signs), Ok(()));
    world.run(&owner(), DisableKey { key: (signs).into() }).expect("is enabled");
    assert_eq!(sign(signs), Err(Error::KeyDisabled));
}

#[test]
fn rsa_is_never_in_software() {
    let hsm = Arc::new(FakeHsm::default());
    hsm.lack(BackingKind::Rsa2048);
    let world = World::on(hsm, Arc::new(SpyStore::default())).expect("starts");
    let made = key(&world, KeySpec::Rsa2048, KeyUsage::SignVerify);
    assert!(matches!(made, Err(Error::NotOffered { .. })), "{made:?}");
}

#[test]
fn messages_and_digests_of_other_lengths_are_malformed() {
    let selector = KeySelector::alias("any").expect("an alias");
    for (algorithm, message_type, bytes) in [
        (SigningAlgorithm::Sm2Sm3, MessageType::Digest, 31),
        (SigningAlgorithm::Ed25519Ph, MessageType::Digest, 32),
        (SigningAlgorithm::Ed25519, MessageType::Digest, 64),
        (SigningAlgorithm::Sm2Sm3, MessageType::Raw, 0),
        (SigningAlgorithm::Sm2Sm3, MessageType::Raw, 4097),
    ] {
        let made = Sign::new(selector.clone(), algorithm, message_type, vec![0; bytes]);
        assert_eq!(made.expect_err("malformed").code(), "INVALID_FIELD");
    }
}
