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
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/klauspost/compress/zstd"

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

	in, out []byte // a piece, and what it is
	unzip   *zstd.Decoder
}

// receive takes a snapshot in, or what is missing of it, or finds that it is
// there from an earlier try.
func (a *agent) receive(ctx context.Context, o putOrder) (*putReply, error) {
	path, err := a.node.Place(o.SHA256)
	if err != nil {
		return nil, err
	}
	busy := a.busyEvery(time.Second)
	if sameFile(ctx, path, o, busy) {
		return &putReply{Path: path, Have: true}, nil
	}
	p := &putting{order: o, path: path, sum: sha256.New(), whole: make(chan struct{})}
	if p.unzip, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(pieceSize)); err != nil {
		return nil, err
	}
	removeOthers(path, o.SHA256)
	if p.f, err = openPart(ctx, path+partly, busy); err != nil {
		return nil, err
	}
	defer func() { _ = p.f.Close() }()
	if err := p.takeUp(ctx, busy); err != nil {
		return nil, err
	}
	dir := filepath.Dir(path)
	if d, err := node.DiskOf(dir); err == nil && d.FreeBytes < uint64(o.Size-p.got) {
		return nil, problem.New("free space there", "%s of the snapshot are to come, %s has %s left", steps.Bytes(o.Size-p.got), dir, steps.Bytes(int64(d.FreeBytes)))
	}
	if p.got < o.Size {
		if err := a.missing(ctx, p); err != nil {
			return nil, err
		}
	}
	if err := p.finish(); err != nil {
		return nil, errors.Join(err, os.Remove(p.f.Name()))
	}
	return &putReply{Path: path}, nil
}

// missing has the conductor send the rest. What has arrived stays when that is
// gone: it continues there.
func (a *agent) missing(ctx context.Context, p *putting) error {
	a.mu.Lock()
	a.put = p
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		a.put = nil
		a.mu.Unlock()
	}()
	a.out.put(message{Send: &wanted{From: p.got, SHA256: hex.EncodeToString(p.sum.Sum(nil))}})
	select {
	case <-p.whole:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// partly ends the name of a snapshot that is not there in whole.
const partly = ".part"

// removeOthers removes what has arrived of other snapshots, and that nobody sends
// any more: its rest won't come.
func removeOthers(path, sha256 string) {
	dir, base := filepath.Split(path)
	before, after, found := strings.Cut(base, sha256[:16])
	files, err := os.ReadDir(dir)
	if !found || err != nil {
		return
	}
	for _, e := range files {
		rest, is := strings.CutPrefix(e.Name(), before)
		sum, is2 := strings.CutSuffix(rest, after+partly)
		if raw, err := hex.DecodeString(sum); !is || !is2 || err != nil || len(raw) != 8 || sum == sha256[:16] {
			continue
		}
		f, err := os.OpenFile(filepath.Join(dir, e.Name()), os.O_RDWR|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
		if err != nil {
			continue
		}
		if info, err := f.Stat(); err == nil && ours(info, 0o077) && syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			_ = os.Remove(f.Name())
		}
		_ = f.Close()
	}
}

// openPart opens what has arrived of a snapshot, or an empty file. An agent whose
// connection was cut may still have it: that one is waited for.
func openPart(ctx context.Context, path string, busy func()) (*os.File, error) {
	for begun := time.Now(); time.Since(begun) < 2*silence; sleep(ctx, 20*time.Millisecond) {
		busy()
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
		if errors.Is(err, syscall.ELOOP) { // a link is not what this program has left
			err = os.Remove(path)
		}
		if err != nil {
			return nil, err
		}
		if f == nil {
			continue
		}
		is, err := f.Stat()
		switch {
		case err != nil:
		case !ours(is, 0o077):
			err = os.Remove(path)
		case syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil:
			// The agent before may have finished or removed it.
			if now, gone := os.Lstat(path); gone == nil && os.SameFile(now, is) {
				return f, nil
			}
		}
		_ = f.Close()
		if err != nil {
			return nil, err
		}
	}
	return nil, problem.New("wait for it, or stop it", "another session sends this snapshot there")
}

// ours says whether a file is a regular one of this user's that nobody else has
// the given permissions for.
func ours(info fs.FileInfo, but fs.FileMode) bool {
	s, ok := info.Sys().(*syscall.Stat_t)
	return ok && info.Mode().IsRegular() && int(s.Uid) == os.Geteuid() && info.Mode().Perm()&but == 0
}

// takeUp reads what has arrived before, in whole pieces.
func (p *putting) takeUp(ctx context.Context, busy func()) error {
	size, err := p.f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	switch {
	case size > p.order.Size: // it is not what was ordered
		size = 0
	case size < p.order.Size:
		size -= size % pieceSize
	}
	buf := make([]byte, pieceSize)
	for p.got < size {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := p.f.ReadAt(buf[:min(size-p.got, pieceSize)], p.got)
		if err != nil {
			return err
		}
		p.sum.Write(buf[:n])
		p.got += int64(n)
		busy()
	}
	if p.got == p.order.Size && hex.EncodeToString(p.sum.Sum(nil)) != p.order.SHA256 {
		return p.reset()
	}
	p.told = p.got
	_, err = p.f.Seek(p.got, io.SeekStart)
	return errors.Join(err, p.f.Truncate(p.got))
}

// reset forgets what has arrived.
func (p *putting) reset() error {
	p.got, p.told = 0, 0
	p.sum.Reset()
	_, err := p.f.Seek(0, io.SeekStart)
	return errors.Join(err, p.f.Truncate(0))
}

// piece reads what follows a piece's line, whatever comes of it.
func (a *agent) piece(r request, in io.Reader) error {
	if r.Bytes <= 0 || r.Bytes > pieceSize || r.Plain < 0 || r.Plain > pieceSize {
		return fmt.Errorf("a piece of %d bytes, compressed from %d", r.Bytes, r.Plain)
	}
	a.mu.Lock()
	p := a.put
	a.mu.Unlock()
	if p == nil {
		_, err := io.CopyN(io.Discard, in, int64(r.Bytes))
		return err
	}
	p.in = slices.Grow(p.in[:0], r.Bytes)[:r.Bytes]
	if _, err := io.ReadFull(in, p.in); err != nil {
		return err
	}
	n, err := p.take(r)
	if err != nil {
		return err
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

// take adds a piece. The error is for one that can't be, or isn't, the next.
func (p *putting) take(r request) (n int, err error) {
	data := p.in
	if r.Plain > 0 {
		if p.out, err = p.unzip.DecodeAll(data, p.out[:0]); err == nil && len(p.out) != r.Plain {
			err = fmt.Errorf("%d bytes", len(p.out))
		}
		if err != nil {
			return 0, fmt.Errorf("a piece of %d bytes, compressed: %w", r.Plain, err)
		}
		data = p.out
	}
	if r.At == 0 && p.got > 0 { // something else than this snapshot had arrived
		p.err = errors.Join(p.err, p.reset())
	}
	if r.At != p.got || p.got+int64(len(data)) > p.order.Size {
		return 0, fmt.Errorf("a piece of %d bytes at %d, after %d of %d", len(data), r.At, p.got, p.order.Size)
	}
	if p.err == nil {
		p.sum.Write(data)
		_, p.err = p.f.Write(data)
	}
	return len(data), nil
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
	if err != nil || info.Size() != o.Size || !ours(info, 0o022) {
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
