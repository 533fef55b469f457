package backup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"

	"etcd-rewind/node"
	"etcd-rewind/problem"
	"etcd-rewind/snapshot"
	"etcd-rewind/steps"
)

const secretMark = "the-value-of-a-secret"

// database is what a fake etcd holds.
var database = []byte(strings.Repeat("k8s\x00\x0a\x0f\x0a\x02v1\x12\x06Secret "+secretMark+" ", 3000))

// saves is an etcd that gives its database.
func saves(_ context.Context, req snapshot.SaveRequest) (*snapshot.Info, error) {
	if err := os.WriteFile(req.Path, database, 0o600); err != nil {
		return nil, err
	}
	if err := req.Follow(bytes.NewReader(database)); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(database)
	return &snapshot.Info{Size: int64(len(database)), Revision: 4711, Keys: 300, SHA256: hex.EncodeToString(sum[:]), KubeSystemUID: clusterA, EncryptedPrefixes: []string{"aescbc:key1"}}, nil
}

// aNode is one whose files are in a directory.
func aNode(t *testing.T, name string) (*Node, string) {
	t.Helper()
	dir := t.TempDir()
	return nodeIn(t, dir, name), filepath.Join(dir, "state")
}

type fataler interface {
	Helper()
	Fatal(...any)
}

func nodeIn(t fataler, dir, name string) *Node {
	t.Helper()
	for file, text := range map[string]string{"etcd/member/snap/db": "", "pki/ca.key": secretMark, "pki/etcd/ca.key": secretMark, "enc.yaml": secretMark, "manifests/etcd.yaml": "kind: Pod"} {
		path := filepath.Join(dir, file)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	return &Node{
		Name: name, DataDir: filepath.Join(dir, "etcd"), Kubernetes: "v1.34.2", EtcdServer: "3.6.5",
		UID:   func(context.Context) (string, error) { return clusterA, nil },
		Parts: map[string][]string{"pki": {filepath.Join(dir, "pki")}, "encryption-config": {filepath.Join(dir, "enc.yaml")}, "manifests": {filepath.Join(dir, "manifests")}},
	}
}

// aTaking is one to some locations, on a node of its own.
func aTaking(t *testing.T, name string, key Key, to ...Store) *Taking {
	t.Helper()
	n, state := aNode(t, name)
	return &Taking{
		Config: &Config{Recipients: []string{anAge}, Key: key, Path: "/etc/etcd-rewind/backup.yaml", Schedule: Schedule{Every: Duration(time.Hour)}},
		Node:   n, Dir: state, Version: "v0.1.0", stores: to, save: saves,
		now: func() time.Time { return noon.Add(10 * time.Minute) }, pause: func(context.Context, time.Duration) {},
	}
}

func take(t *testing.T, w *Taking) *Result {
	t.Helper()
	r, err := w.Take(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func unsealed(t *testing.T, s Store, name string, id age.Identity) []byte {
	t.Helper()
	r, err := s.Get(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	plain, err := age.Decrypt(r, id)
	if err != nil {
		t.Fatal(err)
	}
	z, err := zstd.NewReader(plain)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	data, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// The main path: what etcd gave lies in every location, opens with the identity,
// and the record says the truth about it.
func TestABackupIsInEveryLocation(t *testing.T) {
	id, escrow, k := identity(t), identity(t), NewKey()
	a, b := &Directory{Path: t.TempDir()}, &Directory{Path: t.TempDir()}
	w := aTaking(t, "cp1", k, a, b)
	w.Config.Recipients, w.Config.SecretsRecipients = []string{id.Recipient().String()}, []string{escrow.Recipient().String()}
	w.Config.Include = includes
	w.Config.MetricsFile = filepath.Join(t.TempDir(), "etcd-rewind.prom")
	res := take(t, w)
	if !res.OK || res.Error != nil || len(res.Locations) != 2 || res.Record == nil {
		t.Fatalf("%+v", res)
	}
	for _, s := range []Store{a, b} {
		l := listed(t, s, k)
		if len(l.Entries) != 1 || l.Entries[0].Err != nil {
			t.Fatalf("%+v", l)
		}
		r := l.Entries[0].Record
		if r.Revision != 4711 || r.Keys != 300 || r.Node != "cp1" || r.Kubernetes != "v1.34.2" || r.Etcd != "3.6.5" || r.Encryption[0] != "aescbc:key1" || r.Round != RoundAt(noon.Add(10*time.Minute)) {
			t.Errorf("%+v", r)
		}
		if got := unsealed(t, s, r.SnapshotName(), id); !bytes.Equal(got, database) || hexOf(got) != r.File.PlainSHA256 {
			t.Errorf("%d bytes come out", len(got))
		}
		if got := unsealed(t, s, r.SecretsName(), escrow); bytes.Count(got, []byte(secretMark)) != 3 || len(r.Secrets.Content) != 4 {
			t.Errorf("the second file has %v", r.Secrets.Content)
		}
	}
	state, err := steps.ReadBackups(w.Dir)
	if err != nil || !state.Last.OK || state.Good() != noon.Add(10*time.Minute) || len(state.Locations) != 2 || len(state.Locations[0].Sending) > 0 || state.Cluster != clusterA {
		t.Errorf("%+v %v", state, err)
	}
	metrics, err := os.ReadFile(w.Config.MetricsFile)
	if err != nil || !strings.Contains(string(metrics), "etcd_rewind_backup_last_success 1\n") || !strings.Contains(string(metrics), `last_good_timestamp_seconds{location="`+a.Location()+`"} 1772280600`) {
		t.Errorf("%s %v", metrics, err)
	}
	nothingLeft(t, w)
}

// Whatever keeps a backup from beginning is in the metrics as well as in the state:
// what says that all is well while etcd is down is worse than none.
func TestABackupThatCouldNotBeginIsInTheMetrics(t *testing.T) {
	down := problem.New("start it", "etcd doesn't answer")
	for name, c := range map[string]struct {
		breaks func(*testing.T, *Taking)
		state  bool   // can be written
		says   string // in it
	}{
		"etcd is down": {func(_ *testing.T, w *Taking) { Missed(w.Config, w.Dir, down, noon.Add(2*time.Hour)) }, true, "etcd doesn't answer"},
		"the configuration is broken": {func(t *testing.T, w *Taking) {
			file := configured(t, "locations: [file:///srv\nmetricsFile: '"+w.Config.MetricsFile+"' # for node_exporter\n")
			_, err := Load(file)
			Missed(Broken(file), w.Dir, err, noon.Add(2*time.Hour))
		}, true, "line 1"},
		"the state directory can't be made": {func(t *testing.T, w *Taking) {
			w.Dir = filepath.Join(w.Config.MetricsFile, "state")
			if _, err := w.Take(t.Context()); problem.Of(err) == nil {
				t.Error(err)
			}
		}, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			store := &Directory{Path: t.TempDir()}
			w := aTaking(t, "cp1", NewKey(), store)
			w.Config.Locations, w.Config.MetricsFile = []string{store.Location()}, filepath.Join(t.TempDir(), "etcd-rewind.prom")
			metrics := func() string {
				data, err := os.ReadFile(w.Config.MetricsFile)
				if err != nil {
					t.Error(err)
				}
				return string(data)
			}
			if res := take(t, w); !res.OK || !strings.Contains(metrics(), "etcd_rewind_backup_last_success 1\n") || !strings.Contains(metrics(), "etcd_rewind_backup_last_revision 4711\n") {
				t.Fatalf("%+v\n%s", res, metrics())
			}
			dir := w.Dir
			w.now = func() time.Time { return noon.Add(2 * time.Hour) }
			c.breaks(t, w)
			if got := metrics(); !strings.Contains(got, "etcd_rewind_backup_last_success 0\n") || !strings.Contains(got, "last_timestamp_seconds 1772287200\n") || strings.Contains(got, "last_revision") || !strings.Contains(got, `failures{location="`+store.Location()+`"} 1`) {
				t.Errorf("the metrics say\n%s", got)
			}
			state, err := steps.ReadBackups(dir)
			if err != nil || state.Last.OK == c.state || state.Good().IsZero() || c.state && (!strings.Contains(state.Last.Error.Cause, c.says) || state.Locations[0].Failures != 1) {
				t.Errorf("the state says %+v %v", state.Last, err)
			}
		})
	}
}

// Metrics that can't be written are a failure that the state reports, and the backup
// is good.
func TestMetricsThatCannotBeWrittenAreReported(t *testing.T) {
	w := aTaking(t, "cp1", NewKey(), &Directory{Path: t.TempDir()})
	w.Config.MetricsFile = filepath.Join(t.TempDir(), "nowhere", "etcd-rewind.prom")
	res := take(t, w)
	state, err := steps.ReadBackups(w.Dir)
	if err != nil || res.OK || res.Error == nil || !res.Locations[0].OK || state.Last.OK || state.Last.Error.Cause != res.Error.Cause || !strings.Contains(res.Error.Cause, "there is no directory") {
		t.Errorf("%+v %+v %v", res, state.Last, err)
	}
}

// nothingLeft holds that no plain text is left on the node.
func nothingLeft(t *testing.T, w *Taking) {
	t.Helper()
	_ = filepath.WalkDir(w.Dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			if data, err := os.ReadFile(path); err != nil || bytes.Contains(data, []byte(secretMark)) {
				t.Errorf("%s is left", path)
			}
		}
		return nil
	})
}

// Whatever a store shows to whoever can read it: nothing of the cluster's secrets,
// and no key.
func TestWhatLiesInAStoreIsUnreadable(t *testing.T) {
	k := NewKey()
	dir := t.TempDir()
	for name, set := range map[string]func(*Config){
		"cp1": func(c *Config) {},
		"cp2": func(c *Config) {
			c.PassphraseFile = filepath.Join(t.TempDir(), "pass")
			c.Recipients = nil
			if err := os.WriteFile(c.PassphraseFile, []byte("correct-horse-battery-staple\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		},
	} {
		w := aTaking(t, name, k, &Directory{Path: dir})
		w.Scheduled, w.Config.Include = false, includes
		set(w.Config)
		if res := take(t, w); !res.OK {
			t.Fatalf("%v", res.Error)
		}
	}
	files := 0
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		files++
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for what, secret := range map[string][]byte{"a Secret": []byte(secretMark), "etcd's pages": database[:64], "the key": k, "the key's text": []byte(hex.EncodeToString(k)), "the passphrase": []byte("correct-horse")} {
			if bytes.Contains(data, secret) {
				t.Errorf("%s shows %s", path, what)
			}
		}
		if strings.HasSuffix(path, ".age") && !bytes.HasPrefix(data, []byte("age-encryption.org/v1\n")) {
			t.Errorf("%s isn't encrypted", path)
		}
		// What isn't encrypted isn't compressed either: a zstd frame anywhere is plain text.
		if bytes.Contains(data, []byte{0x28, 0xb5, 0x2f, 0xfd}) {
			t.Errorf("%s has a compressed frame in it", path)
		}
		return nil
	})
	if err != nil || files != 6 {
		t.Errorf("%d files, %v", files, err)
	}
}

// refusing is a store that fails at some names.
type refusing struct {
	Store
	what string
	err  error
}

func (r refusing) Put(ctx context.Context, name string, content io.Reader, size int64) error {
	if strings.HasSuffix(name, r.what) {
		return r.err
	}
	return r.Store.Put(ctx, name, content, size)
}

// One location that fails stops no other, is the exit status, and nothing is
// pruned anywhere; what half of a backup it has got is removed.
func TestAFailureInOneLocationStopsNoOther(t *testing.T) {
	for _, what := range []string{snapshotSuffix, secretsSuffix, recordSuffix} {
		t.Run(what, func(t *testing.T) {
			k := NewKey()
			good, bad := &Directory{Path: t.TempDir()}, &Directory{Path: t.TempDir()}
			for i := range 3 {
				for _, s := range []Store{good, bad} {
					put(t, s, aRecord(noon.Add(-time.Duration(i+1)*time.Hour), "cp1"), k)
				}
			}
			before := names(t, bad, "")
			w := aTaking(t, "cp1", k, refusing{bad, what, syscall.ENOSPC}, good)
			w.Config.Include, w.Config.Keep = includes, Policy{Last: 1}
			res := take(t, w)
			if res.OK || res.Locations[0].OK || !res.Locations[1].OK || !errors.Is(res.Error, syscall.ENOSPC) && !strings.Contains(problem.Line(res.Error), "free space") {
				t.Errorf("%+v", res)
			}
			if got := names(t, bad, ""); got != before {
				t.Errorf("left behind: %s", got)
			}
			if l := listed(t, good, k); len(l.Entries) != 4 {
				t.Errorf("pruned: %d are left", len(l.Entries))
			}
			state, err := steps.ReadBackups(w.Dir)
			if err != nil || state.Last.OK || state.Locations[0].Failures != 1 || state.Locations[1].Failures != 0 || state.Good().IsZero() {
				t.Errorf("%+v %v", state, err)
			}
			// The next one works, and prunes.
			w.stores[0] = bad
			w.now = func() time.Time { return noon.Add(time.Hour) }
			if res := take(t, w); !res.OK || len(res.Locations[0].Pruned.Removed) != 3 || len(res.Locations[1].Pruned.Removed) != 4 {
				t.Errorf("then %+v", res)
			}
		})
	}
}

// A directory that isn't there is the fault of one location, which the result
// names: also when it is found while the turn is looked at.
func TestALocationThatIsGoneIsNamed(t *testing.T) {
	for _, scheduled := range []bool{false, true} {
		k, gone, good := NewKey(), &Directory{Path: filepath.Join(t.TempDir(), "gone")}, &Directory{Path: t.TempDir()}
		w := aTaking(t, "cp1", k, gone, good)
		w.Scheduled, w.Config.Lines = scheduled, map[string]int{gone.Location(): 3}
		res := take(t, w)
		if st := Find(t.Context(), w.stores, k, clusterA).Report(w.Config, w.stores, nil, steps.Drills{}, "", noon); !strings.Contains(st.Warning.Hint, "(line 3 of /etc/etcd-rewind/backup.yaml)") {
			t.Errorf("the status says %v", problem.Line(st.Warning))
		}
		if res.OK || !res.Locations[1].OK || !strings.Contains(res.Error.Hint, "(line 3 of /etc/etcd-rewind/backup.yaml)") || res.Error == nil || strings.Count(res.Error.Cause, gone.Location()) != 1 || !strings.Contains(res.Error.Cause, "no such directory") {
			t.Errorf("scheduled %v: %+v, %v", scheduled, res, res.Error)
		}
	}
}

// To the timer's service a directory that it wasn't enabled for is read-only, which
// is no fault of a disk.
func TestALocationOutsideTheCageIsExplained(t *testing.T) {
	for scheduled, hint := range map[bool]string{false: "read-only, perhaps after a disk error", true: "etcd-rewind backup enable"} {
		w := aTaking(t, "cp1", NewKey(), refusing{&Directory{Path: t.TempDir()}, snapshotSuffix, &fs.PathError{Op: "mkdir", Path: "x", Err: syscall.EROFS}})
		w.Scheduled = scheduled
		if res := take(t, w); res.Error == nil || !strings.Contains(res.Error.Hint, hint) {
			t.Errorf("scheduled %v: %v", scheduled, problem.Line(res.Error))
		}
	}
}

// Another node has claimed the round in one location, and its turn comes later: what
// fails there then prunes nothing in those that went well before, either.
func TestAFailureAfterAWaitPrunesNothing(t *testing.T) {
	for name, fails := range map[string]bool{"it fails there": true, "it goes well there": false} {
		t.Run(name, func(t *testing.T) {
			k := NewKey()
			first, later := &Directory{Path: t.TempDir()}, &Directory{Path: t.TempDir()}
			for i := range 3 {
				put(t, first, aRecord(noon.Add(-time.Duration(i+1)*time.Hour), "cp1"), k)
			}
			if ok, err := (&standing{}).take(t.Context(), later, k, claim{Cluster: clusterA, Round: RoundAt(noon), Node: "cp2", Time: noon}); !ok || err != nil {
				t.Fatal(ok, err)
			}
			second := refusing{later, snapshotSuffix, syscall.ENOSPC}
			if !fails {
				second.what = "nothing"
			}
			w := aTaking(t, "cp1", k, first, second)
			w.Scheduled, w.Config.Keep = true, Policy{Last: 1}
			now := w.now()
			w.now = func() time.Time { return now }
			w.pause = func(_ context.Context, d time.Duration) { now = now.Add(d) }
			res := take(t, w)
			if res.OK == fails || !res.Locations[0].OK || res.Locations[1].OK == fails {
				t.Errorf("%+v", res)
			}
			want := 1
			if fails {
				want = 4
			}
			if l := listed(t, first, k); len(l.Entries) != want {
				t.Errorf("%d backups are left, want %d", len(l.Entries), want)
			}
		})
	}
}

// After a backup that failed, nobody knows whether the next one works: nothing is
// removed by hand either, and what would be is shown.
func TestPruningIsRefusedAfterABackupThatFailed(t *testing.T) {
	s := &Directory{Path: t.TempDir()}
	w := aTaking(t, "cp1", NewKey(), s)
	w.Config.Locations, w.Config.Keep = []string{s.Location()}, Policy{Last: 1}
	prune := func(dry bool) (int, error) {
		all, err := Prune(t.Context(), w.Config, w.Dir, dry, noon.Add(time.Hour))
		removed := 0
		for _, p := range all {
			removed += len(p.Removed)
		}
		return removed, err
	}
	refused := func(when, says string) {
		t.Helper()
		n, err := prune(false)
		if p := problem.Of(err); n != 0 || p == nil || !strings.Contains(p.Cause, says) || p.Hint == "" {
			t.Errorf("%s: %d removed, %v", when, n, err)
		}
	}
	refused("before the first", "no backup was taken")
	if res := take(t, w); !res.OK {
		t.Fatal(res.Error)
	}
	for i := range 3 {
		put(t, s, aRecord(noon.Add(-time.Duration(i+1)*time.Hour), "cp1"), w.Config.Key)
	}
	before := names(t, s, "")
	w.stores = []Store{refusing{s, snapshotSuffix, syscall.ENOSPC}}
	w.now = func() time.Time { return noon.Add(30 * time.Minute) }
	if res := take(t, w); res.OK {
		t.Fatalf("%+v", res)
	}
	refused("after one that failed", "the last backup failed")
	if n, err := prune(true); n != 3 || err != nil {
		t.Errorf("dry: %d would be removed, %v", n, err)
	}
	if got := names(t, s, ""); got != before {
		t.Errorf("left: %s", got)
	}
	Missed(w.Config, w.Dir, problem.New("", "the node can't be read"), noon.Add(40*time.Minute))
	refused("after one that couldn't begin", "the last backup failed")
	keep := w.Config.Keep
	w.Config.Keep = Policy{}
	refused("without keep", "has no keep")

	w.Config.Keep, w.stores = keep, []Store{s}
	w.now = func() time.Time { return noon.Add(50 * time.Minute) }
	if res := take(t, w); !res.OK || len(res.Locations[0].Pruned.Removed) != 4 {
		t.Errorf("then %+v", res)
	}
	put(t, s, aRecord(noon.Add(-time.Hour), "cp1"), w.Config.Key)
	release, err := node.Lock(filepath.Join(w.Dir, "lock"))
	if err != nil {
		t.Fatal(err)
	}
	refused("while one is under way", "under way")
	if err := release(); err != nil {
		t.Fatal(err)
	}
	if n, err := prune(false); n != 1 || err != nil {
		t.Errorf("after one that succeeded: %d removed, %v", n, err)
	}
}

func TestABackupThatCannotBeTakenIsKnownAfterwards(t *testing.T) {
	down := problem.New("start it", "etcd doesn't answer")
	for name, break_ := range map[string]func(*Taking){
		"etcd is down": func(w *Taking) {
			w.Node.UID = func(context.Context) (string, error) { return "", down }
		},
		"the save fails": func(w *Taking) {
			w.save = func(context.Context, snapshot.SaveRequest) (*snapshot.Info, error) { return nil, down }
		},
		"the save fails in the middle": func(w *Taking) {
			w.save = func(_ context.Context, req snapshot.SaveRequest) (*snapshot.Info, error) {
				return nil, req.Follow(io.MultiReader(bytes.NewReader(database[:5000]), iotest.ErrReader(down)))
			}
		},
		"the disk is full": func(w *Taking) { w.Node.Size = 1 << 60 },
		"another cluster": func(w *Taking) {
			w.save = func(ctx context.Context, req snapshot.SaveRequest) (*snapshot.Info, error) {
				info, err := saves(ctx, req)
				info.KubeSystemUID = clusterB
				return info, err
			}
		},
		"what was encrypted isn't what was verified": func(w *Taking) {
			w.save = func(ctx context.Context, req snapshot.SaveRequest) (*snapshot.Info, error) {
				info, err := saves(ctx, req)
				info.Size++
				return info, err
			}
		},
		"its recipients are nobody": func(w *Taking) { w.Config.Recipients = nil },
	} {
		t.Run(name, func(t *testing.T) {
			s := &Directory{Path: t.TempDir()}
			w := aTaking(t, "cp1", NewKey(), s)
			w.Config.Keep, w.Scheduled = Policy{Last: 1}, true
			put(t, s, aRecord(noon.Add(-time.Hour), "cp1"), w.Config.Key)
			put(t, s, aRecord(noon.Add(-2*time.Hour), "cp1"), w.Config.Key)
			before := names(t, s, "")
			break_(w)
			res := take(t, w)
			if res.OK || res.Error == nil || res.Error.Hint == "" {
				t.Errorf("%+v", res)
			}
			if got := names(t, s, ""); got != before {
				t.Errorf("the location has %s", got)
			}
			state, err := steps.ReadBackups(w.Dir)
			if err != nil || state.Last.OK || state.Locations[0].Failures != 1 || state.Locations[0].Error == nil {
				t.Errorf("%+v %v", state, err)
			}
			nothingLeft(t, w)
		})
	}
}

// What can't be included is missed when it is needed: it is reported, and the snapshot
// is stored all the same.
func TestASecondFileThatCannotBeMadeIsAFailure(t *testing.T) {
	s := &Directory{Path: t.TempDir()}
	w := aTaking(t, "cp1", NewKey(), s)
	w.Config.Include = includes
	w.Node.Parts["encryption-config"] = []string{filepath.Join(t.TempDir(), "gone.yaml")}
	res := take(t, w)
	if res.OK || res.Error == nil || !strings.Contains(res.Error.Cause, "gone.yaml") || !res.Locations[0].OK {
		t.Errorf("%+v", res)
	}
	if l := listed(t, s, w.Config.Key); len(l.Entries) != 1 || l.Entries[0].Err != nil || l.Entries[0].Record.Secrets != nil {
		t.Errorf("%+v", l)
	}
}

func TestTwoBackupsAtOnceOnANodeAreOne(t *testing.T) {
	w := aTaking(t, "cp1", NewKey(), &Directory{Path: t.TempDir()})
	inside, on := make(chan struct{}), make(chan struct{})
	w.save = func(ctx context.Context, req snapshot.SaveRequest) (*snapshot.Info, error) {
		close(inside)
		<-on
		return saves(ctx, req)
	}
	var all sync.WaitGroup
	all.Go(func() {
		if res := take(t, w); !res.OK {
			t.Errorf("the first: %+v", res)
		}
	})
	<-inside
	if _, err := w.Take(t.Context()); err == nil || !strings.Contains(err.Error(), "under way") {
		t.Errorf("the second: %v", err)
	}
	close(on)
	all.Wait()
}

// Nobody waits for what a timer takes, but the cluster does for etcd; another node must
// not think that it hangs.
func TestWhatATimerTakesLeavesEtcdToTheCluster(t *testing.T) {
	for name, c := range map[string]struct {
		scheduled bool
		every     time.Duration
		size      int64
		want      int64 // bytes per second
	}{
		"now":                  {false, time.Hour, 2_400_000_000, 0},
		"by the timer":         {true, time.Hour, 2_400_000_000, 20_000_000},
		"8 GB":                 {true, time.Hour, 8_000_000_000, 20_000_000},
		"8 GB every 5 minutes": {true, 5 * time.Minute, 8_000_000_000, 133_333_333}, // in the minute after which another node waits one more
	} {
		t.Run(name, func(t *testing.T) {
			w := aTaking(t, "cp1", NewKey(), &Directory{Path: t.TempDir()})
			w.Scheduled, w.Config.Schedule.Every, w.Node.Size = c.scheduled, Duration(c.every), c.size
			if pace := (&taken{Taking: w}).pace(); pace != c.want {
				t.Errorf("%d bytes per second, not %d", pace, c.want)
			}
			w.Node.Size = 0 // which asks for no room on this disk
			var asked int64 = -1
			w.save = func(_ context.Context, req snapshot.SaveRequest) (*snapshot.Info, error) {
				asked = req.Pace
				return nil, errors.New("that is enough")
			}
			take(t, w)
			if want := min(c.want, 20_000_000); asked != want {
				t.Errorf("etcd was asked for %d bytes per second, not %d", asked, want)
			}
		})
	}
}

// Three control planes have a timer each, and one store.
func TestARoundIsTakenByWhoeverComesFirst(t *testing.T) {
	k, shared := NewKey(), &Directory{Path: t.TempDir()}
	var saved atomic.Int32
	of := func(name string) *Taking {
		w := aTaking(t, name, k, shared, &Directory{Path: t.TempDir()}) // and a directory of its own
		w.Scheduled = true
		w.save = func(ctx context.Context, req snapshot.SaveRequest) (*snapshot.Info, error) {
			saved.Add(1)
			return saves(ctx, req)
		}
		w.pause = func(context.Context, time.Duration) { time.Sleep(time.Millisecond) }
		return w
	}
	nodes := []*Taking{of("cp1"), of("cp2"), of("cp3")}
	var all sync.WaitGroup
	results := make([]*Result, len(nodes))
	for i, w := range nodes {
		all.Go(func() { results[i] = take(t, w) })
	}
	all.Wait()
	l := listed(t, shared, k)
	if len(l.Entries) != 1 || l.Entries[0].Round != RoundAt(noon) {
		t.Fatalf("%d backups of the round: %+v", len(l.Entries), l)
	}
	for i, res := range results {
		if !res.OK || res.Locations[0].By != l.Entries[0].Node || res.Locations[1].By != nodes[i].Node.Name {
			t.Errorf("%s: %+v", nodes[i].Node.Name, res)
		}
		state, err := steps.ReadBackups(nodes[i].Dir)
		if err != nil || state.Locations[0].Node != l.Entries[0].Node || state.Locations[0].Good.IsZero() {
			t.Errorf("%s knows %+v, %v", nodes[i].Node.Name, state, err)
		}
	}
	// Once more in the same round, and nobody takes anything.
	saved.Store(0)
	for _, w := range nodes {
		if res := take(t, w); !res.OK || res.Record != nil {
			t.Errorf("%+v", res)
		}
	}
	if saved.Load() > 0 {
		t.Errorf("saved %d times more", saved.Load())
	}
}

// A node has looked when nobody had claimed the round, and comes to claim it when
// another has taken it and given up its claim.
func TestANodeThatClaimsTooLateTakesNothing(t *testing.T) {
	k, s := NewKey(), &Directory{Path: t.TempDir()}
	late, first := aTaking(t, "cp2", k, s), aTaking(t, "cp1", k, s)
	late.Scheduled, first.Scheduled = true, true
	once := sync.OnceFunc(func() {
		if res := take(t, first); !res.OK {
			t.Error(res.Error)
		}
	})
	late.at = func(step string) {
		if strings.HasPrefix(step, "claim ") {
			once()
		}
	}
	if res := take(t, late); !res.OK || res.Locations[0].By != "cp1" || res.Record != nil {
		t.Errorf("%+v", res)
	}
	if l := listed(t, s, k); len(l.Entries) != 1 || len(l.claims) > 0 {
		t.Errorf("%s", names(t, s, ""))
	}
}

// A node that went down in the middle has claimed the round, and no backup comes.
func TestTheNextNodeTakesOver(t *testing.T) {
	for name, c := range map[string]struct {
		claimedAgo time.Duration // by the store's clock
		waits      bool
	}{"it was long ago": {time.Hour, false}, "it was just now": {0, true}, "the store's clock is ahead": {-time.Hour, true}} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := &Directory{Path: dir}
			w := aTaking(t, "cp2", NewKey(), s)
			w.Scheduled = true
			st := &standing{}
			ok, err := st.take(t.Context(), s, w.Config.Key, claim{Cluster: clusterA, Round: RoundAt(noon), Node: "cp1", Time: noon})
			at := w.now().Add(-c.claimedAgo)
			if err = errors.Join(err, os.Chtimes(filepath.Join(dir, claimName(clusterA, RoundAt(noon), 1)), at, at)); !ok || err != nil {
				t.Fatal(ok, err)
			}
			now, waited := w.now(), 0
			w.now = func() time.Time { return now }
			w.pause = func(_ context.Context, d time.Duration) { waited++; now = now.Add(d) }
			if res := take(t, w); !res.OK || res.Locations[0].By != "cp2" {
				t.Errorf("%+v", res)
			}
			if waited > 0 != c.waits || waited > 100 {
				t.Errorf("waited %d times", waited)
			}
		})
	}
}

// Only this cluster's nodes can claim: a claim of anybody else holds up nothing.
func TestAForgedClaimHoldsUpNothing(t *testing.T) {
	for name, forge := range map[string]func(t *testing.T, s Store, k Key){
		"with another key": func(t *testing.T, s Store, _ Key) {
			if ok, err := (&standing{}).take(t.Context(), s, NewKey(), claim{Cluster: clusterA, Round: RoundAt(noon), Node: "cp9"}); !ok || err != nil {
				t.Fatal(err)
			}
		},
		"of another round": func(t *testing.T, s Store, k Key) {
			other := RoundAt(noon.Add(-time.Hour))
			if ok, err := (&standing{}).take(t.Context(), s, k, claim{Cluster: clusterA, Round: other, Node: "cp9"}); !ok || err != nil {
				t.Fatal(err)
			}
			store(t, s, claimName(clusterA, RoundAt(noon), 1), read(t, s, claimName(clusterA, other, 1)))
		},
		"nonsense": func(t *testing.T, s Store, _ Key) { store(t, s, claimName(clusterA, RoundAt(noon), 7), "{}") },
		"a strange name": func(t *testing.T, s Store, _ Key) {
			store(t, s, clusterA+"/"+RoundAt(noon).String()+"/claim.007", "{}")
		},
		"a number beyond": func(t *testing.T, s Store, _ Key) { store(t, s, claimName(clusterA, RoundAt(noon), 1<<40), "{}") },
	} {
		t.Run(name, func(t *testing.T) {
			s := &Directory{Path: t.TempDir()}
			w := aTaking(t, "cp1", NewKey(), s)
			w.Scheduled = true
			w.pause = func(context.Context, time.Duration) { t.Error("it is waited for") }
			forge(t, s, w.Config.Key)
			if res := take(t, w); !res.OK || res.Locations[0].By != "cp1" {
				t.Errorf("%+v", res)
			}
		})
	}
}

// The clock is set back, or was ahead before: the turn seems to be taken already.
func TestAClockThatWasSetBackStopsNoBackup(t *testing.T) {
	s := &Directory{Path: t.TempDir()}
	w := aTaking(t, "cp1", NewKey(), s)
	w.Scheduled, w.Config.Keep = true, Policy{Last: 2}
	for h := range 4 {
		w.now = func() time.Time { return noon.Add(time.Duration(h)*time.Hour + 40*time.Minute) }
		if res := take(t, w); !res.OK {
			t.Fatal(res.Error)
		}
	}
	w.now = func() time.Time { return noon.Add(2*time.Hour + 10*time.Minute) } // in the round of 14:00, which was taken at 14:40
	res := take(t, w)
	if !res.OK || res.Record == nil || res.Round != RoundAt(w.now()) {
		t.Errorf("%+v", res)
	}
	var got []string
	for _, e := range listed(t, s, w.Config.Key).Entries {
		got = append(got, e.Round.Format("15:04"))
	}
	// Of the rounds that aren't in the future two are kept; the others stay.
	if strings.Join(got, " ") != "15:00 14:10 14:00" {
		t.Errorf("left: %v", got)
	}
}

func TestTheRoundsOfASchedule(t *testing.T) {
	for _, c := range []struct {
		every, at, now, round, calendar string
	}{
		{"1h", "00:00", "2026-03-03 04:59", "2026-03-03 04:00", "*-*-* *:00:00 UTC"},
		{"10m", "00:02", "2026-03-03 04:01", "2026-03-03 03:52", "*-*-* *:02/10:00 UTC"},
		{"10m", "00:02", "2026-03-03 00:01", "2026-03-02 23:52", "*-*-* *:02/10:00 UTC"},
		{"6h", "02:30", "2026-03-03 02:29", "2026-03-02 20:30", "*-*-* 02,08,14,20:30:00 UTC"},
		{"6h", "02:30", "2026-03-03 02:30", "2026-03-03 02:30", "*-*-* 02,08,14,20:30:00 UTC"},
		{"1d", "23:15", "2028-03-01 00:00", "2028-02-29 23:15", "*-*-* 23:15:00 UTC"},
		{"90m", "00:15", "2026-03-03 03:00", "2026-03-03 01:45", ""},
	} {
		every, err := ParseDuration(c.every)
		at, aerr := ParseClock(c.at)
		s := Schedule{every, at}
		if err = errors.Join(err, aerr, s.Check()); err != nil {
			t.Fatal(err)
		}
		if got := s.Round(day(c.now)); got != RoundAt(day(c.round)) {
			t.Errorf("%s from %s at %s: %s", c.every, c.at, c.now, got)
		}
		on := s.OnCalendar()
		if c.calendar != "" && (len(on) != 1 || on[0] != c.calendar) {
			t.Errorf("%s: %v", c.every, on)
		}
		if c.calendar == "" && (len(on) != 16 || on[1] != "*-*-* 01:45:00 UTC") {
			t.Errorf("%s: %v", c.every, on)
		}
	}
}

func asIdentities(ids ...*age.X25519Identity) (all []age.Identity) {
	for _, id := range ids {
		all = append(all, id)
	}
	return all
}
