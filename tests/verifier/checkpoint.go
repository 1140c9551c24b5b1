package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sort"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// A checkpoint is what the log's key has signed: the root over the first size lines.
type checkpoint struct {
	file   string
	origin string
	size   int64
	root   tlog.Hash
}

// fault is one of the checkpoint itself.
func (c *checkpoint) fault(problem string, arguments ...any) *fault {
	at := place{file: c.file, seq: uint64(c.size)}
	return &fault{place: at, problem: fmt.Sprintf(problem, arguments...)}
}

// readCheckpoint reads one signed note, which each of the witnesses must have cosigned.
func readCheckpoint(file string, key note.Verifier, witnesses []*cosigner) (*checkpoint, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	found, err := openCheckpoint(file, text, key)
	if err != nil {
		return nil, err
	}
	for _, witness := range witnesses {
		if err := found.cosigned(text, witness); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// readEarlier reads the checkpoints that the log must continue, in the order of their sizes.
func readEarlier(names []string, key note.Verifier) ([]*checkpoint, error) {
	var all []*checkpoint
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		some, err := openEarlier(name, text, key)
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	sort.SliceStable(all, func(i, j int) bool { return all[i].size < all[j].size })
	return all, nil
}

// openEarlier opens a note, or the notes of a copy of checkpoints.log.
func openEarlier(name string, text []byte, key note.Verifier) ([]*checkpoint, error) {
	if !bytes.HasPrefix(text, []byte("{")) {
		one, err := openCheckpoint(name, text, key)
		return []*checkpoint{one}, err
	}
	var all []*checkpoint
	lines := bytes.Split(text, []byte("\n"))
	// What lies behind the last newline is no whole line.
	for index, line := range lines[:len(lines)-1] {
		var entry struct{ Checkpoint string }
		place := fmt.Sprintf("%s (its line %d)", name, index+1)
		if err := json.Unmarshal(line, &entry); err != nil {
			return nil, fmt.Errorf("%s: %w", place, err)
		}
		one, err := openCheckpoint(place, []byte(entry.Checkpoint), key)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, nil
}

// openCheckpoint checks the signature of a note and takes it apart. Signatures of other keys do not count.
func openCheckpoint(file string, text []byte, key note.Verifier) (*checkpoint, error) {
	found := &checkpoint{file: file}
	signed, err := note.Open(text, note.VerifierList(key))
	var unverified *note.UnverifiedNoteError
	switch {
	case errors.As(err, &unverified):
		return nil, found.fault("is not signed by the key %s+%08x, but by %s", key.Name(), key.KeyHash(),
			signers(unverified.Note.UnverifiedSigs))
	case err != nil:
		return nil, found.fault("%v", err)
	}
	// C2SP tlog-checkpoint: the origin, the size in decimal, the root in base64. The log makes no extension lines.
	lines := strings.Split(signed.Text, "\n")
	if len(lines) != 4 || lines[3] != "" {
		return nil, found.fault("does not have the three lines of a checkpoint")
	}
	found.origin = lines[0]
	if found.origin != key.Name() {
		return nil, found.fault("is of the origin %q, but the key is of %q", found.origin, key.Name())
	}
	found.size, err = strconv.ParseInt(lines[1], 10, 64)
	if err != nil || found.size < 0 || strconv.FormatInt(found.size, 10) != lines[1] {
		return nil, found.fault("%q is no size", lines[1])
	}
	root, err := base64.StdEncoding.Strict().DecodeString(lines[2])
	if err != nil || len(root) != tlog.HashSize {
		return nil, found.fault("%q is no root", lines[2])
	}
	copy(found.root[:], root)
	return found, nil
}

func signers(signatures []note.Signature) string {
	var names []string
	for _, signature := range signatures {
		names = append(names, fmt.Sprintf("%s+%08x", signature.Name, signature.Hash))
	}
	return strings.Join(names, ", ")
}
