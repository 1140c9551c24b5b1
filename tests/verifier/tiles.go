package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

// The tiles of a log, each authenticated from the checkpoint's root downwards before anything is believed of it.
//
// This does not rest on tlog.TileHashReader: it leaves out the check of some tiles where several of the subtrees that
// make up the root lie in one tile.
type tiles struct {
	directory string
	signed    *checkpoint
	// rooted tells whether the tiles that are not full hash to the checkpoint's root.
	rooted bool
	// last is the tile of each level that was read last: they are asked for in their order.
	last map[int]*tile
	// bad is the first tile that was seen to be bad.
	bad *fault
}

// A tile as it was read.
type tile struct {
	n      int64
	path   string
	hashes []tlog.Hash
	// authentic tells that the hashes are those under the checkpoint's root.
	authentic bool
	// problem says why there are no hashes.
	problem string
}

func openTiles(directory string, signed *checkpoint) *tiles {
	t := &tiles{directory: directory, signed: signed, last: make(map[int]*tile)}
	var rows [][]tlog.Hash
	for level := 0; t.count(level) > 0; level++ {
		var row []tlog.Hash
		if n := t.count(level) >> tileHeight; t.width(level, n) > 0 {
			edge := t.read(level, n)
			if edge.problem != "" {
				return t
			}
			row = edge.hashes
		}
		rows = append(rows, row)
	}
	t.rooted = rootOf(rows) == signed.root
	return t
}

// count is how many hashes of a level the tiles of this size have.
func (t *tiles) count(level int) int64 { return t.signed.size >> (tileHeight * level) }

// width is how many of them lie in one tile.
func (t *tiles) width(level int, n int64) int {
	if rest := t.count(level) - n<<tileHeight; rest < tileWidth {
		return int(rest)
	}
	return tileWidth
}

// hash is that of a whole subtree under the checkpoint's root, if the tiles can tell.
func (t *tiles) hash(level int, index int64) (tlog.Hash, bool) {
	if found := t.tile(level, index>>tileHeight); found.authentic {
		return found.hashes[index&(tileWidth-1)], true
	}
	return tlog.Hash{}, false
}

func (t *tiles) tile(level int, n int64) *tile {
	if last := t.last[level]; last != nil && last.n == n {
		return last
	}
	found := t.read(level, n)
	switch {
	case found.problem != "":
	case len(found.hashes) < tileWidth:
		found.authentic = t.rooted
	default:
		above, known := t.hash(level+1, n)
		found.authentic = known && merkle(found.hashes) == above
	}
	t.last[level] = found
	return found
}

// read reads a tile, or the beginning of one that has grown since the checkpoint.
func (t *tiles) read(level int, n int64) *tile {
	width := t.width(level, n)
	found := &tile{n: n}
	for _, path := range t.candidates(level, n, width) {
		whole := pathWidth(path) * tlog.HashSize
		data, err := readUpTo(filepath.Join(t.directory, path), whole+1)
		if os.IsNotExist(err) {
			continue
		}
		found.path = path
		switch {
		case err != nil:
			found.problem = err.Error()
		case len(data) != whole:
			found.problem = fmt.Sprintf("is not %d bytes long", whole)
		default:
			found.hashes = make([]tlog.Hash, width)
			for index := range found.hashes {
				copy(found.hashes[index][:], data[index*tlog.HashSize:])
			}
		}
		return found
	}
	found.path, found.problem = tilePath(level, n, width), "is missing"
	return found
}

func readUpTo(path string, limit int) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, int64(limit)))
}

// candidates are the names under which a tile may lie: that of its width, or those of what it has grown to.
func (t *tiles) candidates(level int, n int64, width int) []string {
	paths := []string{tilePath(level, n, width)}
	if width == tileWidth {
		return paths
	}
	full := tilePath(level, n, tileWidth)
	for wider := width + 1; wider < tileWidth; wider++ {
		paths = append(paths, tilePath(level, n, wider))
	}
	return append(paths, full)
}

// tilePath is C2SP's path of a tile: Go's has the height in it, too.
func tilePath(level int, n int64, width int) string {
	path := tlog.Tile{H: tileHeight, L: level, N: n, W: width}.Path()
	return strings.Replace(path, fmt.Sprintf("tile/%d/", tileHeight), "tile/", 1)
}

func pathWidth(path string) int {
	if width, err := strconv.Atoi(filepath.Base(path)); err == nil && strings.HasSuffix(filepath.Dir(path), ".p") {
		return width
	}
	return tileWidth
}

// compare notes a tile that is not authentic and has other hashes than the lines.
func (t *tiles) compare(level int, n int64, row []tlog.Hash, places []place) {
	found := t.tile(level, n)
	if found.authentic || t.bad != nil {
		return
	}
	if found.problem != "" {
		t.bad = &fault{place: place{found.path, 0, places[0].seq}, problem: "the tile " + found.problem}
		return
	}
	for index, hash := range row {
		if hash != found.hashes[index] {
			at := place{found.path, int64(index * tlog.HashSize), places[index].seq}
			problem := "the tile has another hash here than the line"
			if level > 0 {
				problem = fmt.Sprintf("the tile has another hash here than the %d lines from this one on",
					int64(1)<<(tileHeight*level))
			}
			if lines := places[index]; lines.file != found.path {
				problem += fmt.Sprintf(" at %s, byte %d", lines.file, lines.offset)
			}
			t.bad = &fault{place: at, problem: problem}
			return
		}
	}
}
