//go:build e2e && linux

package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"etcd-rewind/e2e/cluster"
)

// tool is the program under test, at its path inside the node. It lies where
// anybody may run it, root or not, and goes away with the node.
const tool = "/run/etcd-rewind"

// buildTool builds the program under test into the node that tests work on.
func buildTool() error {
	return goBuild("etcd-rewind", tool)
}

// built is a program of this module. Each is built once; the nodes get copies.
func built(pkg string) (program string, err error) {
	program = filepath.Join(programs(), filepath.Base(pkg))
	if _, err := os.Stat(program); err == nil {
		return program, nil
	}
	if err := os.MkdirAll(programs(), 0o755); err != nil {
		return "", err
	}
	cmd := exec.Command("go", "build", "-o", program, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build %s: %w\n%s", pkg, err, out)
	}
	return program, nil
}

// goBuild brings a program of this module to a path inside the node.
func goBuild(pkg, path string) error {
	program, err := built(pkg)
	if err != nil {
		return err
	}
	to := node.HostPath(path)
	err = os.Remove(to) // it may run
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		err = os.MkdirAll(filepath.Dir(to), 0o755)
	}
	if err != nil {
		return err
	}
	from, err := os.Open(program)
	if err != nil {
		return err
	}
	defer from.Close()
	file, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, from)
	return errors.Join(err, file.Close())
}

// programs is where goBuild builds, until the tests end.
func programs() string { return filepath.Join(logs, "programs") }

// event is a line of --output json, as docs and scripts know it.
type event struct {
	Type    string `json:"type"`
	Time    time.Time
	Run     string `json:"run"`
	Step    string `json:"step"`
	Action  string `json:"action"`
	State   string `json:"state"`
	Message string `json:"message"`
	Seen    []struct {
		What string `json:"what"`
		Is   string `json:"is"`
	} `json:"seen"`

	// Of a check.
	Check string `json:"check"`
	Level string `json:"level"`
	Cause string `json:"cause"`
	Hint  string `json:"hint"`

	Plan *plan `json:"plan"`

	// Of a fleet.
	Node  string `json:"node"`
	Phase string `json:"phase"`
	Nodes []struct {
		Node, State, Phase, Cause string
		Do                        []string
		Result                    *struct {
			DataDir string `json:"data_dir"`
			Rev     int64  `json:"revision"`
		}
	} `json:"nodes"`

	// Of a result.
	OK       bool    `json:"ok"`
	Outage   float64 `json:"outage_seconds"`
	DataDir  string  `json:"data_dir"`
	Rev      int64   `json:"revision"`
	Reverted bool    `json:"put_back"`
	Undo     string  `json:"undo"`
	Report   string  `json:"report"`
	Error    *struct {
		Cause string   `json:"cause"`
		Hint  string   `json:"hint"`
		Log   []string `json:"log"`
	} `json:"error"`
}

// plan is what --dry-run prints.
type plan struct {
	Kind   string `json:"kind"`
	RunDir string `json:"run_dir"`
	Diffs  []struct{ Path, Text string }
	Steps  []struct {
		ID      string `json:"id"`
		When    string `json:"when"`
		Actions []struct {
			ID       string   `json:"id"`
			Kind     string   `json:"kind"`
			Commands []string `json:"commands"`
		} `json:"actions"`
	} `json:"steps"`
}

// brief is the line as a person debugging a test wants it.
func (e event) brief() string {
	s := strings.TrimSpace(e.Node + " " + fmt.Sprintf("%s %-6s %-24s %-8s %s", e.Time.Format("05.000"), e.Type, e.Step+" "+e.Action, e.State, e.Message))
	switch {
	case e.Type == "check" && e.Level == "ok":
		return ""
	case e.Type == "check":
		s += e.Check + ": " + e.Cause + " / " + e.Hint
	case e.Type == "result":
		s += fmt.Sprintf("ok=%t outage=%.1f put_back=%t data_dir=%s", e.OK, e.Outage, e.Reverted, e.DataDir)
		for _, n := range e.Nodes {
			s += fmt.Sprintf("\n    %s: %s %s %s %q", n.Node, n.State, n.Phase, n.Cause, n.Do)
		}
	}
	for _, seen := range e.Seen {
		s += fmt.Sprintf(" [%s: %s]", seen.What, seen.Is)
	}
	if e.Error != nil {
		s += fmt.Sprintf("\n    cause: %s\n    hint: %s\n    %s", e.Error.Cause, e.Error.Hint, strings.Join(e.Error.Log, "\n    "))
	}
	return s
}

// outcome is what came of one call of the tool.
type outcome struct {
	stdout, stderr string
	events         []event // the lines that are JSON
	code           int     // -1 when a signal ended it
	took           time.Duration
}

// last is the tool's last word. It has to be a result.
func (o outcome) last(t *testing.T) event {
	t.Helper()
	if len(o.events) == 0 || o.events[len(o.events)-1].Type != "result" {
		t.Fatalf("the last line of JSON is no result:\n%s\n%s", o.stdout, o.stderr)
	}
	return o.events[len(o.events)-1]
}

func (o outcome) plan(t *testing.T) *plan {
	t.Helper()
	for _, e := range o.events {
		if e.Plan != nil {
			return e.Plan
		}
	}
	t.Fatalf("there is no plan in:\n%s\n%s", o.stdout, o.stderr)
	return nil
}

// run runs the tool inside the node until it ends.
func run(t *testing.T, args ...string) outcome {
	t.Helper()
	return call{args: args}.run(t)
}

// restore is the restore that nobody watches, reported as JSON. It has to succeed.
func restore(t *testing.T, snapshot string, more ...string) event {
	t.Helper()
	o := run(t, append([]string{"restore", snapshot, "--yes", "--output", "json"}, more...)...)
	return o.succeeded(t)
}

// undo reverts the newest run. It has to succeed. It gets what a restore that
// was given it printed, too: a journal's word on what restarts kubelet is not
// enough.
func undo(t *testing.T) event {
	t.Helper()
	o := run(t, restarts("undo", "--yes", "--output", "json")...)
	t.Logf("undo took %.1f s, %s", o.took.Seconds(), o.slowest())
	return o.succeeded(t)
}

// restarts adds to a command how kubelet is restarted. Under systemd nothing has to
// be said.
func restarts(args ...string) []string {
	if node.Systemd {
		return args
	}
	return append(args, "--kubelet-restart-command", node.KubeletRestartCommand)
}

// slowest names the action that took longest.
func (o outcome) slowest() string {
	began := map[string]time.Time{}
	var longest time.Duration
	var title string
	for _, e := range o.events {
		if e.Type != "action" {
			continue
		}
		if e.State == "started" {
			began[e.Action] = e.Time
		}
		if took := e.Time.Sub(began[e.Action]); e.State == "done" && took > longest {
			longest, title = took, e.Message
		}
	}
	return fmt.Sprintf("%.1f s of it for: %s", longest.Seconds(), title)
}

func (o outcome) succeeded(t *testing.T) event {
	t.Helper()
	if o.code != 0 {
		t.Fatalf("exit status %d, want 0", o.code)
	}
	last := o.last(t)
	if !last.OK || last.Error != nil {
		t.Fatalf("the result is not ok: %+v", last)
	}
	return last
}

// call is a call of the tool that is more than its arguments.
type call struct {
	args  []string
	as    []string // a command line before the tool's, setpriv for example
	stdin string
	// on sees each line of JSON as soon as the tool has printed it.
	on func(event, process)
}

// process is a call that goes on.
type process struct{ started *os.Process }

// signal is for the tool alone.
func (p process) signal(s syscall.Signal) error {
	pid, _, err := node.Program(p.started)
	if err != nil {
		return err
	}
	return syscall.Kill(pid, s)
}

// killAll kills the tool and what it has started, as a group.
func (p process) killAll() error { return syscall.Kill(-p.started.Pid, syscall.SIGKILL) }

// id is the tool's, as it knows it.
func (p process) id() (string, error) {
	_, id, err := node.Program(p.started)
	return id, err
}

// limit is longer than any run of the tool may take, and than anything that is
// waited for.
const limit = 10 * time.Minute

func (c call) run(t *testing.T) outcome {
	t.Helper()
	limit := node.Stretched(limit)
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	line := append(append(append([]string{}, c.as...), tool), c.args...)
	cmd := node.Command(ctx, line[0], line[1:]...)
	cmd.Env = append(cmd.Environ(), "COLUMNS=10000") // no phrase is broken that a test looks for
	cmd.Stdin = strings.NewReader(c.stdin)
	// A group of its own, so that a test can kill all of it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var o outcome
	var text strings.Builder
	for lines := bufio.NewReader(out); ; {
		line, err := lines.ReadString('\n')
		text.WriteString(line)
		var e event
		if json.Unmarshal([]byte(line), &e) == nil && e.Type != "" {
			o.events = append(o.events, e)
			if c.on != nil {
				c.on(e, process{cmd.Process})
			}
		}
		if err != nil {
			if err != io.EOF {
				t.Error(err)
			}
			break
		}
	}
	_ = cmd.Wait() // the exit status says it
	o.code, o.took = cmd.ProcessState.ExitCode(), time.Since(began)
	o.stdout, o.stderr = text.String(), stderr.String()
	told := strings.Join(c.args, " ")
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("etcd-rewind %s: exit status %d after %.1f s\n%s", told, o.code, o.took.Seconds(), o.story())
		}
	})
	if ctx.Err() != nil {
		t.Fatalf("etcd-rewind %s did not end within %s", told, limit)
	}
	return o
}

// story is what the tool printed, for a test that failed.
func (o outcome) story() string {
	if len(o.events) == 0 {
		return o.stdout + o.stderr
	}
	var b strings.Builder
	for _, e := range o.events {
		if s := e.brief(); s != "" {
			fmt.Fprintln(&b, s)
		}
	}
	return b.String() + o.stderr
}

// kubeletLog keeps the ends of kubelets' logs beside the nodes' other logs when the test
// has failed; nodes are what tests work on then without any. They aren't printed: what the
// test says would be buried under them.
func kubeletLog(t *testing.T, nodes ...*cluster.Node) {
	t.Helper()
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		if len(nodes) == 0 {
			nodes = []*cluster.Node{node}
		}
		for _, n := range nodes {
			if !n.Systemd { // a bare node's lies there anyway
				continue
			}
			journal, err := n.Journal(afterwards(t), "kubelet", 4000)
			path := filepath.Join(logs, strings.ReplaceAll(t.Name(), "/", "-")+"."+n.Hostname+".kubelet.log")
			t.Logf("kubelet's log is in %s (%v)", path, errors.Join(err, os.WriteFile(path, []byte(journal), 0o600)))
		}
	})
}
