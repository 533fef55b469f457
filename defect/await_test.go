package defect

import (
	"context"
	"errors"
	"testing"
)

func TestACallThatHangsIsLeftBehind(t *testing.T) {
	gone := errors.New("gone")
	ctx, cancel := context.WithCancelCause(t.Context())
	begun, end := make(chan struct{}), make(chan struct{})
	defer close(end)
	go func() {
		<-begun
		cancel(gone)
	}()
	if n, err := Await(ctx, func() (int, error) { close(begun); <-end; return 1, nil }); n != 0 || !errors.Is(err, gone) {
		t.Errorf("%d, %v", n, err)
	}
	bad := errors.New("bad")
	if n, err := Await(t.Context(), func() (int, error) { return 2, bad }); n != 2 || !errors.Is(err, bad) {
		t.Errorf("%d, %v", n, err)
	}
}
