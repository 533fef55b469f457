package text

import (
	"io"
	"strings"
	"time"

	"github.com/charmbracelet/lipgloss"
	"github.com/charmbracelet/x/ansi"
	"github.com/muesli/termenv"

	"etcd-rewind/ui/term"
)

// Symbols that say a state, so that no state is said by colour alone. Each has
// a stand-in of the same width in asciiOnly.
const (
	SymDone    = "✓"
	SymNow     = "▸"
	SymLater   = "·"
	SymWarn    = "!"
	SymBad     = "✗"
	SymSkipped = "–"
	SymWaits   = "○" // for the other nodes
	SymMaybe   = "?" // runs only if its condition comes true
)

// Look is how things are drawn on this terminal: the 16 colours, which the
// user's theme makes readable on light and on dark, bold, faint and reverse.
type Look struct {
	ascii bool

	Bold, Faint, Reverse lipgloss.Style
	Good, Warn, Bad      lipgloss.Style
}

// NewLook reads from the environment what this terminal can show.
func NewLook(getenv func(string) string) Look {
	r := lipgloss.NewRenderer(io.Discard)
	r.SetHasDarkBackground(true) // never asked for, and never asks the terminal
	r.SetColorProfile(termenv.ANSI)
	l := Look{
		ascii:   !term.Unicode(getenv),
		Bold:    r.NewStyle().Bold(true),
		Faint:   r.NewStyle().Faint(true),
		Reverse: r.NewStyle().Reverse(true),
	}
	l.Good, l.Warn, l.Bad = r.NewStyle(), r.NewStyle().Bold(true), r.NewStyle().Bold(true)
	if term.Colour(getenv) {
		l.Good = l.Good.Foreground(lipgloss.Color("2"))
		l.Warn = l.Warn.Foreground(lipgloss.Color("3"))
		l.Bad = l.Bad.Foreground(lipgloss.Color("1"))
	}
	return l
}

// Symbol colours a symbol by what it says.
func (l Look) Symbol(s string) string {
	switch s {
	case SymDone:
		return l.Good.Render(s)
	case SymWarn:
		return l.Warn.Render(s)
	case SymBad:
		return l.Bad.Render(s)
	case SymNow:
		return l.Bold.Render(s)
	}
	return s
}

// Finish turns a finished text into what this terminal can show.
func (l Look) Finish(s string) string {
	if l.ascii {
		return toASCII(s)
	}
	return s
}

var asciiOnly = map[rune]byte{
	'✓': '+', '▸': '>', '·': '-', '✗': 'x', '–': '-', '—': '-', '…': '~', '│': '|', '─': '-',
	'→': '>', '←': '<', '↑': '^', '↓': 'v', '●': '*', '○': 'o', '█': '#', '░': '.', '×': 'x', '≥': '>', '’': '\'',
	'⠋': '|', '⠙': '/', '⠹': '-', '⠸': '\\', '⠼': '|', '⠴': '/', '⠦': '-', '⠧': '\\', '⠇': '|', '⠏': '/',
}

// toASCII replaces what isn't ASCII by something of the same width.
func toASCII(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch stand, known := asciiOnly[r]; {
		case r < 0x80:
			b.WriteRune(r)
		case known:
			b.WriteByte(stand)
		default:
			b.WriteString(strings.Repeat("?", ansi.StringWidth(string(r))))
		}
	}
	return b.String()
}

var spinner = []rune("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏")

// Spin is what turns while something is awaited.
func Spin(now time.Time) string {
	return string(spinner[int(now.UnixMilli()/100)%len(spinner)])
}
