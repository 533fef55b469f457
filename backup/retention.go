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

// doomed are the backups of a listing that aren't kept, the oldest first, and how
// many rounds are. Only what has a record that can be believed is one of them.
func (l *Listing) doomed(p Policy, now time.Time) (doomed []Entry, kept int) {
	var good []dated // one for each round; entries are sorted by that
	for _, e := range l.Entries {
		switch n := len(good); {
		case e.Err != nil:
		case n > 0 && good[n-1].Round == e.Round:
			if e.Record.Taken.After(good[n-1].taken) {
				good[n-1].taken = e.Record.Taken
			}
		default:
			good = append(good, dated{e.Round, e.Record.Taken})
		}
	}
	keep := p.kept(good, now)
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
	return doomed, len(keep)
}

// Prune removes what a policy doesn't keep from one store, the oldest first. What
// was removed is in the answer also when not all of it could be. tried are rounds
// that were locked when they were last tried. With dry nothing is removed.
func (l *Listing) Prune(ctx context.Context, p Policy, now time.Time, tried map[Round]bool, dry bool, idle time.Duration) *Pruned {
	out := &Pruned{Location: l.Store.Location(), Removed: []Round{}}
	doomed, kept := l.doomed(p, now)
	out.Kept = kept
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

// remove deletes a backup, its record last: what is left of one whose removal
// was interrupted is recognised by it.
func (e *Entry) remove(ctx context.Context, idle time.Duration) error {
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
