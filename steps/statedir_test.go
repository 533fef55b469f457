package steps

import (
	"os"
	"path/filepath"
	"testing"
)

func TestAStateDirectoryThatOthersCanWriteToIsNotUsed(t *testing.T) {
	for name, spoil := range map[string]func(dir string) error{
		"a link": func(dir string) error { return os.Symlink(t.TempDir(), dir) },
		"a file": func(dir string) error { return os.WriteFile(dir, nil, 0o600) },
		"others may write": func(dir string) error {
			if err := os.Mkdir(dir, 0o700); err != nil {
				return err
			}
			return os.Chmod(dir, 0o777)
		},
	} {
		t.Run(name, func(t *testing.T) {
			n := newFakeNode(t)
			p := n.plan(Choices{})
			if err := spoil(filepath.Join(n.root, "etcd-rewind")); err != nil {
				t.Fatal(err)
			}
			e, events := n.engine(nil)
			res := e.Run(t.Context(), p)
			if res.OK || !res.PutBack || res.Error == nil || len(*events) != 1 {
				t.Errorf("%+v, %d events", res, len(*events))
			}
		})
	}
}
