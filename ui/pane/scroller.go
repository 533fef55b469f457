package pane

import "etcd-rewind/ui/text"

// Move moves in a list of n with a cursor; it says whether the key was one
// that moves.
func Move(cur, n int, key string, page int) (int, bool) {
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

// Scroller shows a window of lines that are more than fit.
type Scroller struct{ Top int }

// Key moves the window; it says whether the key was one of its own.
func (s *Scroller) Key(key string, height int) bool {
	switch key {
	case "up", "k":
		s.Top--
	case "down", "j":
		s.Top++
	case "pgup", "b":
		s.Top -= height - 1
	case "pgdown", " ", "f":
		s.Top += height - 1
	case "home", "g":
		s.Top = 0
	case "end", "G":
		s.Top = 1 << 30
	default:
		return false
	}
	return true
}

// Show moves the window so that the lines from first to last are in it.
func (s *Scroller) Show(first, last, height int) {
	if last >= s.Top+height {
		s.Top = last - height + 1
	}
	if first < s.Top {
		s.Top = first
	}
}

// Window returns the lines to be seen and, where there are more, says so in
// words such as "lines 1-17 of 40".
func (s *Scroller) Window(lines []string, height int) (seen []string, where string) {
	from, to, where := s.Span(len(lines), height)
	return lines[from:to], where
}

// Span is window for lines that aren't made yet: those from from up to to are
// to be seen.
func (s *Scroller) Span(n, height int) (from, to int, where string) {
	s.Top = max(0, min(s.Top, n-height))
	to = min(n, s.Top+height)
	if n > height {
		where = "lines " + text.Number(int64(s.Top+1)) + " to " + text.Number(int64(to)) + " of " + text.Number(int64(n))
	}
	return s.Top, to, where
}
