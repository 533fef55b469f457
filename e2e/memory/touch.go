//go:build unix

// Package memory obtains the memory that a benchmark is about to use from the
// virtual machine's host, so that the time the host takes is not measured.
package memory

import (
	"errors"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

// Touch has the machine get n bytes of memory, which are free again afterwards,
// and returns how long that took. A virtual machine's host may take free pages
// back, and gives them again one by one, when they are touched: 1 GB takes 2.7 s
// then and 0.3 s otherwise, and cp of a file of 2.4 GB 6.3 s and 0.9 s (measured);
// so does whoever fills the page cache, or starts. Safe to call twice.
func Touch(n int) (time.Duration, error) {
	mem, err := syscall.Mmap(-1, 0, n, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		return 0, err
	}
	start := time.Now()
	for i := 0; i < n; i += os.Getpagesize() {
		mem[i] = 1
	}
	took := time.Since(start)
	return took, syscall.Munmap(mem)
}

// never is set where the host takes memory back as fast as it is touched.
var never atomic.Bool

// Settle touches n bytes until that gets no quicker, and returns how long it took
// at last: what is measured next gets memory that the host has handed out. On a
// machine where it never gets quick (4 GB took 14 s each of six times, where the host
// is told of free pages at once) later calls do nothing, and return 0: both
// sides of what is measured are slower there. Safe to call twice, and by several
// goroutines.
func Settle(n int) (time.Duration, error) {
	if never.Load() {
		return 0, nil
	}
	last, err := Touch(n)
	for range 5 {
		took, terr := Touch(n)
		if err = errors.Join(err, terr); err != nil || took > last*9/10 {
			never.Store(took > time.Duration(n)) // a second per GB
			return took, err
		}
		last = took
	}
	return last, err
}
