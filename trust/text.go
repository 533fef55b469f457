package trust

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Text makes a string from outside safe to show, in one line: no escape
// sequences, no control characters (C0, DEL, C1), no invisible or bidirectional
// formatting, no heap of marks on one character, no invalid UTF-8; tabs are
// spaces. A sequence without an end loses
// its escape character only, so that it swallows nothing of what follows; still
// each element is cleaned before elements are joined. Safe to call twice.
func Text(s string) string {
	if printable(s) {
		return s
	}
	s = unescaped(strings.ReplaceAll(s, "\t", "    "))
	marks := 0 // on the character before
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.In(r, unicode.Mn, unicode.Me) && !hidden(r):
			if marks++; marks > maxMarks {
				return -1
			}
			return r
		case r == '\n' || r == '\r' || r == '\u2028' || r == '\u2029':
			return ' '
		case hidden(r) || r == unicode.ReplacementChar:
			return -1
		}
		marks = 0
		return r
	}, s)
}

// maxMarks are the combining marks that a character keeps. No script has more
// than four on one.
const maxMarks = 4

// hidden says whether a character doesn't show as one, and may change how
// others do: C0, DEL, C1, formatting such as a change of direction, and fillers.
func hidden(r rune) bool {
	return unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Other_Default_Ignorable_Code_Point)
}

// maxSequence is the longest escape sequence that is taken for one.
const maxSequence = 256

// unescaped takes the escape sequences of terminals out (ECMA-48): CSI, strings
// such as a window's title, and the choice of a character set.
func unescaped(s string) string {
	var b strings.Builder
	for {
		i := strings.IndexByte(s, 0x1b)
		if i < 0 {
			b.WriteString(s)
			return b.String()
		}
		b.WriteString(s[:i])
		s = s[i+1+sequence(s[i+1:min(len(s), i+1+maxSequence)]):]
	}
}

// sequence is how long the sequence is whose escape character was before s; 0
// when it isn't a whole one.
func sequence(s string) int {
	if s == "" {
		return 0
	}
	switch s[0] {
	case '[':
		end := strings.IndexFunc(s[1:], func(r rune) bool { return r < '0' || r > '?' })
		if end >= 0 && s[1+end] >= '@' && s[1+end] <= '~' {
			return end + 2
		}
	case ']', 'P', 'X', '^', '_':
		end := strings.IndexAny(s, "\a\x1b\n")
		switch {
		case end < 0:
		case s[end] == '\a':
			return end + 1
		case strings.HasPrefix(s[end:], "\x1b\\"):
			return end + 2
		}
	case '(', ')':
		return min(2, len(s))
	}
	return 0
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
