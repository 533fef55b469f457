package snapshot

import (
	"encoding/hex"
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"etcd-rewind/problem"
)

// Growing is a file that one writes while others read it, each at its own pace: who
// reads slowly keeps nobody waiting. Its methods are safe for use by several
// goroutines; one of them writes.
type Growing struct {
	f *os.File

	mu      sync.Mutex
	n       int64
	waiting chan struct{} // closed when there is more, nil when nobody waits
	ended   bool
	err     error // once it has ended
}

// Grow makes a growing file of one that is empty, and open to read and write. It
// stays the caller's to close, when nobody reads it any more.
func Grow(f *os.File) *Growing { return &Growing{f: f} }

// Write appends.
func (g *Growing) Write(p []byte) (int, error) {
	n, err := g.f.Write(p)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.n += int64(n)
	g.wake()
	return n, err
}

// End says that nothing follows. Readers come to the end of the file, or get an
// error at once: what was written is worth nothing then. It may be called again
// with an error, of which the first counts.
func (g *Growing) End(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ended = true; g.err == nil {
		g.err = err
	}
	g.wake()
}

func (g *Growing) wake() {
	if g.waiting != nil {
		close(g.waiting)
		g.waiting = nil
	}
}

// upTo waits for more than at bytes, and says how many there are; io.EOF when there
// will be no more.
func (g *Growing) upTo(at int64, alive func()) (int64, error) {
	for {
		g.mu.Lock()
		n, ended, err := g.n, g.ended, g.err
		if g.waiting == nil {
			g.waiting = make(chan struct{})
		}
		more := g.waiting
		g.mu.Unlock()
		switch {
		case err != nil:
			return 0, err
		case n > at:
			return n, nil
		case ended:
			return 0, io.EOF
		}
		select {
		case <-more:
		case <-time.After(time.Second):
			alive()
		}
	}
}

// Reader reads it from its beginning. While it waits for more it calls alive, which
// may be nil, each second.
func (g *Growing) Reader(alive func()) io.Reader {
	if alive == nil {
		alive = func() {}
	}
	return &growingReader{g: g, alive: alive}
}

type growingReader struct {
	g     *Growing
	at    int64
	alive func()
}

func (r *growingReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, err := r.g.upTo(r.at, r.alive)
	if err != nil {
		return 0, err
	}
	got, err := r.g.f.ReadAt(p[:min(int64(len(p)), n-r.at)], r.at)
	r.at += int64(got)
	if errors.Is(err, io.EOF) && got == 0 {
		err = io.ErrUnexpectedEOF // somebody has cut it
	} else if errors.Is(err, io.EOF) {
		err = nil
	}
	return got, err
}

// hashed reads a snapshot, and instead of its end gives an error when the trailer
// isn't the sha256 of the rest.
type hashed struct {
	r   io.Reader
	sum *trailed
	all bool // it was read to its end, and is as its trailer says
}

func newHashed(r io.Reader) *hashed { return &hashed{r: r, sum: newTrailed()} }

func (h *hashed) Read(p []byte) (int, error) {
	n, err := h.r.Read(p)
	_, _ = h.sum.Write(p[:n])
	if errors.Is(err, io.EOF) {
		if !h.sum.fits() {
			return n, problem.Coded(CodeDamagedHash, "try again", "its sha256 is not the one that etcd sent")
		}
		h.all = true
	}
	return n, err
}

// content is the sha256 of what was read, without the trailer.
func (h *hashed) content() string { return hex.EncodeToString(h.sum.content.Sum(nil)) }

// PlainSHA256 is that of all that was read, in hex.
func (h *hashed) PlainSHA256() string { return h.sum.whole() }
