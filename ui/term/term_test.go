package term

import (
	"strings"
	"testing"
)

func env(pairs ...string) func(string) string {
	return func(name string) string {
		for _, p := range pairs {
			if v, ok := strings.CutPrefix(p, name+"="); ok {
				return v
			}
		}
		return ""
	}
}

func TestBackground(t *testing.T) {
	for value, want := range map[string]bool{
		"": true, "15;0": true, "0;15": false, "0;7": false, "7;8": true, "15;default;0": true, "0;default;15": false, "nonsense": true, "0;": true, "0;default": true,
	} {
		if got := dark(value); got != want {
			t.Errorf("COLORFGBG=%q is dark: %v", value, got)
		}
	}
}

func TestColour(t *testing.T) {
	for _, tc := range []struct {
		env  []string
		want bool
	}{
		{[]string{"TERM=xterm-256color"}, true},
		{[]string{"TERM=xterm", "NO_COLOR="}, true},
		{[]string{"TERM=xterm", "NO_COLOR=0"}, false},
		{[]string{"TERM=dumb"}, false},
		{[]string{"TERM=vt220-m"}, false},
	} {
		if got := Colour(env(tc.env...)); got != tc.want {
			t.Errorf("%v: %v", tc.env, got)
		}
	}
}

func TestUnicode(t *testing.T) {
	for _, tc := range []struct {
		env  []string
		want bool
	}{
		{nil, false},
		{[]string{"LANG=C.UTF-8"}, true},
		{[]string{"LANG=de_DE.utf8"}, true},
		{[]string{"LANG=en_US.UTF-8", "LC_ALL=C"}, false},
		{[]string{"LANG=C", "LC_CTYPE=C.UTF-8"}, true},
		{[]string{"LANG=C.UTF-8", "LC_ALL="}, true},
		{[]string{"LANG=en_US.ISO-8859-1"}, false},
		{[]string{"LANG=C.UTF-8", "TERM=linux"}, false},
	} {
		if got := Unicode(env(tc.env...)); got != tc.want {
			t.Errorf("%v: %v", tc.env, got)
		}
	}
}
