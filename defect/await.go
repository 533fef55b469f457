package defect

import "context"

// Await is what f returns, or ctx's cause when that ends first: f is left behind
// then, and its answer is dropped. It is for calls that hang in the kernel and
// that nothing can end: a disk, a mount whose server is gone, a pipe.
func Await[T any](ctx context.Context, f func() (T, error)) (T, error) {
	type answer struct {
		value T
		err   error
	}
	got := make(chan answer, 1)
	go Do(func() {
		v, err := f()
		got <- answer{v, err}
	})()
	select {
	case a := <-got:
		return a.value, a.err
	case <-ctx.Done():
		var none T
		return none, context.Cause(ctx)
	}
}
