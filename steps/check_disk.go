package steps

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"time"

	"etcd-rewind/defect"
)

// Every intent and every result is on the disk before the run continues: with a
// disk that takes its time, the journal is what the outage is made of.
const (
	// outageWrites is how many records a single node's restore writes while the
	// API is down; TestTheJournalsDiskIsMeasured counts them.
	outageWrites = 40
	slowSync     = 300 * time.Millisecond // of one record, in the median: 12 s in all
	syncLimit    = 10 * time.Second
)

// journalDisk measures how long a record takes to be on the disk, in a file
// without a name: nothing is left, also after a crash.
func (k *checks) journalDisk() Verdict {
	dir := k.f.StateDir
	if _, err := os.Stat(dir); err != nil {
		dir = filepath.Dir(dir)
	}
	ctx, cancel := context.WithTimeout(k.ctx, syncLimit)
	defer cancel()
	each, err := measure(ctx, func() (time.Duration, error) { return syncOnce(dir) })
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		each = syncLimit
	case err != nil:
		return ok("not measured: %s", err)
	}
	return judgeSync(each, dir)
}

func judgeSync(each time.Duration, dir string) Verdict {
	if each < slowSync {
		return ok("%s for a record in %s", each.Round(time.Millisecond/10), dir)
	}
	return warn("find out what else writes to that disk, or name another directory with --state-dir (on the file system of the manifests)",
		"a record of the journal takes %s to be synced to the disk of %s: the API would be down about %s longer",
		each.Round(time.Millisecond), dir, (outageWrites * each).Round(time.Second))
}

// measure is the median of three, or the error of ctx: a disk that hangs is not
// waited for.
func measure(ctx context.Context, once func() (time.Duration, error)) (time.Duration, error) {
	type result struct {
		took time.Duration
		err  error
	}
	got := make(chan result, 3)
	go defect.Do(func() {
		for range cap(got) {
			took, err := once()
			got <- result{took, err}
		}
	})()
	var all []time.Duration
	for range cap(got) {
		select {
		case r := <-got:
			if r.err != nil {
				return 0, r.err
			}
			all = append(all, r.took)
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	slices.Sort(all)
	return all[len(all)/2], nil
}

func syncOnce(dir string) (time.Duration, error) {
	f, err := nameless(dir)
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.Close() }()
	begun := time.Now()
	if _, err := f.Write(bytes.Repeat([]byte("x"), perAction/4)); err != nil {
		return 0, err
	}
	err = f.Sync()
	return time.Since(begun), err
}
