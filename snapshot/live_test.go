package snapshot

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	bolt "go.etcd.io/bbolt"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/embed"

	"etcd-rewind/problem"
)

// liveFrom runs an etcd on what a fixture holds.
func liveFrom(t *testing.T, name string, bump uint64) (*embed.Etcd, *Etcd) {
	t.Helper()
	req := request(file(t, name+".db", fixture(t, name)), filepath.Join(t.TempDir(), "etcd"))
	req.RevisionBump = bump
	if _, err := Restore(context.Background(), req, nil); err != nil {
		t.Fatal(err)
	}
	e, _ := startEtcd(t, req.DataDir, "")
	return e, &Etcd{Endpoints: []string{deadEndpoint(t), "http://" + e.Clients[0].Addr().String()}}
}

// deadEndpoint is one that nobody listens at.
func deadEndpoint(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "http://" + l.Addr().String()
}

func TestCompareWithARunningEtcd(t *testing.T) {
	ctx := context.Background()
	e, at := liveFrom(t, "after", 1_000_000)

	// The same as between the two files, over etcd's API.
	c, err := Compare(ctx, file(t, "before.db", fixture(t, "before")), Other{Etcd: at}, CompareOptions{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := compareFixtures(t, "before", "after", CompareOptions{})
	for _, d := range []struct{ got, want Changes }{{c.BringsBack, want.BringsBack}, {c.TakesAway, want.TakesAway}, {c.TurnsBack, want.TurnsBack}} {
		if diff := cmp.Diff(told(d.want.List), told(d.got.List)); diff != "" {
			t.Error(diff)
		}
		if d.got.Objects != d.want.Objects {
			t.Errorf("%d objects, want %d", d.got.Objects, d.want.Objects)
		}
	}
	if c.Other.What != "cluster" || c.Other.Keys != 321 || c.Other.Revision != 1001000743 || c.Lineage.Relation != Before || c.Other.From != at.Endpoints[1] {
		t.Errorf("%+v %+v", c.Other, c.Lineage)
	}

	// A kind that the snapshot doesn't know, and a name with no kind to it.
	put := func(key, value string) {
		t.Helper()
		if _, err := e.Server.Put(ctx, &pb.PutRequest{Key: []byte(key), Value: []byte(value)}); err != nil {
			t.Fatal(err)
		}
	}
	put("/registry/example.org/gadgets/shop/g", `{"apiVersion":"example.org/v1","kind":"Gadget","metadata":{"name":"g"}}`)
	put("/registry/secrets/shop/hidden", "whatever")
	put("something else", "")
	c, err = Compare(ctx, file(t, "after.db", fixture(t, "after")), Other{Etcd: at}, CompareOptions{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"Gadget shop/g", "Secret shop/hidden"}, told(c.TakesAway.List)); diff != "" {
		t.Error(diff)
	}
	if c.BringsBack.Objects+c.TurnsBack.Objects != 0 || c.TakesAway.Noise != 1 {
		t.Errorf("%+v", c)
	}
}

func TestCompareWithAClusterThatWentAnotherWay(t *testing.T) {
	// It was restored from before, without a bump, and wrote on: its
	// revisions are also those of the snapshot, but not the same changes.
	e, at := liveFrom(t, "before", 0)
	for i := range 80 {
		if _, err := e.Server.Put(context.Background(), &pb.PutRequest{Key: fmt.Appendf(nil, "/registry/configmaps/shop/c%d", i%7), Value: []byte("{}")}); err != nil {
			t.Fatal(err)
		}
	}
	c, err := Compare(context.Background(), file(t, "after.db", fixture(t, "after")), Other{Etcd: at}, CompareOptions{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.Lineage.Relation != Forked || c.TakesAway.Objects < 7 || !c.Lineage.OneCluster() {
		t.Errorf("%+v, takes away %d", c.Lineage, c.TakesAway.Objects)
	}
}

// Two etcds continued from one snapshot and wrote the same keys as often: their
// revisions are alike, their values aren't.
func TestCompareReadsTheNewestValuesOfARunningEtcd(t *testing.T) {
	const keys = 40
	_, at := liveFrom(t, "before", 0)
	same, err := Compare(t.Context(), file(t, "before.db", fixture(t, "before")), Other{Etcd: at}, CompareOptions{}, nil)
	if err != nil || !same.Same() || same.Lineage.Relation != SameMoment || same.Unread == 0 || same.Unread >= same.Other.Keys {
		t.Fatalf("with itself: %+v, %v", same, err)
	}
	e, at := liveFrom(t, "before", 0)
	write := func(kv func(key, value string), what string) {
		for i := range keys {
			kv(fmt.Sprintf("/registry/configmaps/shop/c%d", i), fmt.Sprintf(`{"kind":"ConfigMap","apiVersion":"v1","data":{"x":"%s"}}`, what))
			kv(fmt.Sprintf("/registry/secrets/shop/s%d", i), what)
		}
	}
	put := func(e *embed.Etcd) func(key, value string) {
		return func(key, value string) {
			if _, err := e.Server.Put(t.Context(), &pb.PutRequest{Key: []byte(key), Value: []byte(value)}); err != nil {
				t.Fatal(err)
			}
		}
	}
	write(put(e), "one")
	saved, err := Save(t.Context(), SaveRequest{Etcd: *at, Path: filepath.Join(t.TempDir(), "one.db"), Node: "cp1"})
	if err != nil {
		t.Fatal(err)
	}
	e, at = liveFrom(t, "before", 0)
	write(put(e), "two")
	c, err := Compare(t.Context(), saved.Path, Other{Etcd: at}, CompareOptions{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.Lineage.Relation != Forked || c.TurnsBack.Objects != keys || c.Unread < keys || c.Unread > keys+c.Snapshot.Keys/5 {
		t.Errorf("%+v: %d differ, %d weren't read", c.Lineage, c.TurnsBack.Objects, c.Unread)
	}
}

func TestCompareWithManyPagesOfKeys(t *testing.T) {
	e, at := liveFrom(t, "before", 0)
	const n = 2*pageKeys + 17
	for i := range n {
		if _, err := e.Server.Put(context.Background(), &pb.PutRequest{Key: fmt.Appendf(nil, "/registry/configmaps/many/c%05d", i), Value: []byte("{}")}); err != nil {
			t.Fatal(err)
		}
	}
	c, err := Compare(context.Background(), file(t, "before.db", fixture(t, "before")), Other{Etcd: at}, CompareOptions{Limit: 10}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.TakesAway.Objects != n || len(c.TakesAway.List) != 10 || c.TakesAway.Unlisted != n-10 || c.Other.Keys != 327+n {
		t.Errorf("takes away %d, listed %d; %+v", c.TakesAway.Objects, len(c.TakesAway.List), c.Other)
	}
}

func TestCompareWhenNoEtcdAnswers(t *testing.T) {
	at := &Etcd{Endpoints: []string{deadEndpoint(t)}}
	_, err := Compare(context.Background(), file(t, "a.db", fixture(t, "before")), Other{Etcd: at}, CompareOptions{}, nil)
	if err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("error %v", err)
	}
}

func TestSaveTakesAWholeSnapshot(t *testing.T) {
	ctx := context.Background()
	_, at := liveFrom(t, "after", 0)
	dir := t.TempDir()
	var phases []string
	info, err := Save(ctx, SaveRequest{Etcd: *at, Path: dir, Node: "cp1", Progress: func(p Progress) {
		if !slices.Contains(phases, p.Phase) {
			phases = append(phases, p.Phase)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	if name := filepath.Base(info.Path); !regexp.MustCompile(`^etcd-cp1-rev1000000743-\d{8}-\d{6}\.db$`).MatchString(name) {
		t.Errorf("named %s", name)
	}
	if st, err := os.Stat(info.Path); err != nil || st.Mode().Perm() != 0o600 || st.Size() != info.Size {
		t.Errorf("%v, mode %v", err, st.Mode())
	}
	if info.Hash != HashOK || info.Revision != 1000000743 || info.KubeSystemUID == "" {
		t.Errorf("%+v", info)
	}
	if diff := cmp.Diff([]string{"save", "sync", "hash"}, phases); diff != "" {
		t.Error(diff)
	}
	left, _ := os.ReadDir(dir)
	if len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
	c, err := Compare(ctx, info.Path, Other{Etcd: at}, CompareOptions{Noise: true}, nil)
	if err != nil || !c.Same() || c.Lineage.Relation != SameMoment {
		t.Errorf("compared with where it is from: %v %+v", err, c)
	}

	t.Run("and overwrites none", func(t *testing.T) {
		for _, path := range []string{info.Path, link(t, info.Path), link(t, "dangling")} {
			before, _ := os.Readlink(path)
			_, err := Save(ctx, SaveRequest{Etcd: *at, Path: path})
			wantProblem(t, err, CodeTarget)
			if after, _ := os.Readlink(path); after != before {
				t.Error("a link was replaced")
			}
		}
		aside := filepath.Join(t.TempDir(), "aside")
		if err := os.WriteFile(aside, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		wantProblem(t, giveName(aside, info.Path), CodeTarget)
	})
	t.Run("into a directory that isn't there", func(t *testing.T) {
		_, err := Save(ctx, SaveRequest{Etcd: *at, Path: filepath.Join(dir, "no", "a.db")})
		wantProblem(t, err, CodeTarget)
	})
	t.Run("under a name, cancelled", func(t *testing.T) {
		dir := t.TempDir()
		ctx, cancel := context.WithCancel(ctx)
		_, err := Save(ctx, SaveRequest{Etcd: *at, Path: filepath.Join(dir, "a.db"), Progress: func(Progress) { cancel() }})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
		isEmpty(t, dir)
	})
	t.Run("without reading it back", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "brief.db")
		brief, err := Save(ctx, SaveRequest{Etcd: *at, Path: path, Brief: true})
		if err != nil {
			t.Fatal(err)
		}
		whole, err := Inspect(ctx, path, nil)
		if err != nil || brief.Hash != HashOK || brief.SHA256 != whole.SHA256 || brief.Revision != whole.Revision || brief.Size != whole.Size {
			t.Errorf("it says %+v, and is %+v (%v)", brief, whole, err)
		}
	})
	t.Run("at a pace", func(t *testing.T) {
		paced, err := Save(ctx, SaveRequest{Etcd: *at, Path: filepath.Join(t.TempDir(), "paced.db"), Pace: 50_000_000})
		if err != nil {
			t.Fatal(err)
		}
		if paced.Hash != HashOK || paced.Revision != info.Revision || paced.Keys != info.Keys {
			t.Errorf("%s, revision %d, %d keys", paced.Hash, paced.Revision, paced.Keys)
		}
	})
	t.Run("under a name", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "a.db")
		if info, err := Save(ctx, SaveRequest{Etcd: *at, Path: path}); err != nil || info.Path != path {
			t.Errorf("%v %v", info, err)
		}
	})
}

// What isn't read back is compared as it comes, in whatever pieces.
func TestASnapshotIsHashedAsItComes(t *testing.T) {
	sum := sha256.Sum256([]byte("all of it"))
	for size := 1; size < 50; size += 7 {
		c := trailed{content: sha256.New()}
		for piece := range slices.Chunk(slices.Concat([]byte("all of it"), sum[:]), size) {
			_, _ = c.Write(piece)
		}
		if !bytes.Equal(c.end, sum[:]) || !bytes.Equal(c.content.Sum(nil), sum[:]) {
			t.Errorf("in pieces of %d: %x, %x", size, c.end, c.content.Sum(nil))
		}
	}
	path := filepath.Join(t.TempDir(), "a.db")
	if err := os.WriteFile(path, slices.Concat(oneBolt(t), make([]byte, sha256.Size)), 0o600); err != nil {
		t.Fatal(err)
	}
	c := trailed{content: sha256.New(), end: make([]byte, sha256.Size)}
	if _, err := c.named(path, 1); !problem.HasCode(err, CodeDamagedHash) {
		t.Errorf("another hash: %v", err)
	}
}

func oneBolt(t *testing.T) []byte {
	path := filepath.Join(t.TempDir(), "bolt")
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func link(t *testing.T, to string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "link.db")
	if err := os.Symlink(to, path); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestSaveWhenNoEtcdAnswers(t *testing.T) {
	dir := t.TempDir()
	_, err := Save(context.Background(), SaveRequest{Etcd: Etcd{Endpoints: []string{deadEndpoint(t)}}, Path: dir})
	if err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("error %v", err)
	}
	isEmpty(t, dir)
}
