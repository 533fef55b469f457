package settle

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"etcd-rewind/defect"
	"etcd-rewind/manifest"
	"etcd-rewind/node"
	"etcd-rewind/problem"
	"etcd-rewind/steps"
	"etcd-rewind/trust"
)

// kubeadmConfig compares what kubeadm would render etcd's manifest from with what
// etcd runs on: kubeadm upgrade would start the old data (kubernetes#94395).
func kubeadmConfig(ctx context.Context, c *Cluster) ([]Debt, error) {
	f := c.Facts
	if f.Etcd == nil || f.Layout.ConfigMap == "" {
		return nil, nil
	}
	at := node.ConfigMapClient{Kubeconfig: f.Reach.API.Kubeconfig, Server: f.Reach.Server, Namespace: f.Layout.Namespace, Name: f.Layout.ConfigMap}
	read, err := at.Get(ctx)
	if errors.Is(err, node.ErrNotFound) {
		return nil, nil // not kubeadm's
	}
	if err != nil {
		return nil, err
	}
	text := []byte(read.Data[f.Layout.ConfigMapKey])
	have, err := manifest.ReadKubeadmEtcd(text)
	if err != nil {
		return nil, fmt.Errorf("%s in ConfigMap %s: %w", f.Layout.ConfigMapKey, f.Layout.ConfigMap, err)
	}
	runs := f.Etcd.DataDir.Path
	if have.External || trust.Within(have.DataDir, runs) && trust.Within(runs, have.DataDir) {
		return nil, nil
	}
	d := Debt{
		Object:   f.Layout.Namespace + "/" + f.Layout.ConfigMap,
		Is:       fmt.Sprintf("etcd.local.dataDir is %s, and etcd runs on %s", have.DataDir, runs),
		Means:    "the next kubeadm upgrade writes etcd.yaml from it, and starts etcd on the old data",
		Commands: []string{steps.SetDataDirCommand(runs)},
	}
	l := f.Live
	if f.EtcdPod() != nil && l != nil && len(l.Members) == 1 {
		d.Commands = append(d.Commands, steps.Command("settle --swap", "", f.Flags)+"   "+trust.Comment("instead: moves the data to "+have.DataDir+", API down for some seconds"))
	}
	if l == nil || len(l.Members) != 1 {
		d.Means += "; kubeadm has one directory for all control planes: make sure that etcd uses it on each"
	} else if edited, err := manifest.SetKubeadmDataDir(text, runs); err == nil && have.WALDir == "" {
		d.settle = func(ctx context.Context) (string, error) {
			return "kubeadm upgrade keeps etcd on " + runs, at.Set(ctx, read, f.Layout.ConfigMapKey, string(edited))
		}
	}
	return []Debt{d}, nil
}

// nodesMissing are nodes that run a kubelet, or were nodes before the restore, and
// aren't in the API: a kubelet registers its node only when it starts
// (kubernetes#71398).
func nodesMissing(_ context.Context, c *Cluster) ([]Debt, error) {
	there, err := c.nodes()
	if err != nil {
		return nil, err
	}
	const means = "its kubelet keeps running the pods it has, gets no new ones, and registers only when it starts"
	var out []Debt
	asked := map[string]bool{}
	for _, k := range c.kubelets {
		asked[k.Node] = true
		if there[k.Node] || !k.Runs && k.Node == c.here() {
			continue // without a kubelet it is an etcd host, or somebody has stopped it
		}
		is := "its kubelet runs, and the node isn't in the API"
		if !k.Runs {
			is = "its kubelet doesn't run, and the node isn't in the API"
		}
		out = append(out, Debt{
			Object: k.Node, Is: is, Means: means, Commands: []string{c.restartThere(k.Node)}, Sure: sureOfRestart(k.Node),
			settle: func(ctx context.Context) (string, error) { return c.register(ctx, k.Node) },
		})
	}
	if c.Before == nil {
		return few(out), nil
	}
	for _, n := range c.Before.Nodes {
		if asked[n.Name] || there[n.Name] {
			continue
		}
		d := Debt{
			Object: n.Name, Is: "it was a node before the restore, and isn't in the API", Means: means,
			Commands: []string{c.restartThere(n.Name)},
		}
		if err := c.away[n.Name]; err != nil {
			d.Is += "; it can't be reached from here"
		}
		out = append(out, d)
	}
	return few(out), nil
}

// restartThere is the command that restarts a node's kubelet, from here.
func (c *Cluster) restartThere(node string) string {
	if node == c.here() {
		return c.RestartCommand
	}
	return trust.Shell("ssh %s %s", cmp.Or(c.at[node], c.Hosts[node], node), c.RestartCommand)
}

func sureOfRestart(node string) string {
	return "kubelet on " + trust.Text(node) + " is restarted. Its containers keep running; pods that aren't in the API are stopped."
}

// registersWithin is what a node gets to be in the API after its kubelet's start.
const registersWithin = 40 * time.Second

// register restarts a node's kubelet, and waits until the node is in the API.
func (c *Cluster) register(ctx context.Context, name string) (string, error) {
	begun := time.Now()
	if err := c.restartOf(ctx, name); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, registersWithin)
	defer cancel()
	err := until(ctx, func() error {
		found := false
		err := list(ctx, c, "api/v1/nodes", func(n *corev1.Node) { found = found || n.Name == name })
		if err == nil && !found {
			err = problem.New(c.Facts.Layout.KubeletLog()+" there shows why", "kubelet was restarted, and hasn't registered the node within %s", registersWithin)
		}
		return err
	})
	return fmt.Sprintf("the node is in the API, %.1f s after the restart", time.Since(begun).Seconds()), err
}

// startsWithin is what a kubelet gets to start what the API asks it for.
const startsWithin = 3 * time.Minute

// looksApart is how long a pod has to be on a node other than it is in the API.
// After a restore with a raised revision kubelets have started and ended all pods
// within 10 s (measured: docs/after.md), but for one that takes long to end.
const looksApart = 15 * time.Second

// kubeletPods compares the pods that nodes run with those of the API, by UID: a
// kubelet that saw the state before the restore waits for revisions after that
// one, and hears nothing of the API until then (kubernetes#131115,
// kubernetes#56212; measured in docs/after.md).
func kubeletPods(ctx context.Context, c *Cluster) ([]Debt, error) {
	if c.Facts.Own {
		return nil, nil // a practice node runs the control plane alone
	}
	there, err := c.nodes()
	if err != nil {
		return nil, err
	}
	var kubelets, differ []*Kubelet
	var unread error
	back := c.wentBack()
	for _, k := range c.kubelets {
		switch {
		case k.PodsErr != "":
			unread = errors.Join(unread, fmt.Errorf("%s: %s", trust.Text(k.Node), k.PodsErr))
		case there[k.Node]: // or its kubelet has to start anyway
			kubelets = append(kubelets, k)
		}
	}
	first, err := c.compare(ctx, kubelets)
	if err != nil {
		return nil, errors.Join(unread, err)
	}
	for _, k := range kubelets {
		if first[k.Node].any() {
			differ = append(differ, k)
		}
	}
	second := map[string]differences{}
	if len(differ) > 0 {
		if err := wait(ctx, c.pause(looksApart)); err != nil {
			return nil, errors.Join(unread, err)
		}
		again, err := c.lookAgain(ctx, differ)
		unread = errors.Join(unread, err)
		if second, err = c.compare(ctx, again); err != nil {
			return nil, errors.Join(unread, err)
		}
	}
	var out []Debt
	for _, k := range kubelets {
		var is, means []string
		see := func(seen, follows string) { is, means = append(is, seen), append(means, follows) }
		if k.Runs && k.Unwell != "" {
			see("its kubelet isn't healthy: "+trust.Clip(trust.Text(k.Unwell), 200), "nothing is started or stopped there, and the node becomes NotReady")
		}
		if back != nil && k.Age > time.Since(back.WentBack).Seconds() {
			see("its kubelet has run since before run "+back.Run+" took etcd's revision back", "it waits for revisions that are gone, and may start no new pods until it is restarted")
		}
		a, b := first[k.Node], second[k.Node]
		if pods := both(a.phantoms, b.phantoms); len(pods) > 0 {
			see(fmt.Sprintf("pods that run here and aren't in the API (%d): %s", len(pods), some(pods)),
				"two of the same may work on the same volume or address; kubelet stops them when it starts")
		}
		if pods := both(a.lost, b.lost); len(pods) > 0 {
			see(fmt.Sprintf("pods that are Running in the API but don't run here (%d): %s", len(pods), some(pods)),
				"services send traffic to pods that don't run, and nothing answers; when kubelet starts, it lists the API's pods and starts them")
		}
		if pods := both(a.idle, b.idle); len(pods) > 0 {
			see(fmt.Sprintf("pods that have been due here for over %s and haven't started (%d): %s", sayMinutes(startsWithin), len(pods), some(pods)),
				"kubelet may have a stale view of them; it lists them again when it starts")
		}
		if len(is) == 0 {
			continue
		}
		// One debt a node: one restart settles all of it.
		out = append(out, Debt{
			Object: k.Node, Is: strings.Join(is, "; "), Means: strings.Join(means, ". "), Commands: []string{c.restartThere(k.Node)}, Sure: sureOfRestart(k.Node),
			settle: func(ctx context.Context) (string, error) {
				return "kubelet was restarted, and answers; check again in a minute", c.restartOf(ctx, k.Node)
			},
		})
	}
	return out, unread
}

// wentBack is the last run that changed this node, if it has taken etcd's revision
// back: after a later one that raises it, kubelets list everything again.
func (c *Cluster) wentBack() *steps.RunInfo {
	for i, r := range c.Runs {
		if r.State == steps.RunUntouched {
			continue
		}
		if r.WentBack.IsZero() {
			return nil
		}
		return &c.Runs[i]
	}
	return nil
}

// differences are the pods of which a node and the API don't say the same, their
// names by UID.
type differences struct {
	phantoms map[string]string // run, and aren't in the API
	lost     map[string]string // are Running in the API, and don't run
	idle     map[string]string // have been due for long, and don't run
}

func sayMinutes(d time.Duration) string { return fmt.Sprintf("%.0f minutes", d.Minutes()) }

func (d differences) any() bool { return len(d.phantoms)+len(d.lost)+len(d.idle) > 0 }

// both names the pods that are in two looks.
func both(first, second map[string]string) (names []string) {
	for uid, name := range first {
		if _, ok := second[uid]; ok {
			names = append(names, name)
		}
	}
	return names
}

// compare compares what nodes ran when they were looked at with the API, by node.
// The API is asked after the runtimes: a pod that came in between is in both.
func (c *Cluster) compare(ctx context.Context, kubelets []*Kubelet) (map[string]differences, error) {
	out := map[string]differences{}
	running, static := map[string]map[string]bool{}, map[string]map[string]bool{}
	for _, k := range kubelets {
		d := differences{map[string]string{}, map[string]string{}, map[string]string{}}
		out[k.Node], running[k.Node], static[k.Node] = d, map[string]bool{}, map[string]bool{}
		for _, p := range k.Pods {
			running[k.Node][p.UID] = true
			d.phantoms[p.UID] = p.String()
		}
		for _, name := range k.Static {
			static[k.Node][name] = true
		}
	}
	err := list(ctx, c, "api/v1/pods", func(p *corev1.Pod) {
		d, ok := out[p.Spec.NodeName]
		if !ok {
			return
		}
		uid := string(p.UID)
		if mirrored := p.Annotations[corev1.MirrorPodAnnotationKey]; mirrored != "" {
			uid = mirrored // a static pod: kubelet's UID for it is the hash
		}
		delete(d.phantoms, uid)
		switch name := p.Namespace + "/" + p.Name; {
		case running[p.Spec.NodeName][uid]:
		case p.Status.Phase == corev1.PodRunning:
			d.lost[uid] = name
		case p.Status.Phase == corev1.PodPending && p.DeletionTimestamp == nil && uid == string(p.UID) && time.Since(p.CreationTimestamp.Time) > startsWithin:
			d.idle[uid] = name
		}
	})
	for node, d := range out { // static pods are kubelet's own
		maps.DeleteFunc(d.phantoms, func(_, name string) bool { return static[node][name] })
	}
	return out, err
}

// lookAgain looks at kubelets once more. All other nodes that answered are asked,
// for Nodes restarts those only that it has looked at last.
func (c *Cluster) lookAgain(ctx context.Context, kubelets []*Kubelet) (again []*Kubelet, unread error) {
	wanted := map[string]bool{}
	for _, k := range kubelets {
		wanted[k.Node] = true
	}
	if wanted[c.here()] {
		if own := c.look(ctx); own != nil {
			again = append(again, own)
		}
		delete(wanted, c.here())
	}
	if len(wanted) == 0 {
		return again, nil
	}
	names := slices.Sorted(maps.Keys(c.hosts))
	far := make([]Host, len(names))
	for i, name := range names {
		far[i] = c.hosts[name]
	}
	seen, errs := c.Nodes.Look(ctx, far)
	for i, k := range seen {
		switch {
		case errs[i] != nil:
			unread = errors.Join(unread, fmt.Errorf("%s: %w", trust.Text(far[i].Node), errs[i]))
		case wanted[k.Node]:
			again = append(again, k)
		}
	}
	return again, unread
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// masterleases are the addresses of API servers that the service kubernetes
// leads to. An API server writes its own every 10 s with a lease of 15 s; one
// that stays unwritten and doesn't answer leads clients nowhere
// (kubernetes#86812).
func masterleases(ctx context.Context, c *Cluster) ([]Debt, error) {
	f := c.Facts
	if f.API == nil || len(f.Reach.Etcd.Endpoints) == 0 {
		return nil, nil
	}
	prefix := f.API.EtcdPrefix + "/masterleases/"
	before, err := node.EtcdKeys(ctx, f.Reach.Etcd, prefix, 100)
	if err != nil || len(before) < 2 {
		return nil, err // this node's own is always written
	}
	between := c.pause(21 * time.Second) // two of its turns
	if err := wait(ctx, between); err != nil {
		return nil, err
	}
	after, err := node.EtcdKeys(ctx, f.Reach.Etcd, prefix, 100)
	if err != nil {
		return nil, err
	}
	stale := slices.DeleteFunc(after, func(key node.EtcdKey) bool { return !slices.Contains(before, key) }) // written since
	answers := make([]string, len(stale))
	var all sync.WaitGroup
	for i, key := range stale {
		all.Go(defect.Do(func() { answers[i] = c.answersAt(ctx, key.Key[len(prefix):]) }))
	}
	all.Wait()
	var out []Debt
	for i, key := range stale {
		address := key.Key[len(prefix):]
		d := Debt{
			Object: address, Is: fmt.Sprintf("the API server at %s hasn't renewed its entry for %s", trust.Text(address), between),
			Means:    "the service kubernetes sends some of its clients to an address where nothing answers",
			Commands: []string{trust.Shell("etcdctl del %s", key.Key)},
		}
		if answers[i] != "" {
			d.Is += ", and still answers there: " + answers[i]
			d.Means = "it may run on another etcd: find out which, before its entry is deleted"
		} else {
			d.settle = func(ctx context.Context) (string, error) {
				return "its entry is deleted", node.DeleteEtcdKey(ctx, f.Reach.Etcd, key)
			}
		}
		out = append(out, d)
	}
	return few(out), nil
}

// answersAt is what an API server answers at an address, at this one's port; "" when
// nothing does.
func (c *Cluster) answersAt(ctx context.Context, address string) string {
	own, err := url.Parse(c.Facts.Reach.API.ReadyURL)
	if err != nil || own.Port() == "" || net.ParseIP(address) == nil {
		return ""
	}
	a := node.AskAPI(ctx, node.APIConfig{ReadyURL: "https://" + net.JoinHostPort(address, own.Port()) + "/readyz"}, 3*time.Second)
	if a.Err != nil {
		return ""
	}
	return trust.Clip(trust.Text(a.String()), 200)
}

// nodesGone are nodes that had been deleted before the restore and are in the API
// again, with nobody behind them.
func nodesGone(_ context.Context, c *Cluster) ([]Debt, error) {
	if c.Before == nil || c.Before.More["nodes"] > 0 {
		return nil, nil // which nodes there were isn't known
	}
	all, err := c.all()
	if err != nil {
		return nil, err
	}
	was := map[string]bool{}
	for _, n := range c.Before.Nodes {
		was[n.Name] = true
	}
	var out []Debt
	for _, n := range all {
		ready := slices.ContainsFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool {
			return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
		})
		if !was[n.Name] && !ready {
			out = append(out, Debt{
				Object: n.Name, Is: "it had been deleted before the restore, is a node again, and isn't ready",
				Means:    "its pods count as running until they are evicted, and volumes stay attached to it",
				Commands: []string{trust.Shell("kubectl describe node %s", n.Name), trust.Shell("kubectl delete node %s", n.Name) + "   # if the machine is gone"},
			})
		}
	}
	return few(out), nil
}
