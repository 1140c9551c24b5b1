//! A vendor's SM4 inside the HSM, by the numbers of the stand-in, as an AEAD and as bare blocks.

use cryptoki::{
    mechanism::Mechanism,
    object::{Attribute, KeyType, ObjectClass},
};
use kms_core::{
    key::{BackingKey, BackingKind, WrappedKey},
    ports::HsmError,
    testing::hsm::{on_session, sealing_contract},
};
use kms_hsm::{CipherForm, FeatureState, OpenError, Pkcs11Config, Pkcs11Hsm, VendorSm4};

use crate::support::{Token, ask, new_material};

on_each_module!(
    with_faulty_token:
    each_form_keeps_the_contract,
    each_form_reproduces_rfc_8998,
    what_one_form_sealed_the_other_opens,
    numbers_that_the_token_does_not_have_offer_nothing,
    the_survey_tells_what_works,
);

const FORMS: [CipherForm; 2] = [CipherForm::Gcm, CipherForm::Ecb];

fn config(token: &Token, form: CipherForm) -> Pkcs11Config {
    let cipher = if form == CipherForm::Gcm { 0x8000_010f } else { 0x8000_0108 };
    let sm4 = VendorSm4 { key_type: 0x8000_0002, generation: 0x8000_0107, cipher, form };
    Pkcs11Config { sm4: Some(sm4), ..token.config() }
}

fn open(token: &Token, form: CipherForm) -> Pkcs11Hsm {
    Pkcs11Hsm::open(&config(token, form)).expect("a token with root keys")
}

fn new_key(hsm: &Pkcs11Hsm) -> BackingKey {
    let kind = BackingKind::Sm4;
    let wrapped = on_session(hsm, move |session| session.generate_backing_key(kind)).expect("an SM4 key");
    BackingKey { material: new_material(), version: 1, kind, wrapped }
}

fn each_form_keeps_the_contract(token: &Token) {
    drop(token.open_new());
    for form in FORMS {
        sealing_contract(&open(token, form), BackingKind::Sm4);
    }
}

fn what_one_form_sealed_the_other_opens(token: &Token) {
    drop(token.open_new());
    let key = new_key(&open(token, CipherForm::Gcm));
    for (sealing, opening) in [(CipherForm::Gcm, CipherForm::Ecb), (CipherForm::Ecb, CipherForm::Gcm)] {
        for length in [1, 16, 33, 1024] {
            let (sealer, opener) = (key.clone(), key.clone());
            let seal = |hsm: &Pkcs11Hsm| {
                ask(hsm, move |session| session.seal(&sealer, &[9; 12], b"context", &vec![5; length]))
            };
            let sealed = seal(&open(token, sealing)).expect("sealed");
            let opened = ask(&open(token, opening), move |session| {
                Ok(session.open(&opener, &[9; 12], b"context", &sealed)?.expose_secret().to_vec())
            });
            assert_eq!(opened, Ok(vec![5; length]), "{sealing:?} to {opening:?}");
        }
    }
}

// RFC 8998 Appendix A.1
fn each_form_reproduces_rfc_8998(token: &Token) {
    const KEY: [u8; 16] =
        [0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0xfe, 0xdc, 0xba, 0x98, 0x76, 0x54, 0x32, 0x10];
    const IV: [u8; 12] = [0, 0, 0x12, 0x34, 0x56, 0x78, 0, 0, 0, 0, 0xab, 0xcd];
    const CONTEXT: [u8; 20] = [
        0xfe, 0xed, 0xfa, 0xce, 0xde, 0xad, 0xbe, 0xef, 0xfe, 0xed, 0xfa, 0xce, 0xde, 0xad, 0xbe, 0xef, 0xab,
        0xad, 0xda, 0xd2,
    ];
    const SEALED: [u8; 80] = [
        0x17, 0xf3, 0x99, 0xf0, 0x8c, 0x67, 0xd5, 0xee, 0x19, 0xd0, 0xdc, 0x99, 0x69, 0xc4, 0xbb, 0x7d, 0x5f,
        0xd4, 0x6f, 0xd3, 0x75, 0x64, 0x89, 0x06, 0x91, 0x57, 0xb2, 0x82, 0xbb, 0x20, 0x07, 0x35, 0xd8, 0x27,
        0x10, 0xca, 0x5c, 0x22, 0xf0, 0xcc, 0xfa, 0x7c, 0xbf, 0x93, 0xd4, 0x96, 0xac, 0x15, 0xa5, 0x68, 0x34,
        0xcb, 0xcf, 0x98, 0xc3, 0x97, 0xb4, 0x02, 0x4a, 0x26, 0x91, 0x23, 0x3b, 0x8d, 0x83, 0xde, 0x35, 0x41,
        0xe4, 0xc2, 0xb5, 0x81, 0x77, 0xe0, 0x65, 0xa9, 0xbf, 0x7b, 0x62, 0xec,
    ];
    let plaintext: Vec<u8> =
        [0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff, 0xee, 0xaa].iter().flat_map(|byte| [*byte; 8]).collect();
    drop(token.open_new());
    let wrapped = WrappedKey { root_generation: 1, blob: wrapped_under_the_root(token, &KEY) };
    for form in FORMS {
        let hsm = open(token, form);
        let key = BackingKey {
            material: new_material(),
            version: 1,
            kind: BackingKind::Sm4,
            wrapped: wrapped.clone(),
        };
        let (sealer, text) = (key.clone(), plaintext.clone());
        let sealed = ask(&hsm, move |session| session.seal(&sealer, &IV, &CONTEXT, &text));
        assert_eq!(sealed.as_deref(), Ok(&SEALED[..]), "{form:?}");
        let opened = ask(&hsm, move |session| session.open(&key, &IV, &CONTEXT, &SEALED));
        assert_eq!(opened.expect("opened").expose_secret(), plaintext, "{form:?}");
    }
}

/// A known key as the pool would have wrapped it: the number of CKM_AES_KEY_WRAP, then what that gives.
fn wrapped_under_the_root(token: &Token, key: &[u8; 16]) -> Vec<u8> {
    let mut blob = vec![1];
    token.with_raw_session(|session| {
        let template = [
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::KeyType(KeyType::GENERIC_SECRET),
            Attribute::Token(false),
            Attribute::Extractable(true),
            Attribute::Value(key.to_vec()),
        ];
        let known = session.create_object(&template).expect("a known key");
        let root = session.find_objects(&[Attribute::Label("root-1".into())]).expect("a search")[0];
        let wrapped = session.wrap_key(&Mechanism::AesKeyWrap, root, known).expect("wrapped");
        blob.extend(wrapped);
    });
    blob
}

fn numbers_that_the_token_does_not_have_offer_nothing(token: &Token) {
    drop(token.open_new());
    let mut wrong = config(token, CipherForm::Gcm);
    wrong.sm4 = wrong.sm4.map(|sm4| VendorSm4 { cipher: 0x8000_0bad, ..sm4 });
    let hsm = Pkcs11Hsm::open(&wrong).expect("nothing else needs SM4");
    assert!(!hsm.offers(BackingKind::Sm4) && hsm.offers(BackingKind::Mac));
    let refused = ask(&hsm, |session| session.generate_backing_key(BackingKind::Sm4));
    assert_eq!(refused, Err(HsmError::NotOffered { feature: "SM4 inside the HSM" }));
}

fn the_survey_tells_what_works(token: &Token) {
    let config = config(token, CipherForm::Gcm);
    let before = kms_hsm::survey(&config).expect("a token");
    assert!(before.suffices() && before.root_keys.is_err(), "{before:?}");
    Pkcs11Hsm::create_root_keys(&config).expect("the survey left nothing in the way");
    let survey = kms_hsm::survey(&config).expect("a token");
    assert_eq!(survey.root_keys, Ok(vec![1]));
    let state = |survey: &kms_hsm::Survey, name: &str| {
        survey
            .features
            .iter()
            .find(|feature| feature.name.contains(name))
            .map(|feature| feature.state.clone())
    };
    for name in ["random", "derive", "AES keys that seal", "SM4 keys that seal"] {
        assert_eq!(state(&survey, name), Some(FeatureState::Works), "{name}");
    }
    token.inject("C_Encrypt error 0x30\nC_GetMechanismInfo lacks 0x9"); // CKM_RSA_PKCS_OAEP
    let survey = kms_hsm::survey(&config).expect("a token");
    let failed = FeatureState::Fails("the HSM is unavailable: C_Encrypt: CKR_DEVICE_ERROR".to_owned());
    assert_eq!(state(&survey, "AES keys that seal"), Some(failed));
    assert_eq!(state(&survey, "another token"), Some(FeatureState::Missing));
    assert!(survey.suffices());
    token.inject("C_Sign error 0x30");
    let failing = kms_hsm::survey(&config).expect("a token");
    assert!(!failing.suffices());
    token.inject("");
    let missing = Pkcs11Config { token_label: "another".to_owned(), ..config };
    assert!(matches!(kms_hsm::survey(&missing), Err(OpenError::TokenNotFound { .. })));
}
