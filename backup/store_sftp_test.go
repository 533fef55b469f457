package backup

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pkg/sftp"

	"etcd-rewind/pipe"
	"etcd-rewind/problem"
)

// newFakeSFTP is a directory behind an SFTP server in this process. A fault, when
// there is one, is on the way of what it sends.
func newFakeSFTP(t *testing.T, fault func(n int, p []byte) error) (string, *SFTP) {
	t.Helper()
	dir := t.TempDir()
	st, err := Open("sftp://backup@host" + dir)
	if err != nil {
		t.Fatal(err)
	}
	s := st.(*SFTP)
	s.pace = pace{idle: 10 * time.Second, tries: 3, pause: time.Millisecond}
	s.links.pace = s.pace
	var dials atomic.Int64
	end := &ended{}
	t.Cleanup(func() { // whatever the server's goroutines are still at, no fault comes after the test
		end.Lock()
		defer end.Unlock()
		end.over = true
	})
	s.links.dial = func(context.Context) (*pipe.Conn, error) {
		if dials.Add(1) > 200 {
			return nil, errors.New("too many connections")
		}
		inR, inW := io.Pipe()
		outR, outW := io.Pipe()
		server, err := sftp.NewServer(struct {
			io.Reader
			io.WriteCloser
		}{inR, &faulty{WriteCloser: outW, fault: fault, end: end}})
		if err != nil {
			return nil, err
		}
		go func() {
			_ = server.Serve()
			_ = outW.Close()
		}()
		return &pipe.Conn{In: inW, Out: outR, Close: func() error { return errors.Join(inR.Close(), outR.Close(), outW.Close()) }, Said: func() string { return "" }}, nil
	}
	t.Cleanup(s.links.close)
	return dir, s
}

type ended struct {
	sync.RWMutex
	over bool
}

type faulty struct {
	io.WriteCloser
	end   *ended
	fault func(n int, p []byte) error
	sent  int
}

func (f *faulty) Write(p []byte) (int, error) {
	f.end.RLock()
	defer f.end.RUnlock()
	if f.fault != nil && !f.end.over {
		if err := f.fault(f.sent, p); err != nil {
			_ = f.Close()
			return 0, err
		}
	}
	f.sent += len(p)
	return f.WriteCloser.Write(p)
}

func TestAnotherHostKeepsItsPromises(t *testing.T) {
	dir, s := newFakeSFTP(t, nil)
	storeKeepsItsPromises(t, s)
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		st, err := e.Info()
		if err == nil && (st.Mode().Perm()&0o077 != 0 || strings.HasPrefix(e.Name(), ".")) {
			t.Errorf("%s has mode %v", path, st.Mode())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if len(s.links.idle) == 0 || len(s.links.idle) > maxLinks || s.links.held != 0 {
		t.Errorf("%d connections are unused, %d are held", len(s.links.idle), s.links.held)
	}
}

// A connection that ends in the middle is made again, and the file gone on with.
func TestAFileOfAnotherHostIsGoneOnWithWhenItIsCut(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789abcdef"), 200_000)
	var cuts atomic.Int64
	dir, s := newFakeSFTP(t, func(sent int, _ []byte) error {
		if sent > 1_500_000 {
			cuts.Add(1)
			return errors.New("cut")
		}
		return nil
	})
	if err := os.WriteFile(filepath.Join(dir, "a"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := read(t, s, "a"); got != string(data) || cuts.Load() == 0 {
		t.Errorf("%d bytes after %d cuts", len(got), cuts.Load())
	}
}

// An upload whose connection ends isn't begun again by itself, and the error says what
// happened.
func TestAnUploadToAnotherHostThatIsCutSaysSo(t *testing.T) {
	_, s := newFakeSFTP(t, func(sent int, _ []byte) error {
		if sent > 1000 {
			return errors.New("cut")
		}
		return nil
	})
	err := Keep(t.Context(), s, "a", content(strings.Repeat("0123456789abcdef", 200_000)), time.Minute)
	if p := problem.Of(err); p == nil || !strings.Contains(p.Cause, "the connection to the other host ended") || p.Hint == "" {
		t.Errorf("%v", err)
	}
}

func TestAFileOfAnotherHostThatIsSwappedIsNotPatched(t *testing.T) {
	path := ""
	dir, s := newFakeSFTP(t, func(sent int, _ []byte) error {
		if sent > 1_500_000 {
			return errors.Join(errors.New("cut"), os.WriteFile(path, bytes.Repeat([]byte("b"), 3_000_001), 0o600))
		}
		return nil
	})
	path = filepath.Join(dir, "a")
	if err := os.WriteFile(path, bytes.Repeat([]byte("a"), 3_000_000), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := s.Get(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got, err := io.ReadAll(r)
	if p := problem.Of(err); p == nil || !strings.Contains(p.Cause, "another file") || bytes.Contains(got, []byte("b")) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// An upload that is cut leaves nothing: what there is of it is removed over another
// connection.
func TestAnUploadToAnotherHostThatIsCutIsNone(t *testing.T) {
	dir, s := newFakeSFTP(t, func(sent int, _ []byte) error {
		if sent > 3000 {
			return errors.New("cut")
		}
		return nil
	})
	if err := s.Put(t.Context(), "c1/a", io.LimitReader(zeros{}, 20<<20), 20<<20); err == nil {
		t.Error("it is stored")
	}
	left, err := os.ReadDir(filepath.Join(dir, "c1"))
	if err != nil || len(left) > 0 {
		t.Errorf("%v %v", left, err)
	}
}

// A host that says nothing more is given up, and its connection ended.
func TestAnotherHostThatHangsIsGivenUp(t *testing.T) {
	until := make(chan struct{})
	var hangs atomic.Bool
	_, s := newFakeSFTP(t, func(int, []byte) error {
		if hangs.Load() {
			<-until
		}
		return nil
	})
	defer close(until)
	if got := names(t, s, ""); got != "" {
		t.Fatal(got)
	}
	hangs.Store(true)
	s.links.pace.idle = 30 * time.Millisecond
	_, err := s.Stat(t.Context(), "a")
	if p := problem.Of(err); p == nil || !strings.Contains(p.Cause, "nothing for 30ms") || p.Hint == "" {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	time.AfterFunc(10*time.Millisecond, func() { cancel(enough) })
	if _, err := s.List(ctx, ""); !errors.Is(err, enough) {
		t.Errorf("%v", err)
	}
	if len(s.links.idle) > 0 {
		t.Error("a connection that hangs is used again")
	}
}

func TestALinkOnAnotherHostIsNoBackup(t *testing.T) {
	dir, s := newFakeSFTP(t, nil)
	if err := errors.Join(os.Symlink("/etc/passwd", filepath.Join(dir, "a")), os.Symlink(t.TempDir(), filepath.Join(dir, "c1"))); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(t.Context(), "a"); err == nil {
		t.Error("it is read")
	}
	if err := s.Put(t.Context(), "c1/new", strings.NewReader("x"), 1); err == nil {
		t.Error("it is written behind a link")
	}
	if s.Delete(t.Context(), "a") == nil || names(t, s, "") != "" {
		t.Error("it is a file")
	}
}

func TestWhyAnotherHostIsNotReached(t *testing.T) {
	for said, says := range map[string]string{
		"Host key verification failed.": "key is unknown", "root@h: Permission denied (publickey).": "refuses the login",
		"subsystem request failed on channel 0": "has no SFTP", "ssh: connect to host h port 22: Connection refused": "Connection refused", "": "exited without a message",
	} {
		p := problem.Of(refusal(said))
		if !strings.Contains(p.Cause, says) || p.Hint == "" {
			t.Errorf("%s: %s; %s", said, p.Cause, p.Hint)
		}
	}
}

// The service that takes backups may write nothing in root's home: ssh, which would
// make a socket there, must not try.
func TestNoConnectionIsSharedWithOthers(t *testing.T) {
	s, err := Open("sftp://backup@host:2222/srv?config=/etc/ssh/mine")
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Join(s.(*SFTP).options(), " ")
	for _, want := range []string{"-o BatchMode=yes", "-o ControlMaster=no", "-p 2222 -F /etc/ssh/mine -s -- backup@host sftp"} {
		if !strings.Contains(got, want) {
			t.Errorf("%s: no %s", got, want)
		}
	}
}

func TestLocationsOfOtherHosts(t *testing.T) {
	for location, want := range map[string]string{
		"sftp://host/srv/backup/":                    "sftp://host/srv/backup",
		"sftp://backup@host:2222/srv":                "sftp://backup@host:2222/srv",
		"sftp://host/~/backups?config=/etc/ssh/mine": "sftp://host/~/backups?config=/etc/ssh/mine",
		"sftp://[::1]:22/srv":                        "sftp://[::1]:22/srv",
	} {
		s, err := Open(location)
		if err != nil || s.Location() != want {
			t.Errorf("%s: %v %v", location, s, err)
		}
	}
	for _, location := range []string{
		"sftp://", "sftp://host", "sftp://host/", "sftp://host/~", "sftp://host/~/..", "sftp://user:hunter2@host/srv", "sftp://-oProxyCommand=hunter2/srv",
		"sftp://host:0/srv", "sftp://host:/srv", "sftp://host/srv?key=hunter2", "sftp://host/srv?config=mine", "sftp://-l@host/srv", "sftp://host/srv#x", "sftp://host/a%0ab",
	} {
		_, err := Open(location)
		if p := problem.Of(err); p == nil || p.Hint == "" || strings.Contains(p.Cause+p.Hint, "hunter2/") {
			t.Errorf("%s: %v", location, err)
		}
	}
}

// Another host is far away: its directories are asked for several at a time.
func TestTheDirectoriesOfAnotherHostAreReadTogether(t *testing.T) {
	const rounds, together = 2 * dirsAtOnce, dirsAtOnce / 2
	var asked atomic.Int64
	enough := make(chan struct{})
	dir, s := newFakeSFTP(t, func(int, []byte) error {
		if asked.Load() > 2 { // after the two above: no answer to the first before there are others
			select {
			case <-enough:
			case <-t.Context().Done():
			}
		}
		return nil
	})
	s.links.pace.idle = 2 * time.Second
	dial := s.links.dial
	s.links.dial = func(ctx context.Context) (*pipe.Conn, error) {
		c, err := dial(ctx)
		if err == nil {
			c.In = &asking{c.In, func() {
				if asked.Add(1) == 2+together {
					close(enough)
				}
			}}
		}
		return c, err
	}
	for i := range rounds {
		name := filepath.Join(dir, clusterA, RoundAt(noon.Add(time.Duration(i)*time.Hour)).String(), "cp1.json")
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o700), os.WriteFile(name, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if all, err := s.List(t.Context(), ""); err != nil || len(all) != rounds || asked.Load() != rounds+2 {
		t.Errorf("%d files in %d directories, %v", len(all), asked.Load(), err)
	}
}

// asking reports each directory that is asked for.
type asking struct {
	io.WriteCloser
	opens func()
}

func (a *asking) Write(p []byte) (int, error) {
	if len(p) > 4 && p[4] == 11 { // SSH_FXP_OPENDIR
		a.opens()
	}
	return a.WriteCloser.Write(p)
}
