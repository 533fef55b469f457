// Package defect ends the program in order after a panic: in any goroutine,
// while a run is under way, the terminal is restored, the undo command is
// printed, and the exit status is 3, as for every run that leaves a node half
// restored. Go's own handling would exit with status 2, which means "usage", and
// leave the terminal unusable.
//
// Every goroutine is started with Do; TestGoroutinesAreGuarded enforces that.
// The journal needs no help: it is written ahead.
package defect

import (
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"
)

// Status is the exit status of a run that leaves a node half done.
const Status = 3

var state struct {
	sync.Mutex
	runs  []string // the commands that go back from what is under way
	reset []func() // give the terminal back
	once  sync.Once
}

// During says that a run is under way, and which command goes back from it. The
// function that it returns is called when the run has come to its end, and not
// when it panics: it isn't for defer.
func During(undo string) (over func()) {
	state.Lock()
	defer state.Unlock()
	state.runs = append(state.runs, undo)
	return func() {
		state.Lock()
		defer state.Unlock()
		if i := slices.Index(state.runs, undo); i >= 0 {
			state.runs = slices.Delete(state.runs, i, i+1)
		}
	}
}

// Terminal names what gives the terminal back; forget takes it back.
func Terminal(reset func()) (forget func()) {
	state.Lock()
	defer state.Unlock()
	state.reset = append(state.reset, reset)
	n := len(state.reset) - 1
	return func() {
		state.Lock()
		defer state.Unlock()
		state.reset[n] = func() {}
	}
}

// Do is f for a goroutine: go defect.Do(f)(), or WaitGroup.Go(defect.Do(f)).
func Do(f func()) func() {
	return func() {
		defer Recover()
		f()
	}
}

// Recover is deferred where a goroutine begins. Without a run it only gives the
// terminal back; the panic continues.
func Recover() {
	v := recover()
	if v == nil {
		return
	}
	stack := debug.Stack()
	state.once.Do(func() {
		state.Lock()
		runs, reset := slices.Clone(state.runs), slices.Clone(state.reset)
		state.Unlock()
		within(time.Second, func() {
			for _, f := range reset {
				f()
			}
		})
		if len(runs) == 0 {
			panic(v)
		}
		within(2*time.Second, func() { report(os.Stderr, v, runs, stack) })
		os.Exit(Status)
	})
	select {} // another goroutine is ending the program
}

func report(w io.Writer, v any, runs []string, stack []byte) {
	_, _ = fmt.Fprintf(w, "\n%s\n\nA defect in etcd-rewind ended the run: %v\nThe journal has everything that was done. To undo it: %s\n",
		strings.TrimSpace(string(stack)), v, strings.Join(runs, "; "))
}

// within does what may hang on a terminal that takes nothing.
func within(limit time.Duration, f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() { _ = recover() }()
		f()
	}()
	select {
	case <-done:
	case <-time.After(limit):
	}
}
