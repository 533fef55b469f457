package practice

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"etcd-rewind/steps"
)

// A node with real keys, and a snapshot with real Secrets: after a whole
// restore none of them is in what people send around.
func TestTheBundleHasNoSecretOfTheNodeOrTheSnapshot(t *testing.T) {
	t.Parallel()
	s := attempt(t, "deleted-namespace", false)
	s.wizard(t, "etcd-nightly.db")

	w := &steps.Session{Options: s.options()}
	runs, err := w.Runs(t.Context())
	if err != nil || len(runs) != 1 {
		t.Fatal(runs, err)
	}
	files := steps.RunFiles(runs[0])
	var out bytes.Buffer
	if err := steps.WriteBundle(&out, "report", files, time.Now()); err != nil {
		t.Fatal(err)
	}
	text := unpacked(t, &out)
	for _, want := range []string{"journal.jsonl", "events.jsonl", "report.md", "Move etcd.yaml aside"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q isn't in the bundle", want)
		}
	}

	secrets := append(secretsIn(t, s.Root.Path("opt/backup/etcd-nightly.db")), keysBelow(t, s.Root.Path("etc/kubernetes"))...)
	if len(secrets) < 8 {
		t.Fatalf("only %d secrets were found: does this test still see them?", len(secrets))
	}
	for _, secret := range secrets {
		if strings.Contains(text, secret) {
			t.Errorf("a secret is in the bundle: %.12s…", secret)
		}
	}
}

func unpacked(t *testing.T, r io.Reader) string {
	t.Helper()
	gz, err := gzip.NewReader(r)
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for in := tar.NewReader(gz); ; {
		h, err := in.Next()
		if err == io.EOF {
			return all.String()
		}
		if err != nil {
			t.Fatal(err)
		}
		all.WriteString(h.Name + "\n")
		if _, err := io.Copy(&all, in); err != nil {
			t.Fatal(err)
		}
	}
}

// secretsIn are the values of the Secrets in a database.
func secretsIn(t *testing.T, path string) []string {
	t.Helper()
	db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	var all []string
	err = db.View(func(tx *bolt.Tx) error {
		return tx.Bucket([]byte("key")).ForEach(func(_, v []byte) error {
			var kv mvccpb.KeyValue
			if err := proto.Unmarshal(v, &kv); err != nil || !bytes.HasPrefix(kv.Key, []byte("/registry/secrets/")) {
				return err
			}
			var object runtime.Unknown
			var secret corev1.Secret
			if err := object.Unmarshal(bytes.TrimPrefix(kv.Value, []byte("k8s\x00"))); err != nil {
				return err
			}
			if err := secret.Unmarshal(object.Raw); err != nil {
				return err
			}
			for _, value := range secret.Data {
				// A word like "true" is in every text.
				if len(value) >= 12 {
					all = append(all, string(value))
				}
			}
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// keysBelow are a line of each private key below a directory.
func keysBelow(t *testing.T, dir string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() || filepath.Ext(path) != ".key" {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		lines := strings.Split(string(data), "\n")
		all = append(all, lines[1])
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
