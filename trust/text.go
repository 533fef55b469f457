package trust

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/charmbracelet/x/ansi"
)

// Text makes a string from outside safe to show, in one line: no escape
// sequences, no control characters (C0, DEL, C1), no invisible or bidirectional
// formatting, no invalid UTF-8; tabs are spaces. Each element is cleaned before
// elements are joined: an escape sequence without an end swallows what follows.
// Safe to call twice.
func Text(s string) string {
	if printable(s) {
		return s
	}
	s = ansi.Strip(strings.ReplaceAll(s, "\t", "    "))
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\r' || r == '\u2028' || r == '\u2029':
			return ' '
		case unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == unicode.ReplacementChar:
			return -1
		}
		return r
	}, s)
}

// Lines cleans each line with Text.
func Lines(lines []string) []string {
	out := make([]string, 0, len(lines))
	for _, l := range lines {
		out = append(out, Text(strings.TrimRight(l, "\r\n")))
	}
	return out
}

// Clip cuts s to at most limit bytes, at a character, and says how long it was.
func Clip(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	cut := limit
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return fmt.Sprintf("%s… (%d bytes)", s[:cut], len(s))
}

// printable says whether s is printable ASCII and nothing else: most of what is
// shown is.
func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// Quote makes s one word for a POSIX shell, on one line: what has a control
// character in it becomes a printf in a command substitution, so that text
// which is pasted can't break out of its line, or of a comment.
func Quote(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_-./:=,@%+", r)
	}
	switch {
	case s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0:
		return s
	case Text(s) == s:
		return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
	}
	var b strings.Builder
	for _, c := range []byte(s) {
		if c >= ' ' && c <= '~' && !strings.ContainsRune(`'\"$`+"`%", rune(c)) {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, `\%03o`, c)
		}
	}
	return `"$(printf '` + b.String() + `')"`
}
