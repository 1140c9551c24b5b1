//! Tests of the envelope, on envelopes of small segments in memory.

mod ranges;
mod streams;
mod tampering;
mod vectors;

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, ReadBuf};

use super::{Error, Opener, Sealer, Suite, header::Parameters, open_stream, read_header, seal_stream};

const SUITES: [Suite; 2] = [Suite::Aes256Gcm, Suite::Sm4Gcm];
const SEALED_KEY: &[u8] = b"sealed";
/// The smallest segments that are allowed keep the envelopes short.
const SMALL: u8 = 10;
const SEGMENT: usize = 1 << SMALL;

fn data_key(suite: Suite) -> Vec<u8> {
    vec![7; usize::from(suite.key_length())]
}

fn pattern(length: usize) -> Vec<u8> {
    (0..=250).cycle().take(length).collect()
}

/// A sealer of small segments; `salt` tells apart envelopes under one data key.
fn sealer(suite: Suite, salt: u8) -> Sealer {
    let sealed_key = SEALED_KEY.to_vec();
    let parameters = Parameters { suite, segment_exponent: SMALL, salt: [salt; 32], sealed_key };
    Sealer::with_parameters(parameters, &data_key(suite)).expect("the data key fits")
}

fn sealed(suite: Suite, salt: u8, plaintext: &[u8]) -> Vec<u8> {
    let mut envelope = Vec::new();
    let length = block_on(seal_stream(sealer(suite, salt), &mut &*plaintext, &mut envelope));
    assert_eq!(length.expect("memory takes it"), plaintext.len() as u64);
    envelope
}

/// What was written, and how it ended.
fn opened(suite: Suite, envelope: &[u8]) -> (Vec<u8>, Result<u64, Error>) {
    opened_from(&data_key(suite), &mut &*envelope)
}

fn opened_from(data_key: &[u8], reader: &mut (impl AsyncRead + Unpin)) -> (Vec<u8>, Result<u64, Error>) {
    let mut written = Vec::new();
    let result = block_on(async {
        let opener = Opener::new(read_header(reader).await?, data_key)?;
        open_stream(&opener, reader, &mut written).await
    });
    (written, result)
}

fn block_on<Output>(future: impl Future<Output = Output>) -> Output {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future)
}

/// Gives data in pieces of the given sizes, over and over.
struct Pieces<'a> {
    data: &'a [u8],
    sizes: std::iter::Cycle<std::vec::IntoIter<usize>>,
}

impl<'a> Pieces<'a> {
    fn new(data: &'a [u8], sizes: Vec<usize>) -> Self {
        Self { data, sizes: sizes.into_iter().cycle() }
    }
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let size = self.sizes.next().unwrap_or(1).min(self.data.len()).min(buffer.remaining());
        let (piece, rest) = self.data.split_at(size);
        buffer.put_slice(piece);
        self.data = rest;
        Poll::Ready(Ok(()))
    }
}
