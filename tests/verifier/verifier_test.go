package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSoundLogsOfAllShapes(t *testing.T) {
	for _, lines := range []int{1, 2, 3, 255, 256, 257, 259, 511, 512, 513, 1000} {
		soundSample(t, lines).isSound([]string{fmt.Sprintf("sound: %d lines in 1 segments", lines)})
		soundSample(t, 1, lines, 20).isSound([]string{fmt.Sprintf("sound: %d lines in 3 segments", lines+21)})
	}
}

func TestThreeLevelsOfTiles(t *testing.T) {
	s := soundSample(t, 65536-300, 1000)
	s.isSound([]string{"sound: 66236 lines"})
	// Line 100 is changed, and so are the tiles that could tell: level 2 still can, for a block.
	s.alter(0, 100, "user-100", "user-1oo")
	s.flip("tile/0/000", 100*32)
	s.isNotSound(s.at(0) + "a line from this one to line 255 is not the one that was signed")
	s.flip("tile/1/000", 0)
	s.isNotSound(s.at(0) + "a line from this one to line 65535 is not the one that was signed")
}

// alter replaces a part of a line in its file.
func (s *sample) alter(segment, within int, old, new string) {
	lines := append([]string(nil), s.segments[segment]...)
	if !strings.Contains(lines[within], old) {
		s.t.Fatalf("%q is not in %s", old, lines[within])
	}
	lines[within] = strings.Replace(lines[within], old, new, 1)
	s.saveSegment(segment, lines)
}

// flip changes one bit of a file.
func (s *sample) flip(name string, at int) {
	data, err := os.ReadFile(s.file(name))
	must(s.t, err)
	data[at] ^= 1
	must(s.t, os.WriteFile(s.file(name), data, 0o600))
}

func TestALineChangedIntoAnotherValidOne(t *testing.T) {
	s := soundSample(t, 300, 300, 10)
	for _, one := range []struct{ segment, within int }{{0, 1}, {0, 299}, {1, 5}, {1, 250}, {2, 9}} {
		seq := 300*one.segment + one.within
		s.alter(one.segment, one.within, fmt.Sprintf("user-%d", seq), fmt.Sprintf("uSer-%d", seq))
		s.isNotSound(s.at(seq) + "is not the line that was signed")
		s.save()
	}
	s.isSound(nil)
}

func TestEveryBit(t *testing.T) {
	s := soundSample(t, 4, 3)
	for index, lines := range s.segments {
		seq, at := 4*index, 0
		for _, line := range lines {
			for end := at + len(line); at <= end; at++ {
				s.flip(s.name(index), at)
				s.isNotSound(s.at(seq))
				s.flip(s.name(index), at)
			}
			seq++
		}
	}
	s.isSound(nil)
}

func TestEveryCut(t *testing.T) {
	s := soundSample(t, 4, 3)
	for index, lines := range s.segments {
		seq, at := 4*index, 0
		for _, line := range lines {
			for end := at + len(line); at <= end; at++ {
				must(t, os.Truncate(s.file(s.name(index)), int64(at)))
				s.isNotSound(s.at(seq))
				s.save()
			}
			seq++
		}
	}
	s.isSound(nil)
}

func TestLinesDroppedSwappedInserted(t *testing.T) {
	s := soundSample(t, 20, 20)
	lines := s.segments[0]
	splice := func(parts ...[]string) {
		var all []string
		for _, part := range parts {
			all = append(all, part...)
		}
		s.saveSegment(0, all)
	}
	splice(lines[:7], lines[8:])
	s.isNotSound(s.at(7) + "has the sequence number 8")
	splice(lines[:19])
	s.isNotSound(s.at(19) + "the next segment, " + s.name(1) + ", does not begin with this line")
	splice(lines[:7], lines[8:9], lines[7:8], lines[9:])
	s.isNotSound(s.at(7) + "has the sequence number 8")
	splice(lines[:7], lines[6:])
	s.isNotSound(s.at(7) + "has the sequence number 6")
	splice(lines[:7], []string{strings.Replace(lines[6], `"seq":6`, `"seq":7`, 1)}, lines[7:])
	s.isNotSound(s.at(7) + "is not the line that was signed")
	splice(lines[1:])
	s.isNotSound(s.at(0) + "the segment's header is missing")
	splice(lines[:7], lines[:1], lines[7:])
	s.isNotSound(s.at(7) + "has the sequence number 0")
	splice()
	s.isNotSound(s.at(0) + "the segment's header is missing")
	splice(lines, s.segments[1])
	s.isNotSound(fmt.Sprintf("%s, byte %d, line 20: a header that does not begin a segment", s.name(0), len(strings.Join(lines, "\n"))+1))
}

func TestSegmentsMissingAndReplaced(t *testing.T) {
	s := soundSample(t, 20, 20, 20)
	must(t, os.Remove(s.file(s.name(1))))
	s.isNotSound(fmt.Sprintf("%s, byte %d, line 20: ", s.name(0), len(strings.Join(s.segments[0], "\n"))+1))
	s.save()
	must(t, os.Remove(s.file(s.name(2))))
	s.isNotSound(fmt.Sprintf("%s, byte %d, line 40: the log ends here, but lines up to 59 were signed", s.name(1),
		len(strings.Join(s.segments[1], "\n"))+1))
	s.save()
	s.saveSegment(2, s.segments[2][:12])
	s.isNotSound(s.at(52) + "the log ends here, but lines up to 59 were signed")
}

func TestAnOlderCopyOfTheWholeLog(t *testing.T) {
	s := soundSample(t, 20, 20)
	newest := s.keep("newest", s.checkpoint(40))
	s.segments, s.seq = s.segments[:1], 20
	must(t, os.RemoveAll(s.file("")))
	must(t, os.Mkdir(s.file(""), 0o700))
	s.save()
	s.publish(20)
	s.isSound(nil)
	s.isNotSound("covers 20 lines, but "+newest+" covers 40: the log was cut, or replaced by an older one", "--earlier", newest)
	s.isNotSound(s.at(20)+"the log ends here, but lines up to 39 were signed", "--checkpoint", newest)
}

func TestEveryTile(t *testing.T) {
	s := soundSample(t, 300, 300)
	for path, lines := range map[string]int{"tile/0/000": 1, "tile/0/001": 1, "tile/0/002.p/88": 1, "tile/1/000.p/2": 256} {
		data, err := os.ReadFile(s.file(path))
		must(t, err)
		first := 0
		fmt.Sscanf(path, "tile/0/%d", &first)
		for at := range data {
			if at%331 > 0 && at > 64 {
				continue
			}
			s.flip(path, at)
			seq := first*256 + at/32*lines
			s.isNotSound(fmt.Sprintf("%s, byte %d, line %d: the tile has another hash here", path, at/32*32, seq))
			s.flip(path, at)
		}
		for _, length := range []int64{0, int64(len(data) - 1), int64(len(data) + 1)} {
			must(t, os.Truncate(s.file(path), length))
			s.isNotSound(fmt.Sprintf("%s, byte 0, line %d: the tile is not %d bytes long", path, first*256, len(data)))
		}
		must(t, os.Remove(s.file(path)))
		s.isNotSound(path + ", byte 0, line ")
		s.publish(600)
	}
	s.isSound(nil)
}

func TestLineAndTileChangedTogether(t *testing.T) {
	s := soundSample(t, 300, 300)
	s.alter(0, 260, "user-260", "user-z6o")
	s.flip("tile/0/001", 4*32)
	s.isNotSound(s.at(256) + "a line from this one to line 511 is not the one that was signed")
	s.isNotSound("also: tile/0/001, byte 128, line 260: the tile has another hash here than the line at " +
		strings.TrimSuffix(s.at(260), ", line 260: "))
	s.save()
	s.publish(600)
	s.alter(1, 250, "user-550", "user-ss0")
	s.flip("tile/0/002.p/88", 38*32)
	s.isNotSound("both were changed\nalso: tile/0/002.p/88, byte 1216, line 550: the tile has another hash here than the line at " +
		strings.TrimSuffix(s.at(550), ", line 550: "))
}

func TestLinesAndTilesReplacedTogether(t *testing.T) {
	s := soundSample(t, 300, 300)
	signed := s.checkpoint(600)
	var earlier []string
	for _, size := range []int{1, 300, 520, 540, 600} {
		earlier = append(earlier, fmt.Sprintf(`{"checkpoint":%s,"time":"2026-03-01T12:00:00Z"}`, canonical(s.checkpoint(size))))
	}
	log := s.keep("checkpoints.log", strings.Join(earlier, "\n")+"\n{\"checkp")
	s.isSound([]string{"it continues the 5 earlier checkpoints"}, "--earlier", log)
	s.segments[1][230] = strings.Replace(s.segments[1][230], "user-530", "user-s3o", 1)
	s.save()
	s.publish(600)
	s.isSound(nil)
	// Up to here only the key's owner could have done it, and an earlier checkpoint shows it.
	bracket := s.at(520) + "a line from this one to line 539 is not the one that an earlier checkpoint was made of: " + log
	s.isNotSound(bracket, "--earlier", log)
	must(t, os.WriteFile(s.file("checkpoint"), []byte(signed), 0o600))
	s.isNotSound("checkpoint, byte 0, line 600: neither the lines nor the tiles, which agree with each other, hash to")
	s.isNotSound(bracket, "--earlier", log)
}

func TestEarlierCheckpoints(t *testing.T) {
	s := soundSample(t, 300, 300)
	flags := []string{}
	for _, size := range []int{600, 0, 256, 1, 257} {
		flags = append(flags, "--earlier", s.keep(fmt.Sprint("at-", size), s.checkpoint(size)))
	}
	s.isSound([]string{"it continues the 5 earlier checkpoints"}, flags...)
	other := soundSample(t, 600)
	other.signer, other.key = s.signer, s.key
	s.isNotSound(s.at(0)+"a line from this one to line 599 is not the one that an earlier checkpoint was made of",
		"--earlier", s.keep("other", other.checkpoint(600)))
	s.isNotSound("is of the same size as another checkpoint, and of another root",
		"--earlier", s.keep("own", s.checkpoint(600)), "--earlier", s.keep("other", other.checkpoint(600)))
}

func TestTheCheckpointItself(t *testing.T) {
	s := soundSample(t, 30)
	stranger, _ := newKey(t, origin)
	sound := strings.SplitAfterN(s.checkpoint(30), "\n", 4)
	text := strings.Join(sound[:3], "")
	for _, one := range []struct{ note, says string }{
		{signed(t, text, stranger), "is not signed by the key " + origin + "+"},
		{strings.Replace(s.checkpoint(30), "\n30\n", "\n29\n", 1), "invalid signature for key " + origin},
		{signed(t, text+"extension\n", s.signer), "does not have the three lines of a checkpoint"},
		{signed(t, sound[0]+"030\n"+sound[2], s.signer), `"030" is no size`},
		{signed(t, sound[0]+"-1\n"+sound[2], s.signer), `"-1" is no size`},
		{signed(t, sound[0]+"30\nAAAA\n", s.signer), `"AAAA" is no root`},
		{signed(t, "another\n"+sound[1]+sound[2], s.signer), `is of the origin "another", but the key is of`},
		{signed(t, sound[0]+"31\n"+sound[2], s.signer), s.at(30) + "the log ends here, but lines up to 30 were signed"},
		{signed(t, sound[0]+"9223372036854775807\n"+sound[2], s.signer), "the log ends here"},
		{signed(t, sound[0]+"29\n"+sound[2], s.signer), "checkpoint, byte 0, line 29: neither the lines nor the tiles"},
		{"", "malformed note"},
	} {
		must(t, os.WriteFile(s.file("checkpoint"), []byte(one.note), 0o600))
		s.isNotSound(one.says)
	}
	witness, _ := newKey(t, "witness.example")
	must(t, os.WriteFile(s.file("checkpoint"), []byte(signed(t, text, s.signer, witness)), 0o600))
	s.isSound(nil)
}

func TestLinesBeyondTheCheckpoint(t *testing.T) {
	s := newSample(t)
	s.grow(300)
	s.grow(20)
	s.save()
	s.publish(280)
	s.isSound([]string{"sound: 280 lines in 2 segments", "not covered by this checkpoint: 40 lines\n"})
	s.alter(0, 290, "user-290", "user-zzz")
	s.isSound([]string{"not covered by this checkpoint: 40 lines\n"})
	s.alter(0, 290, `"user":"user-290"`, `"user": "user-290"`)
	s.isNotSound(s.at(290) + "not canonical JSON: ")
	// Tiles grow; an older checkpoint is checked against them all the same.
	s.save()
	old := s.keep("old", s.checkpoint(280))
	must(t, os.RemoveAll(s.file("tile")))
	s.publish(320)
	s.isSound([]string{"sound: 280 lines"}, "--checkpoint", old)
	s.alter(0, 279, "user-279", "user-zzz")
	s.isNotSound(s.at(279)+"is not the line that was signed", "--checkpoint", old)
	s.save()
	none := s.keep("none", s.checkpoint(0))
	s.isSound([]string{"sound: 0 lines", "not covered by this checkpoint: 320 lines\n"}, "--checkpoint", none)
}

func TestHeadersBeyondTheCheckpoint(t *testing.T) {
	s := newSample(t)
	s.grow(30)
	s.grow(30)
	s.save()
	s.publish(1)
	s.alter(0, 29, "user-29", "user-zz")
	s.isNotSound(s.at(30) + "does not continue the segment before: the hash of its last line differs")
	s.save()
	s.alter(1, 0, `"operation":"DisableKey"`, `"operation":"EnableKey"`)
	s.isNotSound(s.at(30) + "lists other open intents than the segments before leave")
	s.save()
	s.alter(1, 0, `"open_intents":[`, `"open_intents":[{"operation":"X","request_id":"00000000-0000-4000-8000-000000000000"},`)
	s.isNotSound(s.at(30) + "lists other open intents than the segments before leave")
	s.save()
	s.alter(1, 3, `"phase":"`, `"phase":"x`)
	s.isNotSound(s.at(33) + `the member "phase" does not have its form`)
	s.save()
	s.alter(1, 3, `"user":`, `"usez":`)
	s.isNotSound(s.at(33) + `the member "usez" is not known`)
	s.save()
	s.alter(1, 3, `"count":1,`, ``)
	s.isNotSound(s.at(33) + `the member "count" is missing`)
	s.save()
	s.alter(1, 3, `"v":1`, `"v":2`)
	s.isNotSound(s.at(33) + "format version 2 is not known")
}

func TestHeadersThatNameNoLineBefore(t *testing.T) {
	s := newSample(t)
	s.grow(30)
	s.grow(30)
	s.save()
	s.publish(0)
	s.alter(0, 0, `"seq":0`, `"previous":"`+strings.Repeat("0", 64)+`","seq":0`)
	s.isNotSound(s.at(0) + "every header but that of line 0 names the line before")
	must(t, os.Remove(s.file(s.name(0))))
	_, previous, _ := strings.Cut(s.segments[1][0], `"previous":`)
	previous, _, _ = strings.Cut(previous, ",")
	s.alter(1, 0, `"previous":`+previous+",", "")
	s.isNotSound(s.name(1) + ", byte 0, line 30: every header but that of line 0 names the line before")
}

func TestWhatLiesBehindTheLastLine(t *testing.T) {
	s := soundSample(t, 20, 20)
	lines := strings.Join(s.segments[1], "\n") + "\n"
	last := func(rest string) { must(t, os.WriteFile(s.file(s.name(1)), []byte(lines+rest), 0o600)) }
	zeros := strings.Repeat("\x00", 1<<20)
	last(zeros)
	s.isSound([]string{"sound: 40 lines"})
	last(`{"account` + zeros)
	s.isSound([]string{"behind the last line: 9 bytes of a commit that was not finished"})
	last(zeros[:1000] + "x\n" + zeros)
	s.isSound([]string{"behind the last line: 1002 bytes"})
	last(zeros[1:] + "x")
	s.isSound(nil)
	last(zeros + "x")
	s.isNotSound(fmt.Sprintf("%s, byte %d, line 40: data lies behind a hole of zeros", s.name(1), len(lines)))
	last(strings.Repeat("x", longestLine+1))
	s.isNotSound(fmt.Sprintf("%s, byte %d, line 40: the line is too long", s.name(1), len(lines)))
	s.save()
	first := strings.Join(s.segments[0], "\n") + "\n"
	for _, rest := range []string{"\x00", "x", "x\x00"} {
		must(t, os.WriteFile(s.file(s.name(0)), []byte(first+rest), 0o600))
		s.isNotSound(fmt.Sprintf("%s, byte %d, line 20: a closed segment does not end with a whole line", s.name(0), len(first)))
	}
}

func TestOldSegmentsRemoved(t *testing.T) {
	s := soundSample(t, 200, 59, 20)
	must(t, os.Remove(s.file(s.name(0))))
	s.isSound([]string{"sound: 79 lines in 2 segments", "not there: lines 0 to 199, 200 lines"}, "--archived")
	must(t, os.Remove(s.file(s.name(1))))
	s.isSound([]string{"sound: 20 lines in 1 segments", "not there: lines 0 to 258, 259 lines"},
		"--archived", "--earlier", s.keep("earlier", s.checkpoint(100)))
	// A removed line's hash stays under the root, wherever its tile lies.
	for _, path := range []string{"tile/0/000", "tile/0/001.p/23", "tile/1/000.p/1"} {
		s.flip(path, 0)
		s.isNotSound("tile/0/000, byte 0, line 0: the line is not there, and the tile that must vouch for it")
		s.flip(path, 0)
	}
	s.alter(2, 4, "user-263", "user-z63")
	s.isNotSound(fmt.Sprintf("%s, byte %d, line 263: ", s.name(2), len(strings.Join(s.segments[2][:4], "\n"))+1))
	s.save()
	must(t, os.Remove(s.file(s.name(0))))
	must(t, os.Remove(s.file(s.name(1))))
	old := s.keep("old", s.checkpoint(256))
	s.isSound([]string{"sound: 0 lines", "not covered by this checkpoint: 20 lines"}, "--archived", "--checkpoint", old)
}

// sumdb/tlog's reader of tiles believes this tile: its tree has three subtrees in one tile.
func TestATileOfRemovedLinesBesideSeveralSubtrees(t *testing.T) {
	s := soundSample(t, 256, 7)
	must(t, os.Remove(s.file(s.name(0))))
	s.isSound([]string{"256 lines; their hashes are those that were signed"}, "--archived")
	s.flip("tile/0/000", 5*32)
	s.isNotSound("tile/0/000, byte 0, line 0: the line is not there, and the tile that must vouch for it does not have")
}

// archiving is the record that so many lines are in the archive.
func (s *sample) archiving(lines int, verdict string) {
	one := s.record()
	one["operation"], one["archived_lines"], one["phase"], one["verdict"] = "ArchiveSegment", lines, "complete", verdict
	s.add(one)
}

func TestSegmentsAreMissingThatWereArchived(t *testing.T) {
	for _, one := range []struct {
		lines   int
		verdict string
		signed  int
		sound   bool
	}{
		{200, "succeeded", 221, true},
		{260, "succeeded", 221, true},
		{199, "succeeded", 221, false},
		{200, "failed", 221, false},
		{200, "succeeded", 220, false},
	} {
		s := newSample(t)
		s.grow(200)
		s.grow(20)
		s.archiving(one.lines, one.verdict)
		s.save()
		s.publish(one.signed)
		s.isSound(nil)
		must(t, os.Remove(s.file(s.name(0))))
		if one.sound {
			s.isSound([]string{"not there: lines 0 to 199"})
		} else {
			s.isNotSound(s.name(1) + ", byte 0, line 200: the lines before this one are not there, and no record")
			s.isSound(nil, "--archived")
		}
	}
}

// cosign is a witness' line below a note, and its key.
func cosign(t *testing.T, name, text string, time uint64) (string, string) {
	public, secret, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	key := append([]byte{4}, public...)
	id := sha256.Sum256([]byte(name + "\n" + string(key)))
	signature := ed25519.Sign(secret, []byte(fmt.Sprintf("cosignature/v1\ntime %d\n%s", time, text)))
	content := binary.BigEndian.AppendUint64(id[:4:4], time)
	line := "— " + name + " " + base64.StdEncoding.EncodeToString(append(content, signature...)) + "\n"
	return line, fmt.Sprintf("%s+%x+%s", name, id[:4], base64.StdEncoding.EncodeToString(key))
}

func TestCosignatures(t *testing.T) {
	s := soundSample(t, 30)
	bare := s.checkpoint(30)
	text, _, _ := strings.Cut(bare, "\n\n")
	first, key := cosign(t, "one.example", text+"\n", 1_800_000_000)
	second, other := cosign(t, "two.example", text+"\n", 1_800_000_001)
	write := func(note string) { must(t, os.WriteFile(s.file("checkpoint"), []byte(note), 0o600)) }
	write(bare + first + second)
	s.isSound(nil)
	s.isSound(nil, "--witness", key, "--witness", "@"+s.keep("witness", other+"\n"))
	write(bare + first)
	s.isSound(nil, "--witness", key)
	s.isNotSound("checkpoint, byte 0, line 30: is not cosigned by the witness two.example+", "--witness", key, "--witness", other)
	// The same witness of another checkpoint, at another time, and another one of its name.
	again, third := cosign(t, "one.example", strings.Replace(text, "30", "29", 1)+"\n", 1_800_000_000)
	write(bare + again)
	s.isNotSound("invalid signature for key one.example+", "--witness", third)
	s.isNotSound("is not cosigned by the witness one.example+", "--witness", key)
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(strings.TrimPrefix(first, "— one.example ")))
	must(t, err)
	raw[4+7] ^= 1
	write(bare + "— one.example " + base64.StdEncoding.EncodeToString(raw) + "\n")
	s.isNotSound("invalid signature for key one.example+", "--witness", key)
	for _, wrong := range []string{"", "one.example", s.key, strings.Replace(key, "+", "+0", 1), key[:len(key)-4]} {
		if code, said := s.verify("--witness", wrong); code != exitCannot || !strings.Contains(said, "a witness' key") {
			t.Errorf("exit code %d of the key %q: %s", code, wrong, said)
		}
	}
}

func TestWhatCannotBeChecked(t *testing.T) {
	s := soundSample(t, 20)
	cannot := func(says string, flags ...string) {
		t.Helper()
		if code, text := s.verify(flags...); code != exitCannot || !strings.Contains(text, says) {
			t.Errorf("exit code %d, not %q:\n%s", code, says, text)
		}
	}
	cannot("flag provided but not defined", "--no-such-flag")
	cannot("a key and one directory are needed", "another directory")
	cannot("the key: malformed verifier id", "--key", "no key")
	cannot("no such file", "--key", "@"+filepath.Join(s.directory, "no-key"))
	cannot("no such file", "--earlier", filepath.Join(s.directory, "no-checkpoint"))
	cannot("no such file", "--checkpoint", filepath.Join(s.directory, "no-checkpoint"))
	cannot("(its line 1): ", "--earlier", s.keep("log", "{]\n"))
	must(t, os.Remove(s.file(s.name(0))))
	cannot("no segment of a log lies in")
	s.save()
	key := s.keep("key", s.key+"\n")
	s.isSound(nil, "--key", "@"+key)
}
