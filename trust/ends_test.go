package trust

import "testing"

func TestWhatAProgramSaysIsKeptUpToItsBound(t *testing.T) {
	tail, head := &Tail{Most: 4}, &Head{Most: 4}
	for _, say := range []string{"ab", "cdefgh", "i", ""} {
		for _, n := range []func([]byte) (int, error){tail.Write, head.Write} {
			if got, err := n([]byte(say)); got != len(say) || err != nil {
				t.Fatalf("%q: %d %v", say, got, err)
			}
		}
	}
	if got := tail.String(); got != "fghi" {
		t.Errorf("the end is %q", got)
	}
	if got := head.String(); got != "abcd" {
		t.Errorf("the beginning is %q", got)
	}
}
