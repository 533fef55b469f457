package restore

import (
	"context"
	"errors"

	"etcd-rewind/problem"
	"etcd-rewind/steps"
)

// Local is the node that this process runs on, without any other: no agent, no
// copy of the snapshot, and nobody to wait for at the end of a phase.
type Local struct {
	Engine Engine

	want Want
	run  string // an earlier one
	plan *steps.Plan
}

// Discover takes the facts that were read already: there is only this node.
func (l *Local) Discover(_ context.Context, w Want) ([]Member, []steps.Verdict, error) {
	l.want = w
	m := Member{Local: true, Roles: w.Here.Roles()}
	if e := w.Here.Etcd; e != nil {
		m.Name, m.PeerURLs, m.KnownBy = e.Name, e.AdvertisePeerURLs, []Source{InManifest}
	} else if w.Here.EtcdErr != nil {
		m.Err = problem.Line(w.Here.EtcdErr)
	}
	return []Member{m}, nil, nil
}

// Names is empty: the events of a node alone name no node.
func (l *Local) Names() []string { return nil }

// Here is this node's name.
func (l *Local) Here() string {
	switch {
	case l.plan != nil:
		return l.plan.Node
	case l.want.Here != nil:
		return l.want.Here.Node
	}
	return ""
}

// Send has nothing to send.
func (l *Local) Send(context.Context, func(node string, done, total int64)) error { return nil }

// Check looks at this node and the snapshot.
func (l *Local) Check(ctx context.Context, c steps.Choices) ([]Checked, error) {
	return []Checked{{Verdicts: l.Engine.Check(ctx, l.want.Here, l.want.Info, c)}}, nil
}

// Plan plans the restore.
func (l *Local) Plan(_ context.Context, c steps.Choices) ([]*steps.Plan, error) {
	return l.planned(l.Engine.Plan(l.want.Here, l.want.Info, c))
}

// Open remembers the run; "" is the newest one that what is planned applies to.
func (l *Local) Open(_ context.Context, r Record) (map[string]steps.RunState, error) {
	l.run = r.Run
	return nil, nil
}

// PlanAgain plans what is done with an earlier run.
func (l *Local) PlanAgain(ctx context.Context, v Verb) ([]*steps.Plan, error) {
	return l.planned(PlanAgain(ctx, l.Engine, v, l.run))
}

// PlanAgain plans what is done with an earlier run of this node.
func PlanAgain(ctx context.Context, e Engine, v Verb, run string) (*steps.Plan, error) {
	switch v {
	case Undo:
		return e.PlanUndo(ctx, run)
	case Redo:
		return e.PlanRedo(ctx, run)
	}
	return e.PlanResume(ctx, run)
}

func (l *Local) planned(p *steps.Plan, err error) ([]*steps.Plan, error) {
	if l.plan = p; err != nil {
		return nil, err
	}
	return []*steps.Plan{p}, nil
}

// Run runs the plan.
func (l *Local) Run(ctx context.Context, sink func(NodeEvent), ask Asker) (*Result, error) {
	p := l.plan
	if p == nil {
		return nil, errors.New("there is no plan")
	}
	res, err := l.Engine.Run(ctx, p, func(ev steps.Event) { sink(NodeEvent{Event: ev}) }, func(f steps.Failure) steps.Choice { return ask(Trouble{Node: p.Node, Failure: f}) })
	if err != nil {
		return nil, err
	}
	return Alone(p.Run, p.Node, res), nil
}

// Leave has nobody to leave.
func (l *Local) Leave() {}

// Close has nothing to close.
func (l *Local) Close() error { return nil }
