package snapshot

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"filippo.io/age"
	"filippo.io/age/armor"

	"etcd-rewind/problem"
)

func newIdentity(t testing.TB) *age.X25519Identity {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func ageFile(t testing.TB, data []byte, to ...age.Recipient) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := age.Encrypt(&b, to...)
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.Write(data)
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func armored(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := armor.NewWriter(&b)
	_, err := w.Write(data)
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Whatever is inside, and whoever else may open it.
func TestAnEncryptedSnapshotIsDecryptedIntoTheStagingFile(t *testing.T) {
	raw, mine, escrow := fixture(t, "before"), newIdentity(t), newIdentity(t)
	both := []age.Recipient{mine.Recipient(), escrow.Recipient()}
	for name, c := range map[string]struct {
		data   []byte
		format Format
	}{
		"plain":              {ageFile(t, raw, both...), Raw},
		"zstd (.zst.age)":    {ageFile(t, zstandard(t, raw), both...), Zstd},
		"gzip, armored":      {armored(t, ageFile(t, gzipped(t, raw), both...)), Gzip},
		"a compressed tar":   {ageFile(t, gzipped(t, tarred(t, member{"a.db", raw})), both...), TarGzip},
		"one recipient":      {ageFile(t, zstandard(t, raw), mine.Recipient()), Zstd},
		"for others as well": {ageFile(t, raw, newIdentity(t).Recipient(), mine.Recipient()), Raw},
	} {
		t.Run(name, func(t *testing.T) {
			path, dir := file(t, "etcd.zst.age", c.data), t.TempDir()
			src := File(path)
			src.Identities = []age.Identity{newIdentity(t), mine}
			s, err := Stage(t.Context(), src, dir, nil)
			if err != nil {
				t.Fatal(err)
			}
			if !s.Age || s.Format != c.format || s.Name != path || !s.Copied() {
				t.Errorf("%+v", s)
			}
			if st, err := os.Stat(s.Path); err != nil || st.Mode().Perm() != 0o600 || filepath.Dir(s.Path) != dir {
				t.Errorf("%v %v", st, err)
			}
			info, err := s.Inspect(t.Context(), nil)
			if err != nil || info.Hash != HashOK || info.Name != path {
				t.Fatalf("%+v %v", info, err)
			}
			if err := s.Remove(); err != nil {
				t.Error(err)
			}
			isEmpty(t, dir)
		})
	}
}

func TestWhatCannotBeDecryptedSaysWhyAndLeavesNothing(t *testing.T) {
	raw, mine := fixture(t, "before"), newIdentity(t)
	good := ageFile(t, zstandard(t, raw), mine.Recipient())
	byPassphrase, err := age.NewScryptRecipient("correct horse battery staple")
	if err != nil {
		t.Fatal(err)
	}
	byPassphrase.SetWorkFactor(10)
	header := bytes.Index(good, []byte("\n--- ")) + 2 // its last line has a checksum of it
	large := ageFile(t, raw, mine.Recipient())
	first := bytes.Index(large, []byte("\n--- ")) + 1 // of the payload: a nonce, then chunks of 64 kB with 16 bytes each
	first += bytes.IndexByte(large[first:], '\n') + 1 + 16
	for name, c := range map[string]struct {
		data []byte
		ids  []age.Identity
		code string
		says string
	}{
		"no identity":               {good, nil, CodeEncrypted, "encrypted with age"},
		"another identity":          {good, []age.Identity{newIdentity(t)}, CodeEncrypted, "for other recipients"},
		"a passphrase":              {ageFile(t, raw, byPassphrase), []age.Identity{mine}, CodeEncrypted, "passphrase"},
		"twice":                     {ageFile(t, good, mine.Recipient()), []age.Identity{mine}, CodeEncrypted, "twice"},
		"a header that was changed": {flip(good, header), []age.Identity{mine}, CodeDamagedHash, "was changed"},
		"a byte that was changed":   {flip(good, len(good)/2), []age.Identity{mine}, CodeDamagedHash, "was changed"},
		"the last byte changed":     {flip(good, len(good)-1), []age.Identity{mine}, CodeDamagedHash, "was changed"},
		"something appended":        {append(bytes.Clone(good), "xyz"...), []age.Identity{mine}, CodeDamagedHash, "was changed"},
		"cut off in the header":     {good[:60], []age.Identity{mine}, CodeTruncated, "ends in the middle"},
		"cut off between chunks":    {large[:first+3*(64<<10+16)], []age.Identity{mine}, CodeTruncated, "ends in the middle"},
		"cut off":                   {large[:len(large)-100], []age.Identity{mine}, CodeDamagedHash, "was changed"},
		"not a snapshot":            {ageFile(t, []byte("hello"), mine.Recipient()), []age.Identity{mine}, CodeNotBolt, ""},
		"nothing in it":             {ageFile(t, nil, mine.Recipient()), []age.Identity{mine}, CodeEmpty, ""},
	} {
		t.Run(name, func(t *testing.T) {
			src, dir := File(file(t, "etcd.age", c.data)), t.TempDir()
			src.Identities = c.ids
			s, err := Stage(t.Context(), src, dir, nil)
			p := problem.Of(err)
			if p == nil {
				t.Fatalf("%+v, %v: want a problem", s, err)
			}
			if c.code != "" && p.Code != c.code || !strings.Contains(p.Cause, c.says) || p.Hint == "" {
				t.Errorf("%s: %s (%s)", p.Code, p.Cause, p.Hint)
			}
			isEmpty(t, dir)
		})
	}
}

// The list of snapshots has it, and reads nothing of it.
func TestAnEncryptedSnapshotIsListed(t *testing.T) {
	dir := t.TempDir()
	data := ageFile(t, zstandard(t, fixture(t, "before")), newIdentity(t).Recipient())
	if err := os.WriteFile(filepath.Join(dir, "nightly.db.zst.age"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	found := Find(t.Context(), []string{dir})
	if len(found) != 1 || found[0].Err != nil || found[0].Format != Age || found[0].Size != int64(len(data)) {
		t.Errorf("%+v", found)
	}
}

func TestIdentitiesAreReadFromAFileOrAPipe(t *testing.T) {
	id := newIdentity(t)
	text := "# created: today\n" + id.String() + "\n"
	ids, err := ReadIdentities(t.Context(), file(t, "key.txt", []byte(text)), nil)
	if err != nil || len(ids) != 1 {
		t.Errorf("%v %v", ids, err)
	}
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	go func() {
		if f, err := os.OpenFile(pipe, os.O_WRONLY, 0); err == nil {
			_, _ = io.WriteString(f, text)
			_ = f.Close()
		}
	}()
	if ids, err = ReadIdentities(t.Context(), pipe, nil); err != nil || len(ids) != 1 {
		t.Errorf("from a pipe: %v %v", ids, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	silent := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(silent, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadIdentities(ctx, silent, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("a pipe that nobody writes into: %v", err)
	}
	if w, err := os.OpenFile(silent, os.O_RDWR, 0); err == nil { // who still waits sees its end
		_ = w.Close()
	}
	for name, path := range map[string]string{
		"missing": "/nowhere/key.txt", "a recipient": file(t, "a", []byte(id.Recipient().String())),
		"a broken one": file(t, "b", []byte(text[:len(text)-5])),
		"too long":     file(t, "d", bytes.Repeat([]byte("#\n"), maxIdentities)), "a directory": t.TempDir(),
	} {
		_, err := ReadIdentities(t.Context(), path, nil)
		p := problem.Of(err)
		if p == nil || p.Code != CodeIdentity || p.Hint == "" || strings.Contains(p.Cause+p.Hint, "KEY-1") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
