package main

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// A sample is a log made in the test, by other means than the verifier's where there are others: the canonical form by
// encoding/json, tree and tiles by sumdb/tlog.
type sample struct {
	t         *testing.T
	directory string
	signer    note.Signer
	key       string
	// segments are the lines of each, without newlines.
	segments [][]string
	open     map[string]map[string]any
	last     string
	seq      int
}

const origin = "dewpoint.example/log"

// newSample is an empty log with a key of its own.
func newSample(t *testing.T) *sample {
	signer, key := newKey(t, origin)
	s := &sample{t: t, directory: t.TempDir(), signer: signer, key: key, open: make(map[string]map[string]any)}
	must(t, os.Mkdir(s.file(""), 0o700))
	return s
}

// soundSample has segments of so many lines, header included, and a checkpoint of all of them.
func soundSample(t *testing.T, segments ...int) *sample {
	s := newSample(t)
	for _, lines := range segments {
		s.grow(lines)
	}
	s.save()
	s.publish(s.seq)
	return s
}

func newKey(t *testing.T, name string) (note.Signer, string) {
	secret, key, err := note.GenerateKey(rand.Reader, name)
	must(t, err)
	signer, err := note.NewSigner(secret)
	must(t, err)
	return signer, key
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (s *sample) file(name string) string { return filepath.Join(s.directory, "audit", name) }

// grow adds a segment.
func (s *sample) grow(lines int) {
	s.segments = append(s.segments, nil)
	header := map[string]any{"open_intents": s.intents(), "seq": s.seq, "type": "segment", "v": 1}
	if s.seq > 0 {
		hash := sha256.Sum256([]byte(s.last))
		header["previous"] = hex.EncodeToString(hash[:])
	}
	s.add(header)
	for count := 1; count < lines; count++ {
		s.add(s.record())
	}
}

func (s *sample) intents() []any {
	list := []any{}
	for _, entry := range s.open {
		list = append(list, entry)
	}
	id := func(index int) string { return list[index].(map[string]any)["request_id"].(string) }
	sort.Slice(list, func(i, j int) bool { return id(i) < id(j) })
	return list
}

// record is the next one: of each seven the first is an intent, whose outcome comes three records later, or never.
func (s *sample) record() map[string]any {
	uuid := func(number int) string {
		return fmt.Sprintf("%08x-0000-4000-8000-000000000000", number*2654435761%(1<<32))
	}
	one := map[string]any{
		"account": "acme", "action": "kms:cmk:create", "count": 1, "latency_us": s.seq * 7,
		"operation": "GenerateDataKey", "phase": "complete", "request_id": uuid(s.seq), "seq": s.seq,
		"time": "2026-03-01T12:00:00.000000Z", "user": fmt.Sprintf("user-%d", s.seq), "v": 1, "verdict": "succeeded",
	}
	if s.seq%11 == 0 {
		one["context"] = map[string]any{"\U0001f511": "00ff", "\ufb03": "01", "a\"\\\n\u0001": "02", "plain": "é"}
	}
	if s.seq%11 == 3 {
		one["bucket_key"], one["uses"], one["valid_until"] = uuid(2), s.seq, "2026-03-01T12:03:00.000000Z"
	}
	switch {
	case s.seq%7 == 1:
		one["phase"], one["verdict"], one["operation"] = "intent", "pending", "DisableKey"
		entry := map[string]any{"operation": "DisableKey", "request_id": uuid(s.seq)}
		if s.seq%2 == 0 {
			one["key_id"], entry["key_id"] = uuid(1), uuid(1)
		}
		s.open[uuid(s.seq)] = entry
	case s.seq%7 == 4 && s.seq%5 > 0:
		one["phase"], one["operation"], one["request_id"] = "outcome", "DisableKey", uuid(s.seq-3)
		delete(s.open, uuid(s.seq-3))
	}
	return one
}

func (s *sample) add(one map[string]any) {
	s.last = canonical(one)
	current := &s.segments[len(s.segments)-1]
	*current = append(*current, s.last)
	s.seq++
}

// unescape undoes what Go 1.19 writes the long way (the first two) or without need. A backslash that is escaped itself
// is stepped over.
var unescape = strings.NewReplacer(`\\`, `\\`, `\u0008`, `\b`, `\u000c`, `\f`, `\u2028`, "\u2028", `\u2029`, "\u2029")

// canonical is RFC 8785 for what occurs in the log. encoding/json sorts by bytes, so objects are sorted here.
func canonical(value any) string {
	switch value := value.(type) {
	case map[string]any:
		var parts []string
		names := make([]string, 0, len(value))
		for name := range value {
			names = append(names, name)
		}
		sort.Slice(names, func(i, j int) bool { return units(names[i]) < units(names[j]) })
		for _, name := range names {
			parts = append(parts, canonical(name)+":"+canonical(value[name]))
		}
		return "{" + strings.Join(parts, ",") + "}"
	case []any:
		var parts []string
		for _, one := range value {
			parts = append(parts, canonical(one))
		}
		return "[" + strings.Join(parts, ",") + "]"
	default:
		var text bytes.Buffer
		encoder := json.NewEncoder(&text)
		encoder.SetEscapeHTML(false)
		if err := encoder.Encode(value); err != nil {
			panic(err)
		}
		return unescape.Replace(strings.TrimSuffix(text.String(), "\n"))
	}
}

// units spells a text such that comparing bytes compares its UTF-16 code units.
func units(text string) string {
	var all []byte
	for _, character := range text {
		if character >= 0x10000 {
			character -= 0x10000
			high, low := 0xd800+character>>10, 0xdc00+character&0x3ff
			all = append(all, byte(high>>8), byte(high), byte(low>>8), byte(low))
		} else {
			all = append(all, byte(character>>8), byte(character))
		}
	}
	return string(all)
}

// name is that of the segment with this index in its log, which need not begin with line 0.
func (s *sample) name(index int) string {
	first := 0
	for _, lines := range s.segments[:index] {
		first += len(lines)
	}
	return fmt.Sprintf("%020d.jsonl", first)
}

// save writes all segments.
func (s *sample) save() {
	for index, lines := range s.segments {
		s.saveSegment(index, lines)
	}
}

func (s *sample) saveSegment(index int, lines []string) {
	var text strings.Builder
	for _, one := range lines {
		text.WriteString(one)
		text.WriteByte('\n')
	}
	must(s.t, os.WriteFile(s.file(s.name(index)), []byte(text.String()), 0o600))
}

// leaves are all lines.
func (s *sample) leaves() []string {
	var all []string
	for _, lines := range s.segments {
		all = append(all, lines...)
	}
	return all
}

// hashes are the stored hashes of sumdb/tlog for the first lines.
type hashes []tlog.Hash

func (h hashes) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	found := make([]tlog.Hash, len(indexes))
	for at, index := range indexes {
		found[at] = h[index]
	}
	return found, nil
}

func (s *sample) hashes(size int) hashes {
	var stored hashes
	for index, line := range s.leaves()[:size] {
		more, err := tlog.StoredHashes(int64(index), []byte(line), stored)
		must(s.t, err)
		stored = append(stored, more...)
	}
	return stored
}

// publish writes tiles and checkpoint of the first lines.
func (s *sample) publish(size int) {
	stored := s.hashes(size)
	for _, tile := range tlog.NewTiles(8, 0, int64(size)) {
		data, err := tlog.ReadTileData(tile, stored)
		must(s.t, err)
		path := s.file(strings.Replace(tile.Path(), "tile/8/", "tile/", 1))
		must(s.t, os.MkdirAll(filepath.Dir(path), 0o700))
		must(s.t, os.WriteFile(path, data, 0o600))
	}
	must(s.t, os.WriteFile(s.file("checkpoint"), []byte(s.checkpoint(size)), 0o600))
}

// checkpoint is the signed note over the first lines.
func (s *sample) checkpoint(size int) string {
	root, err := tlog.TreeHash(int64(size), s.hashes(size))
	must(s.t, err)
	if size == 0 {
		root = sha256.Sum256(nil)
	}
	return signed(s.t, fmt.Sprintf("%s\n%d\n%v\n", s.signer.Name(), size, root), s.signer)
}

func signed(t *testing.T, text string, signers ...note.Signer) string {
	message, err := note.Sign(&note.Note{Text: text}, signers...)
	must(t, err)
	return string(message)
}

// keep writes a text beside the log.
func (s *sample) keep(name, text string) string {
	path := filepath.Join(s.directory, name)
	must(s.t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// at is the place of a line, as the verifier writes it.
func (s *sample) at(seq int) string {
	first := 0
	for index, lines := range s.segments {
		offset := 0
		for within, line := range lines {
			if first+within == seq {
				return fmt.Sprintf("%s, byte %d, line %d: ", s.name(index), offset, seq)
			}
			offset += len(line) + 1
		}
		first += len(lines)
		if first == seq && index+1 == len(s.segments) {
			return fmt.Sprintf("%s, byte %d, line %d: ", s.name(index), offset, seq)
		}
	}
	panic("no such line")
}

// verify runs the command.
func (s *sample) verify(flags ...string) (int, string) {
	var out, problems bytes.Buffer
	arguments := append([]string{"--key", s.key}, flags...)
	code := run(append(arguments, s.directory), &out, &problems)
	return code, out.String() + problems.String()
}

// isSound demands that the log is sound and that the report says some things.
func (s *sample) isSound(says []string, flags ...string) {
	s.t.Helper()
	code, text := s.verify(flags...)
	for _, one := range says {
		if !strings.Contains(text, one) {
			s.t.Errorf("%q is not said in:\n%s", one, text)
		}
	}
	if code != exitSound {
		s.t.Errorf("exit code %d:\n%s", code, text)
	}
}

// isNotSound demands that the first fault is named in these words.
func (s *sample) isNotSound(says string, flags ...string) {
	s.t.Helper()
	code, text := s.verify(flags...)
	if code != exitNotSound || !strings.HasPrefix(text, "NOT SOUND: ") || !strings.Contains(text, says) {
		s.t.Errorf("exit code %d, not %q:\n%s", code, says, text)
	}
}
