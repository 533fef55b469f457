//go:build e2e && linux

package e2e

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"etcd-rewind/e2e/cluster"
)

// three is the cluster that the tests of several nodes share, once one of them
// has asked for it.
var three *cluster.Cluster

// threeNodes returns a cluster of three control planes, cp1 to cp3, that works
// and has no runs. The program under test is at tool on each of them. The first
// test to ask for it brings it up; a test that fails takes it down, so that what
// it has broken is not the next one's.
//
// The other helpers work on one node: choose it by use.
func threeNodes(t *testing.T) *cluster.Cluster {
	t.Helper()
	if three == nil {
		up, took := threeUp(t, "three")
		three = up
		t.Logf("three control planes came up in %.1f s", took.Seconds())
		for _, n := range up.Nodes {
			on(n, func() {
				if err := buildTool(); err != nil {
					t.Fatal(err)
				}
			})
		}
	}
	t.Cleanup(func() {
		if t.Failed() {
			if err := threeDown(); err != nil {
				t.Error(err)
			}
		}
	})
	for _, n := range three.Nodes {
		if err := n.LinkUp(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(n.HostPath(stateDir)); err != nil {
			t.Fatal(err)
		}
	}
	if err := three.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	return three
}

// threeUp brings up a cluster beside the node that all tests share. Its logs are
// kept or thrown away with that node's. Its nodes are bare, unless entriesVariable
// names an entry of the matrix.
func threeUp(t *testing.T, name string) (*cluster.Cluster, time.Duration) {
	t.Helper()
	entry := cmp.Or(os.Getenv(entriesVariable), "bare-1.34")
	config := configOf(entryNamed(t, entry))
	config.Name, config.Dir = base+"-"+name, filepath.Join(logs, name)
	began := time.Now()
	c, err := cluster.UpCluster(t.Context(), config, "cp1", "cp2", "cp3")
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("on %s", entry)
	return c, time.Since(began)
}

// threeDown takes down the cluster that tests share, if there is one.
func threeDown() error {
	if three == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	c := three
	three = nil
	return c.Down(ctx)
}

// use has all helpers work on another node until the test ends.
func use(t *testing.T, n *cluster.Node) {
	before := node
	node = n
	t.Cleanup(func() { node = before })
}

// on has all helpers work on another node while do runs.
func on(n *cluster.Node, do func()) {
	defer func(before *cluster.Node) { node = before }(node)
	node = n
	do()
}

func TestThreeControlPlanesComeUp(t *testing.T) {
	ctx := t.Context()
	c, took := threeUp(t, "comes-up")
	t.Cleanup(func() {
		if err := c.Down(afterwards(t)); err != nil {
			t.Error(err)
		}
	})
	t.Logf("three control planes came up in %.1f s", took.Seconds())
	if took.Seconds() > 90*busyness() {
		t.Errorf("they took %.1f s, want less than 90 s", took.Seconds())
	}
	cp1, cp2, cp3 := c.Nodes[0], c.Nodes[1], c.Nodes[2]

	t.Run("as three members of one etcd", func(t *testing.T) {
		var ids []string
		for _, n := range c.Nodes {
			members, err := n.Members(ctx)
			if err != nil {
				t.Fatal(err)
			}
			id := ""
			for _, m := range members {
				if !m.Started() {
					t.Errorf("etcd on %s says that member %x has not started", n.Hostname, m.ID)
				}
				id += fmt.Sprintf("%x %s %s\n", m.ID, m.Name, m.PeerURLs)
			}
			if ids = append(ids, id); len(members) != 3 || id != ids[0] {
				t.Errorf("etcd on %s knows other members than that on cp1:\n%s\n%s", n.Hostname, id, ids[0])
			}
			text, err := os.ReadFile(n.HostPath(manifests + "/kube-apiserver.yaml"))
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(text), "- --etcd-servers=https://127.0.0.1:2379\n") {
				t.Errorf("the API server on %s doesn't ask the etcd beside it alone:\n%s", n.Hostname, text)
			}
		}
		if healthy := healthyMembers(t, cp1); len(healthy) != 3 {
			t.Errorf("of etcd's members, these are healthy: %v", healthy)
		}
	})

	t.Run("with one certificate authority", func(t *testing.T) {
		for _, file := range []string{"ca.crt", "ca.key", "front-proxy-ca.crt", "front-proxy-ca.key", "etcd/ca.crt", "etcd/ca.key", "sa.key", "sa.pub"} {
			var first []byte
			for _, n := range c.Nodes {
				text, err := os.ReadFile(n.HostPath("/etc/kubernetes/pki/" + file))
				if err != nil {
					t.Fatal(err)
				}
				if first == nil {
					first = text
				}
				if !bytes.Equal(text, first) {
					t.Errorf("%s on %s is not that of cp1", file, n.Hostname)
				}
			}
		}
		for _, n := range c.Nodes {
			_, err := os.Stat(n.HostPath(cluster.SuperAdmin))
			if first := n == cp1; first != (err == nil) || !first && !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("super-admin.conf on %s: %v; kubeadm leaves one on the first node only", n.Hostname, err)
			}
		}
	})

	t.Run("where all see what is written to one", func(t *testing.T) {
		for _, n := range c.Nodes {
			seenByAll(t, c, n, "from-"+n.Hostname)
		}
	})

	t.Run("and ssh leads from each to each", func(t *testing.T) {
		for _, from := range c.Nodes {
			for _, to := range c.Nodes {
				cmd := from.SSH(ctx, to.Hostname, "hostname; cat; echo to stderr >&2; exit 7")
				cmd.Stdin = strings.NewReader("through stdin\n")
				var stdout, stderr bytes.Buffer
				cmd.Stdout, cmd.Stderr = &stdout, &stderr
				err := cmd.Run()
				if cmd.ProcessState.ExitCode() != 7 || stdout.String() != to.Hostname+"\nthrough stdin\n" || stderr.String() != "to stderr\n" {
					t.Errorf("ssh from %s to %s: %v\n%s%s", from.Hostname, to.Hostname, err, &stdout, &stderr)
				}
			}
		}
	})

	t.Run("and a link that is down cuts one off until it is up again", func(t *testing.T) {
		// A session that is under way, whose bytes are seen to come and go.
		session := cp1.SSH(ctx, "cp3", "cat")
		in, err := session.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := session.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		var stderr bytes.Buffer
		session.Stderr = &stderr
		if err := session.Start(); err != nil {
			t.Fatal(err)
		}
		echo := bufio.NewReader(out)
		if _, err := io.WriteString(in, "before\n"); err != nil {
			t.Fatal(err)
		}
		if line, err := echo.ReadString('\n'); line != "before\n" {
			t.Fatalf("the session says %q: %v\n%s", line, err, &stderr)
		}

		if err := cp3.LinkDown(ctx); err != nil {
			t.Fatal(err)
		}
		cut := time.Now()
		if _, err := io.WriteString(in, "after\n"); err != nil {
			t.Fatal(err)
		}
		line, _ := echo.ReadString('\n')
		err = session.Wait()
		t.Logf("the session ended %.1f s after the cut: %s", time.Since(cut).Seconds(), strings.TrimSpace(stderr.String()))
		if session.ProcessState.ExitCode() != 255 || line != "" || time.Since(cut).Seconds() > 20*busyness() {
			t.Errorf("after the cut the session says %q and ends after %.1f s with %v, want nothing, soon, and 255\n%s", line, time.Since(cut).Seconds(), err, &stderr)
		}
		for _, way := range []struct {
			from *cluster.Node
			to   string
		}{{cp1, "cp3"}, {cp3, "cp2"}} {
			again := way.from.SSH(ctx, way.to, "hostname")
			if out, err := again.CombinedOutput(); again.ProcessState.ExitCode() != 255 {
				t.Errorf("ssh from %s to %s while cp3 is cut off: %v, want exit status 255\n%s", way.from.Hostname, way.to, err, out)
			}
		}

		// The two go on, the one alone can't; but the test can still get at it.
		if healthy := healthyMembers(t, cp2); !slices.Equal(healthy, []string{cp1.Address, cp2.Address}) {
			t.Errorf("while cp3 is cut off, cp2 finds these members healthy: %v", healthy)
		}
		if _, err := cp1.Kubectl(ctx, "create", "configmap", "while-cut", "--namespace=default"); err != nil {
			t.Errorf("two of three can't write: %v", err)
		}
		if out, err := cp3.Kubectl(ctx, "create", "configmap", "alone", "--namespace=default", "--request-timeout=3s"); err == nil {
			t.Errorf("one of three has written: %s", out)
		}
		if out, err := cp3.Kubectl(ctx, "get", "--raw=/version"); err != nil {
			t.Errorf("the kubeconfig on cp3 doesn't lead to its own API server: %v\n%s", err, out)
		}
		if name, err := cp3.Command(ctx, "hostname").Output(); err != nil || string(name) != "cp3\n" {
			t.Errorf("the node says its name is %q: %v", name, err)
		}

		if err := cp3.LinkUp(ctx); err != nil {
			t.Fatal(err)
		}
		mended := time.Now()
		if err := c.Ready(ctx); err != nil {
			t.Fatal(err)
		}
		t.Logf("all was ready again %.1f s after the link was up", time.Since(mended).Seconds())
		if _, err := cp3.Kubectl(ctx, "get", "configmap", "while-cut", "--namespace=default"); err != nil {
			t.Errorf("cp3 has not heard of what was written meanwhile: %v", err)
		}
		seenByAll(t, c, cp3, "after-the-cut")
		if out, err := cp1.SSH(ctx, "cp3", "hostname").CombinedOutput(); err != nil || string(out) != "cp3\n" {
			t.Errorf("ssh to cp3 after the link is up: %v\n%s", err, out)
		}
	})

	t.Run("and go without a trace", func(t *testing.T) {
		spaces := map[string]string{}
		for _, n := range c.Nodes {
			for _, kind := range []string{"net", "mnt", "uts"} {
				id, err := n.Command(ctx, "readlink", "/proc/self/ns/"+kind).Output()
				if err != nil {
					t.Fatal(err)
				}
				spaces[strings.TrimSpace(string(id))] = n.Hostname
			}
		}
		if traces := tracesOf(t, c, spaces); len(traces) < 3*4 {
			t.Fatalf("while the nodes are up there are these traces only, so this test sees too little: %q", traces)
		}
		began := time.Now()
		if err := c.Down(ctx); err != nil {
			t.Fatal(err)
		}
		t.Logf("they went down in %.1f s", time.Since(began).Seconds())
		if traces := tracesOf(t, c, spaces); len(traces) > 0 {
			t.Errorf("they have left behind:\n%s", strings.Join(traces, "\n"))
		}
		if _, err := cluster.OpenCluster(c.Name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the cluster can still be opened: %v", err)
		}
		if err := c.Down(ctx); err != nil {
			t.Errorf("down once more: %v", err)
		}
	})
}

func TestASnapshotOfThreeControlPlanesHoldsWhatAnyOfThemWrote(t *testing.T) {
	c := threeNodes(t)
	use(t, c.Nodes[2])
	s := aStory(t)
	for _, n := range c.Nodes {
		on(n, func() { s.isNow(t) })
	}
	on(c.Nodes[1], func() {
		saved := pathFor(t, "saved.db")
		if o := run(t, "save", saved); o.code != 0 {
			t.Fatalf("etcd-rewind save: exit status %d\n%s%s", o.code, o.stdout, o.stderr)
		}
		for path, want := range map[string][2]bool{c.Nodes[2].HostPath(s.snapshot): {true, false}, node.HostPath(saved): {false, true}} {
			snapshot, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			_, number, _ := strings.Cut(s.label, "=n")
			deleted := "/registry/secrets/shop-" + number + "/token"
			late := "/registry/configmaps/late-" + number + "/late"
			if got := bytes.Contains(snapshot, []byte(late)); got != want[1] {
				t.Errorf("%s holds %s: %t, want %t", path, late, got, want[1])
			}
			// What is deleted stays in etcd until it is compacted.
			if want[0] && !bytes.Contains(snapshot, []byte(deleted)) {
				t.Errorf("%s doesn't hold %s", path, deleted)
			}
		}
	})
}

// seenByAll writes an object through one node's API, and fails unless the
// others' have it too.
func seenByAll(t *testing.T, c *cluster.Cluster, through *cluster.Node, name string) {
	t.Helper()
	const uid = "jsonpath={.metadata.uid}"
	want, err := through.Kubectl(t.Context(), "create", "configmap", name, "--namespace=default", "-o", uid)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range c.Nodes {
		if got, err := n.Kubectl(t.Context(), "get", "configmap", name, "--namespace=default", "-o", uid); err != nil || got != want || got == "" {
			t.Errorf("what was written through %s is %q there, and %q through %s: %v", through.Hostname, want, got, n.Hostname, err)
		}
	}
}

// healthyMembers asks, from a node, all members of etcd how they are, and returns
// the sorted addresses of those that are well.
func healthyMembers(t *testing.T, from *cluster.Node) []string {
	t.Helper()
	// It fails when one is not well.
	out, failed := from.Etcdctl(t.Context(), "endpoint", "health", "--cluster", "--write-out=json")
	var all []struct {
		Endpoint string `json:"endpoint"`
		Health   bool   `json:"health"`
	}
	if err := json.Unmarshal([]byte(out), &all); err != nil || len(all) != 3 {
		t.Fatalf("%v: %v\n%s", failed, err, out)
	}
	var healthy []string
	for _, member := range all {
		if member.Health {
			healthy = append(healthy, strings.TrimSuffix(strings.TrimPrefix(member.Endpoint, "https://"), ":2379"))
		}
	}
	slices.Sort(healthy)
	return healthy
}

// tracesOf lists what there is on this machine of a cluster: processes in its
// namespaces, mounts, cgroups, interfaces, records, and files but for logs.
func tracesOf(t *testing.T, c *cluster.Cluster, spaces map[string]string) []string {
	t.Helper()
	var traces []string
	links, err := filepath.Glob("/proc/[0-9]*/ns/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		// Those of processes that end meanwhile can't be read.
		if id, err := os.Readlink(link); err == nil && spaces[id] != "" {
			traces = append(traces, link+" is of "+spaces[id])
		}
	}
	mounts, err := filepath.Glob("/proc/[0-9]*/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	dirs := filepath.Dir(c.Nodes[0].Dir)
	for _, file := range mounts {
		text, _ := os.ReadFile(file)
		if strings.Contains(string(text), dirs+"/") {
			traces = append(traces, file+" has mounts of "+dirs)
		}
	}
	for _, pattern := range []string{
		"/sys/fs/cgroup/etcd-rewind-" + c.Name + "*",
		"/sys/fs/cgroup/*/etcd-rewind-" + c.Name + "*",
		"/var/run/netns/etcd-rewind-" + c.Name + "*",
		"/run/etcd-rewind-e2e/" + c.Name + "*",
	} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		traces = append(traces, found...)
	}
	addresses, err := exec.CommandContext(t.Context(), "ip", "-oneline", "link", "show", "master", "etcd-rewind0").Output()
	if err == nil { // the bridge goes with the last node
		for _, n := range c.Nodes {
			if strings.Contains(string(addresses), "etcd-rewind-"+n.Name) {
				traces = append(traces, "the bridge has an interface of "+n.Name)
			}
		}
	}
	err = filepath.WalkDir(dirs, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if !entry.IsDir() && filepath.Base(filepath.Dir(path)) != "logs" {
			traces = append(traces, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return traces
}
