package trust

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"strings"
	"testing"
	"unicode/utf8"
)

// A name that a snapshot holds is one word for a shell, on one line, whatever
// is in it.
func TestQuotedTextIsOneWordOnOneLine(t *testing.T) {
	for _, s := range []string{"plain", "it's", "a b", "", "x\nrm -rf /", "esc\x1b]0;t\a", "100%\n", `back\slash` + "\n'", "$(id)\r`id`"} {
		word := Quote(s)
		if Text(word) != word {
			t.Errorf("%q is quoted with something that isn't shown: %q", s, word)
		}
		out, err := exec.Command("sh", "-c", "printf %s. "+word).Output()
		want := s
		for len(want) > 0 && want[len(want)-1] == '\n' {
			want = want[:len(want)-1] // as command substitution does
		}
		if want != s && want+"." != string(out) || want == s && s+"." != string(out) {
			t.Errorf("%q became %q by %s (%v)", s, out, word, err)
		}
	}
}

func TestAHostIsANameOrAnAddress(t *testing.T) {
	for _, good := range []string{"cp1", "cp1.example.com", "10.0.0.1", "::1", "[fd00::1]", "node_1"} {
		if err := Host(good); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []string{"", "-oProxyCommand=id", "a b", "a;b", "a\nb", "a..b", "x'", "root@x"} {
		if Host(bad) == nil {
			t.Errorf("%q passes", bad)
		}
	}
}

// What one name begins, and doesn't end, mustn't take the next ones with it.
func TestASequenceWithoutAnEndSwallowsNothing(t *testing.T) {
	for _, begin := range []string{"\x1b]0;", "\x1bP", "\x1b_", "\x1b[", "\x1b[38;5", "\x1b", "\u009d", "\u009b", "\x1b]8;;x"} {
		line := Text("evil" + begin + ", cp2, cp3")
		if !strings.HasSuffix(line, ", cp2, cp3") {
			t.Errorf("%q: %q is left", begin, line)
		}
		if Text(line) != line {
			t.Errorf("%q becomes %q", line, Text(line))
		}
	}
	for in, want := range map[string]string{
		"\x1b[31mred\x1b[0m": "red", "a\x1b]0;title\ab": "ab", "a\x1b]8;;http://x\x1b\\b": "ab", "bold\x1b(B\x1b[m": "bold",
		"a\x1b]0;one\nb\ac": "a]0;one bc", "rtl\u202egnp": "rtlgnp",
	} {
		if got := Text(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// JSON on a terminal moves no cursor and turns no text around, and whoever
// decodes it gets what was there.
// A name is as wide and as high as it looks: no heap of marks on one character,
// which some terminals draw over the lines around it, and nothing that is blank.
func TestANameHasNoHeapOfMarks(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"e" + strings.Repeat("\u0301", 10_000) + "tcd", "e" + strings.Repeat("\u0301", maxMarks) + "tcd"},
		{"a" + strings.Repeat("\u0301\u200d", 100) + "b", "a" + strings.Repeat("\u0301", maxMarks) + "b"},
		{"a\u034f\u115f\u3164\uffa0b", "ab"},
		{"שָׁלוֹם", "שָׁלוֹם"}, // as Hebrew, Thai and Vietnamese are written
		{"ที่นี่", "ที่นี่"},
		{"e\u0323\u0302", "e\u0323\u0302"},
		{"日本語", "日本語"},
	} {
		if got := Text(c.in); got != c.want || Text(got) != got {
			t.Errorf("%.20q…: %d bytes, %.60q", c.in, len(got), got)
		}
	}
}

func TestJSONHasNothingHiddenInIt(t *testing.T) {
	in := []string{"del\x7f", "c1\u009b31m", "bidi\u202egnp.db\u2066", "tag\U000e0041", "soft\u00ad", "esc\x1b", "ünïcode ✓ <&>", "bad\xff", "line\u2028"}
	var b bytes.Buffer
	if err := JSON(&b).Encode(in); err != nil {
		t.Fatal(err)
	}
	line, rest, _ := strings.Cut(b.String(), "\n")
	if rest != "" || strings.IndexFunc(line, hidden) >= 0 || strings.Contains(line, "\u2028") {
		t.Errorf("%q", b.String())
	}
	var out []string
	if err := json.Unmarshal(b.Bytes(), &out); err != nil {
		t.Fatal(err)
	}
	for i, s := range in {
		if out[i] != strings.ToValidUTF8(s, "\ufffd") {
			t.Errorf("%q became %q", s, out[i])
		}
	}
	if !strings.Contains(line, "ünïcode ✓ <&>") {
		t.Errorf("what shows is escaped: %s", line)
	}
}

// FuzzText: what is shown is text, cleaning it twice changes nothing, and an
// element can't swallow the ones after it.
func FuzzText(f *testing.F) {
	for _, s := range []string{"", "plain", "\x1b[31mred\x1b[0m", "\x1b]0;t", "\x1bP", "\u009d", "\u202e", "\xff", "\t\r\n", "\x1b\x1b[[", "\x1b[\x1b[0m0m"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		line := Text(s)
		if strings.IndexFunc(line, hidden) >= 0 || !utf8.ValidString(line) || strings.ContainsAny(line, "\u2028\u2029") {
			t.Errorf("%q becomes %q", s, line)
		}
		if Text(line) != line {
			t.Errorf("%q becomes %q the second time", line, Text(line))
		}
		if all := Text(s + ", next"); !strings.HasSuffix(all, "next") {
			t.Errorf("%q swallows what is after it: %q", s, all)
		}
		if c := Clip(line, 20); len(c) > 60 || !utf8.ValidString(c) {
			t.Errorf("clipped to %q", c)
		}
		var b bytes.Buffer
		var back string
		if err := JSON(&b).Encode(s); err != nil || json.Unmarshal(b.Bytes(), &back) != nil || back != strings.ToValidUTF8(s, "\ufffd") && utf8.ValidString(s) {
			t.Errorf("%q in JSON is %q, %q", s, b.String(), back)
		}
		if strings.IndexFunc(strings.TrimSuffix(b.String(), "\n"), hidden) >= 0 {
			t.Errorf("%q in JSON is %q", s, b.String())
		}
	})
}
