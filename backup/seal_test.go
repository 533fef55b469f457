package backup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"
	"go.uber.org/goleak"

	"etcd-rewind/problem"
	"etcd-rewind/snapshot"
)

func TestMain(m *testing.M) {
	snapshot.Worker()
	if os.Getenv(crashEnv) != "" {
		workFactor = 10
		crashed()
	}
	if data := os.Getenv(benchEnv); data != "" {
		var c benched
		if err := json.Unmarshal([]byte(data), &c); err != nil {
			panic(err)
		}
		c.run()
	}
	workFactor = 10
	goleak.VerifyTestMain(m)
}

func identity(t *testing.T) *age.X25519Identity {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// What was sealed opens for each recipient alone, and is to the byte what it was.
func TestASealedFileOpensForEachRecipient(t *testing.T) {
	mine, escrow := identity(t), identity(t)
	for name, data := range map[string][]byte{
		"nothing": nil, "a byte": {7}, "text": bytes.Repeat([]byte("apiVersion: v1\n"), 300_000), "noise": noise(3<<20 + 17),
		"two frames": noise(2 * frameSize), "more than are in memory at a time": noise(7*frameSize + 1),
	} {
		var file bytes.Buffer
		s, err := Seal(t.Context(), &file, bytes.NewReader(data), mine.Recipient(), escrow.Recipient())
		if err != nil {
			t.Fatal(err)
		}
		if s.PlainSize != int64(len(data)) || s.PlainSHA256 != hexOf(data) || s.Size != int64(file.Len()) || s.SHA256 != hexOf(file.Bytes()) {
			t.Errorf("%s: %+v", name, s)
		}
		for _, id := range []age.Identity{mine, escrow} {
			plain, err := age.Decrypt(bytes.NewReader(file.Bytes()), id)
			if err != nil {
				t.Fatal(err)
			}
			z, err := zstd.NewReader(plain)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(z); err != nil || !bytes.Equal(got, data) {
				t.Errorf("%s: %d bytes came out of %d, %v", name, len(got), len(data), err)
			}
			z.Close()
		}
		if _, err := age.Decrypt(bytes.NewReader(file.Bytes()), identity(t)); err == nil {
			t.Errorf("%s: somebody else opens it", name)
		}
	}
}

func hexOf(data []byte) string { sum := sha256.Sum256(data); return hex.EncodeToString(sum[:]) }

func noise(n int) []byte {
	r, b := rand.New(rand.NewPCG(1, 2)), make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// Nothing of what is in the cluster is in the store: not compressed either.
func TestWhatIsStoredCannotBeRead(t *testing.T) {
	secret := []byte("/registry/secrets/default/password: hunter2")
	var file bytes.Buffer
	if _, err := Seal(t.Context(), &file, bytes.NewReader(secret), identity(t).Recipient()); err != nil {
		t.Fatal(err)
	}
	for _, part := range [][]byte{secret, []byte("registry"), []byte("hunter2"), {0x28, 0xb5, 0x2f, 0xfd}} {
		if bytes.Contains(file.Bytes(), part) {
			t.Errorf("%q is there to be read", part)
		}
	}
	file.Reset()
	if _, err := Seal(t.Context(), &file, bytes.NewReader(secret)); problem.Of(err) == nil || file.Len() > 0 {
		t.Errorf("without recipients: %v, %d bytes", err, file.Len())
	}
}

func TestSealingThatIsInterruptedOpensForNobody(t *testing.T) {
	id, data := identity(t), noise(5<<20)
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	stopped := readerFunc(func(p []byte) (int, error) {
		if n++; n == 3 {
			cancel()
		}
		return copy(p, data), nil
	})
	for name, c := range map[string]struct {
		ctx  context.Context
		from io.Reader
		is   error
	}{
		"cancelled":                             {ctx, stopped, context.Canceled},
		"the snapshot can't be read to its end": {t.Context(), io.MultiReader(bytes.NewReader(data), iotest.ErrReader(io.ErrUnexpectedEOF)), io.ErrUnexpectedEOF},
	} {
		var file bytes.Buffer
		if _, err := Seal(c.ctx, &file, c.from, id.Recipient()); !errors.Is(err, c.is) {
			t.Errorf("%s: %v", name, err)
		}
		if plain, err := age.Decrypt(bytes.NewReader(file.Bytes()), id); err == nil {
			if _, err = io.Copy(io.Discard, plain); err == nil {
				t.Errorf("%s: what was written opens", name)
			}
		}
	}
	full, read := errors.New("no space left"), 0
	endless := readerFunc(func(p []byte) (int, error) {
		read += len(p)
		return len(p), nil
	})
	if _, err := Seal(t.Context(), failing{full}, bytes.NewReader(data), id.Recipient()); !errors.Is(err, full) {
		t.Errorf("a full disk: %v", err)
	}
	if _, err := compress(failing{full}, endless); !errors.Is(err, full) || read > 10*frameSize {
		t.Errorf("a full disk is noticed after %d bytes: %v", read, err)
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

// A file from a store is a snapshot like any other: sealed, kept, fetched,
// opened, and whole.
func TestABackupIsASnapshotAgain(t *testing.T) {
	packed, err := os.Open("../snapshot/testdata/before.db.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer packed.Close()
	id, dir := identity(t), t.TempDir()
	staged, err := snapshot.Stage(t.Context(), snapshot.File(packed.Name()), dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = staged.Remove() }()
	db, err := os.Open(staged.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	sealed, err := os.Create(filepath.Join(dir, "sealed"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := Seal(t.Context(), sealed, db, id.Recipient())
	if err := errors.Join(err, sealed.Close()); err != nil {
		t.Fatal(err)
	}
	store := &Directory{Path: t.TempDir()}
	const name = "c1/etcd.db.zst.age"
	c := Content{Open: func() (io.ReadCloser, error) { return os.Open(sealed.Name()) }, Size: s.Size, SHA256: s.SHA256}
	if err := Keep(t.Context(), store, name, c, idleInTests); err != nil {
		t.Fatal(err)
	}
	src := Snapshot(store, name)
	src.Identities = []age.Identity{id}
	back, err := snapshot.Stage(t.Context(), src, dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = back.Remove() }()
	info, err := back.Inspect(t.Context(), nil)
	if err != nil || info.Hash != snapshot.HashOK || info.Revision == 0 {
		t.Fatalf("%+v %v", info, err)
	}
	if !strings.HasPrefix(info.Name, "file://") || !strings.HasSuffix(info.Name, "/"+name) {
		t.Errorf("named %s", info.Name)
	}
	missing := Snapshot(store, "c1/none")
	if _, err := snapshot.Stage(t.Context(), missing, dir, nil); problem.Of(err) == nil {
		t.Errorf("one that isn't there: %v", err)
	}
}
