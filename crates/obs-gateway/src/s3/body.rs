//! Streams between the wire and the store: some hundred kilobytes of a body are in memory at a time, whatever its
//! length, and no thread waits for a slow client.

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, stream};
use http::HeaderMap;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use md5::{Digest as _, Md5};
use s3s::{
    Body, S3Error, S3Request, S3Result,
    checksum::ChecksumHasher,
    crypto::{Checksum as _, Crc32, Crc32c, Crc64Nvme, Sha1, Sha256},
    dto::{Checksum, StreamingBlob},
    s3_error,
};
use tokio::task::{JoinError, spawn_blocking};
use tracing::{Instrument as _, Span};

use super::{
    answers::text,
    errors::{internal, not_offered, s3},
};
use crate::{
    chunks,
    store::{self, ObjectReader, Stored, StreamWriter},
};

/// How many bytes go to a blocking thread at once.
const BATCH: usize = 256 * 1024;
/// A piece of a body of fewer bytes is copied to its neighbours.
const SMALL: usize = 4 * 1024;

/// The checksums that are computed, as headers name them.
const CHECKSUMS: [&str; 5] = [
    "x-amz-checksum-crc32",
    "x-amz-checksum-crc32c",
    "x-amz-checksum-sha1",
    "x-amz-checksum-sha256",
    "x-amz-checksum-crc64nvme",
];

/// What a client says of a body that it sends.
#[derive(Debug, Default)]
pub(super) struct Promised {
    pub(super) content_md5: Option<String>,
    pub(super) length: Option<i64>,
    /// The checksums of the headers.
    pub(super) checksum: Checksum,
    /// The names of those that come behind the body.
    pub(super) trailer: Vec<String>,
}

impl Promised {
    /// What the headers say of a body that whoever takes it off the wire holds to its length.
    pub(super) fn of_headers(headers: &HeaderMap) -> Self {
        let checksum = |name: &str| text(headers, name);
        Self {
            content_md5: text(headers, "content-md5"),
            length: None,
            checksum: Checksum {
                checksum_crc32: checksum("x-amz-checksum-crc32"),
                checksum_crc32c: checksum("x-amz-checksum-crc32c"),
                checksum_crc64nvme: checksum("x-amz-checksum-crc64nvme"),
                checksum_sha1: checksum("x-amz-checksum-sha1"),
                checksum_sha256: checksum("x-amz-checksum-sha256"),
                ..Checksum::default()
            },
            trailer: trailer_names(headers),
        }
    }
}

/// How long a body is said to be: without its frame, where it comes in one of S3's chunks.
pub(super) fn length(headers: &HeaderMap, content_length: Option<i64>) -> S3Result<Option<i64>> {
    if !chunks::are_in(headers) {
        return Ok(content_length);
    }
    let length =
        headers.get("x-amz-decoded-content-length").and_then(|length| length.to_str().ok()?.parse().ok());
    length
        .map(Some)
        .ok_or_else(|| s3_error!(MissingContentLength, "x-amz-decoded-content-length is no length"))
}

/// The names of what comes behind a body, in small letters.
pub(super) fn trailer_names(headers: &HeaderMap) -> Vec<String> {
    let values = headers.get_all("x-amz-trailer").iter().filter_map(|names| names.to_str().ok());
    let names = values.flat_map(|names| names.split(',')).map(|name| name.trim().to_ascii_lowercase());
    names.filter(|name| !name.is_empty()).collect()
}

/// Writes a body and answers it when it is on the disk and as promised.
pub(super) async fn receive(
    writer: StreamWriter,
    body: Option<StreamingBlob>,
    promised: Promised,
    trailers: Option<s3s::TrailingHeaders>,
) -> S3Result<Stored> {
    must_be_known(&promised.trailer)?;
    let mut writer = (writer, hasher(&promised));
    let mut length = 0_i64;
    if let Some(mut body) = body {
        let mut batch = Batch::default();
        loop {
            let chunk = body.next().await;
            let is_end = chunk.is_none();
            if let Some(chunk) = chunk {
                let chunk =
                    chunk.map_err(|error| s3_error!(IncompleteBody, "the body broke off: {error}"))?;
                length += i64::try_from(chunk.len()).unwrap_or(i64::MAX);
                batch.push(chunk);
            }
            if is_end || batch.length >= BATCH {
                writer = write(writer, std::mem::take(&mut batch).into_pieces()).await?;
            }
            if is_end {
                break;
            }
        }
    }
    if promised.length.is_some_and(|promised| promised != length) {
        return Err(s3_error!(IncompleteBody, "the body has another length than it was said to have"));
    }
    let (writer, hasher) = writer;
    let stored = blocking(move || writer.finish()).await?.map_err(s3)?;
    check(&promised, &stored.plaintext_md5, hasher.finalize(), trailers.as_ref())?;
    Ok(stored)
}

/// Reads a body of at most `longest` bytes into memory, which has to be as promised.
pub(super) async fn receive_short(request: S3Request<Body>, longest: usize) -> S3Result<Bytes> {
    let S3Request { input, headers, trailing_headers, .. } = request;
    let promised = Promised::of_headers(&headers);
    must_be_known(&promised.trailer)?;
    let body = Limited::new(input, longest).collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() {
            s3_error!(MalformedXML, "the body is longer than {longest} bytes")
        } else {
            s3_error!(IncompleteBody, "the body broke off: {error}")
        }
    })?;
    let body = body.to_bytes();
    let mut hasher = hasher(&promised);
    hasher.update(&body);
    check(&promised, &Md5::digest(&body), hasher.finalize(), trailing_headers.as_ref())?;
    Ok(body)
}

fn must_be_known(trailer: &[String]) -> S3Result<()> {
    match trailer.iter().find(|name| !CHECKSUMS.contains(&name.as_str())) {
        Some(unknown) => Err(not_offered(unknown)),
        None => Ok(()),
    }
}

/// Pieces of a body that go to a blocking thread together. The client chooses how long each is: so small ones are gathered,
/// and what a batch needs is bounded by its bytes.
#[derive(Default)]
struct Batch {
    pieces: Vec<Bytes>,
    /// The bytes of small pieces behind those.
    gathered: BytesMut,
    /// All bytes.
    length: usize,
}

impl Batch {
    fn push(&mut self, piece: Bytes) {
        self.length += piece.len();
        if piece.len() < SMALL {
            self.gathered.extend_from_slice(&piece);
        } else {
            self.gather();
            self.pieces.push(piece);
        }
    }

    fn gather(&mut self) {
        if !self.gathered.is_empty() {
            self.pieces.push(std::mem::take(&mut self.gathered).freeze());
        }
    }

    fn into_pieces(mut self) -> Vec<Bytes> {
        self.gather();
        self.pieces
    }
}

async fn write(
    (mut writer, mut hasher): (StreamWriter, ChecksumHasher),
    batch: Vec<Bytes>,
) -> S3Result<(StreamWriter, ChecksumHasher)> {
    let written = blocking(move || {
        for chunk in batch {
            hasher.update(&chunk);
            writer.write(&chunk)?;
        }
        Ok::<_, store::Error>((writer, hasher))
    });
    written.await?.map_err(s3)
}

/// Computes the checksums that are promised, by header or behind the body.
pub(super) fn hasher(promised: &Promised) -> ChecksumHasher {
    let Checksum {
        checksum_crc32, checksum_crc32c, checksum_sha1, checksum_sha256, checksum_crc64nvme, ..
    } = &promised.checksum;
    let wanted = |header: &Option<String>, name: &str| {
        header.is_some() || promised.trailer.iter().any(|trailer| trailer == name)
    };
    ChecksumHasher {
        crc32: wanted(checksum_crc32, "x-amz-checksum-crc32").then(Crc32::new),
        crc32c: wanted(checksum_crc32c, "x-amz-checksum-crc32c").then(Crc32c::new),
        sha1: wanted(checksum_sha1, "x-amz-checksum-sha1").then(Sha1::new),
        sha256: wanted(checksum_sha256, "x-amz-checksum-sha256").then(Sha256::new),
        crc64nvme: wanted(checksum_crc64nvme, "x-amz-checksum-crc64nvme").then(Crc64Nvme::new),
    }
}

// OBS: Content-MD5 is about the plaintext, with SSE or without.
pub(super) fn check(
    promised: &Promised,
    plaintext_md5: &[u8],
    found: Checksum,
    trailers: Option<&s3s::TrailingHeaders>,
) -> S3Result<()> {
    if let Some(md5) = &promised.content_md5 {
        let decoded = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, md5);
        let decoded = decoded.ok().filter(|md5| md5.len() == 16);
        let decoded = decoded.ok_or_else(|| s3_error!(InvalidDigest, "Content-MD5 is no MD5"))?;
        if decoded != plaintext_md5 {
            return Err(s3_error!(BadDigest, "the body has another MD5 than Content-MD5 says"));
        }
    }
    let trailing = |name: &str| {
        trailers.and_then(|trailers| trailers.read(|headers| headers.get(name).cloned()).flatten())
    };
    if let Some(missing) = promised.trailer.iter().find(|name| trailing(name).is_none()) {
        return Err(s3_error!(InvalidRequest, "{missing} was to come behind the body, and did not"));
    }
    let headers = &promised.checksum;
    for (name, header, found) in [
        ("x-amz-checksum-crc32", &headers.checksum_crc32, found.checksum_crc32),
        ("x-amz-checksum-crc32c", &headers.checksum_crc32c, found.checksum_crc32c),
        ("x-amz-checksum-sha1", &headers.checksum_sha1, found.checksum_sha1),
        ("x-amz-checksum-sha256", &headers.checksum_sha256, found.checksum_sha256),
        ("x-amz-checksum-crc64nvme", &headers.checksum_crc64nvme, found.checksum_crc64nvme),
    ] {
        let Some(found) = found else { continue };
        let is_header = header.as_ref().is_none_or(|header| *header == found);
        let is_trailer = trailing(name).is_none_or(|trailer| trailer.as_bytes() == found.as_bytes());
        if !is_header || !is_trailer {
            return Err(s3_error!(BadDigest, "the body has another checksum than {name} says"));
        }
    }
    Ok(())
}

/// Reads a range as a body. The first bytes are read before this returns, so that damage found by then is a refusal;
/// later damage ends the body too early, and the connection with it.
pub(super) async fn send(reader: ObjectReader) -> S3Result<StreamingBlob> {
    let (first, reader) = read(reader).await.map_err(s3)?;
    // The rest is read when the request is answered already; its span says which one it was.
    let span = Span::current();
    let rest = stream::try_unfold(reader, move |reader| {
        let reading = async {
            let (bytes, reader) = read(reader).await.map_err(|error| {
                tracing::error!(%error, "an object broke off");
                std::io::Error::other(error)
            })?;
            Ok::<_, std::io::Error>(bytes.map(|bytes| (bytes, reader)))
        };
        reading.instrument(span.clone())
    });
    let first = stream::iter(first.map(Ok));
    Ok(StreamingBlob::wrap(first.chain(rest)))
}

/// The next bytes, as many as are worth a thread's while.
pub(super) async fn read(mut reader: ObjectReader) -> Result<(Option<Bytes>, ObjectReader), store::Error> {
    let read = spawn_blocking(move || {
        let mut batch = Vec::new();
        while batch.len() < BATCH {
            let Some(bytes) = reader.next_bytes()? else { break };
            if batch.is_empty() {
                batch = bytes;
            } else {
                batch.extend_from_slice(&bytes);
            }
        }
        Ok((Some(Bytes::from(batch)).filter(|batch| !batch.is_empty()), reader))
    });
    read.await.map_err(|error| store::Error::Io(std::io::Error::other(error)))?
}

/// Copies what a reader reads.
pub(super) async fn copy(mut reader: ObjectReader, writer: StreamWriter) -> S3Result<Stored> {
    let mut writer = (writer, ChecksumHasher::default());
    loop {
        let (bytes, rest) = read(reader).await.map_err(s3)?;
        let Some(bytes) = bytes else { break };
        writer = write(writer, vec![bytes]).await?;
        reader = rest;
    }
    let (writer, _) = writer;
    blocking(move || writer.finish()).await?.map_err(s3)
}

/// Runs what blocks where it may, in the request's span.
pub(super) async fn blocking<Output: Send + 'static>(
    work: impl FnOnce() -> Output + Send + 'static,
) -> S3Result<Output> {
    let span = Span::current();
    let work = spawn_blocking(move || span.in_scope(work));
    work.await.map_err(|error: JoinError| -> S3Error { internal(&error) })
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, fs::File, path::Path, sync::Arc};

    use tracing::{Dispatch, dispatcher::with_default, instrument::WithSubscriber as _};

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = pairs.iter();
        pairs.map(|(name, value)| ((*name).parse().unwrap(), value.parse().unwrap())).collect::<HeaderMap>()
    }

    #[test]
    fn the_length_of_a_body_in_chunks_is_that_of_its_content() {
        let chunks = ("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER");
        let decoded = |length| headers(&[chunks, ("x-amz-decoded-content-length", length)]);
        // No length of the body itself is known where it comes in HTTP's own chunks.
        for content_length in [None, Some(70)] {
            assert_eq!(length(&decoded("5"), content_length).unwrap(), Some(5));
        }
        for unreadable in [decoded("5x"), decoded(""), headers(&[chunks])] {
            assert!(length(&unreadable, Some(70)).is_err());
        }
        assert_eq!(length(&headers(&[]), Some(7)).unwrap(), Some(7));
    }

    async fn read_short(body: &str, more: &[(&'static str, &'static str)]) -> Result<Bytes, String> {
        let request = S3Request {
            input: Body::from(body.to_owned()),
            method: http::Method::PUT,
            uri: http::Uri::from_static("/b?encryption"),
            headers: headers(more),
            extensions: http::Extensions::new(),
            credentials: None,
            region: None,
            service: None,
            trailing_headers: None,
        };
        receive_short(request, 5).await.map_err(|error| error.code().as_str().to_owned())
    }

    #[tokio::test]
    async fn a_short_body_is_as_its_checksums_say() {
        let md5 = ("content-md5", "XUFAKrxLKna5cZ2REBfFkg==");
        let sha1 = ("x-amz-checksum-sha1", "qvTGHdzF6KLavt4PO0gs2a6pQ00=");
        assert_eq!(read_short("hello", &[md5, sha1]).await.unwrap(), "hello");
        for (body, header, code) in [
            ("hallo", md5, "BadDigest"),
            ("hallo", sha1, "BadDigest"),
            ("hello", ("content-md5", "x"), "InvalidDigest"),
            ("hello", ("x-amz-trailer", "x-amz-checksum-crc32"), "InvalidRequest"),
            ("hello", ("x-amz-trailer", "x-amz-checksum-md4"), "NotImplemented"),
            ("longer", sha1, "MalformedXML"),
        ] {
            assert_eq!(read_short(body, &[header]).await.unwrap_err(), code, "{body} {header:?}");
        }
    }

    /// A bucket in a new store, and a place in it.
    fn bucket(directory: &Path) -> (Arc<store::Bucket>, store::StreamPlace) {
        let store = store::Store::open(directory).unwrap();
        let settings = store::BucketSettings {
            name: "bucket".to_owned(),
            owner: "d1".to_owned(),
            created: 1,
            encryption: None,
            policy: None,
        };
        store.create_bucket(&settings).unwrap();
        let place = store::StreamPlace {
            bucket: "bucket".to_owned(),
            object: "o".to_owned(),
            upload_id: String::new(),
            part_number: 0,
        };
        (store.bucket("bucket").unwrap(), place)
    }

    /// A body that was stored in whole, whose client named `trailer` and sent none.
    fn received(trailer: &'static str) -> S3Result<()> {
        let directory = tempfile::tempdir().unwrap();
        let (bucket, place) = bucket(directory.path());
        let writer = bucket.begin(&place, None).unwrap();
        let trailer = trailer_names(&headers(&[("x-amz-trailer", trailer)]));
        let promised = Promised { trailer, ..Promised::default() };
        let runtime = tokio::runtime::Builder::new_multi_thread().build().unwrap();
        runtime.block_on(receive(writer, None, promised, None)).map(drop)
    }

    #[test]
    fn small_pieces_are_gathered_in_their_order() {
        let mut batch = Batch::default();
        let large = vec![b'l'; SMALL];
        for piece in [&b"a"[..], b"", b"b", &large, &large, b"c"] {
            batch.push(Bytes::copy_from_slice(piece));
        }
        assert_eq!(batch.length, 3 + 2 * SMALL);
        assert_eq!(batch.into_pieces(), [&b"ab"[..], &large, &large, b"c"]);
    }

    // Minutes, if every piece cost as much as there are others in its batch.
    #[tokio::test]
    async fn a_body_that_comes_byte_by_byte_is_stored() {
        let directory = tempfile::tempdir().unwrap();
        let (bucket, place) = bucket(directory.path());
        let writer = bucket.begin(&place, None).unwrap();
        let bytes = (0..=u8::MAX).cycle().take(2 * BATCH + 1);
        let pieces = bytes.clone().map(|byte| Ok::<_, std::io::Error>(Bytes::copy_from_slice(&[byte])));
        let body = StreamingBlob::wrap(stream::iter(pieces));
        let length = i64::try_from(2 * BATCH + 1).ok();
        let promised = Promised { length, ..Promised::default() };
        let stored = receive(writer, Some(body), promised, None).await.unwrap();
        assert_eq!(stored.plaintext_md5[..], Md5::digest(bytes.collect::<Vec<_>>())[..]);
    }

    /// A reader of an object of twice what is read at once, and the object's stream.
    fn reader(directory: &Path) -> (ObjectReader, std::path::PathBuf) {
        let (bucket, place) = bucket(directory);
        let mut writer = bucket.begin(&place, None).unwrap();
        writer.write(&vec![1; 2 * BATCH]).unwrap();
        let record = store::ObjectRecord {
            key: place.object,
            size: 0,
            etag: String::new(),
            modified: 1,
            headers: BTreeMap::new(),
            metadata: BTreeMap::new(),
            upload_id: String::new(),
            parts: Vec::new(),
            encryption: None,
        };
        let object = bucket.put(record, writer.finish().unwrap(), None).unwrap();
        let stream = directory.join("buckets/bucket/data").join(&object.record.parts[0].file);
        (ObjectReader::new("bucket", object, None, 0..2 * BATCH as u64).unwrap(), stream)
    }

    #[test]
    fn the_log_names_a_request_also_on_other_threads_and_after_the_answer() {
        let directory = tempfile::tempdir().unwrap();
        let (reader, stream) = reader(&directory.path().join("store"));
        let path = directory.path().join("log");
        let log =
            tracing_subscriber::fmt().with_ansi(false).with_writer(Arc::new(File::create(&path).unwrap()));
        let log = Dispatch::new(log.finish());
        let span = with_default(&log, || tracing::error_span!("request", id = "R1"));
        let runtime = tokio::runtime::Builder::new_multi_thread().build().unwrap();
        let told = log.clone();
        let work = blocking(move || with_default(&told, || tracing::error!("elsewhere")));
        let answer = async { (work.await.unwrap(), send(reader).await.unwrap()).1 }.instrument(span);
        let mut body = runtime.block_on(answer.with_subscriber(log.clone()));
        File::options().write(true).open(stream).unwrap().set_len(1).unwrap();
        let broken = async {
            body.next().await.unwrap().unwrap();
            body.next().await.unwrap().unwrap_err()
        };
        runtime.block_on(broken.with_subscriber(log));
        let log = std::fs::read_to_string(path).unwrap();
        for told in ["elsewhere", "an object broke off"] {
            let line = log.lines().find(|line| line.contains(told)).unwrap();
            assert!(line.contains(r#"request{id="R1"}"#), "{line}");
        }
    }

    #[test]
    fn a_checksum_that_is_named_has_to_come() {
        received("").unwrap();
        for (trailer, code) in [
            ("x-amz-checksum-crc32", "InvalidRequest"),
            (" X-Amz-Checksum-SHA256 ,x-amz-checksum-crc32", "InvalidRequest"),
            ("x-amz-checksum-md4", "NotImplemented"),
        ] {
            assert_eq!(received(trailer).unwrap_err().code().as_str(), code, "{trailer}");
        }
    }
}
