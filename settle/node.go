package settle

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

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
	if l := f.Live; l == nil || len(l.Members) != 1 {
		d.Means += "; kubeadm has one directory for all control planes: see that etcd has the same on each"
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
	const means = "its kubelet goes on with the pods it has, gets no new ones, and registers only when it starts"
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
	return "kubelet on " + trust.Text(node) + " is restarted. Its containers keep running; pods that the API doesn't have are ended."
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

// kubeletPods compares the pods that nodes run with those of the API, by UID: a
// kubelet that saw the state before the restore can hold on to it
// (kubernetes#131115, kubernetes#56212).
func kubeletPods(ctx context.Context, c *Cluster) ([]Debt, error) {
	there, err := c.nodes()
	if err != nil {
		return nil, err
	}
	// The API is asked after the runtimes: a pod that came in between is in both.
	type api struct {
		known map[string]bool
		due   map[string]string
	}
	of := map[string]api{}
	for _, k := range c.kubelets {
		of[k.Node] = api{map[string]bool{}, map[string]string{}}
	}
	err = list(ctx, c, "api/v1/pods", func(p *corev1.Pod) {
		a, ok := of[p.Spec.NodeName]
		if !ok {
			return
		}
		a.known[string(p.UID)] = true
		if mirrored := p.Annotations[corev1.MirrorPodAnnotationKey]; mirrored != "" {
			a.known[mirrored] = true // a static pod: kubelet's UID for it is the hash
		} else if p.DeletionTimestamp == nil && p.Status.Phase == corev1.PodPending && time.Since(p.CreationTimestamp.Time) > startsWithin {
			a.due[string(p.UID)] = p.Namespace + "/" + p.Name
		}
	})
	if err != nil {
		return nil, err
	}
	var out []Debt
	var unread error
	for _, k := range c.kubelets {
		switch {
		case k.PodsErr != "":
			unread = errors.Join(unread, fmt.Errorf("%s: %s", trust.Text(k.Node), k.PodsErr))
			continue
		case !there[k.Node]:
			continue // its kubelet has to start anyway
		}
		static := map[string]bool{}
		for _, name := range k.Static {
			static[name] = true
		}
		phantoms, idle := compare(k.Pods, of[k.Node].known, of[k.Node].due, static)
		add := func(is, means string) {
			out = append(out, Debt{
				Object: k.Node, Is: is, Means: means, Commands: []string{c.restartThere(k.Node)}, Sure: sureOfRestart(k.Node),
				settle: func(ctx context.Context) (string, error) {
					return "kubelet was restarted, and answers; look again in a minute", c.restartOf(ctx, k.Node)
				},
			})
		}
		if k.Runs && k.Unwell != "" {
			add("its kubelet isn't well: "+trust.Clip(trust.Text(k.Unwell), 200), "nothing is started or ended there, and the node becomes NotReady")
		}
		if n := len(phantoms); n > 0 {
			add(fmt.Sprintf("pods that run here and aren't in the API (%d): %s", n, some(phantoms)),
				"two of the same may work on the same volume or address; kubelet ends them when it starts")
		}
		if n := len(idle); n > 0 {
			add(fmt.Sprintf("pods that have been due here for over %s and haven't begun (%d): %s", startsWithin, n, some(idle)),
				"kubelet may hold on to what it knew of them; it lists them again when it starts")
		}
	}
	return out, unread
}

// compare names the pods that run and aren't known, by UID, and those that are
// due and don't run. Static pods are kubelet's own.
func compare(running []Pod, known map[string]bool, due map[string]string, static map[string]bool) (phantoms, idle []string) {
	for _, p := range running {
		delete(due, p.UID)
		if name := p.String(); !known[p.UID] && !static[name] && time.Since(p.Created) > startsWithin {
			phantoms = append(phantoms, name)
		}
	}
	return phantoms, slices.Collect(maps.Values(due))
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
	wait := c.wait
	if wait == 0 {
		wait = 21 * time.Second // two of its turns
	}
	select {
	case <-time.After(wait):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	after, err := node.EtcdKeys(ctx, f.Reach.Etcd, prefix, 100)
	if err != nil {
		return nil, err
	}
	var out []Debt
	for _, key := range after {
		if !slices.Contains(before, key) {
			continue // written since
		}
		address := key.Key[len(prefix):]
		out = append(out, Debt{
			Object: address, Is: fmt.Sprintf("the API server at %s hasn't refreshed its entry for %s", trust.Text(address), wait),
			Means:    "the service kubernetes leads a part of its clients to an address where nobody answers",
			Commands: []string{trust.Shell("etcdctl del %s", key.Key)},
			settle: func(ctx context.Context) (string, error) {
				return "its entry is deleted", node.DeleteEtcdKey(ctx, f.Reach.Etcd, key)
			},
		})
	}
	return out, nil
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
				Object: n.Name, Is: "it is a node again that had been deleted before the restore, and it isn't ready",
				Means:    "its pods count as running until they are evicted, and volumes stay attached to it",
				Commands: []string{trust.Shell("kubectl describe node %s", n.Name), trust.Shell("kubectl delete node %s", n.Name) + "   # if the machine is gone"},
			})
		}
	}
	return few(out), nil
}
