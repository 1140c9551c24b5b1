package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"sort"
)

// A chain is what the lines so far demand of those that follow.
type chain struct {
	// next is the number of the next line.
	next uint64
	// last is the line before; nothing before the first one that is there.
	last []byte
	// open are the intents without outcome, each as a header lists it, by its request id.
	open map[string]string
	line line
}

// header checks the first line of a segment.
func (c *chain) header(text []byte) error {
	if err := c.line.read(text); err != nil {
		return err
	}
	if !c.line.isHeader() {
		return fmt.Errorf("the segment's header is missing")
	}
	if err := c.place(); err != nil {
		return err
	}
	if err := c.tie(c.line.value("previous")); err != nil {
		return err
	}
	if c.last == nil && c.next > 0 {
		// The lines that left these intents open are not there: only the header's own hash vouches for them.
		open, err := readIntents(c.line.value("open_intents"))
		if err != nil {
			return err
		}
		c.open = open
	}
	if !bytes.Equal(c.line.value("open_intents"), writeIntents(c.open)) {
		return fmt.Errorf("lists other open intents than the segments before leave")
	}
	c.step(text)
	return nil
}

// tie checks the hash by which a header continues the segment before.
func (c *chain) tie(previous []byte) error {
	if (previous == nil) != (c.next == 0) {
		return fmt.Errorf("every header but that of line 0 names the line before")
	}
	hash := sha256.Sum256(c.last)
	if c.last != nil && string(previous) != `"`+hex.EncodeToString(hash[:])+`"` {
		return fmt.Errorf("does not continue the segment before: the hash of its last line differs")
	}
	return nil
}

// record checks any other line.
func (c *chain) record(text []byte) error {
	if err := c.line.read(text); err != nil {
		return err
	}
	if err := c.place(); err != nil {
		return err
	}
	if c.line.isHeader() {
		return fmt.Errorf("a header that does not begin a segment")
	}
	request := string(c.line.value("request_id"))
	switch string(c.line.value("phase")) {
	case `"intent"`:
		c.open[request] = writeIntent(&c.line)
	case `"outcome"`, `"recovery"`:
		delete(c.open, request)
	}
	c.step(text)
	return nil
}

func (c *chain) place() error {
	if seq := c.line.seq(); seq != c.next {
		return fmt.Errorf("has the sequence number %d", seq)
	}
	return nil
}

func (c *chain) step(text []byte) {
	c.last = append(c.last[:0], text...)
	c.next++
}

// readIntents reads the list of a header.
func readIntents(list []byte) (map[string]string, error) {
	all, err := items(list)
	if err != nil {
		return nil, err
	}
	open := make(map[string]string)
	for _, one := range all {
		var entry line
		if entry.members, err = members(nil, one); err != nil {
			return nil, err
		}
		if err := intent.follow(entry.members); err != nil {
			return nil, fmt.Errorf("an open intent: %w", err)
		}
		open[string(entry.value("request_id"))] = string(one)
	}
	return open, nil
}

// writeIntent is the entry of an intent, or of a record of one, in a header.
func writeIntent(intent *line) string {
	entry := "{"
	if key := intent.value("key_id"); key != nil {
		entry += fmt.Sprintf(`"key_id":%s,`, key)
	}
	return entry + fmt.Sprintf(`"operation":%s,"request_id":%s}`, intent.value("operation"), intent.value("request_id"))
}

// writeIntents is the list as a header has it.
func writeIntents(open map[string]string) []byte {
	var requests []string
	for request := range open {
		requests = append(requests, request)
	}
	sort.Strings(requests)
	var list bytes.Buffer
	list.WriteByte('[')
	for index, request := range requests {
		if index > 0 {
			list.WriteByte(',')
		}
		list.WriteString(open[request])
	}
	list.WriteByte(']')
	return list.Bytes()
}
