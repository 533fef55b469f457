package backup

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"etcd-rewind/problem"
	"etcd-rewind/snapshot"
)

// sealedSnapshot is a snapshot as it is stored.
func sealedSnapshot(t *testing.T, to age.Recipient) ([]byte, *Sealed) {
	t.Helper()
	packed, err := os.ReadFile("../snapshot/testdata/before.db.gz")
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	s, err := Seal(t.Context(), &out, z, to)
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), s
}

// putSnapshot stores a backup of a real snapshot.
func putSnapshot(t *testing.T, s Store, k Key, round time.Time, node string, data []byte, sealed *Sealed) *Record {
	t.Helper()
	r := aRecord(round, node)
	r.File.Sealed, r.Secrets = *sealed, nil
	text, err := r.Seal(k)
	if err != nil {
		t.Fatal(err)
	}
	store(t, s, r.SnapshotName(), string(data))
	store(t, s, r.Name(), string(text))
	return r
}

func staged(t *testing.T, src snapshot.Source, id age.Identity) error {
	t.Helper()
	src.Identities = []age.Identity{id}
	dir := t.TempDir()
	got, err := snapshot.Stage(t.Context(), src, dir, nil)
	if err == nil {
		_, err = got.Inspect(t.Context(), nil)
		err = errors.Join(err, got.Remove())
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	return err
}

// The newest good backup is found wherever it lies, is opened where it can be,
// and is that of this cluster.
func TestTheLatestBackupIsFoundInAllPlaces(t *testing.T) {
	id, k := identity(t), NewKey()
	data, sealed := sealedSnapshot(t, id.Recipient())
	first, second := &Directory{Path: t.TempDir()}, &Directory{Path: t.TempDir()}
	putSnapshot(t, first, k, noon, "cp1", data, sealed)
	putSnapshot(t, first, k, noon.Add(time.Hour), "cp2", data, sealed)
	newest := putSnapshot(t, second, k, noon.Add(2*time.Hour), "cp1", data, sealed)
	putSnapshot(t, second, NewKey(), noon.Add(3*time.Hour), "cp1", data, sealed) // whoever wrote it
	other := aRecord(noon.Add(4*time.Hour), "cp1")
	other.Cluster = ClusterID{KubeSystemUID: clusterB, CASHA256: strings.Repeat("cd", 32)}
	put(t, second, other, k)

	p := Places{Stores: []Store{first, second}, Key: k, Cluster: ClusterID{CASHA256: newest.Cluster.CASHA256}}
	src, unread, err := p.Latest(t.Context())
	if err != nil || len(unread) > 0 || !strings.HasSuffix(src.Name, newest.SnapshotName()) {
		t.Fatalf("%s %v %v", src.Name, unread, err)
	}
	if err := staged(t, src, id); err != nil {
		t.Error(err)
	}

	// It is in the first place too, where it can't be read in the end.
	putSnapshot(t, first, k, noon.Add(2*time.Hour), "cp1", data, sealed)
	if src, _, err = p.Latest(t.Context()); err != nil || !strings.Contains(src.Name, first.Path) {
		t.Fatalf("%s %v", src.Name, err)
	}
	if err := first.Delete(t.Context(), newest.SnapshotName()); err != nil {
		t.Fatal(err)
	}
	if err := staged(t, src, id); err != nil {
		t.Error(err)
	}

	// A place that isn't there is reported, and the others are read all the same.
	p.Stores = []Store{&Directory{Path: filepath.Join(first.Path, "none")}, second}
	if src, unread, err = p.Latest(t.Context()); err != nil || len(unread) != 1 || !strings.HasSuffix(src.Name, newest.SnapshotName()) {
		t.Errorf("%s %v %v", src.Name, unread, err)
	}
	p.Stores = p.Stores[:1]
	if _, _, err = p.Latest(t.Context()); problem.Of(err) == nil || !strings.Contains(err.Error(), "no such directory") {
		t.Errorf("%v", err)
	}

	// A machine that doesn't tell its cluster doesn't guess.
	p = Places{Stores: []Store{second}, Key: k}
	if _, _, err = p.Latest(t.Context()); problem.Of(err) == nil || !strings.Contains(err.Error(), "2 clusters") {
		t.Errorf("%v", err)
	}
	p.Cluster.KubeSystemUID = "33333333-2222-3333-4444-555555555555"
	if _, _, err = p.Latest(t.Context()); !problem.HasCode(err, snapshot.CodeMissing) {
		t.Errorf("%v", err)
	}
}

// A place that hangs costs the others nothing, and ends with its context.
func TestAPlaceThatHangsDoesNotHoldUpTheOthers(t *testing.T) {
	f, hangs := newFakeS3(t, "")
	f.fault = func(_ http.ResponseWriter, r *http.Request) bool {
		<-r.Context().Done()
		return true
	}
	ctx, cancel := context.WithCancel(t.Context())
	p := Places{Stores: []Store{hangs, &Directory{Path: t.TempDir()}}}
	var said []string
	p.Look(ctx, func(s Store, _ *Listing, err error) {
		said = append(said, s.Location())
		if (err == nil) != (s != hangs) {
			t.Errorf("%s: %v", s.Location(), err)
		}
		cancel()
	})
	if len(said) != 2 || strings.HasPrefix(said[0], "s3") {
		t.Errorf("%v", said)
	}
}

// The URL of a backup is one of a file in a store, whoever put it there.
func TestTheURLOfABackup(t *testing.T) {
	id, k := identity(t), NewKey()
	data, sealed := sealedSnapshot(t, id.Recipient())
	f, bucket := newFakeS3(t, "")
	dir, host := newFakeSFTP(t, nil)
	f.objects["some/prefix/talos-2026-11-20T12:00:00Z.snap.zst.age"] = fakeObject{data, "e", time.Now(), ""}
	if err := os.WriteFile(filepath.Join(dir, "a file.db.zst.age"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	r := putSnapshot(t, bucket, k, noon, "cp1", data, sealed)
	at := "s3://bucket/some/prefix/"
	query := "?endpoint=" + f.URL
	for url, want := range map[string]string{
		at + "talos-2026-11-20T12:00:00Z.snap.zst.age" + query: "",
		at + r.SnapshotName() + query:                          "",
		at + "latest" + query:                                  "",
		at + "none.db" + query:                                 "no such backup",
		at + query:                                             "no file's name",
		"s3://bucket?secret=hunter2":                           "no file's name",
		"s3://bucket/x?secret=hunter2":                         "not a parameter",
		"file:///srv/x.db?secret=hunter2":                      "parameter",
		"ftp://host/x.db":                                      "aren't supported",
	} {
		src, err := Source(t.Context(), url, k, ClusterID{})
		if err == nil {
			err = staged(t, src, id)
		}
		if want == "" && err != nil || want != "" && (problem.Of(err) == nil || !strings.Contains(err.Error(), want)) || err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v, want %q", url, err, want)
		}
	}
	src := snapshot.Source{Name: host.Location() + "/a file.db.zst.age", Open: func(ctx context.Context) (*snapshot.Stored, error) {
		r, o, err := host.get(ctx, filepath.Join(dir, "a file.db.zst.age"))
		if err != nil {
			return nil, err
		}
		return &snapshot.Stored{ReadCloser: r, Size: o.Size}, nil
	}}
	if err := staged(t, src, id); err != nil {
		t.Error(err)
	}
	plain := filepath.Join(dir, "plain.db")
	if err := os.WriteFile(plain, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if src, err := Source(t.Context(), "file://"+plain, nil, ClusterID{}); err != nil || src.Name != plain || staged(t, src, id) != nil {
		t.Errorf("%v %v", src.Name, err)
	}
}

// A file that was swapped for another valid one isn't restored: the record says
// what was stored.
func TestABackupThatWasSwappedIsNotRestored(t *testing.T) {
	id, k := identity(t), NewKey()
	data, sealed := sealedSnapshot(t, id.Recipient())
	another, _ := sealedSnapshot(t, id.Recipient())
	if len(another) != len(data) {
		t.Fatal("of another size")
	}
	f, s := newFakeS3(t, "")
	r := putSnapshot(t, s, k, noon, "cp1", data, sealed)
	f.objects["some/prefix/"+r.SnapshotName()] = fakeObject{another, "e", time.Now(), ""}
	p := Places{Stores: []Store{s}, Key: k}
	latest, _, err := p.Latest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	named, err := Source(t.Context(), "s3://bucket/some/prefix/"+r.SnapshotName()+"?endpoint="+f.URL, k, ClusterID{})
	if err != nil {
		t.Fatal(err)
	}
	for _, src := range []snapshot.Source{latest, named} {
		if err := staged(t, src, id); !problem.HasCode(err, snapshot.CodeDamagedHash) || !strings.Contains(err.Error(), "isn't the file that was stored") {
			t.Errorf("%v", err)
		}
	}
	// With the record of whoever swapped it, it is no better.
	sum := sha256.Sum256(another)
	r.File.SHA256 = hex.EncodeToString(sum[:])
	text, err := r.Seal(NewKey())
	if err != nil {
		t.Fatal(err)
	}
	f.objects["some/prefix/"+r.Name()] = fakeObject{text, "e", time.Now(), ""}
	if _, err := Source(t.Context(), "s3://bucket/some/prefix/"+r.SnapshotName()+"?endpoint="+f.URL, k, ClusterID{}); err == nil || !strings.Contains(err.Error(), "can't be trusted") {
		t.Errorf("%v", err)
	}
	if _, _, err := p.Latest(t.Context()); err == nil || !strings.Contains(err.Error(), "can be trusted") {
		t.Errorf("%v", err)
	}
}

// What is cut in the middle of a restore is gone on with.
// Without the key, or without a record, nobody knows who made a backup: that is said,
// and is no reason to leave a cluster unrestored. Another key's backup isn't taken.
func TestWhoMadeABackupMayBeUnknown(t *testing.T) {
	id, k := identity(t), NewKey()
	data, sealed := sealedSnapshot(t, id.Recipient())
	s := &Directory{Path: t.TempDir()}
	r := putSnapshot(t, s, k, noon, "cp1", data, sealed)
	url, latest := below(s, r.SnapshotName()), below(s, Latest)
	source := func(url string, k Key) (snapshot.Source, error) { return Source(t.Context(), url, k, ClusterID{}) }
	for _, u := range []string{url, latest} {
		if src, err := source(u, k); err != nil || src.Doubt != nil || staged(t, src, id) != nil {
			t.Errorf("%s with its key: %v %v", u, src.Doubt, err)
		}
		if src, err := source(u, nil); err != nil || src.Doubt == nil || !strings.Contains(src.Doubt.Cause, "nobody knows who made cp1.db.zst.age") || src.Doubt.Hint == "" || staged(t, src, id) != nil {
			t.Errorf("%s without a key: %v %v", u, src.Doubt, err)
		}
		if _, err := source(u, NewKey()); err == nil || !strings.Contains(problem.Line(err), "add the former key to it") {
			t.Errorf("%s with another key: %v", u, err)
		}
		if src, err := source(u, append(NewKey(), k...)); err != nil || src.Doubt != nil {
			t.Errorf("%s with a former key: %v %v", u, src.Doubt, err)
		}
	}
	if n := (&Config{Locations: []string{s.Location()}, Key: NewKey()}).Foreign(t.Context()); n != 1 {
		t.Errorf("%d backups of another key", n)
	}

	other, _ := sealedSnapshot(t, id.Recipient())
	replace(t, s, r.SnapshotName(), string(other))
	if src, err := source(url, k); err != nil || !problem.HasCode(staged(t, src, id), snapshot.CodeDamagedHash) {
		t.Errorf("swapped for another that opens: %v", err)
	}
	if err := s.Delete(t.Context(), r.Name()); err != nil {
		t.Fatal(err)
	}
	if src, err := source(url, k); err != nil || src.Doubt == nil || !strings.Contains(src.Doubt.Cause, "no record beside it") {
		t.Errorf("without its record: %v %v", src.Doubt, err)
	}
	store(t, s, "etcd.db.zst.age", string(other))
	if src, err := source(below(s, "etcd.db.zst.age"), k); err != nil || src.Doubt != nil {
		t.Errorf("a file of another program: %v %v", src.Doubt, err)
	}
}

func TestARestoreGoesOverACut(t *testing.T) {
	id := identity(t)
	data, _ := sealedSnapshot(t, id.Recipient())
	f, _ := newFakeS3(t, "")
	f.objects["some/prefix/x.age"] = fakeObject{data, "e", time.Now(), ""}
	f.fault = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodGet && r.Header.Get("Range") == "" {
			w.Header().Set("ETag", `"e"`)
			w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
			w.Header().Set("Content-Length", strconv.Itoa(len(data)))
			_, _ = io.CopyN(w, bytes.NewReader(data), 5000)
			_ = http.NewResponseController(w).Flush()
			hangUp(w)
			return true
		}
		return false
	}
	was := defaultPace
	defaultPace.pause = time.Millisecond
	defer func() { defaultPace = was }()
	src, err := Source(t.Context(), "s3://bucket/some/prefix/x.age?endpoint="+f.URL, nil, ClusterID{})
	if err == nil {
		err = staged(t, src, id)
	}
	if err != nil {
		t.Error(err)
	}
}
