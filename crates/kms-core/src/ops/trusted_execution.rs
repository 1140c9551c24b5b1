//! What DEW offers to trusted execution environments: identified, permitted and recorded, and then refused.
//!
//! An operation that nobody can use is still one of the table, so that the log shows who tried it.

use std::convert::Infallible;

use crate::{
    draft::Draft,
    error::Error,
    operation::OperationName,
    ops::{Operation, Prepared},
    service::Scope,
};

const KEY_POLICY: Error =
    Error::NotOffered { feature: "a policy of a key space (permissions and grants say who may use a key)" };
const ACCESS_POINT: Error =
    Error::NotOffered { feature: "an access point of a key space (client certificates say who calls)" };
const CAPSULE: Error = Error::NotOffered {
    feature: "a data key for attested enclaves only (GenerateDataKey and DecryptDataKey take an encryption context)",
};
const PIN: Error = Error::NotOffered {
    feature: "a PIN for a data key (an encryption context binds a data key to what it is for)",
};

macro_rules! refused {
    ($($(#[$doc:meta])* $name:ident: $why:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy)]
        pub struct $name;

        impl Operation for $name {
            const NAME: OperationName = OperationName::$name;
            type Output = Infallible;

            async fn prepare(&self, _: &Scope<'_>, _: &mut Draft) -> Result<Prepared<Infallible>, Error> {
                Err($why)
            }
        }
    )*};
}

refused! {
    /// DEW: CreateKeyPolicy.
    CreateKeyPolicy: KEY_POLICY;
    /// DEW: UpdateKeyPolicy.
    UpdateKeyPolicy: KEY_POLICY;
    /// DEW: DeleteKeyPolicy.
    DeleteKeyPolicy: KEY_POLICY;
    /// DEW: ShowKeyPolicy.
    DescribeKeyPolicy: KEY_POLICY;
    /// DEW: ListKeyPolicy.
    ListKeyPolicies: KEY_POLICY;
    /// DEW: CreateAccessPoint.
    CreateAccessPoint: ACCESS_POINT;
    /// DEW: DeleteAccessPoint.
    DeleteAccessPoint: ACCESS_POINT;
    /// DEW: EnableAccessPoint.
    EnableAccessPoint: ACCESS_POINT;
    /// DEW: DisableAccessPoint.
    DisableAccessPoint: ACCESS_POINT;
    /// DEW: ListAccessPoint.
    ListAccessPoints: ACCESS_POINT;
    /// DEW: DownloadAccessPointPrivateKey.
    DownloadAccessPointPrivateKey: ACCESS_POINT;
    /// DEW: CreateDatakeyCapsule.
    CreateDataKeyCapsule: CAPSULE;
    /// DEW: DecryptDatakeyCapsule.
    DecryptDataKeyCapsule: CAPSULE;
    /// DEW: CreatePin.
    CreatePin: PIN;
}
