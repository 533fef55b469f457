package node

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"etcd-rewind/node/deaf"
)

// Whatever a runtime, an etcd or a KMS plugin does instead of answering, who
// asks is back at the deadline, with an error, and leaves nothing behind.
func TestWhoeverDoesNotAnswerIsLeftAtTheDeadline(t *testing.T) {
	const limit = 150 * time.Millisecond
	for _, way := range deaf.Ways {
		ask := map[string]func(ctx context.Context, socket, url string) error{
			"the runtime's version": func(ctx context.Context, socket, _ string) error {
				r, err := Dial(ctx, socket)
				if err == nil {
					_ = r.Close()
				}
				return err
			},
			"etcd's status": func(ctx context.Context, _, url string) error {
				_, err := AskEtcd(ctx, EtcdConfig{Endpoints: []string{url}}, true)
				return err
			},
		}
		for _, version := range []string{"v1", "v2"} {
			// kube-apiserver's own limit for the plugin holds, and no deadline of ours.
			ask["a KMS plugin's health, "+version] = func(ctx context.Context, socket, _ string) error {
				return KMS{APIVersion: version, Socket: socket, Timeout: limit}.Healthy(context.WithoutCancel(ctx))
			}
			value := []byte("\x00\x06sealed and data")
			if version == "v2" {
				value = []byte("\x1a\x06sealed")
			}
			ask["a KMS plugin's key, "+version] = func(ctx context.Context, socket, _ string) error {
				return KMS{APIVersion: version, Socket: socket, Timeout: limit}.CanDecrypt(context.WithoutCancel(ctx), value)
			}
		}
		for name, ask := range ask {
			t.Run(name+": it "+string(way), func(t *testing.T) {
				socket, url := serveDeaf(t, way)
				defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
				ctx, cancel := context.WithTimeout(t.Context(), limit)
				defer cancel()
				begun := time.Now()
				if err := ask(ctx, socket, url); err == nil {
					t.Error("it counts as an answer")
				}
				if took := time.Since(begun); took > limit+10*time.Second {
					t.Errorf("it took %s", took)
				}
			})
		}
	}
}

// A runtime that has answered once may hang at any later question.
func TestARuntimeThatFallsSilentIsLeftAtTheDeadline(t *testing.T) {
	for _, way := range deaf.Ways {
		t.Run(string(way), func(t *testing.T) {
			socket, _ := serveDeaf(t, way)
			conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy())
			if err != nil {
				t.Fatal(err)
			}
			r := &Runtime{endpoint: socket, conn: conn, client: cri.NewRuntimeServiceClient(conn)}
			defer r.Close()
			for name, ask := range map[string]func(context.Context) error{
				"its pods":   func(ctx context.Context) error { _, err := r.Pod(ctx, "kube-system", "etcd-cp1"); return err },
				"CPU time":   func(ctx context.Context) error { _, err := r.CPU(ctx, "id"); return err },
				"mounts":     func(ctx context.Context) error { _, err := r.Mounts(ctx, "id"); return err },
				"to stop":    func(ctx context.Context) error { return r.StopSandbox(ctx, "id") },
				"to remove":  func(ctx context.Context) error { return r.RemoveSandbox(ctx, "id") },
				"to be kind": func(ctx context.Context) error { return r.StopContainer(ctx, "id", 0) },
			} {
				ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
				begun := time.Now()
				if err := ask(ctx); err == nil {
					t.Errorf("%s: it counts as an answer", name)
				}
				if took := time.Since(begun); took > 10*time.Second {
					t.Errorf("%s: it took %s", name, took)
				}
				cancel()
			}
		})
	}
}

func serveDeaf(t *testing.T, way deaf.Way) (socket, url string) {
	t.Helper()
	at, socket := listenUnix(t)
	stopUnix := deaf.Serve(at, way, nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	stopTCP := deaf.Serve(l, way, nil)
	t.Cleanup(stopUnix)
	t.Cleanup(stopTCP)
	return socket, "http://" + l.Addr().String()
}

// listenUnix listens on a socket until the test ends. Its directory is none of
// t.TempDir's, which have the test's name in them: a socket's path has 108 bytes.
func listenUnix(t testing.TB) (l *net.UnixListener, socket string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "s")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket = filepath.Join(dir, "s")
	if l, err = net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l, socket
}
