package steps

import (
	"context"
	"fmt"
	"time"

	"etcd-rewind/node"
	"etcd-rewind/problem"
)

// takenUp is how a run may be taken up again.
type takenUp struct {
	fits func(r RunInfo) error // nil for a run that may be
	left func(r RunInfo) bool  // for the newest one
	none string                // no run is left
}

// find is the run that is taken up: the named one, or the newest. Runs that
// came later and are not undone block it, and so do those that can't be read,
// until they are named: what they did isn't known.
func find(stateDir, run string, t Terms, how takenUp) (*history, error) {
	runs, err := Runs(stateDir)
	if err != nil {
		return nil, err
	}
	var later []RunInfo
	for _, r := range runs {
		switch {
		case r.State == RunUnreadable:
			if err := r.Unreadable(run, t.Accept); err != nil {
				return nil, err
			}
		case run == "" && how.left(r), run == r.Run:
			if err := how.fits(r); err != nil {
				return nil, err
			}
			if len(later) > 0 {
				return nil, problem.New("undo the later one first: "+t.command("undo", later[0].Run), "run %s came after %s and is not undone", later[len(later)-1].Run, r.Run)
			}
			return readHistory(r.Dir)
		case r.stands():
			later = append(later, r)
		}
	}
	if run != "" {
		return nil, problem.New(t.command("runs", "")+" lists them", "there is no run %s in %s", run, stateDir)
	}
	return nil, problem.New(t.command("runs", "")+" lists the runs of this node", "%s", how.none)
}

// NewUndo plans to undo what a run changed, from its journal and a look at the
// node. run may be "" for the newest run that left something to undo.
func NewUndo(stateDir, run string, t Terms) (*Plan, error) {
	nothing := func(r RunInfo) error { return problem.New("", "run %s left nothing to undo", r.Run) }
	h, err := find(stateDir, run, t, takenUp{
		left: RunInfo.stands, none: "no run has left anything to undo",
		fits: func(r RunInfo) error {
			if r.State == RunUndone || r.State == RunUntouched {
				return nothing(r)
			}
			return nil
		},
	})
	if err != nil {
		return nil, err
	}
	p, err := undoPlan(h, t)
	if err == nil && len(p.Steps) == 0 {
		return nil, nothing(RunInfo{Run: p.Run})
	}
	return p, err
}

// oldRun is how long after a restore an undo stops being routine: by then
// people rely on what the cluster has done since.
const oldRun = time.Hour

// sinceThen adds to an undo what the restored cluster has written since it was
// restored: going back loses it. The age counts from the last record of the
// run, whatever its state: a run that was interrupted when the API was back
// has been relied on as much as one that came to its end.
func sinceThen(ctx context.Context, p *Plan, ask func(context.Context, node.EtcdConfig, bool) (*node.EtcdStatus, error), now time.Time) {
	if p.Kind != KindUndo || p.ended.IsZero() || p.Restore.Home { // the same data, elsewhere
		return
	}
	age := now.Sub(p.ended).Round(time.Second)
	// A run of the future: the clock was set back, and nobody knows how old it is.
	p.MustType = age >= oldRun || age <= -time.Minute
	if p.ran == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	what := "unknown: etcd doesn't answer"
	if s, err := ask(ctx, p.Reach.Etcd, false); err == nil {
		what = fmt.Sprintf("revisions: %d", max(s.Revision-p.ran, 0))
		if st := p.memory.Staged; st != nil && s.ClusterID != 0 && st.ClusterID != s.ClusterID {
			what = fmt.Sprintf("unknown: etcd runs on other data now, of cluster %x", s.ClusterID)
		}
	}
	p.Lost = fmt.Sprintf("%s, in %s; the cluster loses it, %s keeps it", what, Age(now.Add(-max(age, 0)), now), p.Restore.keptAt())
	p.Summary = append(p.Summary, Fact{"written since", p.Lost})
}

// Blocked says which of several nodes' plans is blocked, and by what; nil when
// none is: all nodes are taken up again, or none.
func Blocked(ctx context.Context, plans []*Plan) error {
	for _, p := range plans {
		if p == nil {
			continue
		}
		if err := p.Allowed(ctx); err != nil {
			if len(plans) == 1 {
				return err
			}
			return problem.From(err).About(p.Node)
		}
	}
	return nil
}
