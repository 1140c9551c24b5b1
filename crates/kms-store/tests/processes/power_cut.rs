//! A loss of power, on a file system of its own that forgets what was not made durable: what was
//! acknowledged is there afterwards, and the database opens.

use dewpoint_test_disks::Disk;
use kms_store::EngineKind;

use crate::{
    children::{Answers, Words, itself, this_program},
    support::on_every_engine,
};

on_every_engine!(
    what_was_acknowledged_survives_a_power_cut_of_a_new_database,
    what_was_acknowledged_survives_power_cuts_of_an_old_database,
);

/// Writes until so much is acknowledged, cuts the power, and tells what was answered.
fn write_and_cut(disk: &Disk, engine: EngineKind, round: u64, acknowledged: usize) -> Answers {
    let task = format!("burst-{round}");
    let mut words = Words::of(this_program(&disk.path(), engine, &task, itself()));
    let mut answers = Answers::default();
    while answers.written.len() < acknowledged {
        answers.note(&words.next().expect("the child goes on writing"));
    }
    disk.cut_power();
    words.child.kill().expect("it is our child");
    words.rest().iter().for_each(|line| answers.note(line));
    disk.restore_power();
    answers
}

fn what_was_acknowledged_survives_a_power_cut_of_a_new_database(engine: EngineKind) {
    for acknowledged in [1, 30, 500, 3000] {
        let Some(disk) = Disk::make() else { return };
        write_and_cut(&disk, engine, 0, acknowledged).check(&disk.path(), engine);
    }
}

fn what_was_acknowledged_survives_power_cuts_of_an_old_database(engine: EngineKind) {
    let Some(disk) = Disk::make() else { return };
    let mut all = Answers::default();
    for round in 1..=6 {
        let answers = write_and_cut(&disk, engine, round, 700);
        all.written.extend(answers.written);
        all.refused.extend(answers.refused);
        all.check(&disk.path(), engine);
    }
}
