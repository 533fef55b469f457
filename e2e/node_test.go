//go:build e2e && linux

package e2e

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

const (
	manifests = "/etc/kubernetes/manifests"
	stateDir  = "/etc/kubernetes/etcd-rewind"
)

// begin is how every test begins: on a node that works and has no runs. When
// the test has failed it prints kubelet's last words and, so that the next test
// has a node to work on, goes back as far as it can.
func begin(t *testing.T) {
	t.Helper()
	if err := node.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(node.HostPath(stateDir)); err != nil {
		t.Fatal(err)
	}
	before := readManifests(t)
	t.Cleanup(func() {
		if t.Failed() && !apiReady() {
			t.Log("the API is not ready: the manifests are moved back for the next test")
			repair(t, before)
		}
	})
	kubeletLog(t)
}

// repair brings up the node from its manifests, by force.
func repair(t *testing.T, before map[string][]byte) {
	ctx := afterwards(t)
	if err := node.StopKubelet(ctx); err != nil {
		t.Error(err)
	}
	for _, id := range tasks(t) {
		_ = node.Command(ctx, "ctr", "--namespace=k8s.io", "tasks", "kill", "--signal=KILL", id).Run()
	}
	_ = os.RemoveAll(node.HostPath(manifests))
	_ = os.Mkdir(node.HostPath(manifests), 0o700)
	for path, data := range before {
		if err := os.WriteFile(node.HostPath(path), data, 0o600); err != nil {
			t.Error(err)
		}
	}
	if err := node.StartKubelet(ctx); err != nil {
		t.Error(err)
	}
	if err := node.Ready(ctx); err != nil {
		t.Error(err)
	}
}

func readManifests(t *testing.T) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	entries, err := os.ReadDir(node.HostPath(manifests))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		path := filepath.Join(manifests, e.Name())
		if all[path], err = os.ReadFile(node.HostPath(path)); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// picture is what there is on the disk, by path inside the node: everything of
// a file that a rename keeps.
type picture map[string]string

// pictureOf shows all files below directories, and their content.
func pictureOf(t *testing.T, dirs ...string) picture {
	t.Helper()
	p := picture{}
	for _, dir := range dirs {
		root := node.HostPath(dir)
		err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := entry.Info()
			if err != nil {
				return err
			}
			rel, err := filepath.Rel(root, path)
			if err != nil {
				return err
			}
			of := info.Sys().(*syscall.Stat_t)
			about := fmt.Sprintf("%s %d:%d", info.Mode(), of.Uid, of.Gid)
			if info.Mode().IsRegular() {
				data, err := os.ReadFile(path)
				if err != nil {
					return err
				}
				about += fmt.Sprintf(" inode %d, %d bytes of %s, %x", of.Ino, len(data), info.ModTime().Format(time.RFC3339Nano), sha256.Sum256(data))
			}
			p[filepath.Join(dir, rel)] = about
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// wholeNode shows what no refused run may touch: manifests, what is kept of
// runs, the names of what lies beside etcd's data, and the containers. Those of
// controllers end by themselves when a busy machine costs them their lease; their
// sandboxes stay.
func wholeNode(t *testing.T) picture {
	t.Helper()
	p := pictureOf(t, manifests)
	for _, dir := range []string{"/var/lib", stateDir} {
		entries, err := os.ReadDir(node.HostPath(dir))
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		for _, e := range entries {
			p[filepath.Join(dir, e.Name())] = "is there"
		}
	}
	out, err := node.Command(t.Context(), "ctr", "--namespace=k8s.io", "containers", "list").Output()
	if err != nil {
		t.Fatal(err)
	}
	running := tasks(t)
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		if slices.Contains(running, fields[0]) && !strings.Contains(fields[1], "/kube-controller-manager:") && !strings.Contains(fields[1], "/kube-scheduler:") {
			p["container "+fields[0]] = "runs"
		}
	}
	return p
}

// same fails when two pictures differ.
func same(t *testing.T, what string, before, after picture) {
	t.Helper()
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("%s (- before, + after):\n%s", what, diff)
	}
}

// tasks are the ids of the containers and sandboxes that run.
func tasks(t *testing.T) []string {
	t.Helper()
	// Asked in the cleanup of a test too, when its context has ended.
	out, err := node.Command(afterwards(t), "ctr", "--namespace=k8s.io", "tasks", "list").Output()
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for line := range strings.Lines(string(out)) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[2] == "RUNNING" {
			ids = append(ids, fields[0])
		}
	}
	return ids
}

// labels are those of a container, nil when it has just been removed.
func labels(t *testing.T, id string) map[string]string {
	t.Helper()
	info, err := node.Command(t.Context(), "ctr", "--namespace=k8s.io", "containers", "info", id).Output()
	if err != nil {
		return nil
	}
	c := struct{ Labels map[string]string }{map[string]string{}}
	if err := json.Unmarshal(info, &c); err != nil {
		t.Fatal(err)
	}
	return c.Labels
}

// dataDir is where etcd's manifest says that its data is, on the node.
func dataDir(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile(node.HostPath(manifests + "/etcd.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var pod corev1.Pod
	if err := yaml.UnmarshalStrict(data, &pod); err != nil {
		t.Fatal(err)
	}
	for _, v := range pod.Spec.Volumes {
		if v.Name == "etcd-data" {
			return v.HostPath.Path
		}
	}
	t.Fatalf("etcd.yaml has no volume etcd-data:\n%s", data)
	return ""
}

// header is what the running etcd says of its cluster.
type header struct {
	ClusterID uint64 `json:"cluster_id"`
	Revision  int64

	Version string `json:"-"` // of the server
}

func etcdNow(t *testing.T) header {
	t.Helper()
	out, err := node.Etcdctl(t.Context(), "endpoint", "status", "--write-out=json")
	if err != nil {
		t.Fatal(err)
	}
	var status []struct {
		Status struct {
			Header  header
			Version string
		}
	}
	if err := json.Unmarshal([]byte(out), &status); err != nil || len(status) == 0 {
		t.Fatalf("%v: %s", err, out)
	}
	h := status[0].Status.Header
	h.Version = status[0].Status.Version
	return h
}

// busyness is how many times a thing may take as long as on an idle machine: what
// wants to run for each CPU.
func busyness() float64 {
	load, _ := strconv.ParseFloat(loadNow(), 64)
	return max(1, load/float64(runtime.NumCPU()))
}

// apiReady asks once whether the API server is ready.
func apiReady() bool {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	_, err := node.Kubectl(ctx, "get", "--raw=/readyz", "--request-timeout=10s")
	return err == nil
}

func kubectl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := node.Kubectl(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// objects are UIDs by kind and name.
type objects map[string]string

// story is a cluster with a past: objects, a snapshot that holds them, and what
// happened to the cluster since.
type story struct {
	label    string
	snapshot string  // path of the snapshot
	then     objects // in the snapshot
	now      objects // in the cluster when the test begins
	revision int64   // etcd's, now
}

var stories int

// aStory makes objects, takes a snapshot, deletes some and makes others.
func aStory(t *testing.T) story {
	t.Helper()
	stories++
	s := story{label: fmt.Sprintf("story=n%d", stories), snapshot: pathFor(t, fmt.Sprintf("story-%d.db", stories))}
	name := func(format string) string { return strings.ReplaceAll(format, "#", strconv.Itoa(stories)) }
	const meta = `metadata: {name: %s, namespace: %s, labels: {story: n%d}}`
	create := func(kind, name, namespace, rest string) string {
		return fmt.Sprintf("---\n%s\n"+meta+"\n%s\n", kind, name, namespace, stories, rest)
	}
	apply(t, create("apiVersion: v1\nkind: Namespace", name("shop-#"), `""`, "")+
		create("apiVersion: v1\nkind: ConfigMap", "app", name("shop-#"), "data: {colour: blue}")+
		create("apiVersion: v1\nkind: Secret", "token", name("shop-#"), "stringData: {token: secret}")+
		create("apiVersion: apps/v1\nkind: Deployment", "web", name("shop-#"), `spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: example.com/web}]}`))
	s.then = s.objects(t)
	if len(s.then) != 4 {
		t.Fatalf("4 objects were made, and these are there: %v", s.then)
	}
	if err := node.Save(t.Context(), s.snapshot); err != nil {
		t.Fatal(err)
	}
	kubectl(t, "delete", "configmap/app", "secret/token", name("--namespace=shop-#"), "--wait=false")
	apply(t, create("apiVersion: v1\nkind: Namespace", name("late-#"), `""`, "")+
		create("apiVersion: v1\nkind: ConfigMap", "late", name("late-#"), "data: {colour: red}"))
	s.now = s.objects(t)
	if len(s.now) != 4 {
		t.Fatalf("2 objects were left, 2 were made, and these are there: %v", s.now)
	}
	s.revision = etcdNow(t).Revision
	return s
}

// pathFor is a path inside the node for a file of a test's, which is at HostPath of
// it for the machine.
func pathFor(t *testing.T, name string) string {
	t.Helper()
	if path := filepath.Join(t.TempDir(), name); node.Sees(path) {
		return path
	}
	return "/root/" + name
}

func apply(t *testing.T, text string) {
	t.Helper()
	cmd := node.Command(t.Context(), "kubectl", "--kubeconfig="+node.Kubeconfig, "create", "-f", "-")
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("kubectl create: %v\n%s\n%s", err, out, text)
	}
}

// objects asks the API for what there is of the story.
func (s story) objects(t *testing.T) objects {
	t.Helper()
	out := kubectl(t, "get", "namespaces,configmaps,secrets,deployments", "--all-namespaces", "--selector="+s.label, "--output=json")
	var list struct {
		Items []struct {
			Kind     string
			Metadata struct{ Name, Namespace, UID string }
		}
	}
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		t.Fatal(err)
	}
	all := objects{}
	for _, o := range list.Items {
		all[strings.TrimSpace(o.Kind+" "+filepath.Join(o.Metadata.Namespace, o.Metadata.Name))] = o.Metadata.UID
	}
	return all
}

// isThen fails unless the cluster holds what the snapshot holds, and works.
func (s story) isThen(t *testing.T) {
	t.Helper()
	s.is(t, "the snapshot", s.then)
}

// isNow fails unless the cluster is as before the restore, and works.
func (s story) isNow(t *testing.T) {
	t.Helper()
	s.is(t, "the cluster before", s.now)
}

func (s story) is(t *testing.T, what string, want objects) {
	t.Helper()
	if !apiReady() {
		t.Fatal("the API is not ready")
	}
	if diff := cmp.Diff(want, s.objects(t)); diff != "" {
		t.Errorf("the API doesn't show what was in %s (-want +got):\n%s", what, diff)
	}
	kubectl(t, "create", "configmap", "written-after", "--namespace=default", "--from-literal=when="+time.Now().String())
	kubectl(t, "delete", "configmap", "written-after", "--namespace=default")
}
