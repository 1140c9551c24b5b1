//! The tree computed anew from the lines, and held against the checkpoints and the tiles that were kept.

use crate::{
    merkle::{Hash, leaf_hash},
    note::Checkpoint,
    scan::{Fault, Problem},
    tiles::{Tile, Tiles, Tree, WIDTH},
};

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
    tree: Tree,
    /// By size; those that were passed are gone.
    checkpoints: std::vec::IntoIter<Checkpoint>,
    next: Option<Checkpoint>,
    /// The lines of the tile in the making.
    positions: Vec<Position>,
    /// The first line whose hash is not that in its tile.
    differs: Option<Position>,
    /// Full tiles that are missing on disk, or are others there.
    renewed: Vec<(Tile, Vec<Hash>)>,
}

impl Retrace {
    /// Begins with the tree of the lines before, and with the checkpoints to be met.
    pub(crate) fn new(tiles: Tiles, tree: Tree, mut checkpoints: Vec<Checkpoint>) -> Self {
        checkpoints.sort_by_key(|checkpoint| checkpoint.size);
        let mut checkpoints = checkpoints.into_iter();
        let next = checkpoints.next();
        Self {
            tiles,
            tree,
            checkpoints,
            next,
            positions: Vec::with_capacity(WIDTH),
            differs: None,
            renewed: Vec::new(),
        }
    }

    /// The size of the tree so far.
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
        let (tiles, renewed) = (&self.tiles, &mut self.renewed);
        let (positions, differs) = (&mut self.positions, &mut self.differs);
        self.tree.push(leaf, |tile, hashes| {
            let kept = tiles.read(tile);
            if tile.level == 0 {
                note_difference(differs, kept.as_deref().ok(), &hashes, positions);
                positions.clear();
            }
            if !kept.is_ok_and(|kept| kept == hashes) {
                renewed.push((tile, hashes));
            }
        });
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

    /// At the end of the lines: the size of the first checkpoint that covers more of them, and the first line that is
    /// not the one in the tiles, if there is one.
    pub(crate) fn beyond(&mut self) -> Option<(u64, Option<Position>)> {
        let size = self.next.as_ref()?.size;
        self.note_difference_in_edge();
        Some((size, self.differs))
    }

    /// The tree of all lines, and the full tiles that are not on disk as they must be.
    pub(crate) fn into_tree(self) -> (Tree, Vec<(Tile, Vec<Hash>)>) {
        (self.tree, self.renewed)
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
