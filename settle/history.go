package settle

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"etcd-rewind/node"
	"etcd-rewind/problem"
	"etcd-rewind/steps"
	"etcd-rewind/trust"
)

// histories are an etcd that runs on other data than the last restore left it, and
// an API server that has cached another history than etcd's. A kubeadm upgrade with
// a kubeadm-config of before the restore causes both (kubernetes#94395): it starts
// etcd on the old data under a running API server.
func histories(ctx context.Context, c *Cluster) ([]Debt, error) {
	f := c.Facts
	if f.Etcd == nil {
		return nil, nil
	}
	old := c.onOldData()
	cached, err := c.cachedApart(ctx, old != nil)
	var out []Debt
	if cached != "" {
		d := Debt{
			Object: "kube-apiserver", Is: cached,
			Means: "clients read one history and write into another: restart it before anything else",
		}
		d.Commands, d.settle = c.restartAPI()
		if d.settle != nil {
			d.Sure = "kube-apiserver on this node is restarted: the API is down for some seconds."
		}
		out = append(out, d)
	}
	if old != nil {
		out = append(out, *old)
	}
	return out, err
}

// onOldData is the debt of an etcd that runs again on what the newest restore
// replaced; nil when it doesn't.
func (c *Cluster) onOldData() *Debt {
	f := c.Facts
	for _, r := range c.Runs {
		if r.State != steps.RunRestored || r.DataDir == "" {
			continue
		}
		runs := filepath.Clean(f.Etcd.DataDir.HostPath)
		if runs == filepath.Clean(r.DataDir) || runs != filepath.Clean(r.OldDir) {
			return nil
		}
		if f.Live != nil && f.Live.ClusterID != 0 && f.Live.ClusterID == r.ClusterID {
			return nil // somebody has moved the restored data there
		}
		is := fmt.Sprintf("etcd runs on %s, the data that run %s had replaced; what it restored is in %s", runs, r.Run, r.DataDir)
		if f.Live != nil && f.Live.ClusterID != 0 && r.ClusterID != 0 {
			is += fmt.Sprintf(" (cluster %x, not %x)", f.Live.ClusterID, r.ClusterID)
		}
		return &Debt{
			Object: "etcd", Is: is,
			Means: "kubeadm upgrade does that when kubeadm-config names the old directory: everything written since the restore is only in the restored data. " +
				"Decide which of the two is to be kept, soon: both go on apart",
			Commands: []string{steps.Command("repoint", r.DataDir, f.Flags) + "   " + trust.Comment("back to the restored data: planned, and undone as a restore is")},
		}
	}
	return nil
}

// cachedApart says why the API server's cache isn't of etcd's history; "" when
// nothing speaks for that. onOld says that etcd runs on the old data.
func (c *Cluster) cachedApart(ctx context.Context, onOld bool) (string, error) {
	f := c.Facts
	if f.API == nil || f.Live == nil {
		return "", nil
	}
	if onOld {
		if etcd, api, err := c.began(ctx); err == nil && !etcd.IsZero() && !api.IsZero() && api.Before(etcd) {
			return fmt.Sprintf("kube-apiserver has run since %s, and etcd was started on the old data at %s: what it has cached is the restored history's", steps.Moment(api), steps.Moment(etcd)), nil
		}
	}
	cached, err := node.CachedRevision(ctx, f.Reach.API.Kubeconfig, f.Reach.Server)
	if errors.Is(err, node.ErrNotFound) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	// etcd is asked after the cache, and once more: a member may be a moment behind.
	for again := range 2 {
		if again > 0 {
			if err := wait(ctx, min(c.pause(looksApart), 2*time.Second)); err != nil {
				return "", err
			}
		}
		is, err := c.revision(ctx)
		if err != nil || cached <= is {
			return "", err
		}
		if again > 0 {
			return fmt.Sprintf("kube-apiserver has cached revision %d, and etcd is at %d: the cache is of another history", cached, is), nil
		}
	}
	return "", nil
}

// pause is how long to wait between two looks, d but in tests.
func (c *Cluster) pause(d time.Duration) time.Duration { return cmp.Or(c.wait, d) }

// apiStops is what kube-apiserver gets to end before it is killed; apiReadyWithin
// what it gets to be ready again.
const (
	apiStops       = 5 * time.Second
	apiReadyWithin = 100 * time.Second
)

// restartAPI is how this node's kube-apiserver is restarted: by hand, and from here.
func (c *Cluster) restartAPI() (commands []string, settle func(context.Context) (string, error)) {
	f := c.Facts
	pod := f.APIPod()
	if pod == nil || f.Kubelet == nil || f.Kubelet.CRIEndpoint == "" {
		return []string{trust.Comment("restart kube-apiserver on this node, in whatever way it is run")}, nil
	}
	name := f.Kubelet.PodName(pod.File.Pod.Name)
	commands = []string{trust.Shell("crictl -r %[1]s stop $(crictl -r %[1]s ps -q --name '^kube-apiserver$')", f.Kubelet.CRIEndpoint)}
	return commands, func(ctx context.Context) (string, error) {
		begun := time.Now()
		if err := stopContainers(ctx, f.Kubelet.CRIEndpoint, pod.File.Pod.Namespace, name); err != nil {
			return "", err
		}
		ctx, cancel := context.WithTimeout(ctx, apiReadyWithin)
		defer cancel()
		err := until(ctx, func() error {
			if a := node.AskAPI(ctx, f.Reach.API, 2*time.Second); !a.Ready() {
				return problem.New("look at its log", "kube-apiserver isn't ready again: %s", a)
			}
			return nil
		})
		return fmt.Sprintf("kube-apiserver is ready again, %.0f s after it was stopped", time.Since(begun).Seconds()), err
	}
}

// stopContainers stops the containers of a static pod: kubelet starts them again.
func stopContainers(ctx context.Context, endpoint, namespace, pod string) error {
	rt, err := node.Dial(ctx, endpoint)
	if err != nil {
		return err
	}
	defer func() { _ = rt.Close() }()
	boxes, err := rt.Pod(ctx, namespace, pod)
	if err != nil {
		return err
	}
	stopped := 0
	for _, b := range boxes {
		for _, k := range b.Containers {
			if k.State == node.Running {
				if err := rt.StopContainer(ctx, k.ID, apiStops); err != nil {
					return err
				}
				stopped++
			}
		}
	}
	if stopped == 0 {
		return problem.New("kubelet starts it; look again", "no container of %s runs", pod)
	}
	return nil
}

// begunAt says since when this node's etcd and kube-apiserver have been running;
// zero for what isn't known.
func (c *Cluster) begunAt(ctx context.Context) (etcd, api time.Time, err error) {
	f := c.Facts
	if f.EtcdPod() == nil || f.APIPod() == nil || f.Kubelet == nil || f.Kubelet.CRIEndpoint == "" {
		return etcd, api, nil
	}
	rt, err := node.Dial(ctx, f.Kubelet.CRIEndpoint)
	if err != nil {
		return etcd, api, err
	}
	defer func() { _ = rt.Close() }()
	since := func(namespace, pod string) (began time.Time) {
		boxes, e := rt.Pod(ctx, namespace, f.Kubelet.PodName(pod))
		err = errors.Join(err, e)
		for _, b := range boxes {
			for _, k := range b.Containers {
				if k.State == node.Running && k.Created.After(began) {
					began = k.Created
				}
			}
		}
		return began
	}
	etcd = since(f.EtcdPod().File.Pod.Namespace, f.EtcdPod().File.Pod.Name)
	api = since(f.APIPod().File.Pod.Namespace, f.APIPod().File.Pod.Name)
	return etcd, api, err
}
