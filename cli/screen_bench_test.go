//go:build linux && !nopractice

package cli

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/charmbracelet/x/ansi"
	"github.com/creack/pty"
	bolt "go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"
)

// What make bench-screen has built.
const (
	nodeBinary     = "../etcd-rewind"
	practiceBinary = "../dist/etcd-rewind-with-practice"

	nodeName = "cp1" // of the practice node
)

// BenchmarkScreenStart measures the binary for nodes on a practice node, with
// a snapshot of 2.4 GB in the working directory: how long it takes until
// something is to be seen, what it costs while it waits, and its size.
func BenchmarkScreenStart(b *testing.B) {
	const (
		sizeLimit   = 35e6 // bytes, of the binary for nodes
		outputLimit = 50 * time.Millisecond
		frameLimit  = 100 * time.Millisecond
		shareLimit  = 0.05 // of one core
		rounds      = 7
	)
	var table strings.Builder
	out := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintf(out, "%d cores, %s\tmedian\tworst of %d\t≤\n", runtime.NumCPU(), cpuModel(), rounds)
	for b.Loop() {
		for _, s := range []struct {
			path, name string
			limit      float64
		}{{nodeBinary, "binary for nodes, stripped", sizeLimit}, {practiceBinary, "binary with practice, stripped", 0}} {
			st, err := os.Stat(s.path)
			if err != nil {
				b.Fatalf("%v: make bench-screen builds it", err)
			}
			_, _ = fmt.Fprintf(out, "%s\t%.1f MB\t\t%s\n", s.name, float64(st.Size())/1e6, limitText(s.limit/1e6, "MB"))
			if s.limit > 0 && float64(st.Size()) > s.limit {
				b.Errorf("%s: %.1f MB", s.name, float64(st.Size())/1e6)
			}
		}
		n := benchNode(b)
		for _, s := range []struct {
			name  string
			limit time.Duration
			shows string
			args  []string
		}{
			{"version: first output", outputLimit, "etcd-rewind", []string{"version"}},
			{"check: first output", outputLimit, "reading the node", append([]string{"check"}, n.flags...)},
			{"check: all checks", 0, "Checks: ", append([]string{"check"}, n.flags...)},
			{"check of 2.4 GB: first output", outputLimit, "reading the node", append([]string{"check", n.big}, n.flags...)},
			{"check of 2.4 GB: all checks", 0, "Checks: ", append([]string{"check", n.big}, n.flags...)},
			{"wizard beside 2.4 GB: first frame", frameLimit, "etcd-rewind", n.flags},
			{"wizard beside 2.4 GB: the node is shown", 0, "choose the snapshot", n.flags},
		} {
			var took []time.Duration
			for range rounds {
				began := time.Now()
				seen := n.start(b, s.args...)
				took = append(took, seen.until(b, s.shows).Sub(began))
				seen.kill()
			}
			slices.Sort(took)
			median := took[rounds/2]
			limit := limitText(float64(s.limit.Milliseconds()), "ms")
			_, _ = fmt.Fprintf(out, "%s\t%d ms\t%d ms\t%s\n", s.name, median.Milliseconds(), took[rounds-1].Milliseconds(), limit)
			if s.limit > 0 && median > s.limit {
				b.Errorf("%s: %v", s.name, median)
			}
		}
		for _, s := range n.waiting(b) {
			_, _ = fmt.Fprintf(out, "%s: share of one core\t%.1f %%\t\t%s\n", s.name, s.share*100, limitText(shareLimit*100, "%"))
			if s.share > shareLimit {
				b.Errorf("%s: %.1f %% of one core", s.name, s.share*100)
			}
		}
	}
	_ = out.Flush()
	b.ReportMetric(0, "ns/op")
	fmt.Print("\n", table.String(), "\n")
}

func limitText(limit float64, unit string) string {
	if limit == 0 {
		return ""
	}
	return fmt.Sprintf("%.0f %s", limit, unit)
}

func cpuModel() string {
	data, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(data)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

// practiceNode is a node that the other binary runs, in processes of its own.
type practiceNode struct {
	binary, dir, big string
	flags            []string
	through          []string // what starts the binary
	pid              int
}

func benchNode(b *testing.B) *practiceNode {
	b.Helper()
	binary, err := filepath.Abs(nodeBinary)
	if err != nil {
		b.Fatal(err)
	}
	n := &practiceNode{binary: binary, dir: b.TempDir()}
	n.big = filepath.Join(n.dir, "big.db")
	bigSnapshot(b, n.big)
	root := filepath.Join(n.dir, "node")
	cmd := exec.Command(practiceBinary, "practice", "--by-hand", "--no-namespaces", "--dir", root, "--home", n.dir)
	cmd.Env = append(os.Environ(), "SHELL=/bin/sh")
	in, err := cmd.StdinPipe() // the node ends with it
	if err != nil {
		b.Fatal(err)
	}
	told, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	n.pid = cmd.Process.Pid
	b.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	if !tells(told, "In this shell") {
		b.Fatal("the practice node doesn't come up")
	}
	go func() { _, _ = io.Copy(io.Discard, told) }()
	small := filepath.Join(n.dir, "etcd-nightly.db")
	ahead := time.Now().Add(time.Minute) // the newest: the first in the list
	if err := errors.Join(os.Rename(root+"/opt/backup/etcd-nightly.db", small), os.Chtimes(small, ahead, ahead)); err != nil {
		b.Fatal(err)
	}
	n.flags = []string{"--kubelet-config", root + "/var/lib/kubelet/config.yaml", "--manifests", root + "/etc/kubernetes/manifests"}
	return n
}

func tells(r io.Reader, text string) bool {
	var all []byte
	buf := make([]byte, 4096)
	for {
		n, err := r.Read(buf)
		if all = append(all, buf[:n]...); bytes.Contains(all, []byte(text)) {
			return true
		}
		if err != nil {
			return false
		}
	}
}

// bigSnapshot writes a whole snapshot of 2.4 GB: 2400 objects of a megabyte.
func bigSnapshot(b *testing.B, path string) {
	b.Helper()
	db, err := bolt.Open(path, 0o600, &bolt.Options{NoSync: true, NoFreelistSync: true})
	if err != nil {
		b.Fatal(err)
	}
	for done := int64(0); done < 2400 && err == nil; {
		err = db.Update(func(tx *bolt.Tx) error {
			_, merr := tx.CreateBucketIfNotExists([]byte("meta"))
			keys, kerr := tx.CreateBucketIfNotExists([]byte("key"))
			if err := errors.Join(merr, kerr); err != nil {
				return err
			}
			for range 100 {
				done++
				k := append(binary.BigEndian.AppendUint64(nil, uint64(done+1)), "_\x00\x00\x00\x00\x00\x00\x00\x00"...)
				v, err := proto.Marshal(&mvccpb.KeyValue{
					Key: fmt.Appendf(nil, "/registry/example.com/things/%d", done), Value: bytes.Repeat([]byte("1234567 "), 125_000),
					CreateRevision: done + 1, ModRevision: done + 1, Version: 1,
				})
				if err := errors.Join(err, keys.Put(k, v)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := errors.Join(err, db.Close()); err != nil {
		b.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	_, werr := f.Write(h.Sum(nil))
	old := time.Now().Add(-time.Hour)
	if err := errors.Join(err, werr, os.Chtimes(path, old, old)); err != nil {
		b.Fatal(err)
	}
}

// onScreen is a command on a terminal that answers nothing.
type onScreen struct {
	cmd  *exec.Cmd
	tty  *os.File
	done chan struct{}

	mu   sync.Mutex
	out  []byte
	when []time.Time // what was reported up to then
	upTo []int
	from int
}

func (n *practiceNode) start(b *testing.B, args ...string) *onScreen {
	b.Helper()
	all := slices.Concat(n.through, []string{n.binary}, args)
	s := &onScreen{cmd: exec.Command(all[0], all[1:]...), done: make(chan struct{})}
	s.cmd.Dir = n.dir
	s.cmd.Env = append(os.Environ(), "TERM=xterm-256color", "LANG=C.UTF-8")
	tty, err := pty.StartWithSize(s.cmd, &pty.Winsize{Rows: 60, Cols: 200})
	if err != nil {
		b.Fatal(err)
	}
	s.tty = tty
	b.Cleanup(s.kill)
	go func() {
		defer close(s.done)
		buf := make([]byte, 64<<10)
		for {
			k, err := tty.Read(buf)
			s.mu.Lock()
			s.out = append(s.out, buf[:k]...)
			s.when, s.upTo = append(s.when, time.Now()), append(s.upTo, len(s.out))
			s.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return s
}

// kill is safe to call twice.
func (s *onScreen) kill() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
	_ = s.tty.Close()
	<-s.done
}

// until waits for a text after the one waited for last, "" for anything at
// all, and reports when it was there.
func (s *onScreen) until(b *testing.B, text string) time.Time {
	b.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		s.mu.Lock()
		for i, at := range s.upTo {
			if at <= s.from {
				continue
			}
			if strings.Contains(ansi.Strip(string(s.out[s.from:at])), text) {
				s.from = at
				when := s.when[i]
				s.mu.Unlock()
				return when
			}
		}
		s.mu.Unlock()
	}
	b.Fatalf("%q was not shown:\n%s", text, ansi.Strip(string(s.out)))
	return time.Time{}
}

func (s *onScreen) press(b *testing.B, keys ...string) {
	b.Helper()
	for _, k := range keys {
		if _, err := s.tty.WriteString(k); err != nil {
			b.Fatal(err)
		}
	}
}

// cpu is what the process has used so far. proc(5): fields 14 and 15 of stat,
// in hundredths of a second.
func (s *onScreen) cpu(b *testing.B) time.Duration {
	b.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
	if err != nil {
		b.Fatal(err)
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	user, uerr := strconv.Atoi(fields[11])
	system, serr := strconv.Atoi(fields[12])
	if err := errors.Join(uerr, serr); err != nil {
		b.Fatal(err)
	}
	return time.Duration(user+system) * 10 * time.Millisecond
}

// share is the part of one core that it takes for ten seconds from now.
func (s *onScreen) share(b *testing.B) float64 {
	b.Helper()
	began, before := time.Now(), s.cpu(b)
	time.Sleep(10 * time.Second) // what is measured is what happens meanwhile
	return (s.cpu(b) - before).Seconds() / time.Since(began).Seconds()
}

type shareOf struct {
	name  string
	share float64
}

// waiting measures the wizard while it waits for a user and for etcd, which is
// held in the middle of a restore.
func (n *practiceNode) waiting(b *testing.B) []shareOf {
	b.Helper()
	// In a namespace that has the practice node's name: else the wizard would
	// wait for the pods of another node.
	n.through = []string{"unshare", "--uts", "sh", "-c", `hostname "$0" && exec "$@"`, nodeName}
	if os.Geteuid() != 0 {
		n.through = slices.Insert(n.through, 1, "--user", "--map-root-user")
	}
	var all []shareOf
	s := n.start(b, n.flags...)
	s.until(b, "choose the snapshot")
	all = append(all, shareOf{"the node's screen", s.share(b)})
	s.press(b, "\r")
	s.until(b, "SHA-256     verified") // it has been looked into
	s.press(b, "\r")
	s.until(b, "The restore re-creates")
	s.press(b, "\r")
	s.until(b, "1 to fix or override") // that it listens on the loopback address
	s.press(b, " ")
	s.until(b, "nothing blocks the restore")
	s.press(b, "\r")
	s.until(b, "Restore etcd-nightly.db")
	s.press(b, "\r")
	s.until(b, "Type the node's name")
	old := n.etcd(b, 0)
	s.press(b, nodeName, "\r")
	held := n.etcd(b, old) // before it has opened its data
	_ = syscall.Kill(held, syscall.SIGSTOP)
	b.Cleanup(func() { _ = syscall.Kill(held, syscall.SIGKILL) }) // one that is stopped doesn't end
	s.until(b, "Wait until etcd has opened")
	all = append(all, shareOf{"a run that waits for etcd", s.share(b)})
	other := n.start(b, n.flags...)
	other.until(b, "this screen is read-only")
	all = append(all, shareOf{"the same, looked at by another process", other.share(b)})
	other.kill()
	s.press(b, "l")
	s.until(b, "Log of etcd")
	all = append(all, shareOf{"the same run, etcd's log shown", s.share(b)})
	s.kill()
	s = n.start(b, n.flags...)
	s.until(b, "was interrupted")
	all = append(all, shareOf{"an interrupted run", s.share(b)})
	s.kill()
	return all
}

// etcd is the process of the node's etcd, once it isn't the old one.
func (n *practiceNode) etcd(b *testing.B, old int) int {
	b.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", n.pid))
		for _, t := range tasks {
			children, _ := os.ReadFile(t)
			for _, child := range strings.Fields(string(children)) {
				command, _ := os.ReadFile("/proc/" + child + "/cmdline")
				if pid, _ := strconv.Atoi(child); pid != old && bytes.HasPrefix(command, []byte("etcd\x00")) {
					return pid
				}
			}
		}
	}
	b.Fatal("the node has no new etcd")
	return 0
}
