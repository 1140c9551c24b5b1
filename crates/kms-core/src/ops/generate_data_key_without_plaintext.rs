//! GenerateDataKeyWithoutPlaintext: a data key that nobody has seen yet.

use crate::{
    context::EncryptionContext,
    draft::Draft,
    error::Error,
    operation::OperationName,
    ops::{GenerateDataKey, Operation, Prepared, SealedDataKey},
    service::Scope,
};

/// Makes a data key; answers it sealed only.
#[derive(Debug, Clone)]
pub struct GenerateDataKeyWithoutPlaintext(pub GenerateDataKey);

impl Operation for GenerateDataKeyWithoutPlaintext {
    const NAME: OperationName = OperationName::GenerateDataKeyWithoutPlaintext;
    type Output = SealedDataKey;

    fn context(&self) -> Option<&EncryptionContext> {
        self.0.context()
    }

    fn may_change(&self) -> bool {
        self.0.may_change()
    }

    async fn prepare(&self, scope: &Scope<'_>, draft: &mut Draft) -> Result<Prepared<SealedDataKey>, Error> {
        match self.0.prepare(scope, draft).await? {
            // The plaintext is wiped on the worker, before the record is written.
            Prepared::Use(place, work) => {
                Ok(Prepared::by_use(place, move |session, draft| work(session, draft).map(|key| key.sealed)))
            }
            Prepared::ToBeDriven => Ok(Prepared::ToBeDriven),
            _ => Err(Error::Internal { detail: "a data key is always made in the HSM" }),
        }
    }
}
