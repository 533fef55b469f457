package restore

import (
	"context"
	"errors"

	"etcd-rewind/snapshot"
	"etcd-rewind/steps"
)

// Flow is the way to the plan of a restore of one or more nodes. Its methods are
// called in the order that they have here; each keeps what it found.
type Flow struct {
	Nodes  Nodes
	Engine Engine // of this node, which reads the snapshot for all
	Want   Want   // as the user says; Discover and Inspect add to it
	// Choices hold for all nodes.
	Choices steps.Choices

	Members []Member
	Changes *snapshot.Comparison // nil when the snapshot wasn't compared
	Checked []Checked            // what is said of all nodes, and then of each

	path   string
	shared []steps.Verdict // about the snapshot, and the nodes as a whole
}

// Discover reads this node.
func (f *Flow) Discover(ctx context.Context) (err error) {
	f.Want.Here, err = f.Engine.Discover(ctx)
	return err
}

// Inspect reads a whole snapshot. What is wrong with it becomes a verdict.
func (f *Flow) Inspect(ctx context.Context, path string, progress func(done, total int64)) {
	f.path = path
	info, err := f.Engine.Inspect(ctx, path, progress)
	if err != nil {
		f.unusable(err)
		return
	}
	f.Want.Info = info
}

func (f *Flow) unusable(err error) {
	v := steps.SnapshotVerdict(f.path, err)
	if f.Choices.InPlace { // it isn't a snapshot that was taken somewhere
		v.Title, v.Hint = "Data", "name another data directory, or restore a snapshot"
	}
	f.shared = append(f.shared, v)
}

// Compare compares the snapshot with what this node has now. What can't be
// compared blocks nothing.
func (f *Flow) Compare(ctx context.Context, progress func(snapshot.Progress)) {
	info := f.Want.Info
	if info == nil || f.Want.Here.Etcd == nil {
		return
	}
	c, err := f.Engine.Compare(ctx, f.Want.Here, info.Path, snapshot.CompareOptions{ExpectSHA256: info.SHA256}, progress)
	var p *snapshot.Problem
	switch {
	case err == nil:
		f.Changes = c
		f.shared = append(f.shared, steps.LineageVerdict(c))
	case errors.As(err, &p) && p.Code == snapshot.CodeChanged:
		f.unusable(err) // another file has its name now
	default:
		f.shared = append(f.shared, steps.NotCompared(err))
	}
}

// Find finds the nodes.
func (f *Flow) Find(ctx context.Context) error {
	members, verdicts, err := f.Nodes.Discover(ctx, f.Want)
	f.Members, f.shared = members, append(verdicts, f.shared...)
	return err
}

// Check sends the snapshot to the nodes, and has each look at itself and at its
// copy. What blocks all of them keeps the snapshot from being sent; the nodes
// are looked at without it then.
func (f *Flow) Check(ctx context.Context, progress func(node string, done, total int64)) error {
	steps.Accept(f.shared, f.Choices.Accept)
	blocked := len(steps.Blocking(f.shared)) > 0
	if f.Want.Info != nil && !blocked {
		if err := f.Nodes.Send(ctx, progress); err != nil {
			return err
		}
	}
	checked, err := f.Nodes.Check(ctx, f.Choices)
	if err != nil && !blocked {
		return err
	}
	all := Checked{Verdicts: f.shared}
	f.Checked = nil
	for _, c := range checked {
		if c.Node == "" { // the only one: what is said of all is said of it
			all.Verdicts = append(c.Verdicts, all.Verdicts...)
			continue
		}
		f.Checked = append(f.Checked, c)
	}
	f.Checked = append([]Checked{all}, f.Checked...)
	for _, c := range f.Checked {
		steps.Accept(c.Verdicts, f.Choices.Accept)
	}
	return nil
}

// Plan plans the restore on every node.
func (f *Flow) Plan(ctx context.Context) ([]*steps.Plan, error) {
	return f.Nodes.Plan(ctx, f.Choices)
}
