package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestAConfigMapIsReadAndChangedAsItWasRead(t *testing.T) {
	ca := newAuthority(t)
	data, version, code := map[string]string{"ClusterConfiguration": "old"}, 1, 0
	hang := make(chan struct{})
	srv := serveTLS(t, ca.serverTLS(t, append(apiNames, "lb.example"), time.Now().Add(time.Hour)), func(w http.ResponseWriter, r *http.Request) {
		switch {
		case code == -1:
			<-hang
			return
		case code != 0:
			w.WriteHeader(code)
			fmt.Fprintf(w, `{"kind":"Status","message":"said \u001b[31m so"}`)
			return
		case r.URL.Path != "/api/v1/namespaces/kube-system/configmaps/kubeadm-config":
			t.Errorf("asked for %s", r.URL.Path)
		}
		if r.Method == http.MethodPatch {
			var patch struct {
				Metadata struct{ ResourceVersion, UID string }
				Data     map[string]string
			}
			body, _ := io.ReadAll(r.Body)
			if err := json.Unmarshal(body, &patch); err != nil || r.Header.Get("Content-Type") != "application/merge-patch+json" {
				t.Errorf("%v, %s", err, r.Header.Get("Content-Type"))
			}
			if patch.Metadata.ResourceVersion != fmt.Sprint(version) || patch.Metadata.UID != "u" {
				w.WriteHeader(http.StatusConflict)
				return
			}
			for k, v := range patch.Data {
				data[k] = v
			}
			version++
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"metadata": map[string]any{"uid": "u", "resourceVersion": fmt.Sprint(version)}, "data": data})
	})
	c := ConfigMapClient{Kubeconfig: kubeconfig(t, ca, "https://lb.example:6443"), Server: srv.URL, Namespace: "kube-system", Name: "kubeadm-config"}
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())

	read, err := c.Get(t.Context())
	if err != nil || read.Data["ClusterConfiguration"] != "old" {
		t.Fatalf("%+v, %v", read, err)
	}
	if err := c.Set(t.Context(), read, "ClusterConfiguration", "new"); err != nil || data["ClusterConfiguration"] != "new" {
		t.Errorf("%v, it is now %v", err, data)
	}
	if err := c.Set(t.Context(), read, "ClusterConfiguration", "newer"); !errors.Is(err, ErrConflict) || data["ClusterConfiguration"] != "new" {
		t.Errorf("as it was read before the last change: %v, it is now %v", err, data)
	}

	var refused *RefusedError
	for _, code = range []int{403, 404, 422, 301} {
		if _, err := c.Get(t.Context()); !errors.As(err, &refused) || errors.Is(err, ErrNotFound) != (code == 404) {
			t.Errorf("%d: %v", code, err)
		}
	}
	gone := c
	gone.Kubeconfig += ".gone"
	if _, err := gone.Get(t.Context()); err == nil || errors.Is(err, ErrNotFound) {
		t.Errorf("without its kubeconfig: %v", err) // nothing was asked
	}
	for _, code = range []int{500, 503, 429} {
		if _, err := c.Get(t.Context()); err == nil || errors.As(err, &refused) {
			t.Errorf("%d may pass: %v", code, err)
		}
	}
	code = -1
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.Get(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("of a server that hangs: %v", err)
	}
	close(hang)
	for _, conf := range []string{"", "/no/admin.conf"} {
		if _, err := (ConfigMapClient{Kubeconfig: conf}).Get(t.Context()); !errors.As(err, &refused) {
			t.Errorf("with the kubeconfig %q: %v", conf, err)
		}
	}
}
