// Command verifier checks an audit log of Dewpoint from its files alone, against a signed checkpoint.
//
// It shares no code with the service: it is written from docs/audit-format.md and the C2SP documents tlog-tiles,
// tlog-checkpoint and signed-note. docs/audit-verify.md tells how to run it.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

const usage = `usage: verifier --key KEY|@FILE [--checkpoint FILE] [--earlier FILE]... [--witness KEY|@FILE]... [--archived] DIR

Checks the audit log in DIR/audit.
  --key KEY|@FILE      the log's verifier key, or a file that holds it; get it from elsewhere than DIR
  --checkpoint FILE    a checkpoint to check against instead of DIR/audit/checkpoint
  --earlier FILE       a checkpoint kept from earlier, or a copy of checkpoints.log: the log must continue each
  --witness KEY|@FILE  the key of a witness that must have cosigned the checkpoint
  --archived           take lines that are missing at the beginning for archived, whatever the records say

Exits with 0 if the log is sound, 1 if it is not, 2 if it cannot be checked.
`

const (
	exitSound    = 0
	exitNotSound = 1
	exitCannot   = 2
)

// A fault is the first thing found that no sound log has.
type fault struct {
	place
	problem string
	// also is a further fault, of the tiles, which has no order with those of the lines.
	also *fault
}

// A place is where something lies, or should lie.
type place struct {
	// file is relative to the log's directory, or as it was given on the command line.
	file string
	// offset is in bytes.
	offset int64
	// seq is the number of the line that belongs there: of the first one, if it stands for several.
	seq uint64
}

func (f *fault) Error() string {
	text := fmt.Sprintf("%s, byte %d, line %d: %s", f.file, f.offset, f.seq, f.problem)
	if f.also != nil {
		text += "\nalso: " + f.also.Error()
	}
	return text
}

// files collects the values of a flag that may be repeated.
type files []string

func (f *files) String() string { return strings.Join(*f, " ") }

func (f *files) Set(value string) error {
	*f = append(*f, value)
	return nil
}

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

func run(arguments []string, out, problems io.Writer) int {
	report, err := check(arguments, problems)
	var found *fault
	switch {
	case err == nil:
		fmt.Fprint(out, report)
		return exitSound
	case errors.As(err, &found):
		fmt.Fprintf(out, "NOT SOUND: %v\n", found)
		return exitNotSound
	default:
		fmt.Fprintf(problems, "cannot check: %v\n", err)
		return exitCannot
	}
}

func check(arguments []string, problems io.Writer) (*report, error) {
	flags := flag.NewFlagSet("verifier", flag.ContinueOnError)
	flags.SetOutput(problems)
	flags.Usage = func() { fmt.Fprint(problems, usage) }
	key := flags.String("key", "", "")
	file := flags.String("checkpoint", "", "")
	var earlier files
	flags.Var(&earlier, "earlier", "")
	var witnesses files
	flags.Var(&witnesses, "witness", "")
	trusting := flags.Bool("archived", false, "")
	if err := flags.Parse(arguments); err != nil {
		return nil, err
	}
	if flags.NArg() != 1 || *key == "" {
		flags.Usage()
		return nil, errors.New("a key and one directory are needed")
	}
	verifier, err := readKey(*key)
	if err != nil {
		return nil, err
	}
	cosigners, err := readCosigners(witnesses)
	if err != nil {
		return nil, err
	}
	directory := filepath.Join(flags.Arg(0), "audit")
	if *file == "" {
		*file = filepath.Join(directory, "checkpoint")
	}
	// The newest is read last: the log may be in use.
	before, err := readEarlier(earlier, verifier)
	if err != nil {
		return nil, err
	}
	newest, err := readCheckpoint(*file, verifier, cosigners)
	if err != nil {
		return nil, err
	}
	return verify(directory, newest, before, *trusting)
}

// content takes a text, or @ and the name of a file with it.
func content(value string) (string, error) {
	if !strings.HasPrefix(value, "@") {
		return value, nil
	}
	text, err := os.ReadFile(value[1:])
	return strings.TrimSpace(string(text)), err
}

// readCosigners takes the keys of witnesses.
func readCosigners(keys []string) ([]*cosigner, error) {
	var all []*cosigner
	for _, key := range keys {
		text, err := content(key)
		if err != nil {
			return nil, err
		}
		one, err := parseCosigner(text)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, nil
}

// readKey takes a verifier key.
func readKey(key string) (note.Verifier, error) {
	text, err := content(key)
	if err != nil {
		return nil, err
	}
	verifier, err := note.NewVerifier(text)
	if err != nil {
		return nil, fmt.Errorf("the key: %w", err)
	}
	return verifier, nil
}
