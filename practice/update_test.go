package practice

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"etcd-rewind/manifest"
	"etcd-rewind/node"
	"etcd-rewind/steps"
)

// readyNode is one whose API server answers, with a client of its own.
func readyNode(t *testing.T) (*Node, *apiClient) {
	t.Helper()
	n := startNode(t, Config{Seed: SnapshotAfter})
	if err := n.Ready(within(t, 30*time.Second)); err != nil {
		t.Fatal(err)
	}
	api, err := newAPIClient(n.Root.Kubeconfig())
	if err != nil {
		t.Fatal(err)
	}
	return n, api
}

// kubeadmDir is where kubeadm would start etcd.
func kubeadmDir(t *testing.T, api *apiClient) string {
	t.Helper()
	var m corev1.ConfigMap
	if err := api.get(t.Context(), pathKubeadm, "", &m); err != nil {
		t.Fatal(err)
	}
	have, err := manifest.ReadKubeadmEtcd([]byte(m.Data["ClusterConfiguration"]))
	if err != nil {
		t.Fatal(err)
	}
	return have.DataDir
}

// A learner sees the whole restore of a kubeadm cluster: after it kubeadm would
// start etcd on the restored data, and after its undo on the old.
func TestARestoreAndItsUndoTakeKubeadmConfigAlong(t *testing.T) {
	t.Parallel()
	n, api := readyNode(t)
	old := n.Root.Path("var/lib/etcd")
	if dir := kubeadmDir(t, api); dir != old {
		t.Fatalf("the node begins with %s in kubeadm-config", dir)
	}
	snap := filepath.Join(n.Root.Backups(), "before.db")
	if err := n.WriteSnapshot(SnapshotBefore, snap); err != nil {
		t.Fatal(err)
	}
	ctx := within(t, 2*time.Minute)
	s := &steps.Session{Options: n.Options()}
	f, err := s.Discover(ctx)
	if err != nil {
		t.Fatal(err)
	}
	info, err := s.Inspect(ctx, snap, nil)
	if err != nil {
		t.Fatal(err)
	}
	p, err := s.Plan(f, info, steps.Choices{KubeletRestart: n.KubeletRestart()})
	if err != nil {
		t.Fatal(err)
	}
	stop := func(f steps.Failure) steps.Choice {
		t.Errorf("%s: %s %v", f.Action, f.Cause, f.Seen)
		return f.Choices[0]
	}
	var seen []string
	if res, err := s.Run(ctx, p, func(e steps.Event) { seen = append(seen, e.Step) }, stop); err != nil || !res.OK {
		t.Fatal(err, res)
	}
	if !slices.Contains(seen, "update-kubeadm-config") {
		t.Errorf("the step isn't shown: %v", slices.Compact(seen))
	}
	if dir := kubeadmDir(t, api); !strings.HasPrefix(dir, old+"-") {
		t.Errorf("after the restore kubeadm would start etcd on %s", dir)
	}
	if p, err = s.PlanUndo(ctx, ""); err != nil {
		t.Fatal(err)
	}
	if res, err := s.Run(ctx, p, func(steps.Event) {}, stop); err != nil || !res.OK {
		t.Fatal(err, res)
	}
	if dir := kubeadmDir(t, api); dir != old {
		t.Errorf("after the undo kubeadm would start etcd on %s", dir)
	}
}

// send is a request with the administrator's certificate.
func send(t *testing.T, api *apiClient, method, path, contentType string, body any) (int, metav1.Status, corev1.ConfigMap) {
	t.Helper()
	raw, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	q, err := http.NewRequestWithContext(t.Context(), method, api.server+path, bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	q.Header.Set("Content-Type", contentType)
	resp, err := api.http.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err = io.ReadAll(resp.Body)
	var status metav1.Status
	var m corev1.ConfigMap
	if err := errors.Join(err, json.Unmarshal(raw, &status), json.Unmarshal(raw, &m)); err != nil {
		t.Fatal(err, string(raw))
	}
	return resp.StatusCode, status, m
}

func TestConfigMapsAreChangedAsByKubeAPIServer(t *testing.T) {
	t.Parallel()
	_, api := readyNode(t)
	const path, plain, merge = "/api/v1/namespaces/default/configmaps/kube-root-ca.crt", "application/json", "application/merge-patch+json"
	var read corev1.ConfigMap
	if err := api.get(t.Context(), path, "", &read); err != nil {
		t.Fatal(err)
	}
	changed := read.DeepCopy()
	changed.Data["colour"] = "blue"
	code, _, first := send(t, api, http.MethodPut, path, plain, changed)
	if code != http.StatusOK || first.Data["colour"] != "blue" || first.ResourceVersion == read.ResourceVersion || first.UID != read.UID {
		t.Errorf("a PUT of what was read: %d %+v", code, first)
	}
	if code, _, same := send(t, api, http.MethodPut, path, plain, first); code != http.StatusOK || same.ResourceVersion != first.ResourceVersion {
		t.Errorf("a PUT that changes nothing writes nothing: %d, %s and not %s", code, same.ResourceVersion, first.ResourceVersion)
	}
	if code, _, dry := send(t, api, http.MethodPatch, path+"?dryRun=All", merge, map[string]any{"data": map[string]any{"dry": "yes"}}); code != http.StatusOK || dry.Data["dry"] != "yes" {
		t.Errorf("a dry run: %d %+v", code, dry)
	}
	code, _, patched := send(t, api, http.MethodPatch, path, merge, map[string]any{"data": map[string]any{"colour": nil, "size": "3"}})
	if _, coloured := patched.Data["colour"]; code != http.StatusOK || coloured || patched.Data["size"] != "3" || patched.Data["dry"] != "" || patched.Data["ca.crt"] == "" {
		t.Errorf("a merge patch: %d %v", code, patched.Data)
	}
	blind := read.DeepCopy()
	blind.ResourceVersion, blind.UID = "", ""
	if code, _, m := send(t, api, http.MethodPut, path, plain, blind); code != http.StatusOK || m.Data["size"] != "" || m.UID != read.UID {
		t.Errorf("a PUT without resourceVersion replaces whatever is there: %d %+v", code, m)
	}

	for _, c := range []struct {
		what, method, path, contentType string
		body                            func(m *corev1.ConfigMap) any
		code                            int
		reason                          metav1.StatusReason
		words                           string
	}{
		{"another's change in between", http.MethodPut, path, plain, func(m *corev1.ConfigMap) any { return m }, 409, metav1.StatusReasonConflict, `Operation cannot be fulfilled on configmaps "kube-root-ca.crt": the object has been modified; please apply your changes to the latest version and try again`},
		{"the same by a patch", http.MethodPatch, path, merge, func(m *corev1.ConfigMap) any {
			return map[string]any{"metadata": map[string]string{"resourceVersion": m.ResourceVersion}, "data": map[string]string{"x": "y"}}
		}, 409, metav1.StatusReasonConflict, "the object has been modified"},
		{"another object of the name", http.MethodPut, path, plain, func(m *corev1.ConfigMap) any { m.UID, m.ResourceVersion = "1234", ""; return m }, 409, metav1.StatusReasonConflict, "Precondition failed: UID in precondition: 1234"},
		{"none of the name", http.MethodPut, path + "x", plain, func(m *corev1.ConfigMap) any { m.Name += "x"; return m }, 404, metav1.StatusReasonNotFound, `configmaps "kube-root-ca.crtx" not found`},
		{"another name than the path's", http.MethodPut, path, plain, func(m *corev1.ConfigMap) any { m.Name, m.ResourceVersion = "x", ""; return m }, 400, metav1.StatusReasonBadRequest, "the name of the object (x) does not match the name on the URL"},
		{"no object", http.MethodPut, path, plain, func(*corev1.ConfigMap) any { return "x" }, 400, metav1.StatusReasonBadRequest, ""},
		{"a patch of an unknown kind", http.MethodPatch, path, "application/json-patch+json", func(*corev1.ConfigMap) any { return []any{} }, 415, metav1.StatusReasonUnsupportedMediaType, ""},
		{"another kind of object", http.MethodPut, "/api/v1/namespaces/payments/secrets/late", plain, func(m *corev1.ConfigMap) any { return m }, 405, metav1.StatusReasonMethodNotAllowed, "only changes ConfigMaps"},
		{"a deletion", http.MethodDelete, path, plain, func(*corev1.ConfigMap) any { return nil }, 405, metav1.StatusReasonMethodNotAllowed, ""},
	} {
		code, status, _ := send(t, api, c.method, c.path, c.contentType, c.body(read.DeepCopy()))
		if code != c.code || status.Reason != c.reason || status.Kind != "Status" || !strings.Contains(status.Message, c.words) {
			t.Errorf("%s: %d %+v", c.what, code, status)
		}
	}
	if code, _, _ := send(t, api, http.MethodGet, path, "", nil); code != http.StatusOK {
		t.Errorf("it can't be read any more: %d", code)
	}
}

// The engine's own client meets the same rules as at the real API server.
func TestTheEnginesClientNoticesAConflict(t *testing.T) {
	t.Parallel()
	n, _ := readyNode(t)
	c := node.ConfigMapClient{Kubeconfig: n.Root.Kubeconfig(), Namespace: "kube-system", Name: "kubeadm-config"}
	ctx := within(t, 20*time.Second)
	read, err := c.Get(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Set(ctx, read, "colour", "blue"); err != nil {
		t.Fatal(err)
	}
	if err := c.Set(ctx, read, "colour", "red"); !errors.Is(err, node.ErrConflict) {
		t.Errorf("a second change of the same state: %v", err)
	}
}
