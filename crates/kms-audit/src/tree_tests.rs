//! The log on a real directory with its tree: what checkpoints cover, and what they find.

use std::{
    collections::BTreeSet,
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::{Arc, mpsc::channel},
};

use ed25519_dalek::{Signer as _, SigningKey};
use kms_core::{
    Phase,
    ports::{AuditError, AuditLog as _, Receipt},
    testing::audit::sample_record,
};
use proptest::{
    prelude::*,
    test_runner::{RngAlgorithm, TestRng, TestRunner},
};
use tempfile::TempDir;

use crate::{
    CosignerKey, Expected, FileLog, Health, LogConfig, Notarization, NoteError, Offer, OpenError, Problem,
    SignedCheckpoint, Summary, VerifierKey, VerifyError, cosigned_message, judge,
    line::Line,
    memory::Memory,
    merkle::{check_inclusion, leaf_hash, prove_inclusion},
    retrace::MOST_FRESH,
    scan::Fault,
    segment::file_name,
    storage::list,
    testing::SoftwareSigner,
    tiles::{Tile, Tiles, WIDTH},
    verify, verify_against,
};

const CONFIG: LogConfig = LogConfig { segment_bytes: 4000 };
struct Deployment {
    directory: TempDir,
    signer: Arc<SoftwareSigner>,
}

impl Deployment {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().expect("a directory"), signer: SoftwareSigner::new([7; 32]) }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn try_open(&self, path: &Path) -> Result<FileLog, OpenError> {
        FileLog::open(path, CONFIG, Some(self.signer.notarization())).map(|(log, _)| log)
    }

    fn open(&self) -> FileLog {
        self.try_open(self.path()).expect("it opens")
    }

    fn key(&self) -> VerifierKey {
        self.signer.key()
    }

    fn check(&self, path: &Path, checkpoints: &[String]) -> Result<Summary, VerifyError> {
        let expected =
            Expected { key: Some(self.key()), checkpoints: checkpoints.to_vec(), ..Expected::default() };
        verify_against(path, &expected, |_| ())
    }

    /// A closed log of so many records, several segments long, and its checkpoint.
    fn filled(records: u128) -> (Self, String) {
        let deployment = Self::new();
        fill(&deployment.open(), 0..records);
        let note = fs::read_to_string(deployment.path().join("checkpoint")).expect("a checkpoint");
        (deployment, note)
    }

    /// A copy that may be harmed.
    ///
    /// The checkpoint comes first: one that is published meanwhile would cover more than the copy has.
    fn copy(&self) -> TempDir {
        let copy = tempfile::tempdir().expect("a directory");
        let checkpoint = fs::read(self.path().join("checkpoint")).expect("a checkpoint");
        copy_all(self.path(), copy.path());
        fs::write(copy.path().join("checkpoint"), checkpoint).expect("written");
        copy
    }
}

/// What is gone before it is copied is left out: a temporary file that got its name, a tile that became full.
fn copy_all(from: &Path, to: &Path) {
    let entries = match fs::read_dir(from) {
        Err(error) if error.kind() == ErrorKind::NotFound => return,
        entries => entries.expect("a directory"),
    };
    fs::create_dir_all(to).expect("a directory");
    for entry in entries {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy_all(&entry.path(), &target);
        } else {
            match fs::copy(entry.path(), target) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                copied => assert!(copied.is_ok(), "{copied:?}"),
            }
        }
    }
}

fn append(log: &FileLog, request: u128) -> Result<Receipt, AuditError> {
    append_as(log, request, Phase::Complete)
}

fn append_as(log: &FileLog, request: u128, phase: Phase) -> Result<Receipt, AuditError> {
    let (sender, receiver) = channel();
    log.append(
        sample_record(request, phase),
        Box::new(move |answer| sender.send(answer).expect("the test waits")),
    );
    receiver.recv().expect("an answer")
}

fn fill(log: &FileLog, requests: std::ops::Range<u128>) {
    for request in requests {
        append(log, request).expect("durable");
    }
}

fn segments(directory: &Path) -> Vec<PathBuf> {
    list(directory).expect("a log").into_iter().map(|first| directory.join(file_name(first))).collect()
}

/// Every line with its segment's path and its offset there.
fn lines(directory: &Path) -> Vec<(PathBuf, usize, Vec<u8>)> {
    let mut all = Vec::new();
    for path in segments(directory) {
        let bytes = fs::read(&path).expect("a segment");
        let mut offset = 0;
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            all.push((path.clone(), offset, line.to_vec()));
            offset += line.len();
        }
    }
    all
}

fn fault(result: Result<Summary, VerifyError>) -> Fault {
    match result {
        Err(VerifyError::Fault(fault)) => fault,
        other => panic!("not found: {other:?}"),
    }
}

#[test]
fn a_closed_log_is_covered_to_its_last_line() {
    let (deployment, note) = Deployment::filled(300);
    let summary = deployment.check(deployment.path(), &[]).expect("sound");
    assert!(summary.segments > 3 && summary.records == 300);
    assert_eq!((summary.covered, summary.checkpoints), (summary.lines, 1));
    // And so is what follows, which continues it.
    fill(&deployment.open(), 300..700);
    let later = deployment.check(deployment.path(), &[note]).expect("sound");
    assert_eq!((later.covered, later.checkpoints, later.records), (later.lines, 2, 700));
    assert_eq!(verify(deployment.path()).expect("sound"), Summary { checkpoints: 1, ..later });
}

#[test]
fn a_log_from_before_the_tree_gets_one() {
    let deployment = Deployment::new();
    let (log, _) = FileLog::open(deployment.path(), CONFIG, None).expect("it opens");
    fill(&log, 0..300);
    drop(log);
    assert_eq!(verify(deployment.path()).expect("sound").covered, 0);
    drop(deployment.open());
    let summary = deployment.check(deployment.path(), &[]).expect("sound");
    assert_eq!((summary.covered, summary.records), (summary.lines, 300));
}

#[test]
fn a_record_is_proved_from_the_tiles_alone() {
    let (deployment, note) = Deployment::filled(300);
    let checkpoint = SignedCheckpoint::open(&note, &deployment.key()).expect("a checkpoint").checkpoint;
    let tiles = Tiles::new(deployment.path());
    for (index, (_, _, line)) in (0..).zip(lines(deployment.path())) {
        let leaf = leaf_hash(&line[..line.len() - 1]);
        let path = prove_inclusion(&tiles, index, checkpoint.size).expect("the tiles are there");
        assert!(check_inclusion(&path, index, &leaf, checkpoint.size, &checkpoint.root), "line {index}");
    }
}

/// The directory as it lies there at any moment opens, and what a checkpoint in it covers is sound.
#[test]
fn a_copy_at_any_moment_opens_and_verifies() {
    let (deployment, _) = Deployment::filled(7); // a new log has no checkpoint before its notary was there once
    let log = deployment.open();
    for round in 1..60 {
        fill(&log, round * 7..round * 7 + 7);
        let copy = deployment.copy();
        let before = deployment.check(copy.path(), &[]).expect("sound");
        drop(deployment.try_open(copy.path()).expect("it opens"));
        let after = deployment.check(copy.path(), &[]).expect("sound");
        assert_eq!((after.lines, after.covered), (before.lines, before.lines), "round {round}");
        assert!(before.records >= u64::try_from((round + 1) * 7).expect("small"), "round {round}");
    }
}

/// One change of the log's files, and the first line that is not the one that was there.
#[derive(Debug, Clone)]
enum Harm {
    Flip {
        line: usize,
        byte: usize,
    },
    Drop(usize),
    Swap(usize),
    Insert {
        line: usize,
        copy_of: usize,
    },
    CutAt(usize),
    CutWithin {
        line: usize,
        byte: usize,
    },
    /// A valid record in the place of another one, canonical and of the same length.
    Forge(usize),
    Segment(usize),
}

/// A line with its segment's path and its offset there.
type Placed = (PathBuf, usize, Vec<u8>);

impl Harm {
    /// Does it; gives the place of the first bad line.
    fn apply(&self, directory: &Path) -> u64 {
        let mut all = lines(directory);
        let first = self.change(&mut all, &segments(directory));
        for path in segments(directory) {
            fs::remove_file(path).expect("removed");
        }
        for path in all.iter().map(|(path, ..)| path.clone()).collect::<BTreeSet<_>>() {
            let content = all.iter().filter(|(other, ..)| *other == path);
            let content = content.flat_map(|(.., line)| line.clone()).collect::<Vec<_>>();
            fs::write(&path, content).expect("written");
        }
        first as u64
    }

    fn change(&self, all: &mut Vec<Placed>, segments: &[PathBuf]) -> usize {
        match *self {
            Self::Flip { line, byte } => {
                let content = &mut all[line].2;
                let at = byte % content.len();
                content[at] ^= 1;
                line
            }
            Self::Drop(line) => {
                all.remove(line);
                line
            }
            Self::Swap(line) => {
                let (one, other) = (all[line].2.clone(), all[line + 1].2.clone());
                (all[line].2, all[line + 1].2) = (other, one);
                line
            }
            Self::Insert { line, copy_of } => {
                let copied = all[copy_of].2.clone();
                let (path, offset, _) = all[line].clone();
                all.insert(line, (path, offset, copied));
                line
            }
            Self::CutAt(line) => {
                all.truncate(line);
                line
            }
            Self::CutWithin { line, byte } => {
                all.truncate(line + 1);
                let content = &mut all[line].2;
                content.truncate(byte % content.len());
                line
            }
            Self::Forge(line) => {
                let text = String::from_utf8(all[line].2.clone()).expect("text");
                let forged = text.replace(r#""latency_us":250"#, r#""latency_us":251"#);
                assert!(forged != text && Line::parse(forged.trim_end().as_bytes()).is_ok());
                all[line].2 = forged.into_bytes();
                line
            }
            Self::Segment(number) => {
                let line = all.iter().position(|(path, ..)| *path == segments[number]).expect("its header");
                let length = all.iter().filter(|(path, ..)| *path == segments[number]).count();
                all.retain(|(path, ..)| *path != segments[number]);
                // Without the first one, the log begins with another line than 0.
                if number == 0 { length } else { line }
            }
        }
    }
}

/// Whatever is done to the lines that a checkpoint covers is found, with its place, offline and at the start.
#[test]
fn every_harm_below_the_checkpoint_is_found_with_its_place() {
    let (deployment, note) = Deployment::filled(300);
    let all = lines(deployment.path());
    let (count, records) = (all.len(), all.iter().enumerate().skip(1));
    let is_record = |at: usize| all[at].2.starts_with(b"{\"action\"");
    let flat = records.map(|(at, _)| at).filter(|at| is_record(*at)).collect::<Vec<_>>();
    let pairs = flat.iter().copied().filter(|at| at + 1 < count && is_record(at + 1)).collect::<Vec<_>>();
    let segment_count = segments(deployment.path()).len();
    let harms = prop_oneof![
        (0..count, 0..500_usize).prop_map(|(line, byte)| Harm::Flip { line, byte }),
        (0..count).prop_map(Harm::Drop),
        prop::sample::select(pairs).prop_map(Harm::Swap),
        (prop::sample::select(flat.clone()), 0..count)
            .prop_map(|(line, copy_of)| Harm::Insert { line, copy_of }),
        (0..count).prop_map(Harm::CutAt),
        (0..count, 0..500_usize).prop_map(|(line, byte)| Harm::CutWithin { line, byte }),
        prop::sample::select(flat).prop_map(Harm::Forge),
        (0..segment_count).prop_map(Harm::Segment),
    ];
    let cases = ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = TestRunner::new_with_rng(cases, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let check = |harm: Harm| {
        let copy = deployment.copy();
        let first = harm.apply(copy.path());
        let fault = fault(deployment.check(copy.path(), std::slice::from_ref(&note)));
        // A newline that became another byte joins two lines, of which the first is named. A copy of the very line
        // that stands there is found at the next one.
        let same = matches!(harm, Harm::Insert { line, copy_of } if all[line].2 == all[copy_of].2);
        prop_assert_eq!(fault.sequence, first + u64::from(same), "{:?}: {}", harm, fault);
        Ok(())
    };
    runner.run(&harms, check).expect("every harm is found");
}

/// At the start, what the last segment's lines are is compared with the checkpoint.
#[test]
fn harm_of_the_last_segment_stops_the_start() {
    let (deployment, _) = Deployment::filled(300);
    let all = lines(deployment.path());
    let last = segments(deployment.path()).pop().expect("a segment");
    let first = all.iter().position(|(path, ..)| *path == last).expect("its header");
    for at in first + 1..all.len() {
        for harm in [Harm::Forge(at), Harm::CutAt(at), Harm::CutWithin { line: at, byte: 20 }] {
            let copy = deployment.copy();
            let place = harm.apply(copy.path());
            let before = lines(copy.path());
            match deployment.try_open(copy.path()) {
                Err(OpenError::Damaged(fault)) => assert_eq!(fault.sequence, place, "{harm:?}: {fault}"),
                other => panic!("{harm:?} was not found: {other:?}"),
            }
            assert_eq!(lines(copy.path()), before, "nothing was cut");
        }
    }
}

#[test]
fn a_line_that_was_altered_is_named_before_the_end_that_was_cut_off() {
    let (deployment, note) = Deployment::filled(300);
    for (line, end) in [(20, 40), (290, 300)] {
        let copy = deployment.copy();
        Harm::Forge(line).apply(copy.path());
        Harm::CutAt(end).apply(copy.path());
        let found = fault(deployment.check(copy.path(), std::slice::from_ref(&note)));
        assert!(matches!(found.problem, Problem::Altered { .. }) && found.sequence == line as u64, "{found}");
    }
}

#[test]
fn archived_segments_are_proved_by_their_hashes() {
    let (deployment, note) = Deployment::filled(700);
    let all = segments(deployment.path());
    let kept = all.len() / 2;
    for segment in &all[..kept] {
        fs::remove_file(segment).expect("removed");
    }
    let expected = Expected {
        key: Some(deployment.key()),
        checkpoints: vec![note],
        archived: true,
        ..Expected::default()
    };
    let summary = verify_against(deployment.path(), &expected, |_| ()).expect("sound");
    assert_eq!((summary.covered, summary.segments), (summary.lines, (all.len() - kept) as u64));
    assert_eq!(summary.archived + summary.segments + summary.records, summary.lines);
    assert!(matches!(fault(deployment.check(deployment.path(), &[])).problem, Problem::NotArchived));
    // The log goes on, and altered hashes of what is gone are found.
    fill(&deployment.open(), 700..710);
    let tile = deployment.path().join("tile/0/000");
    let mut bytes = fs::read(&tile).expect("a tile");
    bytes[7] ^= 1;
    fs::write(&tile, bytes).expect("written");
    let index = deployment.path().join("tile/1/000.p/2");
    assert!(index.exists(), "700 lines fill two tiles");
    let altered = fault(verify_against(deployment.path(), &expected, |_| ()));
    assert!(matches!(altered.problem, Problem::BeginningMissing(_)), "{altered}");
}

/// Below what is known to be durable, whatever the level.
#[test]
fn tiles_that_are_missing_or_altered_are_found_with_the_line() {
    let (deployment, _) = Deployment::filled(700);
    let durable = fs::read_to_string(deployment.path().join("tiles-durable")).expect("a number");
    let edges = Tile::edges(durable.parse().expect("a number")).collect::<Vec<_>>();
    assert_eq!(edges.len(), 2, "two levels");
    for (path, sequence) in
        [(PathBuf::from("tile/0/001"), 256), (edges[0].path(), 512), (edges[1].path(), 512)]
    {
        for remove in [false, true] {
            let copy = deployment.copy();
            let tile = copy.path().join(&path);
            let mut bytes = fs::read(&tile).expect("a tile");
            bytes[0] ^= 1;
            if remove { fs::remove_file(&tile) } else { fs::write(&tile, bytes) }.expect("harmed");
            let found = fault(deployment.check(copy.path(), &[]));
            assert!(matches!(found.problem, Problem::TileDiffers), "{found}");
            assert_eq!(found.sequence, sequence, "{}", path.display());
        }
    }
}

#[test]
fn a_checkpoint_that_is_gone_is_missed_and_one_of_the_past_bounds_the_start() {
    let (deployment, note) = Deployment::filled(300);
    let all = lines(deployment.path()).len();
    let without = || {
        let copy = deployment.copy();
        fs::remove_file(copy.path().join("checkpoint")).expect("removed");
        copy
    };
    let copy = without();
    for result in [deployment.check(copy.path(), &[]), verify(copy.path())] {
        assert!(matches!(result, Err(VerifyError::NoCheckpoint)), "{result:?}");
    }
    deployment.check(copy.path(), std::slice::from_ref(&note)).expect("sound: one from elsewhere was given");
    drop(deployment.try_open(copy.path()).expect("nothing else is missing"));
    let summary = deployment.check(copy.path(), &[note]).expect("sound");
    assert_eq!((summary.covered, summary.lines), (all as u64, all as u64));

    let cut = without();
    Harm::CutAt(all - 1).apply(cut.path());
    match deployment.try_open(cut.path()) {
        Err(OpenError::Damaged(fault)) => assert!(matches!(fault.problem, Problem::CutOff { .. }), "{fault}"),
        other => panic!("the loss was not found: {other:?}"),
    }
}

#[test]
fn a_tree_that_was_made_anew_is_not_made_again_at_the_next_start() {
    let deployment = Deployment::new();
    let (log, _) = FileLog::open(deployment.path(), CONFIG, None).expect("it opens");
    fill(&log, 0..300);
    drop(log);
    let last = *list(deployment.path()).expect("a log").last().expect("a segment");
    let log = deployment.open();
    while log.coverage().is_some_and(|coverage| coverage.signed < coverage.followed) {
        std::thread::yield_now();
    }
    // As after a kill: nothing ends orderly.
    let killed = deployment.copy();
    let durable = fs::read_to_string(killed.path().join("tiles-durable")).expect("a number");
    assert!(durable.parse::<u64>().expect("a number") >= last, "{durable} of {last}");
}

#[test]
fn a_log_that_was_put_back_is_found_by_whoever_kept_a_checkpoint() {
    let (deployment, _) = Deployment::filled(100);
    let older = deployment.copy();
    fill(&deployment.open(), 100..200);
    let note = fs::read_to_string(deployment.path().join("checkpoint")).expect("a checkpoint");
    // By itself the older log is sound: that is what copies of checkpoints elsewhere are for.
    deployment.check(older.path(), &[]).expect("sound");
    assert!(matches!(fault(deployment.check(older.path(), &[note])).problem, Problem::CutOff { .. }));
}

/// What a witness with this key makes of the newest checkpoint at `time`.
fn cosigned(
    directory: &Path,
    log: &VerifierKey,
    (signing, witness): &Witness,
    time: u64,
) -> SignedCheckpoint {
    let note = fs::read_to_string(directory.join("checkpoint")).expect("a checkpoint");
    let signed = SignedCheckpoint::open(&note, log).expect("signed");
    let signature = signing.sign(cosigned_message(&signed, time).as_bytes()).to_bytes();
    signed.cosigned(&witness.line(time, &signature), witness).expect("valid")
}

type Witness = (SigningKey, CosignerKey);

fn witness(seed: u8) -> Witness {
    let signing = SigningKey::from_bytes(&[seed; 32]);
    let key = VerifierKey::new("dewpoint.example/witness", signing.verifying_key().as_bytes());
    (signing, CosignerKey::of(&key.expect("a key")).expect("a key"))
}

#[test]
fn a_cosignature_comes_to_the_newest_checkpoint_and_to_no_older_one() {
    let deployment = Deployment::new();
    let (own, stranger) = (witness(1), witness(2));
    let log = deployment.open();
    let cosigning = log.cosigning().expect("works").expect("it is signed");
    fill(&log, 0..300);
    log.shutdown();
    assert!(log.cosigning().expect("works").is_none(), "too late");
    let early = cosigned(deployment.path(), &deployment.key(), &own, 5);
    assert!(cosigning.keep(&early).expect("written"), "the log has ended, but nobody else has it");
    assert!(matches!(deployment.try_open(deployment.path()), Err(OpenError::InUse)));
    let check = |witnesses: &[&Witness]| {
        let witnesses = witnesses.iter().map(|(_, key)| key.clone()).collect();
        let key = Some(deployment.key());
        verify_against(deployment.path(), &Expected { key, witnesses, ..Expected::default() }, |_| ())
    };
    check(&[&own]).expect("cosigned");
    for witnesses in [&[&stranger][..], &[&own, &stranger]] {
        let missing = check(witnesses).expect_err("the other one did not");
        assert!(
            matches!(missing, VerifyError::Note { source: NoteError::NotSigned { .. }, .. }),
            "{missing}"
        );
    }

    drop(cosigning);
    let log = deployment.open();
    let cosigning = log.cosigning().expect("works").expect("it is signed");
    fill(&log, 300..303);
    log.shutdown();
    assert!(!cosigning.keep(&early).expect("read"), "another one is newer");
    assert!(matches!(check(&[&own]), Err(VerifyError::Note { .. })));
    let late = cosigned(deployment.path(), &deployment.key(), &own, 6);
    assert!(cosigning.keep(&late).expect("written"));
    check(&[&own]).expect("cosigned again");
    let (old, new) = (&early.checkpoint, &late.checkpoint);
    let proof = cosigning.prove(old.size, new.size).expect("the tiles are there");
    let offer = Offer { old_size: old.size, proof: &proof, note: &late.note };
    assert_eq!(judge(Some(old), &[deployment.key()], offer).as_ref(), Ok(&late));
}

#[test]
fn altered_tiles_are_told_from_altered_lines() {
    let (deployment, _) = Deployment::filled(300);
    let tile = deployment.path().join("tile/0/000");
    let mut bytes = fs::read(&tile).expect("a tile");
    bytes[32 * 41] ^= 1;
    fs::write(&tile, &bytes).expect("written");
    let found = fault(deployment.check(deployment.path(), &[]));
    assert!(matches!(found.problem, Problem::TileDiffers) && found.sequence == 41, "{found}");
    // With the line altered alike, the root still differs.
    let line = Harm::Forge(41);
    line.apply(deployment.path());
    let forged = leaf_hash(lines(deployment.path())[41].2.strip_suffix(b"\n").expect("a line"));
    bytes[32 * 41..32 * 42].copy_from_slice(&forged);
    fs::write(&tile, &bytes).expect("written");
    let found = fault(deployment.check(deployment.path(), &[]));
    assert!(matches!(found.problem, Problem::RootDiffers { .. }), "{found}");
}

#[test]
fn tiles_that_were_lost_are_made_again() {
    let (deployment, note) = Deployment::filled(300);
    fs::remove_dir_all(deployment.path().join("tile")).expect("removed");
    fill(&deployment.open(), 300..310);
    let tiles = Tiles::new(deployment.path());
    let summary = deployment.check(deployment.path(), &[note]).expect("sound");
    let newest = fs::read_to_string(deployment.path().join("checkpoint")).expect("a checkpoint");
    let newest = SignedCheckpoint::open(&newest, &deployment.key()).expect("a checkpoint").checkpoint;
    assert_eq!(crate::merkle::root(&tiles, summary.lines).expect("there"), newest.root);
}

#[test]
fn few_tiles_are_held_however_many_were_lost() {
    let (deployment, _) = Deployment::filled(1500);
    let lines = deployment.check(deployment.path(), &[]).expect("sound").lines;
    let lose = |path: &Path| {
        fs::remove_dir_all(path.join("tile")).expect("removed");
        fs::remove_file(path.join("tiles-durable")).expect("removed");
    };
    let lost = deployment.copy();
    lose(lost.path());
    let retraced = Memory::read(lost.path()).expect("read").retrace(lines).expect("as the checkpoint says");
    assert!(lines / WIDTH as u64 > 2 * MOST_FRESH as u64, "there were more tiles");
    assert!(retraced.fresh.len() <= MOST_FRESH, "{} tiles are held", retraced.fresh.len());
    drop(deployment.try_open(lost.path()).expect("it opens"));
    deployment.check(lost.path(), &[]).expect("sound");
    for index in 0..lines / WIDTH as u64 {
        let path = Path::new("tile/0").join(format!("{index:03}"));
        let made = fs::read(lost.path().join(&path)).expect("a tile");
        assert_eq!(made, fs::read(deployment.path().join(path)).expect("a tile"), "{index}");
    }

    // Nothing is made of lines that are not those of the checkpoint.
    let altered = deployment.copy();
    lose(altered.path());
    let first = &segments(altered.path())[0];
    let text = fs::read_to_string(first).expect("a segment");
    fs::write(first, text.replacen("EnableKey", "DisableKey", 1)).expect("written");
    let refused = deployment.try_open(altered.path());
    assert!(matches!(refused, Err(OpenError::Damaged(_))), "{refused:?}");
    assert!(!altered.path().join("tile").exists());
}

#[test]
fn a_checkpoint_of_another_key_stops_the_start() {
    let (deployment, note) = Deployment::filled(10);
    let forged = note.replace("\n\n", "\nextension\n\n");
    fs::write(deployment.path().join("checkpoint"), forged).expect("written");
    let refused = deployment.try_open(deployment.path());
    assert!(matches!(refused, Err(OpenError::Note { file: "checkpoint", .. })), "{refused:?}");
    fs::write(deployment.path().join("checkpoint"), note).expect("written");

    let other = Deployment { directory: deployment.copy(), signer: SoftwareSigner::new([8; 32]) };
    assert!(matches!(other.try_open(other.path()), Err(OpenError::OtherKey { .. })));
    let moved = Notarization { new_key: true, ..other.signer.notarization() };
    drop(FileLog::open(other.path(), CONFIG, Some(moved)).expect("it opens"));
    let both = verify(other.path()).expect("sound: the list of keys has both");
    assert_eq!(both.covered, both.lines);
    assert!(deployment.check(other.path(), &[]).is_err(), "who knows only the old key is not fooled");
    other.check(other.path(), &[]).expect("sound under the new key");
}

#[test]
fn checkpoints_come_again_when_the_key_does() {
    let deployment = Deployment::new();
    deployment.signer.set_working(false);
    let log = deployment.open();
    fill(&log, 0..50);
    assert_eq!(log.coverage().map(|coverage| coverage.signed), Some(0));
    deployment.signer.set_working(true);
    fill(&log, 50..60);
    drop(log);
    let summary = deployment.check(deployment.path(), &[]).expect("sound");
    assert_eq!((summary.covered, summary.records), (summary.lines, 60));
}

#[test]
fn records_are_refused_while_the_tree_cannot_be_kept() {
    let deployment = Deployment::new();
    let log = deployment.open();
    fill(&log, 0..10);
    // What stands in the way of the tiles is no directory.
    let tile = deployment.path().join("tile");
    while !tile.exists() {
        std::thread::yield_now();
    }
    let aside = deployment.path().join("aside");
    fs::rename(&tile, &aside).expect("renamed");
    fs::write(&tile, b"in the way").expect("written");
    let mut accepted = 10;
    append_as(&log, 0, Phase::Intent).expect("durable");
    while append(&log, accepted).is_ok() {
        accepted += 1;
        assert!(accepted < 5000, "records are taken whose hashes are kept nowhere");
    }
    assert_eq!(log.health(), Health::Failed);
    append_as(&log, 0, Phase::Outcome).expect_err("refused, and owed");
    fs::remove_file(&tile).expect("removed");
    fs::rename(&aside, &tile).expect("renamed");
    // What is owed comes by itself, without another record.
    while log.statistics().records < u64::try_from(accepted + 2).expect("small") {
        std::thread::yield_now();
    }
    assert_eq!(log.health(), Health::Working);
    drop(log);
    let summary = deployment.check(deployment.path(), &[]).expect("sound");
    assert_eq!((summary.covered, u128::from(summary.records)), (summary.lines, accepted + 2));
    assert!(summary.open_intents.is_empty());
}
