package node

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// The token of a pod is the one in the volume for the API, and nothing else; the
// API server says whether it takes it.
func TestAPodsTokenIsReviewed(t *testing.T) {
	k := &Kubelet{RootDir: t.TempDir()}
	at := filepath.Join(k.RootDir, "pods/11-22/volumes/kubernetes.io~projected")
	for volume, token := range map[string]string{"kube-api-access-x": "good", "vault-token": "another audience's"} {
		if err := os.MkdirAll(filepath.Join(at, volume), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(at, volume, "token"), []byte(token), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for uid, want := range map[string]string{"11-22": "good", "33-44": ""} {
		if token, err := k.Token(uid); err != nil || token != want {
			t.Errorf("%s: %q, %v", uid, token, err)
		}
	}
	for _, uid := range []string{"", "*", "../pods/11-22", "11/22"} {
		if token, err := k.Token(uid); err == nil {
			t.Errorf("%q is a pod's UID, with the token %q", uid, token)
		}
	}

	ca := newAuthority(t)
	srv := serveTLS(t, ca.serverTLS(t, append(apiNames, "127.0.0.1"), time.Now().Add(time.Hour)), func(w http.ResponseWriter, r *http.Request) {
		var q struct{ Spec struct{ Token string } }
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil || r.Method != http.MethodPost || r.URL.Path != "/apis/authentication.k8s.io/v1/tokenreviews" {
			t.Errorf("%s %s: %v", r.Method, r.URL.Path, err)
		}
		w.WriteHeader(http.StatusCreated)
		if q.Spec.Token == "good" {
			fmt.Fprint(w, `{"status":{"authenticated":true}}`)
			return
		}
		fmt.Fprint(w, `{"status":{"error":"[invalid bearer token]"}}`)
	})
	config := kubeconfig(t, ca, srv.URL)
	if taken, why, err := ReviewToken(t.Context(), config, "good"); err != nil || !taken || why != "" {
		t.Errorf("%v %q %v", taken, why, err)
	}
	if taken, why, err := ReviewToken(t.Context(), config, "bad"); err != nil || taken || why != "[invalid bearer token]" {
		t.Errorf("%v %q %v", taken, why, err)
	}
}
