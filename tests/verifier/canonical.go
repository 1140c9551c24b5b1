package main

import (
	"bytes"
	"fmt"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// No line of the log nests deeper than a header's list of intents.
const deepest = 4

// A member is one of a JSON object. Its value stays as it is written.
type member struct {
	name  []byte
	value []byte
}

// members takes a JSON object in canonical form apart, appending to all.
//
// After RFC 8785 each text has one canonical spelling only, so each byte that is not the one which has to follow is an
// error: what this accepts is equal to its own canonicalisation.
func members(all []member, text []byte) ([]member, error) {
	p := parser{text: text}
	all, err := p.object(all, 1)
	if err == nil && p.at != len(text) {
		err = p.unexpected("the end")
	}
	return all, err
}

// items takes an array in canonical form apart.
func items(text []byte) ([][]byte, error) {
	p := parser{text: text}
	all, err := p.array(1)
	if err == nil && p.at != len(text) {
		err = p.unexpected("the end")
	}
	return all, err
}

type parser struct {
	text []byte
	at   int
}

func (p *parser) unexpected(wanted string) error {
	return fmt.Errorf("not canonical JSON: %s is expected at byte %d of the line", wanted, p.at)
}

// next is the byte that follows; 0, which no canonical text has, at the end.
func (p *parser) next() byte {
	if p.at < len(p.text) {
		return p.text[p.at]
	}
	return 0
}

// take steps over one byte, if it is the one that follows.
func (p *parser) take(wanted byte) bool {
	if p.next() != wanted {
		return false
	}
	p.at++
	return true
}

func (p *parser) value(depth int) error {
	var err error
	switch next := p.next(); {
	case next == '{':
		_, err = p.object(nil, depth+1)
	case next == '[':
		_, err = p.array(depth + 1)
	case next == '"':
		_, err = p.string()
	case next >= '0' && next <= '9':
		err = p.number()
	default:
		err = p.unexpected("a text, an integer, an object or an array")
	}
	return err
}

func (p *parser) object(all []member, depth int) ([]member, error) {
	if depth > deepest {
		return nil, p.unexpected("no deeper nesting")
	}
	if !p.take('{') {
		return nil, p.unexpected("'{'")
	}
	if p.take('}') {
		return all, nil
	}
	for first := true; ; first = false {
		start := p.at
		name, err := p.string()
		if err != nil {
			return nil, err
		}
		if !first && !sorted(all[len(all)-1].name, name) {
			p.at = start
			return nil, p.unexpected("a name that sorts behind the one before")
		}
		if !p.take(':') {
			return nil, p.unexpected("':'")
		}
		start = p.at
		if err := p.value(depth); err != nil {
			return nil, err
		}
		all = append(all, member{name, p.text[start:p.at]})
		if p.take('}') {
			return all, nil
		}
		if !p.take(',') {
			return nil, p.unexpected("',' or '}'")
		}
	}
}

func (p *parser) array(depth int) ([][]byte, error) {
	if depth > deepest {
		return nil, p.unexpected("no deeper nesting")
	}
	if !p.take('[') {
		return nil, p.unexpected("'['")
	}
	if p.take(']') {
		return nil, nil
	}
	var all [][]byte
	for {
		start := p.at
		if err := p.value(depth); err != nil {
			return nil, err
		}
		all = append(all, p.text[start:p.at])
		if p.take(']') {
			return all, nil
		}
		if !p.take(',') {
			return nil, p.unexpected("',' or ']'")
		}
	}
}

// sorted tells whether left stands strictly before right by UTF-16 code units (RFC 8785 §3.2.3).
func sorted(left, right []byte) bool {
	// Where no text has characters of more than one unit, the order of bytes is the same.
	if ascii(left) && ascii(right) {
		return bytes.Compare(left, right) < 0
	}
	units, others := utf16.Encode([]rune(string(left))), utf16.Encode([]rune(string(right)))
	for index := range units {
		if index == len(others) || units[index] != others[index] {
			return index < len(others) && units[index] < others[index]
		}
	}
	return len(units) < len(others)
}

func ascii(text []byte) bool {
	for index := 0; index < len(text); index++ {
		if text[index] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// number steps over an integer from 0 to 2^64 − 1.
func (p *parser) number() error {
	start := p.at
	for p.next() >= '0' && p.next() <= '9' {
		p.at++
	}
	digits := p.text[start:p.at]
	_, err := strconv.ParseUint(string(digits), 10, 64)
	if err != nil || digits[0] == '0' && len(digits) > 1 {
		p.at = start
		return p.unexpected("an integer below 2^64 in plain decimal")
	}
	return nil
}

// escapes are the characters that have an escape of two characters (RFC 8785 §3.2.2.2).
var escapes = map[byte]byte{'b': '\b', 't': '\t', 'n': '\n', 'f': '\f', 'r': '\r', '"': '"', '\\': '\\'}

// string steps over a text and says what it spells.
func (p *parser) string() ([]byte, error) {
	if !p.take('"') {
		return nil, p.unexpected("'\"'")
	}
	start, plain := p.at, true
	var spelt []byte
	for {
		next := p.next()
		switch {
		case next == '"':
			if plain {
				spelt = p.text[start:p.at]
			}
			p.at++
			return spelt, nil
		case next == '\\':
			if plain {
				spelt, plain = append(spelt, p.text[start:p.at]...), false
			}
			character, err := p.escape()
			if err != nil {
				return nil, err
			}
			spelt = append(spelt, character)
		case next < ' ':
			return nil, p.unexpected("no control character, and an end of the text")
		default:
			_, length := utf8.DecodeRune(p.text[p.at:])
			if next >= utf8.RuneSelf && length == 1 {
				return nil, p.unexpected("UTF-8")
			}
			if !plain {
				spelt = append(spelt, p.text[p.at:p.at+length]...)
			}
			p.at += length
		}
	}
}

// escape steps over the escape of a character that has to be escaped, in its only canonical form.
func (p *parser) escape() (byte, error) {
	rest := p.text[p.at+1:]
	if len(rest) > 0 {
		if character, short := escapes[rest[0]]; short {
			p.at += 2
			return character, nil
		}
	}
	if len(rest) >= 5 {
		character, err := strconv.ParseUint(string(rest[3:5]), 16, 8)
		hasShort := bytes.IndexByte([]byte("\b\t\n\f\r"), byte(character)) >= 0
		if err == nil && character < ' ' && !hasShort && string(rest[:5]) == fmt.Sprintf("u%04x", character) {
			p.at += 6
			return byte(character), nil
		}
	}
	return 0, p.unexpected("the shortest escape")
}
