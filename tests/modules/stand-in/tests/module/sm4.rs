//! The vendor's SM4: the published vectors, and keys that behave as a module's own.

use std::ptr;

use cryptoki_sys::{
    CK_GCM_PARAMS, CK_MECHANISM, CK_MECHANISM_INFO, CK_OBJECT_HANDLE, CK_RV, CK_ULONG, CKA_CLASS,
    CKA_DECRYPT, CKA_ENCRYPT, CKA_EXTRACTABLE, CKA_KEY_TYPE, CKA_SENSITIVE, CKA_SIGN, CKA_TOKEN, CKA_UNWRAP,
    CKA_VALUE, CKA_VALUE_LEN, CKA_WRAP, CKF_DECRYPT, CKF_ENCRYPT, CKK_GENERIC_SECRET, CKM_AES_KEY_GEN,
    CKM_AES_KEY_WRAP, CKM_GENERIC_SECRET_KEY_GEN, CKM_SHA256_HMAC, CKO_SECRET_KEY, CKR_ATTRIBUTE_SENSITIVE,
    CKR_ATTRIBUTE_VALUE_INVALID, CKR_BUFFER_TOO_SMALL, CKR_DATA_LEN_RANGE, CKR_ENCRYPTED_DATA_INVALID,
    CKR_GENERAL_ERROR, CKR_KEY_FUNCTION_NOT_PERMITTED, CKR_KEY_HANDLE_INVALID, CKR_KEY_TYPE_INCONSISTENT,
    CKR_KEY_UNEXTRACTABLE, CKR_MECHANISM_PARAM_INVALID, CKR_OK, CKR_OPERATION_ACTIVE,
    CKR_OPERATION_NOT_INITIALIZED, CKR_TEMPLATE_INCONSISTENT, CKR_WRAPPED_KEY_LEN_RANGE,
};
use dewpoint_stand_in_module::vendor::{CKK_SM4, CKM_SM4_ECB, CKM_SM4_GCM, CKM_SM4_KEY_GEN};
use dewpoint_test_tokens::{Module, assert_passed};

use crate::client::{
    Client, Value, again, answered, attributes, before_each_module, flag, is_alone, len, mechanism, number,
};

// RFC 8998, appendix A.1.
const KEY: &str = "0123456789abcdeffedcba9876543210";
const IV: &str = "00001234567800000000abcd";
const AAD: &str = "feedfacedeadbeeffeedfacedeadbeefabaddad2";
const PLAINTEXT: &str = "aaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbccccccccccccccccdddddddddddddddd\
                         eeeeeeeeeeeeeeeeffffffffffffffffeeeeeeeeeeeeeeeeaaaaaaaaaaaaaaaa";
const SEALED: &str = "17f399f08c67d5ee19d0dc9969c4bb7d5fd46fd3756489069157b282bb200735\
                      d82710ca5c22f0ccfa7cbf93d496ac15a56834cbcf98c397b4024a2691233b8d\
                      83de3541e4c2b58177e065a9bf7b62ec";

fn hex(text: &str) -> Vec<u8> {
    hex::decode(text).expect("a constant of this file")
}

/// What every SM4 key of these tests has; more may follow.
fn sm4_template(more: Vec<Value>) -> Vec<Value> {
    let mut template = vec![
        number(CKA_CLASS, CKO_SECRET_KEY),
        number(CKA_KEY_TYPE, CKK_SM4),
        flag(CKA_TOKEN, false),
        flag(CKA_SENSITIVE, true),
        flag(CKA_ENCRYPT, true),
        flag(CKA_DECRYPT, true),
    ];
    template.extend(more);
    template
}

fn import(client: &Client) -> CK_OBJECT_HANDLE {
    client.create(&mut sm4_template(vec![(CKA_VALUE, hex(KEY))])).expect("a key of SM4")
}

#[derive(Clone, Copy)]
enum To {
    Encrypt,
    Decrypt,
}

impl Client {
    /// Begins with GCM; the IV and the AAD are those of the vector, unless another IV is given.
    fn begin(&self, to: To, key: CK_OBJECT_HANDLE, iv: &str) -> CK_RV {
        let (mut iv, mut aad) = (hex(iv), hex(AAD));
        let mut parameters = CK_GCM_PARAMS {
            pIv: iv.as_mut_ptr(),
            ulIvLen: len(&iv),
            ulIvBits: len(&iv) * 8,
            pAAD: aad.as_mut_ptr(),
            ulAADLen: len(&aad),
            ulTagBits: 128,
        };
        let mut mechanism = CK_MECHANISM {
            mechanism: CKM_SM4_GCM,
            pParameter: (&raw mut parameters).cast(),
            ulParameterLen: size_of::<CK_GCM_PARAMS>().try_into().expect("it fits"),
        };
        self.begin_with(to, &mut mechanism, key)
    }

    fn begin_with(&self, to: To, mechanism: &mut CK_MECHANISM, key: CK_OBJECT_HANDLE) -> CK_RV {
        match to {
            To::Encrypt => call!(self, C_EncryptInit(self.session, mechanism, key)),
            To::Decrypt => call!(self, C_DecryptInit(self.session, mechanism, key)),
        }
    }

    /// Gives the input, with room for so many bytes of output.
    fn give(&self, to: To, input: &[u8], room: usize) -> Result<Vec<u8>, CK_RV> {
        let (mut input, mut output) = (input.to_vec(), vec![0; room]);
        let mut length = len(&output);
        let (data, count, place) = (input.as_mut_ptr(), len(&input), output.as_mut_ptr());
        let answer = match to {
            To::Encrypt => call!(self, C_Encrypt(self.session, data, count, place, &raw mut length)),
            To::Decrypt => call!(self, C_Decrypt(self.session, data, count, place, &raw mut length)),
        };
        output.truncate(usize::try_from(length).expect("it fits"));
        answered(answer, output)
    }

    fn seal(&self, key: CK_OBJECT_HANDLE, plaintext: &[u8]) -> Result<Vec<u8>, CK_RV> {
        answered(self.begin(To::Encrypt, key, IV), ())?;
        self.give(To::Encrypt, plaintext, plaintext.len() + 16)
    }

    fn open_sealed(&self, key: CK_OBJECT_HANDLE, sealed: &[u8]) -> Result<Vec<u8>, CK_RV> {
        answered(self.begin(To::Decrypt, key, IV), ())?;
        self.give(To::Decrypt, sealed, sealed.len())
    }

    fn wrap(&self, root: CK_OBJECT_HANDLE, key: CK_OBJECT_HANDLE) -> Result<Vec<u8>, CK_RV> {
        let (mut mechanism, mut blob, mut length) = (mechanism(CKM_AES_KEY_WRAP), vec![0; 64], 64);
        let place = blob.as_mut_ptr();
        let answer =
            call!(self, C_WrapKey(self.session, &raw mut mechanism, root, key, place, &raw mut length));
        blob.truncate(usize::try_from(length).expect("it fits"));
        answered(answer, blob)
    }

    fn unwrap(
        &self,
        root: CK_OBJECT_HANDLE,
        blob: &[u8],
        mut template: Vec<Value>,
    ) -> Result<CK_OBJECT_HANDLE, CK_RV> {
        let (mut mechanism, mut blob, mut key) = (mechanism(CKM_AES_KEY_WRAP), blob.to_vec(), 0);
        let mut template = attributes(&mut template);
        let (data, length) = (blob.as_mut_ptr(), len(&blob));
        let (template, count) = (template.as_mut_ptr(), len(&template));
        let answer = call!(
            self,
            C_UnwrapKey(self.session, &raw mut mechanism, root, data, length, template, count, &raw mut key)
        );
        answered(answer, key)
    }

    fn root(&self) -> CK_OBJECT_HANDLE {
        let mut template = [number(CKA_VALUE_LEN, 32), flag(CKA_WRAP, true), flag(CKA_UNWRAP, true)];
        self.generate(CKM_AES_KEY_GEN, &mut template).expect("an AES key")
    }
}

#[test]
fn gcm_gives_the_vector_of_rfc_8998() {
    before_each_module(concat!(module_path!(), "::gcm_gives_the_vector_of_rfc_8998"), |client| {
        let key = import(client);
        let (plaintext, sealed) = (hex(PLAINTEXT), hex(SEALED));
        assert_eq!(client.seal(key, &plaintext), Ok(sealed.clone()));
        assert_eq!(client.open_sealed(key, &sealed), Ok(plaintext));
        for place in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[place] ^= 1;
            assert_eq!(client.open_sealed(key, &altered), Err(CKR_ENCRYPTED_DATA_INVALID));
        }
        assert_eq!(client.give(To::Decrypt, &sealed, 256), Err(CKR_OPERATION_NOT_INITIALIZED));
    });
}

#[test]
fn a_wrong_tag_can_look_like_a_broken_device() {
    let test = concat!(module_path!(), "::a_wrong_tag_can_look_like_a_broken_device");
    if is_alone() {
        let client = Client::open();
        let key = import(&client);
        assert_eq!(client.open_sealed(key, &[0; 32]), Err(CKR_GENERAL_ERROR));
        return;
    }
    let (mut child, _directory) = again(test, Module::SoftHsm2);
    assert_passed(child.env("STAND_IN_BAD_TAG", "general").output().expect("this program runs again"));
}

// GB/T 32907-2016, appendix A: the key is the plaintext.
#[test]
fn ecb_gives_the_vector_of_the_standard() {
    before_each_module(concat!(module_path!(), "::ecb_gives_the_vector_of_the_standard"), |client| {
        let key = import(client);
        let mut ecb = mechanism(CKM_SM4_ECB);
        let blocks = hex("681edf34d206965e86b3e94f536e4246").repeat(2);
        assert_eq!(client.begin_with(To::Encrypt, &mut ecb, key), CKR_OK);
        assert_eq!(client.give(To::Encrypt, &hex(KEY).repeat(2), 32), Ok(blocks.clone()));
        assert_eq!(client.begin_with(To::Decrypt, &mut ecb, key), CKR_OK);
        assert_eq!(client.give(To::Decrypt, &blocks, 32), Ok(hex(KEY).repeat(2)));
        assert_eq!(client.begin_with(To::Encrypt, &mut ecb, key), CKR_OK);
        assert_eq!(client.give(To::Encrypt, &[0; 17], 64), Err(CKR_DATA_LEN_RANGE));
    });
}

// PKCS#11 §5.2: asking for the length, or giving too little room, does not end the operation.
#[test]
fn the_length_can_be_asked_for_first() {
    before_each_module(concat!(module_path!(), "::the_length_can_be_asked_for_first"), |client| {
        let key = import(client);
        let mut plaintext = hex(PLAINTEXT);
        assert_eq!(client.begin(To::Encrypt, key, IV), CKR_OK);
        assert_eq!(client.begin(To::Encrypt, key, IV), CKR_OPERATION_ACTIVE);
        let (data, count, mut length) = (plaintext.as_mut_ptr(), len(&plaintext), 0);
        let nowhere = ptr::null_mut();
        let answer = call!(client, C_Encrypt(client.session, data, count, nowhere, &raw mut length));
        assert_eq!((answer, length), (CKR_OK, 80));
        assert_eq!(client.give(To::Encrypt, &plaintext, 79), Err(CKR_BUFFER_TOO_SMALL));
        assert_eq!(client.give(To::Encrypt, &plaintext, 200), Ok(hex(SEALED)));
    });
}

#[test]
fn the_mechanisms_are_listed() {
    before_each_module(concat!(module_path!(), "::the_mechanisms_are_listed"), |client| {
        let (mut list, mut count) = (vec![0; 1000], 1000);
        let place = list.as_mut_ptr();
        assert_eq!(call!(client, C_GetMechanismList(client.slot, place, &raw mut count)), CKR_OK);
        list.truncate(usize::try_from(count).expect("it fits"));
        for mechanism in [CKM_SM4_KEY_GEN, CKM_SM4_ECB, CKM_SM4_GCM, CKM_AES_KEY_WRAP] {
            assert_eq!(list.iter().filter(|listed| **listed == mechanism).count(), 1, "{mechanism:#x}");
        }
        let mut asked = 0;
        let nowhere = ptr::null_mut();
        assert_eq!(call!(client, C_GetMechanismList(client.slot, nowhere, &raw mut asked)), CKR_OK);
        assert_eq!(asked, count);
        asked -= 1;
        let answer = call!(client, C_GetMechanismList(client.slot, place, &raw mut asked));
        assert_eq!((answer, asked), (CKR_BUFFER_TOO_SMALL, count));
        let mut info = CK_MECHANISM_INFO::default();
        assert_eq!(call!(client, C_GetMechanismInfo(client.slot, CKM_SM4_GCM, &raw mut info)), CKR_OK);
        assert_eq!((info.ulMinKeySize, info.ulMaxKeySize, info.flags), (16, 16, CKF_ENCRYPT | CKF_DECRYPT));
    });
}

#[test]
fn a_key_leaves_wrapped_and_comes_back_to_stay() {
    before_each_module(concat!(module_path!(), "::a_key_leaves_wrapped_and_comes_back_to_stay"), |client| {
        let root = client.root();
        let mut template = sm4_template(vec![flag(CKA_EXTRACTABLE, true)]);
        let made = client.generate(CKM_SM4_KEY_GEN, &mut template).expect("a key of SM4");
        let sealed = client.seal(made, b"data key").expect("sealed");
        let blob = client.wrap(root, made).expect("a wrapped key");
        assert_eq!(blob.len(), 24);
        assert_eq!(call!(client, C_DestroyObject(client.session, made)), CKR_OK);
        assert_eq!(client.begin(To::Encrypt, made, IV), CKR_KEY_HANDLE_INVALID);
        let inside = sm4_template(vec![flag(CKA_EXTRACTABLE, false)]);
        let loaded = client.unwrap(root, &blob, inside).expect("the key is back");
        assert_eq!(client.open_sealed(loaded, &sealed).as_deref(), Ok(&b"data key"[..]));
        assert_eq!(client.wrap(root, loaded), Err(CKR_KEY_UNEXTRACTABLE));
        assert_eq!(client.attribute(loaded, CKA_VALUE), Err(CKR_ATTRIBUTE_SENSITIVE));
        let number = |kind: CK_ULONG| kind.to_ne_bytes().to_vec();
        assert_eq!(client.attribute(loaded, CKA_KEY_TYPE), Ok(number(CKK_SM4)));
        assert_eq!(client.attribute(loaded, CKA_VALUE_LEN), Ok(number(16)));
        assert_eq!(client.attribute(loaded, CKA_SENSITIVE), Ok(vec![1]));
        assert_eq!(client.attribute(loaded, CKA_EXTRACTABLE), Ok(vec![0]));
        let changed = &mut [flag(CKA_EXTRACTABLE, true)];
        let mut changed = attributes(changed);
        let answer = call!(client, C_SetAttributeValue(client.session, loaded, changed.as_mut_ptr(), 1));
        assert_ne!(answer, CKR_OK);
    });
}

#[test]
fn what_a_key_is_not_for_is_refused() {
    before_each_module(concat!(module_path!(), "::what_a_key_is_not_for_is_refused"), |client| {
        let key = import(client);
        let mut hmac = mechanism(CKM_SHA256_HMAC);
        let signed = call!(client, C_SignInit(client.session, &raw mut hmac, key));
        assert_eq!(signed, CKR_KEY_TYPE_INCONSISTENT);
        assert_eq!(client.begin(To::Encrypt, key, "0011"), CKR_MECHANISM_PARAM_INVALID);
        let opens = vec![flag(CKA_ENCRYPT, false), (CKA_VALUE, hex(KEY))];
        let mut template = sm4_template(Vec::new());
        template.retain(|(kind, _)| *kind != CKA_ENCRYPT);
        template.extend(opens);
        let opens = client.create(&mut template).expect("a key of SM4");
        assert_eq!(client.begin(To::Encrypt, opens, IV), CKR_KEY_FUNCTION_NOT_PERMITTED);
        let root = client.root();
        assert_eq!(client.begin(To::Encrypt, root, IV), CKR_KEY_TYPE_INCONSISTENT);
        let short = &mut sm4_template(vec![(CKA_VALUE, vec![1; 15])]);
        assert_eq!(client.create(short), Err(CKR_ATTRIBUTE_VALUE_INVALID));
        let mut lasting = sm4_template(Vec::new());
        lasting[2] = flag(CKA_TOKEN, true);
        assert_eq!(client.generate(CKM_SM4_KEY_GEN, &mut lasting), Err(CKR_TEMPLATE_INCONSISTENT));
    });
}

#[test]
fn a_wrapped_key_of_another_length_is_none() {
    before_each_module(concat!(module_path!(), "::a_wrapped_key_of_another_length_is_none"), |client| {
        let root = client.root();
        let mut template = [
            number(CKA_KEY_TYPE, CKK_GENERIC_SECRET),
            number(CKA_VALUE_LEN, 32),
            flag(CKA_EXTRACTABLE, true),
            flag(CKA_SIGN, true),
        ];
        let secret = client.generate(CKM_GENERIC_SECRET_KEY_GEN, &mut template).expect("a secret");
        let blob = client.wrap(root, secret).expect("a wrapped secret");
        let loaded = client.unwrap(root, &blob, sm4_template(Vec::new()));
        assert_eq!(loaded, Err(CKR_WRAPPED_KEY_LEN_RANGE));
    });
}

#[test]
fn keys_and_operations_end_with_their_session() {
    before_each_module(concat!(module_path!(), "::keys_and_operations_end_with_their_session"), |client| {
        let other = Client { session: client.new_session(), ..*client };
        let key = import(&other);
        client.seal(key, b"data key").expect("sessions share their objects");
        assert_eq!(other.begin(To::Encrypt, key, IV), CKR_OK);
        assert_eq!(call!(other, C_CloseSession(other.session)), CKR_OK);
        assert_ne!(client.begin(To::Encrypt, key, IV), CKR_OK);
        assert!(other.give(To::Encrypt, &[], 64).is_err());
    });
}
