package steps

import (
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAnotherProcessSeesTheSameRun(t *testing.T) {
	n := newFakeNode(t)
	p := n.plan(Choices{})
	stateDir := filepath.Join(n.root, "etcd-rewind")
	if live, err := Live(stateDir); live != nil || err != nil {
		t.Fatalf("before: %+v %v", live, err)
	}
	e, events := n.engine(nil)
	followed := make(chan []string, 1)
	sink := e.Sink
	e.Sink = func(ev Event) {
		sink(ev)
		if ev.Action == "stop-etcd.1" && ev.State == Started {
			live, err := Live(stateDir)
			if err != nil || live == nil || live.Run != p.Run {
				t.Errorf("live: %+v %v", live, err)
				close(followed)
				return
			}
			go func() {
				var seen []string
				ended, err := Follow(t.Context(), *live, func(ev Event) { seen = append(seen, line(ev)) })
				if !ended || err != nil {
					t.Errorf("ended %v, %v", ended, err)
				}
				followed <- seen
			}()
		}
	}
	if res := e.Run(t.Context(), p); !res.OK {
		t.Fatal(res.Error)
	}
	var want []string
	for _, ev := range *events {
		want = append(want, line(ev))
	}
	if diff := cmp.Diff(want, <-followed); diff != "" {
		t.Error(diff)
	}
	if live, err := Live(stateDir); live != nil || err != nil {
		t.Errorf("afterwards: %+v %v", live, err)
	}
}

func line(ev Event) string {
	return ev.Type + " " + ev.Action + " " + string(ev.State) + " " + ev.Message
}
