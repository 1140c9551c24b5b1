//! Reads the full tiles of a stretch of the log ahead of whoever follows its lines.
//!
//! Every 256 lines have a small file: a disk that is asked for one after the other takes longer for them than for the
//! lines.

use std::{io, ops::Range, thread};

use crossbeam_channel::{Receiver, bounded};

use crate::{
    merkle::Hash,
    tiles::{Tile, Tiles, WIDTH},
};

/// So many tiles are asked for at once.
const READERS: u8 = 4;
/// So many that a reader has read wait for being taken; each has 8 KiB.
const AHEAD: usize = 16;
/// For fewer tiles no thread is started; unit tests shall have some.
const FEW: u64 = if cfg!(test) { 1 } else { 64 };

type ReadTile = io::Result<Vec<Hash>>;

/// The tiles of the lowest level with these indexes, each to be taken once and in order.
#[derive(Debug)]
pub(crate) struct TilesAhead {
    indexes: Range<u64>,
    /// Each reads one tile in every `READERS`, the first in the list the next one; none if tiles are not read ahead.
    readers: Vec<Receiver<ReadTile>>,
}

impl TilesAhead {
    pub(crate) fn new(tiles: &Tiles, indexes: Range<u64>) -> Self {
        let count = indexes.end.saturating_sub(indexes.start);
        let readers = if count < FEW { Ok(Vec::new()) } else { start(tiles, &indexes) };
        // Without a thread tiles are read when they are needed.
        Self { indexes, readers: readers.unwrap_or_default() }
    }

    /// The tile, if it is the next of those that are read ahead.
    pub(crate) fn take(&mut self, tile: Tile) -> Option<ReadTile> {
        let is_next = self.indexes.start == tile.index && !self.indexes.is_empty();
        if !is_next || tile.level != 0 || tile.width != WIDTH {
            return None;
        }
        self.indexes.start += 1;
        let reader = self.readers.first()?.recv().ok();
        self.readers.rotate_left(1);
        reader
    }
}

fn start(tiles: &Tiles, indexes: &Range<u64>) -> io::Result<Vec<Receiver<ReadTile>>> {
    let start = |offset: u8| {
        let (sender, receiver) = bounded(AHEAD);
        let (tiles, indexes) = (tiles.clone(), indexes.clone());
        thread::Builder::new().name("tiles".into()).spawn(move || {
            for index in indexes.skip(offset.into()).step_by(READERS.into()) {
                // Nobody takes any more once the walk has ended.
                if sender.send(tiles.read(Tile { level: 0, index, width: WIDTH })).is_err() {
                    return;
                }
            }
        })?;
        Ok(receiver)
    };
    (0..READERS).map(start).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_come_in_order_and_those_that_are_not_there_as_errors() {
        let directory = tempfile::tempdir().expect("a directory");
        let tiles = Tiles::new(directory.path());
        let tile = |index| Tile { level: 0, index, width: WIDTH };
        for index in (0..100).filter(|index| *index != 42) {
            tiles.write(tile(index), &[[index.to_le_bytes()[0]; 32]; WIDTH]).expect("written");
        }
        let mut ahead = TilesAhead::new(&tiles, 3..110);
        assert!(ahead.take(tile(2)).is_none(), "not asked for");
        assert!(ahead.take(tile(4)).is_none(), "not the next");
        for index in 3..110 {
            assert!(ahead.take(Tile { level: 1, ..tile(index) }).is_none());
            let read = ahead.take(tile(index)).expect("it is the next");
            match read {
                Ok(hashes) => assert_eq!(hashes, [[index.to_le_bytes()[0]; 32]; WIDTH], "{index}"),
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::NotFound);
                    assert!(index == 42 || index >= 100, "{index}");
                }
            }
        }
        assert!(ahead.take(tile(110)).is_none(), "behind the last");
    }
}
