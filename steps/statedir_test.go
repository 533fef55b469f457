package steps

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAStateDirectoryThatOthersCanWriteToIsNotUsed(t *testing.T) {
	for _, c := range []struct {
		name, cause, hint string
		spoil             func(dir string) error
	}{
		{"a link", "not a directory but a link or a file", "--state-dir", func(dir string) error { return os.Symlink(t.TempDir(), dir) }},
		{"a file", "not a directory", "", func(dir string) error { return os.WriteFile(dir, nil, 0o600) }},
		{"others may write", "others can write to", "chmod go-w", func(dir string) error {
			if err := os.Mkdir(dir, 0o700); err != nil {
				return err
			}
			return os.Chmod(dir, 0o777)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newFakeNode(t)
			p := n.plan(Choices{})
			if err := c.spoil(filepath.Join(n.root, "etcd-rewind")); err != nil {
				t.Fatal(err)
			}
			e, events := n.engine(nil)
			res := e.Run(t.Context(), p)
			if res.OK || !res.Reverted || res.Error == nil || len(*events) != 1 {
				t.Fatalf("%+v, %d events", res, len(*events))
			}
			if !strings.Contains(res.Error.Cause, c.cause) {
				t.Errorf("the cause %q doesn't say %q", res.Error.Cause, c.cause)
			}
			if !strings.Contains(res.Error.Hint, c.hint) || !strings.HasSuffix(res.Error.Hint, "nothing was changed") {
				t.Errorf("the hint %q doesn't say %q, and that nothing was changed", res.Error.Hint, c.hint)
			}
		})
	}
}

// Ctrl-C while the container runtime keeps a run waiting that has not begun: that is what
// ended it, and not the runtime.
func TestARunThatIsStoppedBeforeItBeginsWasStopped(t *testing.T) {
	n := newFakeNode(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	socket := filepath.Join(n.root, "containerd.sock")
	silent, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	go func() {
		if conn, err := silent.Accept(); err == nil {
			stop()
			<-t.Context().Done()
			_ = conn.Close()
		}
	}()
	p := n.plan(Choices{})
	p.Reach.Kubelet.CRIEndpoint = "unix://" + socket
	e, _ := n.engine(nil)
	e.world = nil
	res := e.Run(ctx, p)
	if res.ExitCode() != 4 || !res.Reverted || res.Error == nil || res.Error.Cause != "you stopped the run" || res.Error.Hint != "nothing was changed" {
		t.Errorf("status %d: %+v", res.ExitCode(), res.Error)
	}
}
