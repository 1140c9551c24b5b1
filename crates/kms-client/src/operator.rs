//! Calls of the operator service: the root keys above all CMKs.

use kms_proto::v1::{self, operator_service_client::OperatorServiceClient};

use crate::{Client, DestroyedKey, Error, ExplainedAccess, ReloadedIdentities, Root, UsedKey, retry::Repeat};

/// The root keys, as store and token know them.
#[derive(Clone, Debug, PartialEq)]
pub struct RootStatus {
    /// What the store says, and how far a rotation has come.
    pub root: Root,
    /// The generations on the token, rising.
    pub token_generations: Vec<u32>,
}

/// The root keys. Only an operator's certificate (`dewpoint://operator/<name>`) may make these calls: permission
/// `dewpoint:root:manage`.
impl Client {
    /// Begins a rotation of the root key, unless one is under way; keys move in the background. With `keep_old_root`
    /// the old root key stays until [`retire_root`](Self::retire_root), so that older backups can be restored.
    pub async fn rotate_root(&self, keep_old_root: bool) -> Result<Root, Error> {
        let request = v1::RotateRootRequest { keep_old_root };
        let answer = self
            .call(Repeat::OnlyIfUndone, request, |channel, request| async move {
                OperatorServiceClient::new(channel).rotate_root(request).await
            })
            .await?;
        present(answer.root)
    }

    /// Lets go of the old root keys that a rotation was told to keep.
    pub async fn retire_root(&self) -> Result<Root, Error> {
        let answer = self
            .call(Repeat::OnlyIfUndone, v1::RetireRootRequest {}, |channel, request| async move {
                OperatorServiceClient::new(channel).retire_root(request).await
            })
            .await?;
        present(answer.root)
    }

    /// The state of the root keys and of a rotation that is under way.
    pub async fn describe_root(&self) -> Result<RootStatus, Error> {
        let answer = self
            .call(Repeat::Harmless, v1::DescribeRootRequest {}, |channel, request| async move {
                OperatorServiceClient::new(channel).describe_root(request).await
            })
            .await?;
        Ok(RootStatus { root: present(answer.root)?, token_generations: answer.token_generations })
    }

    /// What remains of destroyed keys, of all accounts: all pages, in the order of the keys' creation.
    pub async fn destroyed_keys(&self) -> Result<Vec<DestroyedKey>, Error> {
        let (mut keys, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = v1::ListDestroyedKeysRequest { page_size: 1000, page_token };
            let page = self
                .call(Repeat::Harmless, request, |channel, request| async move {
                    OperatorServiceClient::new(channel).list_destroyed_keys(request).await
                })
                .await?;
            keys.extend(page.keys);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(keys);
            }
        }
    }

    /// Who may do what with a key, and by what: one user, or all.
    pub async fn explain_access(&self, key_id: &str, user_id: &str) -> Result<ExplainedAccess, Error> {
        let (key_id, user_id) = (key_id.to_owned(), user_id.to_owned());
        let request = v1::ExplainAccessRequest { key_id, user_id };
        self.call(Repeat::Harmless, request, |channel, request| async move {
            OperatorServiceClient::new(channel).explain_access(request).await
        })
        .await
    }

    /// Has the file of identities read anew; answers how many users there are now.
    pub async fn reload_identities(&self) -> Result<ReloadedIdentities, Error> {
        self.call(Repeat::Harmless, v1::ReloadIdentitiesRequest {}, |channel, request| async move {
            OperatorServiceClient::new(channel).reload_identities(request).await
        })
        .await
    }

    /// Has the profile of traffic limits and quotas read anew; answers the SHA-256 of what was read.
    pub async fn reload_traffic_profile(&self) -> Result<Vec<u8>, Error> {
        let request = v1::ReloadTrafficProfileRequest {};
        let answer = self.call(Repeat::Harmless, request, |channel, request| async move {
            OperatorServiceClient::new(channel).reload_traffic_profile(request).await
        });
        Ok(answer.await?.digest.to_vec())
    }

    /// How the keys of all accounts were used, destroyed ones among them, or only those that wait for their deletion: all
    /// pages, in the order of the keys' creation.
    pub async fn used_keys(&self, only_pending_deletion: bool) -> Result<Vec<UsedKey>, Error> {
        let (mut keys, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = v1::ListKeyUsageRequest { page_size: 1000, page_token, only_pending_deletion };
            let page = self
                .call(Repeat::Harmless, request, |channel, request| async move {
                    OperatorServiceClient::new(channel).list_key_usage(request).await
                })
                .await?;
            keys.extend(page.keys);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(keys);
            }
        }
    }
}

fn present(root: Option<Root>) -> Result<Root, Error> {
    root.ok_or(Error::InvalidAnswer("the root keys are missing"))
}
