//! The service of imported material, and its conversions.
#![allow(clippy::needless_pass_by_value, reason = "every request is converted by a function of one form")]

use kms_core::{
    Error,
    error::Field,
    ops::{
        DeleteImportedKeyMaterial, GetParametersForImport, ImportKeyMaterial, KeySelector, WrappingAlgorithm,
    },
};
use kms_proto::v1::{self, import_service_server::ImportService};
use tonic::{Request, Response, Status};

use super::{Grpc, convert};

#[tonic::async_trait]
impl ImportService for Grpc {
    async fn get_parameters_for_import(
        &self,
        request: Request<v1::GetParametersForImportRequest>,
    ) -> Result<Response<v1::GetParametersForImportResponse>, Status> {
        self.answer(request, get_parameters_for_import, |parameters| v1::GetParametersForImportResponse {
            key_id: parameters.key_id.to_string(),
            import_token: parameters.token.into(),
            public_key: parameters.public_key.into(),
            expires_at: Some(convert::time(parameters.expires)),
        })
        .await
    }

    async fn import_key_material(
        &self,
        request: Request<v1::ImportKeyMaterialRequest>,
    ) -> Result<Response<v1::ImportKeyMaterialResponse>, Status> {
        self.answer(request, import_key_material, |key| v1::ImportKeyMaterialResponse {
            key: Some(self.key(key)),
        })
        .await
    }

    async fn delete_imported_key_material(
        &self,
        request: Request<v1::DeleteImportedKeyMaterialRequest>,
    ) -> Result<Response<v1::DeleteImportedKeyMaterialResponse>, Status> {
        let render = |key| v1::DeleteImportedKeyMaterialResponse { key: Some(self.key(key)) };
        self.answer(request, delete_imported_key_material, render).await
    }
}

pub(crate) fn get_parameters_for_import(
    request: v1::GetParametersForImportRequest,
) -> Result<GetParametersForImport, Error> {
    let algorithm = WrappingAlgorithm::parse(&request.wrapping_algorithm)?;
    Ok(GetParametersForImport { key: KeySelector::parse(&request.key_id)?, algorithm })
}

pub(crate) fn import_key_material(request: v1::ImportKeyMaterialRequest) -> Result<ImportKeyMaterial, Error> {
    Ok(ImportKeyMaterial {
        key: KeySelector::parse(&request.key_id)?,
        token: request.import_token.into(),
        wrapped_material: request.wrapped_material.into(),
        wrapped_private_key: Some(Vec::from(request.wrapped_private_key)).filter(|key| !key.is_empty()),
        expires: convert::moment(Field::ExpiresAt, request.expires_at)?,
    })
}

pub(crate) fn delete_imported_key_material(
    request: v1::DeleteImportedKeyMaterialRequest,
) -> Result<DeleteImportedKeyMaterial, Error> {
    Ok(DeleteImportedKeyMaterial { key: KeySelector::parse(&request.key_id)? })
}
