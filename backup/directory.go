package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"etcd-rewind/defect"
	"etcd-rewind/problem"
)

// Directory is a store in a directory of this node, also one that is mounted
// there. Files are mode 0600, directories that it makes 0700. No symbolic link
// in it leads it elsewhere.
type Directory struct {
	Path string
	// Mounted says that it has to be a mount: without it backups would fill up
	// the disk below.
	Mounted bool
}

// Location is its file:// URL.
func (d *Directory) Location() string {
	if d.Mounted {
		return "file://" + d.Path + "?mounted=true"
	}
	return "file://" + d.Path
}

// open opens the directory; the caller closes it.
func (d *Directory) open() (*os.Root, error) {
	root, err := os.OpenRoot(d.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, problem.New("create it first, or check the path", "there is no such directory")
	}
	if err != nil {
		return nil, err
	}
	if d.Mounted {
		here, err := root.Stat(".")
		if err == nil {
			var up os.FileInfo
			if up, err = os.Stat(filepath.Dir(d.Path)); err == nil && device(here) == device(up) {
				err = problem.New("mount it, or leave out mounted=true", "nothing is mounted there")
			}
		}
		if err != nil {
			_ = root.Close()
			return nil, err
		}
	}
	return root, nil
}

func device(st os.FileInfo) uint64 {
	if s, ok := st.Sys().(*syscall.Stat_t); ok {
		return uint64(s.Dev)
	}
	return 0
}

// inside does something in the directory.
func inside[T any](ctx context.Context, d *Directory, name string, f func(root *os.Root) (T, error)) (T, error) {
	var none T
	if err := CheckName(name); err != nil {
		return none, err
	}
	return defect.Await(ctx, func() (T, error) {
		root, err := d.open()
		if err != nil {
			return none, err
		}
		defer root.Close()
		return f(root)
	})
}

// Put writes beside the name, brings it to the disk, and gives it the name then.
func (d *Directory) Put(ctx context.Context, name string, content io.Reader, size int64) error {
	_, err := inside(ctx, d, name, func(root *os.Root) (none struct{}, err error) {
		if _, err := root.Lstat(name); err == nil {
			return none, &fs.PathError{Op: "put", Path: name, Err: fs.ErrExist}
		}
		var free unix.Statfs_t
		if err := unix.Statfs(d.Path, &free); err == nil && uint64(size) > free.Bavail*uint64(free.Bsize) {
			return none, problem.New("free some space there, or keep fewer backups",
				"there is not enough space: %d MB are needed, %d MB are free", size/1e6, free.Bavail*uint64(free.Bsize)/1e6)
		}
		aside := aside(name)
		f, err := create(root, aside)
		if err != nil {
			return none, err
		}
		defer func() { _ = root.Remove(aside) }() // renamed, or not worth keeping
		err = fill(ctx, f, content, size)
		if cerr := f.Close(); err == nil {
			err = cerr
		}
		if err == nil && ctx.Err() != nil { // nobody waits for it any more
			err = context.Cause(ctx)
		}
		if err == nil {
			err = giveName(root, aside, name)
		}
		if err != nil {
			return none, err
		}
		return none, syncUp(root, path.Dir(name))
	})
	return err
}

// create makes a file, and the directories above it, which another node may remove
// just now: they are empty.
func create(root *os.Root, name string) (f *os.File, err error) {
	for range createTries {
		// One that was there when it was to be made, and isn't when that is looked at,
		// exists by the error.
		if err = root.MkdirAll(path.Dir(name), 0o700); errors.Is(err, fs.ErrExist) {
			continue
		}
		if err == nil {
			f, err = root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	return f, err
}

const createTries = 10

// removeEmpty removes a directory that has come to be empty, and those above it.
// Nothing else is ever removed by it. It says which one stays.
func removeEmpty(root *os.Root, dir string) string {
	for ; dir != "."; dir = path.Dir(dir) {
		up, err := root.Open(path.Dir(dir))
		if err == nil {
			err = unix.Unlinkat(int(up.Fd()), path.Base(dir), unix.AT_REMOVEDIR)
			_ = up.Close()
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	return dir
}

// fill writes exactly size bytes, and brings them to the disk.
func fill(ctx context.Context, f *os.File, content io.Reader, size int64) error {
	n, err := io.Copy(f, &bounded{ctx, io.LimitReader(content, size+1)})
	switch {
	case err != nil:
		return err
	case n != size:
		return fmt.Errorf("%d bytes were announced, %d arrived", size, n)
	}
	return f.Sync()
}

// bounded reads until its context ends.
type bounded struct {
	ctx context.Context
	r   io.Reader
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.ctx.Err() != nil {
		return 0, context.Cause(b.ctx)
	}
	return b.r.Read(p)
}

// giveName never replaces a file that came to have the name meanwhile. Where
// there are no hard links it looks, which is nearly as good.
func giveName(root *os.Root, aside, name string) error {
	err := root.Link(aside, name)
	for _, no := range []error{syscall.EPERM, syscall.ENOTSUP, syscall.ENOSYS, syscall.EMLINK} {
		if errors.Is(err, no) {
			if _, err := root.Lstat(name); err == nil {
				return &fs.PathError{Op: "put", Path: name, Err: fs.ErrExist}
			}
			return root.Rename(aside, name)
		}
	}
	return err
}

// syncUp brings a directory's entries to the disk, and those above it, which may
// be new.
func syncUp(root *os.Root, dir string) error {
	for {
		f, err := root.Open(dir)
		if err == nil {
			err = f.Sync()
			_ = f.Close()
		}
		switch {
		case err == nil, errors.Is(err, syscall.EINVAL), errors.Is(err, syscall.ENOTSUP): // not every mount can
		case errors.Is(err, fs.ErrNotExist) && dir != ".": // removed meanwhile
		default:
			return err
		}
		if dir == "." {
			return nil
		}
		dir = path.Dir(dir)
	}
}

// Sweep throws away what uploads have left unfinished.
func (d *Directory) Sweep(ctx context.Context, prefix string, dead func(Unfinished) bool) error {
	_, err := defect.Await(ctx, func() (none struct{}, err error) {
		root, err := d.open()
		if err != nil {
			return none, err
		}
		defer root.Close()
		return none, walk(ctx, root, ".", prefix, deadUploads(prefix, dead, keeper{
			clock: func(dir string) (time.Time, error) { return clock(root, dir) },
			remove: func(name string) error {
				err := root.Remove(name)
				removeEmpty(root, path.Dir(name))
				return err
			},
			removeEmpty: func(dir string) error {
				removeEmpty(root, dir)
				return nil
			},
		}))
	})
	return err
}

// clock is the time of whoever keeps a directory, which may be another host.
func clock(root *os.Root, dir string) (now time.Time, err error) {
	name := aside(path.Join(dir, clockName))
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return now, err
	}
	defer func() { _ = root.Remove(name) }()
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return now, err
	}
	return st.ModTime(), nil
}

// Get opens a file. A read that hangs is left behind when ctx ends.
func (d *Directory) Get(ctx context.Context, name string) (io.ReadCloser, error) {
	f, err := inside(ctx, d, name, func(root *os.Root) (*os.File, error) {
		f, err := root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
		if err != nil {
			return nil, err
		}
		if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
			_ = f.Close()
			return nil, errors.Join(err, notAFile(name))
		}
		return f, nil
	})
	if err != nil {
		return nil, err
	}
	return &opened{ctx, f}, nil
}

func notAFile(name string) error { return fmt.Errorf("%s isn't a regular file", name) }

type opened struct {
	ctx context.Context
	f   *os.File
}

func (o *opened) Close() error { return o.f.Close() }

func (o *opened) Read(p []byte) (int, error) {
	buf := make([]byte, min(len(p), 1<<20)) // p is the caller's again when this returns
	n, err := defect.Await(o.ctx, func() (int, error) { return o.f.Read(buf) })
	return copy(p, buf[:n]), err
}

// Stat describes a file.
func (d *Directory) Stat(ctx context.Context, name string) (*Object, error) {
	return inside(ctx, d, name, func(root *os.Root) (*Object, error) {
		st, err := root.Lstat(name)
		if err != nil {
			return nil, err
		}
		if !st.Mode().IsRegular() {
			return nil, notAFile(name)
		}
		return &Object{name, st.Size(), st.ModTime()}, nil
	})
}

// List has the files below the directory; links, hidden files and those of other
// programs, by their names, are none.
func (d *Directory) List(ctx context.Context, prefix string) ([]Object, error) {
	return collect(ctx, d, prefix)
}

func (d *Directory) each(ctx context.Context, prefix string, f func(Object) error) error {
	_, err := defect.Await(ctx, func() (none struct{}, err error) {
		root, err := d.open()
		if err != nil {
			return none, err
		}
		defer root.Close()
		return none, walk(ctx, root, ".", prefix, wholeFiles(prefix, f))
	})
	return err
}

// walk goes through a directory's files, also hidden ones, a thousand entries at a
// time: there may be any number. Only directories where names may begin with
// prefix are read; one that is empty has a nil entry. Names bound how deep it gets.
func walk(ctx context.Context, root *os.Root, dir, prefix string, f func(dir string, e fs.DirEntry) error) error {
	at, err := root.Open(dir)
	if errors.Is(err, fs.ErrNotExist) && dir != "." {
		return nil // removed meanwhile
	}
	if err != nil {
		return err
	}
	defer at.Close()
	for empty := true; ; {
		signOfLife(ctx)
		entries, rerr := at.ReadDir(1000)
		empty = empty && len(entries) == 0
		for _, e := range entries {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			name := path.Join(dir, e.Name())
			switch {
			case e.IsDir():
				if CheckName(name) == nil && mayHold(name, prefix) {
					err = walk(ctx, root, name, prefix, f)
				}
			case e.Type().IsRegular():
				err = f(dir, e)
			}
			if err != nil {
				return err
			}
		}
		switch {
		case errors.Is(rerr, io.EOF) && empty:
			return f(dir, nil)
		case errors.Is(rerr, io.EOF), errors.Is(rerr, fs.ErrNotExist) && dir != ".": // removed meanwhile
			return nil
		case rerr != nil:
			return rerr
		}
	}
}

// mayHold says whether names in a directory may begin with prefix.
func mayHold(dir, prefix string) bool {
	return strings.HasPrefix(dir, prefix) || strings.HasPrefix(prefix, dir+"/")
}

// Delete deletes a file, and nothing that isn't one; its directory, too, when that
// is empty then: a listing reads all of them.
func (d *Directory) Delete(ctx context.Context, name string) error {
	_, err := inside(ctx, d, name, func(root *os.Root) (none struct{}, err error) {
		st, err := root.Lstat(name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			removeEmpty(root, path.Dir(name))
			return none, nil
		case err != nil:
			return none, err
		case !st.Mode().IsRegular():
			return none, notAFile(name)
		}
		if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return none, err
		}
		return none, syncUp(root, removeEmpty(root, path.Dir(name)))
	})
	return err
}
