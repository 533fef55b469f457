//go:build e2e && linux

package backup

import (
	"bytes"
	"crypto/ed25519"
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/crypto/ssh"

	"etcd-rewind/snapshot"
)

// The command line of age itself opens a backup, with an identity of its own and
// with an SSH key, and a file that it has made is staged and inspected here, binary
// or armored.
func TestRealAgeAndThisProgramOpenEachOthersFiles(t *testing.T) {
	dir := t.TempDir()
	tool := func(stdin []byte, name string, args ...string) []byte {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Env = append(os.Environ(), "GOBIN="+dir, "GOFLAGS=-mod=mod")
		cmd.Stdin = bytes.NewReader(stdin)
		var said bytes.Buffer
		cmd.Stderr = &said
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s %v: %v\n%s", name, args, err, said.String())
		}
		return out
	}
	version := strings.TrimSpace(string(tool(nil, "go", "list", "-m", "-f", "{{.Version}}", "filippo.io/age")))
	tool(nil, "go", "install", "filippo.io/age/cmd/...@"+version)
	age, file := filepath.Join(dir, "age"), func(name string) string { return filepath.Join(dir, name) }

	tool(nil, filepath.Join(dir, "age-keygen"), "-o", file("identity"))
	recipient := strings.TrimSpace(string(tool(nil, filepath.Join(dir, "age-keygen"), "-y", file("identity"))))
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file("id_ed25519"), pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	sshRecipient := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))

	// Ours, by theirs.
	s := &Directory{Path: t.TempDir()}
	w := aTaking(t, "cp1", NewKey(), s)
	w.Config.Recipients = []string{recipient, sshRecipient}
	if res := take(t, w); !res.OK {
		t.Fatal(res.Error)
	} else {
		stored := filepath.Join(s.Path, res.Record.SnapshotName())
		for _, identity := range []string{"identity", "id_ed25519"} {
			z, err := zstd.NewReader(nil)
			if err != nil {
				t.Fatal(err)
			}
			got, err := z.DecodeAll(tool(nil, age, "-d", "-i", file(identity), stored), nil)
			z.Close()
			if err != nil || !bytes.Equal(got, database) {
				t.Errorf("with %s: %d bytes of %d, %v", identity, len(got), len(database), err)
			}
		}
	}

	// Theirs, by ours.
	tool(nil, "sh", "-c", `gzip -dc ../snapshot/testdata/before.db.gz >"$0"`, file("before.db"))
	plain, err := os.ReadFile(file("before.db"))
	if err != nil {
		t.Fatal(err)
	}
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	packed := z.EncodeAll(plain, nil)
	for name, args := range map[string][]string{"binary": {"-r", recipient, "-r", sshRecipient}, "armored": {"-a", "-r", recipient, "-r", sshRecipient}} {
		if err := os.WriteFile(file(name+".age"), tool(packed, age, args...), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, identity := range []string{"identity", "id_ed25519"} {
			src := snapshot.File(file(name + ".age"))
			if src.Identities, err = snapshot.ReadIdentities(t.Context(), file(identity), nil); err != nil {
				t.Fatal(err)
			}
			staged, err := snapshot.Stage(t.Context(), src, t.TempDir(), nil)
			if err != nil {
				t.Errorf("%s with %s: %v", name, identity, err)
				continue
			}
			info, err := staged.Inspect(t.Context(), nil)
			if err = errors.Join(err, staged.Remove()); err != nil || info.Revision == 0 {
				t.Errorf("%s with %s: %+v %v", name, identity, info, err)
			}
		}
	}
}
