package steps

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"etcd-rewind/node"
	"etcd-rewind/problem"
)

// A machine without kubelet is described like any other, and the checks say
// what is missing on it.
func TestAHostWithoutKubeletIsAnAnswer(t *testing.T) {
	root := t.TempDir()
	layout := node.Kubeadm
	layout.Manifests, layout.KubeletRoot = filepath.Join(root, "kubernetes/manifests"), filepath.Join(root, "kubelet")
	layout.StateDir, layout.KubeletEnv = filepath.Join(root, "runs"), nil
	opts := Options{Options: node.Options{Layout: &layout, NoProcess: true}}

	f, err := Discover(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	host, _ := node.Hostname()
	if f.Kubelet != nil || f.Node != host || f.StateDir != layout.StateDir || len(f.Roles()) > 0 {
		t.Errorf("kubelet %v, node %s, runs in %s, roles %v", f.Kubelet, f.Node, f.StateDir, f.Roles())
	}
	blocking := map[string]Verdict{}
	for _, v := range Blocking(Check(t.Context(), f, nil, Choices{})) {
		blocking[v.Check] = v
	}
	for check, cause := range map[string]string{"kubelet": "no kubelet runs here", "etcd-manifest": "no manifest of etcd in " + layout.Manifests, "api-manifest": "no manifest of kube-apiserver"} {
		if v := blocking[check]; !strings.Contains(v.Cause, cause) || v.Hint == "" && check != "api-manifest" {
			t.Errorf("%s: %q → %q", check, v.Cause, v.Hint)
		}
	}
	// Users learn it at once, as on any machine that is no control plane.
	s := &Session{Options: opts}
	if _, err := s.Discover(t.Context()); !NoControlPlane(err) {
		t.Errorf("%v", err)
	} else if _, hint := problem.Explain(err); !strings.Contains(hint, "--manifests") {
		t.Errorf("the hint is %q", hint)
	}
	if dir, err := StateDir(t.Context(), opts); err != nil || dir != layout.StateDir {
		t.Errorf("runs are looked for in %s (%v)", dir, err)
	}

	// Runs of a time when kubelet could be found are found all the same.
	before := filepath.Join(root, "kubernetes/etcd-rewind")
	if err := os.MkdirAll(before, 0o700); err != nil {
		t.Fatal(err)
	}
	if dir, err := StateDir(t.Context(), opts); err != nil || dir != before {
		t.Errorf("runs are looked for in %s (%v)", dir, err)
	}
}

// A kubelet that isn't a control plane's is named with what it lacks.
func TestAKubeletWithoutManifestsIsAnAnswer(t *testing.T) {
	root := t.TempDir()
	config := filepath.Join(root, "config.yaml")
	manifests := filepath.Join(root, "manifests")
	text := "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nstaticPodPath: " + manifests + "\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := Discover(t.Context(), Options{Options: node.Options{KubeletConfig: config, NoProcess: true, CRI: filepath.Join(root, "none.sock")}})
	if err != nil {
		t.Fatal(err)
	}
	if f.Kubelet == nil || f.ManifestsErr == nil || !NoControlPlane(f.ControlPlane()) {
		t.Errorf("kubelet %v, manifests %v, %v", f.Kubelet, f.ManifestsErr, f.ControlPlane())
	}
	all := Check(t.Context(), f, nil, Choices{})
	i := slices.IndexFunc(all, func(v Verdict) bool { return v.Check == "manifest-directory" })
	if i < 0 || all[i].Level != Error || !strings.Contains(all[i].Cause, manifests) {
		t.Errorf("%+v", all)
	}
}

// What another program restores is left to it, with that program's command.
func TestAVendorsNodeIsRefusedWithItsOwnCommand(t *testing.T) {
	for _, v := range node.Vendors {
		err := (&Facts{Vendor: v, Etcd: &Etcd{}}).ControlPlane()
		cause, hint := problem.Explain(err)
		if !problem.HasCode(err, CodeVendor) || !strings.Contains(cause, v.Name) || !strings.Contains(cause, "nothing was touched") || !strings.HasPrefix(hint, v.Restore) {
			t.Errorf("%s: %q → %q", v.Name, cause, hint)
		}
		if NoControlPlane(err) {
			t.Errorf("%s: it is sent to another machine", v.Name)
		}
	}
}

// Nobody waits for a kube-apiserver whose etcd is down: while both end again and
// again, its port takes connections that it doesn't answer.
func TestAnAPIServerWithoutEtcdIsNotWaitedFor(t *testing.T) {
	hangs, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer hangs.Close()
	f := &Facts{API: &API{}, Etcd: &Etcd{}, Reach: Reach{
		API:  node.APIConfig{ReadyURL: "https://" + hangs.Addr().String() + "/readyz"},
		Etcd: node.EtcdConfig{Endpoints: []string{"http://" + closedPort(t)}},
	}}
	begun := time.Now()
	f.askAll(t.Context(), thePrograms)
	if took := time.Since(begun); f.APIReady || f.APIState != "no answer in time" || took < promptly || took > 1500*time.Millisecond {
		t.Errorf("etcd refuses: %q after %s", f.APIState, took)
	}
}

// closedPort is an address at which nobody listens.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
