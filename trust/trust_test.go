package trust

import (
	"os/exec"
	"testing"
)

// A name that a snapshot holds is one word for a shell, on one line, whatever
// is in it.
func TestQuotedTextIsOneWordOnOneLine(t *testing.T) {
	for _, s := range []string{"plain", "it's", "a b", "", "x\nrm -rf /", "esc\x1b]0;t\a", "100%\n", `back\slash` + "\n'", "$(id)\r`id`"} {
		word := Quote(s)
		if Text(word) != word {
			t.Errorf("%q is quoted with something that isn't shown: %q", s, word)
		}
		out, err := exec.Command("sh", "-c", "printf %s. "+word).Output()
		want := s
		for len(want) > 0 && want[len(want)-1] == '\n' {
			want = want[:len(want)-1] // as command substitution does
		}
		if want != s && want+"." != string(out) || want == s && s+"." != string(out) {
			t.Errorf("%q became %q by %s (%v)", s, out, word, err)
		}
	}
}

func TestAHostIsANameOrAnAddress(t *testing.T) {
	for _, good := range []string{"cp1", "cp1.example.com", "10.0.0.1", "::1", "[fd00::1]", "node_1"} {
		if err := Host(good); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []string{"", "-oProxyCommand=id", "a b", "a;b", "a\nb", "a..b", "x'", "root@x"} {
		if Host(bad) == nil {
			t.Errorf("%q passes", bad)
		}
	}
}
