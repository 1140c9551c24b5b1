//! The tree computed anew from the lines, and held against the checkpoints and the tiles that were kept.

use std::io;

use crate::{
    merkle::{Hash, leaf_hash},
    note::Checkpoint,
    scan::{Fault, Problem},
    tiles::{FreshTile, Tiles, Tree, WIDTH},
    tiles_ahead::TilesAhead,
};

/// So many full tiles are held at once, each of which has 8 KiB; unit tests shall have more.
pub(crate) const MOST_FRESH: usize = if cfg!(test) { 2 } else { 4096 };

/// Where a line lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    /// The segment, by the place of its header.
    pub(crate) segment: u64,
    /// Where in its file the line begins.
    pub(crate) offset: u64,
    /// The line's place in the log.
    pub(crate) sequence: u64,
}

impl Position {
    pub(crate) fn fault(self, problem: Problem) -> Fault {
        Fault { segment: self.segment, offset: self.offset, sequence: self.sequence, problem }
    }
}

/// Follows the lines of a log in order.
///
/// Tiles that are kept only help to name a line: what a tree must be, checkpoints say.
pub(crate) struct Retrace {
    tiles: Tiles,
    /// Those that the checkpoints cover.
    ahead: TilesAhead,
    tree: Tree,
    /// By size; those that were passed are gone.
    checkpoints: std::vec::IntoIter<Checkpoint>,
    next: Option<Checkpoint>,
    /// The lines of the tile in the making.
    positions: Vec<Position>,
    /// The first line whose hash is not that in its tile.
    differs: Option<Position>,
    /// The first so many lines have their hashes in tiles on stable storage.
    durable: u64,
    /// Full tiles that may not be on stable storage, or are others there than they must be.
    fresh: Vec<FreshTile>,
    /// Whether there were more of them than are held.
    is_incomplete: bool,
    /// The tiles of the tree of so many lines must all be there, and as they must be.
    required: u64,
    /// The first line over which one of those is missing or another one.
    damaged: Option<Position>,
}

impl Retrace {
    /// Begins with the tree of the lines before, and with the checkpoints to be met. The tiles of the first `durable`
    /// lines are on stable storage.
    pub(crate) fn new(tiles: Tiles, tree: Tree, mut checkpoints: Vec<Checkpoint>, durable: u64) -> Self {
        checkpoints.sort_by_key(|checkpoint| checkpoint.size);
        let covered = checkpoints.last().map_or(0, |newest| newest.size);
        let ahead = TilesAhead::new(&tiles, tree.size() / WIDTH as u64..covered / WIDTH as u64);
        let mut checkpoints = checkpoints.into_iter();
        let next = checkpoints.next();
        Self {
            tiles,
            ahead,
            tree,
            checkpoints,
            next,
            positions: Vec::with_capacity(WIDTH),
            differs: None,
            durable,
            fresh: Vec::new(),
            is_incomplete: false,
            required: 0,
            damaged: None,
        }
    }

    /// The same, which also notes where a tile of the tree of the first `lines` lines is missing or another one. A
    /// checkpoint must cover these lines.
    pub(crate) fn requiring(self, lines: u64) -> Self {
        Self { required: lines, ..self }
    }

    /// The tree so far.
    pub(crate) fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Its size.
    pub(crate) fn size(&self) -> u64 {
        self.tree.size()
    }

    /// Follows the next line.
    pub(crate) fn line(&mut self, position: Position, line: &[u8]) -> Result<(), Fault> {
        self.leaf(position, leaf_hash(line))
    }

    /// Follows the next line, by its hash.
    pub(crate) fn leaf(&mut self, position: Position, leaf: Hash) -> Result<(), Fault> {
        self.positions.push(position);
        let (tiles, ahead, durable, fresh) = (&self.tiles, &mut self.ahead, self.durable, &mut self.fresh);
        let (positions, differs) = (&mut self.positions, &mut self.differs);
        let (required, damaged) = (self.required, &mut self.damaged);
        self.tree.push(leaf, |tile, hashes| {
            let kept = ahead.take(tile).unwrap_or_else(|| tiles.read(tile));
            let begin = positions.first().copied().unwrap_or(position);
            if tile.level == 0 {
                note_difference(differs, kept.as_deref().ok(), &hashes, positions);
                positions.clear();
            }
            let is_written = kept.is_ok_and(|kept| kept == hashes);
            if !is_written && tile.end() <= required {
                damaged.get_or_insert(begin);
            }
            if !is_written || tile.end() > durable {
                fresh.push(FreshTile { tile, hashes, is_written });
            }
        });
        if self.tree.size() == self.required {
            self.check_edges(position);
        }
        while self.next.as_ref().is_some_and(|checkpoint| checkpoint.size <= self.tree.size()) {
            self.meet(position)?;
        }
        Ok(())
    }

    /// Compares the tree with the checkpoint of its size.
    fn meet(&mut self, position: Position) -> Result<(), Fault> {
        let Some(checkpoint) = self.next.take() else { return Ok(()) };
        self.next = self.checkpoints.next();
        // A checkpoint of lines that were archived is proved by the tiles alone, if at all.
        if checkpoint.size < self.tree.size() || checkpoint.root == self.tree.root() {
            return Ok(());
        }
        self.note_difference_in_edge();
        let at = self.differs.unwrap_or(position);
        let problem = match self.differs {
            Some(_) => Problem::Altered { size: checkpoint.size },
            None => Problem::RootDiffers { size: checkpoint.size },
        };
        Err(at.fault(problem))
    }

    /// Compares the tiles that are not full with those that are kept.
    fn check_edges(&mut self, position: Position) {
        let is_kept = |(tile, hashes): (_, &[Hash])| self.tiles.read(tile).is_ok_and(|kept| kept == hashes);
        if !self.tree.edges().all(is_kept) {
            self.damaged.get_or_insert(self.positions.first().copied().unwrap_or(position));
        }
    }

    /// The newest tile may not be full yet.
    fn note_difference_in_edge(&mut self) {
        let edge = self.tree.edges().find(|(tile, _)| tile.level == 0);
        if let Some((tile, hashes)) = edge {
            let kept = self.tiles.read(tile).ok();
            note_difference(&mut self.differs, kept.as_deref(), hashes, &self.positions);
        }
    }

    /// Where the first line lies whose hash is not that in the tiles, of the lines that full tiles cover.
    pub(crate) fn differs(&self) -> Option<Position> {
        self.differs
    }

    /// The first line over which a tile that is required is missing or another one.
    pub(crate) fn damaged(&self) -> Option<Position> {
        self.damaged
    }

    /// At the end of the lines: the size of the first checkpoint that covers more of them, and the first line that is
    /// not the one in the tiles, if there is one.
    pub(crate) fn beyond(&mut self) -> Option<(u64, Option<Position>)> {
        let size = self.next.as_ref()?.size;
        self.note_difference_in_edge();
        Some((size, self.differs))
    }

    /// Makes room for further tiles if there are as many full ones as are held: makes them durable, once no checkpoint is
    /// to be met any more. Before, they may be those of altered lines, and are forgotten: then [`into_tree`] does not
    /// give all.
    ///
    /// [`into_tree`]: Self::into_tree
    pub(crate) fn make_room(&mut self) -> io::Result<()> {
        if self.fresh.len() < MOST_FRESH {
            return Ok(());
        }
        if self.next.is_some() {
            self.is_incomplete = true;
            self.fresh.clear();
        }
        for fresh in self.fresh.drain(..) {
            self.tiles.settle(&fresh)?;
            self.tiles.remove_partials(fresh.tile, self.durable)?;
        }
        Ok(())
    }

    /// Forgets the full tiles.
    pub(crate) fn forget_tiles(&mut self) {
        self.fresh.clear();
    }

    /// The tree of all lines, and the full tiles that may not be on stable storage as they must be, if all are held.
    pub(crate) fn into_tree(self) -> (Tree, Option<Vec<FreshTile>>) {
        let is_complete = !self.is_incomplete;
        (self.tree, is_complete.then_some(self.fresh))
    }
}

fn note_difference(
    differs: &mut Option<Position>,
    kept: Option<&[Hash]>,
    hashes: &[Hash],
    positions: &[Position],
) {
    if differs.is_some() {
        return;
    }
    // The first tile of a log that was archived has lines without a position before those with one.
    let known = &hashes[hashes.len() - positions.len()..];
    let kept = kept.and_then(|kept| kept.get(hashes.len() - positions.len()..)).unwrap_or_default();
    let differing = known.iter().zip(kept).position(|(one, other)| one != other);
    *differs = differing.and_then(|at| positions.get(at).copied());
}
