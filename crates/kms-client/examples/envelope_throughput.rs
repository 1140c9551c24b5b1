//! Measures how fast envelopes are sealed and opened in memory, in one task: `cargo run --release --example
//! envelope_throughput`.

use std::{
    error::Error,
    io::{Write as _, stdout},
    time::Instant,
};

use kms_client::envelope::{Opener, Sealer, Suite, open_stream, read_header, seal_stream};
use tokio::io::sink;

const LENGTH: usize = 256 << 20;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    for suite in [Suite::Aes256Gcm, Suite::Sm4Gcm] {
        measure(suite).await?;
    }
    Ok(())
}

async fn measure(suite: Suite) -> Result<(), Box<dyn Error>> {
    let data_key = vec![7; usize::from(suite.key_length())];
    let sealer = || Sealer::new(suite, &data_key, b"sealed data key");
    let plaintext = vec![1; LENGTH];
    // Written to memory first, so that no page of it is new when it is measured.
    let mut envelope = Vec::with_capacity(LENGTH + LENGTH / 1024);
    seal_stream(sealer()?, &mut &*plaintext, &mut envelope).await?;

    let begin = now();
    seal_stream(sealer()?, &mut &*plaintext, &mut sink()).await?;
    report(suite, "seal", begin)?;

    let mut reader = &*envelope;
    let begin = now();
    let opener = Opener::new(read_header(&mut reader).await?, &data_key)?;
    open_stream(&opener, &mut reader, &mut sink()).await?;
    report(suite, "open", begin)?;
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "it measures")]
fn now() -> Instant {
    Instant::now()
}

fn report(suite: Suite, what: &str, begin: Instant) -> std::io::Result<()> {
    // 2^28 bytes are represented exactly.
    #[expect(clippy::cast_precision_loss, reason = "the length is a power of two")]
    let megabytes = LENGTH as f64 / 1e6;
    writeln!(stdout(), "{suite:?} {what}: {:.0} MB/s", megabytes / begin.elapsed().as_secs_f64())
}
