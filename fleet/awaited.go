package fleet

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"etcd-rewind/defect"
)

// awaited is what a node was asked for and hasn't answered.
type awaited struct {
	node  *fleetNode
	what  string
	since time.Time
}

// unspoken is how long nothing is said of a node that hasn't answered.
const unspoken = 2 * time.Second

// awaits notes what a node is asked for; done ends that. Each node is asked for one
// thing at a time.
func (c *Conductor) awaits(n *fleetNode, what string) (done func()) {
	c.waiting.Lock()
	defer c.waiting.Unlock()
	c.waits = append(c.waits, &awaited{n, what, time.Now()})
	w := c.waits[len(c.waits)-1]
	return func() {
		c.waiting.Lock()
		defer c.waiting.Unlock()
		c.waits = slices.DeleteFunc(c.waits, func(o *awaited) bool { return o == w })
	}
}

// silent names the nodes that haven't answered for a while, and what they were
// asked for: "cp1 (connecting, 5 s), etcd2 (what it is, 12 s)".
func (c *Conductor) silent(now time.Time) string {
	c.waiting.Lock()
	defer c.waiting.Unlock()
	var all []string
	for _, w := range c.waits {
		if d := now.Sub(w.since); d >= unspoken {
			all = append(all, fmt.Sprintf("%s (%s, %.0f s)", w.node.label(), w.what, d.Seconds()))
		}
	}
	slices.Sort(all)
	return strings.Join(slices.Compact(all), ", ")
}

func (n *fleetNode) label() string {
	if n.name == "" && n.local {
		return "this node"
	}
	return cmp.Or(n.name, n.at, strings.Join(n.try, " or "))
}

// spoken has Silent called once a second as long as nodes don't answer, until the
// function that it returns is called.
func (c *Conductor) spoken() (over func()) {
	if c.Silent == nil {
		return func() {}
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go defect.Do(func() {
		defer close(stopped)
		t := time.NewTicker(cmp.Or(c.every, time.Second))
		defer t.Stop()
		said := false
		for {
			select {
			case now := <-t.C:
				if who := c.silent(now); who != "" || said {
					c.Silent(who)
					said = who != ""
				}
			case <-stop:
				if said {
					c.Silent("")
				}
				return
			}
		}
	})()
	return func() { close(stop); <-stopped }
}
