//go:build linux

// Outage measures how long the API is down while etcd is restored, as a client
// sees it, on a real control plane: by hand in the order of the documents, in
// OpenShift's order, and by etcd-rewind; alternating, in one run.
//
//	go run ./e2e/outage [-runs 7] [-random 40] [-big 7] [-nodes 3] [-on systemd-1.37] [-docs docs]
//	go run ./e2e/outage -recovery [-runs 7] [-big 7] [-dead=false] [-docs docs]
//	go run ./e2e/outage -render -docs docs
//
// It needs root, and the programs that e2e/install.sh installs.
package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"etcd-rewind/e2e/cluster"
	"etcd-rewind/e2e/matrix"
	"etcd-rewind/e2e/memory"
)

// asked is what is to be measured.
type asked struct {
	runs, random, big int
	nodes             int
	on                matrix.Entry
	recovery, dead    bool
	tuned             string
	docs              string
}

func main() {
	var a asked
	flag.IntVar(&a.runs, "runs", 7, "runs of each way")
	flag.IntVar(&a.random, "random", 40, "further runs of etcd-rewind, at random intervals, on one node")
	flag.IntVar(&a.big, "big", 0, "runs of each way with a database of 2 GB")
	flag.IntVar(&a.nodes, "nodes", 1, "control planes: 1 or 3")
	on := flag.String("on", "bare-1.34", "the entry of e2e/matrix that the nodes are")
	flag.BoolVar(&a.recovery, "recovery", false, "measure a control plane that is dead, and undo, instead")
	flag.BoolVar(&a.dead, "dead", true, "with -recovery: measure one that is dead, and not undo alone")
	flag.StringVar(&a.tuned, "tuned", "", "what of this machine's kernel was tuned by hand, for the pages; nothing by default")
	flag.StringVar(&a.docs, "docs", "", "directory whose outage.json gets what is measured, and whose pages are written again")
	render := flag.Bool("render", false, "measure nothing, write the pages again")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := a.choose(*on)
	switch {
	case err != nil:
	case *render:
		err = writePages(a.docs)
	default:
		err = measure(ctx, a)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// choose takes the entry of that name, if it can be measured on.
func (a *asked) choose(name string) error {
	var err error
	if a.on, err = matrix.One(name); err != nil {
		return err
	}
	switch {
	case a.on.Layout != "" || !a.on.Systemd && a.on.Name != "bare-1.34":
		return fmt.Errorf("by hand is written for kubeadm's own paths and stacked etcd: not for %s", name)
	case a.nodes != 1 && a.nodes != 3:
		return fmt.Errorf("%d control planes: 1 or 3 can be measured", a.nodes)
	case a.nodes != 1 && a.recovery:
		return errors.New("-recovery is for one node")
	}
	return nil
}

// up brings up what is measured.
func up(ctx context.Context, a asked, dir string) (*bench, func(context.Context) error, error) {
	config := cluster.ConfigOf(a.on)
	config.Name, config.Dir, config.Progress = fmt.Sprintf("outage-%d", os.Getpid()), dir, os.Stderr
	if a.nodes == 1 {
		config.Hostname = "cp1"
		n, err := cluster.Up(ctx, config)
		if err != nil {
			return nil, nil, err
		}
		return &bench{node: n, nodes: []*cluster.Node{n}}, n.Down, nil
	}
	c, err := cluster.UpCluster(ctx, config, "cp1", "cp2", "cp3")
	if err != nil {
		return nil, nil, err
	}
	return &bench{node: c.Nodes[0], nodes: c.Nodes, cluster: c}, c.Down, nil
}

func measure(ctx context.Context, a asked) (err error) {
	dir, err := os.MkdirTemp("", "etcd-rewind-outage-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	b, down, err := up(ctx, a, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, down(context.WithoutCancel(ctx))) }()
	if err := b.prepare(ctx, dir); err != nil {
		return err
	}
	watcher, err := rest.HTTPClientFor(b.config)
	if err != nil {
		return err
	}
	for _, n := range b.nodes {
		go b.follow(ctx, watcher, n)
	}
	atStart, err := memory.Touch(1 << 30)
	if err != nil {
		return err
	}
	before := load()
	var all []result
	err = b.runAll(ctx, a, func(what string, i int, r result, err error) error {
		if err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "%s, %s, run %d: %.1f s\n", what, r.way, i+1, r.outage.Seconds())
		all = append(all, r)
		return nil
	})
	early := err
	atEnd, err := memory.Touch(1 << 30)
	if err != nil {
		return errors.Join(early, err)
	}
	rec := newRecord(a, all, time.Now().UTC())
	rec.Machine.Load = fmt.Sprintf("%s before, %s after", before, load())
	rec.Machine.Memory += fmt.Sprintf("; the first touch of 1 GB took %.1f s before the runs and %.1f s after them", atStart.Seconds(), atEnd.Seconds())
	if early != nil {
		line, _, _ := strings.Cut(early.Error(), "\n")
		rec.Note = "It ended early: " + line + "."
	}
	fmt.Print(rec.text())
	// What was measured until then counts, where it can be compared.
	if a.docs == "" || !rec.compares() {
		return early
	}
	if err := keep(a.docs, rec); err != nil {
		return errors.Join(early, err)
	}
	return errors.Join(early, writePages(a.docs))
}

// kept takes a result, or the error there is instead.
type kept func(what string, i int, r result, err error) error

// runAll measures what is asked for.
func (b *bench) runAll(ctx context.Context, a asked, keep kept) error {
	if a.recovery {
		if err := b.recoveries(ctx, small, a.runs, a.dead, keep); err != nil {
			return err
		}
		return b.recoveries(ctx, large, a.big, a.dead, keep)
	}
	eachWay := func(size string, n int) error {
		if n == 0 {
			return nil
		}
		if err := b.fill(ctx, size); err != nil {
			return err
		}
		for i := range n {
			for _, w := range b.ways() {
				if err := b.pause(ctx, calm); err != nil {
					return err
				}
				r, err := b.run(ctx, w, size)
				if err := keep(size, i, r, err); err != nil {
					return err
				}
			}
		}
		return nil
	}
	further := func(circumstances string, n int, before func() error) error {
		for i := range n {
			if err := before(); err != nil {
				return err
			}
			r, err := b.run(ctx, rewind, circumstances)
			if err := keep(circumstances, i, r, err); err != nil {
				return err
			}
		}
		return nil
	}
	if b.cluster != nil {
		a.random = 0
	}
	for _, part := range []func() error{
		func() error { return eachWay(small, a.runs) },
		func() error {
			return further(atRandom, a.random, func() error { return b.pause(ctx, rand.N(10*time.Second)) })
		},
		func() error { return further(inARow, min(a.random, 4), func() error { return nil }) },
		func() error { return further(afterAFailure, min(a.random, 2), func() error { return b.breakOff(ctx) }) },
		func() error { return eachWay(large, a.big) },
	} {
		if err := part(); err != nil {
			return err
		}
	}
	return nil
}

// The databases, and for the small one the circumstances.
const (
	small         = "small"
	large         = "2 GB"
	atRandom      = "small, at random moments"
	inARow        = "small, four in a row"
	afterAFailure = "small, after an interrupted one"
)

// calm is for kubelet and the controllers, which the restore before keeps busy
// for some seconds after the API is back.
const calm = 5 * time.Second

// way is a way to restore.
type way struct {
	name   string
	script string   // of a shell, inside the node
	args   []string // of etcd-rewind
}

var rewind = way{name: "etcd-rewind", args: []string{"--yes"}}

const handName = "by hand"

var ways = []way{
	{name: handName, script: byHand},
	{name: "OpenShift's order", script: allOut},
	rewind,
	{name: "etcd-rewind --stop graceful", args: []string{"--yes", "--stop", "graceful"}},
}

// ways are those that are compared: of several nodes by hand in steps, and etcd-rewind.
func (b *bench) ways() []way {
	if b.cluster == nil {
		return ways
	}
	return []way{{name: handName, script: byHandOnEach}, {name: rewind.name, args: []string{"--yes", "--fleet"}}}
}

// What the scripts share: M manifests, A aside, S snapshot, D the new data
// directory, R the restore's arguments. They wait on what they have to wait for,
// and no longer; for the API server at the end, the client does.
const waits = `
set -euo pipefail
M=/etc/kubernetes/manifests
# The containers of this node, as crictl ps would show them: processes in its network.
runs() { for p in $(pgrep -x "$1"); do [ "$(readlink /proc/$p/ns/net)" = "$(readlink /proc/self/ns/net)" ] && echo $p; done; true; }
gone() { while [ -n "$(runs "$1")" ]; do sleep 0.1; done; }
another() { while [ "$(runs etcd)" = "$1" ] || [ -z "$(runs etcd)" ]; do sleep 0.1; done; }
# Without curl, which not every host has.
says() { timeout 1 bash -c 'exec 3<>/dev/tcp/127.0.0.1/2381; printf "GET /readyz HTTP/1.0\r\n\r\n" >&3; head -n 1 <&3' 2>/dev/null; }
etcd_ready() { until says | grep -q ' 200 '; do sleep 0.1; done; }
mkdir -p "$A"
`

// byHand is the order of the Kubernetes documents and of the usual exam
// answers (kubernetes.io, "Restoring an etcd cluster"): the API server stops,
// the snapshot is restored, etcd.yaml edited in place, the API server back.
const byHand = `
mv $M/kube-apiserver.yaml "$A/"
gone kube-apiserver
old=$(runs etcd)
etcdutl snapshot restore "$S" --data-dir "$D" $R 2>/dev/null
sed -i "s#path: /var/lib/etcd.*#path: $D#" $M/etcd.yaml
another "$old"
etcd_ready
mv "$A/kube-apiserver.yaml" $M/
`

// allOut is OpenShift's order (cluster-restore.sh): all manifests out, wait for
// the containers, restore, all in.
const allOut = `
mv $M/*.yaml "$A/"
gone kube-apiserver
gone etcd
etcdutl snapshot restore "$S" --data-dir "$D" $R 2>/dev/null
sed -i "s#path: /var/lib/etcd.*#path: $D#" "$A/etcd.yaml"
mv "$A"/*.yaml $M/
etcd_ready
`

// byHandOnEach is the order of the Kubernetes documents for several members: all API
// servers stop, then all members; the snapshot is restored on each, with the same
// token and member list; all members start, then all API servers. A blank line
// is where the nodes wait for each other: each step is done on all of them at the
// same moment, as by somebody who types into three terminals at once.
const byHandOnEach = `
mv $M/kube-apiserver.yaml "$A/"; gone kube-apiserver

mv $M/etcd.yaml "$A/"; gone etcd

etcdutl snapshot restore "$S" --data-dir "$D" $R 2>/dev/null
sed -i "s#path: /var/lib/etcd.*#path: $D#" "$A/etcd.yaml"

mv "$A/etcd.yaml" $M/; etcd_ready

mv "$A/kube-apiserver.yaml" $M/
`

// result is one restore.
type result struct {
	way, size string
	dead      bool          // the control plane was, when somebody came: outage counts from the first command
	outage    time.Duration // as a client saw it; of several nodes until all are seen again
	none      time.Duration // of several nodes: while none was seen
	claimed   time.Duration // as etcd-rewind says; 0 for the scripts
	phases    []phase
	parts     []part   // of several nodes, what all waited for
	each      [][]part // of several nodes, in their order
}

type phase struct {
	title string
	took  time.Duration
}

type bench struct {
	node    *cluster.Node // where etcd-rewind is called
	nodes   []*cluster.Node
	cluster *cluster.Cluster // nil of one node
	config  *rest.Config
	client  *http.Client
	serial  int
}

const (
	tool   = "/run/etcd-rewind"
	shot   = "/var/lib/shot.db"
	marker = "/api/v1/namespaces/default/configmaps/marker"
)

func (b *bench) prepare(ctx context.Context, dir string) error {
	program := dir + "/program"
	build := exec.CommandContext(ctx, "go", "build", "-o", program, "etcd-rewind")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build etcd-rewind: %w\n%s", err, out)
	}
	for _, n := range b.nodes {
		if err := copyFile(ctx, program, n.HostPath(tool)); err != nil {
			return err
		}
	}
	config, err := clientcmd.BuildConfigFromFlags("", b.node.HostPath(cluster.SuperAdmin))
	if err != nil {
		return err
	}
	b.config = config
	tlsConfig, err := rest.TLSConfigFor(config)
	if err != nil {
		return err
	}
	b.client = &http.Client{Transport: &http.Transport{TLSClientConfig: tlsConfig, TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{}}}
	_, err = b.node.Kubectl(ctx, "create", "configmap", "marker", "--from-literal=is=restored")
	return err
}

func copyFile(ctx context.Context, from, to string) error {
	if out, err := exec.CommandContext(ctx, "cp", from, to).CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// fill brings the database to its size and takes the snapshot that all restores
// are from.
func (b *bench) fill(ctx context.Context, size string) error {
	if err := b.mark(ctx, "restored"); err != nil {
		return err
	}
	if size == large {
		fmt.Fprintln(os.Stderr, "writing 2 GB")
		// Such a database needs another quota than etcd's 2 GiB. What fills it
		// is outside of what the API server watches.
		quota := "A=/run/aside\n" + waits + `cd $M
sed '/^    - etcd$/a\    - --quota-backend-bytes=8589934592' etcd.yaml > /run/etcd.yaml && cp /run/etcd.yaml .etcd.yaml && mv .etcd.yaml etcd.yaml
limited() { for p in $(runs etcd); do grep -aq quota-backend-bytes= /proc/$p/cmdline && return 0; done; return 1; }
until limited; do sleep 0.1; done
until etcdctl endpoint health >/dev/null 2>&1; do sleep 0.1; done`
		values := `head -c 1000000 /dev/urandom | base64 -w 0 | head -c 1000000 > /run/value
for i in $(seq 1 1900); do etcdctl put /filler/$i < /run/value >/dev/null; done`
		for _, n := range b.nodes { // one after the other: the rest has a quorum
			if out, err := etcdctlShell(ctx, n, quota); err != nil {
				return fmt.Errorf("set a quota: %w\n%s", err, out)
			}
		}
		if out, err := etcdctlShell(ctx, b.node, values); err != nil {
			return fmt.Errorf("fill: %w\n%s", err, out)
		}
	}
	if err := b.node.Save(ctx, b.shot(size)); err != nil {
		return err
	}
	for _, n := range b.nodes[1:] { // by hand it has to be there
		if err := copyFile(ctx, b.node.HostPath(b.shot(size)), n.HostPath(b.shot(size))); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) shot(size string) string { return shot + "-" + strings.ReplaceAll(size, " ", "") }

func etcdctlShell(ctx context.Context, n *cluster.Node, script string) ([]byte, error) {
	env := `export ETCDCTL_CACERT=/etc/kubernetes/pki/etcd/ca.crt ETCDCTL_CERT=/etc/kubernetes/pki/etcd/healthcheck-client.crt ETCDCTL_KEY=/etc/kubernetes/pki/etcd/healthcheck-client.key
`
	return n.Command(ctx, "bash", "-c", env+script).CombinedOutput()
}

func (b *bench) mark(ctx context.Context, value string) error {
	_, err := b.node.Kubectl(ctx, "patch", "configmap", "marker", "--type=merge", "-p", `{"data":{"is":"`+value+`"}}`)
	return err
}

// pause waits until the cluster is as an engineer finds it, and then a while.
// A machine of its own has its memory at hand.
func (b *bench) pause(ctx context.Context, more time.Duration) error {
	if err := b.settled(ctx); err != nil {
		return err
	}
	if _, err := memory.Settle(2 << 30); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(more):
		return nil
	}
}

// breakOff stops a restore in the middle and puts the node back.
func (b *bench) breakOff(ctx context.Context) error {
	if err := b.settled(ctx); err != nil {
		return err
	}
	script := fmt.Sprintf(`%[1]s restore %[2]s --yes & run=$!
while [ -e /etc/kubernetes/manifests/kube-apiserver.yaml ]; do sleep 0.05; done
kill -TERM $run; ! wait $run && %[1]s undo --yes`, tool, shot+"-"+small)
	if out, err := b.node.Command(ctx, "bash", "-c", script).CombinedOutput(); err != nil {
		return fmt.Errorf("break off a restore: %w\n%s", err, out)
	}
	return nil
}

// run restores once and watches as a client does.
func (b *bench) run(ctx context.Context, w way, size string) (result, error) {
	b.serial++
	if err := b.mark(ctx, "live"); err != nil {
		return result{}, err
	}
	file := b.shot(small)
	if size == large {
		file = b.shot(large)
	}
	r := result{way: w.name, size: size}
	probeCtx, stop := context.WithCancel(ctx)
	defer stop()
	seen := b.watch(probeCtx, "restored")

	var err error
	var t *told
	if w.script != "" {
		err = b.script(ctx, w, file)
	} else {
		t, err = b.tool(ctx, append([]string{"restore", file}, w.args...), &r)
	}
	if err != nil {
		return r, fmt.Errorf("%s: %w", w.name, err)
	}
	all, err := seen(back)
	if err != nil {
		return r, fmt.Errorf("%s: %w", w.name, err)
	}
	o := whole(all)
	r.outage = o.length()
	if b.cluster != nil {
		r.none = none(all)
	}
	if w.name == rewind.name {
		b.owners(ctx, &r, t, o, all, restoreMarks)
	}
	return r, nil
}

// back is how long a client waits for the API at most when all has been done by hand.
const back = 5 * time.Minute

// marksOf are those of one node, up to the end of its outage.
type marksOf func(n *nodeTold, m moments, to time.Time) []mark

// owners finds who had an outage: of one node by its marks, of several by what was
// seen of each. A run whose owners aren't known counts all the same, and is missing
// in that table.
func (b *bench) owners(ctx context.Context, r *result, t *told, o outage, seen []outage, marks marksOf) {
	if err := b.findOwners(ctx, r, t, o, seen, marks); err != nil {
		fmt.Fprintf(os.Stderr, "who had this outage isn't known: %s\n", err)
	}
}

func (b *bench) findOwners(ctx context.Context, r *result, t *told, o outage, seen []outage, marks marksOf) error {
	var at []moments
	var names []string
	for _, n := range b.nodes {
		m, err := momentsOf(ctx, n)
		if err != nil {
			return fmt.Errorf("%s: %w", n.Hostname, err)
		}
		at, names = append(at, m), append(names, n.Hostname)
	}
	var err error
	if b.cluster != nil {
		r.each, r.parts, err = fleetParts(t, names, at, seen)
		return err
	}
	n := t.nodes[""]
	if n == nil {
		return errors.New("there are no events of the node")
	}
	r.parts, err = cut(o, marks(n, at[0], o.to))
	return err
}

// ready waits until all of the control plane is.
func (b *bench) ready(ctx context.Context) error {
	if b.cluster != nil {
		return b.cluster.Ready(ctx)
	}
	return b.node.Ready(ctx)
}

// settled waits until the API is ready, and removes old data directories.
func (b *bench) settled(ctx context.Context) error {
	if err := b.ready(ctx); err != nil {
		return err
	}
	clean := `keep=$(sed -n 's#.*path: \(/var/lib/etcd.*\)#\1#p' /etc/kubernetes/manifests/etcd.yaml | head -1)
for d in /var/lib/etcd*; do [ "$d" = "$keep" ] || rm -rf "$d"; done`
	for _, n := range b.nodes {
		if out, err := n.Command(ctx, "bash", "-c", clean).CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
	}
	return nil
}

// url leads to a node's own API server.
func url(n *cluster.Node, path string) string { return "https://" + n.Address + ":6443" + path }

// follow watches services, as kube-proxy and CoreDNS do in every cluster, but
// without a network plugin not in this one. It comes back at once when it is
// cut off. An API server that somebody watches ends only when kubelet kills it,
// after 30 s; with the controllers alone it does so after 1 to 30 s, by the
// time at which they give up.
func (b *bench) follow(ctx context.Context, client *http.Client, n *cluster.Node) {
	for ctx.Err() == nil {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url(n, "/api/v1/services?watch=1"), nil)
		if err != nil {
			return
		}
		if resp, err := client.Do(req); err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
		}
		select {
		case <-ctx.Done():
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// script does by hand what a way says, on all nodes at once, step by step: of one
// node all is one step.
func (b *bench) script(ctx context.Context, w way, file string) error {
	var members []string
	for _, n := range b.nodes {
		members = append(members, fmt.Sprintf("%s=https://%s:2380", n.Hostname, n.Address))
	}
	for step := range strings.SplitSeq(w.script, "\n\n") {
		errs := make([]error, len(b.nodes))
		var all sync.WaitGroup
		for i, n := range b.nodes {
			args := fmt.Sprintf("--name %s --initial-cluster %s --initial-cluster-token by-hand-%d --initial-advertise-peer-urls https://%s:2380 --bump-revision 1000000000 --mark-compacted",
				n.Hostname, strings.Join(members, ","), b.serial, n.Address)
			env := fmt.Sprintf("S=%s D=/var/lib/etcd-hand-%d A=/etc/kubernetes/aside-%[2]d R='%[3]s'\n", file, b.serial, args)
			all.Go(func() {
				if out, err := n.Command(ctx, "bash", "-c", env+waits+step).CombinedOutput(); err != nil {
					errs[i] = fmt.Errorf("%s: %w\n%s", n.Hostname, err, out)
				}
			})
		}
		all.Wait()
		if err := errors.Join(errs...); err != nil {
			return err
		}
	}
	return nil
}

// tool runs etcd-rewind on the first node.
func (b *bench) tool(ctx context.Context, args []string, r *result) (*told, error) {
	args = append(args, "--output", "json")
	if b.cluster == nil { // it is each node's own
		args = append(args, "--kubelet-restart-command", b.node.KubeletRestartCommand)
	}
	cmd := b.node.Command(ctx, tool, args...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%w\n%s%s", err, out, errs.Bytes())
	}
	t, err := readTold(bytes.NewReader(out))
	if err != nil {
		return nil, err
	}
	r.claimed, r.phases = t.claimed, t.phases()
	return t, nil
}

// watch asks every node for /readyz and for the marker, over connections that it
// keeps while they answer, as clients do: one every 20 ms, three every 60 ms, so that
// they cost the same. What it returns waits, for a while at most, until all nodes
// have answered with that value, and returns for each the times of the last good
// answer before and of that one.
func (b *bench) watch(ctx context.Context, value string) func(within time.Duration) ([]outage, error) {
	type saw struct {
		i int
		o outage
	}
	seen := make(chan saw, len(b.nodes))
	for i, n := range b.nodes {
		go func() { seen <- saw{i, b.watchNode(ctx, n, value)} }()
	}
	return func(within time.Duration) ([]outage, error) {
		all := make([]outage, len(b.nodes))
		late := time.After(within)
		for range b.nodes {
			select {
			case s := <-seen:
				all[s.i] = s.o
			case <-late:
				return nil, errors.New("the object doesn't come back")
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		return all, ctx.Err()
	}
}

func (b *bench) watchNode(ctx context.Context, n *cluster.Node, value string) outage {
	tick := time.NewTicker(time.Duration(len(b.nodes)) * 20 * time.Millisecond)
	defer tick.Stop()
	last := time.Now()
	for {
		select {
		case <-ctx.Done():
			return outage{}
		case <-tick.C:
		}
		at := time.Now()
		ask, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
		_, ready := b.get(ask, url(n, "/readyz"))
		body, found := b.get(ask, url(n, marker))
		cancel()
		if !ready || !found {
			continue
		}
		if strings.Contains(body, `"is":"`+value+`"`) {
			return outage{last, time.Now()}
		}
		last = at
	}
}

func (b *bench) get(ctx context.Context, url string) (string, bool) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", false
	}
	resp, err := b.client.Do(req)
	if err != nil {
		return "", false
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err == nil && resp.StatusCode == http.StatusOK
}
