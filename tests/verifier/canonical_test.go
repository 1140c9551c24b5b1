package main

import (
	"bytes"
	"encoding/json"
	"math/rand"
	"os"
	"regexp"
	"sort"
	"strings"
	"testing"
	"unicode/utf8"
)

func accepted(text string) bool {
	_, err := members(nil, []byte(text))
	return err == nil
}

func TestCanonicalForm(t *testing.T) {
	for _, text := range []string{
		`{}`, `{"":0}`, `{"a":[]}`, `{"a":[{},{"b":1}],"b":"\"\\\b\f\n\r\t\u0000\u001f/` + "\u007f\u2028é\U0001f511" + `"}`,
		`{"a":18446744073709551615}`, "{\"\U0001f511\":1,\"\ufb03\":2}", `{"\n":1,"A":2,"a":3}`, `{"a":1,"aa":2}`,
	} {
		if !accepted(text) {
			t.Errorf("refused: %s", text)
		}
	}
	for _, text := range []string{
		``, ` {}`, `{} `, `{`, `[]`, `{"a" :1}`, `{"a":1,}`, `{"a":1 }`, `{"b":1,"a":2}`, `{"a":1,"a":1}`, `{"aa":1,"a":2}`,
		"{\"\ufb03\":2,\"\U0001f511\":1}", `{"a":01}`, `{"a":-1}`, `{"a":1.0}`, `{"a":1e3}`, `{"a":18446744073709551616}`,
		`{"a":null}`, `{"a":true}`, `{"a":"\/"}`, `{"a":"\u000a"}`, `{"a":"\u001F"}`, `{"a":"\u0041"}`, `{"a":"\U0001"}`,
		`{"a":"\u00+1"}`, "{\"a\":\"\n\"}", "{\"a\":\"\x00\"}", "{\"a\":\"\xff\"}", "{\"a\":\"\xed\xa0\x80\"}", `{"a":"`, `{"a":"\`,
		`{"a":[1,]}`, `{"a":[[[[[[]]]]]]}`, `{"a":1`, `{"a":[1`, `{"a":1}{}`, `{a:1}`, `{"a":}`,
	} {
		if accepted(text) {
			t.Errorf("accepted: %q", text)
		}
	}
}

// Whatever is done to a canonical text: it is accepted exactly where encoding/json reads it and would write it like this.
func TestCanonicalFormAgainstAnotherReader(t *testing.T) {
	random := rand.New(rand.NewSource(1))
	s := newSample(t)
	s.grow(45)
	const pieces = "{}[]\",:0189-.eu\\bntr/ \x00\n\x1f\u007fé\u2028\ufb03\U0001f511\xff\xc3"
	both := 0
	for round := 0; round < 60_000; round++ {
		text := []byte(s.segments[0][random.Intn(40)])
		for changes := random.Intn(3); changes >= 0; changes-- {
			at, from := random.Intn(len(text)), random.Intn(len(pieces))
			to := from + 1 + random.Intn(2)
			if to > len(pieces) {
				to = len(pieces)
			}
			cut := at + random.Intn(2)
			text = append(append(append([]byte(nil), text[:at]...), pieces[from:to]...), text[cut:]...)
		}
		got, want := accepted(string(text)), canonicalByJSON(text)
		if got != want {
			t.Fatalf("accepted: %v, but encoding/json: %v, of %q", got, want, text)
		}
		if got {
			both++
		}
	}
	if both < 300 {
		t.Errorf("only %d texts were canonical", both)
	}
}

func canonicalByJSON(text []byte) bool {
	if !utf8.Valid(text) {
		return false
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var value map[string]any
	if decoder.Decode(&value) != nil || value == nil {
		return false
	}
	return onlyIntegers(value) && canonical(value) == string(text)
}

func onlyIntegers(value any) bool {
	switch value := value.(type) {
	case json.Number:
		var number uint64
		return json.Unmarshal([]byte(value), &number) == nil
	case map[string]any:
		for _, one := range value {
			if !onlyIntegers(one) {
				return false
			}
		}
	case []any:
		for _, one := range value {
			if !onlyIntegers(one) {
				return false
			}
		}
	case nil, bool:
		return false
	}
	return true
}

// The document and the verifier name the same members: who adds one to the format adds it here, too.
func TestMembersAreThoseOfTheDocument(t *testing.T) {
	document, err := os.ReadFile("../../docs/audit-format.md")
	must(t, err)
	for heading, shape := range map[string]shape{"### Header": header, "### Record": record} {
		_, section, found := strings.Cut(string(document), "\n"+heading+"\n")
		if !found {
			t.Fatalf("the document has no section %q", heading)
		}
		section, _, _ = strings.Cut(section, "\n#")
		var named, known []string
		for _, row := range regexp.MustCompile("(?m)^\\| (`[^|]*) \\|").FindAllStringSubmatch(section, -1) {
			for _, name := range regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(row[1], -1) {
				named = append(named, name[1])
			}
		}
		for name := range shape.forms {
			// Every line has it; the header's table does not repeat it.
			if heading == "### Record" || name != "v" {
				known = append(known, name)
			}
		}
		sort.Strings(named)
		sort.Strings(known)
		if strings.Join(named, " ") != strings.Join(known, " ") {
			t.Errorf("%s of the document:\n%v\nand of the verifier:\n%v", heading, named, known)
		}
	}
}
