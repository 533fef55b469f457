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
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"etcd-rewind/problem"
	"etcd-rewind/trust"
)

// Staged is a snapshot as it can be read and restored: in a file on this node,
// and not packed.
type Staged struct {
	Path   string `json:"path"`                // of the file to read: the source's own, or a staging file
	Name   string `json:"from"`                // of the source
	Format Format `json:"format"`              // of what the source has
	Age    bool   `json:"encrypted,omitempty"` // what the source has is encrypted
	Inside string `json:"inside,omitempty"`    // the snapshot's name in a tar
	Size   int64  `json:"size"`                // of the file to read, bytes

	// Doubt is the source's.
	Doubt *problem.Problem `json:"-"`

	// Took is how long it took to fetch, decrypt and decompress.
	Took time.Duration `json:"-"`

	modTime time.Time // of what the source has
	most    int64     // bytes that it can have in it
	mu      sync.Mutex
	lock    *os.File // of a staging file: holds the lock by which RemoveStale leaves it
	// What was written into a staging file: all of a snapshot, or the content of one,
	// without its trailer, that has this sha256. And the file as it was then.
	sum     *trailed
	content string
	written os.FileInfo
}

// Remove removes the staging file, never a file of the user's. It is safe to
// call twice and on nil.
func (s *Staged) Remove() error {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lock == nil {
		return nil
	}
	if err := os.Remove(s.Path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	_ = s.lock.Close()
	s.lock = nil
	return nil
}

// Copied says whether Path is a staging file.
func (s *Staged) Copied() bool { return s.written != nil }

// Inspect is Inspect of the file, which it reports under the source's name and
// time. A staging file was hashed while it was written, and isn't hashed again.
func (s *Staged) Inspect(ctx context.Context, progress func(done, total int64)) (*Info, error) {
	s.mu.Lock()
	known := s.sum != nil && s.untouched()
	s.mu.Unlock()
	look := Inspect
	if known {
		look = s.inspectHashed
	}
	info, err := look(ctx, s.Path, progress)
	if err != nil {
		return nil, err
	}
	info.Name, info.Doubt = s.Name, s.Doubt
	if s.sum != nil {
		info.ModTime, info.Packed = s.modTime, s
	}
	return info, nil
}

// inspectHashed is Inspect of a staging file that is as it was written.
func (s *Staged) inspectHashed(ctx context.Context, path string, progress func(done, total int64)) (*Info, error) {
	defer reads(path)()
	proven, err := Quick(path)
	if err == nil {
		err = s.sum.prove(proven)
	}
	if err != nil {
		return nil, err
	}
	info, err := inspect(ctx, inspectRequest{Path: path, Hashed: true}, progress)
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil:
		return nil, err
	}
	info.Hash, info.SHA256, info.Path = proven.Hash, proven.SHA256, path
	return info, nil
}

// untouched says whether it is a staging file that is there, as it was written. mu
// is held.
func (s *Staged) untouched() bool {
	if s.lock == nil || s.written == nil {
		return false
	}
	now, err := os.Lstat(s.Path)
	return err == nil && os.SameFile(now, s.written) && now.Size() == s.written.Size() && now.ModTime().Equal(s.written.ModTime())
}

// Restore is Restore of the file, Snapshot in the request. A staging file that was
// inspected, and that nobody else reads, becomes the database: no second copy of it
// is written. Then it isn't there any more, whether the restore succeeds or not. s
// may be nil.
func (s *Staged) Restore(ctx context.Context, req RestoreRequest, progress func(Progress)) (*Restored, error) {
	return restore(ctx, req, s, progress)
}

// becomes makes a staging file, which has what was inspected, the file to: it is
// no longer the caller's then. It doesn't when somebody reads it, or when it would
// have to be copied.
func (s *Staged) becomes(to, sha256 string) bool {
	if s == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.untouched() {
		return false
	}
	has := s.content
	if has == "" {
		info, err := Quick(s.Path)
		if err != nil || s.sum.prove(info) != nil {
			return false
		}
		has = info.SHA256
	}
	if has != sha256 {
		return false
	}
	if unix.Flock(int(s.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil || os.Rename(s.Path, to) != nil {
		_ = unix.Flock(int(s.lock.Fd()), unix.LOCK_SH|unix.LOCK_NB) // as before
		return false
	}
	_ = s.lock.Close()
	s.lock = nil
	return true
}

const unpackedPrefix = ".etcd-rewind-unpacked-"

// IsStaging says whether a path is one of a staging file, which may be gone.
func IsStaging(path string) bool { return strings.HasPrefix(filepath.Base(path), unpackedPrefix) }

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

// reads keeps a staging file as it is until release is called. Any other file is
// left alone.
func reads(path string) (release func()) {
	if !IsStaging(path) {
		return func() {}
	}
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return func() {} // for who reads it to explain
	}
	_ = unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB)
	return func() { _ = f.Close() }
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

// Stage makes a file of a snapshot that isn't one yet: it decrypts and
// decompresses, in one pass, what is packed into a new file in dir, mode 0600, which the caller removes with
// Remove. A file that isn't packed is left where it is. Nothing is written
// before its first pages are a snapshot's, and never so much that the file
// system fills up. progress may be nil; it gets bytes of what is stored. A
// source that doesn't open within 30 s, or sends nothing for a minute, is given
// up. An error for a bad source is a *problem.Problem; nothing is left behind then.
func Stage(ctx context.Context, src Source, dir string, progress func(done, total int64)) (*Staged, error) {
	begun := time.Now()
	s, err := stage(ctx, src, dir, progress, sourceIdle)
	if s != nil {
		s.Took, s.Doubt = time.Since(begun), src.Doubt
	}
	return s, err
}

func stage(ctx context.Context, src Source, dir string, progress func(done, total int64), idle time.Duration) (*Staged, error) {
	with, cancel := context.WithCancel(ctx)
	defer cancel()
	st, err := src.open(with, openLimit)
	if err != nil {
		return nil, err
	}
	in := newSteady(ctx, st, idle)
	defer in.close()
	whole := &counter{r: in, total: st.Size, tell: progress}
	limit := maxRatio*min(st.Size, math.MaxInt64/maxRatio/2) + aheadOnly
	p, err := unwrap(bufio.NewReaderSize(whole, 1<<20), limit, 2, src.Identities)
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil:
		return nil, err
	}
	if p.format == Raw && !p.age && st.Path != "" {
		return &Staged{Path: st.Path, Name: src.Name, Format: Raw, Size: st.Size, modTime: st.ModTime}, nil
	}
	defer p.close()
	s := &Staged{Name: src.Name, Format: p.format, Age: p.age, modTime: st.ModTime, most: limit}
	if p.tar == nil {
		err = s.write(dir, p.r)
	} else {
		err = s.writeMember(dir, p.tar)
	}
	switch {
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case err == nil && s.Path == "":
		err = problem.Coded(CodeNotBolt, "name the file that contains the snapshot", "there is no snapshot in the archive")
	case err == nil && p.tar != nil:
		// To the end: the checksum of what was read is there.
		_, err = io.Copy(io.Discard, p.r)
		err = unpackProblem(p.format, err)
	}
	if err == nil && st.Path == "" {
		_, err = io.Copy(io.Discard, whole) // whether it was what was stored is known at its end
	}
	if err != nil {
		_ = s.Remove()
		return nil, err
	}
	return s, nil
}

// writeMember writes the one snapshot of an archive.
func (s *Staged) writeMember(dir string, t *tar.Reader) error {
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return unpackProblem(s.Format, err)
		}
		if h.Typeflag != tar.TypeReg || h.Size == 0 {
			continue
		}
		in := bufio.NewReaderSize(t, headSize)
		head, err := in.Peek(headSize)
		if err != nil && !errors.Is(err, io.EOF) {
			return unpackProblem(s.Format, err)
		}
		if metas, _ := readMetas(bytes.NewReader(head)); len(metas) == 0 {
			continue
		}
		name := trust.Clip(path.Clean(strings.ToValidUTF8(h.Name, "?")), maxName)
		if s.Path != "" {
			return problem.Coded(CodeCompressed, "unpack it, and name one of them", "there are several snapshots in the archive: %s and %s", s.Inside, name)
		}
		s.Inside = name
		if err := s.write(dir, in); err != nil {
			return err
		}
	}
}

// write writes the staging file. Its length is bounded by what its first pages
// say, and by the space there is.
func (s *Staged) write(dir string, r io.Reader) error {
	in := bufio.NewReaderSize(r, headSize)
	head, err := in.Peek(headSize)
	if err != nil && !errors.Is(err, io.EOF) {
		return unpackProblem(s.Format, err)
	}
	metas, _ := readMetas(bytes.NewReader(head))
	if len(metas) == 0 {
		p := foreignProblem(bytes.NewReader(head))
		if len(head) == 0 {
			p = problem.Coded(CodeEmpty, "take another snapshot; this one was never written, or the disk was full", "the file is empty")
		}
		return problem.Coded(p.Code, p.Hint, "its content: %s", p.Cause)
	}
	var need int64
	for _, m := range metas {
		need = max(need, m.size())
	}
	if s.Format != Tar && need > s.most {
		return problem.Coded(CodeStructure, useAnother, "its content claims a size of %d MB: too much for a file of this size", need/1e6)
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
	s.Path, s.lock = f.Name(), f
	if err := allocate(f, need); err != nil {
		return targetProblem(err)
	}
	s.sum = newTrailed()
	w := startWriting(f, s.sum)
	s.Size, err = copyBounded(w, in, need+aheadOnly, s.Format)
	if werr := w.close(); werr != nil {
		return targetProblem(werr)
	}
	if err != nil {
		return err
	}
	err = f.Truncate(s.Size) // it may have less than its pages say
	if err == nil {
		s.written, err = f.Stat()
	}
	if err != nil {
		return targetProblem(err)
	}
	return nil
}

// copyBounded gives w what it reads, and returns how many bytes that was. It ends
// when w can't write any more: w says why.
func copyBounded(w *writing, r io.Reader, limit int64, format Format) (int64, error) {
	dir := filepath.Dir(w.f.Name())
	var done, looked int64
	for {
		var buf []byte
		select {
		case buf = <-w.free:
		case <-w.failed:
			return done, nil
		}
		p := piece{buf[:0], done}
		var err error
		for err == nil && len(p.data) < len(buf) {
			var n int
			n, err = r.Read(buf[len(p.data):])
			p.data = buf[:len(p.data)+n]
		}
		if done += int64(len(p.data)); done > limit {
			return done, problem.Coded(CodeStructure, useAnother, "its content is longer than its own pages claim")
		}
		if done-looked >= 32<<20 {
			looked = done
			if free, err := freeBytes(dir); err == nil && free < keepFree/2 {
				return done, problem.Coded(CodeNoSpace, "free some space there, or unpack it on another disk", "unpacking it fills %s", dir)
			}
		}
		if len(p.data) > 0 {
			w.full <- p
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
