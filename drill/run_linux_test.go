package drill

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"etcd-rewind/problem"
	"etcd-rewind/snapshot"
)

// fakeEnv makes this test binary an etcd that never becomes one, or a drill.
const (
	fakeEnv = "ETCD_REWIND_DRILL_TEST"
	packed  = "../snapshot/testdata/before.db.gz"
)

func TestMain(m *testing.M) {
	snapshot.Worker()
	Worker()
	switch os.Getenv(fakeEnv) {
	case "ends":
		fmt.Fprintln(os.Stderr, `{"level":"fatal","msg":"discovery failed","error":"this is no member"}`)
		os.Exit(1)
	case "looks": // for what leads out of its root directory
		ways := []string{}
		all, _ := filepath.Glob("/proc/self/fd/*")
		for _, fd := range all {
			if at, err := os.Readlink(fd); err == nil && !strings.HasPrefix(at, "/proc/") {
				if st, err := os.Stat(fd); err == nil && st.IsDir() {
					ways = append(ways, "has open "+at)
				}
			}
		}
		links, _ := net.Interfaces()
		for _, l := range links {
			if l.Flags&net.FlagLoopback == 0 && l.Flags&net.FlagUp != 0 {
				ways = append(ways, "has the interface "+l.Name)
			}
		}
		if c, err := net.DialTimeout("udp", "192.0.2.1:53", time.Second); err == nil {
			ways = append(ways, "has a route to "+c.RemoteAddr().String())
		}
		if _, err := os.ReadDir("/proc/1/root/"); err == nil {
			ways = append(ways, "reads the root of the drill's process")
		}
		if f, err := os.Open("/proc/1/exe"); err == nil {
			ways = append(ways, "opens the program of "+f.Name())
		}
		fmt.Fprintf(os.Stderr, `{"level":"fatal","msg":"ways out: '%s'"}`+"\n", strings.Join(ways, ", "))
		os.Exit(1)
	case "is killed":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	case "hangs":
		fmt.Fprintln(os.Stderr, `{"level":"warn","msg":"still waiting"}`)
		time.Sleep(time.Hour)
	case "drill":
		_, err := tryOut(context.Background(), os.Args[1], "hangs", func(part string, _ *Part) { fmt.Println(part) })
		fmt.Println(err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

const fetched = time.Minute

// tryOut runs a drill in dir, with an etcd of this file's.
func tryOut(ctx context.Context, dir, etcd string, tell func(string, *Part)) (*Report, error) {
	stage := func(ctx context.Context) (*snapshot.Staged, error) {
		f, err := snapshot.Stage(ctx, snapshot.File(packed), dir, nil)
		if f != nil {
			f.Took = fetched // before the drill, to be looked at
		}
		return f, err
	}
	return Run(ctx, packed, stage, Options{Dir: dir, BuiltIn: []string{fakeEnv + "=" + etcd}, Tell: tell})
}

// unable says why this machine can't make a drill's namespaces, "" when it can.
func unable(t *testing.T) string {
	t.Helper()
	attr, err := namespaces()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/bin/true")
	cmd.SysProcAttr = attr
	if err := cmd.Run(); err != nil {
		return err.Error()
	}
	return ""
}

// leftIn is what a drill has left in dir, but for what Stage has made: that is
// its caller's.
func leftIn(t *testing.T, dir string) (left []string) {
	t.Helper()
	for _, pattern := range []string{dir + "/*", cgroups + "/" + groupPrefix + "*", cgroups + "/*/" + groupPrefix + "*"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			if filepath.Dir(f) == dir && !strings.Contains(f, "unpacked") || strings.HasSuffix(f, fmt.Sprint("-", os.Getpid())) {
				left = append(left, f)
			}
		}
	}
	return left
}

func TestAnEtcdThatDoesNotStartIsTheBackupsFaultWithItsLastWords(t *testing.T) {
	dir := t.TempDir()
	r, err := tryOut(t.Context(), dir, "ends", nil)
	if why := unable(t); why != "" {
		if p := problem.Of(err); p == nil || !strings.Contains(p.Hint, "namespaces") {
			t.Errorf("without namespaces (%s): %v", why, err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if r.Proven || r.Fault == nil || !strings.Contains(r.Fault.Cause, "etcd doesn't start on it: it ended with exit status 1: discovery failed: this is no member") {
		t.Errorf("%+v", r)
	}
	if fetch := r.Parts[0]; fetch.Part != PartFetch || fetch.Seconds != fetched.Seconds() || r.Recovery < fetch.Seconds {
		t.Errorf("the time of the fetch isn't counted: %+v", r)
	}
	if r.Revision == 0 || r.Keys == 0 || len(r.LeftOut) != 1 {
		t.Errorf("%+v", r)
	}
	if left := leftIn(t, dir); len(left) > 0 {
		t.Errorf("%v is left", left)
	}
}

// Whatever a hostile snapshot makes of etcd stays in the drill: no directory is
// open in it, and it doesn't get at the process that has started it.
func TestAProgramOfADrillHasNoWayOut(t *testing.T) {
	if unable(t) != "" {
		return // as the test above says
	}
	dir := t.TempDir()
	r, err := tryOut(t.Context(), dir, "looks", nil)
	if err != nil {
		t.Fatal(err)
	}
	if r.Fault == nil || !strings.Contains(r.Fault.Cause, "ways out: ''") {
		t.Errorf("%+v", r.Fault)
	}
}

// A program that the kernel kills, as it does when memory runs out, says nothing
// about the snapshot.
func TestADrillThatIsKilledForItsMemoryIsNoFaultOfTheBackup(t *testing.T) {
	r, err := tryOut(t.Context(), t.TempDir(), "is killed", nil)
	if unable(t) == "" && (r != nil || !problem.HasCode(err, CodeRoom)) {
		t.Errorf("%+v %v", r, err)
	}
	file := filepath.Join(t.TempDir(), "meminfo")
	if err := os.WriteFile(file, []byte("MemAvailable:  1048576 kB\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := memoryLimit(file); got != fmt.Sprint(1<<30-memoryReserve) {
		t.Errorf("of 1 GB it may take %s", got)
	}
}

// A snapshot that is damaged is bad, one that isn't there says nothing.
func TestOnlyWhatIsWrongWithTheBackupIsItsFault(t *testing.T) {
	dir := t.TempDir()
	for code, fault := range map[string]bool{snapshot.CodeTruncated: true, snapshot.CodeDamagedHash: true, snapshot.CodeMissing: false, snapshot.CodeIdentity: false, snapshot.CodeNoSpace: false} {
		r, err := Run(t.Context(), "x", func(context.Context) (*snapshot.Staged, error) {
			return nil, problem.Coded(code, "a hint", "a cause")
		}, Options{Dir: dir, BuiltIn: []string{fakeEnv + "=ends"}})
		if got := err == nil && r.Fault != nil && r.Fault.Hint == "a hint" && !r.Proven; got != fault {
			t.Errorf("%s: %+v %v", code, r, err)
		}
	}
	stage := func(ctx context.Context) (*snapshot.Staged, error) {
		return snapshot.Stage(ctx, snapshot.File(packed), dir, nil)
	}
	if _, err := Run(t.Context(), "x", stage, Options{Dir: dir}); !problem.HasCode(err, CodePrograms) {
		t.Errorf("without any etcd: %v", err)
	}
}

// Ctrl-C ends a drill at each of its parts, and nothing is left.
func TestADrillThatIsInterruptedLeavesNothing(t *testing.T) {
	last := PartEtcd
	if unable(t) != "" {
		last = PartRestore
	}
	for _, part := range []string{PartFetch, PartVerify, PartRestore, PartEtcd} {
		dir := t.TempDir()
		ctx, cancel := context.WithCancel(t.Context())
		var at time.Time
		r, err := tryOut(ctx, dir, "hangs", func(begun string, _ *Part) {
			if begun == part {
				at = time.Now()
				cancel()
			}
		})
		cancel()
		if !errors.Is(err, context.Canceled) || r != nil {
			t.Errorf("%s: %+v %v", part, r, err)
		}
		if took := time.Since(at); took > 10*time.Second {
			t.Errorf("%s: it took %s", part, took)
		}
		if left := leftIn(t, dir); len(left) > 0 {
			t.Errorf("%s: %v is left", part, left)
		}
		if part == last {
			break
		}
	}
}

// Killed at each of its parts, a drill takes its processes along, and the next
// one removes its files.
func TestTheNextDrillRemovesWhatAKilledOneHasLeft(t *testing.T) {
	parts := []string{PartFetch, PartVerify, PartRestore, PartEtcd}
	if unable(t) != "" {
		parts = parts[:3]
	}
	for _, part := range parts {
		dir := t.TempDir()
		cmd := exec.CommandContext(t.Context(), "/proc/self/exe", dir)
		cmd.Env = append(os.Environ(), fakeEnv+"=drill")
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for said := ""; said != part; {
			if _, err := fmt.Fscanln(out, &said); err != nil && err.Error() != "unexpected newline" {
				t.Fatalf("%s: it said %q: %v", part, said, err)
			}
		}
		if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()

		// All of its processes hold the lock, as long as there is one.
		held, err := os.Open(filepath.Join(dir, dirName))
		if err != nil {
			t.Fatal(err)
		}
		for begun := time.Now(); unix.Flock(int(held.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil; time.Sleep(10 * time.Millisecond) {
			if time.Since(begun) > 20*time.Second {
				t.Fatalf("%s: a process of it still runs", part)
			}
		}
		_ = held.Close()
		p, err := claim(dir)
		if err != nil {
			t.Fatal(part, err)
		}
		makeGroups().remove()
		if err := p.remove(); err != nil {
			t.Error(part, err)
		}
		if left := leftIn(t, dir); len(left) > 0 {
			t.Errorf("%s: %v is left", part, left)
		}
		if old, _ := filepath.Glob(fmt.Sprintf("%s/*/%s%d", cgroups, groupPrefix, cmd.Process.Pid)); len(old) > 0 {
			t.Errorf("%s: %v is left", part, old)
		}
	}
}
