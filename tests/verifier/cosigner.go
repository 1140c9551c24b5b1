package main

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// timestampedEd25519 is the algorithm in an encoded key (C2SP signed-note, "Signature types").
const timestampedEd25519 = 4

// A cosigner is the key of a witness (C2SP tlog-cosignature), as sumdb/note wants a verifier.
type cosigner struct {
	name string
	id   uint32
	key  ed25519.PublicKey
}

var _ note.Verifier = (*cosigner)(nil)

func (c *cosigner) Name() string    { return c.name }
func (c *cosigner) KeyHash() uint32 { return c.id }

// Verify checks a time, in seconds since 1970, and the signature over it and the note's text.
func (c *cosigner) Verify(text, content []byte) bool {
	if len(content) != 8+ed25519.SignatureSize {
		return false
	}
	signed := fmt.Sprintf("cosignature/v1\ntime %d\n%s", binary.BigEndian.Uint64(content), text)
	return ed25519.Verify(c.key, []byte(signed), content[8:])
}

// parseCosigner reads name+id+key.
func parseCosigner(text string) (*cosigner, error) {
	parts := strings.SplitN(text, "+", 3)
	if len(parts) != 3 {
		return nil, errors.New("a witness' key is written name+id+key")
	}
	key, err := base64.StdEncoding.Strict().DecodeString(parts[2])
	if err != nil || len(key) != 1+ed25519.PublicKeySize || key[0] != timestampedEd25519 {
		return nil, errors.New("a witness' key is one of Ed25519 for cosignatures")
	}
	hash := sha256.Sum256(append([]byte(parts[0]+"\n"), key...))
	found := &cosigner{parts[0], binary.BigEndian.Uint32(hash[:]), key[1:]}
	if fmt.Sprintf("%08x", found.id) != parts[1] {
		return nil, errors.New("a witness' key has another id than it says")
	}
	return found, nil
}

// cosigned checks that the witness has cosigned a note.
func (c *checkpoint) cosigned(text []byte, witness *cosigner) error {
	_, err := note.Open(text, note.VerifierList(witness))
	var unverified *note.UnverifiedNoteError
	switch {
	case errors.As(err, &unverified):
		return c.fault("is not cosigned by the witness %s+%08x, but signed by %s", witness.name, witness.id,
			signers(unverified.Note.UnverifiedSigs))
	case err != nil:
		return c.fault("%v", err)
	}
	return nil
}
