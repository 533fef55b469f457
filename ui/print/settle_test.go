package print

import (
	"strings"
	"testing"
	"time"

	"etcd-rewind/settle"
)

// What was settled is listed with what came of it, and with what was interrupted.
func TestWhatWasSettledIsListed(t *testing.T) {
	var none, some strings.Builder
	if err := SettledDebts(&none, nil); err != nil || none.Len() > 0 {
		t.Errorf("%q, %v", none.String(), err)
	}
	debt := func(object string) settle.Debt { return settle.Debt{Kind: "node-missing", Object: object} }
	at := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	if err := SettledDebts(&some, []settle.Settled{
		{Time: at, Debt: debt("w7"), Done: true, Said: "the node is in the API"}, {Time: at, Debt: debt("w8"), Error: "it hangs\x1b[2J"}, {Time: at, Debt: debt("w9")},
	}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"node-missing w7: the node is in the API", "node-missing w8: it hangs", "node-missing w9: interrupted"} {
		if !strings.Contains(some.String(), want) || strings.Contains(some.String(), "\x1b") {
			t.Errorf("%q doesn't say %q", some.String(), want)
		}
	}
}
