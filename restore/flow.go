package restore

import (
	"context"
	"slices"

	"etcd-rewind/problem"
	"etcd-rewind/snapshot"
	"etcd-rewind/steps"
)

// Flow is the way to the plan of a restore of one or more nodes. Its methods are
// called in the order that they have here, each as often as needed: it keeps what
// it found last. A Flow may be copied, to go on from here in another goroutine;
// only Nodes is the same for all copies.
type Flow struct {
	Nodes  Nodes
	Engine Engine // of this node, which reads the snapshot for all
	Want   Want   // as the user says; Discover and Inspect add to it
	// Choices hold for all nodes.
	Choices steps.Choices

	Members []Member
	Changes *snapshot.Comparison // nil when the snapshot wasn't compared
	Checked []Checked            // what is said of all nodes, and then of each

	// Of an earlier run: its nodes, and in which state it is on each.
	Record Record
	States map[string]steps.RunState

	name string // of the snapshot
	sent bool   // every node has the snapshot
	// What was found about the nodes as a whole, about the snapshot, and about
	// both together.
	found, read, compared []steps.Verdict
}

// Discover reads this node. What was read stays, whatever the error.
func (f *Flow) Discover(ctx context.Context) (err error) {
	f.Want.Here, err = f.Engine.Discover(ctx)
	return err
}

// Inspect reads a whole snapshot. What is wrong with it becomes a verdict.
func (f *Flow) Inspect(ctx context.Context, name string, progress func(done, total int64)) {
	info, err := f.Engine.Inspect(ctx, name, progress)
	f.name, f.Want.Info, f.read = name, info, nil
	if err != nil {
		f.Want.Info, f.read = nil, f.unusable(err)
	}
}

func (f *Flow) unusable(err error) []steps.Verdict {
	name := f.name
	if name == "" {
		name = f.Want.Info.Name
	}
	v := steps.SnapshotVerdict(name, err)
	if f.Choices.InPlace { // it isn't a snapshot that was taken somewhere
		v.Title, v.Hint = "Data", "name another data directory, or restore a snapshot"
	}
	return []steps.Verdict{v}
}

// Compare compares the snapshot with what this node has now.
func (f *Flow) Compare(ctx context.Context, progress func(snapshot.Progress)) {
	if f.Want.Info != nil && (f.Want.Here.Etcd != nil || f.Want.Here.Live != nil) {
		f.Compared(f.Comparison(ctx, progress))
	}
}

// Comparison is Compare without keeping the outcome: it may take its time while
// another copy goes on.
func (f *Flow) Comparison(ctx context.Context, progress func(snapshot.Progress)) (*snapshot.Comparison, error) {
	info := f.Want.Info
	return f.Engine.Compare(ctx, f.Want.Here, info, snapshot.CompareOptions{ExpectSHA256: info.SHA256}, progress)
}

// Compared takes the outcome of a comparison. What can't be compared blocks
// nothing.
func (f *Flow) Compared(c *snapshot.Comparison, err error) {
	f.Changes = c
	switch {
	case err == nil:
		f.compared = []steps.Verdict{steps.LineageVerdict(c)}
	case problem.HasCode(err, snapshot.CodeChanged):
		f.compared = f.unusable(err) // another file has its name now
	default:
		f.compared = []steps.Verdict{steps.NotCompared(err)}
	}
}

// Find finds the nodes. The snapshot has to be sent to them again.
func (f *Flow) Find(ctx context.Context) (err error) {
	f.sent = false
	f.Members, f.found, err = f.Nodes.Discover(ctx, f.Want)
	return err
}

// Found is what was found about the nodes as a whole.
func (f *Flow) Found() []steps.Verdict { return f.found }

// Sent says whether every node has the snapshot.
func (f *Flow) Sent() bool { return f.sent }

// Send brings the snapshot to the nodes, once.
func (f *Flow) Send(ctx context.Context, progress func(node string, done, total int64)) error {
	if f.sent || f.Want.Info == nil {
		return nil
	}
	err := f.Nodes.Send(ctx, progress)
	f.sent = err == nil
	return err
}

// Check sends the snapshot to the nodes, and has each look at itself and at its
// copy. What blocks all of them keeps the snapshot from being sent; the nodes
// are looked at without it then.
func (f *Flow) Check(ctx context.Context, progress func(node string, done, total int64)) error {
	shared := slices.Concat(f.found, f.read, f.compared)
	steps.Accept(shared, f.Choices.Accept)
	blocked := len(steps.Blocking(shared)) > 0
	if !blocked {
		if err := f.Send(ctx, progress); err != nil {
			return err
		}
	}
	checked, err := f.Nodes.Check(ctx, f.Choices)
	if err != nil && (!blocked || f.sent) {
		return err
	}
	all := Checked{Verdicts: shared}
	f.Checked = nil
	for _, c := range checked {
		if c.Node == "" { // the only one: what is said of all is said of it
			all.Verdicts = slices.Concat(c.Verdicts, all.Verdicts)
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
