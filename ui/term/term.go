// Package term reports what the terminal can show, from the environment alone:
// it never queries the terminal.
//
// It has to be initialised before bubbletea, whose init asks lipgloss for the
// background colour; lipgloss then queries the terminal and waits up to five
// seconds for one that doesn't answer. Go initialises packages in the order of
// their import paths as far as dependencies allow, and this path sorts before
// github.com/charmbracelet/bubbletea. So this package may import lipgloss and
// the standard library and nothing else.
package term

import (
	"os"
	"strconv"
	"strings"

	"github.com/charmbracelet/lipgloss"
)

func init() {
	lipgloss.SetHasDarkBackground(dark(os.Getenv("COLORFGBG")))
}

// dark reads COLORFGBG, "foreground;background" with an optional middle part,
// as rxvt, Konsole and others set it. Colours 7 and 9 to 15 are light
// backgrounds; without a usable value most terminals are dark.
func dark(colorfgbg string) bool {
	_, back, found := strings.Cut(colorfgbg, ";")
	if !found {
		return true
	}
	if i := strings.LastIndex(back, ";"); i >= 0 {
		back = back[i+1:]
	}
	n, err := strconv.Atoi(back)
	return err != nil || n < 7 || n == 8
}

// Colour says whether colours are wanted: not with NO_COLOR set to anything
// (no-color.org), nor on a terminal that has none.
func Colour(getenv func(string) string) bool {
	t := getenv("TERM")
	return getenv("NO_COLOR") == "" && t != "dumb" && !strings.HasSuffix(t, "-m") && !strings.HasSuffix(t, "-mono")
}

// Unicode says whether the screen may use more than ASCII: the locale's
// character set is UTF-8, and the terminal isn't Linux' own console, whose
// fonts lack most symbols.
func Unicode(getenv func(string) string) bool {
	if getenv("TERM") == "linux" {
		return false
	}
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := getenv(name); v != "" {
			v = strings.ToLower(v)
			return strings.Contains(v, "utf-8") || strings.Contains(v, "utf8")
		}
	}
	return false
}
