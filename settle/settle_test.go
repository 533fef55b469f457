package settle

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"etcd-rewind/manifest"
	"etcd-rewind/node"
	"etcd-rewind/snapshot"
	"etcd-rewind/steps"
)

// server is an API server that has what it is given, by path. What it is asked
// to change is kept.
type server struct {
	lists   map[string]string // the items, by the kind's path
	config  string            // of kubeadm
	cached  int64             // revision of its cache
	patched string

	patchedAt string
}

func (s *server) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	path := strings.TrimPrefix(q.URL.Path, "/")
	switch items, ok := s.lists[path]; {
	case path == "api/v1/namespaces" && s.cached != 0:
		_, _ = fmt.Fprintf(w, `{"metadata":{"resourceVersion":"%d"},"items":[]}`, s.cached)
	case q.Method == http.MethodPatch && strings.HasPrefix(path, "apis/apps/"):
		body, _ := io.ReadAll(q.Body)
		s.patched, s.patchedAt = string(body), path
		_, _ = w.Write([]byte("{}"))
	case ok:
		_, _ = w.Write([]byte(`{"metadata":{},"items":[` + items + `]}`))
	case strings.HasSuffix(path, "/kubeadm-config") && s.config != "":
		if q.Method == http.MethodPatch {
			var patch struct{ Data map[string]string }
			_ = json.NewDecoder(q.Body).Decode(&patch)
			s.config = patch.Data["ClusterConfiguration"]
			s.patched = s.config
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"metadata": map[string]string{"uid": "u", "resourceVersion": "1"}, "data": map[string]string{"ClusterConfiguration": s.config}})
	default:
		w.WriteHeader(http.StatusNotFound)
		_, _ = w.Write([]byte(`{"message":"no such kind"}`))
	}
}

// cluster is a node whose API server that is.
func (s *server) cluster(t *testing.T) *Cluster {
	t.Helper()
	at := httptest.NewServer(s)
	t.Cleanup(at.Close)
	config := kubeconfigOf(t, at.URL)
	f := &steps.Facts{
		Node: "cp1", Layout: &node.Kubeadm, Manifests: &manifest.Dir{}, Kubelet: &node.Kubelet{NodeName: "cp1", PID: 1},
		Etcd: &steps.Etcd{EtcdSettings: manifest.EtcdSettings{DataDir: manifest.Location{Path: "/var/lib/etcd-2"}}},
		Live: &node.EtcdStatus{Members: []node.EtcdMember{{Name: "cp1"}}},
	}
	f.Reach.API.Kubeconfig = config
	return &Cluster{
		Facts: f, restart: func(context.Context) error { return nil },
		look: func(context.Context) *Kubelet { return &Kubelet{Node: "cp1", Runs: true} },
	}
}

// kubeconfigOf is one that leads to a server.
func kubeconfigOf(t *testing.T, server string) string {
	t.Helper()
	config := filepath.Join(t.TempDir(), "admin.conf")
	text := "apiVersion: v1\nkind: Config\nclusters: [{name: c, cluster: {server: " + server + "}}]\ncontexts: [{name: c, context: {cluster: c, user: u}}]\n" +
		"current-context: c\nusers: [{name: u, user: {}}]\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return config
}

func find(t *testing.T, c *Cluster) []Debt {
	t.Helper()
	found := Find(t.Context(), c, nil)
	if len(found.Unread) > 0 {
		t.Errorf("it couldn't look at %+v", found.Unread)
	}
	return found.Debts
}

const elections, secrets = "apis/coordination.k8s.io/v1/leases", "api/v1/secrets"

// tlsOf is a Secret with a certificate that is good for as long.
func tlsOf(t *testing.T, namespace, name string, left time.Duration) string {
	t.Helper()
	crt := base64.StdEncoding.EncodeToString(certificate(t, left))
	return fmt.Sprintf(`{"metadata":{"namespace":%q,"name":%q,"creationTimestamp":"2026-10-01T00:00:00Z"},"type":"kubernetes.io/tls","data":{"tls.crt":%q,"tls.key":"c2VjcmV0"}}`, namespace, name, crt)
}

func certificate(t *testing.T, left time.Duration) []byte {
	t.Helper()
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour * 24 * 90), NotAfter: time.Now().Add(left)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, pub, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

const nodes, pvs, pvcs = "api/v1/nodes", "api/v1/persistentvolumes", "api/v1/persistentvolumeclaims"

// Each debt is seen in a cluster that has it and in no other, and says what it is
// about.
func TestEachDebtIsSeenWhereItIs(t *testing.T) {
	cp1 := `{"metadata":{"name":"cp1"}}`
	before := &snapshot.Info{
		Nodes: []snapshot.Object{{Name: "cp1"}, {Name: "w7"}}, LastWrite: time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC),
		Kinds: []snapshot.Kind{{Resource: "secrets", Namespaces: []snapshot.Namespace{{Namespace: "shop", Count: snapshot.Count{Changed: time.Date(2026, 11, 19, 12, 0, 0, 0, time.UTC)}}}}},
	}
	lease := func(namespace, name, labels string, seconds int) string {
		return fmt.Sprintf(`{"metadata":{"namespace":%q,"name":%q,"labels":{%s}},"spec":{"holderIdentity":"cp9_a","leaseDurationSeconds":%d,"renewTime":"2020-01-01T00:00:00.000000Z"}}`, namespace, name, labels, seconds)
	}
	hook := `{"metadata":{"name":"guard"},"webhooks":[{"name":"pods.guard.io","failurePolicy":"Fail","clientConfig":{"service":{"namespace":"guard","name":"hook"}}}]}`
	slice := func(ready string) string {
		return `{"metadata":{"namespace":"guard","labels":{"kubernetes.io/service-name":"hook"}},"endpoints":[{"conditions":{"ready":` + ready + `}}]}`
	}
	const slices, hooks = "apis/discovery.k8s.io/v1/endpointslices", "apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
	for _, tt := range []struct {
		name   string
		lists  map[string]string
		before *snapshot.Info
		want   string // kind and object, "" for none
		says   string
	}{
		{"a cluster that owes nothing", map[string]string{nodes: cp1}, nil, "", ""},
		{"this node isn't in the API", map[string]string{nodes: `{"metadata":{"name":"other"}}`}, nil, "node-missing cp1", "registers only when it starts"},
		{"a worker that joined after the snapshot", map[string]string{nodes: cp1}, before, "node-missing w7", "ssh w7 'systemctl restart kubelet'"},
		{"a node that was deleted before the restore", map[string]string{nodes: cp1 + `,{"metadata":{"name":"w7"}},{"metadata":{"name":"w8"},"status":{"conditions":[{"type":"Ready","status":"Unknown"}]}}`}, before, "node-gone w8", "kubectl delete node w8"},
		{"a node that joined while settle looks", map[string]string{nodes: cp1 + `,{"metadata":{"name":"w7"}},{"metadata":{"name":"w8"},"status":{"conditions":[{"type":"Ready","status":"True"}]}}`}, before, "", ""},
		{"an attachment to a node that is gone", map[string]string{nodes: cp1, "apis/storage.k8s.io/v1/volumeattachments": `{"metadata":{"name":"csi-1"},"spec":{"nodeName":"w7","source":{"persistentVolumeName":"pv1"}}}`, pvs: `{"metadata":{"name":"pv1"}}`}, nil, "volume-attachment csi-1", "w7, which isn't a node"},
		{"an attachment of a volume that is gone", map[string]string{nodes: cp1, "apis/storage.k8s.io/v1/volumeattachments": `{"metadata":{"name":"csi-1"},"spec":{"nodeName":"cp1","source":{"persistentVolumeName":"pv1"}}}`}, nil, "volume-attachment csi-1", "pv1, which isn't in the API"},
		{"a claim whose volume is gone", map[string]string{nodes: cp1, pvcs: `{"metadata":{"namespace":"shop","name":"data","uid":"a"},"spec":{"volumeName":"pv1"},"status":{"phase":"Lost"}}`}, nil, "volume shop/data", "bound to pv1"},
		{"a volume that will be deleted with its data", map[string]string{nodes: cp1, pvs: `{"metadata":{"name":"pv1"},"spec":{"persistentVolumeReclaimPolicy":"Delete","claimRef":{"namespace":"shop","name":"data","uid":"old"}}}`}, nil, "volume pv1", "Set Retain first"},
		{"a volume of an earlier claim of that name", map[string]string{nodes: cp1, pvcs: `{"metadata":{"namespace":"shop","name":"data","uid":"new"}}`, pvs: `{"metadata":{"name":"pv1"},"spec":{"persistentVolumeReclaimPolicy":"Retain","claimRef":{"namespace":"shop","name":"data","uid":"old"}}}`}, nil, "volume pv1", "an earlier claim"},
		{"a webhook without anybody behind it", map[string]string{nodes: cp1, hooks: hook, slices: slice("false")}, nil, "webhook guard", "the service guard/hook has no ready pod"},
		{"a webhook that answers", map[string]string{nodes: cp1, hooks: hook, slices: slice("true")}, nil, "", ""},
		{"an API that is down", map[string]string{nodes: cp1, "apis/apiregistration.k8s.io/v1/apiservices": `{"metadata":{"name":"v1beta1.metrics.k8s.io"},"status":{"conditions":[{"type":"Available","status":"False","message":"no endpoints"}]}}`}, nil, "api-service v1beta1.metrics.k8s.io", "no endpoints"},
		{"a request that waits", map[string]string{nodes: cp1, "apis/certificates.k8s.io/v1/certificatesigningrequests": `{"metadata":{"name":"csr-1"},"spec":{"username":"system:node:w7"}}`}, nil, "csr csr-1", "system:node:w7 has been waiting"},
		{"a request that was approved", map[string]string{nodes: cp1, "apis/certificates.k8s.io/v1/certificatesigningrequests": `{"metadata":{"name":"csr-1"},"status":{"conditions":[{"type":"Approved"}]}}`}, nil, "", ""},
		{"a leader that is gone", map[string]string{nodes: cp1, elections: lease("kube-system", "kube-scheduler", "", 15)}, nil, "lease kube-system/kube-scheduler", "held by cp9_a, renewed last at 2020-01-01 00:00:00, and nobody has taken it"},
		{"a leader of before, with a lease of years", map[string]string{nodes: cp1 + `,{"metadata":{"name":"w7"}}`, elections: lease("ops", "job-runner", "", 1<<30)}, before, "lease ops/job-runner", "lasts until 2054"},
		{"the lease of a node that is gone", map[string]string{nodes: cp1, elections: lease("kube-node-lease", "w9", "", 40)}, nil, "", ""},
		{"the lease of an API server that is gone", map[string]string{nodes: cp1, elections: lease("kube-system", "apiserver-x", `"apiserver.kubernetes.io/identity":"kube-apiserver"`, 3600)}, nil, "", ""},
		{"a CronJob that ran for a time before the restore", map[string]string{nodes: cp1 + `,{"metadata":{"name":"w7"}}`, "apis/batch/v1/jobs": `{"metadata":{"namespace":"shop","name":"report-1","creationTimestamp":"2026-11-20T00:01:00Z","annotations":{"batch.kubernetes.io/cronjob-scheduled-timestamp":"2026-11-19T23:00:00Z"}},"status":{"conditions":[{"type":"Complete","status":"True"}]}}`}, before, "job", "shop/report-1, due at 2026-11-19 23:00:00"},
		{"a CronJob that ran for a time after the restore", map[string]string{nodes: cp1 + `,{"metadata":{"name":"w7"}}`, "apis/batch/v1/jobs": `{"metadata":{"namespace":"shop","name":"report-1","creationTimestamp":"2026-11-20T01:00:01Z","annotations":{"batch.kubernetes.io/cronjob-scheduled-timestamp":"2026-11-20T01:00:00Z"}}}`}, before, "", ""},
		{"a certificate that is over", map[string]string{nodes: cp1, secrets: tlsOf(t, "shop", "web", -time.Hour)}, nil, "certificate shop/web", "clients refuse whatever serves it"},
		{"a certificate that is soon over", map[string]string{nodes: cp1, secrets: tlsOf(t, "shop", "web", 25*time.Hour)}, nil, "certificate shop/web", "expires at"},
		{"a certificate that is good", map[string]string{nodes: cp1, secrets: tlsOf(t, "shop", "web", 1000*time.Hour)}, nil, "", ""},
		{"a certificate that was renewed before the restore", map[string]string{nodes: cp1 + `,{"metadata":{"name":"w7"}}`, secrets: tlsOf(t, "shop", "web", 1000*time.Hour)}, before, "certificate shop", "written at 2026-11-19 12:00:00, which the restore has undone; these certificates are there: web ("},
		{"a Secret of another type", map[string]string{nodes: cp1, secrets: strings.Replace(tlsOf(t, "shop", "web", -time.Hour), "kubernetes.io/tls", "Opaque", 1)}, nil, "", ""},
		{"a job that runs again", map[string]string{nodes: cp1 + `,{"metadata":{"name":"w7"}}`, "apis/batch/v1/jobs": `{"metadata":{"namespace":"shop","name":"migrate","creationTimestamp":"2026-11-19T00:00:00Z"}}`}, before, "job", "shop/migrate"},
		{"a job that is complete", map[string]string{nodes: cp1 + `,{"metadata":{"name":"w7"}}`, "apis/batch/v1/jobs": `{"metadata":{"namespace":"shop","name":"migrate","creationTimestamp":"2026-11-19T00:00:00Z"},"status":{"conditions":[{"type":"Complete","status":"True"}]}}`}, before, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := (&server{lists: tt.lists}).cluster(t)
			c.Before, c.wait = tt.before, time.Millisecond
			debts := find(t, c)
			if tt.want == "" {
				if len(debts) > 0 {
					t.Errorf("it owes %+v", debts)
				}
				return
			}
			if len(debts) != 1 {
				t.Fatalf("it owes %+v", debts)
			}
			d := debts[0]
			if got := strings.TrimSpace(d.Kind + " " + d.Object); got != tt.want {
				t.Errorf("it owes %q, not %q", got, tt.want)
			}
			if all := d.Is + " " + d.Means + " " + strings.Join(d.Commands, " "); !strings.Contains(all, tt.says) {
				t.Errorf("%q doesn't say %q", all, tt.says)
			}
			if d.Means == "" || len(d.Commands) == 0 {
				t.Errorf("it doesn't say what follows and what to do: %+v", d)
			}
		})
	}
}

func TestKubeadmConfigIsSettledAndStaysSo(t *testing.T) {
	s := &server{lists: map[string]string{nodes: `{"metadata":{"name":"cp1"}}`}, config: "apiVersion: kubeadm.k8s.io/v1beta4\netcd:\n  local:\n    dataDir: /var/lib/etcd  # ours\nkind: ClusterConfiguration\n"}
	c := s.cluster(t)
	debts := find(t, c)
	if len(debts) != 1 || debts[0].Kind != "kubeadm-config" || !debts[0].Offered {
		t.Fatalf("it owes %+v", debts)
	}
	for range 2 { // safe to call twice
		if _, err := debts[0].Settle(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if !strings.Contains(s.patched, "dataDir: /var/lib/etcd-2  # ours") {
		t.Errorf("kubeadm has %s", s.patched)
	}
	if left := find(t, c); len(left) > 0 {
		t.Errorf("it still owes %+v", left)
	}
}

// kubeadm has one directory for all control planes: what is true of this node may
// be wrong on another.
func TestKubeadmConfigOfSeveralNodesIsOnlyNamed(t *testing.T) {
	c := (&server{lists: map[string]string{nodes: `{"metadata":{"name":"cp1"}}`}, config: "apiVersion: kubeadm.k8s.io/v1beta4\netcd:\n  local:\n    dataDir: /var/lib/etcd\nkind: ClusterConfiguration\n"}).cluster(t)
	c.Facts.Live.Members = append(c.Facts.Live.Members, node.EtcdMember{Name: "cp2"})
	if debts := find(t, c); len(debts) != 1 || debts[0].Offered || !strings.Contains(debts[0].Means, "on each") {
		t.Errorf("it owes %+v", debts)
	}
}

// An API server that doesn't answer is no cluster that owes nothing.
func TestWhatCantBeReadIsNamed(t *testing.T) {
	c := (&server{}).cluster(t)
	c.Facts.Reach.API.Kubeconfig = filepath.Join(t.TempDir(), "none")
	found := Find(t.Context(), c, nil)
	if len(found.Debts) > 0 || len(found.Unread) < 7 {
		t.Errorf("it owes %+v, and %d kinds couldn't be read", found.Debts, len(found.Unread))
	}
	for _, u := range found.Unread {
		if u.Cause == "" {
			t.Errorf("%s has no cause", u.Kind)
		}
	}
}

// A kubelet that doesn't hear the API runs what isn't there, doesn't run what is,
// and shows static pods that aren't. What passes by itself is no debt.
func TestPodsAreComparedByUID(t *testing.T) {
	pod := func(uid, name, phase, more string) string {
		return `{"metadata":{"namespace":"shop","name":"` + name + `","uid":"` + uid + `","creationTimestamp":"2026-11-01T00:00:00Z"` + more + `},"spec":{"nodeName":"cp1"},"status":{"phase":"` + phase + `"}}`
	}
	mirror := func(hash string) string {
		return `,"annotations":{"kubernetes.io/config.mirror":"` + hash + `"}`
	}
	c := (&server{lists: map[string]string{nodes: `{"metadata":{"name":"cp1"}}`, "api/v1/pods": strings.Join([]string{
		pod("same", "web-1", "Running", ""), pod("deleted", "web-4", "Running", ""), pod("due", "web-5", "Pending", ""), pod("over", "job-1", "Succeeded", ""),
		pod("m1", "etcd-cp1", "Running", mirror("static")), pod("m2", "api-cp1", "Running", mirror("of then")), pod("late", "web-6", "Running", ""),
	}, ",")}}).cluster(t)
	c.wait = time.Millisecond
	first := []Pod{
		{UID: "same", Namespace: "shop", Name: "web-1"},
		{UID: "since", Namespace: "shop", Name: "web-2"},
		{UID: "static", Namespace: "shop", Name: "etcd-cp1"},
		{UID: "of now", Namespace: "shop", Name: "api-cp1"},
	}
	second := append(slices.Clone(first), Pod{UID: "late", Namespace: "shop", Name: "web-6"})
	first = append(first, Pod{UID: "ending", Namespace: "shop", Name: "web-3"})
	looks := 0
	c.look = func(context.Context) *Kubelet {
		looks++
		return &Kubelet{Node: "cp1", Runs: true, Pods: map[bool][]Pod{true: first, false: second}[looks == 1], Static: []string{"shop/etcd-cp1", "shop/api-cp1"}}
	}
	var is []string
	for _, d := range find(t, c) {
		is = append(is, d.Kind+" "+d.Is)
	}
	want := []string{
		"kubelet-pods pods that run here and aren't in the API (1): shop/web-2; " +
			"pods that are Running in the API but don't run here (2): shop/api-cp1, shop/web-4; " +
			"pods that have been due here for over 3 minutes and haven't started (1): shop/web-5",
	}
	if !slices.Equal(is, want) {
		t.Errorf("it owes\n%s\nwant\n%s", strings.Join(is, "\n"), strings.Join(want, "\n"))
	}
}

// What was done is kept, with what was meant to be done before it.
func TestWhatIsSettledIsKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "runs")
	for _, done := range []bool{false, true} {
		if err := Note(dir, Settled{Debt: Debt{Kind: "masterlease", Object: "10.0.0.9"}, Done: done}); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(filepath.Join(dir, Record))
	if err != nil || strings.Count(string(data), "\n") != 2 || !strings.Contains(string(data), `"done":true`) {
		t.Errorf("%s (%v)", data, err)
	}
	// A line that a crash has cut off takes none with it.
	if err := os.WriteFile(filepath.Join(dir, Record), append(data, `{"time":"2026-1`...), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Note(dir, Settled{Debt: Debt{Kind: "masterlease", Object: "10.0.0.10"}, Done: true}); err != nil {
		t.Fatal(err)
	}
	if all, err := Read(dir); err != nil || len(all) != 2 || all[1].Object != "10.0.0.10" {
		t.Errorf("%+v, %v", all, err)
	}
	elsewhere := filepath.Join(t.TempDir(), "elsewhere")
	if err := os.Remove(filepath.Join(dir, Record)); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(elsewhere, filepath.Join(dir, Record)); err != nil {
		t.Fatal(err)
	}
	if err := Note(dir, Settled{}); err == nil {
		t.Error("it was written through a link")
	}
	if _, err := os.Stat(elsewhere); !errors.Is(err, os.ErrNotExist) {
		t.Error("it was written elsewhere")
	}
}
