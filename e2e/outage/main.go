//go:build linux

// Outage measures how long the API is down while etcd is restored, as a client
// sees it, on a real control plane: by hand in the order of the documents, in
// OpenShift's order, and by etcd-rewind; alternating, in one run.
//
//	go run ./e2e/outage [-runs 7] [-random 40] [-big 7] [-docs docs]
//	go run ./e2e/outage -recovery [-runs 7] [-big 7] [-dead=false]
//
// It needs root, and the programs that e2e/install.sh installs.
package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"etcd-rewind/e2e/cluster"
	"etcd-rewind/e2e/memory"
)

func main() {
	runs := flag.Int("runs", 7, "runs of each way")
	random := flag.Int("random", 40, "further runs of etcd-rewind, at random intervals")
	big := flag.Int("big", 0, "runs of each way with a database of 2 GB")
	docs := flag.String("docs", "", "directory to write outage.md and outage.svg to")
	recovery := flag.Bool("recovery", false, "measure a control plane that is dead, and undo, instead")
	dead := flag.Bool("dead", true, "with -recovery: measure one that is dead, and not undo alone")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := measure(ctx, *runs, *random, *big, *docs, *recovery, *dead); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func measure(ctx context.Context, runs, random, big int, docs string, recovery, dead bool) (err error) {
	dir, err := os.MkdirTemp("", "etcd-rewind-outage-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	n, err := cluster.Up(ctx, cluster.Config{Name: fmt.Sprintf("outage-%d", os.Getpid()), Hostname: "cp1", Dir: dir, Progress: os.Stderr})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.Down(context.WithoutCancel(ctx))) }()
	b := &bench{node: n, whole: recovery}
	if err := b.prepare(ctx); err != nil {
		return err
	}
	watcher, err := rest.HTTPClientFor(b.config)
	if err != nil {
		return err
	}
	go b.follow(ctx, watcher)
	atStart, err := memory.Touch(1 << 30)
	if err != nil {
		return err
	}
	var all []result
	keep := func(what string, i int, r result, err error) error {
		if err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "%s, %s, run %d: %.1f s\n", what, r.way, i+1, r.outage.Seconds())
		all = append(all, r)
		return nil
	}
	before := machine()
	if recovery {
		err = b.recoveries(ctx, small, runs, dead, keep)
		if err == nil {
			err = b.recoveries(ctx, large, big, dead, keep)
		}
		fmt.Printf("The machine before: %s\nand after: %s\n\n%s", before, machine(), recoveryTable(all))
		return err
	}
	eachWay := func(size string, n int) error {
		if n == 0 {
			return nil
		}
		if err := b.fill(ctx, size); err != nil {
			return err
		}
		for i := range n {
			for _, w := range ways {
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
	for _, part := range []func() error{
		func() error { return eachWay(small, runs) },
		func() error {
			return further(atRandom, random, func() error { return b.pause(ctx, rand.N(10*time.Second)) })
		},
		func() error { return further(inARow, min(random, 4), func() error { return nil }) },
		func() error { return further(afterAFailure, min(random, 2), func() error { return b.breakOff(ctx) }) },
		func() error { return eachWay(large, big) },
	} {
		if err = part(); err != nil {
			break // what is measured by now is worth telling
		}
	}
	atEnd, terr := memory.Touch(1 << 30)
	err = errors.Join(err, terr)
	text := fmt.Sprintf("The first touch of 1 GB of memory took %.1f s before the runs and %.1f s after them.\nThe machine before: %s; and after: %s.\n\n%s",
		atStart.Seconds(), atEnd.Seconds(), before, machine(), table(all))
	fmt.Print(text)
	if err != nil || docs == "" {
		return err
	}
	if err := os.WriteFile(docs+"/outage.md", []byte(page(text)), 0o644); err != nil {
		return err
	}
	return os.WriteFile(docs+"/outage.svg", []byte(picture(all)), 0o644)
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

var ways = []way{
	{name: "by hand", script: byHand},
	{name: "OpenShift's order", script: allOut},
	rewind,
	{name: "etcd-rewind --stop graceful", args: []string{"--yes", "--stop", "graceful"}},
}

// What both scripts share: M manifests, A aside, S snapshot, D the new data
// directory, IP the node's address, R the restore's arguments. They wait on
// what they have to wait for, and no longer.
const waits = `
set -euo pipefail
M=/etc/kubernetes/manifests
# The containers of this node, as crictl ps would show them: processes in its network.
runs() { for p in $(pgrep -x "$1"); do [ "$(readlink /proc/$p/ns/net)" = "$(readlink /proc/self/ns/net)" ] && echo $p; done; true; }
gone() { while [ -n "$(runs "$1")" ]; do sleep 0.1; done; }
another() { while [ "$(runs etcd)" = "$1" ] || [ -z "$(runs etcd)" ]; do sleep 0.1; done; }
ready() { until curl -skf -m 1 -o /dev/null "$1"; do sleep 0.1; done; }
mkdir -p "$A"
`

// byHand is the order of the Kubernetes documents and of the usual exam
// answers (kubernetes.io, "Restoring an etcd cluster"): the API server stops,
// the snapshot is restored, etcd.yaml edited in place, the API server back.
const byHand = waits + `
mv $M/kube-apiserver.yaml "$A/"
gone kube-apiserver
old=$(runs etcd)
etcdutl snapshot restore "$S" --data-dir "$D" $R 2>/dev/null
sed -i "s#path: /var/lib/etcd.*#path: $D#" $M/etcd.yaml
another "$old"
ready http://127.0.0.1:2381/readyz
mv "$A/kube-apiserver.yaml" $M/
ready https://$IP:6443/readyz
`

// allOut is OpenShift's order (cluster-restore.sh): all manifests out, wait for
// the containers, restore, all in.
const allOut = waits + `
mv $M/*.yaml "$A/"
gone kube-apiserver
gone etcd
etcdutl snapshot restore "$S" --data-dir "$D" $R 2>/dev/null
sed -i "s#path: /var/lib/etcd.*#path: $D#" "$A/etcd.yaml"
mv "$A"/*.yaml $M/
ready http://127.0.0.1:2381/readyz
ready https://$IP:6443/readyz
`

// result is one restore.
type result struct {
	way, size string
	dead      bool          // the control plane was, when somebody came: outage counts from the first command
	outage    time.Duration // as a client saw it
	claimed   time.Duration // as etcd-rewind says; 0 for the scripts
	phases    []phase
	parts     []part
}

type phase struct {
	title string
	took  time.Duration
}

type bench struct {
	node   *cluster.Node
	config *rest.Config
	client *http.Client
	serial int
	whole  bool // what comes before the first step is a phase, too
}

const (
	tool   = "/run/etcd-rewind"
	shot   = "/var/lib/shot.db"
	marker = "/api/v1/namespaces/default/configmaps/marker"
)

func (b *bench) prepare(ctx context.Context) error {
	build := exec.CommandContext(ctx, "go", "build", "-o", b.node.HostPath(tool), "etcd-rewind")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build etcd-rewind: %w\n%s", err, out)
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
		script := `cd /etc/kubernetes/manifests
sed '/^    - etcd$/a\    - --quota-backend-bytes=8589934592' etcd.yaml > /run/etcd.yaml && cp /run/etcd.yaml .etcd.yaml && mv .etcd.yaml etcd.yaml
until pgrep -f 'etcd --quota-backend-byte[s]=' >/dev/null; do sleep 0.1; done
until etcdctl endpoint health >/dev/null 2>&1; do sleep 0.1; done
head -c 1000000 /dev/urandom | base64 -w 0 | head -c 1000000 > /run/value
for i in $(seq 1 1900); do etcdctl put /filler/$i < /run/value >/dev/null; done`
		if out, err := b.etcdctlShell(ctx, script); err != nil {
			return fmt.Errorf("fill: %w\n%s", err, out)
		}
	}
	return b.node.Save(ctx, b.shot(size))
}

func (b *bench) shot(size string) string { return shot + "-" + strings.ReplaceAll(size, " ", "") }

func (b *bench) etcdctlShell(ctx context.Context, script string) ([]byte, error) {
	env := `export ETCDCTL_CACERT=/etc/kubernetes/pki/etcd/ca.crt ETCDCTL_CERT=/etc/kubernetes/pki/etcd/healthcheck-client.crt ETCDCTL_KEY=/etc/kubernetes/pki/etcd/healthcheck-client.key
`
	return b.node.Command(ctx, "bash", "-c", env+script).CombinedOutput()
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
	seen := make(chan outage, 1)
	go func() { seen <- b.watch(probeCtx) }()

	var err error
	var done map[string]time.Time
	if w.script != "" {
		err = b.script(ctx, w, file)
	} else {
		done, err = b.rewind(ctx, w, file, &r)
	}
	if err != nil {
		return r, fmt.Errorf("%s: %w", w.name, err)
	}
	var o outage
	select {
	case o = <-seen:
	case <-time.After(time.Minute):
		return r, fmt.Errorf("%s: the restored object doesn't come back", w.name)
	}
	r.outage = o.length()
	if w.name == rewind.name {
		if r.parts, err = b.parts(ctx, o, done); err != nil {
			return r, fmt.Errorf("%s: %w", w.name, err)
		}
	}
	return r, nil
}

// settled waits until the API is ready, and removes old data directories.
func (b *bench) settled(ctx context.Context) error {
	if err := b.node.Ready(ctx); err != nil {
		return err
	}
	clean := `keep=$(sed -n 's#.*path: \(/var/lib/etcd.*\)#\1#p' /etc/kubernetes/manifests/etcd.yaml | head -1)
for d in /var/lib/etcd*; do [ "$d" = "$keep" ] || rm -rf "$d"; done`
	if out, err := b.node.Command(ctx, "bash", "-c", clean).CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// follow watches services, as kube-proxy and CoreDNS do in every cluster, but
// without a network plugin not in this one. It comes back at once when it is
// cut off. An API server that somebody watches ends only when kubelet kills it,
// after 30 s; with the controllers alone it does so after 1 to 30 s, by the
// time at which they give up.
func (b *bench) follow(ctx context.Context, client *http.Client) {
	for ctx.Err() == nil {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, b.config.Host+"/api/v1/services?watch=1", nil)
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

func (b *bench) script(ctx context.Context, w way, file string) error {
	data := fmt.Sprintf("/var/lib/etcd-hand-%d", b.serial)
	args := fmt.Sprintf("--name cp1 --initial-cluster cp1=https://%[1]s:2380 --initial-advertise-peer-urls https://%[1]s:2380 --bump-revision 1000000000 --mark-compacted", b.node.Address)
	env := fmt.Sprintf("IP=%s S=%s D=%s A=/etc/kubernetes/aside-%d R='%s'\n", b.node.Address, file, data, b.serial, args)
	out, err := b.node.Command(ctx, "bash", "-c", env+w.script).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
}

// rewind returns when each action was done.
func (b *bench) rewind(ctx context.Context, w way, file string, r *result) (done map[string]time.Time, err error) {
	return b.tool(ctx, append([]string{"restore", file}, w.args...), r)
}

// tool runs etcd-rewind; what comes before its first step is a phase, too.
func (b *bench) tool(ctx context.Context, args []string, r *result) (done map[string]time.Time, err error) {
	started := time.Now()
	cmd := b.node.Command(ctx, tool, append(args, "--output", "json", "--kubelet-restart-command", b.node.KubeletRestartCommand)...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%w\n%s%s", err, out, errs.Bytes())
	}
	begun := map[string]time.Time{}
	done = map[string]time.Time{}
	lines := bufio.NewScanner(bytes.NewReader(out))
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var ev struct {
			Type, Step, Action, State, Message string
			Time                               time.Time
			Outage                             float64 `json:"outage_seconds"`
		}
		if err := json.Unmarshal(lines.Bytes(), &ev); err != nil {
			return nil, err
		}
		switch {
		case ev.Type == "step" && ev.State == "started":
			if len(r.phases) == 0 && b.whole {
				r.phases = append(r.phases, phase{"(reads, checks and plans)", ev.Time.Sub(started)})
			}
			begun[ev.Step] = ev.Time
			r.phases = append(r.phases, phase{title: ev.Message})
		case ev.Type == "step" && ev.State == "done":
			r.phases[len(r.phases)-1].took = ev.Time.Sub(begun[ev.Step])
		case ev.Type == "action" && (ev.State == "done" || ev.State == "already"):
			done[ev.Action] = ev.Time
		case ev.Type == "result":
			r.claimed = time.Duration(ev.Outage * float64(time.Second))
		}
	}
	return done, lines.Err()
}

// watch asks every 20 ms for /readyz and for the marker, over connections that it
// keeps while they answer, as clients do, and returns the times of the last good
// answer and of the first good answer with the restored data.
func (b *bench) watch(ctx context.Context) outage { return b.watchFor(ctx, "restored") }

func (b *bench) watchFor(ctx context.Context, value string) outage {
	tick := time.NewTicker(20 * time.Millisecond)
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
		_, ready := b.get(ask, "/readyz")
		body, found := b.get(ask, marker)
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

func (b *bench) get(ctx context.Context, path string) (string, bool) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, b.config.Host+path, nil)
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

func median(d []time.Duration) time.Duration {
	s := slices.Sorted(slices.Values(d))
	if len(s) == 0 {
		return 0
	}
	return s[len(s)/2]
}
