package print

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"etcd-rewind/problem"
	"etcd-rewind/ui/text"
)

// What is piped to grep isn't broken where no terminal is: $COLUMNS says how
// wide lines may be, within limits.
func TestTextForAPipeIsAsWideAsColumnsSays(t *testing.T) {
	phrase := strings.TrimSpace(strings.Repeat("some words ", 30))
	for columns, want := range map[string]int{"": Width, "0": Width, "-5": Width, "wide": Width, "12": minWidth, "132": 132, "999999999": maxWidth} {
		t.Setenv("COLUMNS", columns)
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		if got := WidthOf(w); got != want {
			t.Errorf("COLUMNS=%s: %d columns, want %d", columns, got, want)
		}
		if got := WidthOf(&bytes.Buffer{}); got != Width {
			t.Errorf("COLUMNS=%s: %d columns for what is no file", columns, got)
		}
		told := Failure(w, problem.New("a hint", "%s", phrase))
		_ = w.Close()
		out, err := io.ReadAll(r)
		if err := errors.Join(told, err, r.Close()); err != nil {
			t.Fatal(err)
		}
		if want > len(phrase)+10 && !strings.Contains(string(out), phrase) {
			t.Errorf("COLUMNS=%s breaks the phrase:\n%s", columns, out)
		}
		for _, line := range strings.Split(string(out), "\n") {
			if text.Width(line) > want {
				t.Errorf("COLUMNS=%s: a line of %d: %s", columns, len(line), line)
			}
		}
	}
}
