package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
)

const (
	// The longest line, without its newline.
	longestLine = 512 << 10
	// No commit is longer, so nothing that a crash leaves behind the last whole line reaches farther.
	largestCommit = 1 << 20
)

// A segment is one file of the log, named after its first line.
type segment struct {
	name  string
	first uint64
}

var segmentName = regexp.MustCompile(`^([0-9]{20})\.jsonl$`)

// listSegments lists the log's files in their order.
func listSegments(directory string) ([]segment, error) {
	entries, err := os.ReadDir(directory)
	if err != nil {
		return nil, err
	}
	var all []segment
	for _, entry := range entries {
		if parts := segmentName.FindStringSubmatch(entry.Name()); parts != nil {
			if first, err := strconv.ParseUint(parts[1], 10, 64); err == nil {
				all = append(all, segment{entry.Name(), first})
			}
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("no segment of a log lies in %s", directory)
	}
	return all, nil
}

// walkLines hands every whole line to visit, checked against those before it.
//
// It returns the place behind the last one, and how many bytes of an unfinished commit lie there.
func walkLines(directory string, segments []segment, visit func(parsed *line, text []byte, at place) error) (place, int64, error) {
	lines := chain{next: segments[0].first, open: make(map[string]string)}
	var end place
	for index, one := range segments {
		if index > 0 && one.first != lines.next {
			return end, 0, &fault{place: end, problem: fmt.Sprintf("the next segment, %s, does not begin with this line", one.name)}
		}
		var length, torn int64
		var err error
		length, torn, err = walkSegment(directory, one, &lines, visit)
		end = place{one.name, length, lines.next}
		if err != nil {
			return end, 0, err
		}
		switch {
		case length == 0:
			return end, 0, &fault{place: end, problem: "the segment's header is missing"}
		case index+1 == len(segments):
			return end, torn, nil
		case torn >= 0:
			return end, 0, &fault{place: end, problem: "a closed segment does not end with a whole line"}
		}
	}
	return end, 0, nil
}

// walkSegment returns how long the whole lines of a segment are, and how far anything but zeros reaches behind them:
// -1 if the file ends with the last line.
func walkSegment(directory string, one segment, lines *chain, visit func(*line, []byte, place) error) (int64, int64, error) {
	file, err := os.Open(filepath.Join(directory, one.name))
	if err != nil {
		return 0, 0, err
	}
	defer file.Close()
	reader := bufio.NewReaderSize(file, longestLine+1)
	for at := (place{one.name, 0, lines.next}); ; at.seq = lines.next {
		text, err := reader.ReadSlice('\n')
		broken := func(problem string) error { return &fault{place: at, problem: problem} }
		switch {
		case err != nil && err != io.EOF && !errors.Is(err, bufio.ErrBufferFull):
			return at.offset, 0, fmt.Errorf("%s: %w", one.name, err)
		case bytes.IndexByte(text, 0) >= 0 || err == io.EOF:
			torn, err := used(io.MultiReader(bytes.NewReader(text), reader))
			if err == nil && torn > largestCommit {
				err = broken("data lies behind a hole of zeros")
			}
			return at.offset, torn, err
		case err != nil:
			return at.offset, 0, broken("the line is too long")
		}
		text = text[:len(text)-1]
		check := lines.record
		if at.offset == 0 {
			check = lines.header
		}
		if err := check(text); err != nil {
			return at.offset, 0, broken(err.Error())
		}
		if err := visit(&lines.line, text, at); err != nil {
			return at.offset, 0, err
		}
		at.offset += int64(len(text)) + 1
	}
}

// used tells how far bytes reach that are not zero: -1 if there are no bytes at all.
func used(rest io.Reader) (int64, error) {
	buffer := make([]byte, 64<<10)
	length, reach := int64(0), int64(-1)
	for {
		count, err := rest.Read(buffer)
		if count > 0 && reach < 0 {
			reach = 0
		}
		if kept := bytes.TrimRight(buffer[:count], "\x00"); len(kept) > 0 {
			reach = length + int64(len(kept))
		}
		length += int64(count)
		if err == io.EOF {
			return reach, nil
		}
		if err != nil {
			return reach, err
		}
	}
}
