package backup

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pkg/sftp"

	"etcd-rewind/defect"
	"etcd-rewind/pipe"
	"etcd-rewind/problem"
	"etcd-rewind/trust"
)

// SFTP is a store in a directory of another host, which is reached over the
// user's own ssh: its configuration, keys, agent and known hosts. Files are mode
// 0600, directories that it makes 0700.
//
// What is written goes beside its name, to the disk where the server can do that
// (fsync@openssh.com), and gets its name then by a hard link, which replaces
// nothing; where there are none it is looked for before it is renamed.
type SFTP struct {
	host, port string // host with a user before it where one was named
	dir        string // relative to the user's home without a slash
	config     string // file, "" for ssh's own

	pace  pace
	links *links
}

const sftpHint = "a directory of another host is sftp://[USER@]HOST[:PORT]/PATH, or /~/PATH below the user's home"

// openSFTP makes a store of sftp://[user@]host[:port]/path.
func openSFTP(u *url.URL) (*SFTP, error) {
	with, user := *u, u.User
	with.User, with.Host = nil, u.Hostname() // query has no user and no port
	q, err := query(&with, []string{"config"})
	s := &SFTP{host: u.Hostname(), port: u.Port(), config: q["config"], pace: defaultPace}
	if err != nil {
		return nil, problem.New("it takes config=, a configuration for ssh", "not the location of a directory: %s", err)
	}
	if err := trust.Host(s.host); err != nil {
		return nil, problem.New(sftpHint, "%s", err)
	}
	if n, err := strconv.ParseUint(s.port, 10, 16); s.port != "" && (err != nil || n == 0) || strings.HasSuffix(u.Host, ":") {
		return nil, problem.New(sftpHint, "not a port")
	}
	if user != nil {
		if _, has := user.Password(); has {
			return nil, problem.New("ssh uses keys: put the public one into the other host's authorized_keys", "a location must not have a password in it")
		}
		if trust.Name(user.Username()) != nil || strings.ContainsAny(user.Username(), ":@") {
			return nil, problem.New(sftpHint, "not a user's name: %q", trust.Clip(trust.Text(user.Username()), 80))
		}
		s.host = user.Username() + "@" + s.host
	}
	if s.config != "" && !filepath.IsAbs(s.config) {
		return nil, problem.New("name the file by its absolute path", "config= is not the path of a file")
	}
	dir := path.Clean("/" + u.Path)
	if home, is := strings.CutPrefix(dir, "/~/"); is {
		dir = home
	}
	if dir == "/" || dir == "/~" || dir == ".." || strings.HasPrefix(dir, "../") || len(dir) > 1000 || trust.Text(dir) != dir {
		return nil, problem.New(sftpHint, "not the path of a directory for backups: %q", trust.Clip(trust.Text(u.Path), 80))
	}
	s.dir = dir
	s.links = &links{dial: s.dial, pace: s.pace}
	return s, nil
}

// Location is its sftp:// URL.
func (s *SFTP) Location() string {
	user, host, has := strings.Cut(s.host, "@")
	if !has {
		host, user = s.host, ""
	} else {
		user += "@"
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	at, dir := "sftp://"+user+host, s.dir
	if s.port != "" {
		at += ":" + s.port
	}
	if !strings.HasPrefix(dir, "/") {
		dir = "/~/" + dir
	}
	return at + dir + encode(map[string]string{"config": s.config}, []string{"config"})
}

// options are those of the ssh that reaches the host, which is known already.
func (s *SFTP) options() []string {
	args := trust.SSH("-o", "ServerAliveInterval=10", "-o", "ServerAliveCountMax=3")
	if s.port != "" {
		args = append(args, "-p", s.port)
	}
	if s.config != "" {
		args = append(args, "-F", s.config)
	}
	return append(args, "-s", "--", s.host, "sftp")
}

func (s *SFTP) dial(ctx context.Context) (*pipe.Conn, error) {
	cmd, err := trust.Command(context.WithoutCancel(ctx), "ssh", s.options()...)
	if err != nil {
		return nil, problem.New("install OpenSSH's client", "%w", err)
	}
	return pipe.Start(ctx, cmd, pipe.Ends{Kill: true}, "")
}

func (s *SFTP) at(name string) string { return path.Join(s.dir, name) }

// Put writes beside the name, brings it to the disk where that is possible, and
// gives it the name then.
func (s *SFTP) Put(ctx context.Context, name string, content io.Reader, size int64) error {
	if err := CheckName(name); err != nil {
		return err
	}
	aside := s.at(aside(name))
	_, err := over(ctx, s.links, func(ctx context.Context, c *sftp.Client) (none struct{}, err error) {
		if _, err := c.Lstat(s.at(name)); err == nil {
			return none, &fs.PathError{Op: "put", Path: name, Err: fs.ErrExist}
		} else if !errors.Is(err, fs.ErrNotExist) {
			return none, err
		}
		if err := s.room(c, size); err != nil {
			return none, err
		}
		f, err := s.create(c, name, aside)
		if err != nil {
			return none, err
		}
		if err := s.fill(ctx, c, f, content, size); err != nil {
			return none, err
		}
		if ctx.Err() != nil { // nobody waits for it any more
			return none, context.Cause(ctx)
		}
		return none, s.giveName(c, aside, s.at(name))
	})
	if err != nil {
		tidy(ctx, func(ctx context.Context) {
			_, _ = over(ctx, s.links, func(_ context.Context, c *sftp.Client) (none struct{}, err error) { return none, c.Remove(aside) })
		})
	}
	return s.explain(err)
}

const fullHint = "free some space there, or keep fewer backups"

// free is how much space there is, where the server says that.
func (s *SFTP) free(c *sftp.Client) (bytes uint64, known bool) {
	if _, can := c.HasExtension("statvfs@openssh.com"); !can {
		return 0, false
	}
	st, err := c.StatVFS(s.dir)
	if err != nil || st.Frsize == 0 {
		return 0, false // writing will show it
	}
	return st.Bavail * st.Frsize, true
}

// room looks whether there is enough.
func (s *SFTP) room(c *sftp.Client, size int64) error {
	if free, known := s.free(c); known && uint64(size) > free {
		return problem.New(fullHint, "there is not enough space: %d MB are needed, %d MB are free", size/1e6, free/1e6)
	}
	return nil
}

// create makes a file, and the directories above it, which another node may remove
// just now: they are empty.
func (s *SFTP) create(c *sftp.Client, name, aside string) (f *sftp.File, err error) {
	for range createTries {
		if err = s.makeDir(c, path.Dir(name)); err == nil {
			f, err = c.OpenFile(aside, os.O_WRONLY|os.O_CREATE|os.O_EXCL)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	return f, err
}

// removeEmpty removes a directory that has come to be empty, and those above it.
// Nothing else is ever removed by it.
func (s *SFTP) removeEmpty(c *sftp.Client, dir string) {
	for ; dir != "."; dir = path.Dir(dir) {
		if err := c.RemoveDirectory(s.at(dir)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return
		}
	}
}

// makeDir makes the directories below the store's own, which has to be there.
func (s *SFTP) makeDir(c *sftp.Client, below string) error {
	if st, err := c.Stat(s.dir); errors.Is(err, fs.ErrNotExist) {
		return problem.New("create it first, or check the path", "there is no such directory")
	} else if err != nil {
		return err
	} else if !st.IsDir() {
		return problem.New("check the path", "it isn't a directory")
	}
	dir := s.dir
	for part := range strings.SplitSeq(below, "/") {
		if part == "." {
			break
		}
		dir = path.Join(dir, part)
		st, err := c.Lstat(dir)
		switch {
		case err == nil && !st.IsDir():
			return fmt.Errorf("%s isn't a directory", dir)
		case err == nil:
			continue
		case !errors.Is(err, fs.ErrNotExist):
			return err
		}
		if err := makeOne(c, dir); err != nil {
			return err
		}
	}
	return nil
}

// makeOne makes a directory, where somebody else may be first, and remove it again.
func makeOne(c *sftp.Client, dir string) error {
	for try := 1; ; try++ {
		err := c.Mkdir(dir)
		if err == nil {
			return c.Chmod(dir, 0o700)
		}
		st, serr := c.Lstat(dir)
		switch {
		case serr == nil && st.IsDir():
			return nil
		case try == createTries, !errors.Is(serr, fs.ErrNotExist), errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission):
			return err
		}
	}
}

// fill writes exactly size bytes.
func (s *SFTP) fill(ctx context.Context, c *sftp.Client, f *sftp.File, content io.Reader, size int64) error {
	err := f.Chmod(0o600)
	if err == nil {
		var n int64
		n, err = f.ReadFromWithConcurrency(&bounded{ctx, io.LimitReader(content, size+1)}, 0)
		if err == nil && n != size {
			err = fmt.Errorf("%d bytes were announced, %d arrived", size, n)
		}
	}
	if _, can := c.HasExtension("fsync@openssh.com"); err == nil && can {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		if free, known := s.free(c); known && free < 1<<20 {
			return problem.New(fullHint, "its disk got full while the backup was sent")
		}
		return err
	}
	st, err := c.Lstat(f.Name()) // what came in any order has no holes at its end
	if err == nil && st.Size() != size {
		err = fmt.Errorf("%d bytes were sent, and it has %d", size, st.Size())
	}
	return err
}

// giveName never replaces a file that came to have the name meanwhile.
func (s *SFTP) giveName(c *sftp.Client, aside, name string) error {
	if _, can := c.HasExtension("hardlink@openssh.com"); can {
		if err := c.Link(aside, name); err == nil {
			return c.Remove(aside)
		}
	}
	if _, err := c.Lstat(name); err == nil {
		return &fs.PathError{Op: "put", Path: name, Err: fs.ErrExist}
	}
	return c.Rename(aside, name)
}

// Sweep throws away what uploads have left unfinished.
func (s *SFTP) Sweep(ctx context.Context, prefix string, dead func(Unfinished) bool) error {
	throwAway := deadUploads(prefix, dead, keeper{
		clock: func(dir string) (time.Time, error) {
			return over(ctx, s.links, func(_ context.Context, c *sftp.Client) (time.Time, error) { return s.clock(c, dir) })
		},
		remove: func(name string) error {
			_, err := over(ctx, s.links, func(_ context.Context, c *sftp.Client) (none struct{}, err error) {
				err = c.Remove(s.at(name))
				s.removeEmpty(c, path.Dir(name))
				return none, err
			})
			return err
		},
		removeEmpty: func(dir string) error {
			_, err := over(ctx, s.links, func(_ context.Context, c *sftp.Client) (none struct{}, err error) {
				s.removeEmpty(c, dir)
				return none, nil
			})
			return err
		},
	})
	return s.walk(ctx, prefix, func(dir string, e fs.DirEntry) error { return s.explain(throwAway(dir, e)) })
}

// clock is the other host's time, as its files have it.
func (s *SFTP) clock(c *sftp.Client, dir string) (now time.Time, err error) {
	name := s.at(aside(path.Join(dir, clockName)))
	f, err := c.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return now, err
	}
	defer func() { _ = c.Remove(name) }()
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return now, err
	}
	return st.ModTime(), nil
}

// Get opens a file. What is cut on its way is gone on with.
func (s *SFTP) Get(ctx context.Context, name string) (io.ReadCloser, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	r, _, err := s.get(ctx, s.at(name))
	return r, err
}

func (s *SFTP) get(ctx context.Context, file string) (io.ReadCloser, *Object, error) {
	var first *Object
	from := func(ctx context.Context, at int64) (io.ReadCloser, int64, error) {
		r, o, err := s.read(ctx, file, at)
		switch {
		case err != nil:
			return nil, 0, s.explain(err)
		case first == nil:
			first = o
		case *first != *o:
			_ = r.Close()
			return nil, 0, problem.New("try again", "it was replaced by another file while it was read")
		}
		return r, o.Size - at, nil
	}
	r, err := newResumed(ctx, from, func() bool { return true }, s.pace)
	if err != nil {
		return nil, nil, err
	}
	// Many requests at once: one at a time would be as slow as the line is long.
	return struct {
		io.Reader
		io.Closer
	}{bufio.NewReaderSize(r, 1<<20), r}, first, nil
}

// read opens a file at an offset. The connection is its own until it is closed.
func (s *SFTP) read(ctx context.Context, file string, at int64) (io.ReadCloser, *Object, error) {
	l, err := s.links.take(ctx)
	if err != nil {
		return nil, nil, err
	}
	type opened struct {
		f *sftp.File
		o *Object
	}
	got, err := on(ctx, l, func(_ context.Context, c *sftp.Client) (opened, error) {
		st, err := c.Lstat(file)
		if err != nil {
			return opened{}, err
		}
		if !st.Mode().IsRegular() {
			return opened{}, notAFile(path.Base(file))
		}
		f, err := c.Open(file)
		if err == nil {
			_, err = f.Seek(at, io.SeekStart)
		}
		return opened{f, &Object{path.Base(file), st.Size(), st.ModTime()}}, err
	})
	if err != nil {
		l.done()
		return nil, nil, err
	}
	return &remote{ctx, l, got.f}, got.o, nil
}

// remote is an open file of another host.
type remote struct {
	ctx context.Context
	l   *link
	f   *sftp.File
}

// Read returns when its context ends; what hangs ends with its connection.
func (r *remote) Read(p []byte) (int, error) {
	buf := make([]byte, min(len(p), 1<<20)) // p is the caller's again when this returns
	n, err := defect.Await(r.ctx, func() (int, error) { return r.f.Read(buf) })
	return copy(p, buf[:n]), r.l.saw(err)
}

// Close gives the connection to others, or ends it while it is in use.
func (r *remote) Close() error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.ctx), time.Second)
	defer cancel()
	if !r.l.broken.Load() && r.ctx.Err() == nil {
		_, err := defect.Await(ctx, func() (none struct{}, err error) { return none, r.f.Close() })
		_ = r.l.saw(err)
	} else {
		r.l.broken.Store(true)
	}
	r.l.done()
	return nil
}

// Stat describes a file.
func (s *SFTP) Stat(ctx context.Context, name string) (*Object, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	o, err := over(ctx, s.links, func(_ context.Context, c *sftp.Client) (*Object, error) {
		st, err := c.Lstat(s.at(name))
		if err != nil {
			return nil, err
		}
		if !st.Mode().IsRegular() {
			return nil, notAFile(name)
		}
		return &Object{name, st.Size(), st.ModTime()}, nil
	})
	return o, s.explain(err)
}

// List has the files below the directory; links, hidden files and those of other
// programs, by their names, are none.
func (s *SFTP) List(ctx context.Context, prefix string) ([]Object, error) {
	return collect(ctx, s, prefix)
}

func (s *SFTP) each(ctx context.Context, prefix string, f func(Object) error) error {
	return s.walk(ctx, prefix, wholeFiles(prefix, f))
}

// dirsAtOnce is how many directories are asked for together: one at a time would be
// as slow as the line is long.
const dirsAtOnce = 8

// walk goes through the directory's entries that aren't directories, also hidden
// ones. Only directories where names may begin with prefix are read; one that is
// empty has a nil entry.
func (s *SFTP) walk(ctx context.Context, prefix string, f func(dir string, e fs.DirEntry) error) error {
	dirs := []string{"."}
	for len(dirs) > 0 {
		some := dirs[max(0, len(dirs)-dirsAtOnce):]
		listings, err := s.readDirs(ctx, some)
		if err != nil {
			return s.explain(err)
		}
		var below []string
		for i, l := range listings {
			more, err := l.walk(some[i], prefix, f)
			if err != nil {
				return err
			}
			below = append(below, more...)
		}
		dirs = append(dirs[:len(dirs)-len(some)], below...)
	}
	return nil
}

// listing is what a directory has; gone says that it isn't there any more.
type listing struct {
	entries []os.FileInfo
	gone    bool
}

// walk goes through a directory, and says which directories in it are to be read.
func (l *listing) walk(dir, prefix string, f func(dir string, e fs.DirEntry) error) (below []string, err error) {
	if len(l.entries) == 0 && !l.gone {
		return nil, f(dir, nil)
	}
	slices.SortFunc(l.entries, func(a, b os.FileInfo) int { return strings.Compare(a.Name(), b.Name()) })
	for _, e := range l.entries {
		name := path.Join(dir, e.Name())
		if e.Name() != path.Base(name) {
			continue // it would lead elsewhere
		}
		if !e.IsDir() {
			if err := f(dir, fs.FileInfoToDirEntry(e)); err != nil {
				return nil, err
			}
		} else if CheckName(name) == nil && mayHold(name, prefix) {
			below = append(below, name)
		}
	}
	return below, nil
}

// readDirs reads directories, which are bounded by what their listings may have.
func (s *SFTP) readDirs(ctx context.Context, dirs []string) ([]listing, error) {
	l, err := s.links.take(ctx)
	if err != nil {
		return nil, err
	}
	defer l.done()
	l.left.Store(maxListing)
	all, err := on(ctx, l, func(ctx context.Context, c *sftp.Client) ([]listing, error) {
		all, errs := make([]listing, len(dirs)), make([]error, len(dirs))
		var reading sync.WaitGroup
		for i, dir := range dirs {
			reading.Go(defect.Do(func() {
				all[i].entries, errs[i] = c.ReadDirContext(ctx, s.at(dir))
				if errors.Is(errs[i], fs.ErrNotExist) && dir != "." { // removed meanwhile
					all[i], errs[i] = listing{gone: true}, nil
				}
			}))
		}
		reading.Wait()
		return all, errors.Join(errs...)
	})
	switch {
	case l.left.Swap(0) == 0:
		return nil, problem.New("give backups a directory of their own", "the listing of a directory is longer than %d MB", maxListing/1_000_000)
	case errors.Is(err, fs.ErrNotExist):
		return nil, problem.New("create it first, or check the path", "there is no such directory")
	}
	return all, err
}

// Delete deletes a file, and nothing that isn't one; its directory, too, when that
// is empty then: a listing reads all of them.
func (s *SFTP) Delete(ctx context.Context, name string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	_, err := over(ctx, s.links, func(_ context.Context, c *sftp.Client) (none struct{}, err error) {
		st, err := c.Lstat(s.at(name))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			s.removeEmpty(c, path.Dir(name))
			return none, nil
		case err != nil:
			return none, err
		case !st.Mode().IsRegular():
			return none, notAFile(name)
		}
		if err := c.Remove(s.at(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return none, err
		}
		s.removeEmpty(c, path.Dir(name))
		return none, nil
	})
	return s.explain(err)
}

// explain says in a person's words what a server has answered.
func (s *SFTP) explain(err error) error {
	var status *sftp.StatusError
	switch {
	case err == nil || problem.Of(err) != nil || errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrNotExist):
		return err
	case errors.Is(err, fs.ErrPermission):
		return problem.New("check who can write there: it has to be the user that ssh logs in as", "the other host answers: %s", trust.Clip(trust.Text(err.Error()), 200))
	case errors.As(err, &status):
		return problem.New("check that there is space, and that its user can write there", "the other host answers: %s", trust.Clip(trust.Text(status.Error()), 200))
	}
	return err
}
