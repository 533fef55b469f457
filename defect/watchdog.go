package defect

import (
	"context"
	"time"
)

// Watchdog ends a context that shows no sign of life for a limit: whatever may
// take its time, and may not stall.
type Watchdog struct {
	limit  time.Duration
	late   *time.Timer
	cancel context.CancelCauseFunc
}

// Watch returns a context that ends with stalled as its cause when the limit
// passes without a sign of life. Stop must be called.
func Watch(ctx context.Context, limit time.Duration, stalled error) (context.Context, *Watchdog) {
	ctx, cancel := context.WithCancelCause(ctx)
	return ctx, &Watchdog{limit, time.AfterFunc(limit, Do(func() { cancel(stalled) })), cancel}
}

// Alive is a sign of life: the limit starts again.
func (w *Watchdog) Alive() { w.late.Reset(w.limit) }

// Pause stops the clock until the next sign of life.
func (w *Watchdog) Pause() { w.late.Stop() }

// Stop ends the context, if it hasn't ended. It is safe to call twice.
func (w *Watchdog) Stop() {
	w.late.Stop()
	w.cancel(nil)
}
