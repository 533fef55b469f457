package backup

import (
	"context"
	"fmt"
	"io"
	"path"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"etcd-rewind/problem"
)

// slow is a store at the end of a slow line, in fake time.
type slow struct {
	Store
	key    Key
	rounds int // the newest is noon's
	others int // pages of a thousand other names, before

	page, record time.Duration // that each takes
	stalls       func(what string, n int) bool

	mu   sync.Mutex
	read []string // records
}

func (s *slow) round(i int) time.Time { return noon.Add(-time.Duration(i) * time.Hour) }

// atNoon is a test in fake time.
func atNoon(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(noon)) // it begins in 2000
		test(t)
	})
}

func (s *slow) wait(ctx context.Context, what string, n int, d time.Duration) error {
	if s.stalls != nil && s.stalls(what, n) {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s *slow) each(ctx context.Context, _ string, f func(Object) error) error {
	for n := range s.others {
		if err := s.wait(ctx, "page", n, s.page); err != nil {
			return err
		}
		for i := range 1000 {
			if err := f(Object{Name: fmt.Sprintf("logs/%d", i)}); err != nil {
				return err
			}
		}
	}
	for i := range s.rounds {
		r := aRecord(s.round(s.rounds-1-i), "cp1") // as stores list them: the oldest first
		for name, size := range map[string]int64{r.Name(): 1000, r.SnapshotName(): r.File.Size, r.SecretsName(): r.Secrets.Size} {
			if err := f(Object{Name: name, Size: size}); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *slow) Get(ctx context.Context, name string) (io.ReadCloser, error) {
	s.mu.Lock()
	s.read = append(s.read, name)
	n := len(s.read)
	s.mu.Unlock()
	if err := s.wait(ctx, "record", n, s.record); err != nil {
		return nil, err
	}
	at, err := ParseRound(path.Base(path.Dir(name)))
	if err != nil {
		return nil, err
	}
	data, err := aRecord(at.Time, "cp1").Seal(s.key)
	return io.NopCloser(strings.NewReader(string(data))), err
}

// looked is what a look at one place gives, and how long it takes.
func looked(t *testing.T, s *slow) (l *Listing, took time.Duration, told []Progress, err error) {
	t.Helper()
	began := time.Now()
	p := Places{Stores: []Store{s}, Key: s.key, Progress: func(_ Store, at Progress) { told = append(told, at) }}
	p.Look(t.Context(), func(_ Store, got *Listing, gotErr error) { l, err, took = got, gotErr, time.Since(began) })
	return l, took, told, err
}

// A slow line, with very many names and records, takes its time, and the newest
// backup is found: the newest records are read first, and no more than are shown.
func TestASlowPlaceIsWaitedFor(t *testing.T) {
	atNoon(t, func(t *testing.T) {
		s := &slow{Store: &Directory{Path: "/srv"}, key: NewKey(), rounds: 3000, others: 50, page: 3 * time.Second, record: 5 * time.Second}
		l, took, told, err := looked(t, s)
		if err != nil || took < 3*time.Minute || len(l.Entries) < lookEnough || len(l.Entries) > lookEnough+recordsAPage || l.Unread != s.rounds-len(l.Entries) {
			t.Fatalf("%v after %s: %d entries, %d not read", err, took, len(l.Entries), l.Unread)
		}
		for i, e := range l.Entries {
			if e.Err != nil || e.Round != RoundAt(s.round(i)) {
				t.Fatalf("%d: %s %v", i, e.Name, e.Err)
			}
		}
		if len(s.read) != len(l.Entries) {
			t.Errorf("%d records were read", len(s.read))
		}
		if n := len(told); n < 50 || told[0] != (Progress{Names: 1000}) || told[n-1] != (Progress{Records: len(l.Entries), Total: s.rounds}) {
			t.Errorf("told %+v", told)
		}
		p := Places{Stores: []Store{s}, Key: s.key}
		if src, unread, err := p.Latest(t.Context()); err != nil || len(unread) > 0 || !strings.HasSuffix(src.Name, aRecord(noon, "cp1").SnapshotName()) {
			t.Errorf("%s %v %v", src.Name, unread, err)
		}
	})
}

// One that says nothing any more is given up after 40 seconds, and what it listed of
// the newest before isn't lost.
func TestAPlaceThatSaysNothingMoreIsGivenUp(t *testing.T) {
	for name, c := range map[string]struct {
		stalls  func(what string, n int) bool
		after   time.Duration // when it lists the last
		entries int
	}{
		"at once":                      {func(what string, n int) bool { return what == "page" }, 0, 0},
		"in its listing":               {func(what string, n int) bool { return what == "page" && n == 20 }, time.Minute, 0},
		"in the middle of its records": {func(what string, n int) bool { return what == "record" && n > recordsAPage }, 90*time.Second + recordsAPage/recordsAtOnce*5*time.Second, recordsAPage},
	} {
		t.Run(name, func(t *testing.T) {
			atNoon(t, func(t *testing.T) {
				s := &slow{Store: &Directory{Path: "/srv"}, key: NewKey(), rounds: 500, others: 30, page: 3 * time.Second, record: 5 * time.Second, stalls: c.stalls}
				l, took, _, err := looked(t, s)
				limit := lookIdle
				if c.entries > 0 {
					limit = recordLimit // one record has less
				}
				if p := problem.Of(err); p == nil || p.Hint == "" || !strings.Contains(p.Cause, s.Location()) || !strings.Contains(p.Cause, limit.String()) || took != c.after+limit {
					t.Errorf("%v after %s", err, took)
				}
				got := 0
				if l != nil {
					got = len(l.Entries)
				}
				if got != c.entries {
					t.Fatalf("%d entries", got)
				}
				for known, p := range map[bool]*Places{
					true:  {Stores: []Store{s}, Key: s.key, Cluster: ClusterID{KubeSystemUID: clusterA}},
					false: {Stores: []Store{s}, Key: s.key}, // others' may be among the rest
				} {
					s.read = nil
					src, unread, err := p.Latest(t.Context())
					found := err == nil && len(unread) == 1 && strings.HasSuffix(src.Name, aRecord(noon, "cp1").SnapshotName())
					if found != (known && c.entries > 0) {
						t.Errorf("known %v: %s %v %v", known, src.Name, unread, err)
					}
				}
			})
		})
	}
}

// One that goes on for ever is given up, however lively it is.
func TestAPlaceThatListsForEverIsGivenUp(t *testing.T) {
	atNoon(t, func(t *testing.T) {
		s := &slow{Store: &Directory{Path: "/srv"}, key: NewKey(), others: 1 << 30, page: 30 * time.Second}
		if _, took, _, err := looked(t, s); problem.Of(err) == nil || !strings.Contains(err.Error(), "longer than 10m") || took != listLimit {
			t.Errorf("%v after %s", err, took)
		}
		s = &slow{Store: &Directory{Path: "/srv"}, key: NewKey(), rounds: maxRecords, record: 29 * time.Second}
		p := Places{Stores: []Store{s}, Key: NewKey()} // by which none is good
		began := time.Now()
		p.Look(t.Context(), func(_ Store, _ *Listing, err error) {
			if problem.Of(err) == nil || !strings.Contains(err.Error(), "longer than 15m") || time.Since(began) != lookLimit {
				t.Errorf("%v after %s", err, time.Since(began))
			}
		})
	})
}
