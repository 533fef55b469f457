package snapshot

import (
	"context"
	"crypto/sha256"
	"os"
)

// A copy is written in pieces, and never more than two of them wait for the
// disk: an etcd on the same one has to get its few bytes there in between.
const (
	pieceSize = 4 << 20
	pieces    = 4 // in memory: read and hashed, or on their way to the disk
)

// startTransfer makes to, a new file with the content of a snapshot without the
// trailer, and looks at hash and structure. The hash is that of the bytes which
// go into to.
//
// Where the file system can share the bytes of two files, none are written.
// Then to is read, which brings it into memory, where etcd will look for it; so
// the structure is checked there, too, afterwards. To check it in the snapshot
// meanwhile takes longer: two files have to be read then.
func startTransfer(from, to string, info *Info, progress func(Progress)) (*hashing, error) {
	src, err := os.Open(from)
	if err != nil {
		return nil, openProblem(from, err)
	}
	dst, err := os.OpenFile(to, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		_ = src.Close()
		return nil, targetProblem(err)
	}
	tell := func(p Progress) {
		p.Phase = "copy"
		progress(p)
	}
	fill, content := copyHashed, from
	shared := clone(dst, src) == nil
	if shared {
		fill, content = hashShared, to
	}
	return startHashing(info, func() (string, error) {
		defer src.Close()
		sum, err := fill(dst, src, info, tell)
		if cerr := dst.Close(); err == nil && cerr != nil {
			err = targetProblem(cerr)
		}
		return sum, err
	}, content, shared), nil
}

func hashShared(dst, _ *os.File, info *Info, progress func(Progress)) (string, error) {
	sum, err := checkHash(context.Background(), dst, info, nil, progress)
	if err != nil {
		return "", err
	}
	if err := dst.Truncate(info.content()); err != nil {
		return "", targetProblem(err)
	}
	return sum, nil
}

func copyHashed(dst, src *os.File, info *Info, progress func(Progress)) (string, error) {
	if err := allocate(dst, info.content()); err != nil {
		return "", targetProblem(err)
	}
	w := startWriting(dst)
	sum, err := checkHash(context.Background(), src, info, w, progress)
	if werr := w.close(); werr != nil {
		return "", targetProblem(werr)
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

// writing writes pieces to a file on a goroutine of its own, while the next
// ones are read and hashed.
type writing struct {
	f    *os.File
	free chan []byte
	full chan piece
	done chan struct{}
	err  error // once done is closed
}

type piece struct {
	data []byte
	at   int64
}

func startWriting(f *os.File) *writing {
	w := &writing{f: f, free: make(chan []byte, pieces), full: make(chan piece, pieces), done: make(chan struct{})}
	for range pieces {
		w.free <- make([]byte, pieceSize)
	}
	go func() {
		defer close(w.done)
		for p := range w.full {
			if w.err == nil {
				w.err = w.write(p)
			}
			w.free <- p.data[:cap(p.data)]
		}
	}()
	return w
}

// write sends a piece on its way to the disk and waits until the one before is
// there.
func (w *writing) write(p piece) error {
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

// buffer is a free one of pieceSize.
func (w *writing) buffer() []byte { return <-w.free }

// put takes a buffer, filled.
func (w *writing) put(data []byte, at int64) { w.full <- piece{data, at} }

// close waits until all is written.
func (w *writing) close() error {
	close(w.full)
	<-w.done
	return w.err
}
