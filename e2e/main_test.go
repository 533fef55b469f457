//go:build e2e && linux

// Package e2e tests against real control planes. See package cluster.
//
//	go test -tags e2e -timeout 30m ./e2e
//
// The first run builds Kubernetes and etcd and takes minutes more.
package e2e

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"etcd-rewind/e2e/cluster"
	"etcd-rewind/e2e/matrix"
)

const (
	// baseVariable is, in the tests' environment, what the names of nodes begin with.
	// The node that the tests share has it for a name.
	baseVariable = "ETCD_REWIND_E2E_NODE"
	// logsVariable is the directory for the nodes' files and logs.
	logsVariable = "ETCD_REWIND_E2E_LOGS"
	// sharedVariable is "no" where every test that is run brings up its own nodes.
	sharedVariable = "ETCD_REWIND_E2E_SHARED"
	// entriesVariable names what tests run on, entries of the matrix: the one that the
	// shared node is, defaultEntry without it; those that TestOnSystemd and the like bring
	// up, separated by blanks; or the one of three nodes.
	entriesVariable = "ETCD_REWIND_E2E_ENTRIES"
	defaultEntry    = "systemd-1.34"
)

var (
	base = os.Getenv(baseVariable)
	logs = os.Getenv(logsVariable)
)

// node is the control plane that the tests share, or the one that use has put
// in its place.
var node *cluster.Node

// TestMain runs twice. The process that go test starts brings up the node and
// takes it down; the tests are in a child of it. So the node goes away also when
// a test panics, runs out of time, or is interrupted.
func TestMain(m *testing.M) {
	if base == "" {
		os.Exit(supervise())
	}
	if os.Getenv(sharedVariable) != "no" {
		var err error
		if node, err = cluster.Open(base); err == nil {
			err = buildTool()
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	code := m.Run()
	if err := errors.Join(threeDown(), os.RemoveAll(programs())); err != nil {
		fmt.Fprintln(os.Stderr, "FAIL:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// supervise brings up a node, runs the tests on it, and takes down all nodes that
// were brought up. It returns the exit code.
func supervise() (code int) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	defer stop()
	fail := func(err error) int {
		fmt.Fprintln(os.Stderr, "FAIL:", err)
		return 1
	}

	dir, err := os.MkdirTemp("", "etcd-rewind-e2e-")
	if err != nil {
		return fail(err)
	}
	defer func() {
		if code == 0 {
			os.RemoveAll(dir)
		} else if os.Remove(dir) != nil { // not empty
			fmt.Fprintln(os.Stderr, "the node's logs are in", dir)
		}
	}()

	// The tests' temporary directories are in one that a host with systemd has, too.
	tmp := filepath.Join(dir, "tmp")
	if err := os.Mkdir(tmp, 0o755); err != nil {
		return fail(err)
	}
	defer os.RemoveAll(tmp)

	name := fmt.Sprintf("e2e-%d", os.Getpid())
	down := cluster.Sweep
	if os.Getenv(sharedVariable) != "no" {
		entry, err := sharedEntry()
		if err != nil {
			return fail(err)
		}
		config := configOf(entry)
		config.Name, config.Hostname, config.Dir = name, entry.Hostname(), dir
		config.Shared, config.Progress = []string{tmp}, os.Stderr
		up, err := cluster.Up(ctx, config)
		if err != nil {
			return fail(err)
		}
		down = func(ctx context.Context) error { return errors.Join(up.Down(ctx), cluster.Sweep(ctx)) }
	}

	tests := exec.Command("/proc/self/exe", os.Args[1:]...)
	tests.Args[0] = os.Args[0]
	tests.Env = append(os.Environ(), baseVariable+"="+name, logsVariable+"="+dir, "TMPDIR="+tmp)
	tests.Stdin, tests.Stdout, tests.Stderr = os.Stdin, os.Stdout, os.Stderr
	// When this process is killed they must not go on. The signal is sent when the
	// thread that started them ends, so it must be kept: prctl(2).
	runtime.LockOSThread()
	tests.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	testErr := tests.Start()
	if testErr == nil {
		ended := make(chan error, 1)
		go func() { ended <- tests.Wait() }()
		select {
		case testErr = <-ended:
		case <-ctx.Done():
			// Ctrl-C reaches the tests too, other signals do not.
			_ = tests.Process.Kill()
			testErr = errors.Join(errors.New("interrupted"), <-ended)
		}
	}

	downCtx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	downErr := down(downCtx)
	if exit := (*exec.ExitError)(nil); downErr == nil && errors.As(testErr, &exit) && exit.ExitCode() > 0 {
		return exit.ExitCode() // the tests have said why themselves
	}
	if err := errors.Join(testErr, downErr); err != nil {
		return fail(err)
	}
	return 0
}

// sharedEntry is the entry of the matrix that the shared node is.
func sharedEntry() (matrix.Entry, error) {
	return matrix.One(cmp.Or(strings.TrimSpace(os.Getenv(entriesVariable)), defaultEntry))
}

func TestTheNodeIsReal(t *testing.T) {
	ctx := t.Context()
	entry, err := sharedEntry()
	if err != nil {
		t.Fatal(err)
	}
	t.Run("and what the table says", func(t *testing.T) { isTheEntry(t, entry) })
	kubectl := func(args ...string) string {
		t.Helper()
		out, err := node.Kubectl(ctx, args...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}

	// The whole of the control plane works: the controller manager makes a
	// ReplicaSet and a Pod of a Deployment.
	kubectl("create", "namespace", "shop")
	t.Cleanup(func() {
		// The test's own context is over by now.
		if _, err := node.Kubectl(afterwards(t), "delete", "namespace", "shop", "--wait=false"); err != nil {
			t.Error(err)
		}
	})
	kubectl("create", "configmap", "app", "--namespace=shop", "--from-literal=colour=blue")
	kubectl("create", "deployment", "web", "--namespace=shop", "--image=example.com/web", "--replicas=2")
	kubectl("wait", "--namespace=shop", "deployment/web", "--for=jsonpath={.status.unavailableReplicas}=2", "--timeout=240s")
	if colour := kubectl("get", "configmap", "app", "--namespace=shop", "-o", "jsonpath={.data.colour}"); colour != "blue" {
		t.Errorf("the ConfigMap says %q, want blue", colour)
	}

	// etcd can be asked, over TLS, and a snapshot of it holds what was made.
	file := t.TempDir() + "/snapshot.db"
	if err := node.Save(ctx, file); err != nil {
		t.Fatal(err)
	}
	snapshot, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(snapshot), "/registry/configmaps/shop/app") {
		t.Error("the snapshot does not hold ConfigMap shop/app")
	}
	if out, err := node.Command(ctx, "etcdutl", "snapshot", "status", file).CombinedOutput(); err != nil {
		t.Errorf("etcdutl: %v\n%s", err, out)
	}

	// The pods are containers of containerd's.
	out, err := node.Command(ctx, "ctr", "--namespace=k8s.io", "containers", "list").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, image := range []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"} {
		if !strings.Contains(string(out), "registry.k8s.io/"+image+":") {
			t.Errorf("no container of %s:\n%s", image, out)
		}
	}

	// kubelet can be restarted from inside the node, and outlives who did it.
	before, err := node.KubeletPID(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := node.Command(ctx, "sh", "-c", node.KubeletRestartCommand).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", node.KubeletRestartCommand, err, out)
	}
	if err := node.StartKubelet(ctx); err != nil { // runs already: only waits
		t.Fatal(err)
	}
	if after, err := node.KubeletPID(ctx); err != nil || after == before {
		t.Errorf("kubelet is still process %s after a restart (%v)", after, err)
	}

	// The new kubelet does its work: a static pod comes and goes with its manifest.
	if err := node.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	image := kubectl("get", "pod", "--namespace=kube-system", "etcd-"+node.Hostname, "-o", "jsonpath={.spec.containers[0].image}")
	manifest := node.HostPath("/etc/kubernetes/manifests/probe.yaml")
	text := fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata: {name: probe, namespace: kube-system}
spec:
  hostNetwork: true
  terminationGracePeriodSeconds: 0
  containers:
  - {name: probe, image: %q, command: [sleep, infinity]}
`, image)
	if err := os.WriteFile(manifest, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	kubectl("wait", "--namespace=kube-system", "--for=create", "pod/probe-"+node.Hostname, "--timeout=240s")
	kubectl("wait", "--namespace=kube-system", "--for=condition=Ready", "pod/probe-"+node.Hostname, "--timeout=240s")
	if err := os.Remove(manifest); err != nil {
		t.Fatal(err)
	}
	kubectl("wait", "--namespace=kube-system", "--for=delete", "pod/probe-"+node.Hostname, "--timeout=240s")
}
