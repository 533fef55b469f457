package text

import (
	"fmt"
	"strings"

	"github.com/charmbracelet/x/ansi"
)

// Width is how many cells s takes.
func Width(s string) int {
	n := 0
	for _, r := range s {
		if (r < ' ' || r > '~') && asciiOnly[r] == 0 { // what has a stand-in is one cell wide
			return ansi.StringWidth(s)
		}
		n++
	}
	return n
}

// ShortPath shows a path in at most w cells: whole, or as many of its last
// elements as fit, or the end of the last one.
func ShortPath(path string, w int) string {
	if Width(path) <= w {
		return path
	}
	for i, r := range path {
		if r == '/' && i > 0 && 1+Width(path[i:]) <= w {
			return "…" + path[i:]
		}
	}
	if base := path[strings.LastIndexByte(path, '/')+1:]; Width(base) <= w {
		return base
	}
	return CutMiddle(path[strings.LastIndexByte(path, '/')+1:], w)
}

// CutMiddle shortens s to at most w cells and keeps both ends: of a path, where
// it lies and what it is called.
func CutMiddle(s string, w int) string {
	if Width(s) <= w || w < 5 {
		return Cut(s, w)
	}
	head := (w - 1) / 3
	return ansi.Truncate(s, head, "") + CutLeft(s, w-head)
}

// Cut shortens s to at most w cells.
func Cut(s string, w int) string {
	switch {
	case w <= 0:
		return ""
	case Width(s) <= w:
		return s
	}
	return ansi.Truncate(s, w, "…")
}

// CutLeft shortens s to at most w cells and keeps its end: for paths.
func CutLeft(s string, w int) string {
	n := Width(s)
	if n <= w {
		return s
	}
	if w <= 1 {
		return Cut(s, w)
	}
	return ansi.TruncateLeft(s, n-w+1, "…")
}

// Fit makes s exactly w cells wide.
func Fit(s string, w int) string {
	s = Cut(s, w)
	return s + strings.Repeat(" ", max(0, w-Width(s)))
}

// FitRight makes s exactly w cells wide, flush right.
func FitRight(s string, w int) string {
	s = Cut(s, w)
	return strings.Repeat(" ", max(0, w-Width(s))) + s
}

// Apart puts left and right at the two ends of w cells; the left one gives way.
func Apart(left, right string, w int) string {
	n := Width(right)
	if n == 0 {
		return Cut(left, w)
	}
	return Fit(left, w-n-2) + "  " + Cut(right, w)
}

// Wrap breaks s into lines of at most w cells, at spaces only: a flag or a
// path stays in one piece unless it is wider than a line.
func Wrap(s string, w int) []string { return wrapWords(s, w, true) }

// wrapWords is Wrap. What is wider than a line is broken on a screen, which has
// no more than its lines; in text that is printed it stays whole, so that paths
// and commands can be copied.
func wrapWords(s string, w int, breaks bool) []string {
	if s == "" || w <= 0 {
		return nil
	}
	if Width(s) <= w {
		return []string{strings.TrimRight(s, " ")}
	}
	var lines []string
	from, full := 0, 0 // where the line begins in s, and its width
	for at, more := 0, true; more; {
		var word string
		word, _, more = strings.Cut(s[at:], " ")
		n, end := Width(word), at+len(word)
		if at > 0 && full+1+n <= w {
			full += 1 + n
		} else {
			if at > 0 {
				lines = append(lines, strings.TrimRight(s[from:at-1], " "))
			}
			from, full = at, n
			if n > w && breaks {
				pieces := broken(word, w)
				last := pieces[len(pieces)-1]
				lines = append(lines, pieces[:len(pieces)-1]...)
				from, full = end-len(last), Width(last)
			}
		}
		at = end + 1
	}
	return append(lines, strings.TrimRight(s[from:], " "))
}

// broken breaks a word that is wider than a line, a path after one of its
// slashes. The pieces together are the word.
func broken(word string, w int) []string {
	if strings.Contains(word, "\x1b") {
		return strings.Split(ansi.Hardwrap(word, w, true), "\n")
	}
	var out []string
	for Width(word) > w {
		n := len(ansi.Truncate(word, w, ""))
		if n == 0 {
			break // a character wider than the line
		}
		if i := strings.LastIndexByte(word[:n], '/'); i >= n/2 {
			n = i + 1
		}
		out, word = append(out, word[:n]), word[n:]
	}
	return append(out, word)
}

// Hang wraps s behind a lead; the following lines are indented as far.
func Hang(lead, s string, w int) []string { return hangWords(lead, s, w, true) }

// HangWhole is Hang for text that is printed: no word is broken.
func HangWhole(lead, s string, w int) []string { return hangWords(lead, s, w, false) }

func hangWords(lead, s string, w int, breaks bool) []string {
	n := Width(lead)
	lines := wrapWords(s, max(w-n, 8), breaks)
	for i, l := range lines {
		lines[i] = lead + l
		if i == 0 && len(lines) > 1 {
			lead = strings.Repeat(" ", n)
		}
	}
	return lines
}

// Indent puts n spaces before each line.
func Indent(n int, lines []string) []string {
	out := make([]string, 0, len(lines))
	for _, l := range lines {
		if l != "" {
			l = strings.Repeat(" ", n) + l
		}
		out = append(out, l)
	}
	return out
}

// Box makes lines exactly h lines of exactly w cells.
func Box(lines []string, w, h int) []string {
	out := make([]string, h)
	for i := range out {
		if i < len(lines) {
			out[i] = Fit(lines[i], w)
		} else {
			out[i] = strings.Repeat(" ", max(w, 0))
		}
	}
	return out
}

// Narrow wraps the lines that don't fit, indented a little more than they are.
func Narrow(lines []string, w int) []string {
	var out []string
	for _, l := range lines {
		if Width(l) <= w {
			out = append(out, l)
			continue
		}
		text := strings.TrimLeft(l, " ")
		n := len(l) - len(text)
		for i, part := range Wrap(text, w-n-2) {
			if i > 0 {
				part = "  " + part
			}
			out = append(out, strings.Repeat(" ", n)+part)
		}
	}
	return out
}

// Columns lays names out in as many columns as fit, at most h lines.
func Columns(names []string, w, h int) []string {
	wide := 0
	for _, n := range names {
		wide = max(wide, Width(n)+2)
	}
	if wide == 0 || h <= 0 {
		return nil
	}
	across := max(1, w/wide)
	var out []string
	for i := 0; i < len(names); i += across {
		if len(out) == h-1 && i+across < len(names) {
			return append(out, fmt.Sprintf("and %d more", len(names)-i))
		}
		row := ""
		for _, n := range names[i:min(i+across, len(names))] {
			row += Fit(n, wide)
		}
		out = append(out, Cut(strings.TrimRight(row, " "), w))
	}
	return out
}
