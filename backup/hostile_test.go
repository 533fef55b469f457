package backup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"testing"
	"time"

	"etcd-rewind/problem"
	"etcd-rewind/snapshot"
)

// mislisting is a store that lists something else than it has.
type mislisting struct {
	Store
	hides func(name string) bool
	also  []Object
}

func (l *mislisting) each(ctx context.Context, prefix string, f func(Object) error) error {
	for _, o := range l.also {
		if err := f(o); err != nil {
			return err
		}
	}
	return Each(ctx, l.Store, prefix, func(o Object) error {
		if l.hides != nil && l.hides(o.Name) {
			return nil
		}
		return f(o)
	})
}

// Whatever a listing says: a good backup that is to be kept stays, and so does one
// of which nobody knows better than by that listing.
func TestAListingThatLiesCostsNoGoodBackup(t *testing.T) {
	round := func(hour int) string { return RoundAt(noon.Add(time.Duration(hour) * time.Hour)).String() }
	for name, c := range map[string]struct {
		lie  func(t *testing.T, l *mislisting)
		left string // rounds that have their file still, by the hour
		says string
	}{
		"the truth": {func(*testing.T, *mislisting) {}, "4 3", ""},
		"it leaves out the files of older ones": {func(_ *testing.T, l *mislisting) {
			l.hides = func(name string) bool {
				return strings.HasSuffix(name, snapshotSuffix) && path.Base(path.Dir(name)) < round(3)
			}
		}, "4 3 2 1 0", "doesn't list"},
		"it leaves out the file of one that is kept": {func(_ *testing.T, l *mislisting) {
			l.hides = func(name string) bool {
				return strings.HasSuffix(name, snapshotSuffix) && strings.Contains(name, round(3))
			}
		}, "4 3 2", "doesn't list"},
		"it still lists what was lost": {func(t *testing.T, l *mislisting) {
			for _, hour := range []int{4, 3} {
				lost := clusterA + "/" + round(hour) + "/cp1" + snapshotSuffix
				if err := l.Delete(t.Context(), lost); err != nil {
					t.Fatal(err)
				}
				l.also = append(l.also, Object{Name: lost, Size: 10})
			}
		}, "2 1 0", "which isn't there"},
		"it lists another size than there is": {func(t *testing.T, l *mislisting) {
			cut := clusterA + "/" + round(4) + "/cp1" + snapshotSuffix
			replace(t, l.Store, cut, "cut")
			l.also = append(l.also, Object{Name: cut, Size: 10})
			l.hides = func(name string) bool { return name == cut }
		}, "4 3 2 1 0", "not the 10 that were stored"},
		"it lists everything twice": {func(t *testing.T, l *mislisting) {
			all, err := l.List(t.Context(), "")
			if err != nil {
				t.Fatal(err)
			}
			l.also = all
		}, "4 3", ""},
		"it lists names that are none": {func(_ *testing.T, l *mislisting) {
			for _, name := range []string{
				clusterA + "/" + round(9) + "/cp1\n.json", clusterA + "/../" + clusterB + "/cp1.json", "/etc/shadow.json", clusterA + "/" + round(9) + "/\x1b[2J.json",
				clusterA + "/" + round(9) + "/a/b.json", clusterA + "/" + strings.Repeat("9", 16) + "/cp1.json", clusterA + "//cp1.json", clusterA, "", "\xff/\xff/\xff.json",
			} {
				l.also = append(l.also, Object{Name: name, Size: -1})
			}
		}, "4 3", ""},
	} {
		t.Run(name, func(t *testing.T) {
			s, k := &mislisting{Store: &Directory{Path: t.TempDir()}}, NewKey()
			for hour := range 5 {
				put(t, s.Store, aRecord(noon.Add(time.Duration(hour)*time.Hour), "cp1"), k)
			}
			c.lie(t, s)
			p := listed(t, s, k).Prune(t.Context(), Policy{Last: 2}, noon.Add(5*time.Hour), nil, false, time.Minute)
			if c.says == "" && p.Failed != nil || c.says != "" && (p.Failed == nil || !strings.Contains(p.Failed.Cause, c.says) || p.Failed.Hint == "") {
				t.Errorf("%+v, want %q", p.Failed, c.says)
			}
			var left []string
			for hour := 4; hour >= 0; hour-- {
				if _, err := s.Stat(t.Context(), clusterA+"/"+round(hour)+"/cp1"+snapshotSuffix); err == nil {
					left = append(left, fmt.Sprint(hour))
				} else if !errors.Is(err, fs.ErrNotExist) {
					t.Fatal(err)
				}
			}
			if got := strings.Join(left, " "); got != c.left {
				t.Errorf("left are those of %s, want %s", got, c.left)
			}
		})
	}
}

// Without the key nobody knows who wrote a record: then it is at least well-formed,
// and what is shown of it is text.
func TestARecordOfAStrangerDoesNoHarm(t *testing.T) {
	good, err := json.Marshal(aRecord(noon, "cp1"))
	if err != nil {
		t.Fatal(err)
	}
	of := func(old, new string) string {
		if !strings.Contains(string(good), old) {
			t.Fatalf("no %s in a record", old)
		}
		return `{"record":` + strings.Replace(string(good), old, new, 1) + `}`
	}
	deep := strings.Repeat("[", 100_000)
	for name, c := range map[string]struct {
		record string
		good   bool
	}{
		"as it was":                   {`{"record":` + string(good) + `}`, true},
		"deeply nested":               {deep, false},
		"deeply nested inside":        {of(`"format":1`, `"x":`+deep+strings.Repeat("]", 100_000)+`,"format":1`), false},
		"the same key twice":          {of(`"format":1`, `"format":1,"format":9`), false},
		"in capitals, too":            {of(`"node":"cp1"`, `"node":"cp1","NODE":"../.."`), false},
		"a record twice":              {`{"record":` + string(good) + `,"record":{"format":1}}`, false},
		"control characters to show":  {of(`"tool":"v0.1.0"`, `"tool":"\u001b[2J\u0007v0\n1"`), true},
		"a node with a newline":       {of(`"node":"cp1"`, `"node":"cp1\n"`), false},
		"a file elsewhere":            {of(`"name":"cp1.db.zst.age"`, `"name":"../cp2/cp2.db.zst.age"`), false},
		"another round":               {of(`"round":"2026-02-28T12:00:00Z"`, `"round":"2026-02-28T13:00:00Z"`), false},
		"a round in another zone":     {of(`"round":"2026-02-28T12:00:00Z"`, `"round":"2026-02-28T13:00:00+01:00"`), true},
		"a round between two seconds": {of(`"round":"2026-02-28T12:00:00Z"`, `"round":"2026-02-28T12:00:00.9Z"`), true},
		"of another cluster":          {of(clusterA, clusterB), false},
		"a number too large":          {of(`"revision":4711`, `"revision":1e999`), false},
		"more than there is":          {of(`"size":10`, `"size":9223372036854775807`), true},
		"no text":                     {"\xff\xfe{", false},
	} {
		t.Run(name, func(t *testing.T) {
			s := &Directory{Path: t.TempDir()}
			r := aRecord(noon, "cp1")
			put(t, s, r, NewKey())
			replace(t, s, r.Name(), c.record)
			l, err := Records(t.Context(), s, nil, clusterA)
			if err != nil || len(l.Entries) != 1 {
				t.Fatal(l, err)
			}
			e := l.Entries[0]
			if (e.Record != nil) != c.good {
				t.Errorf("%+v %v", e.Record, e.Err)
			}
			if e.Record != nil && (strings.ContainsAny(e.Record.Tool, "\x1b\x07\n") || e.Record.SnapshotName() != r.SnapshotName()) {
				t.Errorf("%q %q", e.Record.Tool, e.Record.SnapshotName())
			}
		})
	}
}

// large is a store with records that are as long as records may be.
type large struct {
	Store
	n    int
	data []byte
}

func (s *large) each(_ context.Context, _ string, f func(Object) error) error {
	for i := range s.n {
		if err := f(Object{Name: clusterA + "/" + RoundAt(noon).String() + fmt.Sprintf("/n%d.json", i), Size: int64(len(s.data))}); err != nil {
			return err
		}
	}
	return nil
}

func (s *large) Get(_ context.Context, name string) (io.ReadCloser, error) {
	node := strings.TrimSuffix(path.Base(name), recordSuffix)
	return io.NopCloser(strings.NewReader(strings.ReplaceAll(string(s.data), "NODE", node))), nil
}

// Records that are each in bounds have a bound together.
func TestRecordsTogetherHaveABound(t *testing.T) {
	r := aRecord(noon, "NODE")
	for range 1000 {
		r.Secrets.Content = append(r.Secrets.Content[:min(len(r.Secrets.Content), 999)], strings.Repeat("a", 150))
	}
	data, err := r.Seal(NewKey())
	if err != nil {
		t.Fatal(err)
	}
	was := maxRecordBytes
	maxRecordBytes = 2 << 20
	defer func() { maxRecordBytes = was }()
	fit := int(maxRecordBytes) / len(data)
	l, err := Records(t.Context(), &large{Store: &Directory{Path: "/srv"}, n: fit + 20, data: data}, nil, clusterA)
	if err != nil {
		t.Fatal(err)
	}
	read := 0
	for _, e := range l.Entries {
		if e.Record != nil {
			read++
		}
	}
	if len(l.Entries) != fit+20 || read > fit+1 || read < fit-1 {
		t.Errorf("%d of %d were read; %d fit", read, len(l.Entries), fit)
	}
}

// A store that sends a record byte by byte is given up like one that sends nothing.
func TestAStoreThatDripsIsGivenUp(t *testing.T) {
	s := &dripping{Store: &Directory{Path: "/srv"}}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := (&Entry{Store: s, Name: clusterA}).read(ctx, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v after %d bytes", err, s.n)
	}
}

type dripping struct {
	Store
	n int
}

func (s *dripping) Get(ctx context.Context, _ string) (io.ReadCloser, error) {
	return io.NopCloser(readFunc(func(p []byte) (int, error) {
		select {
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		case <-time.After(time.Millisecond):
			s.n++
			p[0] = ' '
			return 1, nil
		}
	})), nil
}

// The newest is the newest that can be: a clock that was wrong for an hour doesn't
// hide all that come after.
func TestALatestBackupOfTheFutureIsLeftOut(t *testing.T) {
	k, s := NewKey(), &Directory{Path: t.TempDir()}
	put(t, s, aRecord(noon, "cp1"), k)
	put(t, s, aRecord(noon.AddDate(200, 0, 0), "cp1"), k)
	p := Places{Stores: []Store{s}, Key: k}
	src, unread, err := p.Latest(t.Context())
	if err != nil || !strings.HasSuffix(src.Name, aRecord(noon, "cp1").SnapshotName()) || len(unread) != 1 || !strings.Contains(unread[0].Error(), "in the future") {
		t.Errorf("%s %v %v", src.Name, unread, err)
	}
	// When all are in the future it is this machine's clock that is wrong.
	if err := s.Delete(t.Context(), aRecord(noon, "cp1").Name()); err != nil {
		t.Fatal(err)
	}
	put(t, s, aRecord(noon.AddDate(201, 0, 0), "cp1"), k)
	if src, unread, err = p.Latest(t.Context()); err != nil || len(unread) != 0 || !strings.Contains(src.Name, "/2227") {
		t.Errorf("%s %v %v", src.Name, unread, err)
	}
}

// Two clusters in one location never mix: the one that this machine knows is
// taken, and where it knows none, all are named, and each can be asked for.
func TestTheClustersOfALocationAreKeptApart(t *testing.T) {
	k, s := NewKey(), &Directory{Path: t.TempDir()}
	a, b := aRecord(noon, "cp1"), aRecord(noon.Add(time.Hour), "node7")
	b.Cluster.KubeSystemUID = clusterB // with the same CA: it was made again with it
	put(t, s, a, k)
	put(t, s, b, k)
	bare := Places{Stores: []Store{s}, Cluster: ClusterID{CASHA256: a.Cluster.CASHA256}}
	_, _, err := bare.Latest(t.Context())
	p := problem.Of(err)
	if p == nil {
		t.Fatal(err)
	}
	for _, want := range []string{"2 clusters", clusterA + " (newest 2026-02-28 12:00 UTC, taken by cp1)", clusterB + " (newest 2026-02-28 13:00 UTC, taken by node7)"} {
		if !strings.Contains(p.Cause, want) {
			t.Errorf("%s: no %s", p.Cause, want)
		}
	}
	if want := s.Location() + "/" + clusterB + "/latest"; !strings.Contains(p.Hint, want) {
		t.Errorf("%s: no %s", p.Hint, want)
	}
	for id, want := range map[string]string{clusterA: a.SnapshotName(), clusterB: b.SnapshotName()} {
		if src, err := Source(t.Context(), s.Location()+"/"+id+"/latest", k, ClusterID{}); err != nil || !strings.HasSuffix(src.Name, want) {
			t.Errorf("%s: %s %v", id, src.Name, err)
		}
		bare.Last = id
		if src, _, err := bare.Latest(t.Context()); err != nil || !strings.HasSuffix(src.Name, want) {
			t.Errorf("last was %s: %s %v", id, src.Name, err)
		}
	}
	if _, err := Source(t.Context(), s.Location()+"/33333333-2222-3333-4444-555555555555/latest", k, ClusterID{}); err == nil {
		t.Error("a cluster that isn't there has a backup")
	} else if p := problem.Of(err); p == nil || p.Code != snapshot.CodeMissing && !strings.Contains(p.Cause, "no such directory") {
		t.Error(err)
	}

	// Pruning sees one cluster alone, whatever the key says.
	c := aRecord(noon.Add(2*time.Hour), "node7")
	c.Cluster.KubeSystemUID = clusterB
	put(t, s, c, k)
	if p := listed(t, s, k).Prune(t.Context(), Policy{Last: 1}, noon.Add(3*time.Hour), nil, false, time.Minute); len(p.Removed) != 0 || p.Kept != 1 {
		t.Errorf("%+v", p)
	}
}

// Claims of nodes that went down are removed once a later backup is there and a
// day has gone by; what isn't a claim made with the key stays.
func TestStaleClaimsArePruned(t *testing.T) {
	k, s := NewKey(), &aged{Directory: &Directory{Path: t.TempDir()}}
	claimed := func(at time.Time, k Key) string {
		r := RoundAt(at)
		if ok, err := (&standing{}).take(t.Context(), s, k, claim{Cluster: clusterA, Round: r, Node: "cp9", Time: at}); !ok || err != nil {
			t.Fatal(ok, err)
		}
		return claimName(clusterA, r, 1)
	}
	stale := claimed(noon.Add(-48*time.Hour), k)
	forged := claimed(noon.Add(-49*time.Hour), NewKey())
	recent := claimed(noon.Add(-time.Hour), k)
	running := claimed(noon.Add(24*time.Hour), k)
	put(t, s, aRecord(noon, "cp1"), k)
	listed(t, s, k).pruneClaims(t.Context(), k, noon.Add(time.Hour))
	after := names(t, s, "")
	for name, want := range map[string]bool{stale: false, forged: true, recent: true, running: true} {
		if strings.Contains(after, name) != want {
			t.Errorf("%s: kept %v", name, !want)
		}
	}
	// A backup does it by itself, after it went well.
	w := aTaking(t, "cp1", k, s)
	w.Config.Keep = Policy{Last: 5}
	w.now = func() time.Time { return noon.Add(72 * time.Hour) }
	if res := take(t, w); !res.OK {
		t.Fatal(res.Error)
	}
	if after := names(t, s, ""); strings.Contains(after, recent) || strings.Contains(after, running) || !strings.Contains(after, forged) {
		t.Error(after)
	}
}

// aged is a store whose objects all have the time of their rounds.
type aged struct{ *Directory }

func (a *aged) each(ctx context.Context, prefix string, f func(Object) error) error {
	return a.Directory.each(ctx, prefix, func(o Object) error {
		r, err := ParseRound(path.Base(path.Dir(o.Name)))
		o.Time = r.Time
		return errors.Join(err, f(o))
	})
}

// Who can write to the store can't end the backups by using up the claims.
func TestClaimsThatAreUsedUpStopNoBackup(t *testing.T) {
	s := &Directory{Path: t.TempDir()}
	w := aTaking(t, "cp1", NewKey(), s)
	w.Scheduled = true
	last := claimName(clusterA, RoundAt(noon), maxClaims)
	store(t, s, last, "{}")
	if res := take(t, w); !res.OK || res.Locations[0].By != "cp1" {
		t.Errorf("%+v", res)
	}
	if !strings.Contains(names(t, s, ""), last) {
		t.Error("somebody else's file was removed")
	}
}
