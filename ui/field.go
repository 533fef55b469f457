package ui

import (
	"github.com/charmbracelet/bubbles/cursor"
	"github.com/charmbracelet/bubbles/textinput"
	tea "github.com/charmbracelet/bubbletea"
)

// field is a line of text to type into.
type field struct{ input textinput.Model }

func newField(l look, value string) *field {
	in := textinput.New()
	in.Prompt = "> "
	in.CharLimit = 4096 // PATH_MAX
	in.Cursor.SetMode(cursor.CursorStatic)
	in.Cursor.Style, in.Cursor.TextStyle = l.bold, l.bold
	in.SetValue(value)
	in.CursorEnd()
	in.Focus()
	return &field{in}
}

// key passes a key on. Pasting with ctrl+v would ask the clipboard of the
// machine, which isn't the user's; the terminal's own paste works.
func (f *field) key(k tea.KeyMsg) {
	if k.String() == "ctrl+v" {
		return
	}
	f.input, _ = f.input.Update(k)
}

func (f *field) value() string { return f.input.Value() }

func (f *field) set(v string) {
	f.input.SetValue(v)
	f.input.CursorEnd()
}

func (f *field) view(w int) string {
	f.input.Width = max(4, w-4) // prompt, cursor, and one to spare
	return f.input.View()
}
