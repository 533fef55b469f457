//go:build e2e && linux

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"etcd-rewind/e2e/cluster"
	"etcd-rewind/e2e/matrix"
)

// What a restore leaves is measured here: what of it there is, whether it goes
// away by itself and after how long, and what makes it go away. The result is a
// table, in docs/after.md; nothing fails because a debt is there or isn't.
//
// There is a control plane, a worker (w1), and one that joins after the snapshot
// (w2). The restore is etcd-rewind's, once with the revision raised and once
// without. The API doesn't answer on the first look only.
func TestDebtsMeasured(t *testing.T) {
	names := strings.Fields(os.Getenv(entriesVariable))
	if len(names) == 0 {
		names = []string{"debts-1.34", "debts-1.37"}
	}
	entries, err := matrix.Named(names...)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		for _, raised := range []bool{true, false} {
			name := map[bool]string{true: "raised", false: "not raised"}[raised]
			t.Run(e.Name+", revision "+name, func(t *testing.T) {
				w := aWorld(t, e, raised)
				w.before()
				w.since()
				w.restore(raised)
				w.watch("", alone)
				w.watch("kubelet restarted on w1", cured, w.w1)
				w.watch("kubelet restarted on w2", cured, w.w2)
				w.watch("kubelet restarted on cp1", cured, w.cp)
				t.Log("\n" + w.table(fmt.Sprintf("Kubernetes %s, revision %s", e.Kubernetes, name)))
				t.Log("\n" + w.kubeadm())
			})
		}
	}
}

const (
	alone = 4 * time.Minute // what debts get to go away by themselves
	cured = time.Minute     // and after a cure
	// writes is how far the cluster goes on after the snapshot: longer than it
	// takes a restored cluster to write as much while it is looked at.
	writes = 1500
)

// world is a cluster whose etcd goes back in time, and what is looked at in it.
type world struct {
	t       *testing.T
	entry   matrix.Entry
	config  cluster.Config
	cp      *cluster.Node
	w1, w2  *cluster.Node
	image   string
	uids    map[string]string // of pods
	tokens  map[string]string
	began   time.Time // the API was ready again
	rows    []*row
	live    []string
	cluster string // the kubeadm-config of the snapshot
}

// row is one thing that is looked at.
type row struct {
	what  string
	is    func(now) string
	right func(string) bool // nil: there is nothing to heal
	seen  []seen
}

type seen struct {
	at    time.Duration
	after string // the cure before it
	is    string
}

// now is what there is at one moment.
type now struct {
	pods   map[string]corev1.Pod // of debts and kube-system, by name
	items  map[string]item       // all else, by kind/name
	leases []string              // the keys of API servers
}

type item struct {
	Kind     string
	Metadata struct{ Name, Namespace, UID string }
	Spec     struct {
		HolderIdentity, RenewTime string
	}
	Status struct {
		Phase     string
		Succeeded int
		Active    int
	}
}

// aControlPlane brings up a control plane that workers can join, for one test. The
// helpers work on it.
func aControlPlane(t *testing.T, config cluster.Config) *cluster.Node {
	t.Helper()
	up, err := cluster.UpCluster(t.Context(), config, "cp1")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // with the workers, which joined since
		c, err := cluster.OpenCluster(up.Name)
		if err == nil {
			err = c.Down(afterwards(t))
		}
		if err != nil {
			t.Error(err)
		}
	})
	use(t, up.Nodes[0])
	if err := buildTool(); err != nil {
		t.Fatal(err)
	}
	return up.Nodes[0]
}

func aWorld(t *testing.T, e matrix.Entry, raised bool) *world {
	began := time.Now()
	w := &world{t: t, entry: e, uids: map[string]string{}, tokens: map[string]string{}}
	name := base + "-" + strings.ReplaceAll(e.Name, ".", "-")
	w.config = configOf(e)
	w.config.Name, w.config.KubeletVerbosity = fmt.Sprintf("%s-%t", name, raised), 2
	w.config.Dir = filepath.Join(logs, w.config.Name)
	w.cp = aControlPlane(t, w.config)
	w.w1 = w.join("w1")
	w.image = imageOn(t, w.cp)
	t.Logf("a control plane and a worker came up in %.0f s", time.Since(began).Seconds())
	return w
}

func (w *world) join(hostname string) *cluster.Node {
	w.t.Helper()
	c := w.config
	c.Name, c.Hostname, c.Dir = c.Name+"-"+hostname, hostname, filepath.Join(c.Dir, hostname)
	n, err := w.cp.Join(w.t.Context(), c)
	if err != nil {
		w.t.Fatal(err)
	}
	return n
}

// create makes objects. A namespace's first pods have to wait for its account.
func (w *world) create(text string) {
	w.t.Helper()
	w.until("objects are made", func() string {
		cmd := w.cp.Command(w.t.Context(), "kubectl", "--kubeconfig="+w.cp.Kubeconfig, "apply", "-f", "-")
		cmd.Stdin = strings.NewReader(text)
		if out, err := cmd.CombinedOutput(); err != nil {
			return string(out)
		}
		return ""
	})
}

// spec is of pods that run until they are told to end, in the node's network.
func (w *world) spec(command, more string) string {
	return fmt.Sprintf(`{hostNetwork: true, terminationGracePeriodSeconds: 1, tolerations: [{operator: Exists}],
  containers: [{name: c, image: %q, command: [sh, -c, %q],
    env: [{name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}],
    volumeMounts: [{name: debts, mountPath: /debts}, {name: cfg, mountPath: /cfg}]}],
  volumes: [{name: debts, hostPath: {path: /var/lib/debts, type: DirectoryOrCreate}}, {name: cfg, configMap: {name: cfg}}]%s}`,
		w.image, command, more)
}

const runs = "trap 'exit 0' TERM; while :; do sleep 100000 & wait; done"

func (w *world) pod(name, on string) string {
	return fmt.Sprintf("---\n{apiVersion: v1, kind: Pod, metadata: {name: %s, namespace: debts}, spec: %s}\n", name, w.spec(runs, ", nodeName: "+on))
}

func (w *world) deployment(version string) string {
	return fmt.Sprintf("---\n{apiVersion: apps/v1, kind: Deployment, metadata: {name: web, namespace: debts}, spec: {replicas: 2, "+
		"selector: {matchLabels: {app: web}}, template: {metadata: {labels: {app: web}, annotations: {version: %q}}, spec: %s}}}\n",
		version, w.spec(runs, ", nodeSelector: {kubernetes.io/hostname: w1}"))
}

func volumeText(name string) string {
	return fmt.Sprintf(`---
{apiVersion: v1, kind: PersistentVolume, metadata: {name: %[1]s}, spec: {capacity: {storage: 1Mi}, accessModes: [ReadWriteOnce],
  storageClassName: by-hand, persistentVolumeReclaimPolicy: Retain, hostPath: {path: /var/lib/debts/%[1]s}}}
---
{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: %[1]s, namespace: debts}, spec: {storageClassName: by-hand,
  volumeName: %[1]s, accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}}
`, name)
}

const attachments = `---
{apiVersion: v1, kind: PersistentVolume, metadata: {name: attached}, spec: {capacity: {storage: 1Mi}, accessModes: [ReadWriteOnce],
  storageClassName: by-hand, persistentVolumeReclaimPolicy: Retain, csi: {driver: csi.example.com, volumeHandle: v1}}}
---
{apiVersion: storage.k8s.io/v1, kind: VolumeAttachment, metadata: {name: to-w1},
  spec: {attacher: csi.example.com, nodeName: w1, source: {persistentVolumeName: attached}}}
---
{apiVersion: storage.k8s.io/v1, kind: VolumeAttachment, metadata: {name: to-nobody},
  spec: {attacher: csi.example.com, nodeName: gone, source: {persistentVolumeName: attached}}}
`

// before is the world of the snapshot.
func (w *world) before() {
	w.t.Helper()
	kubectl(w.t, "create", "namespace", "debts")
	w.create("{apiVersion: v1, kind: ConfigMap, metadata: {name: cfg, namespace: debts}, data: {version: then}}\n" +
		w.pod("steady", "w1") + w.pod("deleted", "w1") + w.deployment("then") + volumeText("deleted") + attachments +
		"---\n{apiVersion: batch/v1, kind: Job, metadata: {name: once, namespace: debts}, spec: {template: {spec: " +
		w.spec("echo $POD >>/debts/once; until [ -e /debts/go ]; do sleep 1; done", ", restartPolicy: Never, nodeSelector: {kubernetes.io/hostname: w1}") + "}}}\n" +
		"---\n{apiVersion: batch/v1, kind: CronJob, metadata: {name: tick, namespace: debts}, spec: {schedule: '* * * * *', " +
		"successfulJobsHistoryLimit: 20, jobTemplate: {spec: {template: {spec: " +
		w.spec("echo $POD >>/debts/tick", ", restartPolicy: Never, nodeSelector: {kubernetes.io/hostname: w1}") + "}}}}}\n")
	w.secondAPIServer(true)
	w.until("the pods of then run", func() string {
		n := w.now()
		for name, p := range n.pods {
			if p.Namespace == "debts" && !strings.HasPrefix(name, "tick") && !w.runsOn(w.w1, string(p.UID)) {
				return name + " doesn't"
			}
		}
		if len(n.pods) > 4 && len(n.leases) == 2 && len(w.lines("tick")) > 0 {
			return ""
		}
		return fmt.Sprintf("%d pods, API servers %v, CronJob %v", len(n.pods), n.leases, w.lines("tick"))
	})
	// Not so near to a minute's end that the next run of the CronJob is in it.
	eventually(w.t, "the middle of a minute", func() bool { s := time.Now().Second(); return s >= 10 && s <= 40 })
	for name, p := range w.now().pods {
		w.uids[name] = string(p.UID)
	}
	w.tokens["steady"] = w.token(w.w1, w.uids["steady"])
	if err := w.cp.Save(w.t.Context(), "/root/debts.db"); err != nil {
		w.t.Fatal(err)
	}
}

// since is what happens after the snapshot.
func (w *world) since() {
	w.t.Helper()
	ran := len(w.lines("tick"))
	w.secondAPIServer(false)
	w.w2 = w.join("w2")
	w.create("{apiVersion: v1, kind: ConfigMap, metadata: {name: cfg, namespace: debts}, data: {version: since}}\n" +
		w.deployment("since") + w.pod("late", "w1") + w.pod("on-w2", "w2") + volumeText("since"))
	kubectl(w.t, "--namespace=debts", "delete", "pod", "deleted")
	kubectl(w.t, "delete", "volumeattachments", "--all", "--wait=false")
	kubectl(w.t, "--namespace=debts", "delete", "pvc", "deleted")
	kubectl(w.t, "delete", "pv", "deleted", "attached", "--wait=false")
	if err := os.WriteFile(w.w1.HostPath("/var/lib/debts/go"), nil, 0o644); err != nil {
		w.t.Fatal(err)
	}
	goOn(w.t)
	w.until("the world has gone on", func() string {
		n := w.now()
		fresh := 0
		for name, p := range n.pods {
			if strings.HasPrefix(name, "web-") && w.uids[name] == "" && w.runsOn(w.w1, string(p.UID)) {
				fresh++
			}
		}
		late, w2 := w.runsOn(w.w1, string(n.pods["late"].UID)), w.runsOn(w.w2, string(n.pods["on-w2"].UID))
		if fresh == 2 && late && w2 && n.items["Job/once"].Status.Succeeded == 1 && len(w.lines("tick")) > ran && len(n.leases) == 1 {
			return ""
		}
		return fmt.Sprintf("%d pods rolled, late %t, on-w2 %t, job %+v, CronJob %v, API servers %v", fresh, late, w2, n.items["Job/once"].Status, w.lines("tick"), n.leases)
	})
	for name, p := range w.now().pods {
		if w.uids[name] == "" {
			w.uids[name] = string(p.UID)
			w.live = append(w.live, name)
		}
	}
	// Kubelet has the ConfigMap's new value before the file has.
	eventually(w.t, "the ConfigMap to change in the pod", func() bool { return w.mounted() == "since" })
	w.tokens["late"] = w.token(w.w1, w.uids["late"])
}

// until waits until ask has nothing more to say.
func (w *world) until(what string, ask func() string) {
	w.t.Helper()
	for deadline := time.Now().Add(5 * time.Minute); ; time.Sleep(500 * time.Millisecond) {
		left := ask()
		if left == "" {
			return
		}
		if time.Now().After(deadline) {
			pods, _ := w.cp.Kubectl(w.t.Context(), "--namespace=debts", "describe", "pods")
			journal, _ := w.w1.Journal(w.t.Context(), "kubelet", 40)
			w.t.Fatalf("waited 5 minutes until %s: %s\n%s\n%s", what, left, pods, journal)
		}
	}
}

func (w *world) restore(raised bool) {
	w.t.Helper()
	w.cluster = kubectl(w.t, "get", "configmap", "kubeadm-config", "--namespace=kube-system", "--output=jsonpath={.data.ClusterConfiguration}")
	args := []string{"restore", "/root/debts.db", "--yes", "--accept", "snapshot-nodes", "--output", "json"}
	if !raised {
		args = append(args, "--bump-revision", "0")
	}
	w.expect()
	at := etcdNow(w.t).Revision
	result := run(w.t, args...).succeeded(w.t)
	w.began = time.Now()
	w.t.Logf("restored, the API was down for %.1f s; etcd was at revision %d, and is at %d", result.Outage, at, etcdNow(w.t).Revision)
	w.look("")
	// Kubelet is asked for something new.
	w.create(w.pod("new", "w1"))
}

// watch looks for a time, after a cure.
func (w *world) watch(after string, limit time.Duration, restart ...*cluster.Node) {
	w.t.Helper()
	for _, n := range restart {
		if err := n.RestartKubelet(w.t.Context()); err != nil {
			w.t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), limit)
	defer cancel()
	for tick := time.NewTicker(3 * time.Second); ; {
		w.look(after)
		select {
		case <-ctx.Done():
			tick.Stop()
			return
		case <-tick.C:
		}
	}
}

func (w *world) look(after string) {
	n := w.now()
	for _, r := range w.rows {
		is := r.is(n)
		if last := len(r.seen) - 1; last < 0 || r.seen[last].is != is {
			r.seen = append(r.seen, seen{time.Since(w.began), after, is})
		}
	}
}

// expect says what is looked at.
func (w *world) expect() {
	is := func(want string) func(string) bool { return func(is string) bool { return is == want } }
	add := func(what string, right func(string) bool, of func(now) string) {
		w.rows = append(w.rows, &row{what: what, is: of, right: right})
	}
	there := func(n now, kind string) string {
		if _, ok := n.items[kind]; ok {
			return "in the API"
		}
		return "not in the API"
	}
	// pod is what API and node say of a pod, by its UID.
	pod := func(n now, name string, on *cluster.Node) string {
		api := "not in the API"
		if p, ok := n.pods[name]; ok && string(p.UID) == w.uids[name] {
			api = string(p.Status.Phase)
			if p.DeletionTimestamp != nil {
				api += ", terminating"
			}
		}
		if w.runsOn(on, w.uids[name]) {
			return api + ", runs"
		}
		return api + ", doesn't run"
	}
	fits := func(is string) bool {
		return is == "Running, runs" || strings.HasSuffix(is, "not in the API, doesn't run")
	}
	several := func(n now, on *cluster.Node, names []string) string {
		count := map[string]int{}
		for _, name := range names {
			count[pod(n, name, on)]++
		}
		var all []string
		for is, k := range count {
			all = append(all, fmt.Sprintf("%d %s", k, is))
		}
		slices.Sort(all)
		return strings.Join(all, "; ")
	}
	var webThen, webSince []string
	for name := range w.uids {
		switch {
		case !strings.HasPrefix(name, "web-"):
		case slices.Contains(w.live, name):
			webSince = append(webSince, name)
		default:
			webThen = append(webThen, name)
		}
	}
	add("node w2, joined since", is("in the API"), func(n now) string { return there(n, "Node/w2") })
	add("its Lease", is("in the API"), func(n now) string { return there(n, "Lease/w2") })
	add("a pod made since on w2", fits, func(n now) string { return pod(n, "on-w2", w.w2) })
	add("a pod of then that runs all the time", is("Running, runs"), func(n now) string { return pod(n, "steady", w.w1) })
	add("a pod made since on w1 (phantom)", fits, func(n now) string { return pod(n, "late", w.w1) })
	add("2 pods of a Deployment rolled since (phantoms)", is("2 not in the API, doesn't run"), func(n now) string { return several(n, w.w1, webSince) })
	add("its 2 pods of then, in the API again", func(s string) bool { return s == "2 Running, runs" || s == "2 not in the API, doesn't run" }, func(n now) string { return several(n, w.w1, webThen) })
	add("a pod deleted since, in the API again", fits, func(n now) string { return pod(n, "deleted", w.w1) })
	add("a pod made after the restore on w1", is("Running, runs"), func(n now) string {
		p, ok := n.pods["new"]
		w.uids["new"] = string(p.UID)
		if !ok {
			return "not in the API"
		}
		return pod(n, "new", w.w1)
	})
	add("a ConfigMap changed since, in a running pod", is("then"), func(now) string { return w.mounted() })
	add("the token of the pod made since", nil, func(now) string { return w.whoami("late") })
	add("the token of the pod of then", is("valid"), func(now) string { return w.whoami("steady") })
	add("the mirror pods of the control plane", is("4 as they run"), func(n now) string {
		same := 0
		for _, name := range []string{"etcd-cp1", "kube-apiserver-cp1", "kube-controller-manager-cp1", "kube-scheduler-cp1"} {
			hash := n.pods[name].Annotations[corev1.MirrorPodAnnotationKey]
			if hash != "" && w.runsOn(w.cp, hash) {
				same++
			}
		}
		return fmt.Sprintf("%d as they run", same)
	})
	add("the mirror pod of a static pod taken out since", is("not in the API"), func(n now) string {
		if _, ok := n.pods["second-cp1"]; ok {
			return "in the API"
		}
		return "not in the API"
	})
	add("the entry of a second API server that is gone", is("1 entries"), func(n now) string { return fmt.Sprintf("%d entries", len(n.leases)) })
	for _, of := range []string{"kube-controller-manager", "kube-scheduler"} {
		then := w.now().items["Lease/"+of].Spec.HolderIdentity
		add("the lease of "+of, is("held by one that runs"), func(n now) string {
			l := n.items["Lease/"+of].Spec
			renewed, _ := time.Parse(time.RFC3339Nano, l.RenewTime)
			switch {
			case renewed.After(w.began):
				return "held by one that runs"
			case l.HolderIdentity == then:
				return "held by the one of before"
			}
			return "held by the one of then"
		})
	}
	add("a Job not complete then, complete since", is("Complete, 1 run"), func(n now) string {
		state := "not complete"
		if n.items["Job/once"].Status.Succeeded > 0 {
			state = "Complete"
		}
		return fmt.Sprintf("%s, %d run", state, len(w.lines("once")))
	})
	add("a CronJob: minutes that ran twice", nil, func(now) string {
		jobs, twice := map[string]int{}, 0
		for _, line := range w.lines("tick") {
			minute := line[:strings.LastIndexByte(line, '-')]
			if jobs[minute]++; jobs[minute] == 2 {
				twice++
			}
		}
		return fmt.Sprint(twice)
	})
	add("a claim and its volume, deleted since", nil, func(n now) string {
		return "claim " + n.items["PersistentVolumeClaim/deleted"].Status.Phase + ", volume " + n.items["PersistentVolume/deleted"].Status.Phase
	})
	add("a claim and its volume, made since", nil, func(n now) string { return there(n, "PersistentVolume/since") })
	add("a VolumeAttachment to w1, deleted since", is("not in the API"), func(n now) string { return there(n, "VolumeAttachment/to-w1") })
	add("a VolumeAttachment to a node that isn't there", is("not in the API"), func(n now) string { return there(n, "VolumeAttachment/to-nobody") })
}

// table is what was seen, in Markdown.
func (w *world) table(title string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n| what | at first | by itself, in %s | then |\n|---|---|---|---|\n", title, alone)
	for _, r := range w.rows {
		first := r.seen[0]
		var itself, then []string
		for _, s := range r.seen[1:] {
			at := fmt.Sprintf("%.0f s: %s", s.at.Seconds(), s.is)
			if s.after == "" {
				itself = append(itself, at)
			} else {
				then = append(then, s.after+", "+at)
			}
		}
		mark := ""
		if last := r.seen[len(r.seen)-1]; r.right != nil && !r.right(last.is) {
			mark = " (still owed)"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s%s |\n", r.what, first.is, strings.Join(itself, "; "), strings.Join(then, "; "), mark)
	}
	return b.String()
}

// kubeadm reports what kubeadm does with kubeadm-config as it was: what an upgrade
// does after a restore by hand.
func (w *world) kubeadm() string {
	w.t.Helper()
	restored := etcdNow(w.t).ClusterID
	patch, err := json.Marshal(map[string]any{"data": map[string]string{"ClusterConfiguration": w.cluster}})
	if err != nil {
		w.t.Fatal(err)
	}
	kubectl(w.t, "patch", "configmap", "kubeadm-config", "--namespace=kube-system", "--type=merge", "--patch", string(patch))
	config := filepath.Join(w.cp.Dir, "kubeadm.yaml")
	own, err := os.ReadFile(config)
	if err != nil {
		w.t.Fatal(err)
	}
	init, _, _ := strings.Cut(string(own), "\n---\n")
	if err := os.WriteFile(w.cp.HostPath("/root/phase.yaml"), []byte(init+"\n---\n"+w.cluster), 0o600); err != nil {
		w.t.Fatal(err)
	}
	began := time.Now()
	said(w.t, "kubeadm init phase etcd local --config /root/phase.yaml")
	out := "kubeadm init phase etcd local, with kubeadm-config as it was then\n"
	last := ""
	// The minute is what is measured: kubelet makes the pod again in its own time, and no
	// state says that nothing more will change.
	for time.Since(began) < time.Minute {
		is := "etcd doesn't answer"
		if status, err := w.cp.Etcdctl(w.t.Context(), "endpoint", "status", "--write-out=fields", "--command-timeout=1s"); err == nil {
			is = "etcd runs on the data of before"
			if strings.Contains(status, fmt.Sprintf(`"ClusterID" : %d`, restored)) {
				is = "etcd runs on the restored data"
			}
		}
		if _, err := w.cp.Kubectl(w.t.Context(), "get", "pod", "late", "--namespace=debts", "--request-timeout=2s"); err == nil {
			is += ", the API shows a pod made since"
		} else if strings.Contains(err.Error(), "NotFound") {
			is += ", the API doesn't show a pod made since"
		} else {
			is += ", the API doesn't answer"
		}
		if is != last {
			out += fmt.Sprintf("%3.0f s: %s\n", time.Since(began).Seconds(), is)
			last = is
		}
		time.Sleep(300 * time.Millisecond) // between two looks
	}
	return out
}

// now asks the API and etcd. What doesn't answer is asked again.
func (w *world) now() now {
	w.t.Helper()
	n := now{pods: map[string]corev1.Pod{}, items: map[string]item{}}
	eventually(w.t, "the API to answer", func() bool {
		out, err := w.cp.Kubectl(w.t.Context(), "get", "pods,nodes,leases,jobs,persistentvolumes,persistentvolumeclaims,volumeattachments", "--all-namespaces", "--output=json", "--request-timeout=5s")
		if err != nil {
			return false
		}
		var list struct{ Items []json.RawMessage }
		if err := json.Unmarshal([]byte(out), &list); err != nil {
			w.t.Fatal(err)
		}
		for _, raw := range list.Items {
			var i item
			_ = json.Unmarshal(raw, &i) // a quantity of a status isn't what it is elsewhere
			if i.Kind != "Pod" {
				n.items[i.Kind+"/"+i.Metadata.Name] = i
				continue
			}
			var p corev1.Pod
			if err := json.Unmarshal(raw, &p); err != nil {
				w.t.Fatal(err)
			}
			n.pods[p.Name] = p
		}
		keys, err := w.cp.Etcdctl(w.t.Context(), "get", "--prefix", "--keys-only", "/registry/masterleases/", "--command-timeout=3s")
		n.leases = strings.Fields(keys)
		return err == nil
	})
	return n
}

// runsOn says whether a container of a pod runs, beside the sandbox.
func (w *world) runsOn(n *cluster.Node, uid string) bool {
	if uid == "" {
		return false
	}
	containers, err := n.Containers(uid)
	if err != nil {
		w.t.Fatal(err)
	}
	return containers >= 2
}

func (w *world) lines(name string) []string {
	text, _ := os.ReadFile(w.w1.HostPath("/var/lib/debts/" + name))
	return strings.Fields(string(text))
}

// mounted is what the pod that runs all the time has in its ConfigMap's volume.
func (w *world) mounted() string {
	text, _ := os.ReadFile(w.w1.HostPath("/var/lib/kubelet/pods/" + w.uids["steady"] + "/volumes/kubernetes.io~configmap/cfg/version"))
	return string(text)
}

func (w *world) token(n *cluster.Node, uid string) string {
	found, _ := filepath.Glob(n.HostPath("/var/lib/kubelet/pods/" + uid + "/volumes/kubernetes.io~projected/*/token"))
	if len(found) != 1 {
		w.t.Fatalf("pod %s has the tokens %v", uid, found)
	}
	text, err := os.ReadFile(found[0])
	if err != nil {
		w.t.Fatal(err)
	}
	return string(text)
}

// whoami says what the API server makes of a pod's token.
func (w *world) whoami(name string) string {
	cmd := w.cp.Command(w.t.Context(), "kubectl", "--kubeconfig=/dev/null", "--server=https://"+w.cp.Address+":6443",
		"--insecure-skip-tls-verify", "--token="+w.tokens[name], "--request-timeout=5s", "auth", "whoami")
	out, err := cmd.CombinedOutput()
	switch {
	case err == nil:
		return "valid"
	case strings.Contains(string(out), "Unauthorized") || strings.Contains(string(out), "logged in"):
		return "refused"
	}
	return "no answer"
}

// secondAPIServer starts another API server on the control plane, which says that
// it is somewhere else, or ends it.
func (w *world) secondAPIServer(start bool) {
	w.t.Helper()
	second := w.cp.HostPath(manifests + "/second.yaml")
	if !start {
		if err := os.Remove(second); err != nil {
			w.t.Fatal(err)
		}
		return
	}
	text, err := os.ReadFile(w.cp.HostPath(manifests + "/kube-apiserver.yaml"))
	if err != nil {
		w.t.Fatal(err)
	}
	all := strings.NewReplacer("6443", "7443", "name: kube-apiserver", "name: second", "component: kube-apiserver", "component: second",
		"--advertise-address="+w.cp.Address, "--advertise-address=10.77.0.254", "cpu: 250m", "cpu: 10m").Replace(string(text))
	next := w.cp.HostPath(manifests + "/.second.yaml")
	if err := os.WriteFile(next, []byte(all), 0o600); err != nil {
		w.t.Fatal(err)
	}
	if err := os.Rename(next, second); err != nil {
		w.t.Fatal(err)
	}
}
