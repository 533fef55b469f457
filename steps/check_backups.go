package steps

import (
	"time"

	"etcd-rewind/problem"
)

// backups warns when the timer's backups don't come, or fail. A restore works
// without them; the next may not have anything to start from.
func (k *checks) backups() Verdict {
	const look = "etcd-rewind backup status"
	b, err := k.f.Backups, k.f.BackupsErr
	if err != nil {
		cause, hint := problem.Explain(err)
		return warn(hint, "%s", cause)
	}
	if b == nil {
		return none
	}
	for _, l := range b.Locations {
		since := l.Good
		if since.Before(b.Enabled) {
			since = b.Enabled // none was due before
		}
		if !TooOld(since, b.Every(), k.f.Time) {
			continue
		}
		if l.Good.IsZero() {
			return warn(look+" shows why", "there is no good backup in %s, but one is due every %s", l.Location, hours(b.Every()))
		}
		return warn(look+" shows why", "the last good backup in %s is from %s, but one is due every %s", l.Location, Ago(l.Good, k.f.Time), hours(b.Every()))
	}
	if p := k.f.BackupTimer; p != nil {
		return advise(p.Hint, "%s", p.Cause)
	}
	switch {
	case b.Last == nil && b.Every() > 0 && TooOld(b.Enabled, b.Every(), k.f.Time):
		return warn(look+" shows why", "the timer was started %s, and no backup was taken", Ago(b.Enabled, k.f.Time))
	case b.Last == nil:
		return ok("none was taken yet")
	case !b.Last.OK:
		cause := "unknown"
		if p := b.Last.Error; p != nil {
			cause = p.Cause
		}
		return warn(look+" shows more", "the last backup, %s, failed: %s", Ago(b.Last.Time, k.f.Time), cause)
	}
	if d := k.f.Drills.Latest; d != nil && !d.Proven {
		cause := "unknown"
		if d.Error != nil {
			cause = d.Error.Cause
		}
		return warn("etcd-rewind drill latest tries it again", "the last drill of the latest backup, %s, failed: %s", Ago(d.Time, k.f.Time), cause)
	}
	return ok("the last good one is from %s", Ago(b.Good(), k.f.Time))
}

// hours is a duration without zeros at its end.
func hours(d time.Duration) string {
	s := d.String()
	for _, zero := range []string{"m0s", "h0m"} {
		if n := len(s) - len(zero); n > 0 && s[n:] == zero {
			s = s[:n+1]
		}
	}
	return s
}
