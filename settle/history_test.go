package settle

import (
	"context"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"etcd-rewind/manifest"
	"etcd-rewind/steps"
)

// A kubeadm upgrade has started the old data under a running API server: both are
// said, the API server first.
func TestAnUpgradeOntoTheOldDataIsSeen(t *testing.T) {
	const restored, old = "/var/lib/etcd-20261120-120000", "/var/lib/etcd"
	run := steps.RunInfo{Run: "20261120-120000", State: steps.RunRestored, DataDir: restored, OldDir: old, ClusterID: 0xbbbb}
	early, late := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC), time.Date(2026, 11, 20, 13, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		name      string
		on        string
		cluster   uint64
		runs      []steps.RunInfo
		etcd, api time.Time // since when they run
		cached    int64
		revision  int64
		want      []string // object, and what is said
	}{
		{"the restored data", restored, 0xbbbb, []steps.RunInfo{run}, early, early, 500, 500, nil},
		{"the old data, API server restarted", old, 0xaaaa, []steps.RunInfo{run}, early, late, 500, 501, []string{"etcd", "the data that run 20261120-120000 had replaced; what it restored is in " + restored + " (cluster aaaa, not bbbb)"}},
		{"the old data, API server runs on", old, 0xaaaa, []steps.RunInfo{run}, late, early, 500, 501, []string{"kube-apiserver", "has cached is the restored history's", "etcd", "had replaced"}},
		{"a cache beyond etcd", restored, 0xbbbb, []steps.RunInfo{run}, early, late, 1_000_500, 700, []string{"kube-apiserver", "has cached revision 1000500, and etcd is at 700"}},
		{"the restored data moved by hand", old, 0xbbbb, []steps.RunInfo{run}, early, late, 500, 500, nil},
		{"moved back by a run", old, 0xbbbb, []steps.RunInfo{{Run: "20261121-120000", State: steps.RunRestored, DataDir: old, OldDir: restored, Home: true}, run}, early, late, 500, 500, nil},
		{"undone", old, 0xaaaa, []steps.RunInfo{{Run: run.Run, State: steps.RunUndone, DataDir: restored, OldDir: old}}, early, late, 500, 500, nil},
		{"no run is known", old, 0xaaaa, nil, late, early, 500, 500, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := &server{lists: map[string]string{nodes: `{"metadata":{"name":"cp1"}}`}, cached: tt.cached}
			c := s.cluster(t)
			c.Facts.Etcd.DataDir.HostPath, c.Facts.Live.ClusterID, c.Facts.API = tt.on, tt.cluster, &steps.API{}
			c.Runs, c.wait = tt.runs, time.Millisecond
			c.began = func(context.Context) (time.Time, time.Time, error) { return tt.etcd, tt.api, nil }
			c.revision = func(context.Context) (int64, error) { return tt.revision, nil }
			var said []string
			for _, d := range find(t, c) {
				if d.Kind == "history" {
					said = append(said, d.Object, d.Is)
					if len(d.Commands) == 0 || d.Means == "" {
						t.Errorf("%+v", d)
					}
				}
			}
			if len(said) != len(tt.want) {
				t.Fatalf("it owes %q, want %q", said, tt.want)
			}
			for i := range said {
				if !strings.Contains(said[i], tt.want[i]) {
					t.Errorf("%q, want %q", said[i], tt.want[i])
				}
			}
		})
	}
}

// An API server that is a static pod can be restarted from here; another is named
// with its command.
func TestTheAPIServerIsRestartedWhereThatIsKnownHow(t *testing.T) {
	c := (&server{}).cluster(t)
	if _, settle := c.restartAPI(); settle != nil {
		t.Error("it isn't known how")
	}
	c.Facts.Kubelet.CRIEndpoint = "unix:///run/containerd/containerd.sock"
	file, err := manifest.Parse("/etc/kubernetes/manifests/kube-apiserver.yaml", []byte("apiVersion: v1\nkind: Pod\nmetadata: {name: kube-apiserver, namespace: kube-system}\nspec: {containers: [{name: kube-apiserver, image: a, command: [kube-apiserver]}]}\n"))
	if err != nil {
		t.Fatal(err)
	}
	c.Facts.API = steps.APIOfPod(&manifest.APIServer{File: file})
	if commands, settle := c.restartAPI(); settle == nil || !strings.Contains(commands[0], "stop $(crictl") {
		t.Errorf("%q", commands)
	}
}

// A lease that is renewed while it is looked at has a holder, whatever the clocks say.
func TestALeaseThatIsRenewedHasAHolder(t *testing.T) {
	n := 0
	at := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if !strings.HasSuffix(q.URL.Path, "/leases") {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		n++
		_, _ = fmt.Fprintf(w, `{"items":[{"metadata":{"namespace":"ops","name":"l","resourceVersion":"%d"},"spec":{"holderIdentity":"a","leaseDurationSeconds":15,"renewTime":"2020-01-01T00:00:%02d.000000Z"}}]}`, n, n)
	}))
	defer at.Close()
	c := (&server{}).cluster(t)
	c.Facts.Reach.API.Kubeconfig, c.wait = kubeconfigOf(t, at.URL), time.Millisecond
	if out, err := leases(t.Context(), c); err != nil || len(out) > 0 || n != 2 {
		t.Errorf("%+v, %v, %d looks", out, err, n)
	}
}

// kubeadm join is told of another authority than the API server's.
func TestAPublishedAuthorityOfBeforeIsSeen(t *testing.T) {
	var told []byte
	at := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if !strings.HasSuffix(q.URL.Path, "/namespaces/kube-public/configmaps/cluster-info") {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		_, _ = fmt.Fprintf(w, `{"metadata":{"uid":"u","resourceVersion":"1"},"data":{"kubeconfig":%q}}`,
			"apiVersion: v1\nkind: Config\nclusters:\n- cluster:\n    certificate-authority-data: "+base64.StdEncoding.EncodeToString(told)+"\n    server: https://10.0.0.1:6443\n")
	}))
	defer at.Close()
	own := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: at.Certificate().Raw})
	c := (&server{}).cluster(t)
	c.Facts.Reach.API.Kubeconfig = kubeconfigOf(t, at.URL)
	text, err := os.ReadFile(c.Facts.Reach.API.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	text = []byte(strings.Replace(string(text), "cluster: {", "cluster: {certificate-authority-data: "+base64.StdEncoding.EncodeToString(own)+", ", 1))
	if err := os.WriteFile(c.Facts.Reach.API.Kubeconfig, text, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		told []byte
		owes int
	}{{own, 0}, {certificate(t, time.Hour), 1}} {
		told = tt.told
		if out, err := c.published(t.Context()); err != nil || len(out) != tt.owes {
			t.Errorf("%+v, %v, want %d", out, err, tt.owes)
		}
	}
	if ca := authorityOf("certificate-authority-data: !!"); ca != nil {
		t.Errorf("%q", ca)
	}
}

// An entry is stale only where nothing answers at its address any more.
func TestAnAPIServerThatAnswersIsNotDead(t *testing.T) {
	at := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer at.Close()
	c := (&server{}).cluster(t)
	c.Facts.Reach.API.ReadyURL = strings.Replace(at.URL, "127.0.0.1", "10.0.0.1", 1) + "/readyz"
	if says := c.answersAt(t.Context(), "127.0.0.1"); says != "ready" {
		t.Errorf("it answers %q", says)
	}
	if says := c.answersAt(t.Context(), "cp9.example.com/x"); says != "" {
		t.Errorf("%q was asked", says)
	}
	at.Close()
	if says := c.answersAt(t.Context(), "127.0.0.1"); says != "" {
		t.Errorf("nothing answers, and it says %q", says)
	}
}
