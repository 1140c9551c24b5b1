//! UpdateKeyDescription: a new description.

use crate::{
    draft::Draft,
    error::{Error, Field},
    key::{KeyRecord, MAX_TEXT_CHARACTERS},
    operation::OperationName,
    ops::{KeySelector, Operation, Prepared, manage::manage},
    service::Scope,
    states,
};

/// A description: 0 to 255 characters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Description(String);

impl Description {
    /// DEW: key_description, 0 to 255 characters; KMS.1103.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.chars().count() <= MAX_TEXT_CHARACTERS {
            Ok(Self(text.to_owned()))
        } else {
            Err(Error::invalid(Field::Description, "must be at most 255 characters"))
        }
    }

    /// The description as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Changes the description.
#[derive(Debug, Clone)]
pub struct UpdateKeyDescription {
    /// Which key.
    pub key: KeySelector,
    /// The new description.
    pub description: Description,
}

impl Operation for UpdateKeyDescription {
    const NAME: OperationName = OperationName::UpdateKeyDescription;
    type Output = KeyRecord;

    async fn prepare(&self, scope: &Scope<'_>, draft: &mut Draft) -> Result<Prepared<KeyRecord>, Error> {
        manage(&self.key, scope, draft, |record, _| {
            record.state = states::after(Self::NAME, record.state)?;
            self.description.as_str().clone_into(&mut record.description);
            Ok(())
        })
        .await
    }
}
