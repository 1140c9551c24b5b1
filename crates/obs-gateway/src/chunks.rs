//! S3's own chunks in bodies: `SIZE` or `SIZE;chunk-signature=SIGNATURE`, `\r\n`, the bytes, `\r\n`, again and again until
//! one without bytes, and then what comes behind them.
//!
//! The protocol's library gathers a whole chunk before it hands a byte on, and the client chooses how long a chunk is. So
//! chunks without signatures are cut anew, into what came at once, and those with signatures are short.

use std::{
    collections::VecDeque,
    error, mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use hyper::body::{Body, Frame};

/// The longest chunk with a signature, in bytes.
const LONGEST_SIGNED: u64 = 2 << 20;
/// The longest line before a chunk, in bytes.
const LONGEST_HEAD: usize = 128;

/// Whether a request's body comes in chunks.
pub(crate) fn are_in(headers: &HeaderMap) -> bool {
    let hash = headers.get("x-amz-content-sha256").map(http::HeaderValue::as_bytes);
    hash.is_some_and(|hash| hash.starts_with(b"STREAMING-"))
}

/// Why a body is not read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// Neither a chunk nor its end.
    #[error("this is not a chunk")]
    Format,
    /// A chunk with a signature of more than [`LONGEST_SIGNED`].
    #[error("a chunk with a signature has at most {LONGEST_SIGNED} bytes")]
    TooLong,
    /// The body ended before the last chunk did.
    #[error("the last chunk is missing")]
    Incomplete,
}

/// A body in chunks, none of which is long.
#[derive(Debug)]
pub(crate) struct Chunks<Inner> {
    body: Inner,
    cutter: Cutter,
    ready: VecDeque<Bytes>,
}

/// Where in its chunks a body is.
#[derive(Debug)]
enum Cutter {
    /// In the line before a chunk.
    Head(Vec<u8>),
    /// In a chunk of which so many bytes are left.
    Content { left: u64, is_signed: bool },
    /// In what ends a chunk's bytes.
    End { left: &'static [u8], is_signed: bool },
    /// Behind the last chunk.
    Behind,
}

impl<Inner> Chunks<Inner> {
    pub(crate) fn new(body: Inner) -> Self {
        Self { body, cutter: Cutter::Head(Vec::new()), ready: VecDeque::new() }
    }
}

impl<Inner> Body for Chunks<Inner>
where
    Inner: Body<Data = Bytes, Error: Into<Box<dyn error::Error + Send + Sync>>> + Unpin,
{
    type Data = Bytes;
    type Error = Box<dyn error::Error + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        loop {
            if let Some(bytes) = this.ready.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            let frame = match ready!(Pin::new(&mut this.body).poll_frame(context)) {
                Some(frame) => frame.map_err(Into::<Self::Error>::into)?,
                None if matches!(this.cutter, Cutter::Behind) => return Poll::Ready(None),
                None => return Poll::Ready(Some(Err(Error::Incomplete.into()))),
            };
            match frame.into_data() {
                Ok(bytes) => this.cutter.take(bytes, &mut this.ready)?,
                Err(other) => return Poll::Ready(Some(Ok(other))),
            }
        }
    }
}

impl Cutter {
    /// Takes what came at once, and adds what is handed on.
    fn take(&mut self, mut bytes: Bytes, ready: &mut VecDeque<Bytes>) -> Result<(), Error> {
        while !bytes.is_empty() {
            match self {
                Self::Head(head) => {
                    let line = bytes.iter().position(|byte| *byte == b'\n').map(|end| end + 1);
                    let taken = bytes.split_to(line.unwrap_or(bytes.len()));
                    if head.len() + taken.len() > LONGEST_HEAD {
                        return Err(Error::Format);
                    }
                    head.extend_from_slice(&taken);
                    if line.is_some() {
                        let head = mem::take(head);
                        *self = Self::chunk(head, ready)?;
                    }
                }
                Self::Content { left, is_signed } => {
                    let length = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                    let content = bytes.split_to(length);
                    *left -= length as u64;
                    if *is_signed {
                        ready.push_back(content);
                    } else {
                        ready.extend([
                            format!("{length:x}\r\n").into(),
                            content,
                            Bytes::from_static(b"\r\n"),
                        ]);
                    }
                    if *left == 0 {
                        *self = Self::End { left: b"\r\n", is_signed: *is_signed };
                    }
                }
                Self::End { left, is_signed } => {
                    let (end, rest) = left.split_first().ok_or(Error::Format)?;
                    let taken = bytes.split_to(1);
                    if taken[0] != *end {
                        return Err(Error::Format);
                    }
                    if *is_signed {
                        ready.push_back(taken);
                    }
                    *left = rest;
                    if rest.is_empty() {
                        *self = Self::Head(Vec::new());
                    }
                }
                Self::Behind => ready.push_back(mem::take(&mut bytes)),
            }
        }
        Ok(())
    }

    /// What follows the line before a chunk.
    fn chunk(head: Vec<u8>, ready: &mut VecDeque<Bytes>) -> Result<Self, Error> {
        let line = std::str::from_utf8(&head).ok().and_then(|line| line.strip_suffix("\r\n"));
        let line = line.ok_or(Error::Format)?;
        let (size, signature) = line.split_once(';').map_or((line, None), |(size, rest)| (size, Some(rest)));
        let is_size = (1..=16).contains(&size.len()) && size.bytes().all(|digit| digit.is_ascii_hexdigit());
        let left = u64::from_str_radix(size, 16).ok().filter(|_| is_size).ok_or(Error::Format)?;
        let is_signed = signature.is_some();
        match left {
            0 => {
                ready.push_back(head.into());
                Ok(Self::Behind)
            }
            _ if is_signed && left > LONGEST_SIGNED => Err(Error::TooLong),
            _ => {
                if is_signed {
                    ready.push_back(head.into());
                }
                Ok(Self::Content { left, is_signed })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream;
    use http_body_util::{BodyExt as _, StreamBody};

    use super::*;

    /// What is handed on of a body that comes in pieces of this length.
    async fn handed_on(body: &[u8], length: usize) -> Result<Vec<u8>, String> {
        let piece = |piece: &[u8]| Ok::<_, Infallible>(Frame::data(Bytes::copy_from_slice(piece)));
        let pieces: Vec<_> = body.chunks(length).map(piece).collect();
        let chunks = Chunks::new(StreamBody::new(stream::iter(pieces)));
        chunks.collect().await.map(|all| all.to_bytes().to_vec()).map_err(|error| error.to_string())
    }

    /// The contents of chunks, and the length of the longest.
    fn contents(mut body: &[u8]) -> (Vec<u8>, usize) {
        let (mut all, mut longest) = (Vec::new(), 0);
        loop {
            let end = body.windows(2).position(|pair| pair == b"\r\n").unwrap();
            let size = usize::from_str_radix(std::str::from_utf8(&body[..end]).unwrap(), 16).unwrap();
            if size == 0 {
                return (all, longest);
            }
            all.extend_from_slice(&body[end + 2..end + 2 + size]);
            longest = longest.max(size);
            body = &body[end + 4 + size..];
        }
    }

    #[tokio::test]
    async fn chunks_without_signatures_are_cut_into_what_came_at_once() {
        let text = [b'x'; 1000];
        let tail = b"0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n";
        let body = [&b"3e8\r\n"[..], &text, b"\r\n1\r\ny\r\n", tail].concat();
        for length in [1, 2, 7, 64, 5000] {
            let handed_on = handed_on(&body, length).await.unwrap();
            assert!(handed_on.ends_with(tail), "{length}");
            let (content, longest) = contents(&handed_on);
            assert_eq!(content, [&text[..], b"y"].concat());
            assert!(longest <= length);
        }
    }

    #[tokio::test]
    async fn chunks_with_signatures_are_handed_on_as_they_are() {
        let signature = "0".repeat(64);
        let body = format!("3;chunk-signature={signature}\r\nabc\r\n0;chunk-signature={signature}\r\n\r\n");
        for length in [1, 5, 500] {
            assert_eq!(handed_on(body.as_bytes(), length).await.unwrap(), body.as_bytes());
        }
    }

    #[tokio::test]
    async fn long_chunks_with_signatures_are_refused_before_they_come() {
        let head = |size: u64| format!("{size:x};chunk-signature={}\r\n", "0".repeat(64));
        let refused = handed_on(head(LONGEST_SIGNED + 1).as_bytes(), 64).await.unwrap_err();
        assert_eq!(refused, Error::TooLong.to_string());
        let refused = handed_on(head(LONGEST_SIGNED).as_bytes(), 64).await.unwrap_err();
        assert_eq!(refused, Error::Incomplete.to_string(), "its length is none too many");
    }

    #[tokio::test]
    async fn what_is_no_chunk_is_refused() {
        for body in
            ["x\r\n", "\r\n", "+1\r\na", "3\nabc", "3\r\nabcd\r\n", "3 \r\nabc", "11111111111111111\r\n"]
        {
            let refused = handed_on(body.as_bytes(), 3).await.unwrap_err();
            assert_eq!(refused, Error::Format.to_string(), "{body:?}");
        }
        let endless = "1".repeat(LONGEST_HEAD + 1);
        assert_eq!(handed_on(endless.as_bytes(), 10).await.unwrap_err(), Error::Format.to_string());
        for body in ["", "3\r\nab", "3\r\nabc\r\n", "3\r\nabc"] {
            let refused = handed_on(body.as_bytes(), 3).await.unwrap_err();
            assert_eq!(refused, Error::Incomplete.to_string(), "{body:?}");
        }
    }
}
