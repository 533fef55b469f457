package fleet

import (
	"strings"
	"sync"
	"testing"
	"time"
)

// While nodes are found again for an undo or a redo nothing runs yet, so nothing
// is reported: who hasn't answered is said all the same.
func TestNodesThatDoNotAnswerAreNamedWhileTheyAreAwaited(t *testing.T) {
	var mu sync.Mutex
	var said []string
	seen := make(chan struct{}, 1)
	c := &Conductor{every: time.Millisecond, Silent: func(who string) {
		mu.Lock()
		defer mu.Unlock()
		said = append(said, who)
		select {
		case seen <- struct{}{}:
		default:
		}
	}}
	over := c.spoken()
	began := time.Now().Add(-7 * time.Second)
	first := c.awaits(&fleetNode{try: []string{"cp2", "10.0.0.2"}}, "connecting")
	second := c.awaits(&fleetNode{name: "etcd1"}, "what it is")
	third := c.awaits(&fleetNode{local: true}, "its plan")
	c.waiting.Lock()
	for _, w := range c.waits[:2] {
		w.since = began
	}
	c.waiting.Unlock()
	<-seen
	second()
	third()
	over()
	mu.Lock()
	defer mu.Unlock()
	if want := "cp2 or 10.0.0.2 (connecting, 7 s), etcd1 (what it is, 7 s)"; said[0] != want {
		t.Errorf("%q, want %q", said[0], want)
	}
	if last := said[len(said)-1]; last != "" {
		t.Errorf("in the end it still says %q", last)
	}
	first()
	if who := c.silent(time.Now()); who != "" || strings.Contains(strings.Join(said, ""), "this node") {
		t.Errorf("%q, %q", who, said)
	}
}
