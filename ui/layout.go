package ui

import (
	"strings"

	"github.com/charmbracelet/x/ansi"

	"etcd-rewind/trust"
)

// clean is for text from outside, such as a path or a container's log: each
// piece for itself, before pieces are joined.
func clean(s string) string { return trust.Text(s) }

func cleanAll(lines []string) []string { return trust.Lines(lines) }

// width is how many cells s takes.
func width(s string) int {
	n := 0
	for _, r := range s {
		if (r < ' ' || r > '~') && asciiOnly[r] == 0 { // what has a stand-in is one cell wide
			return ansi.StringWidth(s)
		}
		n++
	}
	return n
}

// shortPath shows a path in at most w cells: whole, or as many of its last
// elements as fit, or the end of the last one.
func shortPath(path string, w int) string {
	if width(path) <= w {
		return path
	}
	for i, r := range path {
		if r == '/' && i > 0 && 1+width(path[i:]) <= w {
			return "…" + path[i:]
		}
	}
	if base := path[strings.LastIndexByte(path, '/')+1:]; width(base) <= w {
		return base
	}
	return cutMiddle(path[strings.LastIndexByte(path, '/')+1:], w)
}

// cutMiddle shortens s to at most w cells and keeps both ends: of a path, where
// it lies and what it is called.
func cutMiddle(s string, w int) string {
	if width(s) <= w || w < 5 {
		return cut(s, w)
	}
	head := (w - 1) / 3
	return ansi.Truncate(s, head, "") + cutLeft(s, w-head)
}

// cut shortens s to at most w cells.
func cut(s string, w int) string {
	switch {
	case w <= 0:
		return ""
	case width(s) <= w:
		return s
	}
	return ansi.Truncate(s, w, "…")
}

// cutLeft shortens s to at most w cells and keeps its end: for paths.
func cutLeft(s string, w int) string {
	n := width(s)
	if n <= w {
		return s
	}
	if w <= 1 {
		return cut(s, w)
	}
	return ansi.TruncateLeft(s, n-w+1, "…")
}

// fit makes s exactly w cells wide.
func fit(s string, w int) string {
	s = cut(s, w)
	return s + strings.Repeat(" ", max(0, w-width(s)))
}

// right makes s exactly w cells wide, flush right.
func right(s string, w int) string {
	s = cut(s, w)
	return strings.Repeat(" ", max(0, w-width(s))) + s
}

// apart puts left and right at the two ends of w cells; the left one gives way.
func apart(left, right string, w int) string {
	n := width(right)
	if n == 0 {
		return cut(left, w)
	}
	return fit(left, w-n-2) + "  " + cut(right, w)
}

// wrap breaks s into lines of at most w cells, at spaces only: a flag or a
// path stays in one piece unless it is wider than a line.
func wrap(s string, w int) []string { return wrapWords(s, w, true) }

// wrapWords is wrap. What is wider than a line is broken on a screen, which has
// no more than its lines; in text that is printed it stays whole, so that paths
// and commands can be copied.
func wrapWords(s string, w int, breaks bool) []string {
	if s == "" || w <= 0 {
		return nil
	}
	if width(s) <= w {
		return []string{strings.TrimRight(s, " ")}
	}
	var lines []string
	line, full := "", 0 // and its width
	for i, word := range strings.Split(s, " ") {
		n := width(word)
		switch {
		case i > 0 && full+1+n <= w:
			line += " " + word
			full += 1 + n
			continue
		case i > 0:
			lines = append(lines, strings.TrimRight(line, " "))
		}
		line, full = word, n
		if n > w && breaks {
			pieces := broken(word, w)
			lines = append(lines, pieces[:len(pieces)-1]...)
			line = pieces[len(pieces)-1]
			full = width(line)
		}
	}
	return append(lines, strings.TrimRight(line, " "))
}

// broken breaks a word that is wider than a line, a path after one of its
// slashes.
func broken(word string, w int) []string {
	if strings.Contains(word, "\x1b") {
		return strings.Split(ansi.Hardwrap(word, w, false), "\n")
	}
	var out []string
	for width(word) > w {
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

// hang wraps s behind a lead; the following lines are indented as far.
func hang(lead, s string, w int) []string { return hangWords(lead, s, w, true) }

// hangText is hang for text that is printed: no word is broken.
func hangText(lead, s string, w int) []string { return hangWords(lead, s, w, false) }

func hangWords(lead, s string, w int, breaks bool) []string {
	n := width(lead)
	lines := wrapWords(s, max(w-n, 8), breaks)
	for i, l := range lines {
		if i == 0 {
			lines[i] = lead + l
		} else {
			lines[i] = strings.Repeat(" ", n) + l
		}
	}
	return lines
}

// indent puts n spaces before each line.
func indent(n int, lines []string) []string {
	out := make([]string, 0, len(lines))
	for _, l := range lines {
		if l != "" {
			l = strings.Repeat(" ", n) + l
		}
		out = append(out, l)
	}
	return out
}

// box makes lines exactly h lines of exactly w cells.
func box(lines []string, w, h int) []string {
	out := make([]string, h)
	for i := range out {
		if i < len(lines) {
			out[i] = fit(lines[i], w)
		} else {
			out[i] = strings.Repeat(" ", max(w, 0))
		}
	}
	return out
}

// moveIn moves in a list of n with a cursor; it says whether the key was one
// that moves.
func moveIn(cur, n int, key string, page int) (int, bool) {
	page = max(1, page)
	switch key {
	case "up", "k":
		cur--
	case "down", "j":
		cur++
	case "pgup", "b":
		cur -= page
	case "pgdown", "f":
		cur += page
	case "home", "g":
		cur = 0
	case "end", "G":
		cur = n - 1
	default:
		return cur, false
	}
	return max(0, min(n-1, cur)), true
}

// scroller shows a window of lines that are more than fit.
type scroller struct{ top int }

// key moves the window; it says whether the key was one of its own.
func (s *scroller) key(key string, height int) bool {
	switch key {
	case "up", "k":
		s.top--
	case "down", "j":
		s.top++
	case "pgup", "b":
		s.top -= height - 1
	case "pgdown", " ", "f":
		s.top += height - 1
	case "home", "g":
		s.top = 0
	case "end", "G":
		s.top = 1 << 30
	default:
		return false
	}
	return true
}

// show moves the window so that the lines from first to last are in it.
func (s *scroller) show(first, last, height int) {
	if last >= s.top+height {
		s.top = last - height + 1
	}
	if first < s.top {
		s.top = first
	}
}

// window returns the lines to be seen and, where there are more, says so in
// words such as "lines 1-17 of 40".
func (s *scroller) window(lines []string, height int) (seen []string, where string) {
	from, to, where := s.span(len(lines), height)
	return lines[from:to], where
}

// span is window for lines that aren't made yet: those from from up to to are
// to be seen.
func (s *scroller) span(n, height int) (from, to int, where string) {
	s.top = max(0, min(s.top, n-height))
	to = min(n, s.top+height)
	if n > height {
		where = "lines " + number(int64(s.top+1)) + " to " + number(int64(to)) + " of " + number(int64(n))
	}
	return s.top, to, where
}
