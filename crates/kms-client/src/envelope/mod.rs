//! Envelope encryption of streams: a data key from the service seals a stream of any length in segments.
//!
//! [`encrypt`] and [`decrypt`] move a stream; [`decrypt_to_path`] makes a file that appears only when all of it is
//! authentic; [`RangeReader`] reads parts of an envelope. They all stand on [`Sealer`] and [`Opener`], which do no
//! input or output and take any data key. The format is described in `docs/envelope-format.md`, with test vectors in
//! `docs/vectors/envelope-v1.json`.
//!
//! Nothing unauthenticated is ever written. But a stream that was cut off shows it only at its end: when [`decrypt`]
//! fails, what it has already written must be discarded.
//!
//! # The encryption context
//! Say in it what the envelope is and where it belongs, from what the reader knows anyway and not from what is stored
//! with the envelope: for an object, its bucket and its path (`{"bucket": "b", "object": "a/b.txt"}`). An envelope
//! that is put in another one's place then does not open. A sealed data key cannot be exchanged, because all segments
//! are bound to it: another context means encrypting anew. So leave out what may change while the stream stays. The
//! context is not secret: the log keeps its keys as they are and its values as keyed hashes.

mod error;
mod file;
mod header;
mod layout;
mod opener;
mod range;
mod sealer;
mod segment;
mod service;
mod stream;
#[cfg(test)]
mod tests;

pub use error::Error;
pub use file::decrypt_to_path;
pub use header::{FIXED_LENGTH, Header};
pub use layout::Layout;
pub use opener::Opener;
pub use range::RangeReader;
pub use sealer::Sealer;
pub use segment::{Suite, TAG_LENGTH};
pub use service::{Encrypted, decrypt, encrypt, open};
pub use stream::{open_stream, read_header, seal_stream};
