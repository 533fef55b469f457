package drill

import (
	"io"
	"testing"

	"etcd-rewind/trust"
)

func TestAProgramsLastWordsSayWhyItEnded(t *testing.T) {
	for log, want := range map[string]string{
		"": "",
		`{"level":"info","msg":"starting"}
{"level":"fatal","msg":"failed to open","error":"no space"}
{"level":"info","msg":"closing"}`: "failed to open: no space",
		"I1126 07:50:40.777224      12 a.go:1] fine\nE1126 07:50:41.1      12 b.go:2] not fine\nI1126 07:50:42.1 12 c.go:3] going on\n": "not fine",
		"W1126 07:50:40.1 1 a.go:1] hm\nError: unknown flag: --watch-cache\nUsage:\n":                                                   "Error: unknown flag: --watch-cache",
		"something else\n": "something else",
	} {
		l := trust.Tail{Most: keptOfALog}
		if _, err := io.WriteString(&l, log); err != nil {
			t.Fatal(err)
		}
		if got := lastOf(&l); got != want {
			t.Errorf("%q: %q, want %q", log, got, want)
		}
	}
}
