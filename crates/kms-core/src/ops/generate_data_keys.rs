//! GenerateDataKeys: several data keys in one call.

use crate::{
    context::EncryptionContext,
    draft::Draft,
    error::{Error, Field},
    operation::OperationName,
    ops::{DataKeyLength, GenerateDataKey, Operation, Prepared, SealedDataKey, generate_data_key::make},
    secret::SecretBytes,
    service::Scope,
};

/// The most data keys of one call.
pub const MAX_BATCH: u32 = 100;

/// How many data keys one call makes: 1 to 100.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchSize(u32);

impl BatchSize {
    /// Takes 1 to 100.
    pub fn parse(count: u32) -> Result<Self, Error> {
        if (1..=MAX_BATCH).contains(&count) {
            Ok(Self(count))
        } else {
            Err(Error::invalid(Field::Count, "must be 1 to 100"))
        }
    }
}

/// One data key of several.
#[derive(Debug)]
pub struct BatchedDataKey {
    /// The data key itself, if it was asked for.
    pub plaintext: Option<SecretBytes>,
    /// The same, sealed.
    pub sealed: SealedDataKey,
}

/// Makes several data keys of one kind in one use of the HSM and one commit of the log.
#[derive(Debug, Clone)]
pub struct GenerateDataKeys {
    /// What each of them is.
    pub each: GenerateDataKey,
    /// How many.
    pub count: BatchSize,
    /// Whether to answer them in plain, too.
    pub with_plaintext: bool,
}

impl GenerateDataKeys {
    /// What each data key would be as a call of its own.
    fn part(&self) -> OperationName {
        if self.with_plaintext {
            OperationName::GenerateDataKey
        } else {
            OperationName::GenerateDataKeyWithoutPlaintext
        }
    }
}

impl Operation for GenerateDataKeys {
    const NAME: OperationName = OperationName::GenerateDataKeys;
    type Output = Vec<BatchedDataKey>;

    fn context(&self) -> Option<&EncryptionContext> {
        self.each.context()
    }

    fn calls(&self) -> u32 {
        self.count.0
    }

    fn may_change(&self) -> bool {
        self.each.may_change()
    }

    async fn prepare(
        &self,
        scope: &Scope<'_>,
        draft: &mut Draft,
    ) -> Result<Prepared<Vec<BatchedDataKey>>, Error> {
        let part = self.part();
        let mut key = scope.key_or_default(&self.each.key, Some(part), draft).await?;
        let cipher = key.check_cipher(Self::NAME, scope.now)?;
        // The version may change on the way: each data key has the one whose use was counted for it.
        let mut keys = Vec::new();
        for number in 0..self.count.0 {
            let Some(counted) = scope.counted_for(key, draft, number).await? else {
                return Ok(Prepared::ToBeDriven);
            };
            keys.push(counted.clone());
            key = counted;
        }
        let length = self.each.length.unwrap_or(DataKeyLength::natural(cipher));
        let (context, with_plaintext) = (self.each.encryption_context.clone(), self.with_plaintext);
        Ok(Prepared::by_use(key.keystore.clone(), move |session, draft| {
            let mut made = Vec::with_capacity(keys.len());
            for key in &keys {
                let data_key = make(session, draft, key, length, &context)?;
                draft.part(part, key.id, data_key.sealed.key_version);
                let plaintext = Some(data_key.plaintext).filter(|_| with_plaintext);
                made.push(BatchedDataKey { plaintext, sealed: data_key.sealed });
            }
            // The uses stand in the records of the data keys, and not in that of the call besides.
            draft.key(key.id, None);
            Ok(made)
        }))
    }
}
