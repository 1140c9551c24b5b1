//! SM4-GCM as objects and envelopes are sealed with it, against the same mode over the plain block cipher.

use aes_gcm::{
    AeadInOut, AesGcm, KeyInit as _,
    aead::consts::{U12, U16},
};
use kms_sm4::Sm4Gcm;
use rustix::time::{ClockId, clock_gettime};

use crate::rows::{Bound, Table};

/// As long as the segments of both formats.
const SEGMENT: usize = 1 << 16;
/// Segments that are sealed in one round: by the plain one, in some 15 ms, and by ours.
const SEGMENTS: [u32; 2] = [16, 64];
const ROUNDS: usize = 51;

pub(crate) fn row(table: &mut Table) {
    let plain = AesGcm::<sm4::Sm4, U12>::new(&[7; 16].into());
    let ours = Sm4Gcm::new(&[7; 16].into());
    let mut segment = vec![0; SEGMENT];
    let (mut ratios, mut last) = (Vec::new(), String::new());
    for _ in 0..ROUNDS {
        let rates = [rate(&plain, SEGMENTS[0], &mut segment), rate(&ours, SEGMENTS[1], &mut segment)];
        ratios.push(rates[1] / rates[0]);
        last = format!("{:.0} MB/s of {:.0} MB/s, a segment of 64 KiB at a time", rates[1], rates[0]);
    }
    table.row("sm4 SM4-GCM / plain SM4-GCM", &last, ratios, ">= 5", Bound::AtLeast(5.0));
}

/// Megabytes that are sealed in a second of this thread's time, whoever else runs.
#[allow(clippy::cast_precision_loss, reason = "far below 2^52 bytes")]
fn rate<Cipher>(cipher: &Cipher, segments: u32, segment: &mut [u8]) -> f64
where
    Cipher: AeadInOut<NonceSize = U12, TagSize = U16>,
{
    let started = own_seconds();
    for index in 0..segments {
        let mut nonce = [0; 12];
        nonce[..4].copy_from_slice(&index.to_be_bytes());
        cipher.encrypt_inout_detached(&nonce.into(), b"place", segment.into()).expect("it is short");
    }
    f64::from(segments) * SEGMENT as f64 / 1e6 / (own_seconds() - started)
}

#[allow(clippy::cast_precision_loss, reason = "nanoseconds of a second, and seconds of a run")]
fn own_seconds() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
