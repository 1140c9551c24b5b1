//! CreateDefaultKey: the one default key of an account for a service, made on first use.

use crate::{
    access::KeyFacts,
    directory::{PutKey, absent, default_path, key_path},
    draft::Draft,
    error::Error,
    identity::ServiceName,
    key::{BackingKind, DEFAULT_ALIAS_SUFFIX, KeyId, KeyOrigin, KeyScope, KeySpec},
    operation::OperationName,
    ops::{
        Operation, Plan, Prepared,
        create_key::{Kind, new_record},
        selector::default_alias,
    },
    ports::Transaction,
    service::Scope,
};

/// Makes the default key of the caller's account for a service, unless it exists.
#[derive(Debug, Clone)]
pub struct CreateDefaultKey {
    pub(crate) service: ServiceName,
    /// The id that it gets.
    pub(crate) id: KeyId,
}

impl CreateDefaultKey {
    /// What the key will be.
    pub(crate) const fn facts() -> KeyFacts {
        let (spec, origin) = (KeySpec::Aes256, KeyOrigin::Kms);
        KeyFacts { id: None, spec, usage: spec.default_usage(), origin, is_default: true }
    }
}

impl Operation for CreateDefaultKey {
    const NAME: OperationName = OperationName::CreateDefaultKey;
    type Output = ();

    fn new_key(&self) -> Option<(KeyFacts, Option<&str>)> {
        Some((Self::facts(), default_alias(&self.service)))
    }

    async fn prepare(&self, scope: &Scope<'_>, draft: &mut Draft) -> Result<Prepared<()>, Error> {
        let account = scope.caller().account.clone();
        if let Some(id) = scope.directory().default_key(&account, &self.service).await? {
            draft.key(id, None);
            draft.existed();
            return Ok(Prepared::Answer(())); // another call made it first
        }
        draft.key(self.id, None);
        let root = scope.directory().root().await?;
        // DEW: §5, default keys are AES_256, named after their service.
        let scope_of_key = KeyScope::Default { service: self.service.clone() };
        let alias = format!("{}{DEFAULT_ALIAS_SUFFIX}", self.service);
        let mut record =
            new_record(scope, draft, scope_of_key, alias, String::new(), Kind::made(KeySpec::Aes256)).await?;
        let (directory, service) = (scope.directory().clone(), self.service.clone());
        let scheme = scope.service.settings().scheme(record.spec);
        Ok(Prepared::change_by(None, move |session| {
            let wrapped = root.accept(session.generate_backing_key(BackingKind::of(record.spec, scheme))?)?;
            record.add_version(record.created, scheme, wrapped);
            let by_service = default_path(&account, &service);
            let PutKey { mut mutations, digest, .. } = directory.put_key(None, &record)?;
            let conditions = vec![absent(key_path(record.id)), absent(by_service.clone()), root.unchanged()];
            mutations.push(directory.put(by_service, &record.id)?);
            let transaction = Transaction { conditions, mutations };
            Ok(Plan { transaction, output: (), state_digest: digest, evict: None })
        }))
    }
}
