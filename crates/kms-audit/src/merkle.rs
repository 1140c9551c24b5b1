//! The Merkle tree of RFC 6962 over the lines of a log: hashes, roots and proofs, without any I/O.
//!
//! Every line is a leaf, headers included, and its sequence number is the leaf's index.

use sha2::{Digest as _, Sha256};

/// A hash of the tree: SHA-256.
pub type Hash = [u8; 32];

/// Separates the hashes of leaves from those of nodes. RFC 6962 §2.1.
const LEAF: [u8; 1] = [0];
const NODE: u8 = 1;

/// The leaf of a line, given without its newline.
pub fn leaf_hash(line: &[u8]) -> Hash {
    Sha256::new().chain_update(LEAF).chain_update(line).finalize().into()
}

/// The node above two others.
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut node = [NODE; 1 + 2 * size_of::<Hash>()];
    node[1..=left.len()].copy_from_slice(left);
    node[1 + left.len()..].copy_from_slice(right);
    Sha256::digest(node).into()
}

/// The root of the tree without leaves.
pub fn empty_root() -> Hash {
    Sha256::digest([]).into()
}

/// The hashes of complete subtrees.
pub trait Hashes {
    /// Why a hash is not there.
    type Error;

    /// The root of the complete subtree over the leaves from `index << level` on, `1 << level` of them.
    fn hash(&self, level: u8, index: u64) -> Result<Hash, Self::Error>;
}

/// The root over the first `size` leaves.
pub fn root<H: Hashes>(hashes: &H, size: u64) -> Result<Hash, H::Error> {
    if size == 0 { Ok(empty_root()) } else { subtree(hashes, 0, size) }
}

/// The largest power of two below `size`, which is at least 2.
fn split(size: u64) -> u64 {
    1 << (size - 1).ilog2()
}

/// The root over the leaves from `begin` to before `end`, which RFC 6962 calls MTH(D[begin:end]).
fn subtree<H: Hashes>(hashes: &H, begin: u64, end: u64) -> Result<Hash, H::Error> {
    let size = end - begin;
    if size.is_power_of_two() && begin.is_multiple_of(size) {
        // The logarithm of a u64 is below 64.
        return hashes.hash(size.ilog2().to_le_bytes()[0], begin / size);
    }
    let middle = begin + split(size);
    Ok(node_hash(&subtree(hashes, begin, middle)?, &subtree(hashes, middle, end)?))
}

/// Proves that the leaf `index` is in the tree of the first `size` leaves; `index < size`. RFC 6962 §2.1.1.
pub fn prove_inclusion<H: Hashes>(hashes: &H, index: u64, size: u64) -> Result<Vec<Hash>, H::Error> {
    let (mut begin, mut end, mut path) = (0, size, Vec::new());
    while end - begin > 1 {
        let middle = begin + split(end - begin);
        if index < middle {
            path.push(subtree(hashes, middle, end)?);
            end = middle;
        } else {
            path.push(subtree(hashes, begin, middle)?);
            begin = middle;
        }
    }
    path.reverse();
    Ok(path)
}

/// Proves that the tree of the first `old` leaves is the beginning of the tree of the first `new`;
/// `old <= new`. RFC 6962 §2.1.2.
pub fn prove_consistency<H: Hashes>(hashes: &H, old: u64, new: u64) -> Result<Vec<Hash>, H::Error> {
    if old == 0 || old == new {
        return Ok(Vec::new());
    }
    let (mut begin, mut end, mut path) = (0, new, Vec::new());
    while old != end {
        let middle = begin + split(end - begin);
        if old <= middle {
            path.push(subtree(hashes, middle, end)?);
            end = middle;
        } else {
            path.push(subtree(hashes, begin, middle)?);
            begin = middle;
        }
    }
    // The old tree itself is known to whoever asks.
    if begin > 0 {
        path.push(subtree(hashes, begin, end)?);
    }
    path.reverse();
    Ok(path)
}

/// Whether `path` proves that `leaf` is the leaf `index` of the tree of `size` leaves. RFC 9162 §2.1.3.2.
pub fn check_inclusion(path: &[Hash], index: u64, leaf: &Hash, size: u64, root: &Hash) -> bool {
    if index >= size {
        return false;
    }
    let (mut place, mut last, mut hash) = (index, size - 1, *leaf);
    for sibling in path {
        if last == 0 {
            return false;
        }
        if place & 1 == 1 || place == last {
            hash = node_hash(sibling, &hash);
            climb_to_right_child(&mut place, &mut last);
        } else {
            hash = node_hash(&hash, sibling);
        }
        (place, last) = (place >> 1, last >> 1);
    }
    last == 0 && hash == *root
}

/// Whether `path` proves that the tree `old` (size and root) is the beginning of the tree `new`. RFC 9162 §2.1.4.2.
pub fn check_consistency(path: &[Hash], old: (u64, &Hash), new: (u64, &Hash)) -> bool {
    let ((old_size, old_root), (new_size, new_root)) = (old, new);
    if old_size > new_size {
        return false;
    }
    if old_size == new_size {
        return path.is_empty() && old_root == new_root;
    }
    if old_size == 0 {
        return path.is_empty() && *old_root == empty_root();
    }
    let (mut place, mut last) = (old_size - 1, new_size - 1);
    while place & 1 == 1 {
        (place, last) = (place >> 1, last >> 1);
    }
    // Where the old tree is complete, its root stands for the first hash.
    let (first, rest) = if old_size.is_power_of_two() {
        (old_root, path)
    } else {
        let Some((first, rest)) = path.split_first() else { return false };
        (first, rest)
    };
    let (mut older, mut newer) = (*first, *first);
    for sibling in rest {
        if last == 0 {
            return false;
        }
        if place & 1 == 1 || place == last {
            older = node_hash(sibling, &older);
            newer = node_hash(sibling, &newer);
            climb_to_right_child(&mut place, &mut last);
        } else {
            newer = node_hash(&newer, sibling);
        }
        (place, last) = (place >> 1, last >> 1);
    }
    last == 0 && older == *old_root && newer == *new_root
}

/// Passes over the levels at which the place at the right edge has no sibling.
fn climb_to_right_child(place: &mut u64, last: &mut u64) {
    while *place & 1 == 0 && *place != 0 {
        (*place, *last) = (*place >> 1, *last >> 1);
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    /// All leaves in memory.
    struct Leaves(Vec<Hash>);

    impl Leaves {
        fn new(count: u64) -> Self {
            Self((0..count).map(|index| leaf_hash(&index.to_be_bytes())).collect())
        }
    }

    impl Hashes for Leaves {
        type Error = Infallible;

        fn hash(&self, level: u8, index: u64) -> Result<Hash, Infallible> {
            if level == 0 {
                return Ok(self.0[usize::try_from(index).expect("small")]);
            }
            let left = self.hash(level - 1, 2 * index)?;
            Ok(node_hash(&left, &self.hash(level - 1, 2 * index + 1)?))
        }
    }

    /// The tree hashes that RFC 6962's reference implementation has for its eight test leaves.
    #[test]
    fn roots_are_those_of_the_reference() {
        let leaves = [
            "",
            "00",
            "10",
            "2021",
            "3031",
            "40414243",
            "5051525354555657",
            "606162636465666768696a6b6c6d6e6f",
        ];
        let roots = [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        let hashes = Leaves(leaves.iter().map(|leaf| leaf_hash(&hex::decode(leaf).expect("hex"))).collect());
        for (size, expected) in (1..).zip(roots) {
            assert_eq!(hex::encode(root(&hashes, size).expect("there")), expected, "{size} leaves");
        }
    }

    #[test]
    fn every_leaf_is_proved_in_every_tree_and_nowhere_else() {
        let leaves = Leaves::new(70);
        for size in 1..=70 {
            let top = root(&leaves, size).expect("there");
            for index in 0..size {
                let path = prove_inclusion(&leaves, index, size).expect("there");
                let leaf = leaves.0[usize::try_from(index).expect("small")];
                assert!(check_inclusion(&path, index, &leaf, size, &top), "{index} of {size}");
                assert!(!check_inclusion(&path, index, &[7; 32], size, &top));
                assert!(!check_inclusion(&path, index, &leaf, size, &[7; 32]));
                for other in (0..=size).filter(|other| *other != index) {
                    assert!(
                        !check_inclusion(&path, other, &leaf, size, &top),
                        "{index} as {other} of {size}"
                    );
                }
                if let Some((_, shorter)) = path.split_last() {
                    assert!(!check_inclusion(shorter, index, &leaf, size, &top));
                }
                let longer = [&path[..], &[[7; 32]]].concat();
                assert!(!check_inclusion(&longer, index, &leaf, size, &top));
            }
        }
    }

    #[test]
    fn every_tree_is_proved_to_continue_the_smaller_ones_and_no_other() {
        let leaves = Leaves::new(70);
        let mut other = Leaves::new(70);
        other.0[0] = [9; 32];
        for new in 0..=70 {
            let new_root = root(&leaves, new).expect("there");
            for old in 0..=new {
                let path = prove_consistency(&leaves, old, new).expect("there");
                let old_root = root(&leaves, old).expect("there");
                assert!(check_consistency(&path, (old, &old_root), (new, &new_root)), "{old} in {new}");
                let strange = root(&other, old.max(1)).expect("there");
                assert!(!check_consistency(&path, (old, &strange), (new, &new_root)), "{old} in {new}");
                if old > 0 {
                    assert!(!check_consistency(&path, (old, &old_root), (new, &strange)), "{old} in {new}");
                }
                for altered in 0..path.len() {
                    let mut path = path.clone();
                    path[altered][3] ^= 1;
                    assert!(!check_consistency(&path, (old, &old_root), (new, &new_root)), "{old} in {new}");
                }
                assert!(!check_consistency(
                    &[&path[..], &[[7; 32]]].concat(),
                    (old, &old_root),
                    (new, &new_root)
                ));
            }
            assert!(
                !check_consistency(&[], (new + 1, &new_root), (new, &new_root)),
                "a tree does not shrink"
            );
        }
    }
}
