package ui

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
	symDone    = "✓"
	symNow     = "▸"
	symLater   = "·"
	symWarn    = "!"
	symBad     = "✗"
	symSkipped = "–"
	symWaits   = "○" // for the other nodes
	symMaybe   = "?" // runs only if its condition comes true
)

// look is how things are drawn on this terminal: the 16 colours, which the
// user's theme makes readable on light and on dark, bold, faint and reverse.
type look struct {
	ascii bool

	bold, faint, reverse lipgloss.Style
	good, warn, bad      lipgloss.Style
}

func newLook(getenv func(string) string) look {
	r := lipgloss.NewRenderer(io.Discard)
	r.SetHasDarkBackground(true) // never asked for, and never asks the terminal
	r.SetColorProfile(termenv.ANSI)
	l := look{
		ascii:   !term.Unicode(getenv),
		bold:    r.NewStyle().Bold(true),
		faint:   r.NewStyle().Faint(true),
		reverse: r.NewStyle().Reverse(true),
	}
	l.good, l.warn, l.bad = r.NewStyle(), r.NewStyle().Bold(true), r.NewStyle().Bold(true)
	if term.Colour(getenv) {
		l.good = l.good.Foreground(lipgloss.Color("2"))
		l.warn = l.warn.Foreground(lipgloss.Color("3"))
		l.bad = l.bad.Foreground(lipgloss.Color("1"))
	}
	return l
}

// symbol colours a symbol by what it says.
func (l look) symbol(s string) string {
	switch s {
	case symDone:
		return l.good.Render(s)
	case symWarn:
		return l.warn.Render(s)
	case symBad:
		return l.bad.Render(s)
	case symNow:
		return l.bold.Render(s)
	}
	return s
}

// finish turns a finished text into what this terminal can show.
func (l look) finish(s string) string {
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

// spin is what turns while something is awaited.
func spin(now time.Time) string {
	return string(spinner[int(now.UnixMilli()/100)%len(spinner)])
}
