package graphqlcost

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// JSON is what encoding/json takes for it, and means the same.
func FuzzJSON(f *testing.F) {
	for _, text := range []string{
		`{}`, `[]`, ` [1, -2.5e+10, true, false, null, "a\u00e9\n\"\\"] `, `{"a":{"b":[{}]},"c":""}`, `{"a":1,"a":2}`,
		`01`, `1.`, `.5`, `-`, `1e`, `+1`, `tru`, `nulll`, `"\x"`, `"\u12g4"`, "\"\x10\"", `"\u001"`, "\"\\u\x10\x11\x12\x13\"",
		`[1,]`, `{"a"}`, `{"a":}`, `{a:1}`, `[1 2]`, `[}`, `{]`, `{} {}`, `"\ud83d\ude00"`, `"\ud83d"`, `"\udc00\u0061"`, "\v1",
		strings.Repeat("[", 128) + strings.Repeat("]", 128), strings.Repeat("[", 140) + strings.Repeat("]", 140),
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		err := checkJSON(text)
		if (err == nil) != json.Valid([]byte(text)) && strings.Count(text, "[")+strings.Count(text, "{") < maxJSONNesting {
			t.Fatalf("%q: %v", text, err)
		}
		if err != nil {
			return
		}
		if strings.ToValidUTF8(text, "") != text {
			return // encoding/json writes U+FFFD for it
		}
		var want any
		d := json.NewDecoder(strings.NewReader(text))
		d.UseNumber()
		if err := d.Decode(&want); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if got := read(value(strings.Trim(text, " \t\r\n"))); !reflect.DeepEqual(want, got) {
			t.Fatalf("%q is read as %v, and not as %v", text, got, want)
		}
	})
}

// read reads a value by what the package reads of it.
func read(v value) any {
	switch v[0] {
	case '{':
		all := map[string]any{}
		for name, member := range v.members {
			all[name] = read(member)
		}
		return all
	case '[':
		all := []any{}
		for item := range v.items {
			all = append(all, read(item))
		}
		return all
	case '"':
		return unquoted(string(v))
	case 't', 'f':
		return v == "true"
	case 'n':
		return nil
	}
	return json.Number(v)
}

func TestParseWeight(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{
		"0": 0, "1": 1000, "5.0": 5000, "0.25": 250, "-2": -2000, "-0.001": -1, "1000000000": 1e12, "12.": 12_000,
	} {
		n, err := parseWeight(text)
		assert.NoError(t, err)
		assert.Equal(t, want, n, text)
	}
	for _, text := range []string{"", "-", ".5", "1.0001", "1e3", "+1", "x", "1000000001", "99999999999999999999", "--1", "0x1", "1.-5"} {
		_, err := parseWeight(text)
		assert.Error(t, err, text)
	}
}
