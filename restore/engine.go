package restore

import (
	"context"

	"etcd-rewind/snapshot"
	"etcd-rewind/steps"
)

// Engine is what is asked of the engine on this node: a steps.Session.
type Engine interface {
	Discover(ctx context.Context) (*steps.Facts, error)
	Inspect(ctx context.Context, name string, progress func(done, total int64)) (*snapshot.Info, error)
	Compare(ctx context.Context, f *steps.Facts, info *snapshot.Info, o snapshot.CompareOptions, progress func(snapshot.Progress)) (*snapshot.Comparison, error)
	Check(ctx context.Context, f *steps.Facts, s *snapshot.Info, c steps.Choices) []steps.Verdict
	Plan(f *steps.Facts, s *snapshot.Info, c steps.Choices) (*steps.Plan, error)
	PlanUndo(ctx context.Context, run string) (*steps.Plan, error)
	PlanRedo(ctx context.Context, run string) (*steps.Plan, error)
	PlanResume(ctx context.Context, run string) (*steps.Plan, error)
	Run(ctx context.Context, p *steps.Plan, sink func(steps.Event), ask steps.Asker) (*steps.Result, error)
}
