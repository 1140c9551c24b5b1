//! SM4-GCM as objects and envelopes are sealed with it, against the same mode over the plain block cipher.

use aes_gcm::{
    AeadInOut, AesGcm, KeyInit as _,
    aead::consts::{U12, U16},
};
use kms_sm4::Sm4Gcm;
use rustix::time::{ClockId, clock_gettime};

use crate::rows::{Bound, Table};

const KEY: [u8; 16] = [7; 16];
/// As long as the segments of both formats.
const SEGMENT: usize = 1 << 16;
/// Segments that the plain one seals and opens in a round, in some 30 ms, and each of ours.
const SEGMENTS: [u32; 2] = [16, 64];
const ROUNDS: usize = 51;

/// One of our implementations, and what was measured of sealing and of opening.
struct Ours {
    name: &'static str,
    cipher: Sm4Gcm,
    floor: f64,
    measured: [(Vec<f64>, String); 2],
}

impl Ours {
    fn new(name: &'static str, cipher: Sm4Gcm, floor: f64) -> Self {
        Self { name, cipher, floor, measured: Default::default() }
    }
}

pub(crate) fn rows(table: &mut Table) {
    let plain = AesGcm::<sm4::Sm4, U12>::new(&KEY.into());
    let mut all_ours = vec![Ours::new("in bit slices", Sm4Gcm::in_bit_slices(&KEY.into()), 4.0)];
    let chosen = Sm4Gcm::new(&KEY.into());
    if !chosen.is_in_bit_slices() {
        all_ours.push(Ours::new("with AES-NI", chosen, 5.0));
    }
    let mut segment = vec![0; SEGMENT];
    for _ in 0..ROUNDS {
        let plain = rates(&plain, SEGMENTS[0], &mut segment);
        for ours in &mut all_ours {
            let rates = rates(&ours.cipher, SEGMENTS[1], &mut segment);
            for ((ratios, last), (rate, plain)) in ours.measured.iter_mut().zip(rates.into_iter().zip(plain))
            {
                ratios.push(rate / plain);
                *last = format!("{rate:.0} MB/s of {plain:.0} MB/s, a segment of 64 KiB at a time");
            }
        }
    }
    for Ours { name, measured, floor, .. } in all_ours {
        for (what, (ratios, last)) in ["seal", "open"].into_iter().zip(measured) {
            let name = format!("sm4 {what} {name} / plain SM4-GCM");
            table.row(&name, &last, ratios, ">= 5", Bound::AtLeast(floor));
        }
    }
}

/// Megabytes that are sealed, and that are opened, in a second of this thread's time, whoever else runs.
#[allow(clippy::cast_precision_loss, reason = "far below 2^52 bytes")]
fn rates<Cipher>(cipher: &Cipher, segments: u32, segment: &mut [u8]) -> [f64; 2]
where
    Cipher: AeadInOut<NonceSize = U12, TagSize = U16>,
{
    let mut seconds = [0.0; 2];
    for index in 0..segments {
        let mut nonce = [0; 12];
        nonce[..4].copy_from_slice(&index.to_be_bytes());
        let nonce = nonce.into();
        let started = own_seconds();
        let tag = cipher.encrypt_inout_detached(&nonce, b"place", (&mut *segment).into());
        let tag = tag.expect("it is short");
        let sealed = own_seconds();
        let opened = cipher.decrypt_inout_detached(&nonce, b"place", (&mut *segment).into(), &tag);
        opened.expect("it was sealed just now");
        seconds[0] += sealed - started;
        seconds[1] += own_seconds() - sealed;
    }
    seconds.map(|seconds| f64::from(segments) * SEGMENT as f64 / 1e6 / seconds)
}

#[allow(clippy::cast_precision_loss, reason = "nanoseconds of a second, and seconds of a run")]
fn own_seconds() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
