package main

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
	"time"
)

// A form tells whether a member's value, in its canonical JSON, is what the format wants there.
type form func(value []byte) bool

func text(value []byte) bool    { return value[0] == '"' }
func integer(value []byte) bool { return value[0] >= '0' && value[0] <= '9' }

// words is one of some texts.
func words(all ...string) form {
	return func(value []byte) bool {
		for _, one := range all {
			if string(value) == strconv.Quote(one) {
				return true
			}
		}
		return false
	}
}

// hexadecimal is a text of so many digits in lower case.
func hexadecimal(digits int) form {
	return func(value []byte) bool {
		if len(value) != digits+2 || value[0] != '"' {
			return false
		}
		for _, digit := range value[1 : digits+1] {
			if (digit < '0' || digit > '9') && (digit < 'a' || digit > 'f') {
				return false
			}
		}
		return true
	}
}

// uuid is a UUID in lower case.
func uuid(value []byte) bool {
	if len(value) != 38 {
		return false
	}
	for _, hyphen := range []int{9, 14, 19, 24} {
		if value[hyphen] != '-' {
			return false
		}
	}
	return hexadecimal(32)(bytes.ReplaceAll(value, []byte("-"), nil))
}

var unwritable = regexp.MustCompile(`^"@-?[0-9]+us"$`)

// moment is a time in UTC with six digits of a second, or what stands for one that RFC 3339 cannot write.
func moment(value []byte) bool {
	const layout = `"2006-01-02T15:04:05.000000Z"`
	read, err := time.Parse(layout, string(value))
	return err == nil && read.Format(layout) == string(value) || unwritable.Match(value)
}

// context is an object of texts that is left out where it is empty.
func context(value []byte) bool {
	if value[0] != '{' {
		return false
	}
	all, err := members(nil, value)
	for _, one := range all {
		if !text(one.value) {
			return false
		}
	}
	return err == nil && len(all) > 0
}

// intents is a header's list; what it holds is compared with what the lines before leave open.
func intents(value []byte) bool { return value[0] == '[' }

// A shape is what the format says about the members of an object.
type shape struct {
	forms map[string]form
	// required are those that are never left out, in their order.
	required []string
}

var header = shape{
	forms: map[string]form{
		"open_intents": intents, "previous": hexadecimal(64), "seq": integer, "type": words("segment"), "v": integer,
	},
	required: []string{"open_intents", "seq", "type", "v"},
}

var intent = shape{
	forms:    map[string]form{"key_id": uuid, "operation": text, "request_id": uuid},
	required: []string{"operation", "request_id"},
}

var record = shape{
	forms: map[string]form{
		"access_key_id":      text,
		"account":            text,
		"acting_service":     text,
		"action":             text,
		"archived_lines":     integer,
		"bucket_key":         uuid,
		"certificate":        hexadecimal(64),
		"context":            context,
		"count":              integer,
		"from_version":       integer,
		"grant_id":           text,
		"item":               hexadecimal(16),
		"key_id":             uuid,
		"key_origin":         words("kms", "external"),
		"key_spec":           text,
		"key_version":        integer,
		"latency_us":         integer,
		"missing_action":     text,
		"operation":          text,
		"password_of":        text,
		"phase":              words("complete", "intent", "outcome", "recovery"),
		"project":            text,
		"reason":             text,
		"region":             text,
		"request_id":         uuid,
		"ruling":             text,
		"seq":                integer,
		"source":             text,
		"source_context":     context,
		"source_key_id":      uuid,
		"source_key_version": integer,
		"state_digest":       hexadecimal(64),
		"time":               moment,
		"token_issued":       moment,
		"trace_name":         text,
		"user":               text,
		"uses":               integer,
		"v":                  integer,
		"valid_until":        moment,
		"verdict":            words("pending", "succeeded", "denied", "failed"),
	},
	required: []string{
		"action", "count", "latency_us", "operation", "phase", "request_id", "seq", "time", "v", "verdict",
	},
}

// follow checks members, which are sorted.
func (s *shape) follow(all []member) error {
	missing := s.required
	for _, one := range all {
		form, known := s.forms[string(one.name)]
		if !known {
			return fmt.Errorf("the member %q is not known", one.name)
		}
		if !form(one.value) {
			return fmt.Errorf("the member %q does not have its form", one.name)
		}
		if len(missing) > 0 && missing[0] == string(one.name) {
			missing = missing[1:]
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("the member %q is missing", missing[0])
	}
	return nil
}

// A line is one of the log, in canonical form.
type line struct {
	members []member
}

// value is that of a member, in JSON; nothing if it has none of this name.
func (l *line) value(name string) []byte {
	for _, one := range l.members {
		if string(one.name) == name {
			return one.value
		}
	}
	return nil
}

func (l *line) isHeader() bool { return l.value("type") != nil }

// read takes a line apart and checks what can be checked of it alone.
func (l *line) read(text []byte) error {
	all, err := members(l.members[:0], text)
	if err != nil {
		return err
	}
	l.members = all
	if version := l.value("v"); version != nil && string(version) != "1" {
		return fmt.Errorf("format version %s is not known", version)
	}
	if l.isHeader() {
		return header.follow(l.members)
	}
	return record.follow(l.members)
}

// archived is how many lines are in the archive, if the line is a record that says so.
func (l *line) archived() uint64 {
	if string(l.value("operation")) != `"ArchiveSegment"` || string(l.value("verdict")) != `"succeeded"` {
		return 0
	}
	lines, _ := strconv.ParseUint(string(l.value("archived_lines")), 10, 64)
	return lines
}

func (l *line) seq() uint64 {
	// Its form has been checked.
	seq, _ := strconv.ParseUint(string(l.value("seq")), 10, 64)
	return seq
}
