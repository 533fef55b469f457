package practice

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"etcd-rewind/node"
	"etcd-rewind/practice/conformance"
)

// bare starts a node without a control plane: an empty manifest directory.
func bare(t *testing.T, c Config) *Node {
	t.Helper()
	c.prepare = func(_ context.Context, n *Node) error {
		for _, name := range components {
			if err := os.Remove(filepath.Join(n.Root.Manifests(), name+".yaml")); err != nil {
				return err
			}
		}
		return nil
	}
	return startNode(t, c)
}

func (n *Node) dial(t *testing.T) *node.Runtime {
	t.Helper()
	rt, err := node.Dial(t.Context(), n.Socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = rt.Close() })
	return rt
}

func TestTheKubeletKeepsKubeletsRules(t *testing.T) {
	t.Parallel()
	n := bare(t, Config{})
	k, err := node.FindKubelet(t.Context(), n.Options().Options)
	if err != nil {
		t.Fatal(err)
	}
	conformance.Run(t, conformance.Kubelet{
		Manifests: n.Root.Manifests(), NodeName: nodeName, Runtime: n.dial(t), Image: "practice", Remains: k.Remains, Begun: k.PodsBegun,
		Relists: func(ctx context.Context) (int, error) {
			client := n.Root.Path("etc/kubernetes/pki/apiserver-kubelet-client")
			return node.AskRelists(ctx, node.MetricsConfig{URL: k.MetricsURL, Cert: client + ".crt", Key: client + ".key"})
		},
	})
}

const sleeper = `apiVersion: v1
kind: Pod
metadata: {name: sleeper, namespace: kube-system}
spec:
  containers:
  - {name: sleeper, image: practice, command: [sleep, infinity]}
`

func TestAKubeletThatHasNotSeenTheAPIIgnoresRemovedManifests(t *testing.T) {
	t.Parallel()
	n := bare(t, Config{Unseen: true})
	rt := n.dial(t)
	file := filepath.Join(n.Root.Manifests(), "sleeper.yaml")
	if err := os.WriteFile(file, []byte(sleeper), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx := within(t, 30*time.Second)
	pod := func() *node.Sandbox {
		boxes, err := rt.Pod(ctx, "kube-system", "sleeper-cp1")
		if err != nil {
			t.Fatal(err)
		}
		for i := range boxes {
			if c := boxes[i].Container("sleeper"); boxes[i].Ready && c != nil && c.State == node.Running {
				return &boxes[i]
			}
		}
		return nil
	}
	wait := func(what string, ok func() bool) {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("in vain: %s", what)
			}
		}
	}
	wait("it runs", func() bool { return pod() != nil })
	first := pod().ID
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(4 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if pod() == nil {
			t.Fatal("it was ended although the kubelet hasn't seen the API server")
		}
	}
	if err := rt.StopSandbox(ctx, first); err != nil {
		t.Fatal(err)
	}
	wait("the kubelet starts it again", func() bool { p := pod(); return p != nil && p.ID != first })

	// Restarted with the manifest out it doesn't know the pod any more.
	n.RestartKubelet()
	if err := rt.StopSandbox(ctx, pod().ID); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(4 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if pod() != nil {
			t.Fatal("a kubelet started it that has no manifest of it")
		}
	}
}
