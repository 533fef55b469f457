//go:build e2e && linux

package e2e

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"etcd-rewind/e2e/cluster"
)

// allOfFleet asks for everything: five restores in a row, and a fault in each
// phase. It takes half an hour; without it each test does a part.
const allOfFleet = "ETCD_REWIND_FLEET"

// some are those that a test is about, unless all are asked for.
func some[T any](all []T, few ...int) []T {
	if os.Getenv(allOfFleet) == "all" {
		return all
	}
	var out []T
	for _, i := range few {
		out = append(out, all[i])
	}
	return out
}

// leader has helpers work on the first node, and returns the cluster with a
// past.
func leader(t *testing.T) (*cluster.Cluster, story) {
	t.Helper()
	c := threeNodes(t)
	use(t, c.Nodes[0])
	kubeletLog(t, c.Nodes...)
	return c, aStory(t)
}

func fleetArgs(s story, more ...string) []string {
	return append([]string{"restore", s.snapshot, "--fleet", "--yes", "--output", "json"}, more...)
}

// allAre fails unless every node's API shows the same, all members have started
// and what is written through each is seen by the others.
func allAre(t *testing.T, c *cluster.Cluster, is func(t *testing.T)) {
	t.Helper()
	if err := c.Healthy(t.Context()); err != nil {
		t.Error(err)
	}
	for _, n := range c.Nodes {
		on(n, func() {
			eventually(t, "the API of "+n.Hostname, apiReady)
			is(t)
		})
		seenByAll(t, c, n, "through-"+n.Hostname)
	}
	for _, n := range c.Nodes {
		if _, err := c.Nodes[0].Kubectl(t.Context(), "delete", "configmap", "through-"+n.Hostname, "--namespace=default"); err != nil {
			t.Error(err)
		}
	}
}

func TestThreeControlPlanesAreRestoredAsOne(t *testing.T) {
	for i, name := range some([]string{"founded together", "again", "joined one after the other", "so once more", "and a fifth time"}, 0) {
		t.Run(name, func(t *testing.T) {
			if i == 2 {
				if err := threeNodes(t).AsJoined(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			c, s := restoreThree(t)
			if i == 1 {
				redoThree(t, c, s)
			}
		})
	}
}

// redoThree switches to the restored data again, and back.
func redoThree(t *testing.T, c *cluster.Cluster, s story) {
	redone := call{args: []string{"redo", "--fleet", "--yes", "--output", "json"}}.run(t)
	redone.succeeded(t)
	t.Logf("the redo took %.1f s", redone.took.Seconds())
	allAre(t, c, func(t *testing.T) { s.isThen(t) })
	call{args: []string{"undo", "--fleet", "--yes", "--output", "json"}}.run(t).succeeded(t)
	allAre(t, c, func(t *testing.T) { s.isNow(t) })
}

func restoreThree(t *testing.T) (*cluster.Cluster, story) {
	c, s := leader(t)
	o := call{args: fleetArgs(s)}.run(t)
	result := o.succeeded(t)
	allAre(t, c, func(t *testing.T) { s.isThen(t) })
	t.Logf("the API was down for %.1f s; all took %.1f s", result.Outage, o.took.Seconds())
	if result.Outage <= 0 {
		t.Error("no outage was measured")
	}
	for _, n := range c.Nodes {
		if left, err := n.Command(t.Context(), "sh", "-c", "ls -d /tmp/tmp.*/etcd-rewind /var/lib/etcd-rewind-snapshot-* 2>/dev/null").Output(); len(left) > 0 {
			t.Errorf("on %s is left: %s %v", n.Hostname, left, err)
		}
	}

	// One ConfigMap is for all nodes, and says where the data of each is.
	told := kubeadmDataDir(t)
	for _, n := range c.Nodes {
		on(n, func() {
			if is := dataDir(t); is != told || is == "/var/lib/etcd" {
				t.Errorf("kubeadm would start %s's etcd on %s, it runs on %s", n.Hostname, told, is)
			}
		})
	}

	undone := call{args: []string{"undo", "--fleet", "--yes", "--output", "json"}}.run(t)
	undone.succeeded(t)
	t.Logf("going back took %.1f s", undone.took.Seconds())
	allAre(t, c, func(t *testing.T) { s.isNow(t) })
	for _, n := range c.Nodes {
		on(n, func() { kubeletFollows(t) })
	}
	return c, s
}

// settles waits until the agents that a conductor has left behind have ended:
// they stop at their next wait.
func settles(t *testing.T, c *cluster.Cluster) {
	t.Helper()
	for _, n := range c.All() {
		on(n, func() {
			eventually(t, "the agent on "+n.Hostname+" to end", func() bool {
				return !strings.Contains(run(t, "check", "--output", "json").stdout, "another run is under way")
			})
		})
	}
}

var phases = []string{"staged", "api-gone", "etcd-out", "placed", "etcd-ready", "api-ready"}

// killedIn restores all nodes to the story's snapshot, and kills the conductor when
// a phase begins.
func killedIn(t *testing.T, s story, phase string) {
	t.Helper()
	killed := false
	call{args: fleetArgs(s), on: func(e event, p process) {
		if e.Type == "phase" && e.Phase == phase && !killed {
			killed = true
			_ = p.killAll()
		}
	}}.run(t)
	if !killed {
		t.Fatal("it was not killed")
	}
}

func TestAConductorThatIsKilledLeavesAFleetThatAnyNodeCanLead(t *testing.T) {
	for _, phase := range some(phases, 2, 3) {
		way := []string{"resume", "undo"}[slices.Index(phases, phase)%2]
		t.Run(phase+" "+way, func(t *testing.T) {
			c, s := leader(t)
			killedIn(t, s, phase)
			settles(t, c)
			use(t, c.Nodes[1])
			o := run(t, way, "--fleet", "--yes", "--output", "json")
			t.Logf("%s took %.1f s", way, o.took.Seconds())
			o.succeeded(t)
			if way == "undo" {
				allAre(t, c, s.isNow)
			} else {
				allAre(t, c, s.isThen)
			}
		})
	}
}

func TestANodeThatIsCutOffInTheMiddleIsReachedAgain(t *testing.T) {
	for _, phase := range some(phases, 1) {
		t.Run(phase, func(t *testing.T) {
			c, s := leader(t)
			cp3 := c.Nodes[2]
			var mended sync.WaitGroup
			cut := false
			o := call{args: fleetArgs(s), on: func(e event, _ process) {
				switch {
				case e.Type == "phase" && e.Phase == phase && !cut:
					cut = true
					if err := cp3.LinkDown(t.Context()); err != nil {
						t.Error(err)
					}
				case e.Type == "link" && e.State == "waiting" && cut:
					// It has been noticed.
					mended.Go(func() {
						if err := cp3.LinkUp(t.Context()); err != nil {
							t.Error(err)
						}
					})
				}
			}}.run(t)
			mended.Wait()
			result := o.succeeded(t)
			t.Logf("the API was down for %.1f s; all took %.1f s", result.Outage, o.took.Seconds())
			allAre(t, c, s.isThen)
		})
	}
}

func TestANodeThatIsLostForGoodIsLeftOut(t *testing.T) {
	c, s := leader(t)
	cp3 := c.Nodes[2]
	if err := cp3.LinkDown(t.Context()); err != nil {
		t.Fatal(err)
	}
	o := call{args: fleetArgs(s)}.run(t)
	if o.code != 4 || !strings.Contains(o.stdout, "--without NAME") {
		t.Errorf("exit status %d:\n%s", o.code, o.stdout)
	}
	s.isNow(t)
	o = call{args: fleetArgs(s, "--without", "cp3")}.run(t)
	o.succeeded(t)
	for _, n := range c.Nodes[:2] {
		on(n, func() { s.isThen(t) })
	}
	members, err := c.Nodes[0].Members(t.Context())
	if err != nil || len(members) != 2 {
		t.Errorf("%v %v", members, err)
	}
	undone := call{args: []string{"undo", "--fleet", "--yes", "--output", "json"}}.run(t)
	undone.succeeded(t)
	if err := cp3.LinkUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := cp3.Ready(t.Context()); err != nil { // cut off, its API server failed time and again
		t.Fatal(err)
	}
	allAre(t, c, s.isNow)
}

func TestASnapshotThatIsAlteredOnOneNodeStopsAllUntouched(t *testing.T) {
	c, s := leader(t)
	altered := false
	o := call{args: fleetArgs(s), on: func(e event, _ process) {
		// Each node has read its copy by then, and nothing has been planned.
		if e.Type == "check" && e.Node == "cp2" && !altered {
			altered = true
			data, err := os.ReadFile(c.Nodes[0].HostPath(s.snapshot))
			if err != nil {
				t.Error(err)
				return
			}
			copied := fmt.Sprintf("/var/lib/etcd-rewind-snapshot-%.16s.db", fmt.Sprintf("%x", sha256.Sum256(data)))
			f, err := os.OpenFile(c.Nodes[1].HostPath(copied), os.O_RDWR, 0)
			if err != nil {
				t.Error(err)
				return
			}
			defer f.Close()
			if _, err := f.WriteAt([]byte("altered"), 40000); err != nil {
				t.Error(err)
			}
		}
	}}.run(t)
	if result := o.last(t); o.code != 1 || !result.Reverted || result.Outage != 0 || result.Error == nil || !strings.HasPrefix(result.Error.Cause, "cp2: ") {
		t.Errorf("exit status %d, %+v", o.code, result)
	}
	allAre(t, c, s.isNow)
}

// etcdctlEnv is how a shell on a node asks its etcd.
const etcdctlEnv = "export ETCDCTL_CACERT=/etc/kubernetes/pki/etcd/ca.crt ETCDCTL_CERT=/etc/kubernetes/pki/etcd/healthcheck-client.crt ETCDCTL_KEY=/etc/kubernetes/pki/etcd/healthcheck-client.key\n"

// shell runs a script on a node.
func shell(t *testing.T, n *cluster.Node, script string) string {
	t.Helper()
	out, err := n.Command(afterwards(t), "bash", "-c", etcdctlEnv+script).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return strings.TrimSpace(string(out))
}

// arriving is a snapshot on its way to other nodes, as their disks show it.
type arriving struct {
	to   []*cluster.Node
	size int64
	link func() int64           // bytes that the conductor's link has sent
	at   func(map[string]int64) // sees what each node has, often

	begun, whole  time.Time
	before, after int64
}

// part is what a node has of the snapshot.
func part(n *cluster.Node) (size int64) {
	for _, end := range []string{".part", ""} {
		all, _ := filepath.Glob(n.HostPath("/var/lib/etcd-rewind-snapshot-*.db" + end))
		for _, p := range all {
			if info, err := os.Stat(p); err == nil {
				size = info.Size()
			}
		}
	}
	return size
}

// during watches while do has the snapshot sent: from the first byte on a disk
// until the last node has all.
func (a *arriving) during(do func()) {
	over, ended := make(chan struct{}), make(chan struct{})
	defer func() { close(over); <-ended }() // also when do ends the test
	go func() {
		defer close(ended)
		for ; ; time.Sleep(10 * time.Millisecond) {
			has, all := map[string]int64{}, true
			for _, n := range a.to {
				size := part(n)
				has[n.Hostname] = size
				all = all && size == a.size
				if size > 0 && a.begun.IsZero() {
					a.begun, a.before = time.Now(), a.link()
				}
			}
			if all {
				a.whole, a.after = time.Now(), a.link()
				return
			}
			if a.at != nil {
				a.at(has)
			}
			select {
			case <-over:
				return
			default:
			}
		}
	}()
	do()
}

func (a *arriving) took() time.Duration { return a.whole.Sub(a.begun) }
func (a *arriving) sent() int64         { return a.after - a.before }

// The snapshot goes to the other nodes at the same time, as fast as the link of each
// is; compressed, where they share the conductor's; and once an agent is killed in the
// middle: what its node has is not sent again.
func TestThreeControlPlanesGetTheSnapshotOverASlowLinkThatIsCut(t *testing.T) {
	const rate = 3e6 // bytes a second
	c, s := leader(t)
	cp1, cp2, cp3 := c.Nodes[0], c.Nodes[1], c.Nodes[2]
	// Half of it is text, half is base64 of what is compressed, as releases of Helm are.
	shell(t, cp1, `for i in $(seq 1 20); do
{ awk -v seed=$i 'BEGIN { srand(seed); for (n = 0; n < 5600; n++) printf "{\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"app-%d\",\"uid\":\"%08x%08x\",\"namespace\":\"shop\"},\"data\":{\"key\":\"%08x%08x\"}}\n", n, rand()*2^31, rand()*2^31, rand()*2^31, rand()*2^31 }'
head -c 510000 /dev/urandom | base64 -w 0; } | etcdctl put /filler/$i >/dev/null; done`)
	t.Cleanup(func() { // the next tests' snapshots are none of this one's size
		shell(t, cp1, `set -e; etcdctl del --prefix /filler/ >/dev/null
etcdctl compact --physical $(etcdctl endpoint status --write-out=json | grep -o '"revision":[0-9]*' | head -n 1 | cut -d : -f 2); etcdctl defrag --cluster`)
		if now, err := os.Stat(cp1.HostPath("/var/lib/etcd/member/snap/db")); err == nil && now.Size() > 20e6 {
			t.Errorf("etcd's database still has %d bytes", now.Size())
		}
	})
	if err := cp1.Save(t.Context(), s.snapshot); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(s.snapshot)
	if err != nil {
		t.Fatal(err)
	}
	// The program is there already, so that nothing else goes over the link.
	rsh := filepath.Join(t.TempDir(), "rsh")
	if err := os.WriteFile(rsh, []byte("#!/bin/sh\nexec ssh \"$1\" \"PATH=/run:\\$PATH; export PATH; $2\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	link := func() (n int64) {
		_, _ = fmt.Sscan(shell(t, cp1, "awk '/eth0/ {print $10}' /proc/net/dev"), &n)
		return n
	}
	forget := func(all ...*cluster.Node) {
		for _, n := range all {
			shell(t, n, "rm -f /var/lib/etcd-rewind-snapshot-*")
		}
	}
	send := func(a *arriving) *arriving {
		t.Helper()
		a.size, a.link = info.Size(), link
		forget(a.to...)
		a.during(func() {
			if o := (call{args: append(fleetArgs(s), "--dry-run", "--rsh", rsh)}).run(t); o.code != 0 {
				t.Fatalf("exit status %d\n%s%s", o.code, o.stdout, o.stderr)
			}
		})
		if a.whole.IsZero() {
			t.Fatal("the snapshot didn't arrive")
		}
		return a
	}
	limit := func(how string) {
		t.Helper()
		shell(t, cp1, "tc qdisc del dev eth0 root 2>/dev/null; "+how)
	}
	t.Cleanup(func() { forget(cp1, cp2, cp3); limit("true") })

	// Each node is behind a link of its own.
	each := "tc qdisc add dev eth0 root handle 1: htb\n"
	for i, n := range c.Nodes[1:] {
		each += fmt.Sprintf("tc class add dev eth0 parent 1: classid 1:%d htb rate %.0fbit burst 128kb quantum 60000; tc qdisc add dev eth0 parent 1:%d bfifo limit 400kb; "+
			"tc filter add dev eth0 parent 1: protocol ip u32 match ip dst %s/32 flowid 1:%d\n", i+1, 8*rate, i+1, n.Address, i+1)
	}
	limit(each)
	together := false // neither has all, and both have some
	both := send(&arriving{to: c.Nodes[1:], at: func(has map[string]int64) {
		less, more := min(has["cp2"], has["cp3"]), max(has["cp2"], has["cp3"])
		together = together || less > info.Size()/8 && more < info.Size()
	}})
	one := send(&arriving{to: c.Nodes[1:2]}) // cp3 has it
	raw := float64(info.Size()) / rate
	t.Logf("links of their own: %d MB on two nodes after %.1f s, on one after %.1f s (%.2f x); uncompressed a link takes %.1f s for it (%.2f x)",
		info.Size()/1e6, both.took().Seconds(), one.took().Seconds(), both.took().Seconds()/one.took().Seconds(), raw, both.took().Seconds()/raw)
	if !together {
		t.Error("one node had all before the other had an eighth")
	}

	// They share the conductor's, and the connection to one is cut.
	limit(fmt.Sprintf("tc qdisc add dev eth0 root tbf rate %.0fbit burst 128kb latency 100ms", 8*rate))
	shared := send(&arriving{to: c.Nodes[1:]})
	cut := int64(0)
	again := send(&arriving{to: c.Nodes[1:], at: func(has map[string]int64) {
		if size := has["cp2"]; size > info.Size()/4 && cut == 0 {
			cut = size
			kill := `for p in $(pgrep -x etcd-rewind); do [ "$(readlink /proc/$p/ns/net)" = "$(readlink /proc/self/ns/net)" ] && kill -9 $p; done; true`
			if out, err := cp2.Command(t.Context(), "bash", "-c", kill).CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		}
	}})
	t.Logf("one link: on two nodes after %.1f s (%.2f x of what it takes uncompressed for one), %d MB over the link (%.2f x of both uncompressed); cut at %d MB: after %.1f s, %d MB",
		shared.took().Seconds(), shared.took().Seconds()/raw, shared.sent()/1e6, float64(shared.sent())/float64(2*info.Size()), cut/1e6, again.took().Seconds(), again.sent()/1e6)
	if shared.sent() > 2*info.Size()*4/5 {
		t.Errorf("%d bytes were sent of a snapshot of %d to two nodes: it isn't compressed", shared.sent(), info.Size())
	}
	if cut == 0 {
		t.Error("the connection was not cut")
	}
	if again.sent() > shared.sent()+info.Size()/8 { // what arrived before the cut isn't sent again
		t.Errorf("%d bytes were sent, with a cut %d", shared.sent(), again.sent())
	}
}

// Nobody leads here: each node is started by hand, and sees the others only by
// their ports.
func TestATicketKeepsThreeNodesInStepWithoutSSH(t *testing.T) {
	c, s := leader(t)
	ticket := filepath.Join(t.TempDir(), "ticket.json") // on this machine all nodes see it there
	if o := run(t, "ticket", s.snapshot, ticket); o.code != 0 {
		t.Fatalf("exit status %d\n%s%s", o.code, o.stdout, o.stderr)
	}
	var all sync.WaitGroup
	begun := time.Now()
	for _, n := range c.Nodes {
		all.Go(func() {
			out, err := n.Command(t.Context(), tool, "restore", s.snapshot, "--ticket", ticket, "--yes").CombinedOutput()
			if err != nil {
				t.Errorf("%s: %v\n%s", n.Hostname, err, out)
			}
		})
	}
	all.Wait()
	t.Logf("all took %.1f s", time.Since(begun).Seconds())
	allAre(t, c, s.isThen)
}
