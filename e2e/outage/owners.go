//go:build linux

package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"etcd-rewind/e2e/cluster"
	"etcd-rewind/steps"
)

// part is a part of an outage, and who has it.
type part struct {
	what, who string
	took      time.Duration
	upTo      string // of a wait for other nodes: the last part of theirs that it is for; none for all before it
}

// Who has a part of the outage.
const (
	kubelet   = "kubelet and runtime"
	etcd      = "etcd"
	apiServer = "kube-apiserver"
	ourselves = "etcd-rewind"

	// Of several nodes. What a node waits for is a part of another's.
	others = "other nodes"
	turn   = "its turn"
)

// owning are all who can have a part, in the order of tables.
var owning = []string{kubelet, etcd, apiServer, ourselves, others, turn}

// outage is when a client saw the API for the last time, and again.
type outage struct{ from, to time.Time }

func (o outage) length() time.Duration { return o.to.Sub(o.from) }

// moments are what the runtime and the programs' logs say of a node's etcd and API
// server: when their containers started, when etcd had opened its data and
// answered its peers, and when the API server began to serve.
type moments struct{ etcdStarted, etcdOpen, apiStarted, apiServes time.Time }

// mark ends a part.
type mark struct {
	what, who string
	until     time.Time
	maybe     bool // nothing shows it where it wasn't needed
	upTo      string
}

// cut cuts an outage at marks into parts, which add up to it.
func cut(o outage, marks []mark) ([]part, error) {
	var all []part
	last := o.from
	for _, m := range marks {
		switch {
		case m.until.IsZero() && m.maybe:
			continue
		case m.until.IsZero():
			return nil, fmt.Errorf("nothing shows when the part %q of the outage ended", m.what)
		case m.until.After(o.to):
			m.until = o.to
		}
		if m.until.Before(last) {
			m.until = last
		}
		all = append(all, part{m.what, m.who, m.until.Sub(last), m.upTo})
		last = m.until
	}
	if !last.Equal(o.to) {
		return nil, fmt.Errorf("%s of the outage are nobody's", o.to.Sub(last))
	}
	return all, nil
}

// The marks of a restore of one node. What etcd-rewind takes from the time at
// which a program serves to its next action is its own. What stops shows in nothing
// but etcd-rewind's looks, of which there is one every 20 ms.
func restoreMarks(n *nodeTold, m moments, to time.Time) []mark {
	return append([]mark{
		{what: "begins to stop kube-apiserver", who: kubelet, until: n.at("stop-kube-apiserver/wait-stopping"), maybe: n.letGo()},
		{what: "its sandbox is stopped", who: kubelet, until: n.at("stop-kube-apiserver/wait-gone"), maybe: n.letGo()},
		{what: "is restarted, where it lets nothing go", who: kubelet, until: n.at("let-go/wait-gone"), maybe: true},
		{what: "takes etcd.yaml out", who: ourselves, until: n.at("stop-etcd/take-out"), maybe: n.letGo()},
		{what: stopsEtcd, who: kubelet, until: n.at("stop-etcd/wait-forgotten")},
		{what: "puts the data in place and etcd.yaml in", who: ourselves, until: n.at("start-etcd/put-in")},
		{what: "starts etcd's container", who: kubelet, until: m.etcdStarted},
		{what: "opens its database, answers peers", who: etcd, until: m.etcdOpen},
	}, apiMarks(n, "start-kube-apiserver", m, to)...)
}

// forgotten is when kubelet was finished with an old pod, if the wait for that took
// any time: a look takes less.
func (n *nodeTold) forgotten(step string, after time.Time) time.Time {
	at := n.at(step + "/wait-forgotten")
	if at.Sub(after) < 50*time.Millisecond {
		return time.Time{}
	}
	return at
}

func (n *nodeTold) letGo() bool { return !n.at("let-go/wait-gone").IsZero() }

// deadMarks are those of one whose control plane is dead: they begin with the
// command.
func deadMarks(t *told, n *nodeTold, m moments, to time.Time) []mark {
	return append([]mark{
		{what: "reads, checks and plans", who: ourselves, until: t.begun},
		{what: "stages the restore", who: ourselves, until: n.at("stop-kube-apiserver/take-out")},
	}, restoreMarks(n, m, to)...)
}

// undoMarks are those of an undo of one node.
func undoMarks(n *nodeTold, m moments, to time.Time) []mark {
	return append([]mark{
		{what: "begins to stop kube-apiserver", who: kubelet, until: n.at("undo-start-kube-apiserver/wait-stopping")},
		{what: "stops it and is finished with its pod", who: kubelet, until: n.at("undo-start-kube-apiserver/wait-forgotten"), maybe: true},
		{what: "takes etcd.yaml out", who: ourselves, until: n.at("undo-start-etcd/take-out")},
		{what: stopsEtcd, who: kubelet, until: n.at("undo-start-etcd/wait-forgotten")},
		{what: "puts the restored data aside", who: ourselves, until: n.at("undo-start-etcd/rename")},
		{what: "is finished with etcd's old pod", who: kubelet, until: n.at("undo-stop-etcd/wait-forgotten"), maybe: true},
		{what: "puts etcd.yaml back", who: ourselves, until: n.at("undo-stop-etcd/put-in")},
		{what: "starts etcd's container", who: kubelet, until: m.etcdStarted},
		{what: "opens its database, answers peers", who: etcd, until: m.etcdOpen},
	}, apiMarks(n, "undo-stop-kube-apiserver", m, to)...)
}

// apiMarks are those from an etcd that serves on, of the step that starts the API server.
func apiMarks(n *nodeTold, step string, m moments, to time.Time) []mark {
	return []mark{
		{what: "is finished with kube-apiserver's old pod", who: kubelet, until: n.forgotten(step, m.etcdOpen), maybe: true},
		{what: "looks at etcd, puts kube-apiserver.yaml in", who: ourselves, until: n.at(step + "/put-in")},
		{what: "starts kube-apiserver's container", who: kubelet, until: m.apiStarted},
		{what: "starts until it serves", who: apiServer, until: m.apiServes},
		{what: "runs its hooks until it is ready", who: apiServer, until: to},
	}
}

// What a node waits for where they take turns.
const (
	stopsEtcd = "stops etcd and is finished with its pod"
	opensEtcd = "opens its database, compares it, answers peers"
)

// fleetMarks are those of one of several nodes: back is when a client saw its own
// API server again, quorum when enough members were there, to when all API servers were.
func fleetMarks(t *told, n *nodeTold, m moments, quorum, back, to time.Time) []mark {
	return []mark{
		{what: "begins to stop kube-apiserver", who: kubelet, until: n.at("stop-kube-apiserver/wait-stopping")},
		{what: "its sandbox is stopped", who: kubelet, until: n.at("stop-kube-apiserver/wait-gone")},
		{what: "waits until all API servers are down", who: others, until: t.reached[steps.PhaseAPIGone]},
		{what: "waits, if it leads, for the other members to stop", who: turn, until: n.at("stop-kube-apiserver/meet:api-gone"), upTo: stopsEtcd},
		{what: "takes etcd.yaml out", who: ourselves, until: n.at("stop-etcd/take-out")},
		{what: stopsEtcd, who: kubelet, until: n.at("stop-etcd/wait-forgotten")},
		{what: "waits until all etcds are down", who: others, until: t.reached[steps.PhaseEtcdOut]},
		{what: "puts the data in place", who: ourselves, until: n.at("start-etcd/rename")},
		{what: "waits until all data is in place", who: others, until: t.reached[steps.PhasePlaced]},
		{what: "waits for the etcd before it", who: turn, until: n.at("start-etcd/meet:placed"), upTo: opensEtcd},
		{what: "puts etcd.yaml in", who: ourselves, until: n.at("start-etcd/put-in")},
		{what: "starts etcd's container", who: kubelet, until: m.etcdStarted},
		{what: opensEtcd, who: etcd, until: m.etcdOpen},
		{what: "waits until a quorum answers", who: others, until: quorum},
		{what: "elects a leader, is ready", who: etcd, until: n.at("start-etcd/wait-etcd")},
		{what: "waits until all etcds are ready", who: others, until: t.reached[steps.PhaseEtcdReady]},
		{what: "is finished with kube-apiserver's old pod", who: kubelet, until: n.at("start-kube-apiserver/wait-forgotten")},
		{what: "puts kube-apiserver.yaml in", who: ourselves, until: n.at("start-kube-apiserver/put-in")},
		{what: "starts kube-apiserver's container", who: kubelet, until: m.apiStarted},
		{what: "starts until it serves", who: apiServer, until: m.apiServes},
		{what: "runs its hooks until it is ready", who: apiServer, until: back},
		{what: "waits until all API servers are ready", who: others, until: to},
	}
}

// sees is what etcd-rewind takes until it has seen what a node waited for.
const sees = "sees it, and lets the next node continue"

// chain is what the outage of several nodes waited for: from its end, that of the
// node which was ready last, back to its beginning; where a node waits for another,
// what that other does meanwhile. So its parts add up to the outage. nodes are the
// parts of each node, all of the same kinds.
func chain(o outage, nodes [][]part) []part {
	type span struct {
		i        int // of the part
		from, to time.Time
		waits    bool
	}
	spans := make([][]span, len(nodes))
	all := make([]part, len(nodes[0]), len(nodes[0])+1)
	for n, parts := range nodes {
		at := o.from
		for i, p := range parts {
			all[i] = part{what: p.what, who: p.who}
			if p.took > 0 {
				spans[n] = append(spans[n], span{i, at, at.Add(p.took), p.who == others || p.who == turn})
			}
			at = at.Add(p.took)
		}
	}
	// before is what is under way on a node just before t, and among so many of its
	// parts: what it works on, or worked on last.
	before := func(n int, t time.Time, parts int, works bool) (found span, ok bool) {
		for _, s := range spans[n] {
			if s.from.Before(t) && s.i < parts && !(works && s.waits) {
				if t.Before(s.to) {
					s.to = t
				}
				found, ok = s, true
			}
		}
		return found, ok
	}
	var seen time.Duration
	on := -1 // the node that is followed
	for t := o.to; t.After(o.from); {
		parts := len(all)
		if on >= 0 {
			s, _ := before(on, t, parts, false)
			if !s.waits {
				all[s.i].took += t.Sub(s.from)
				t = s.from
				continue
			}
			parts = s.i
			if upTo := nodes[on][s.i].upTo; upTo != "" {
				parts = 1 + slices.IndexFunc(all, func(p part) bool { return p.what == upTo })
			}
		}
		// What it waits for is what a node works on, the one that began last; or worked
		// on until the wait was over.
		var next span
		node := -1
		for n := range spans {
			s, ok := before(n, t, parts, true)
			if ok && (node < 0 || s.to.After(next.to) || s.to.Equal(next.to) && s.from.After(next.from)) {
				next, node = s, n
			}
		}
		if node < 0 {
			seen += t.Sub(o.from)
			break
		}
		seen += t.Sub(next.to)
		t, on = next.to, node
	}
	return append(all, part{what: sees, who: ourselves, took: seen})
}

// quorumAt is when enough of etcd's members answered.
func quorumAt(all []moments) time.Time {
	var open []time.Time
	for _, m := range all {
		open = append(open, m.etcdOpen)
	}
	slices.SortFunc(open, time.Time.Compare)
	return open[len(open)/2]
}

// fleetParts are the parts of an outage of several nodes, of each and of all
// together. seen is what a client saw of each node.
func fleetParts(t *told, names []string, at []moments, seen []outage) (each [][]part, together []part, err error) {
	o := whole(seen)
	quorum := quorumAt(at)
	for i, name := range names {
		n := t.nodes[name]
		if n == nil {
			return nil, nil, fmt.Errorf("there are no events of %s", name)
		}
		parts, err := cut(o, fleetMarks(t, n, at[i], quorum, seen[i].to, o.to))
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", name, err)
		}
		each = append(each, parts)
	}
	return each, chain(o, each), nil
}

// whole is the outage of all nodes: from the first API server that was seen no
// more to the last that was seen again.
func whole(seen []outage) outage {
	return outage{slices.MinFunc(seen, byFrom).from, slices.MaxFunc(seen, byTo).to}
}

// none is how long no API server was seen at all, by a client that asks any of them.
func none(seen []outage) time.Duration {
	return max(0, outage{slices.MaxFunc(seen, byFrom).from, slices.MinFunc(seen, byTo).to}.length())
}

func byFrom(a, b outage) int { return a.from.Compare(b.from) }
func byTo(a, b outage) int   { return a.to.Compare(b.to) }

// momentsOf asks the runtime and the logs of a node whose control plane runs again.
func momentsOf(ctx context.Context, n *cluster.Node) (m moments, err error) {
	conn, err := grpc.NewClient("unix://"+n.HostPath("/run/containerd/containerd.sock"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return m, err
	}
	defer conn.Close()
	runtime := cri.NewRuntimeServiceClient(conn)
	etcdContainer, err := running(ctx, runtime, "etcd")
	if err != nil {
		return m, err
	}
	apiContainer, err := running(ctx, runtime, "kube-apiserver")
	if err != nil {
		return m, err
	}
	m.etcdStarted, m.apiStarted = time.Unix(0, etcdContainer.StartedAt), time.Unix(0, apiContainer.StartedAt)
	if m.etcdOpen, err = logged(n, etcdContainer, "serving peer traffic"); err != nil {
		return m, err
	}
	m.apiServes, err = logged(n, apiContainer, "Serving securely")
	return m, err
}

func running(ctx context.Context, runtime cri.RuntimeServiceClient, name string) (*cri.ContainerStatus, error) {
	list, err := runtime.ListContainers(ctx, &cri.ListContainersRequest{Filter: &cri.ContainerFilter{
		State:         &cri.ContainerStateValue{State: cri.ContainerState_CONTAINER_RUNNING},
		LabelSelector: map[string]string{"io.kubernetes.container.name": name},
	}})
	if err != nil {
		return nil, err
	}
	if len(list.Containers) != 1 {
		return nil, fmt.Errorf("the runtime has %d containers %s that run", len(list.Containers), name)
	}
	status, err := runtime.ContainerStatus(ctx, &cri.ContainerStatusRequest{ContainerId: list.Containers[0].Id})
	if err != nil {
		return nil, err
	}
	return status.Status, nil
}

// logged is when a container first logged a text.
func logged(n *cluster.Node, c *cri.ContainerStatus, text string) (time.Time, error) {
	f, err := os.Open(n.HostPath(filepath.Clean(c.LogPath)))
	if err != nil {
		return time.Time{}, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if at, _, ok := strings.Cut(lines.Text(), " "); ok && strings.Contains(lines.Text(), text) {
			return time.Parse(time.RFC3339Nano, at)
		}
	}
	if err := lines.Err(); err != nil {
		return time.Time{}, err
	}
	return time.Time{}, fmt.Errorf("%s doesn't log %q", c.Metadata.Name, text)
}
