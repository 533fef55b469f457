package snapshot

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/etcd/client/pkg/v3/types"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/membership"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.uber.org/zap"

	"etcd-rewind/problem"
	"etcd-rewind/trust"
)

func request(snapshot, dataDir string) RestoreRequest {
	return RestoreRequest{
		Snapshot: snapshot, DataDir: dataDir,
		Name: "cp1", PeerURLs: []string{"https://10.77.0.11:2380"},
	}
}

// startEtcd runs a real etcd on a data directory, on loopback.
func startEtcd(t *testing.T, dataDir, walDir string) (e *embed.Etcd, stop func()) {
	t.Helper()
	loopback := []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
	cfg := embed.NewConfig()
	cfg.Name, cfg.Dir, cfg.WalDir = "cp1", dataDir, walDir
	cfg.ListenPeerUrls, cfg.ListenClientUrls = loopback, loopback
	cfg.AdvertisePeerUrls, cfg.AdvertiseClientUrls = loopback, loopback
	cfg.InitialCluster = cfg.InitialClusterFromName("cp1")
	cfg.TickMs, cfg.ElectionMs = 10, 100
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		t.Fatalf("etcd doesn't start: %v", err)
	}
	stop = sync.OnceFunc(e.Close)
	t.Cleanup(stop)
	select {
	case <-e.Server.ReadyNotify():
	case err := <-e.Err():
		t.Fatalf("etcd ended: %v", err)
	case <-time.After(10 * time.Second):
		t.Fatal("etcd isn't ready after 10 s")
	}
	return e, stop
}

func TestRestoredDataBoots(t *testing.T) {
	for _, c := range []struct {
		name     string
		snapshot string
		request  func(*RestoreRequest)
		revision int64
		keys     int // what etcd answers: one less than etcdutl's count, for the empty key of an earlier bump
	}{
		{"as it is", "before", func(*RestoreRequest) {}, 1000000675, 327},
		{"with a bump and a token of its own", "after", func(r *RestoreRequest) {
			r.RevisionBump, r.Token = 1_000_000_000, "etcd-rewind-1"
		}, 2000000743, 321},
		{"with the WAL elsewhere", "encrypted", func(r *RestoreRequest) {
			r.RevisionBump, r.WALDir = 5000, filepath.Join(filepath.Dir(r.DataDir), "wal")
		}, 1000005794, 330},
		{"into an empty directory, with the WAL in it", "before", func(r *RestoreRequest) {
			r.WALDir = filepath.Join(r.DataDir, "the", "wal")
			if err := os.Mkdir(r.DataDir, 0o700); err != nil {
				panic(err)
			}
		}, 1000000675, 327},
		{"without a trailer, when that is accepted", "without trailer", func(r *RestoreRequest) {
			r.SkipHashCheck = true
		}, 1000000675, 327},
	} {
		t.Run(c.name, func(t *testing.T) {
			data := fixtures()[c.snapshot]
			if c.snapshot == "without trailer" {
				data = withoutTrailer(fixture(t, "before"))
			}
			req := request(file(t, "s.db", data), filepath.Join(t.TempDir(), "etcd"))
			c.request(&req)
			var phases []string
			got, err := Restore(context.Background(), req, func(p Progress) {
				if len(phases) == 0 || phases[len(phases)-1] != p.Phase {
					phases = append(phases, p.Phase)
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			phases = slices.DeleteFunc(phases, func(p string) bool { return p == "wal" || p == "verify" }) // too short to be seen always
			if diff := cmp.Diff([]string{"copy", "sync"}, phases); diff != "" {
				t.Error(diff)
			}
			token := req.Token
			if token == "" {
				token = "etcd-cluster"
			}
			urls, err := types.NewURLsMap("cp1=https://10.77.0.11:2380")
			if err != nil {
				t.Fatal(err)
			}
			cluster, err := membership.NewClusterFromURLsMap(zap.NewNop(), token, urls)
			if err != nil {
				t.Fatal(err)
			}
			st, err := os.Stat(dbPath(req.DataDir))
			if err != nil {
				t.Fatal(err)
			}
			id := uint64(cluster.MemberByName("cp1").ID)
			want := &Restored{
				ClusterID: uint64(cluster.ID()), MemberID: id,
				Revision: c.revision, Keys: c.keys,
				Members: []Member{{ID: id, Name: "cp1", PeerURLs: req.PeerURLs}}, StorageVersion: "3.6.0",
				Bytes: st.Size(),
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatal(diff)
			}

			e, stop := startEtcd(t, req.DataDir, req.WALDir)
			client := v3client.New(e.Server)
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			all, err := client.Get(ctx, "\x00", clientv3.WithFromKey(), clientv3.WithCountOnly())
			if err != nil {
				t.Fatal(err)
			}
			if h := all.Header; h.ClusterId != got.ClusterID || h.MemberId != got.MemberID || h.Revision != got.Revision || all.Count != int64(got.Keys) {
				t.Errorf("etcd answers %v, %d keys; restored was %+v", h, all.Count, got)
			}
			members, err := client.MemberList(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if m := members.Members; len(m) != 1 || m[0].Name != "cp1" || !slices.Equal(m[0].PeerURLs, req.PeerURLs) {
				t.Errorf("members %v", m)
			}
			if req.RevisionBump > 0 {
				_, err := client.Get(ctx, "x", clientv3.WithRev(c.revision-1))
				if !errors.Is(err, rpctypes.ErrCompacted) {
					t.Errorf("a read before the bump: %v, want compacted", err)
				}
			}
			put, err := client.Put(ctx, "written", "afterwards")
			if err != nil || put.Header.Revision != got.Revision+1 {
				t.Errorf("write: %v, %v", put, err)
			}

			_, err = ReadDataDir(ctx, req.DataDir, req.WALDir)
			wantProblem(t, err, CodeInUse)
			stop()
			after, err := ReadDataDir(ctx, req.DataDir, req.WALDir)
			if err != nil {
				t.Fatal(err)
			}
			if after.Revision < got.Revision+1 || after.Keys != got.Keys+1 || after.ClusterID != got.ClusterID || after.MemberID != got.MemberID {
				t.Errorf("after etcd ended the directory holds %+v", after)
			}
		})
	}
}

func TestRestoreOfOneOfThreeMembers(t *testing.T) {
	req := request(file(t, "s.db", fixture(t, "before")), filepath.Join(t.TempDir(), "etcd"))
	req.InitialCluster = "cp1=https://10.77.0.11:2380,cp2=https://10.77.0.12:2380,cp3=https://10.77.0.13:2380"
	one, err := Restore(context.Background(), req, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Name, req.PeerURLs, req.DataDir = "cp2", []string{"https://10.77.0.12:2380"}, filepath.Join(t.TempDir(), "etcd")
	two, err := Restore(context.Background(), req, nil)
	if err != nil {
		t.Fatal(err)
	}
	if one.ClusterID != two.ClusterID || one.MemberID == two.MemberID || len(one.Members) != 3 {
		t.Errorf("cp1 got %+v, cp2 %+v", one, two)
	}
}

// everything lists all files with mode and content.
func everything(t *testing.T, dir string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(p string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		st, err := os.Lstat(p)
		if err != nil {
			return err
		}
		line := strings.TrimPrefix(p, dir) + " " + st.Mode().String()
		if st.Mode().IsRegular() {
			data, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %x", sha256.Sum256(data))
		}
		all = append(all, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestRestoreThatFailsLeavesNothing(t *testing.T) {
	mkdir := func(t *testing.T, path string) {
		t.Helper()
		if err := os.MkdirAll(path, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	write := func(t *testing.T, path string) {
		t.Helper()
		if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	damaged := func(t *testing.T, r *RestoreRequest) {
		r.Snapshot = file(t, "d.db", flip(fixture(t, "before"), 300_000))
	}
	for _, c := range []struct {
		name, code string
		prepare    func(t *testing.T, r *RestoreRequest)
	}{
		{"a damaged snapshot", CodeDamagedHash, damaged},
		{"a damaged snapshot with the hash check off", CodeDamagedHash, func(t *testing.T, r *RestoreRequest) {
			damaged(t, r)
			r.SkipHashCheck = true
		}},
		{"a damaged snapshot into an empty directory", CodeDamagedHash, func(t *testing.T, r *RestoreRequest) {
			damaged(t, r)
			mkdir(t, r.DataDir)
		}},
		{"a truncated snapshot", CodeTruncated, func(t *testing.T, r *RestoreRequest) {
			r.Snapshot = file(t, "d.db", fixture(t, "before")[:100*4096])
		}},
		{"a snapshot that crashes its reader", "", func(t *testing.T, r *RestoreRequest) {
			whole := fixture(t, "before")
			r.Snapshot = file(t, "d.db", withRoot(whole, uint64(len(whole)/4096+10)))
		}},
		{"no trailer", CodeNoHash, func(t *testing.T, r *RestoreRequest) {
			r.Snapshot = file(t, "d.db", withoutTrailer(fixture(t, "before")))
		}},
		{"another snapshot than the one looked at", CodeChanged, func(t *testing.T, r *RestoreRequest) {
			r.ExpectSHA256 = strings.Repeat("0", 64)
		}},
		{"a data directory with something in it", CodeTarget, func(t *testing.T, r *RestoreRequest) {
			mkdir(t, filepath.Join(r.DataDir, "member"))
			write(t, filepath.Join(r.DataDir, "member", "db"))
		}},
		{"the root of a file system", CodeTarget, func(t *testing.T, r *RestoreRequest) {
			mkdir(t, filepath.Join(r.DataDir, "lost+found"))
		}},
		{"a file in the place of the data directory", CodeTarget, func(t *testing.T, r *RestoreRequest) {
			write(t, r.DataDir)
		}},
		{"no parent directory", CodeTarget, func(t *testing.T, r *RestoreRequest) {
			r.DataDir = filepath.Join(r.DataDir, "a", "b")
		}},
		{"a WAL directory that exists", CodeTarget, func(t *testing.T, r *RestoreRequest) {
			r.WALDir = r.DataDir + "-wal"
			mkdir(t, r.WALDir)
		}},
		{"the remains of another WAL", CodeTarget, func(t *testing.T, r *RestoreRequest) {
			r.WALDir = r.DataDir + "-wal"
			mkdir(t, r.WALDir+".tmp")
			write(t, filepath.Join(r.WALDir+".tmp", "0.wal"))
		}},
		{"no parent of the WAL directory", CodeTarget, func(t *testing.T, r *RestoreRequest) {
			r.WALDir = r.DataDir + "-other/wal"
		}},
		{"a WAL directory around the data directory", CodeRequest, func(t *testing.T, r *RestoreRequest) {
			r.WALDir = filepath.Dir(r.DataDir)
		}},
		{"no name", CodeRequest, func(t *testing.T, r *RestoreRequest) { r.Name = "" }},
		{"a bump beyond all numbers", CodeRequest, func(t *testing.T, r *RestoreRequest) { r.RevisionBump = 1 << 63 }},
		{"a name that isn't in the cluster", CodeRestore, func(t *testing.T, r *RestoreRequest) {
			r.InitialCluster = "cp2=https://10.77.0.12:2380"
		}},
		{"peer URLs that aren't those of the cluster", CodeRestore, func(t *testing.T, r *RestoreRequest) {
			r.InitialCluster = "cp1=https://10.77.0.12:2380"
		}},
		{"a peer URL that is none", CodeRestore, func(t *testing.T, r *RestoreRequest) {
			r.PeerURLs = []string{"10.77.0.11"}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			req := request(file(t, "s.db", fixture(t, "before")), filepath.Join(dir, "etcd"))
			c.prepare(t, &req)
			before := everything(t, dir)
			_, err := Restore(context.Background(), req, nil)
			if c.code != "" {
				wantProblem(t, err, c.code)
			} else if err == nil {
				t.Error("it went well")
			}
			if diff := cmp.Diff(before, everything(t, dir)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// The structure of bytes that Inspect knows isn't checked before they are
// changed. That must hide nothing.
func TestRestoreFindsDamageInBytesThatAreSaidToBeKnown(t *testing.T) {
	bare := withoutTrailer(fixture(t, "before"))
	random := rand.New(rand.NewPCG(5, 6))
	found := 0
	for range 40 {
		at := (2+random.IntN(len(bare)/4096-2))*4096 + random.IntN(64)
		data := withTrailer(flip(bare, at))
		path := file(t, "s.db", data)
		if _, err := Inspect(context.Background(), path, nil); err == nil {
			continue
		}
		found++
		dir := t.TempDir()
		req := request(path, filepath.Join(dir, "etcd"))
		req.RevisionBump, req.ExpectSHA256 = 1, hex.EncodeToString(data[len(bare):])
		if _, err := Restore(context.Background(), req, nil); err == nil {
			t.Errorf("damage at byte %d is found by Inspect and not by Restore", at)
		}
		if left := everything(t, dir); len(left) > 1 {
			t.Errorf("damage at byte %d: it leaves %v", at, left)
		}
	}
	if found < 10 {
		t.Errorf("only %d of 40 damages are such that Inspect finds them", found)
	}
}

const limitEnv = "SNAPSHOT_TEST_FILE_LIMIT"

// limitedRestore is the process that restoreOnFullDisk starts: it can't write
// a file beyond so many bytes, and neither can its worker. The test's own
// process must not be limited, go test writes a log for it.
func limitedRestore(limit string) {
	var req RestoreRequest
	n, err := strconv.ParseUint(limit, 10, 64)
	if err == nil {
		err = errors.Join(json.NewDecoder(os.Stdin).Decode(&req),
			syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: n, Max: n}))
	}
	if err == nil {
		_, err = Restore(context.Background(), req, nil)
	}
	if p := problem.Of(err); p != nil {
		fmt.Print(p.Code)
	} else {
		fmt.Print(err)
	}
	os.Exit(0)
}

func TestRestoreOnAFullDiskLeavesNothing(t *testing.T) {
	for _, c := range []struct {
		name  string
		limit int
	}{
		{"while it copies", 300_000},
		{"after the copy", 800_000},
		{"at the WAL", 40 << 20},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			req := request(file(t, "s.db", fixture(t, "before")), filepath.Join(dir, "etcd"))
			req.WALDir = filepath.Join(dir, "wal")
			line, err := json.Marshal(req)
			if err != nil {
				t.Fatal(err)
			}
			exe, err := trust.SelfPath()
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(exe)
			cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d", limitEnv, c.limit))
			cmd.Stdin, cmd.Stderr = bytes.NewReader(line), os.Stderr
			out, err := cmd.Output()
			if err != nil || string(out) != CodeTarget {
				t.Errorf("%v: %s", err, out)
			}
			if left := everything(t, dir); len(left) != 1 {
				t.Errorf("left behind: %.300q", left)
			}
		})
	}
}

func TestRestoreCancelledLeavesNothing(t *testing.T) {
	for _, phase := range []string{"copy", "sync"} {
		t.Run("during "+phase, func(t *testing.T) {
			dir := t.TempDir()
			req := request(file(t, "s.db", fixture(t, "before")), filepath.Join(dir, "etcd"))
			req.WALDir = filepath.Join(dir, "wal")
			ctx, cancel := context.WithCancel(context.Background())
			_, err := Restore(ctx, req, func(p Progress) {
				if p.Phase == phase {
					cancel()
				}
			})
			if !errors.Is(err, context.Canceled) {
				t.Errorf("error %v, want cancelled", err)
			}
			if left := everything(t, dir); len(left) != 1 {
				t.Errorf("left behind: %.300q", left)
			}
			cancel()
		})
	}
}

func TestRestoreTwiceIsRefusedAndHarmless(t *testing.T) {
	req := request(file(t, "s.db", fixture(t, "before")), filepath.Join(t.TempDir(), "etcd"))
	first, err := Restore(context.Background(), req, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Restore(context.Background(), req, nil)
	wantProblem(t, err, CodeTarget)
	again, err := ReadDataDir(context.Background(), req.DataDir, "")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first, again); diff != "" {
		t.Error(diff)
	}
}

func TestRestoreGivesOwnerAndMode(t *testing.T) {
	uid, gid := os.Getuid(), os.Getgid()
	if uid == 0 {
		uid, gid = 12345, 23456
	}
	dir := t.TempDir()
	req := request(file(t, "s.db", fixture(t, "before")), filepath.Join(dir, "etcd"))
	req.WALDir, req.UID, req.GID, req.Mode = filepath.Join(dir, "wal"), &uid, &gid, 0o750
	if _, err := Restore(context.Background(), req, nil); err != nil {
		t.Fatal(err)
	}
	files := 0
	for _, root := range []string{req.DataDir, req.WALDir} {
		err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			st, err := d.Info()
			if err != nil {
				return err
			}
			files++
			if s := st.Sys().(*syscall.Stat_t); int(s.Uid) != uid || int(s.Gid) != gid {
				t.Errorf("%s belongs to %d:%d", p, s.Uid, s.Gid)
			}
			want := os.FileMode(0o700)
			if p == root {
				want = 0o750
			}
			if d.IsDir() && st.Mode().Perm() != want {
				t.Errorf("%s has mode %v, want %v", p, st.Mode().Perm(), want)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if files < 7 {
		t.Errorf("only %d files", files)
	}
}

func TestReadDataDirOfWhatIsNone(t *testing.T) {
	good := filepath.Join(t.TempDir(), "etcd")
	if _, err := Restore(context.Background(), request(file(t, "s.db", fixture(t, "before")), good), nil); err != nil {
		t.Fatal(err)
	}
	const firstWAL = "0000000000000000-0000000000000000.wal"
	// 64 MB are preallocated; copies of the beginning do here.
	if err := os.Truncate(filepath.Join(walPath(good, ""), firstWAL), 8192); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadDataDir(context.Background(), good, ""); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, code string
		damage     func(dir string) error
	}{
		{"no database", CodeNoData, func(dir string) error { return os.Remove(dbPath(dir)) }},
		{"an empty database", CodeEmpty, func(dir string) error { return os.Truncate(dbPath(dir), 0) }},
		{"a truncated database", CodeTruncated, func(dir string) error { return os.Truncate(dbPath(dir), 4096*20) }},
		{"no WAL directory", CodeNoData, func(dir string) error { return os.RemoveAll(walPath(dir, "")) }},
		{"no WAL", CodeNoData, func(dir string) error {
			return errors.Join(os.RemoveAll(walPath(dir, "")), os.Mkdir(walPath(dir, ""), 0o700))
		}},
		{"a WAL of zeros", CodeStructure, func(dir string) error {
			return os.WriteFile(filepath.Join(walPath(dir, ""), firstWAL), make([]byte, 4096), 0o600)
		}},
		{"a WAL that is something else", CodeStructure, func(dir string) error {
			return os.WriteFile(filepath.Join(walPath(dir, ""), firstWAL), []byte(strings.Repeat("rubbish", 999)), 0o600)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "etcd")
			if err := os.CopyFS(dir, os.DirFS(good)); err != nil {
				t.Fatal(err)
			}
			if err := c.damage(dir); err != nil {
				t.Fatal(err)
			}
			before := everything(t, dir)
			_, err := ReadDataDir(context.Background(), dir, "")
			wantProblem(t, err, c.code)
			if diff := cmp.Diff(before, everything(t, dir)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A backup job moves the link latest.db between the look and the restore: what
// was seen is what is restored, or nothing is.
func TestRestoreRefusesAnotherFileBehindTheLink(t *testing.T) {
	dir := t.TempDir()
	latest := filepath.Join(dir, "latest.db")
	if err := os.Symlink(file(t, "monday.db", fixture(t, "before")), latest); err != nil {
		t.Fatal(err)
	}
	seen, err := Inspect(t.Context(), latest, nil)
	if err != nil {
		t.Fatal(err)
	}
	move := func(name string, data []byte) {
		t.Helper()
		next := filepath.Join(dir, "next")
		if err := errors.Join(os.Symlink(file(t, name, data), next), os.Rename(next, latest)); err != nil {
			t.Fatal(err)
		}
	}
	for name, data := range map[string][]byte{
		"tuesday.db":               fixture(t, "after"),
		"without its trailer.db":   withoutTrailer(fixture(t, "after")),
		"altered, hash and all.db": withTrailer(flip(withoutTrailer(fixture(t, "before")), 300_000)),
	} {
		move(name, data)
		req := request(latest, filepath.Join(dir, "etcd"))
		req.ExpectSHA256, req.SkipHashCheck = seen.SHA256, true
		_, err := Restore(t.Context(), req, nil)
		wantProblem(t, err, CodeChanged)
		if _, err := os.Stat(req.DataDir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: something is left behind: %v", name, err)
		}
	}
	move("monday again.db", fixture(t, "before"))
	req := request(latest, filepath.Join(dir, "etcd"))
	req.ExpectSHA256 = seen.SHA256
	if _, err := Restore(t.Context(), req, nil); err != nil {
		t.Error(err)
	}
}
