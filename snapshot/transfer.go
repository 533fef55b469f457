package snapshot

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"os"

	"etcd-rewind/defect"
	"etcd-rewind/problem"
)

// A copy is written in pieces, and never more than two of them wait for the
// disk: an etcd on the same one has to get its few bytes there meanwhile.
const (
	pieceSize = 4 << 20
	pieces    = 4 // in memory: read and hashed, or on their way to the disk
)

// transfer makes to, a new file with the content of a snapshot without the
// trailer; see fill.
func transfer(from, to string, info *Info, progress func(Progress)) (sum string, err error) {
	src, err := os.Open(from)
	if err != nil {
		return "", openProblem(from, err)
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", targetProblem(err)
	}
	sum, err = fill(dst, src, info, func(p Progress) {
		p.Phase = "copy"
		progress(p)
	})
	if cerr := dst.Close(); err == nil && cerr != nil {
		err = targetProblem(cerr)
	}
	return sum, err
}

// fill gives dst, which is empty, the content of a snapshot without the trailer, and
// returns the sha256 of the bytes that went into it, which is compared with the
// trailer; with an error only when all was read, and not all could be written.
//
// Where the file system can share the bytes of two files, none are written.
// Then dst is read, which brings it into memory, where etcd will look for it.
func fill(dst, src *os.File, info *Info, tell func(Progress)) (sum string, err error) {
	if clone(dst, src) == nil {
		if sum, err = checkHash(context.Background(), dst, info, nil, tell); err != nil {
			return "", err
		}
		if err := dst.Truncate(info.content()); err != nil {
			return sum, targetProblem(err)
		}
		return sum, nil
	}
	if err := allocate(dst, info.content()); err != nil {
		return "", targetProblem(err)
	}
	w := startWriting(dst, nil)
	sum, err = checkHash(context.Background(), src, info, w, tell)
	if werr := w.close(); err == nil && werr != nil {
		err = targetProblem(werr)
	}
	return sum, err
}

// content is the size of a snapshot without its trailer.
func (i *Info) content() int64 {
	if i.Hash == HashMissing {
		return i.Size
	}
	return i.Size - sha256.Size
}

// reading reads the content of a snapshot in pieces, on a goroutine of its own:
// what a disk has to bring takes as long as to hash it.
type reading struct {
	full chan piece // closed at the end
	err  error      // once full is closed
}

type piece struct {
	data []byte
	at   int64
}

// startReading reads into buffers that it takes from free.
func startReading(ctx context.Context, f *os.File, info *Info, free <-chan []byte) *reading {
	r := &reading{full: make(chan piece, pieces)}
	go defect.Do(func() {
		defer close(r.full)
		for at := int64(0); at < info.content(); {
			var buf []byte
			select {
			case <-ctx.Done():
				r.err = context.Cause(ctx)
				return
			case buf = <-free:
			}
			n, err := f.ReadAt(buf[:min(int64(len(buf)), info.content()-at)], at)
			switch {
			case n == 0 && errors.Is(err, io.EOF):
				r.err = problem.Coded(CodeTruncated, useAnother, "truncated while it was read: it has %d of %d bytes", at, info.Size)
				return
			case err != nil && !errors.Is(err, io.EOF):
				r.err = openProblem(info.Path, err)
				return
			}
			r.full <- piece{buf[:n], at}
			at += int64(n)
		}
	})()
	return r
}

// writing writes pieces to a file on a goroutine of its own, while the next
// ones are read.
type writing struct {
	f    *os.File
	sum  *trailed // of what is written; nil when it is hashed elsewhere
	free chan []byte
	full chan piece
	done chan struct{}
	err  error // once done or failed is closed
	// failed is closed when something couldn't be written: all else is thrown away.
	failed chan struct{}
}

func startWriting(f *os.File, sum *trailed) *writing {
	w := &writing{f: f, sum: sum, free: make(chan []byte, pieces), full: make(chan piece, pieces), done: make(chan struct{}), failed: make(chan struct{})}
	for range pieces {
		w.free <- make([]byte, pieceSize)
	}
	go defect.Do(func() {
		defer close(w.done)
		for p := range w.full {
			if w.err == nil {
				if w.err = w.write(p); w.err != nil {
					close(w.failed)
				}
			}
			w.free <- p.data[:cap(p.data)]
		}
	})()
	return w
}

// write sends a piece on its way to the disk and waits until the one before is
// there.
func (w *writing) write(p piece) error {
	if w.sum != nil {
		_, _ = w.sum.Write(p.data)
	}
	if _, err := w.f.WriteAt(p.data, p.at); err != nil {
		return err
	}
	if err := startFlush(w.f, p.at, int64(len(p.data))); err != nil {
		return err
	}
	if p.at < pieceSize {
		return nil
	}
	return waitFlush(w.f, p.at-pieceSize, pieceSize)
}

// close waits until all is written.
func (w *writing) close() error {
	close(w.full)
	<-w.done
	return w.err
}
