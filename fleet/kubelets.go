package fleet

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"etcd-rewind/defect"
	"etcd-rewind/problem"
	"etcd-rewind/restore"
	"etcd-rewind/settle"
	"etcd-rewind/steps"
	"etcd-rewind/trust"
)

// Kubelets reaches the kubelets of other nodes, workers too, by the agents that a
// conductor has: settle.Nodes over a remote shell. A connection stays open until
// Close, so that a node is restarted by the agent that has looked at it.
type Kubelets struct {
	Dialer  Dialer
	Version string // of this program; agents of others are refused
	Pace    Pace   // the zero value means RealPace
	Paths   restore.Paths

	mu    sync.Mutex
	links map[string]*link // by the nodes' own names
}

// atOnce is how many nodes are asked at the same time.
const atOnce = 16

// Look asks nodes for their kubelets.
func (k *Kubelets) Look(ctx context.Context, hosts []settle.Host) ([]*settle.Kubelet, []error) {
	_ = k.Close() // those of an earlier look
	seen, errs := make([]*settle.Kubelet, len(hosts)), make([]error, len(hosts))
	turn := make(chan struct{}, atOnce)
	var all sync.WaitGroup
	for i, h := range hosts {
		all.Go(defect.Do(func() {
			turn <- struct{}{}
			defer func() { <-turn }()
			seen[i], errs[i] = k.ask(ctx, h)
		}))
	}
	all.Wait()
	return seen, errs
}

func (k *Kubelets) ask(ctx context.Context, h settle.Host) (*settle.Kubelet, error) {
	c := Conductor{Dialer: k.Dialer, Version: k.Version, Pace: k.Pace, want: restore.Want{Paths: k.Paths}}
	l, err := c.connect(ctx, &fleetNode{name: h.Node, try: h.Try}, nil)
	if err != nil {
		return nil, err
	}
	is, err := call[*settle.Kubelet](ctx, l, doKubelet, struct{}{})
	if err != nil {
		l.bye()
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.links == nil {
		k.links = map[string]*link{}
	}
	if k.links[is.Node] != nil {
		l.bye()
		return nil, problem.New("name each node once", "%s is %s, as is another host", h.Node, is.Node)
	}
	k.links[is.Node] = l
	return is, nil
}

// Restart restarts the kubelet of a node that was asked, and waits until it answers.
func (k *Kubelets) Restart(ctx context.Context, node string) error {
	k.mu.Lock()
	l := k.links[node]
	k.mu.Unlock()
	if l == nil {
		return problem.New("check again", "%s isn't among the nodes that were asked", trust.Text(node))
	}
	_, err := call[struct{}](ctx, l, doRestartKubelet, struct{}{})
	return err
}

// Close ends the connections. Safe to call twice.
func (k *Kubelets) Close() error {
	k.mu.Lock()
	links := k.links
	k.links = nil
	k.mu.Unlock()
	var all sync.WaitGroup
	for _, l := range links {
		all.Go(defect.Do(l.bye))
	}
	all.Wait()
	return nil
}

// validKubelet is what a node says of its kubelet: names that are its own to say,
// and no more than a node can have.
func validKubelet(k *settle.Kubelet) error {
	if k == nil {
		return errNull
	}
	if err := trust.Name(k.Node); err != nil {
		return err
	}
	if len(k.Pods) > settle.MostPods || len(k.Static) > settle.MostPods || len(k.Refused) > settle.MostPods {
		return fmt.Errorf("more than %d pods", settle.MostPods)
	}
	if k.Age < 0 {
		return fmt.Errorf("a kubelet that has run for %f s", k.Age)
	}
	if k.Tokens < len(k.Refused) {
		return errors.New("more tokens are rejected than were checked")
	}
	return nil
}

// withKubelet discovers this node. A worker has a kubelet and no control plane,
// often not even a manifest directory.
func (n *ThisNode) withKubelet(ctx context.Context) (*steps.Facts, error) {
	f, err := n.discover(ctx)
	if f != nil && f.Kubelet != nil && steps.NoControlPlane(err) {
		return f, nil
	}
	return f, err
}

// Kubelet looks at this node's kubelet.
func (n *ThisNode) Kubelet(ctx context.Context) (*settle.Kubelet, error) {
	f, err := n.withKubelet(ctx)
	if err != nil {
		return nil, err
	}
	if k := settle.Look(ctx, f); k != nil {
		return k, nil
	}
	return nil, problem.New("", "this node has no kubelet")
}

// RestartKubelet restarts this node's kubelet, and waits until it answers.
func (n *ThisNode) RestartKubelet(ctx context.Context) error {
	f, err := n.withKubelet(ctx)
	if err != nil {
		return err
	}
	command := n.Session.Options.KubeletRestart
	if command == "" {
		command = f.Layout.RestartKubelet()
	}
	return settle.RestartKubelet(ctx, f, command)
}
