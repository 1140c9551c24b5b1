package main

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

// A report is what was found of a sound log.
type report struct {
	signed   *checkpoint
	earlier  int
	segments int
	// removed is how many lines lie before the first one that is there.
	removed uint64
	// lines is how many there are.
	lines uint64
	torn  int64
}

// covered is how many lines are there and under the checkpoint.
func (r *report) covered() uint64 {
	if size := uint64(r.signed.size); size > r.removed {
		return size - r.removed
	}
	return 0
}

func (r *report) String() string {
	var text strings.Builder
	say := func(format string, arguments ...any) { fmt.Fprintf(&text, format+"\n", arguments...) }
	say("sound: %d lines in %d segments are those that %s signed", r.covered(), r.segments, r.signed.origin)
	say("checkpoint: size %d, root %v", r.signed.size, r.signed.root)
	if r.earlier > 0 {
		say("it continues the %d earlier checkpoints", r.earlier)
	}
	if r.removed > 0 {
		say("not there: lines 0 to %d, %d lines; their hashes are those that were signed", r.removed-1, r.removed)
	}
	if beyond := r.lines - r.covered(); beyond > 0 {
		say("not covered by this checkpoint: %d lines", beyond)
	}
	if r.torn > 0 {
		say("behind the last line: %d bytes of a commit that was not finished", r.torn)
	}
	return text.String()
}

// A verification is one walk over all lines.
type verification struct {
	signed  *checkpoint
	earlier []*checkpoint
	tiles   *tiles
	tree    *tree
	// since is where the first line lies that no earlier checkpoint has vouched for.
	since *place
	// archived is how many lines a record under the checkpoint says that the archive has.
	archived uint64
	// trusting takes whatever is missing at the beginning for archived.
	trusting bool
}

// verify checks the log in directory. An error that is no *fault means that it cannot be checked.
func verify(directory string, signed *checkpoint, earlier []*checkpoint, trusting bool) (*report, error) {
	segments, err := listSegments(directory)
	if err != nil {
		return nil, err
	}
	tiles := openTiles(directory, signed)
	v := &verification{signed: signed, earlier: earlier, tiles: tiles, tree: &tree{tiles: tiles}, trusting: trusting}
	end, torn, err := v.walk(directory, segments)
	var found *fault
	if errors.As(err, &found) && tiles.bad != found {
		found.also = tiles.bad
	}
	if err != nil {
		return nil, err
	}
	first := segments[0].first
	return &report{signed, len(earlier), len(segments), first, end.seq - first, torn}, nil
}

func (v *verification) walk(directory string, segments []segment) (place, int64, error) {
	for _, one := range v.earlier {
		if one.size > v.signed.size {
			return place{}, 0, v.signed.fault("covers %d lines, but %s covers %d: the log was cut, or replaced by an older one",
				v.signed.size, one.file, one.size)
		}
	}
	if err := v.agree(); err != nil {
		return place{}, 0, err
	}
	if err := v.addRemoved(segments[0].first); err != nil {
		return place{}, 0, err
	}
	end, torn, err := walkLines(directory, segments, func(parsed *line, text []byte, at place) error {
		if at.seq >= uint64(v.signed.size) {
			return nil
		}
		if lines := parsed.archived(); lines > v.archived {
			v.archived = lines
		}
		return v.add(tlog.RecordHash(text), at)
	})
	if err == nil {
		err = v.finish(end)
	}
	if err == nil && segments[0].first > v.archived && !v.trusting {
		err = &fault{place: place{segments[0].name, 0, segments[0].first}, problem: "the lines before this one are not " +
			"there, and no record under the checkpoint says that so many are in the archive"}
	}
	return end, torn, err
}

// addRemoved takes the hashes of lines that are not there any more from the tiles.
func (v *verification) addRemoved(first uint64) error {
	for seq := uint64(0); seq < first && seq < uint64(v.signed.size); seq++ {
		n := int64(seq >> tileHeight)
		found := v.tiles.tile(0, n)
		at := place{found.path, int64(seq%tileWidth) * tlog.HashSize, seq}
		hash, known := v.tiles.hash(0, int64(seq))
		if !known {
			problem := "does not have the hashes under the checkpoint's root"
			if found.problem != "" {
				problem = found.problem
			}
			return &fault{place: at, problem: "the line is not there, and the tile that must vouch for it " + problem}
		}
		if err := v.add(hash, at); err != nil {
			return err
		}
	}
	return nil
}

func (v *verification) add(leaf tlog.Hash, at place) error {
	if v.since == nil {
		v.since = &at
	}
	if err := v.tree.add(leaf, at); err != nil {
		return err
	}
	return v.agree()
}

// agree checks that the lines so far are those of the earlier checkpoints of this size.
func (v *verification) agree() error {
	for ; len(v.earlier) > 0 && v.earlier[0].size == v.tree.size; v.earlier = v.earlier[1:] {
		one := v.earlier[0]
		switch {
		case one.root == v.tree.root():
			v.since = nil
		case v.since == nil:
			return one.fault("is of the same size as another checkpoint, and of another root")
		default:
			return &fault{place: *v.since, problem: fmt.Sprintf(
				"a line from this one to line %d is not the one that an earlier checkpoint was made of: %s",
				one.size-1, one.file)}
		}
	}
	return nil
}

// finish compares what all lines under the checkpoint hash to with its root.
func (v *verification) finish(end place) error {
	if v.tree.size < v.signed.size {
		return &fault{place: end, problem: fmt.Sprintf("the log ends here, but lines up to %d were signed", v.signed.size-1)}
	}
	v.tree.finish()
	switch {
	case v.tree.root() == v.signed.root:
		if v.tiles.bad != nil {
			return v.tiles.bad
		}
		return nil
	case v.tiles.bad != nil:
		return v.signed.fault("the lines do not hash to the checkpoint's root, and the tiles that would tell which line " +
			"differs do not either: both were changed")
	default:
		return v.signed.fault("neither the lines nor the tiles, which agree with each other, hash to the checkpoint's " +
			"root: both were replaced, or the checkpoint is of another log")
	}
}
