package fleet

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"etcd-rewind/manifest"
	"etcd-rewind/restore"
	"etcd-rewind/snapshot"
	"etcd-rewind/steps"
)

// With etcd dead, only the snapshot may name the other members. Whoever made it
// would get the snapshot with all Secrets: nothing is dialled on its word.
func TestNothingIsDialledOnASnapshotsWord(t *testing.T) {
	w := newFakeWorld(t, "cp1", "cp2", "cp3")
	for _, n := range w.nodes {
		n.facts = func(f *restore.NodeFacts) { f.Live, f.LiveErr = nil, "connection refused" }
	}
	d := w.pipes(t, "cp1")
	c := conductor(t, d)
	asked := map[string]bool{}
	c.Answers = func(_ context.Context, url string) bool { asked[url] = true; return true }
	info := theSnapshot(t)
	for i := range info.Members {
		info.Members[i].PeerURLs = []string{"https://10.66.6.6:2380"}
	}
	members, verdicts, err := c.Discover(t.Context(), restore.Want{Info: info})
	if err != nil {
		t.Fatal(err)
	}
	for host := range d.dials {
		if host != "cp1" {
			t.Errorf("%s was dialled", host)
		}
	}
	blocked := steps.Blocking(verdicts)
	if len(blocked) == 0 || !strings.Contains(blocked[0].Cause, "only the snapshot has its address") || !strings.Contains(blocked[0].Hint, "--host NAME=HOST") {
		t.Errorf("%+v", blocked)
	}
	if m := members[1]; m.Name != "cp2" || m.Facts != nil || !m.OnlySnapshot() {
		t.Errorf("%+v", m)
	}
	if !slices.ContainsFunc(verdicts, func(v steps.Verdict) bool { return v.Check == "fleet-addresses" && v.Blocks() }) {
		t.Errorf("nothing says that cp1 is elsewhere in the snapshot: %+v", verdicts)
	}

	// Nor is it asked whether one that is left out still answers there.
	if _, _, err := c.Discover(t.Context(), restore.Want{Info: info, Without: []string{"cp2", "cp3"}}); err != nil || len(asked) > 0 {
		t.Errorf("%v, asked %v", err, asked)
	}

	// The user's word is enough.
	c = conductor(t, d)
	members, _, err = c.Discover(t.Context(), restore.Want{Info: info, Hosts: map[string]string{"cp2": "cp2", "cp3": "cp3"}})
	if err != nil || !members[1].Taken() || !members[2].Taken() {
		t.Errorf("%+v %v", members, err)
	}
}

// etcd knows best where a member is, then etcd.yaml; a snapshot that says
// something else is reported.
func TestAddressesInASnapshotYieldToTheNodesOwn(t *testing.T) {
	at := func(ip string) []manifest.Member {
		return []manifest.Member{{Name: "cp2", PeerURLs: []string{"https://" + ip + ":2380"}}}
	}
	all := union(named{restore.InManifest: at("10.0.0.2"), restore.InSnapshot: at("10.66.6.6")})
	if m := all[0]; m.PeerURLs[0] != "https://10.0.0.2:2380" || len(m.Elsewhere) != 1 {
		t.Errorf("%+v", m)
	}
	all = union(named{restore.InManifest: at("10.0.0.2"), restore.InEtcd: at("10.0.0.22"), restore.InSnapshot: at("10.0.0.22")})
	if m := all[0]; m.PeerURLs[0] != "https://10.0.0.22:2380" || len(m.Elsewhere) != 0 {
		t.Errorf("%+v", m)
	}
}

func TestMembersInASnapshotThatCantBeAreToldOfAndNotTaken(t *testing.T) {
	w := newFakeWorld(t, "cp1", "cp2", "cp3")
	info := theSnapshot(t)
	info.Members = append(info.Members, snapshot.Member{Name: "cp1\n; id"}, snapshot.Member{Name: "cp9", PeerURLs: []string{"https://-oProxyCommand=id:1"}}, snapshot.Member{})
	members, verdicts, err := conductor(t, w.pipes(t, "cp1")).Discover(t.Context(), restore.Want{Info: info})
	if err != nil || len(members) != 3 {
		t.Fatalf("%+v %v", members, err)
	}
	b := steps.Blocking(verdicts)
	if len(b) != 1 || b[0].Check != "fleet-members" || !strings.Contains(b[0].Cause, "cp1 ; id") || !strings.Contains(b[0].Cause, "ProxyCommand") {
		t.Errorf("%+v", b)
	}
}

// A backup job moves the link latest.db while the nodes are looked at.
func TestAllNodesGetTheSnapshotThatWasLookedAt(t *testing.T) {
	w := newFakeWorld(t, "cp1", "cp2", "cp3")
	c := conductor(t, w.pipes(t, "cp1"))
	info := theSnapshot(t)
	file := info.Path
	other := theSnapshot(t)
	data, err := os.ReadFile(other.Path)
	if err != nil {
		t.Fatal(err)
	}
	data[5] ^= 1
	if err := os.WriteFile(other.Path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "latest.db")
	lead := func(to string) {
		t.Helper()
		_ = os.Remove(link)
		if err := os.Symlink(to, link); err != nil {
			t.Fatal(err)
		}
	}
	lead(file)
	info.Path = link
	prepare(t, c, restore.Want{Info: info})

	// It moves between sending and planning: no node looks at the name again.
	lead(other.Path)
	if err := c.Send(t.Context(), nil); err == nil {
		for _, n := range c.nodes {
			if sum, err := os.ReadFile(n.path); err != nil || string(sum[:10]) == string(data[:10]) {
				t.Errorf("%s has the other one: %v", n.name, err)
			}
		}
	} else {
		t.Error(err)
	}
	for _, n := range c.nodes {
		if o := c.order(n, steps.Choices{}); o.SHA256 != info.SHA256 || o.Snapshot == link {
			t.Errorf("%s is ordered %q with sha256 %q", n.name, o.Snapshot, o.SHA256)
		} else if filepath.Base(o.name()) != info.Name {
			t.Errorf("%s is to call it %q, the user named %s", n.name, o.name(), info.Name)
		}
	}

	// It moves between the look and the first send: the user saw another one.
	late := conductor(t, w.pipes(t, "cp1"))
	if _, _, err := late.Discover(t.Context(), restore.Want{Info: info}); err != nil {
		t.Fatal(err)
	}
	if err := late.Send(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "is no longer the snapshot that was verified") {
		t.Error(err)
	}
}

// A name may hold anything; the nodes get what can be shown of it.
func TestTheNameOfASnapshotIsSentAsItIsShown(t *testing.T) {
	w := newFakeWorld(t, "cp1", "cp2", "cp3")
	c := conductor(t, w.pipes(t, "cp1"))
	info := theSnapshot(t)
	info.Name = "/b/\x1b[2J" + strings.Repeat("x", 2*longestPath) + "\n.db"
	prepare(t, c, restore.Want{Info: info})
	if err := c.Send(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	o := c.order(c.nodes[0], steps.Choices{})
	if err := validSourceName(o.Name); err != nil || !strings.HasPrefix(o.Name, "/b/") {
		t.Errorf("%.40q: %v", o.Name, err)
	}
	if validSourceName(info.Name) == nil || validSourceName("a\n") == nil {
		t.Error("a node takes names that can't be shown")
	}
}

func TestANodeRefusesAnotherSnapshotThanTheOneThatIsOrdered(t *testing.T) {
	n := &ThisNode{Session: &steps.Session{}, facts: &steps.Facts{}, infos: map[string]*snapshot.Info{"/var/lib/x.db": {SHA256: strings.Repeat("ab", 32)}}}
	for _, sum := range []string{"", strings.Repeat("cd", 32)} {
		if _, err := n.Plan(t.Context(), Order{Snapshot: "/var/lib/x.db", SHA256: sum}); err == nil || !strings.Contains(err.Error(), "has another snapshot") {
			t.Errorf("ordered %q: %v", sum, err)
		}
	}
}

// Of several clocks one is a month ahead. undo takes the newest name for the
// newest run, on every node.
func TestARunIsNamedLaterThanAllRunsOnAllNodes(t *testing.T) {
	w := newFakeWorld(t, "cp1", "cp2", "cp3")
	w.node("cp3").facts = func(f *restore.NodeFacts) { f.LatestRun = "20261221-030000" }
	w.node("cp2").facts = func(f *restore.NodeFacts) { f.LatestRun = "20251221-030000-2" }
	c := conductor(t, w.pipes(t, "cp1"))
	prepare(t, c, restore.Want{Info: theSnapshot(t)})
	if c.rec.Run != "20261221-030001" {
		t.Errorf("the run is named %s", c.rec.Run)
	}
	if got := steps.NextRunName(time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC), "20261221-030000", ""); got != "20270101-000000" {
		t.Error(got)
	}
}

// A second session is refused by the nodes; nothing has begun then.
func TestARunThatIsRefusedByALockHasNotBegun(t *testing.T) {
	w := newFakeWorld(t, "cp1", "cp2", "cp3")
	c := conductor(t, w.pipes(t, "cp1"))
	prepare(t, c, restore.Want{Info: theSnapshot(t)})
	w.node("cp2").refuses = true
	res, err := c.Run(t.Context(), func(restore.NodeEvent) {}, restore.Unattended)
	if err != nil || res.ExitCode() != 4 {
		t.Fatalf("%+v %v", res, err)
	}
	same(t, "nodes", w.all(), asBefore)
	if n := res.Nodes[1]; n.State != restore.Untouched || !strings.Contains(n.Cause, "another run is under way") {
		t.Errorf("%+v", n)
	}
}

// A node whose run has not begun when another's fault stops all of them refuses nothing:
// the run ends with that fault, and the node has nothing to say about it.
func TestARunThatIsStoppedBeforeANodeHasBegunEndsWithWhatStoppedIt(t *testing.T) {
	w := newFakeWorld(t, "cp1", "cp2", "cp3")
	c := conductor(t, w.pipes(t, "cp1"))
	prepare(t, c, restore.Want{Info: theSnapshot(t)})
	w.node("cp2").fails = map[steps.Phase]int{steps.PhaseStaged: 1}
	w.node("cp3").opening = true
	res, err := c.Run(t.Context(), func(restore.NodeEvent) {}, restore.Unattended)
	if err != nil || res.ExitCode() != 1 || !res.Reverted || !strings.HasPrefix(res.Error.Cause, "cp2: ") {
		t.Fatalf("%+v %v", res, err)
	}
	same(t, "nodes", w.all(), asBefore)
	if n := res.Nodes[2]; n.State != restore.Untouched || n.Cause != "" {
		t.Errorf("%+v", n)
	}
}
