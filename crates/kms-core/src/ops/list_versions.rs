//! ListVersions and GetVersion: which versions of the API the service speaks.

use crate::{
    draft::Draft,
    error::Error,
    operation::OperationName,
    ops::{Operation, Prepared},
    service::Scope,
};

/// All versions, the newest first.
const SPOKEN: &[ApiVersion] = &[ApiVersion { id: "v1" }];

/// A version of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApiVersion {
    /// Its name, which ends that of the gRPC package.
    pub id: &'static str,
}

/// Tells all versions of the API. DEW: ShowVersions.
#[derive(Debug, Clone, Copy)]
pub struct ListVersions;

impl Operation for ListVersions {
    const NAME: OperationName = OperationName::ListVersions;
    type Output = &'static [ApiVersion];

    async fn prepare(&self, _: &Scope<'_>, _: &mut Draft) -> Result<Prepared<Self::Output>, Error> {
        Ok(Prepared::Answer(SPOKEN))
    }
}

/// Tells one version of the API. DEW: ShowVersion.
#[derive(Debug, Clone)]
pub struct GetVersion {
    /// Which one.
    pub version_id: String,
}

impl Operation for GetVersion {
    const NAME: OperationName = OperationName::GetVersion;
    type Output = ApiVersion;

    async fn prepare(&self, _: &Scope<'_>, _: &mut Draft) -> Result<Prepared<ApiVersion>, Error> {
        let version = SPOKEN.iter().find(|version| version.id == self.version_id);
        Ok(Prepared::Answer(*version.ok_or(Error::VersionNotFound)?))
    }
}
