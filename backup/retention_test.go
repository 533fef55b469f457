package backup

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// every makes rounds from a moment back, n of them, the newest first.
func every(d time.Duration, n int, from time.Time) (all []Round) {
	for i := range n {
		all = append(all, RoundAt(from.Add(-time.Duration(i)*d)))
	}
	return all
}

// onTime says that each was taken in the moment that it is called after.
func onTime(rounds []Round) (all []dated) {
	for _, r := range rounds {
		all = append(all, dated{r, r.Time})
	}
	return all
}

func day(s string) time.Time {
	t, err := time.Parse("2006-01-02 15:04", s)
	if err != nil {
		panic(err)
	}
	return t
}

func berlin(t *testing.T, s string) time.Time {
	t.Helper()
	zone, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	at, err := time.ParseInLocation("2006-01-02 15:04", s, zone)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func TestWhatIsKept(t *testing.T) {
	const h, d = time.Hour, 24 * time.Hour
	for _, c := range []struct {
		name   string
		p      Policy
		rounds []Round
		now    time.Time
		want   string // by their times
	}{
		{"nothing is removed without a policy", Policy{}, every(d, 3, day("2026-03-03 00:00")), day("2026-03-03 01:00"), "2026-03-03 00:00, 2026-03-02 00:00, 2026-03-01 00:00"},
		{"the last", Policy{Last: 2}, every(h, 5, day("2026-03-03 04:00")), day("2026-03-03 04:30"), "2026-03-03 04:00, 2026-03-03 03:00"},
		{"there are fewer than that", Policy{Last: 9}, every(h, 2, day("2026-03-03 04:00")), day("2026-03-03 04:30"), "2026-03-03 04:00, 2026-03-03 03:00"},
		{"one an hour, the newest of it", Policy{Hourly: 2}, every(20*time.Minute, 9, day("2026-03-03 04:40")), day("2026-03-03 05:00"), "2026-03-03 04:40, 2026-03-03 03:40"},
		{"one a day", Policy{Daily: 3}, every(6*h, 20, day("2026-03-03 18:00")), day("2026-03-03 20:00"), "2026-03-03 18:00, 2026-03-02 18:00, 2026-03-01 18:00"},
		{"one a week, which ends on Sunday", Policy{Weekly: 3}, every(d, 30, day("2026-03-04 00:00")), day("2026-03-04 01:00"), "2026-03-04 00:00, 2026-03-01 00:00, 2026-02-22 00:00"},
		{"a week that is in two years", Policy{Weekly: 2}, every(d, 14, day("2027-01-05 00:00")), day("2027-01-05 01:00"), "2027-01-05 00:00, 2027-01-03 00:00"},
		{"one a month, February with 28 days", Policy{Monthly: 3}, every(d, 70, day("2026-03-04 00:00")), day("2026-03-04 01:00"), "2026-03-04 00:00, 2026-02-28 00:00, 2026-01-31 00:00"},
		{"one a month, February with 29 days", Policy{Monthly: 3}, every(d, 70, day("2028-03-04 00:00")), day("2028-03-04 01:00"), "2028-03-04 00:00, 2028-02-29 00:00, 2028-01-31 00:00"},
		{"a leap day is a day", Policy{Daily: 3}, every(12*h, 9, day("2028-03-01 12:00")), day("2028-03-01 13:00"), "2028-03-01 12:00, 2028-02-29 12:00, 2028-02-28 12:00"},
		{"days without any don't count", Policy{Daily: 3}, []Round{RoundAt(day("2026-03-09 01:00")), RoundAt(day("2026-03-03 01:00")), RoundAt(day("2026-02-01 09:00")), RoundAt(day("2026-02-01 08:00"))}, day("2026-03-09 02:00"), "2026-03-09 01:00, 2026-03-03 01:00, 2026-02-01 09:00"},
		{"within, from the newest", Policy{Within: Duration(2 * h)}, every(h, 5, day("2026-03-03 04:00")), day("2026-03-03 04:30"), "2026-03-03 04:00, 2026-03-03 03:00"},
		{"backups have failed for a month", Policy{Within: Duration(2 * h), Daily: 2}, every(h, 50, day("2026-03-03 04:00")), day("2026-04-03 04:30"), "2026-03-03 04:00, 2026-03-03 03:00, 2026-03-02 23:00"},
		{"the newest, whatever the policy says", Policy{Within: Duration(time.Second)}, every(d, 3, day("2026-03-03 04:00")), day("2026-04-03 04:30"), "2026-03-03 04:00"},
		{"all wishes together", Policy{Last: 1, Hourly: 2, Daily: 2, Weekly: 1, Monthly: 2}, every(h, 24*40, day("2026-03-03 04:00")), day("2026-03-03 04:30"), "2026-03-03 04:00, 2026-03-03 03:00, 2026-03-02 23:00, 2026-02-28 23:00"},
		{"a round in the future isn't counted, and stays", Policy{Last: 2}, append([]Round{RoundAt(day("2036-01-01 00:00")), RoundAt(day("2026-03-03 06:00"))}, every(h, 4, day("2026-03-03 04:00"))...), day("2026-03-03 04:30"), "2036-01-01 00:00, 2026-03-03 06:00, 2026-03-03 04:00, 2026-03-03 03:00"},
		{"a clock that is a little ahead", Policy{Last: 1}, every(h, 3, day("2026-03-03 04:03")), day("2026-03-03 04:00"), "2026-03-03 04:03"},
		{"the clock was set back: all is in the future", Policy{Last: 1}, every(h, 3, day("2026-03-03 04:00")), day("2020-01-01 00:00"), "2026-03-03 04:00, 2026-03-03 03:00, 2026-03-03 02:00"},
		// At 03:00 the clocks of Berlin go to 02:00: four rounds in three hours on the wall.
		{"summer time ends", Policy{Hourly: 4}, every(30*time.Minute, 8, berlin(t, "2026-10-25 03:30")), berlin(t, "2026-10-25 04:00"), "2026-10-25 02:30, 2026-10-25 01:30, 2026-10-25 00:30, 2026-10-24 23:30"},
		// At 02:00 they go to 03:00: that hour isn't on the wall.
		{"summer time begins", Policy{Hourly: 3}, every(30*time.Minute, 8, berlin(t, "2026-03-29 04:30")), berlin(t, "2026-03-29 05:00"), "2026-03-29 02:30, 2026-03-29 01:30, 2026-03-29 00:30"},
		{"a day of 25 hours", Policy{Daily: 2}, every(time.Hour, 60, berlin(t, "2026-10-26 12:00")), berlin(t, "2026-10-26 12:30"), "2026-10-26 11:00, 2026-10-25 23:00"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			keep := c.p.kept(onTime(c.rounds), c.now)
			for _, r := range c.rounds {
				if keep[r] {
					got = append(got, r.UTC().Format("2006-01-02 15:04"))
				}
			}
			if diff := cmp.Diff(c.want, strings.Join(got, ", ")); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A year of hourly rounds, each pruned after: what is there in the end is what
// the policy says of all of them, and never less than a day's worth by the way.
func TestPruningAfterEachRoundKeepsWhatPruningOnceWould(t *testing.T) {
	p := Policy{Last: 5, Hourly: 24, Daily: 7, Weekly: 4, Monthly: 6, Within: Duration(48 * time.Hour)}
	start := day("2027-11-01 00:30")
	var all, have []Round
	for i := range 24 * 366 {
		now := start.Add(time.Duration(i) * time.Hour)
		all = slices.Insert(all, 0, RoundAt(now))
		have = slices.Insert(have, 0, RoundAt(now))
		keep := p.kept(onTime(have), now)
		have = slices.DeleteFunc(have, func(r Round) bool { return !keep[r] })
		if len(have) < min(i, 48) {
			t.Fatalf("at %s %d are left", now, len(have))
		}
	}
	keep := p.kept(onTime(all), all[0].Time)
	all = slices.DeleteFunc(all, func(r Round) bool { return !keep[r] })
	if diff := cmp.Diff(fmt.Sprint(all), fmt.Sprint(have)); diff != "" {
		t.Error(diff)
	}
}

// Two backups are asked for, and then the timer takes its turn, which is called
// after an earlier time.
func TestATurnThatIsTakenLateIsNotTheOldest(t *testing.T) {
	turn, asked, again := RoundAt(day("2026-03-03 08:00")), RoundAt(day("2026-03-03 08:03")), RoundAt(day("2026-03-03 08:04"))
	keep := Policy{Last: 2}.kept([]dated{{again, again.Time}, {asked, asked.Time}, {turn, day("2026-03-03 08:05")}}, day("2026-03-03 08:06"))
	if !keep[turn] || !keep[again] || keep[asked] {
		t.Error(keep)
	}
}

// guarded is a store that lets nobody delete some of its objects yet.
type guarded struct {
	Store
	locked  string
	deletes []string
}

func (g *guarded) Delete(ctx context.Context, name string) error {
	g.deletes = append(g.deletes, name)
	if g.locked != "" && strings.Contains(name, g.locked) {
		return fmt.Errorf("403: %w", ErrLocked)
	}
	return g.Store.Delete(ctx, name)
}

func listed(t *testing.T, s Store, k Key) *Listing {
	t.Helper()
	l, err := Records(t.Context(), s, k, clusterA)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// Whatever lies beside: what has no record of this cluster is nobody's to remove.
func TestPruningRemovesNothingElse(t *testing.T) {
	s, k := &Directory{Path: t.TempDir()}, NewKey()
	put(t, s, aRecord(noon, "cp1"), k)
	put(t, s, aRecord(noon.Add(-time.Hour), "cp1"), k)
	put(t, s, aRecord(noon.Add(-time.Hour), "cp2"), k) // the same round
	put(t, s, aRecord(noon.Add(-2*time.Hour), "cp1"), k)
	forged := aRecord(noon.Add(-3*time.Hour), "cp1")
	put(t, s, forged, NewKey())
	swapped := aRecord(noon.Add(-4*time.Hour), "cp1")
	put(t, s, swapped, k)
	replace(t, s, swapped.SnapshotName(), "another file")
	left := aRecord(noon.Add(-5*time.Hour), "cp1") // its removal was interrupted
	put(t, s, left, k)
	if err := s.Delete(t.Context(), left.SnapshotName()); err != nil {
		t.Fatal(err)
	}
	other := aRecord(noon.Add(-6*time.Hour), "cp1")
	other.Cluster.KubeSystemUID = clusterB
	put(t, s, other, k)
	store(t, s, clusterA+"/20200101T000000Z/cp1"+snapshotSuffix, "without a record")
	store(t, s, "etcd-snapshot.db", "somebody's")
	before := names(t, s, "")

	dry := listed(t, s, k).Prune(t.Context(), Policy{Last: 2}, noon, nil, true, time.Minute)
	if got := names(t, s, ""); got != before {
		t.Errorf("a dry run left %s", got)
	}
	got := listed(t, s, k).Prune(t.Context(), Policy{Last: 2}, noon, nil, false, time.Minute)
	if diff := cmp.Diff(dry, got); diff != "" {
		t.Error("said and done:", diff)
	}
	want := &Pruned{Location: s.Location(), Kept: 2, Removed: []Round{left.Round, RoundAt(noon.Add(-2 * time.Hour))}, Bytes: 15}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	after := names(t, s, "")
	for _, name := range strings.Fields(before) {
		gone := strings.Contains(name, "T100000Z") || strings.Contains(name, "T070000Z")
		if strings.Contains(after, name) == gone {
			t.Errorf("%s: removed %v", name, !gone)
		}
	}
}

func TestALockedBackupIsLeftInPeace(t *testing.T) {
	k := NewKey()
	s := &guarded{Store: &Directory{Path: t.TempDir()}, locked: "T110000Z"}
	for i := range 4 {
		put(t, s, aRecord(noon.Add(-time.Duration(i)*time.Hour), "cp1"), k)
	}
	got := listed(t, s, k).Prune(t.Context(), Policy{Last: 1}, noon, nil, false, time.Minute)
	if got.Failed != nil || len(got.Removed) != 2 || len(got.Locked) != 1 {
		t.Fatalf("%+v", got)
	}
	s.deletes = nil
	got = listed(t, s, k).Prune(t.Context(), Policy{Last: 1}, noon, map[Round]bool{got.Locked[0]: true}, false, time.Minute)
	if len(s.deletes) > 0 || len(got.Locked) != 1 || got.Failed != nil {
		t.Errorf("tried again: %v, %+v", s.deletes, got)
	}
}
