package steps

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"etcd-rewind/manifest"
)

func TestThePrintedSedDoesWhatTheEditDid(t *testing.T) {
	etcd, err := os.ReadFile("testdata/manifests/etcd.yaml")
	if err != nil {
		t.Fatal(err)
	}
	edits := map[string]func([]byte) ([]byte, error){
		"a new hostPath": func(d []byte) ([]byte, error) { return manifest.SetHostPath(d, "etcd-data", "/var/lib/etcd new's") },
		"an annotation":  func(d []byte) ([]byte, error) { return manifest.Annotate(d, restartedAt, "2026-11-20T21:26:05Z") },
		"an annotation and a new hostPath": func(d []byte) ([]byte, error) {
			d, err := manifest.Annotate(d, restartedAt, "2026-11-20T21:26:05Z")
			if err != nil {
				return nil, err
			}
			return manifest.SetHostPath(d, "etcd-data", "/var/lib/etcd new's")
		},
		"changes all over": func(d []byte) ([]byte, error) {
			return []byte("# one\n" + strings.NewReplacer("kind: Pod\n", "", "name: etcd\n", "name: \\etcd\n    more: yes\n").Replace(string(d))), nil
		},
		"nothing":       func(d []byte) ([]byte, error) { return d, nil },
		"a line less":   func(d []byte) ([]byte, error) { return []byte(strings.Replace(string(d), "kind: Pod\n", "", 1)), nil },
		"a line before": func(d []byte) ([]byte, error) { return append([]byte("# one \\ two\n"), d...), nil },
	}
	for name, edit := range edits {
		t.Run(name, func(t *testing.T) {
			want, err := edit(etcd)
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(t.TempDir(), "it's etcd.yaml")
			if err := os.WriteFile(file, etcd, 0o600); err != nil {
				t.Fatal(err)
			}
			command := sedFor(etcd, want, file)
			if len(command) > 400 {
				t.Errorf("nobody reads a command of %d bytes: it names more than what changes", len(command))
			}
			if out, err := exec.Command("sh", "-c", command).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			got, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != string(want) {
				t.Errorf("sed made:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}
