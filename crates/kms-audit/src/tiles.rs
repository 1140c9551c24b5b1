//! The hashes of the tree on disk: tiles as C2SP `tlog-tiles` lays them out.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use crate::merkle::{Hash, Hashes, node_hash};

/// A tile spans so many levels of the tree.
pub(crate) const HEIGHT: u8 = 8;
/// A full tile holds so many hashes.
pub(crate) const WIDTH: usize = 1 << HEIGHT;

/// How often a tile is looked for.
const ATTEMPTS: u32 = 3;

const HASH_BYTES: usize = size_of::<Hash>();

/// Which hashes a tile holds: those of the tree's level `HEIGHT * level`, from `WIDTH * index` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tile {
    pub(crate) level: u8,
    pub(crate) index: u64,
    /// How many hashes, from 1 to `WIDTH`.
    pub(crate) width: usize,
}

impl Tile {
    /// Where the tile lies, below the log's directory. C2SP tlog-tiles, "Merkle Tree".
    pub(crate) fn path(self) -> PathBuf {
        let mut path = PathBuf::from(format!("tile/{}", self.level));
        let mut groups = vec![format!("{:03}", self.index % 1000)];
        let mut rest = self.index / 1000;
        while rest > 0 {
            groups.push(format!("x{:03}", rest % 1000));
            rest /= 1000;
        }
        path.extend(groups.into_iter().rev());
        if self.width == WIDTH { path } else { partials(&path).join(self.width.to_string()) }
    }

    /// The tiles of a tree of `size` leaves that are not full.
    pub(crate) fn edges(size: u64) -> impl Iterator<Item = Self> {
        let counts = std::iter::successors(Some(size), |count| Some(count / WIDTH as u64));
        (0..).zip(counts.take_while(|count| *count > 0)).filter_map(|(level, count)| {
            let width = (count % WIDTH as u64).to_le_bytes()[0] as usize;
            (width > 0).then_some(Self { level, index: count / WIDTH as u64, width })
        })
    }

    /// The same tile when all its hashes are there.
    pub(crate) fn full(self) -> Self {
        Self { width: WIDTH, ..self }
    }

    /// How many lines there are up to the end of this tile, which is full.
    pub(crate) fn end(self) -> u64 {
        (self.index + 1) << (HEIGHT * (self.level + 1))
    }
}

/// A full tile that may not be on stable storage.
#[derive(Debug)]
pub(crate) struct FreshTile {
    pub(crate) tile: Tile,
    pub(crate) hashes: Vec<Hash>,
    /// Whether its file has these hashes, if nothing fails.
    pub(crate) is_written: bool,
}

/// The directory of the partial forms of a tile.
fn partials(full: &Path) -> PathBuf {
    let mut name = full.as_os_str().to_owned();
    name.push(".p");
    name.into()
}

/// The partial forms of a tile that are there, by their widths.
fn partial_widths(partials: &Path) -> io::Result<Vec<(usize, PathBuf)>> {
    let entries = match fs::read_dir(partials) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        let width = entry.file_name().to_str().and_then(|name| name.parse().ok());
        found.extend(width.map(|width| (width, entry.path())));
    }
    Ok(found)
}

/// The root of the complete subtree over these hashes, whose number is a power of two.
pub(crate) fn fold(hashes: &[Hash]) -> Hash {
    if let [hash] = hashes {
        return *hash;
    }
    let (left, right) = hashes.split_at(hashes.len() / 2);
    node_hash(&fold(left), &fold(right))
}

/// The first `width` hashes in a file.
fn read_hashes(path: &Path, width: usize) -> io::Result<Vec<Hash>> {
    let bytes = fs::read(path)?;
    let (hashes, rest) = bytes.as_chunks::<HASH_BYTES>();
    match hashes.get(..width) {
        Some(hashes) if rest.is_empty() => Ok(hashes.to_vec()),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, format!("{} is too short", path.display()))),
    }
}

/// The tiles in a log's directory.
#[derive(Debug, Clone)]
pub(crate) struct Tiles {
    directory: PathBuf,
}

impl Tiles {
    pub(crate) fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    /// Writes a tile whole, or not at all; it is not durable yet.
    pub(crate) fn write(&self, tile: Tile, hashes: &[Hash]) -> io::Result<()> {
        let path = self.directory.join(tile.path());
        let parent = path.parent().unwrap_or(&self.directory);
        if !parent.exists() {
            fs::create_dir_all(parent)?;
        }
        let unfinished = path.with_extension("tmp");
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
        file.write_all(hashes.as_flattened())?;
        fs::rename(unfinished, path)
    }

    /// Removes the partial forms of a tile but the given width and that of the tree of `durable` leaves.
    pub(crate) fn remove_partials(&self, tile: Tile, durable: u64) -> io::Result<()> {
        let partials = partials(&self.directory.join(tile.full().path()));
        let spared = Tile::edges(durable).find(|edge| edge.full() == tile.full()).map(|edge| edge.width);
        if tile.width == WIDTH && spared.is_none() {
            return match fs::remove_dir_all(partials) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
        }
        for (width, path) in partial_widths(&partials)? {
            if width != tile.width && Some(width) != spared {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    /// The first `tile.width` hashes of a tile, from its full form or from the smallest partial form that has them.
    ///
    /// Of a form that a power cut left unfinished, the smaller one is there still.
    pub(crate) fn read(&self, tile: Tile) -> io::Result<Vec<Hash>> {
        // A partial form that was found may have given way to a wider one before it was read.
        let mut attempts = 0;
        loop {
            match self.read_now(tile) {
                Err(error) if error.kind() == io::ErrorKind::NotFound && attempts < ATTEMPTS => attempts += 1,
                hashes => return hashes,
            }
        }
    }

    fn read_now(&self, tile: Tile) -> io::Result<Vec<Hash>> {
        let full = self.directory.join(tile.full().path());
        let whole = read_hashes(&full, tile.width);
        if whole.is_ok() {
            return whole;
        }
        let mut partials = partial_widths(&partials(&full))?;
        partials.retain(|(width, _)| *width >= tile.width);
        partials.sort_unstable();
        partials.iter().find_map(|(_, path)| read_hashes(path, tile.width).ok()).map_or(whole, Ok)
    }

    /// Makes a full tile durable that may not even be written.
    pub(crate) fn settle(&self, fresh: &FreshTile) -> io::Result<()> {
        if !fresh.is_written {
            self.write(fresh.tile, &fresh.hashes)?;
        }
        self.sync(fresh.tile)
    }

    /// Makes a written tile durable. If that fails, it has to be written anew: the kernel reports such an error once and
    /// then takes the pages to be clean.
    pub(crate) fn sync(&self, tile: Tile) -> io::Result<()> {
        let path = self.directory.join(tile.path());
        File::open(&path)?.sync_all()?;
        path.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
    }
}

impl Hashes for Tiles {
    type Error = io::Error;

    fn hash(&self, level: u8, index: u64) -> io::Result<Hash> {
        let (tile_level, height) = (level / HEIGHT, level % HEIGHT);
        let first = index << height;
        let (tile_index, offset) = (first / WIDTH as u64, (first % WIDTH as u64).to_le_bytes()[0] as usize);
        let width = offset + (1 << height);
        let hashes = self.read(Tile { level: tile_level, index: tile_index, width })?;
        Ok(fold(&hashes[offset..width]))
    }
}

/// The tree while it grows. Holds the hashes that are in no full tile yet: at most 255 for each level of tiles.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tree {
    size: u64,
    /// By level of tiles.
    edges: Vec<Vec<Hash>>,
}

impl Tree {
    /// The tree of the first `size` leaves, from the tiles of that tree or of a larger one.
    pub(crate) fn load(tiles: &Tiles, size: u64) -> io::Result<Self> {
        let (mut edges, mut count, mut level) = (Vec::new(), size, 0);
        while count > 0 {
            let (index, width) = (count / WIDTH as u64, (count % WIDTH as u64).to_le_bytes()[0] as usize);
            edges.push(if width == 0 { Vec::new() } else { tiles.read(Tile { level, index, width })? });
            (count, level) = (index, level + 1);
        }
        Ok(Self { size, edges })
    }

    /// The same, computed from the tiles of the lowest level, of which all others must be made.
    pub(crate) fn read(tiles: &Tiles, size: u64) -> io::Result<Self> {
        let (mut tree, mut other) = (Self::default(), None);
        let edges = Tile::edges(size).filter(|tile| tile.level == 0);
        let full = (0..size / WIDTH as u64).map(|index| Tile { level: 0, index, width: WIDTH });
        for tile in full.chain(edges) {
            for leaf in tiles.read(tile)? {
                tree.push(leaf, |tile, hashes| {
                    let is_kept = tile.level == 0 || tiles.read(tile).is_ok_and(|kept| kept == hashes);
                    other = other.or((!is_kept).then_some(tile));
                });
            }
        }
        let other = other.or_else(|| {
            let is_other =
                |(tile, hashes): &(Tile, &[Hash])| !tiles.read(*tile).is_ok_and(|kept| kept == *hashes);
            tree.edges().find(is_other).map(|(tile, _)| tile)
        });
        let Some(other) = other else { return Ok(tree) };
        let altered = format!("{} is missing or not made of those below it", other.path().display());
        Err(io::Error::new(io::ErrorKind::InvalidData, altered))
    }

    /// How many leaves it has.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf; gives out each tile that became full.
    pub(crate) fn push(&mut self, leaf: Hash, mut full: impl FnMut(Tile, Vec<Hash>)) {
        self.size += 1;
        let (mut hash, mut count) = (leaf, self.size);
        for level in 0.. {
            if self.edges.len() == usize::from(level) {
                self.edges.push(Vec::with_capacity(WIDTH));
            }
            let edge = &mut self.edges[usize::from(level)];
            edge.push(hash);
            if edge.len() < WIDTH {
                return;
            }
            let hashes = std::mem::replace(edge, Vec::with_capacity(WIDTH));
            hash = fold(&hashes);
            count /= WIDTH as u64;
            full(Tile { level, index: count - 1, width: WIDTH }, hashes);
        }
    }

    /// The root of the tree.
    pub(crate) fn root(&self) -> Hash {
        let mut root = None;
        for edge in &self.edges {
            // Complete subtrees from the right to the left: each bit of the width is one.
            let mut end = edge.len();
            while end > 0 {
                let size = 1 << end.trailing_zeros();
                let left = fold(&edge[end - size..end]);
                root = Some(root.map_or(left, |right| node_hash(&left, &right)));
                end -= size;
            }
        }
        root.unwrap_or_else(crate::merkle::empty_root)
    }

    /// The tiles that are not full.
    pub(crate) fn edges(&self) -> impl Iterator<Item = (Tile, &[Hash])> {
        let mut count = self.size;
        (0..).zip(&self.edges).filter_map(move |(level, edge)| {
            count /= WIDTH as u64;
            (!edge.is_empty()).then_some((Tile { level, index: count, width: edge.len() }, &edge[..]))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merkle::{self, leaf_hash};

    fn leaf(index: u64) -> Hash {
        leaf_hash(&index.to_be_bytes())
    }

    #[test]
    fn paths_are_those_of_the_specification() {
        let path = |level, index, width| Tile { level, index, width }.path().display().to_string();
        assert_eq!(path(0, 0, WIDTH), "tile/0/000");
        assert_eq!(path(2, 999, 1), "tile/2/999.p/1");
        assert_eq!(path(0, 1_234_067, WIDTH), "tile/0/x001/x234/067");
        assert_eq!(path(3, 1_234_067, 112), "tile/3/x001/x234/067.p/112");
    }

    #[test]
    fn the_tree_grows_into_tiles_from_which_all_of_it_comes_back() {
        let directory = tempfile::tempdir().expect("a directory");
        let tiles = Tiles::new(directory.path());
        let mut tree = Tree::default();
        let sizes = [0, 1, 2, 3, 255, 256, 257, 511, 513, 1000, 65_535, 65_536, 65_537, 66_000];
        let mut roots = Vec::new();
        for size in sizes {
            while tree.size() < size {
                let index = tree.size();
                tree.push(leaf(index), |tile, hashes| {
                    tiles.write(tile, &hashes).expect("written");
                    tiles.remove_partials(tile, 0).expect("removed");
                });
            }
            for (tile, hashes) in tree.edges() {
                tiles.write(tile, hashes).expect("written");
                tiles.remove_partials(tile, 0).expect("removed");
            }
            assert_eq!(Tree::load(&tiles, size).expect("there").root(), tree.root(), "{size}");
            assert_eq!(merkle::root(&tiles, size).expect("there"), tree.root(), "{size}");
            roots.push((size, tree.root()));
        }
        // The smaller trees are still there.
        let last = roots[roots.len() - 1];
        for (size, root) in &roots {
            assert_eq!(Tree::load(&tiles, *size).expect("there").root(), *root, "{size}");
            let path = merkle::prove_consistency(&tiles, *size, last.0).expect("there");
            assert!(merkle::check_consistency(&path, (*size, root), (last.0, &last.1)), "{size}");
        }
        for index in [0, 255, 256, 65_535, 65_536, 65_999] {
            let path = merkle::prove_inclusion(&tiles, index, last.0).expect("there");
            assert!(merkle::check_inclusion(&path, index, &leaf(index), last.0, &last.1), "{index}");
        }
        assert!(Tree::load(&tiles, 66_001).is_err());
    }
}
