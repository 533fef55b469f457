package text

import (
	"strings"
	"testing"

	"github.com/charmbracelet/x/ansi"
)

// Width has a way of its own for what is known to take one cell a character.
func TestWidthIsWhatTheTerminalTakes(t *testing.T) {
	for r := range asciiOnly {
		if n := ansi.StringWidth(string(r)); n != 1 {
			t.Errorf("%q has a stand-in of one cell and takes %d", r, n)
		}
	}
	for _, s := range []string{
		"", "plain text", "1.4 s of 60 s · gone → created", "\x1b[1mbold\x1b[0m", "tab\there", "中文", "e\u0301", "✓\ufe0f", "👩‍👩‍👧 x", "del\x7f", "bad\xff",
	} {
		if got, want := Width(s), ansi.StringWidth(s); got != want {
			t.Errorf("%q: width %d, want %d", s, got, want)
		}
	}
}

func TestWrapLosesNothingAndFits(t *testing.T) {
	for _, s := range []string{
		"a", "two words", " leads with a space", "ends with one ", "two  spaces", "中文 is twice as wide as it looks 中文",
		"a-word-that-is-wider-than-any-line and others", "→ arrows → all → the → way",
	} {
		for w := 8; w < 30; w++ {
			lines := Wrap(s, w)
			for _, l := range lines {
				if ansi.StringWidth(l) > w {
					t.Errorf("wrap(%q, %d) has %q", s, w, l)
				}
			}
			bare := func(s string) string { return strings.ReplaceAll(s, " ", "") }
			if got := bare(strings.Join(lines, "")); got != bare(s) {
				t.Errorf("wrap(%q, %d) holds %q", s, w, got)
			}
		}
	}
}
