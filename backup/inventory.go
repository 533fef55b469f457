package backup

import (
	"cmp"
	"context"
	"path"
	"slices"
	"strings"
	"time"

	"etcd-rewind/problem"
)

const (
	// A backup is three objects, and a round may have claims: more than maxRecords
	// have.
	maxObjects = 30_000
	// listLimit is for one listing, however lively: a million names of a store that
	// takes 100 ms for a page of a thousand are there in two minutes.
	listLimit = 10 * time.Minute
	// A round further ahead was named by a clock that was wrong, or by somebody else.
	farAhead = 24 * time.Hour
)

// inventory takes the objects that a store lists, of which there may be any
// number, in any order, and keeps those of the newest rounds: all of a round or
// none. What is far in the future counts as the oldest.
type inventory struct {
	late    string // a round after it is far in the future
	objects []ranked
	below   string // what doesn't rank higher was dropped
	dropped int    // records
}

type ranked struct {
	rank string // of its round, as a text that sorts like its time
	Object
}

func newInventory(now time.Time) *inventory {
	return &inventory{late: RoundAt(now.Add(farAhead)).String()}
}

// takeInventory has the objects below a prefix. What else a store names isn't asked for.
func takeInventory(ctx context.Context, s Store, prefix string, how reading) (*inventory, error) {
	endless := problem.New("give backups a prefix of their own, or check the store", "its listing took longer than %s", listLimit)
	ctx, cancel := context.WithTimeoutCause(ctx, listLimit, endless)
	defer cancel()
	v, n := newInventory(time.Now()), 0
	err := patient(ctx, recordsTimeout, func(ctx context.Context, alive func()) error {
		return Each(ctx, s, prefix, func(o Object) error {
			alive()
			if n++; n%namesAPage == 0 {
				how.tell(Progress{Names: n})
			}
			if strings.HasPrefix(o.Name, prefix) {
				v.add(o)
			}
			return nil
		})
	})
	if err != nil {
		return nil, err // and nothing of v: who hangs may still add to it
	}
	if len(v.objects) == 0 && v.dropped > 0 {
		return nil, problem.New("who can write there? Give backups a prefix of their own", "there are more than %d files in a single round", maxObjects)
	}
	return v, nil
}

// rank is "" for a name that doesn't lie as those of backups do,
// CLUSTER/ROUND/FILE.
func (v *inventory) rank(name string) string {
	cluster, rest, _ := strings.Cut(name, "/")
	round, file, _ := strings.Cut(rest, "/")
	if len(cluster) != len("xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx") || len(round) != len(roundFormat) || file == "" || strings.Contains(file, "/") {
		return ""
	}
	if round > v.late {
		return "-" + round // before any digit
	}
	return round
}

func (v *inventory) add(o Object) {
	one := ranked{v.rank(o.Name), o}
	switch {
	case one.rank == "":
		return
	case one.rank <= v.below:
		v.drop(one)
		return
	}
	if v.objects = append(v.objects, one); len(v.objects) == 2*maxObjects {
		v.cut()
	}
}

func (v *inventory) drop(o ranked) {
	if strings.HasSuffix(o.Name, recordSuffix) {
		v.dropped++
	}
}

func newestFirst(a, b ranked) int { return strings.Compare(b.rank, a.rank) }

// cut drops the oldest rounds.
func (v *inventory) cut() {
	slices.SortFunc(v.objects, newestFirst)
	v.below = v.objects[maxObjects].rank
	n := slices.IndexFunc(v.objects, func(o ranked) bool { return o.rank <= v.below })
	for _, o := range v.objects[n:] {
		v.drop(o)
	}
	clear(v.objects[n:])
	v.objects = v.objects[:n]
}

// records are those among the objects, as far as names show, the newest first,
// and how many more there are.
func (v *inventory) records(s Store) (entries []Entry, more int) {
	var all []ranked
	for _, o := range v.objects {
		if strings.HasSuffix(o.Name, recordSuffix) {
			all = append(all, o)
		}
	}
	slices.SortFunc(all, func(a, b ranked) int { return cmp.Or(newestFirst(a, b), strings.Compare(a.Name, b.Name)) })
	more = v.dropped
	for i, o := range all {
		if len(entries) == maxRecords {
			more += len(all) - i
			break
		}
		if round, node, ok := splitRecord(o.Name); ok {
			entries = append(entries, Entry{Store: s, Name: o.Name, Round: round, Node: node})
		}
	}
	slices.SortStableFunc(entries, func(a, b Entry) int { return b.Round.Compare(a.Round.Time) })
	return entries, more
}

// claims are those among the objects, as far as names show.
func (v *inventory) claims() (all []Object) {
	for _, o := range v.objects {
		if strings.HasPrefix(path.Base(o.Name), claimPrefix) {
			all = append(all, o.Object)
		}
	}
	return all
}

// sizes are those of the files that belong to records, in bytes, as far as names
// show.
func (v *inventory) sizes() map[string]int64 {
	all := map[string]int64{}
	for _, o := range v.objects {
		if !strings.HasSuffix(o.Name, recordSuffix) && !strings.HasPrefix(path.Base(o.Name), claimPrefix) {
			all[o.Name] = o.Size
		}
	}
	return all
}
