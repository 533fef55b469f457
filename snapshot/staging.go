package snapshot

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"etcd-rewind/problem"
	"etcd-rewind/trust"
)

// Unpacked is a snapshot file as it can be read and restored.
type Unpacked struct {
	Path   string `json:"path"`             // of the file to read: the one given, or a staging file
	From   string `json:"from"`             // the one given
	Format Format `json:"format"`           // of the one given
	Inside string `json:"inside,omitempty"` // the snapshot's name in a tar
	Size   int64  `json:"size"`             // of the file to read, bytes

	most int64    // bytes that it can have in it
	lock *os.File // holds the lock that tells RemoveStale to leave it
}

// Remove removes the staging file, never the file that was given. It is safe
// to call twice and on nil.
func (u *Unpacked) Remove() error {
	if u == nil || u.Path == u.From {
		return nil
	}
	if err := os.Remove(u.Path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if u.lock != nil {
		_ = u.lock.Close()
	}
	return nil
}

const unpackedPrefix = ".etcd-rewind-unpacked-"

// newUnpacked makes a staging file. Its lock, which ends with this process
// however that ends, is shared: those who read the file take one too.
func newUnpacked(dir string) (*os.File, error) {
	for range 10 {
		f, err := os.CreateTemp(dir, unpackedPrefix+"*") // mode 0600
		if err != nil {
			return nil, err
		}
		// Where there are no locks RemoveStale can't take one either.
		err = unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) && isAt(f, f.Name()) {
			return f, nil
		}
		_ = f.Close() // RemoveStale of another process was there first
	}
	return nil, fmt.Errorf("cannot keep a file in %s: it is removed again and again", dir)
}

func isAt(f *os.File, path string) bool {
	is, err := f.Stat()
	if err != nil {
		return false
	}
	at, err := os.Lstat(path)
	return err == nil && os.SameFile(is, at)
}

// RemoveStale removes the staging files that killed processes have left in
// dir: those whose lock nobody holds. It leaves those named in keep. A
// directory that isn't there holds none. It is safe to call at any time, also
// while other processes unpack there.
func RemoveStale(dir string, keep ...string) error {
	all, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range all {
		path := filepath.Join(dir, e.Name())
		if strings.HasPrefix(e.Name(), unpackedPrefix) && !slices.Contains(keep, path) {
			errs = append(errs, removeStale(path))
		}
	}
	return errors.Join(errs...)
}

func removeStale(path string) error {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, unix.ELOOP):
		return nil
	case err != nil:
		return err
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	switch {
	case errors.Is(err, unix.EWOULDBLOCK):
		return nil // somebody has it
	case err != nil:
		return err
	case !isAt(f, path):
		return nil
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// Bounds of what is written: a file system keeps this much, and no file is
// longer than its own meta pages say by more than this (a copied data file is
// somewhat longer: etcd allocates ahead).
const (
	keepFree  = 256 << 20
	aheadOnly = 64 << 20
)

// headSize is enough for both meta pages of every page size but the largest.
const headSize = 128 << 10

// Unpack decompresses a snapshot into a new file in dir, mode 0600, which the
// caller removes with Remove. A file that isn't packed is left where it is.
// Nothing is written before its first pages are a snapshot's, and never so
// much that the file system fills up. progress may be nil; it is told bytes
// of the packed file. An error for a bad file is a *problem.Problem; nothing is left
// behind then.
func Unpack(ctx context.Context, path, dir string, progress func(done, total int64)) (*Unpacked, error) {
	f, st, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	whole := &counter{ctx: ctx, r: f, total: st.Size(), tell: progress}
	limit := maxRatio*min(st.Size(), math.MaxInt64/maxRatio/2) + aheadOnly
	p, err := unwrap(bufio.NewReaderSize(whole, 1<<20), limit, 2)
	if err != nil {
		return nil, err
	}
	if p.format == Raw {
		return &Unpacked{Path: path, From: path, Format: Raw, Size: st.Size()}, nil
	}
	defer p.close()
	u := &Unpacked{From: path, Format: p.format, most: limit}
	if p.tar == nil {
		err = u.write(dir, p.r)
	} else {
		err = u.writeMember(dir, p.tar)
	}
	switch {
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case err == nil && u.Path == "":
		err = problem.Coded(CodeNotBolt, "name the file that holds the snapshot", "there is no snapshot in the archive")
	case err == nil && p.tar != nil:
		// To the end: the checksum of what was read is there.
		_, err = io.Copy(io.Discard, p.r)
		err = unpackProblem(p.format, err)
	}
	if err != nil {
		if u.Path != "" {
			_ = u.Remove()
		}
		return nil, err
	}
	return u, nil
}

// writeMember writes the one snapshot of an archive.
func (u *Unpacked) writeMember(dir string, t *tar.Reader) error {
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return unpackProblem(u.Format, err)
		}
		if h.Typeflag != tar.TypeReg || h.Size == 0 {
			continue
		}
		in := bufio.NewReaderSize(t, headSize)
		head, err := in.Peek(headSize)
		if err != nil && !errors.Is(err, io.EOF) {
			return unpackProblem(u.Format, err)
		}
		if metas, _ := readMetas(bytes.NewReader(head)); len(metas) == 0 {
			continue
		}
		name := trust.Clip(path.Clean(strings.ToValidUTF8(h.Name, "?")), maxName)
		if u.Path != "" {
			return problem.Coded(CodeCompressed, "unpack it, and name one of them", "there are several snapshots in the archive: %s and %s", u.Inside, name)
		}
		u.Inside = name
		if err := u.write(dir, in); err != nil {
			return err
		}
	}
}

// write writes the staging file. Its length is bounded by what its first pages
// say, and by the space there is.
func (u *Unpacked) write(dir string, r io.Reader) error {
	in := bufio.NewReaderSize(r, headSize)
	head, err := in.Peek(headSize)
	if err != nil && !errors.Is(err, io.EOF) {
		return unpackProblem(u.Format, err)
	}
	metas, _ := readMetas(bytes.NewReader(head))
	if len(metas) == 0 {
		p := foreignProblem(bytes.NewReader(head))
		if len(head) == 0 {
			p = problem.Coded(CodeEmpty, "take another snapshot; this one was never written, or the disk was full", "the file is empty")
		}
		return problem.Coded(p.Code, p.Hint, "what is compressed in it: %s", p.Cause)
	}
	var need int64
	for _, m := range metas {
		need = max(need, m.size())
	}
	if u.Format != Tar && need > u.most {
		return problem.Coded(CodeStructure, useAnother, "what is compressed in it says that it has %d MB: that doesn't fit into a file of this size", need/1e6)
	}
	free, err := freeBytes(dir)
	if err != nil {
		return targetProblem(err)
	}
	if need+keepFree > free {
		return problem.Coded(CodeNoSpace, "free some space there, or unpack it on another disk",
			"unpacking it needs %d MB in %s, %d MB are free", (need+keepFree)/1e6, dir, free/1e6)
	}
	f, err := newUnpacked(dir)
	if err != nil {
		return targetProblem(err)
	}
	u.Path, u.lock = f.Name(), f
	u.Size, err = copyBounded(f, in, need+aheadOnly, u.Format)
	return err
}

func copyBounded(f *os.File, r io.Reader, limit int64, format Format) (int64, error) {
	buf := make([]byte, 1<<20)
	var done, looked int64
	for {
		n, err := r.Read(buf)
		if done += int64(n); done > limit {
			return done, problem.Coded(CodeStructure, useAnother, "what is compressed in it is longer than its own pages say")
		}
		if done-looked >= 32<<20 {
			looked = done
			if free, err := freeBytes(filepath.Dir(f.Name())); err == nil && free < keepFree/2 {
				return done, problem.Coded(CodeNoSpace, "free some space there, or unpack it on another disk", "unpacking it fills %s up", filepath.Dir(f.Name()))
			}
		}
		if _, werr := f.Write(buf[:n]); werr != nil {
			return done, targetProblem(werr)
		}
		if errors.Is(err, io.EOF) {
			return done, nil
		}
		if err != nil {
			return done, unpackProblem(format, err)
		}
	}
}

func freeBytes(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("%s: %w", dir, err)
	}
	return int64(st.Bavail) * int64(st.Bsize), nil
}
