//! Envelopes whose data key comes from the service.

#![expect(
    clippy::implicit_hasher,
    reason = "a context is sent as it is, and the wire type has the standard hasher"
)]

use std::collections::HashMap;

use tokio::io::{AsyncRead, AsyncWrite};

use super::{Error, Header, Opener, Sealer, Suite, open_stream, read_header, seal_stream};
use crate::{Client, KeyReference};

/// An envelope that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encrypted {
    /// The id of the key that sealed the data key.
    pub key_id: String,
    /// The version that sealed it.
    pub key_version: u32,
    /// Bytes of plaintext.
    pub plaintext_length: u64,
}

/// Asks for a new data key and writes everything that `reader` gives as an envelope under it.
///
/// `suite` decides how the stream is sealed; how the service seals the data key is the key's affair. The
/// [module](super) says what makes a good context. After an error, what was written is no envelope and must be
/// discarded. Permission `kms:dek:create`.
pub async fn encrypt<Reader, Writer>(
    client: &Client,
    suite: Suite,
    key: &KeyReference,
    context: &HashMap<String, String>,
    reader: &mut Reader,
    writer: &mut Writer,
) -> Result<Encrypted, Error>
where
    Reader: AsyncRead + Unpin + ?Sized,
    Writer: AsyncWrite + Unpin + ?Sized,
{
    let data_key = client.generate_data_key(key, u32::from(suite.key_length()), context).await?;
    let sealer = Sealer::new(suite, data_key.plaintext.expose(), &data_key.ciphertext)?;
    drop(data_key.plaintext);
    let plaintext_length = seal_stream(sealer, reader, writer).await?;
    Ok(Encrypted { key_id: data_key.key_id, key_version: data_key.key_version, plaintext_length })
}

/// Has the data key opened and writes the plaintext of the envelope that `reader` gives. Answers its length in bytes.
///
/// Only authentic plaintext is written, but that something is missing at the end shows only there: after an error
/// the caller must discard what was written, or use [`super::decrypt_to_path`]. If `key` is given, the data key must
/// have been sealed by it. `context` is what was given to encrypt. Permission `kms:dek:crypto`.
pub async fn decrypt<Reader, Writer>(
    client: &Client,
    key: Option<&KeyReference>,
    context: &HashMap<String, String>,
    reader: &mut Reader,
    writer: &mut Writer,
) -> Result<u64, Error>
where
    Reader: AsyncRead + Unpin + ?Sized,
    Writer: AsyncWrite + Unpin + ?Sized,
{
    let header = read_header(reader).await?;
    let opener = open(client, key, context, header).await?;
    open_stream(&opener, reader, writer).await
}

/// Has the data key of a header opened and checks the header under it; for parts of an envelope, as
/// [`super::RangeReader`] reads them. Permission `kms:dek:crypto`.
pub async fn open(
    client: &Client,
    key: Option<&KeyReference>,
    context: &HashMap<String, String>,
    header: Header,
) -> Result<Opener, Error> {
    let data_key = client.decrypt_data_key(header.sealed_key(), key, context).await?;
    Opener::new(header, data_key.plaintext.expose())
}
