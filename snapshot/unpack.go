package snapshot

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"etcd-rewind/problem"
	"etcd-rewind/trust"
)

// Format is how a snapshot file is packed, by its content.
type Format string

// The formats that Unpack knows.
const (
	Raw     Format = "raw" // as etcdctl writes it
	Gzip    Format = "gzip"
	Zstd    Format = "zstd"
	Tar     Format = "tar"
	TarGzip Format = "tar.gz"
	TarZstd Format = "tar.zst"
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

// maxRatio is how far a file may expand: gzip can't do more than 1032 to 1, and
// no database that etcd wrote needs as much.
const maxRatio = 2000

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

// openRegular never waits for a pipe, and refuses what isn't a regular file.
func openRegular(path string) (*os.File, os.FileInfo, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, nil, openProblem(path, err)
	}
	if p := kindProblem(path, st); p != nil {
		return nil, nil, p
	}
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, openProblem(path, err)
	}
	if st, err = f.Stat(); err == nil {
		if p := kindProblem(path, st); p != nil {
			_ = f.Close()
			return nil, nil, p
		}
		return f, st, nil
	}
	_ = f.Close()
	return nil, nil, openProblem(path, err)
}

// packed is an opened file.
type packed struct {
	format Format
	r      io.Reader   // what is inside the compression
	tar    *tar.Reader // the same, when that is an archive
	close  func()
	inside *bounded // below r, of what is compressed
}

// bounded counts what comes out of a decompressor, and ends it: a few bytes can
// be made to expand without end.
type bounded struct {
	r           io.Reader
	read, limit int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.read >= b.limit {
		return 0, problem.Coded(CodeStructure, useAnother, "not a snapshot: what is compressed in it expands to more than %d MB", b.limit/1e6)
	}
	n, err := b.r.Read(p[:min(int64(len(p)), b.limit-b.read)])
	b.read += int64(n)
	return n, err
}

// maxWindow is what zstd --ultra and --long=27 ask for at most.
const maxWindow = 128 << 20

// unwrap opens a file that may be compressed. No more than limit bytes come out
// of it; workers is for zstd.
func unwrap(r *bufio.Reader, limit int64, workers int) (*packed, error) {
	p := &packed{format: Raw, r: r, close: func() {}}
	magic, err := r.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, openProblem("", err)
	}
	switch {
	case bytes.HasPrefix(magic, []byte("\x1f\x8b")):
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, unpackProblem(Gzip, err)
		}
		p.format, p.inside = Gzip, &bounded{r: z, limit: limit}
	case bytes.HasPrefix(magic, []byte("\x28\xb5\x2f\xfd")):
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(workers), zstd.WithDecoderLowmem(workers == 1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, unpackProblem(Zstd, err)
		}
		p.format, p.inside, p.close = Zstd, &bounded{r: z, limit: limit}, z.Close
	}
	if p.inside != nil {
		p.r = p.inside
	}
	in, ok := p.r.(*bufio.Reader)
	if !ok {
		in = bufio.NewReaderSize(p.r, 64<<10)
		p.r = in
	}
	head, err := in.Peek(512)
	if err != nil && !errors.Is(err, io.EOF) {
		p.close()
		return nil, unpackProblem(p.format, err)
	}
	if len(head) == 512 && string(head[257:262]) == "ustar" {
		p.format = map[Format]Format{Raw: Tar, Gzip: TarGzip, Zstd: TarZstd}[p.format]
		p.tar = tar.NewReader(in)
	}
	return p, nil
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

func unpackProblem(format Format, err error) error {
	if err == nil || problem.Of(err) != nil {
		return err
	}
	name, _, _ := strings.Cut(string(format), ".")
	if name == "tar" {
		name = string(format)
	}
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return problem.Coded(CodeTruncated, useAnother, "truncated: its %s data ends in the middle", name)
	case errors.Is(err, gzip.ErrChecksum), errors.Is(err, zstd.ErrCRCMismatch):
		return problem.Coded(CodeDamagedHash, useAnother, "damaged: the checksum of its %s data doesn't fit", name)
	case errors.Is(err, zstd.ErrWindowSizeExceeded), errors.Is(err, zstd.ErrDecoderSizeExceeded):
		return problem.Coded(CodeCompressed, "decompress it first: zstd -d --long=31 FILE", "compressed with a window of more than %d MB", maxWindow>>20)
	}
	return problem.Coded(CodeStructure, useAnother, "damaged: its %s data can't be read: %v", name, err)
}

func freeBytes(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("%s: %w", dir, err)
	}
	return int64(st.Bavail) * int64(st.Bsize), nil
}

// counter tells how much of a file has been read, and stops when ctx ends.
type counter struct {
	ctx         context.Context
	r           io.Reader
	done, total int64
	tell        func(done, total int64)
	when        time.Time
}

func (c *counter) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	n, err := c.r.Read(p)
	c.done += int64(n)
	if c.tell != nil && (c.done == c.total || time.Since(c.when) > 100*time.Millisecond) {
		c.when = time.Now()
		c.tell(c.done, c.total)
	}
	return n, err
}

// QuickPacked is Quick for a file that may be packed: it decompresses the first
// pages only. Size is that of the file, TotalSize what the pages inside say.
func QuickPacked(path string) (*Info, Format, error) {
	info, err := Quick(path)
	if p := problem.Of(err); p == nil || p.Code != CodeCompressed {
		return info, Raw, err
	}
	f, st, oerr := openRegular(path)
	if oerr != nil {
		return nil, Raw, oerr
	}
	defer f.Close()
	p, uerr := unwrap(bufio.NewReaderSize(io.LimitReader(f, maxPeek), 64<<10), maxInside, 1)
	if uerr != nil {
		return nil, Gzip, uerr // or zstd: packed, whatever it is
	}
	defer p.close()
	if p.format == Raw {
		return nil, Raw, err // xz and others: Quick's hint tells
	}
	in := p.r
	if p.tar != nil {
		if in = firstSnapshot(p.tar); in == nil {
			return nil, p.format, problem.Coded(CodeNotBolt, "name the file that holds the snapshot", "no snapshot is at the beginning of the archive")
		}
	}
	head := make([]byte, headSize)
	n, rerr := io.ReadFull(in, head)
	metas, _ := readMetas(bytes.NewReader(head[:n]))
	if len(metas) == 0 {
		if rerr != nil && !errors.Is(rerr, io.EOF) && !errors.Is(rerr, io.ErrUnexpectedEOF) {
			return nil, p.format, unpackProblem(p.format, rerr)
		}
		return nil, p.format, problem.Coded(CodeNotBolt, "a snapshot is what etcdctl snapshot save writes", "what is compressed in it isn't a snapshot")
	}
	info = &Info{Path: path, Size: st.Size(), ModTime: st.ModTime(), Hash: HashUnchecked}
	for _, m := range metas {
		info.TotalSize = max(info.TotalSize, m.size())
	}
	return info, p.format, nil
}

// QuickPacked reads at most maxPeek of a packed file, and maxInside of what is
// in it: an archive may have a few small files before the snapshot.
const (
	maxPeek   = 1 << 20
	maxInside = 16 << 20
)

func firstSnapshot(t *tar.Reader) io.Reader {
	for {
		h, err := t.Next()
		if err != nil {
			return nil
		}
		if h.Typeflag == tar.TypeReg && h.Size > sha256.Size {
			in := bufio.NewReaderSize(t, headSize)
			head, _ := in.Peek(headSize)
			if metas, _ := readMetas(bytes.NewReader(head)); len(metas) > 0 {
				return in
			}
		}
	}
}
