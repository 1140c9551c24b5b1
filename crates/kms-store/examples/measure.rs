//! Measures the store on the disk of the directory that is given: `measure ENGINE DIRECTORY [RECORDS]`.

use std::{
    env,
    error::Error,
    fs,
    io::{self, Write as _},
    path::Path,
    slice,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    thread,
    time::Instant,
};

use futures_executor::block_on;
use kms_core::ports::{KeyStore, MAX_MUTATIONS, Mutation, StoreError, StoreKey, Transaction};
use kms_store::{EmbeddedStore, EngineKind};

const RECORD: [u8; 600] = [7; 600];
const PUTS: u64 = 20_000;
const READS: u64 = 200_000;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let usage = "usage: measure redb|sled DIRECTORY [RECORDS]";
    let named = arguments.next().ok_or(usage)?;
    let engine = EngineKind::ALL.into_iter().find(|engine| engine.name() == named).ok_or(usage)?;
    let directory = arguments.next().ok_or(usage)?;
    let records = arguments.next().map_or(Ok(100_000), |text| text.parse())?;
    let directory = Path::new(&directory);
    fs::create_dir_all(directory)?;

    let store = EmbeddedStore::open(directory, engine)?;
    load(&store, records)?;
    for writers in [1, 16, 64] {
        let puts = if writers == 1 { PUTS / 10 } else { PUTS };
        report(&format!("puts, {writers} writers"), puts, || write(&store, records, puts, writers))?;
    }
    let (all, few) = (spread(records), spread(records.min(1000)));
    report("reads, most from the file", READS, || read(&store, &all))?;
    report("reads, most from the cache", READS, || read(&store, &few))?;
    report("a snapshot of all", 1, || snapshot(&store))?;
    drop(store);
    report("opening", 1, || EmbeddedStore::open(directory, engine).map(drop).map_err(Into::into))
}

fn report(
    what: &str,
    count: u64,
    run: impl FnOnce() -> Result<(), Box<dyn Error>>,
) -> Result<(), Box<dyn Error>> {
    #[allow(clippy::disallowed_methods, reason = "a measurement asks the machine; nothing depends on it")]
    let start = Instant::now();
    run()?;
    let each = start.elapsed() / u32::try_from(count)?;
    let per_second = 1.0 / each.as_secs_f64();
    writeln!(io::stdout(), "{what}: {per_second:.0}/s, {each:?} each")?;
    Ok(())
}

fn key(number: u64) -> StoreKey {
    format!("key/{number:012}").into_bytes()
}

fn put(number: u64) -> Mutation {
    Mutation::Put(key(number), RECORD.to_vec())
}

fn load(store: &EmbeddedStore, records: u64) -> Result<(), StoreError> {
    let numbers: Vec<_> = (0..records).collect();
    for chunk in numbers.chunks(MAX_MUTATIONS * 100) {
        let commits: Vec<_> = chunk
            .chunks(MAX_MUTATIONS)
            .map(|part| part.iter().copied().map(put).collect())
            .map(|mutations| store.transact(Transaction { conditions: vec![], mutations }))
            .collect();
        for commit in commits {
            block_on(commit)?;
        }
    }
    Ok(())
}

fn write(store: &EmbeddedStore, records: u64, puts: u64, writers: u64) -> Result<(), Box<dyn Error>> {
    let next = AtomicU64::new(0);
    let work = || -> Result<(), StoreError> {
        loop {
            let number = next.fetch_add(1, Relaxed);
            if number >= puts {
                return Ok(());
            }
            let mutations = vec![put(scatter(number) % records)];
            block_on(store.transact(Transaction { conditions: vec![], mutations }))?;
        }
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..writers).map(|_| scope.spawn(work)).collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().map_err(|_| "a writer panicked")?.map_err(Box::from))
    })
}

fn read(store: &EmbeddedStore, keys: &[StoreKey]) -> Result<(), Box<dyn Error>> {
    for key in keys {
        block_on(store.get_many(slice::from_ref(key)))?;
    }
    Ok(())
}

fn snapshot(store: &EmbeddedStore) -> Result<(), Box<dyn Error>> {
    let mut snapshot = block_on(store.snapshot())?;
    while !block_on(snapshot.page(1000))?.is_empty() {}
    Ok(())
}

fn spread(records: u64) -> Vec<StoreKey> {
    (0..READS).map(|number| key(scatter(number) % records)).collect()
}

/// The same numbers in every run, in no order.
fn scatter(number: u64) -> u64 {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20
}
