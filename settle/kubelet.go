package settle

import (
	"context"
	"errors"
	"fmt"
	"time"

	"etcd-rewind/node"
	"etcd-rewind/problem"
	"etcd-rewind/steps"
)

// Kubelet is a node's kubelet and what it runs, as it is seen on that node.
type Kubelet struct {
	Node    string  `json:"node"` // its name for the node
	Runs    bool    `json:"runs"`
	Age     float64 `json:"age,omitempty"`    // since it started, in seconds by that node's clock; 0 where it isn't known
	Unwell  string  `json:"unwell,omitempty"` // why its healthz doesn't say ok
	Pods    []Pod   `json:"pods,omitempty"`
	PodsErr string  `json:"pods_error,omitempty"` // why they aren't known
	// Static are its static pods, "namespace/name".
	Static []string `json:"static,omitempty"`
	// Tokens is how many pods' tokens the API server was asked about, and Refused
	// are those that it doesn't take; TokensErr says why it couldn't be asked.
	Tokens    int       `json:"tokens,omitempty"`
	Refused   []Refused `json:"refused,omitempty"`
	TokensErr string    `json:"tokens_error,omitempty"`
}

// Pod is a pod that a container runtime runs.
type Pod struct {
	Namespace string    `json:"namespace"`
	Name      string    `json:"name"`
	UID       string    `json:"uid"`
	Created   time.Time `json:"created"` // by that node's clock
}

func (p *Pod) String() string { return p.Namespace + "/" + p.Name }

// MostPods bounds what is taken of one node.
const MostPods = 2000

// Look is this node's kubelet; nil where there is none. It changes nothing.
func Look(ctx context.Context, f *steps.Facts) *Kubelet {
	k := f.Kubelet
	if k == nil {
		return nil
	}
	out := &Kubelet{Node: k.NodeName, Runs: k.PID != 0}
	if f.KubeletErr != nil && k.HealthzURL != "" {
		out.Unwell = problem.Line(f.KubeletErr)
	}
	if !k.Started.IsZero() {
		out.Age = max(time.Since(k.Started).Seconds(), 0) // a clock may be set back
	}
	for _, m := range f.Manifests.Files {
		if m.Pod != nil && len(out.Static) < MostPods {
			out.Static = append(out.Static, m.Pod.Namespace+"/"+k.PodName(m.Pod.Name))
		}
	}
	if k.CRIEndpoint == "" {
		return out
	}
	var err error
	if out.Pods, err = running(ctx, k.CRIEndpoint); err != nil {
		out.PodsErr = problem.Line(err)
	}
	if out.Refused, out.Tokens, err = refused(ctx, k, out.Pods); err != nil {
		out.TokensErr = problem.Line(err)
	}
	return out
}

func running(ctx context.Context, endpoint string) ([]Pod, error) {
	rt, err := node.Dial(ctx, endpoint)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rt.Close() }()
	all, err := rt.Pods(ctx)
	if err != nil {
		return nil, err
	}
	var out []Pod
	for _, s := range all {
		if len(out) == MostPods {
			return out, fmt.Errorf("more than %d pods run here", MostPods)
		}
		out = append(out, Pod{s.Namespace, s.Name, s.UID, s.Created})
	}
	return out, nil
}

// healthyWithin is what a kubelet gets to come back after its restart.
const healthyWithin = 30 * time.Second

// RestartKubelet runs the command that restarts this node's kubelet, and waits
// until its healthz answers: an error says that it doesn't.
func RestartKubelet(ctx context.Context, f *steps.Facts, command string) error {
	if f.Kubelet == nil {
		return errors.New("this node has no kubelet")
	}
	if err := node.Shell(ctx, command); err != nil {
		return problem.New(f.Layout.KubeletLog()+" shows why", "%s: %w", command, err)
	}
	if f.Kubelet.HealthzURL == "" {
		return nil // it can't be asked
	}
	ctx, cancel := context.WithTimeout(ctx, healthyWithin)
	defer cancel()
	return until(ctx, func() error { return f.Kubelet.Healthy(ctx) })
}

// until asks again and again; the error is the last one when ctx ends.
func until(ctx context.Context, ask func() error) error {
	for {
		err := ask()
		if err == nil {
			return nil
		}
		select {
		case <-time.After(250 * time.Millisecond):
		case <-ctx.Done():
			return err
		}
	}
}
