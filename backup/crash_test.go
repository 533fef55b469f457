package backup

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"etcd-rewind/snapshot"
	"etcd-rewind/steps"
)

// The crash matrix: a backup is killed at each of its points, which are its own
// steps, and before, in the middle of and after every call to a store. They come
// from a backup that isn't killed: a new step is in the matrix by itself.

const (
	crashEnv    = "ETCD_REWIND_BACKUP_CRASH" // where, in JSON: the process that is killed
	crashRounds = 3                          // good ones that are there before
)

// crash is a backup in a process of its own.
type crash struct {
	Dir   string // node, state and two locations
	Key   string
	At    time.Time
	Point int  // at which it is killed; 0 is none
	Asked bool // no turn of the schedule
}

// crashed is the process that is killed. It prints its points.
func crashed() {
	var c crash
	if err := json.Unmarshal([]byte(os.Getenv(crashEnv)), &c); err != nil {
		panic(err)
	}
	n := 0
	point := func(what string) {
		n++
		fmt.Println(what)
		if n == c.Point {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}
	w := c.taking(point)
	if res, err := w.Take(context.Background()); err != nil || !res.OK {
		fmt.Fprintln(os.Stderr, res.Error, err)
		os.Exit(1)
	}
	os.Exit(0)
}

type fatal struct{}

func (fatal) Helper()        {}
func (fatal) Fatal(a ...any) { panic(fmt.Sprint(a...)) }

func (c crash) stores() []*Directory {
	return []*Directory{{Path: filepath.Join(c.Dir, "a")}, {Path: filepath.Join(c.Dir, "b")}}
}

func (c crash) key() Key {
	k, err := hex.DecodeString(c.Key)
	if err != nil {
		panic(err)
	}
	return k
}

func (c crash) taking(point func(string)) *Taking {
	var stores []Store
	for i, s := range c.stores() {
		stores = append(stores, &pointed{s, fmt.Sprint("location ", i+1), point})
	}
	return &Taking{
		Config: &Config{Recipients: []string{anAge}, Key: c.key(), Include: includes, Keep: Policy{Last: 2}, Schedule: Schedule{Every: Duration(time.Hour)}},
		Node:   nodeIn(fatal{}, c.Dir, "cp1"), Dir: filepath.Join(c.Dir, "state"), stores: stores, Scheduled: !c.Asked,
		now: func() time.Time { return c.At }, pause: func(context.Context, time.Duration) {},
		at: point, save: func(ctx context.Context, req snapshot.SaveRequest) (*snapshot.Info, error) {
			info, err := saves(ctx, req)
			point("saved")
			return info, err
		},
	}
}

// pointed is a store whose calls are points.
type pointed struct {
	Store
	name  string
	point func(string)
}

func (p *pointed) Put(ctx context.Context, name string, content io.Reader, size int64) error {
	p.point(p.name + ": before it gets " + path.Base(name))
	half := false
	err := p.Store.Put(ctx, name, readerFunc(func(b []byte) (int, error) {
		n, err := content.Read(b[:min(len(b), int(size/2)+1)])
		if !half && n > 0 {
			half = true
			p.point(p.name + ": in the middle of " + path.Base(name))
		}
		return n, err
	}), size)
	p.point(p.name + ": after it got " + path.Base(name))
	return err
}

func (p *pointed) Delete(ctx context.Context, name string) error {
	p.point(p.name + ": before it deletes " + path.Base(name))
	err := p.Store.Delete(ctx, name)
	p.point(p.name + ": after it deleted " + path.Base(name))
	return err
}

// prepared has good rounds in both locations.
func (c crash) prepared(t *testing.T) crash {
	t.Helper()
	c.Dir = t.TempDir()
	for _, s := range c.stores() {
		if err := os.Mkdir(s.Path, 0o700); err != nil {
			t.Fatal(err)
		}
		for i := range crashRounds {
			put(t, s, aRecord(noon.Add(-time.Duration(i+1)*time.Hour), "cp1"), c.key())
		}
	}
	return c
}

// run runs the process, and says which points it came to.
func (c crash) run(t *testing.T) (points []string, killed bool) {
	t.Helper()
	data, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), crashEnv+"="+string(data))
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	exit, _ := errors.AsType[*exec.ExitError](err)
	killed = exit != nil && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL
	if err != nil && !killed {
		t.Fatalf("%v: %s", err, errs.String())
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n"), killed
}

func TestABackupThatIsKilledAnywhereDoesNoHarm(t *testing.T) {
	for name, asked := range map[string]bool{"a turn of the schedule": false, "one that was asked for": true} {
		t.Run(name, func(t *testing.T) {
			c := crash{Key: hex.EncodeToString(NewKey()), At: noon.Add(10 * time.Minute), Asked: asked}
			all, killed := c.prepared(t).run(t)
			if killed || len(all) < 40 {
				t.Fatalf("killed %v, points: %q", killed, all)
			}
			// Of a backup that was asked for, each third: its points are among the others.
			step := 1
			if asked {
				step = 3
			}
			for n := 1; n <= len(all); n += step {
				t.Run(strconv.Itoa(n)+" "+all[n-1], func(t *testing.T) {
					t.Parallel()
					c := c
					c.Point = n
					c = c.prepared(t)
					if points, killed := c.run(t); !killed || len(points) != n {
						t.Fatalf("killed %v after %d points", killed, len(points))
					}
					c.noHarm(t)
					c.again(t)
				})
			}
		})
	}
}

// noHarm holds what has to be so after the kill: what counts as a backup is whole,
// and of those from before as many are left as are to be kept.
func (c crash) noHarm(t *testing.T) {
	t.Helper()
	for i, s := range c.stores() {
		good := 0
		for _, e := range listed(t, s, c.key()).Entries {
			if e.Err != nil && !e.Gone { // Gone is one whose removal was interrupted
				t.Errorf("location %d: %s: %v", i+1, e.Name, e.Err)
			}
			if e.Err != nil {
				continue
			}
			good++
			if e.Round.Before(noon) {
				continue // of the test's own making
			}
			for name, f := range map[string]*File{e.Record.SnapshotName(): &e.Record.File, e.Record.SecretsName(): e.Record.Secrets} {
				if got := read(t, s, name); hexOf([]byte(got)) != f.SHA256 {
					t.Errorf("location %d: %s is listed and isn't whole", i+1, name)
				}
			}
		}
		if good < 2 {
			t.Errorf("location %d: %d good ones are left", i+1, good)
		}
	}
}

// again takes the next backup, an hour later, after which nothing of the killed
// one is left that is no backup.
func (c crash) again(t *testing.T) {
	t.Helper()
	c.At = c.At.Add(time.Hour)
	c.hourGoesBy(t)
	w := c.taking(func(string) {})
	if res, err := w.Take(t.Context()); err != nil || !res.OK {
		t.Fatalf("the next: %+v %v", res, err)
	}
	nothingLeft(t, w)
	for i, s := range c.stores() {
		l, known := listed(t, s, c.key()), map[string]bool{}
		for _, e := range l.Entries {
			if e.Err != nil {
				t.Errorf("location %d, then: %s: %v", i+1, e.Name, e.Err)
				continue
			}
			known[e.Name], known[e.Record.SnapshotName()], known[e.Record.SecretsName()] = true, true, true
		}
		if len(l.Entries) != 2 {
			t.Errorf("location %d, then: %d are kept", i+1, len(l.Entries))
		}
		objects, err := s.List(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range objects {
			if !known[o.Name] && !strings.Contains(o.Name, claimPrefix) { // the claim of a node that went down
				t.Errorf("location %d, then: %s is left", i+1, o.Name)
			}
		}
		c.nothingHidden(t, i, s.Path)
	}
	state, err := steps.ReadBackups(w.Dir)
	if err != nil || !state.Last.OK || len(state.Locations[0].Sending)+len(state.Locations[1].Sending) > 0 {
		t.Errorf("then: %+v %v", state, err)
	}
}

// hourGoesBy makes what lies in the stores an hour older.
func (c crash) hourGoesBy(t *testing.T) {
	t.Helper()
	for _, s := range c.stores() {
		err := filepath.WalkDir(s.Path, func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			st, err := e.Info()
			if err != nil {
				return err
			}
			was := st.ModTime().Add(-time.Hour)
			return os.Chtimes(path, was, was)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// nothingHidden looks at what no listing shows: files, and directories with none.
func (c crash) nothingHidden(t *testing.T, i int, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && strings.HasPrefix(e.Name(), ".") {
			t.Errorf("location %d, then: %s is left", i+1, path)
		}
		if err == nil && e.IsDir() {
			if in, err := os.ReadDir(path); err != nil || len(in) == 0 {
				t.Errorf("location %d, then: %s is left, and nothing is in it", i+1, path)
			}
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
