package fleet

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"etcd-rewind/node"
	"etcd-rewind/problem"
	"etcd-rewind/settle"
	"etcd-rewind/steps"
)

// Workers are asked for their kubelets by the agents that lead a restore, and
// restarted where they are; who can't be reached is told apart from the rest.
func TestKubeletsOfWorkersAreAskedAndRestarted(t *testing.T) {
	w := newFakeWorld(t, "w7", "w8", "w9", "twin")
	w.node("w7").kubelet = &settle.Kubelet{Node: "w7", Runs: true, Pods: []settle.Pod{{Namespace: "shop", Name: "web", UID: "u"}}}
	w.node("w8").kubelet = &settle.Kubelet{Node: "../w8", Runs: true}
	w.node("twin").kubelet = &settle.Kubelet{Node: "twin", Refused: make([]settle.Refused, 2), Tokens: 1}
	d := w.pipes(t, "")
	k := &Kubelets{Dialer: d, Version: "test", Pace: quick}
	defer func() { _ = k.Close() }()
	hosts := []settle.Host{{Node: "w7", Try: []string{"w7.example", "w7"}}, {Node: "w8", Try: []string{"w8"}}, {Node: "w9", Try: []string{"w9"}}, {Node: "twin", Try: []string{"twin"}}, {Node: "gone", Try: []string{"gone"}}, {Node: "-x"}}
	seen, errs := k.Look(t.Context(), hosts)
	if errs[0] != nil || seen[0].Node != "w7" || len(seen[0].Pods) != 1 {
		t.Errorf("w7: %+v, %v", seen[0], errs[0])
	}
	for i, want := range map[int]string{1: "../w8", 2: "no kubelet", 3: "more tokens", 4: "could not resolve hostname gone", 5: "no host is known"} {
		if errs[i] == nil || seen[i] != nil || !strings.Contains(errs[i].Error(), want) {
			t.Errorf("%s: %+v, %v", hosts[i].Node, seen[i], errs[i])
		}
	}
	if err := k.Restart(t.Context(), "w7"); err != nil || w.node("w7").restarts != 1 {
		t.Errorf("%v, %d restarts", err, w.node("w7").restarts)
	}
	w.node("w7").stuck = problem.New("look at its log", "kubelet doesn't answer")
	if err := k.Restart(t.Context(), "w7"); err == nil || problem.Line(err) != "kubelet doesn't answer; look at its log" {
		t.Errorf("%v", err)
	}
	if err := k.Restart(t.Context(), "w9"); err == nil {
		t.Error("a node was restarted that wasn't looked at")
	}
}

// A worker that joined by kubeadm has no manifest directory, and is asked all the
// same.
func TestAWorkerWithoutManifestsHasAKubelet(t *testing.T) {
	root := t.TempDir()
	config := filepath.Join(root, "config.yaml")
	text := "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nstaticPodPath: " + filepath.Join(root, "manifests") + "\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	at := node.Options{KubeletConfig: config, NoProcess: true, CRI: filepath.Join(root, "none.sock")}
	n := &ThisNode{Session: &steps.Session{Options: steps.Options{Options: at, KubeletRestart: "true", StateDir: filepath.Join(root, "runs")}}}
	k, err := n.Kubelet(t.Context())
	if err != nil || k.Runs || k.PodsErr == "" {
		t.Errorf("%+v, %v", k, err)
	}
}
