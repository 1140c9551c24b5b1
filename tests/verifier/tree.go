package main

import (
	"crypto/sha256"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"
)

const (
	// A tile holds the hashes of 2^tileHeight neighbours of one level (C2SP tlog-tiles).
	tileHeight = 8
	tileWidth  = 1 << tileHeight
)

// merkle is the hash over some neighbours (RFC 6962 §2.1). All but the last must be of whole subtrees of one height.
func merkle(hashes []tlog.Hash) tlog.Hash {
	if len(hashes) == 1 {
		return hashes[0]
	}
	half := 1
	for 2*half < len(hashes) {
		half *= 2
	}
	return tlog.NodeHash(merkle(hashes[:half]), merkle(hashes[half:]))
}

// rootOf is the root of the tree whose unfinished tiles have these hashes, from the leaves upwards.
func rootOf(rows [][]tlog.Hash) tlog.Hash {
	var right []tlog.Hash
	for _, row := range rows {
		all := append(append([]tlog.Hash(nil), row...), right...)
		if len(all) > 0 {
			right = []tlog.Hash{merkle(all)}
		}
	}
	if right == nil {
		return sha256.Sum256(nil)
	}
	return right[0]
}

// A tree grows line by line and compares all that it computes with the tiles.
type tree struct {
	tiles *tiles
	// size is the number of lines so far.
	size int64
	// rows are the hashes of each level that do not fill a tile yet.
	rows [][]tlog.Hash
	// places says for each of them where the first line under it is.
	places [][]place
}

// add adds the next line by its leaf hash.
func (t *tree) add(leaf tlog.Hash, at place) error {
	t.size++
	return t.put(0, leaf, at)
}

func (t *tree) put(level int, hash tlog.Hash, at place) error {
	if level == len(t.rows) {
		t.rows, t.places = append(t.rows, nil), append(t.places, nil)
	}
	index := int64(at.seq >> (tileHeight * level))
	if signed, known := t.tiles.hash(level, index); known && signed != hash {
		return &fault{place: at, problem: differs(level, at.seq)}
	}
	row, places := append(t.rows[level], hash), append(t.places[level], at)
	t.rows[level], t.places[level] = row, places
	if len(row) < tileWidth {
		return nil
	}
	t.tiles.compare(level, index>>tileHeight, row, places)
	t.rows[level], t.places[level] = row[:0], places[:0]
	return t.put(level+1, merkle(row), places[0])
}

func differs(level int, seq uint64) string {
	if level == 0 {
		return "is not the line that was signed: its hash is not the one under the checkpoint's root"
	}
	last := seq + 1<<(tileHeight*level) - 1
	return fmt.Sprintf("a line from this one to line %d is not the one that was signed; "+
		"the tile that would tell which is not the signed one either", last)
}

// root is the root over the lines so far.
func (t *tree) root() tlog.Hash { return rootOf(t.rows) }

// finish compares the tiles that are not full with the lines.
func (t *tree) finish() {
	for level, row := range t.rows {
		if len(row) > 0 {
			t.tiles.compare(level, t.size>>(tileHeight*level)>>tileHeight, row, t.places[level])
		}
	}
}
