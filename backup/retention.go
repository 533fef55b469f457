package backup

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"slices"
	"time"

	"etcd-rewind/problem"
)

// What is kept is decided in rounds: several nodes that took a round have made
// one backup of the cluster. All times are UTC, so that no hour of a day is there
// twice, and none is missing. A round in the future was named by a clock that was
// wrong: it is neither counted nor removed.

// ahead is by how much clocks may differ.
const ahead = 5 * time.Minute

// Empty says that nothing is ever removed.
func (p Policy) Empty() bool { return p == Policy{} }

// dated is a round, and when the last of its backups was taken: a round of the
// schedule is taken a little later than it is called, and one that was asked for
// meanwhile doesn't make it older.
type dated struct {
	Round
	taken time.Time
}

// kept are those of the rounds that a policy keeps at a moment.
func (p Policy) kept(rounds []dated, now time.Time) map[Round]bool {
	keep := map[Round]bool{}
	var past []dated
	for _, r := range rounds {
		if r.taken.After(now.Add(ahead)) || p.Empty() {
			keep[r.Round] = true
			continue
		}
		past = append(past, r)
	}
	if len(past) == 0 {
		return keep
	}
	slices.SortFunc(past, func(a, b dated) int { return b.taken.Compare(a.taken) })
	keep[past[0].Round] = true // the newest, whatever the policy says
	for i, r := range past {
		// Counted from the newest: when backups fail for days, what is there stays.
		if i < p.Last || past[0].taken.Sub(r.taken) < time.Duration(p.Within) {
			keep[r.Round] = true
		}
	}
	slices.SortFunc(past, func(a, b dated) int { return b.Compare(a.Time) })
	for _, b := range []struct {
		n  int
		of func(time.Time) int
	}{
		{p.Hourly, func(t time.Time) int { return int(t.Unix() / 3600) }},
		{p.Daily, func(t time.Time) int { return int(t.Unix() / (24 * 3600)) }},
		{p.Weekly, func(t time.Time) int { y, w := t.UTC().ISOWeek(); return y*100 + w }},
		{p.Monthly, func(t time.Time) int { y, m, _ := t.UTC().Date(); return y*100 + int(m) }},
	} {
		last := -1 << 62
		for _, r := range past {
			if b.n == 0 {
				break
			}
			// The newest of an hour, a day, a week or a month stands for it.
			if in := b.of(r.Round.Time); in != last {
				keep[r.Round], last = true, in
				b.n--
			}
		}
	}
	return keep
}

// Pruned is what was removed from one store, or would be.
type Pruned struct {
	Location string  `json:"location"`
	Kept     int     `json:"kept"` // rounds
	Removed  []Round `json:"removed"`
	// Locked are rounds that the store doesn't let anybody delete yet: they are
	// tried again when a day has gone by.
	Locked []Round `json:"locked,omitempty"`
	Bytes  int64   `json:"bytes"` // of what was removed
	// Failed is why not all of it was.
	Failed *problem.Problem `json:"error,omitempty"`
}

// doomed are the backups of a listing that aren't kept, the oldest first, and those
// that are, one for each round. Only what has a record that can be believed is one
// of them.
func (l *Listing) doomed(p Policy, now time.Time) (doomed, kept []Entry) {
	var good []dated // one for each round; entries are sorted by that
	var standing []Entry
	for _, e := range l.Entries {
		switch n := len(good); {
		case e.Err != nil:
		case n > 0 && good[n-1].Round == e.Round:
			if e.Record.Taken.After(good[n-1].taken) {
				good[n-1].taken = e.Record.Taken
			}
		default:
			good = append(good, dated{e.Round, e.Record.Taken})
			standing = append(standing, e)
		}
	}
	keep := p.kept(good, now)
	kept = slices.DeleteFunc(standing, func(e Entry) bool { return !keep[e.Round] })
	newest := slices.IndexFunc(good, func(r dated) bool { return !r.taken.After(now.Add(ahead)) })
	for _, e := range slices.Backward(l.Entries) {
		switch {
		case e.Record == nil || p.Empty():
		case e.Err == nil && !keep[e.Round]:
			doomed = append(doomed, e)
		case e.Gone && newest >= 0 && e.Round.Before(good[newest].Round.Time):
			// The rest of one whose removal was interrupted.
			doomed = append(doomed, e)
		}
	}
	return doomed, kept
}

// Prune removes what a policy doesn't keep from one store, the oldest first. What
// was removed is in the answer also when not all of it could be. tried are rounds
// that were locked when they were last tried. With dry nothing is removed.
//
// A listing may be older than what is there, or leave something out. So nothing is
// removed before each round that is kept was asked for by its name.
func (l *Listing) Prune(ctx context.Context, p Policy, now time.Time, tried map[Round]bool, dry bool, idle time.Duration) *Pruned {
	out := &Pruned{Location: l.Store.Location(), Removed: []Round{}}
	doomed, kept := l.doomed(p, now)
	out.Kept = len(kept)
	if !dry && len(doomed) > 0 {
		if err := stand(ctx, kept, idle); err != nil {
			out.Failed = problem.From(err).About(out.Location)
			return out
		}
	}
	add := func(to *[]Round, r Round) {
		if !slices.Contains(*to, r) {
			*to = append(*to, r)
		}
	}
	for _, e := range doomed {
		if tried[e.Round] {
			add(&out.Locked, e.Round)
			continue
		}
		if !dry {
			switch err := e.remove(ctx, idle); {
			case errors.Is(err, ErrLocked):
				add(&out.Locked, e.Round)
				continue
			case err != nil:
				out.Failed = cmp.Or(out.Failed, problem.From(err).About(out.Location))
				if ctx.Err() != nil {
					return out
				}
				continue
			}
		}
		add(&out.Removed, e.Round)
		if !e.Gone {
			out.Bytes += e.Record.File.Size
			if e.Record.Secrets != nil {
				out.Bytes += e.Record.Secrets.Size
			}
		}
	}
	return out
}

// stand is an error when one of the entries isn't there as it was listed.
func stand(ctx context.Context, entries []Entry, idle time.Duration) error {
	return patient(ctx, idle, func(ctx context.Context, alive func()) error {
		return among(ctx, entries, func(ctx context.Context, e *Entry) error {
			defer alive()
			o, err := e.Store.Stat(ctx, e.Record.SnapshotName())
			switch {
			case errors.Is(err, fs.ErrNotExist):
				return problem.New(unreliable, "it lists %s, which isn't there: nothing is removed", e.Record.SnapshotName())
			case err == nil && o.Size != e.Record.File.Size:
				return problem.New(unreliable, "%s has %d bytes there, not the %d that were stored: nothing is removed", e.Record.SnapshotName(), o.Size, e.Record.File.Size)
			}
			return err
		})
	})
}

const unreliable = "check the store, and whether somebody else deletes there"

// remove deletes a backup, its record last: what is left of one whose removal
// was interrupted is recognised by it.
func (e *Entry) remove(ctx context.Context, idle time.Duration) error {
	if e.Gone { // by the listing, which may be wrong
		err := patient(ctx, idle, func(ctx context.Context, _ func()) error {
			_, err := e.Store.Stat(ctx, e.Record.SnapshotName())
			return err
		})
		if err == nil {
			return problem.New(unreliable, "it doesn't list %s, which is there: it isn't removed", e.Record.SnapshotName())
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	for _, name := range []string{e.Record.SnapshotName(), e.Record.SecretsName(), e.Name} {
		if name == "" {
			continue
		}
		err := patient(ctx, idle, func(ctx context.Context, _ func()) error { return e.Store.Delete(ctx, name) })
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// A claim that is as old as this, and all backups after it, has led to nothing:
// its node was down.
const claimedFor = 24 * time.Hour

// pruneClaims removes claims that nodes have left which went down, some at a time.
// Only one that was made with the key is removed. What can't be removed stays: it
// is 300 bytes, and no harm.
func (l *Listing) pruneClaims(ctx context.Context, k Key, now time.Time) {
	const some = 100
	newest := slices.IndexFunc(l.Entries, func(e Entry) bool { return e.Err == nil && e.Record.Taken.Before(now.Add(ahead)) })
	if newest < 0 {
		return
	}
	tried := 0
	for _, o := range l.claims {
		cluster, round, n, ok := splitClaim(o.Name)
		switch {
		case !ok || now.Sub(o.Time) < claimedFor || now.Sub(round.Time) < claimedFor || !round.Before(l.Entries[newest].Round.Time):
			continue
		case tried == some:
			return
		}
		tried++
		c, err := readClaim(ctx, l.Store, k, o.Name)
		if err != nil {
			return
		}
		if c == nil || c.Cluster != cluster || c.Round != round || c.Number != n {
			continue
		}
		if err := patient(ctx, 10*time.Second, func(ctx context.Context, _ func()) error { return l.Store.Delete(ctx, o.Name) }); err != nil {
			return // locked, too: nobody tries all of them every time
		}
	}
}
