package fleet

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"etcd-rewind/node"
	"etcd-rewind/problem"
	"etcd-rewind/steps"
)

// putting is a snapshot on its way.
type putting struct {
	order putOrder
	path  string // where it will be
	f     *os.File
	sum   hash.Hash
	got   int64
	err   error // the first; what comes after it is read and thrown away
	told  int64
	whole chan struct{}
}

// receive takes a snapshot in, or finds that it is there from an earlier try.
func (a *agent) receive(ctx context.Context, o putOrder) (*putReply, error) {
	path, err := a.node.Place(o.SHA256)
	if err != nil {
		return nil, err
	}
	busy := a.busyEvery(time.Second)
	if sameFile(ctx, path, o, busy) {
		return &putReply{Path: path, Have: true}, nil
	}
	dir := filepath.Dir(path)
	if d, err := node.DiskOf(dir); err == nil && d.FreeBytes < uint64(o.Size) {
		return nil, problem.New("free space there", "the snapshot has %s, %s has %s left", steps.Bytes(o.Size), dir, steps.Bytes(int64(d.FreeBytes)))
	}
	part := path + ".part"
	if err := os.Remove(part); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	f, err := os.OpenFile(part, os.O_CREATE|os.O_EXCL|os.O_WRONLY|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	p := &putting{order: o, path: path, f: f, sum: sha256.New(), whole: make(chan struct{})}
	a.mu.Lock()
	a.put = p
	a.mu.Unlock()
	a.out.put(message{Put: -1}) // send it
	select {
	case <-p.whole:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	a.mu.Lock()
	a.put = nil
	a.mu.Unlock()
	if err := p.finish(); err != nil {
		return nil, errors.Join(err, os.Remove(part))
	}
	return &putReply{Path: path}, nil
}

// piece reads what follows a piece's line, whatever comes of it.
func (a *agent) piece(n int, in io.Reader) error {
	if n <= 0 || n > pieceSize {
		return fmt.Errorf("a piece of %d bytes", n)
	}
	a.mu.Lock()
	p := a.put
	a.mu.Unlock()
	if p == nil {
		_, err := io.CopyN(io.Discard, in, int64(n))
		return err
	}
	data := make([]byte, n)
	if _, err := io.ReadFull(in, data); err != nil {
		return err
	}
	if p.err == nil {
		p.sum.Write(data)
		_, p.err = p.f.Write(data)
	}
	p.got += int64(n)
	if p.got-p.told >= 1<<20 || p.got >= p.order.Size {
		p.told = p.got
		a.out.put(message{Put: p.got})
	}
	if p.got >= p.order.Size {
		a.mu.Lock()
		a.put = nil
		a.mu.Unlock()
		close(p.whole)
	}
	return nil
}

func validSum(s string) bool {
	raw, err := hex.DecodeString(s)
	return err == nil && len(raw) == sha256.Size
}

func (p *putting) finish() error {
	if err := errors.Join(p.err, p.f.Sync(), p.f.Close()); err != nil {
		return err
	}
	if got := hex.EncodeToString(p.sum.Sum(nil)); got != p.order.SHA256 || p.got != p.order.Size {
		return problem.New("try again; if it fails again, check the network and the memory of both nodes",
			"the snapshot was altered on its way: sha256 %.12s… arrived, %.12s… was sent", got, p.order.SHA256)
	}
	if err := os.Rename(p.f.Name(), p.path); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(p.path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// dropPut removes what has arrived of a snapshot when its conductor is gone.
func (a *agent) dropPut() {
	a.mu.Lock()
	p := a.put
	a.mu.Unlock()
	if p != nil {
		_ = p.f.Close()
		_ = os.Remove(p.f.Name())
	}
}

// drop removes a snapshot that was put: what is in it is in etcd now.
func (a *agent) drop(ctx context.Context, o putOrder) error {
	path, err := a.node.Place(o.SHA256)
	if err != nil || !sameFile(ctx, path, o, a.busyEvery(time.Second)) {
		return err
	}
	return os.Remove(path)
}

// sameFile says whether a file is what an order is about: nobody else's, and
// no link.
func sameFile(ctx context.Context, path string, o putOrder, busy func()) bool {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Size() != o.Size || info.Mode().Perm()&0o022 != 0 {
		return false
	}
	if s, ok := info.Sys().(*syscall.Stat_t); ok && int(s.Uid) != os.Geteuid() {
		return false
	}
	sum := sha256.New()
	buf := make([]byte, 1<<20)
	for ctx.Err() == nil {
		n, err := f.Read(buf)
		busy()
		sum.Write(buf[:n])
		if errors.Is(err, io.EOF) {
			return hex.EncodeToString(sum.Sum(nil)) == o.SHA256
		}
		if err != nil {
			return false
		}
	}
	return false
}
