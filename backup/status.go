package backup

import (
	"context"
	"time"

	"etcd-rewind/defect"
	"etcd-rewind/problem"
	"etcd-rewind/steps"
)

// Stored is one backup, in all locations that have it, as backup list shows it.
type Stored struct {
	Round     Round            `json:"round"`
	Node      string           `json:"node"`
	Cluster   string           `json:"cluster,omitempty"`
	Locations []string         `json:"locations"`
	Record    *Record          `json:"record,omitempty"` // nil when it can't be believed
	Error     *problem.Problem `json:"error,omitempty"`  // of the first location where it isn't whole
}

// Found is what the locations have: their listings in the order of the locations,
// nil where one can't be read, as Errors says.
type Found struct {
	Listings []*Listing
	Errors   []*problem.Problem
}

// Find lists the backups in several stores at once.
func Find(ctx context.Context, stores []Store, k Key, cluster string) *Found {
	f := &Found{Listings: make([]*Listing, len(stores)), Errors: make([]*problem.Problem, len(stores))}
	done := make(chan struct{})
	for i, s := range stores {
		go defect.Do(func() {
			defer func() { done <- struct{}{} }()
			l, err := Records(ctx, s, k, cluster)
			if err != nil {
				f.Errors[i] = problem.From(err)
				return
			}
			f.Listings[i] = l
		})()
	}
	for range stores {
		<-done
	}
	return f
}

// Backups are all backups that were found, the newest first, each once.
func (f *Found) Backups() []Stored {
	var all []Stored
	at := map[string]int{} // by the record's name
	for _, l := range f.Listings {
		if l == nil {
			continue
		}
		for _, e := range l.Entries {
			i, ok := at[e.Name]
			if !ok {
				i = len(all)
				at[e.Name] = i
				all = append(all, Stored{Round: e.Round, Node: e.Node, Cluster: e.Name[:36]})
			}
			s := &all[i]
			s.Locations = append(s.Locations, l.Store.Location())
			if s.Record == nil {
				s.Record = e.Record
			}
			if s.Error == nil && e.Err != nil {
				s.Error = e.Err.About(l.Store.Location())
			}
		}
	}
	sortStored(all)
	return all
}

// Status is what there is, and what is wrong with it.
type Status struct {
	OK bool `json:"ok"`
	// Warning is why not, in a line.
	Warning *problem.Problem `json:"warning,omitempty"`
	Config  string           `json:"config"`
	// EverySeconds is the schedule's, and Enabled since when a timer runs here.
	EverySeconds int64               `json:"every_seconds,omitempty"`
	Enabled      time.Time           `json:"enabled,omitzero"`
	Last         *steps.BackupResult `json:"last,omitempty"` // of this node
	// Drill is the last one of the latest backup on this node, and DrillTimer
	// whether a timer makes them.
	Drill      *steps.DrillResult `json:"drill,omitempty"`
	DrillTimer bool               `json:"drill_timer,omitempty"`
	// Outdated is why the timer's units no longer fit the configuration.
	Outdated  *problem.Problem `json:"timer_outdated,omitempty"`
	Locations []LocationStatus `json:"locations"`
}

// LocationStatus is what lies in one location.
type LocationStatus struct {
	Location string           `json:"location"`
	Error    *problem.Problem `json:"error,omitempty"` // why it can't be read
	Rounds   int              `json:"rounds"`          // with a backup that is whole
	Backups  int              `json:"backups"`
	Bytes    int64            `json:"bytes"`
	Oldest   time.Time        `json:"oldest,omitzero"`
	// Good is the newest backup that is whole.
	Good *Record `json:"good,omitempty"`
	// Bad are records that can't be believed, or whose files are gone.
	Bad []Stored `json:"bad,omitempty"`
	// Failures are those of this node since its last good backup there.
	Failures int              `json:"failures,omitempty"`
	Failed   *problem.Problem `json:"last_failure,omitempty"`
	Unread   int              `json:"unread,omitempty"`
}

// Report puts together what was found and what this node knows; b may be nil.
// units is the directory of systemd's units, "" where they are none of its.
func (f *Found) Report(c *Config, stores []Store, b *steps.Backups, drills steps.Drills, units string, now time.Time) *Status {
	st := &Status{Config: c.Path, EverySeconds: int64(time.Duration(c.Schedule.Every) / time.Second)}
	if b != nil {
		st.Enabled, st.Last = b.Enabled, b.Last
	}
	for i, s := range stores {
		at := LocationStatus{Location: s.Location(), Error: f.Errors[i]}
		if at.Error != nil {
			at.Error = c.placed(at.Error, at.Location)
		}
		if b != nil {
			for _, l := range b.Locations {
				if l.Location == s.Location() {
					at.Failures, at.Failed = l.Failures, l.Error
				}
			}
		}
		if l := f.Listings[i]; l != nil {
			at.add(l, now)
		}
		st.Locations = append(st.Locations, at)
	}
	st.Drill = drills.Latest
	if units != "" {
		st.DrillTimer, st.Outdated = DrillsEnabled(units), c.Outdated(units)
	}
	st.Warning = st.warning(now)
	st.OK = st.Warning == nil
	return st
}

func (at *LocationStatus) add(l *Listing, now time.Time) {
	at.Unread = l.Unread
	rounds := map[Round]bool{}
	for _, e := range l.Entries {
		if e.Err != nil {
			at.Bad = append(at.Bad, Stored{Round: e.Round, Node: e.Node, Locations: []string{at.Location}, Error: e.Err})
			continue
		}
		at.Backups++
		at.Bytes += e.Record.File.Size
		if e.Record.Secrets != nil {
			at.Bytes += e.Record.Secrets.Size
		}
		rounds[e.Round] = true
		if at.Oldest.IsZero() || e.Record.Taken.Before(at.Oldest) {
			at.Oldest = e.Record.Taken
		}
		// What a wrong clock has dated into the future says nothing about now.
		if r := e.Record; at.Good == nil && r.Taken.Before(now.Add(ahead)) {
			at.Good = r
		}
	}
	at.Rounds = len(rounds)
}

// warning is the first thing that is wrong; nil when all is well.
func (st *Status) warning(now time.Time) *problem.Problem {
	for _, at := range st.Locations {
		if at.Error != nil {
			return at.Error
		}
	}
	if st.Outdated != nil { // which may be why the rest is as it is
		return st.Outdated
	}
	for _, at := range st.Locations {
		switch {
		case at.Good == nil:
			return problem.New("take one: etcd-rewind backup", "%s has no good backup", at.Location)
		case steps.TooOld(at.Good.Taken, time.Duration(st.EverySeconds)*time.Second, now):
			return problem.New("check the log of "+ServiceName+", then take one: etcd-rewind backup", "the last good backup in %s is from %s, but one is due every %s", at.Location, steps.Ago(at.Good.Taken, now), Duration(time.Duration(st.EverySeconds)*time.Second))
		case at.Failures > 0 && at.Failed != nil:
			return at.Failed
		case len(at.Bad) > 0:
			return at.Bad[0].Error.About(at.Location + ": " + at.Bad[0].Round.String() + " by " + at.Bad[0].Node)
		}
	}
	if st.Last != nil && !st.Last.OK {
		return st.Last.Error
	}
	if d := st.Drill; d != nil && !d.Proven {
		p := problem.New("", "it failed")
		if d.Error != nil {
			p = d.Error
		}
		return p.About("the last drill, of " + d.Snapshot)
	}
	return nil
}
