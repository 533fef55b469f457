package pane

import (
	"strings"

	"github.com/charmbracelet/bubbles/cursor"
	"github.com/charmbracelet/bubbles/textinput"
	tea "github.com/charmbracelet/bubbletea"

	"etcd-rewind/trust"
	"etcd-rewind/ui/text"
)

// Field is a line of text to type into.
type Field struct{ input textinput.Model }

// NewField returns a line with value in it and the cursor at its end.
func NewField(l text.Look, value string) *Field {
	in := textinput.New()
	in.Prompt = "> "
	in.CharLimit = 4096 // PATH_MAX
	in.Cursor.SetMode(cursor.CursorStatic)
	in.Cursor.Style, in.Cursor.TextStyle = l.Bold, l.Bold
	in.SetValue(value)
	in.CursorEnd()
	in.Focus()
	return &Field{in}
}

// Key passes a key on. Pasting with ctrl+v would ask the clipboard of the
// machine, which isn't the user's; the terminal's own paste works.
func (f *Field) Key(k tea.KeyMsg) {
	if k.String() == "ctrl+v" {
		return
	}
	f.input, _ = f.input.Update(k)
}

// Value is what was typed.
func (f *Field) Value() string { return f.input.Value() }

// Set replaces what was typed.
func (f *Field) Set(v string) {
	f.input.SetValue(v)
	f.input.CursorEnd()
}

// View is the line in w cells. A character that doesn't show is a question mark.
func (f *Field) View(w int) string {
	f.input.Width = max(4, w-4) // prompt, cursor, and one to spare
	shown := f.input
	shown.SetValue(strings.Map(func(r rune) rune {
		if trust.Text(string(r)) != string(r) {
			return '?'
		}
		return r
	}, f.Value()))
	shown.SetCursor(f.input.Position())
	return shown.View()
}
