//! Whether a call may use the key that it names: by what its own account allows it, or by a grant of the key.
//!
//! A caller's permissions are asked before any key is looked for: what nothing can allow ends there. When the key is
//! known, [`decide`] has the last word. Keys of other accounts are reached by grants only. Whoever is refused learns no
//! more than it may know: of a key of another account that was never granted to it, that it does not exist; and one
//! whom nothing allows the operation, that it is not allowed, whether or not there is such a key.

use crate::{
    access::{AccessRequest, Asker, KeyFacts, Operations, Ruling, decide},
    directory::Directory,
    draft::Draft,
    error::{Denial, Error},
    grant::Grant,
    identity::{Caller, Region},
    key::KeyRecord,
    operation::{Action, OperationName},
    ops::{Alias, Tags},
    service::Scope,
    states,
};

/// What is known of a call's right before its key is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// The caller's permissions allow the operation on some key.
    ByPermission,
    /// They do not: only a grant of the key can allow it.
    OnlyByGrant,
    /// Nothing more is asked: the service does it for a call that was admitted, or it needs no permission.
    Admitted,
}

impl Standing {
    /// May this identity do this at all? Asked before any key is looked for.
    pub(crate) async fn of(
        caller: &Caller,
        operation: OperationName,
        directory: &Directory,
        draft: &mut Draft,
    ) -> Result<Self, Error> {
        if operation.info().action == Action::Anyone {
            return Ok(Self::Admitted);
        }
        let policies = caller.permissions.policies();
        if policies.could_allow(operation) {
            return Ok(Self::ByPermission);
        }
        let missing = operation.info().action;
        let Caller { account, region, .. } = caller;
        let request = AccessRequest { operation, account, region, key: None, context: None, alias: None };
        let ruling = decide(&asker(caller), &request, []);
        if policies.always_deny(operation) {
            draft.ruling(&ruling);
            return Err(Error::PermissionDenied { missing, denial: Denial::PolicyDenies });
        }
        let grantable = Operations::OF_GRANTS.contains(operation) && !caller.is_operator();
        if grantable && Box::pin(directory.is_named_by_grants(caller, operation)).await? {
            return Ok(Self::OnlyByGrant);
        }
        draft.ruling(&ruling);
        Err(Error::denied(missing))
    }
}

impl Scope<'_> {
    /// What the caller is told instead of `error`. One without the permission does not learn what there is beyond the
    /// keys that a grant led it to; and one with permission for some keys not which others there are.
    pub(crate) fn hide(&self, draft: &Draft, error: Error) -> Error {
        let missing = self.operation.info().action;
        match self.standing {
            Standing::OnlyByGrant if !draft.is_admitted() && !is_fault(&error) => Error::denied(missing),
            Standing::ByPermission
                if error == Error::KeyNotFound && states::row(self.operation).is_some() =>
            {
                match self.denial_without_key() {
                    Some(denial) => Error::PermissionDenied { missing, denial },
                    None => error,
                }
            }
            _ => error,
        }
    }

    /// Why the caller's permissions do not allow the operation whichever key it is on; `None`: they do, but for keys that
    /// they may deny.
    fn denial_without_key(&self) -> Option<Denial> {
        match decide(&asker(self.caller()), &self.request(self.operation, None), []) {
            Ruling::AllowedByPolicy(_) | Ruling::AllowedByGrant(_) => None,
            Ruling::Denied(_) => Some(Denial::PolicyDenies),
            Ruling::NotAllowed { .. } => Some(Denial::KeyNotAllowed),
        }
    }

    /// The refusal of an own key, or of a default key in place of one. Whoever may do it on some keys only is told the
    /// same as of a key that does not exist: [`hide`](Self::hide).
    fn refusal_of_key(&self, ruling: &Ruling) -> Error {
        let of_key = match ruling {
            Ruling::Denied(_) => Denial::PolicyDeniesKey,
            _ => Denial::KeyNotAllowed,
        };
        let denial = self.denial_without_key().unwrap_or(of_key);
        Error::PermissionDenied { missing: self.operation.info().action, denial }
    }

    /// Refuses a key that the caller may not use for this operation; `alias` is the name that it was found by.
    pub(crate) async fn admit(
        &self,
        key: &KeyRecord,
        alias: Option<&str>,
        draft: &mut Draft,
    ) -> Result<(), Error> {
        if self.standing == Standing::Admitted {
            return Ok(());
        }
        let (caller, missing) = (self.caller(), self.operation.info().action);
        let own = key.visible_to(caller);
        let request = AccessRequest { alias, ..self.request(self.operation, Some(key.into())) };
        let request = AccessRequest { account: &key.account, ..request };
        if own && self.standing == Standing::ByPermission {
            match decide(&asker(caller), &request, []) {
                Ruling::AllowedByPolicy(_) | Ruling::AllowedByGrant(_) => return Ok(()),
                denied @ Ruling::Denied(_) => {
                    draft.ruling(&denied);
                    return Err(self.refusal_of_key(&denied));
                }
                Ruling::NotAllowed { .. } => {}
            }
        }
        let grants = Box::pin(self.grants_to_caller(key)).await?;
        let ruling = decide(&asker(caller), &request, &grants);
        if let Ruling::AllowedByGrant(grant) = ruling {
            draft.admitted_by(grant);
            return Ok(());
        }
        draft.ruling(&ruling);
        let denial = match ruling {
            // Of a key that anything was granted of the caller knows that it exists.
            Ruling::Denied(_) if !grants.is_empty() => Denial::PolicyDeniesKey,
            _ if !grants.is_empty() => Denial::NotGranted,
            _ if !own => return Err(Error::KeyNotFound),
            _ if self.standing == Standing::ByPermission => return Err(self.refusal_of_key(&ruling)),
            // Whom no policy allows it learns of the key by a grant only.
            _ => Denial::NothingAllows,
        };
        Err(Error::PermissionDenied { missing, denial })
    }

    /// Refuses an operation that is on no key, or on one that is yet to be made. A default key that this call would
    /// make is refused as it would be if it were there.
    pub(crate) fn admit_without_key(
        &self,
        operation: OperationName,
        key: Option<KeyFacts>,
        alias: Option<&str>,
        draft: &mut Draft,
    ) -> Result<(), Error> {
        let request = AccessRequest { alias, ..self.request(operation, key) };
        let missing = operation.info().action;
        let ruling = decide(&asker(self.caller()), &request, []);
        if ruling.is_allowed() {
            return Ok(());
        }
        draft.ruling(&ruling);
        Err(match ruling {
            _ if names_key(&request) => self.refusal_of_key(&ruling),
            Ruling::Denied(_) => Error::PermissionDenied { missing, denial: Denial::PolicyDenies },
            _ => Error::denied(missing),
        })
    }

    /// Whether the caller's permissions allow another operation on a key of its own account, which was named by this
    /// alias.
    pub(crate) fn may_by(&self, operation: OperationName, key: &KeyRecord, alias: Option<&str>) -> bool {
        let request = AccessRequest { alias, ..self.request(operation, Some(key.into())) };
        key.visible_to(self.caller()) && decide(&asker(self.caller()), &request, []).is_allowed()
    }

    /// Refuses what the caller's policies deny it by another operation's name, or of another key that the call changes:
    /// what one call does for several is denied by the name of each.
    pub(crate) fn refuse_if_denied(
        &self,
        operation: OperationName,
        key: &KeyRecord,
        alias: Option<&str>,
        draft: &mut Draft,
    ) -> Result<(), Error> {
        let region = key.region().unwrap_or(&self.caller().region);
        let request = self.request(operation, Some(key.into()));
        self.check_denial(&AccessRequest { account: &key.account, region, alias, ..request }, draft)
    }

    /// The same of a key that is yet to be made in a region. Its id is seldom known.
    pub(crate) fn refuse_if_making_is_denied(
        &self,
        operation: OperationName,
        key: KeyFacts,
        region: &Region,
        alias: Option<&str>,
        draft: &mut Draft,
    ) -> Result<(), Error> {
        let request = self.request(operation, Some(key));
        self.check_denial(&AccessRequest { region, alias, ..request }, draft)
    }

    /// The same of its name and its tags: whoever may not give those to a key that is there makes no key with them.
    pub(crate) fn refuse_if_naming_is_denied(
        &self,
        key: KeyFacts,
        region: &Region,
        alias: &Alias,
        tags: &Tags,
        draft: &mut Draft,
    ) -> Result<(), Error> {
        let tagging = (!tags.pairs().is_empty()).then_some(OperationName::CreateTag);
        for part in tagging.into_iter().chain([OperationName::CreateAlias]) {
            self.refuse_if_making_is_denied(part, key, region, Some(alias.as_str()), draft)?;
        }
        Ok(())
    }

    fn check_denial(&self, request: &AccessRequest<'_>, draft: &mut Draft) -> Result<(), Error> {
        let ruling = decide(&asker(self.caller()), request, []);
        if !matches!(ruling, Ruling::Denied(_)) {
            return Ok(());
        }
        draft.ruling(&ruling);
        let missing = request.operation.info().action;
        let denial = if names_key(request) { Denial::PolicyDeniesKey } else { Denial::PolicyDenies };
        Err(Error::PermissionDenied { missing, denial })
    }

    /// The same of a key that was not named.
    pub(crate) fn may(&self, operation: OperationName, key: &KeyRecord) -> bool {
        self.may_by(operation, key, None)
    }

    fn request(&self, operation: OperationName, key: Option<KeyFacts>) -> AccessRequest<'_> {
        let Caller { account, region, .. } = self.caller();
        AccessRequest { operation, account, region, key, context: self.context, alias: None }
    }

    /// The grants of this key that hold for the caller. A default key has none, and a key is valid in its region only.
    pub(crate) async fn grants_to_caller(&self, key: &KeyRecord) -> Result<Vec<Grant>, Error> {
        let caller = self.caller();
        if key.region() != Some(&caller.region) || caller.is_operator() {
            return Ok(Vec::new());
        }
        let grants = self.directory().grants_of(key.id).await?;
        Ok(grants.iter().filter(|grant| grant.grantee.includes(caller)).cloned().collect())
    }
}

/// Whether the request is about a key that has an id.
fn names_key(request: &AccessRequest<'_>) -> bool {
    request.key.is_some_and(|key| key.id.is_some())
}

/// What says nothing of what there is.
fn is_fault(error: &Error) -> bool {
    matches!(
        error,
        Error::PermissionDenied { .. }
            | Error::StoreUnavailable(_)
            | Error::HsmUnavailable(_)
            | Error::AuditUnavailable(_)
            | Error::RecordTampered { .. }
            | Error::Contention
            | Error::Internal { .. }
    )
}

fn asker(caller: &Caller) -> Asker<'_> {
    Asker { account: &caller.account, user: &caller.user, policies: caller.permissions.policies() }
}
