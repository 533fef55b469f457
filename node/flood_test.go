package node

import (
	"context"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// allocated is what f has taken from the heap, in bytes, also what it has given
// back.
func allocated(f func()) int64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return int64(after.TotalAlloc - before.TotalAlloc)
}

// An API server, or an impostor, may say as much as it likes: what is
// read of it has an end, and so has what is reported of it.
func TestAnAPIServerThatSaysFarTooMuch(t *testing.T) {
	ca := newAuthority(t)
	endless := func(begin, part string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, begin)
			for r.Context().Err() == nil {
				if _, err := fmt.Fprint(w, part); err != nil {
					return
				}
			}
		}
	}
	object := fmt.Sprintf(`{"metadata":{"name":"n","annotations":{"a":%q}}},`, strings.Repeat("x", 64<<10))
	var elsewhere atomic.Int32
	other := serveTLS(t, ca.serverTLS(t, append(apiNames, "lb.example"), time.Now().Add(time.Hour)), func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) })
	for _, c := range []struct {
		name   string
		answer http.HandlerFunc
	}{
		{"a list without end", endless(`{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1","items":[`, object)},
		{"spaces without end", endless("", strings.Repeat(" ", 64<<10))},
		{"pages without end", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, `{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1","metadata":{"continue":"more"},"items":[]}`)
		}},
		{"a refusal of 8 MB", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprintf(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","code":403,"message":%q}`, strings.Repeat("no ", 3<<20))
		}},
		{"it sends us elsewhere", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, other.URL+"/api/v1/nodes", http.StatusFound)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			srv := serveTLS(t, ca.serverTLS(t, append(apiNames, "lb.example"), time.Now().Add(time.Hour)), c.answer)
			conf := kubeconfig(t, ca, "https://lb.example:6443")
			for what, ask := range map[string]func(ctx context.Context) error{
				"list": func(ctx context.Context) error {
					_, err := ListMeta(ctx, conf, srv.URL, "nodes")
					return err
				},
				"kubeadm-config": func(ctx context.Context) error {
					_, err := ConfigMapClient{Kubeconfig: conf, Server: srv.URL, Namespace: "kube-system", Name: "kubeadm-config"}.Get(ctx)
					if err == nil && c.name == "pages without end" {
						return fmt.Errorf("no ConfigMap")
					}
					return err
				},
			} {
				// Its own bound is to end it, not this.
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
				var err error
				took := allocated(func() { err = ask(ctx) })
				if err == nil || ctx.Err() != nil {
					t.Errorf("%s: ended with %v, its context with %v", what, err, ctx.Err())
				} else if n := len(err.Error()); n > 5000 {
					t.Errorf("%s: it is reported in %d bytes", what, n)
				}
				if took > 600<<20 {
					t.Errorf("%s: it took %d MB", what, took>>20)
				}
				cancel()
			}
		})
	}
	if n := elsewhere.Load(); n > 0 {
		t.Errorf("another server was asked %d times", n)
	}
}

// A runtime's list costs as much as it is long, and what it says of a failure
// is reported in a few words.
func TestARuntimeThatSaysFarTooMuch(t *testing.T) {
	const few = 15_000 // containers, 1.7 MB
	list := func(n int) (r *Runtime, f *fakeRuntime, spent time.Duration) {
		f = &fakeRuntime{}
		for i := range n {
			f.containers = append(f.containers, &cri.Container{
				Id: fmt.Sprint(i), PodSandboxId: fmt.Sprintf("s%d", i), Labels: podLabels("etcd-cp1", "u"), Metadata: &cri.ContainerMetadata{Name: "etcd"},
			})
		}
		r, err := Dial(t.Context(), serveCRI(t, f))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = r.Close() })
		before := processorTime(t)
		boxes, err := r.Pod(t.Context(), "kube-system", "etcd-cp1")
		if err != nil || len(boxes) != n {
			t.Errorf("%d sandboxes, %v", len(boxes), err)
		}
		return r, f, processorTime(t) - before
	}
	_, _, short := list(few)
	r, f, long := list(4 * few)
	// Four times as many would cost 16 times as much if each were looked for
	// among all, and more than ten seconds. The clock would show how busy the
	// machine is. Less than the floor is memory that had to be had or not.
	if long > 9*max(short, 150*time.Millisecond) {
		t.Errorf("a list of %d took %v, of %d %v", few, short, 4*few, long)
	}
	for _, code := range []codes.Code{codes.Unknown, codes.NotFound, codes.Unavailable, codes.Unimplemented, codes.ResourceExhausted} {
		f.fail = status.Error(code, strings.Repeat("é no \n", 200_000))
		for what, err := range map[string]error{
			"list": func() error { _, err := r.Pod(t.Context(), "kube-system", "etcd-cp1"); return err }(),
			"stop": r.StopSandbox(t.Context(), "s1"),
		} {
			if code == codes.NotFound && what == "stop" {
				continue // it is gone, which is what was wanted
			}
			if err == nil || len(err.Error()) > 5000 {
				t.Errorf("%s, %v: %d bytes", what, code, len(fmt.Sprint(err)))
			}
		}
	}
}

// processorTime is what this process has had of the processors.
func processorTime(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
