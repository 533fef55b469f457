package pane

import (
	"strings"

	tea "github.com/charmbracelet/bubbletea"
	"github.com/charmbracelet/x/ansi"

	"etcd-rewind/ui/text"
)

// Search asks for a text, and finds it.
type Search struct {
	typing *Field
	text   string // that was looked for last
}

// Open asks for a text.
func (s *Search) Open(l text.Look) { s.typing = NewField(l, "") }

// Asks says whether keys go into the text.
func (s *Search) Asks() bool { return s.typing != nil }

// View is the line that asks, in w cells.
func (s *Search) View(w int) string { return text.Fit(" Search "+s.typing.View(w-9), w) }

// Key takes a key of the text, and returns what is looked for once it is
// complete: an empty text is the last one again.
func (s *Search) Key(k tea.KeyMsg) string {
	switch k.String() {
	case "esc":
		s.typing = nil
	case "enter":
		if typed := strings.TrimSpace(s.typing.Value()); typed != "" {
			s.text = typed
		}
		s.typing = nil
		return s.text
	default:
		s.typing.Key(k)
	}
	return ""
}

// Find is the first row after at that has a text in it, whatever its case, from
// the start again after the last one; -1 for none.
func Find(rows []string, at int, want string) int {
	want = strings.ToLower(want)
	for n := range rows {
		if i := (at + 1 + n) % len(rows); strings.Contains(strings.ToLower(ansi.Strip(rows[i])), want) {
			return i
		}
	}
	return -1
}
