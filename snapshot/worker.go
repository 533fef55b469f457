package snapshot

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"time"

	"etcd-rewind/defect"
	"etcd-rewind/pipe"
	"etcd-rewind/priority"
	"etcd-rewind/problem"
	"etcd-rewind/trust"
)

// workerEnv makes this binary serve one request instead of its usual work.
const workerEnv = "ETCD_REWIND_WORKER"

// The requests.
const (
	workInspect   = "inspect"
	workRestore   = "restore"
	workDataDir   = "datadir"
	workLastUsers = "last-users"
	workCompare   = "compare"
)

// Worker must be the first thing that main, and TestMain of a package whose
// tests read snapshots, calls. Reading a damaged file through a memory map may
// end the process, which no recover stops; so Inspect, Restore, ReadDataDir
// and Compare start this same binary again and have it done there. In that child Worker
// serves the request and exits; otherwise it returns at once.
func Worker() {
	kind := os.Getenv(workerEnv)
	if kind == "" {
		return
	}
	os.Exit(serve(kind, os.Stdin, os.Stdout))
}

// reply is one line of what a worker says: progress many times, then one of
// the others.
type reply struct {
	Progress *Progress        `json:"progress,omitempty"`
	Result   json.RawMessage  `json:"result,omitempty"`
	Problem  *problem.Problem `json:"problem,omitempty"`
	Error    string           `json:"error,omitempty"`
}

// Progress of a restore or an inspection; Done and Total are bytes, Total is 0
// when it isn't known.
type Progress struct {
	Phase string `json:"phase"` // "hash"; of a restore "unpack" (again), "copy", "wal", "sync", "verify"; of a comparison "snapshot", "other"
	Done  int64  `json:"done"`
	Total int64  `json:"total"`
}

// replies writes to the parent, from several goroutines.
type replies struct {
	mu   sync.Mutex
	enc  *json.Encoder
	last Progress
	when time.Time
}

// progress is sent ten times a second and at every change of the phase.
func (r *replies) progress(p Progress) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p.Phase == r.last.Phase && p.Done < p.Total && time.Since(r.when) < 100*time.Millisecond {
		return
	}
	if p == r.last {
		return
	}
	r.last, r.when = p, time.Now()
	_ = r.enc.Encode(reply{Progress: &p}) // a parent that is gone ends us anyway
}

func (r *replies) end(result any, err error) {
	var last reply
	switch p := problem.Of(err); {
	case p != nil:
		last.Problem = p
	case err != nil:
		last.Error = err.Error()
	default:
		if last.Result, err = json.Marshal(result); err != nil {
			last.Error = err.Error()
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	_ = r.enc.Encode(last)
}

// copiesNice is for what copies a database: a third of the usual weight for the CPU.
const copiesNice = 5

func serve(kind string, in io.Reader, out io.Writer) int {
	// Pages that form a circle make bbolt recurse: give up long before the
	// memory of the node is used up.
	debug.SetMaxStack(64 << 20)
	r := bufio.NewReader(in)
	line, err := r.ReadBytes('\n')
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s is for internal use: it must not be set\n", workerEnv)
		return 2
	}
	go defect.Do(func() {
		// The parent keeps the pipe open until we end; so it is gone.
		_, _ = io.Copy(io.Discard, r)
		os.Exit(1)
	})()
	w := &replies{enc: json.NewEncoder(out)}
	var result any
	switch kind {
	case workInspect:
		var req inspectRequest
		if err = json.Unmarshal(line, &req); err == nil {
			boundMemory(req.Path)
			if req.Copy != "" {
				priority.GiveWay(copiesNice)
			}
			var info *Info
			if info, err = inspectFile(req, nil, w.progress); err == nil {
				result = inspected{Info: info, Stored: info.stored, Copied: info.copied}
			}
		}
	case workRestore:
		var work restoreWork
		if err = json.Unmarshal(line, &work); err == nil {
			boundMemory(work.Snapshot, scratchDB(work.DataDir))
			priority.GiveWay(copiesNice)
			result, err = restoreInto(work, w.progress)
		}
	case workDataDir:
		var req dataDirRequest
		if err = json.Unmarshal(line, &req); err == nil {
			boundMemory(dbPath(req.DataDir))
			result, err = readDataDir(req.DataDir, req.WALDir)
		}
	case workLastUsers:
		var req dataDirRequest
		if err = json.Unmarshal(line, &req); err == nil {
			boundMemory(dbPath(req.DataDir))
			result, err = readLastUsers(req.DataDir)
		}
	case workCompare:
		var req compareRequest
		if err = json.Unmarshal(line, &req); err == nil {
			boundMemory(req.Snapshot, req.Other.Snapshot, dbPath(req.Other.DataDir))
			result, err = compare(req, w.progress)
		}
	default:
		err = fmt.Errorf("unknown request %q", kind)
	}
	w.end(result, err)
	return 0
}

// boundMemory ends this process before it takes more memory than reading the
// files can be worth: pages that lie about their number make bbolt keep billions
// of them. What is mapped doesn't count.
func boundMemory(files ...string) {
	most := int64(2*workMemory + 128<<20)
	for _, f := range files {
		if st, err := os.Stat(f); err == nil {
			most += min(st.Size(), maxDatabase) / 8
		}
	}
	limitData(uint64(most))
}

// crashError is a worker that ended without an answer.
type crashError struct {
	signal string // "SIGBUS", "panic", "SIGKILL", ...
	detail string // first line that says something
}

const outOfMemory = "no memory"

func (e *crashError) Error() string {
	if e.signal == "SIGKILL" {
		return "the process that read it was killed, perhaps because memory ran out"
	}
	if e.signal == outOfMemory {
		return "reading it takes more memory than a database of its size can need"
	}
	if e.detail == "" {
		return "reading it crashed with " + e.signal
	}
	return fmt.Sprintf("reading it crashed with %s: %s", e.signal, e.detail)
}

// call has a request served by a child process. The child dies with this
// process and with ctx. It is in a process group of its own, so that a Ctrl-C
// at the terminal doesn't end it in the middle of an action.
func call(ctx context.Context, kind string, request, result any, progress func(Progress)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	line, err := json.Marshal(request)
	if err != nil {
		return err
	}
	cmd, err := trust.Self(ctx, "("+kind+" worker)") // for ps
	if err != nil {
		return err
	}
	cmd.Env = append(cmd.Env, workerEnv+"="+kind)
	cmd.SysProcAttr = childAttr()
	cmd.WaitDelay = 5 * time.Second
	stderr := trust.Head{Most: 16 << 10}
	cmd.Stderr = &stderr
	var last *reply
	_, err = pipe.Ask(cmd, line, func(r reply) bool {
		switch {
		case r.Progress == nil:
			last = &r
		case progress != nil:
			progress(*r.Progress)
		}
		return last != nil
	})
	if start := (pipe.StartError{}); errors.As(err, &start) {
		return fmt.Errorf("cannot start a second process of %s: %w", cmd.Path, start.Err)
	}
	switch {
	// Cancelled is cancelled, even if the answer came at the same moment.
	case ctx.Err() != nil:
		return context.Cause(ctx)
	// An answer counts even if the child stumbled over its own end.
	case last != nil && last.Problem != nil:
		return last.Problem
	case last != nil && last.Error != "":
		return errors.New(last.Error)
	case last != nil:
		return json.Unmarshal(last.Result, result)
	}
	return crashOf(err, stderr.String())
}

// crashOf reads from exit status and stderr how a worker ended. Go's runtime
// turns SIGBUS into a "fatal error" and exit status 2.
func crashOf(err error, stderr string) error {
	c := &crashError{signal: "an unknown error"}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		c.signal = exit.String()
		if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			c.signal = signalName(ws.Signal())
		}
	}
	for _, name := range []string{"SIGBUS", "SIGSEGV"} {
		if strings.Contains(stderr, "signal "+name) {
			c.signal = name
			return c
		}
	}
	if strings.Contains(stderr, "fatal error:") && (strings.Contains(stderr, "out of memory") || strings.Contains(stderr, "cannot allocate memory")) {
		c.signal = outOfMemory
		return c
	}
	for line := range strings.Lines(stderr) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		if rest, ok := strings.CutPrefix(line, "panic: "); ok {
			c.signal, line = "a panic", rest
		}
		c.detail = shorten(line, 1000)
		break
	}
	return c
}

func signalName(s syscall.Signal) string {
	switch s {
	case syscall.SIGBUS:
		return "SIGBUS"
	case syscall.SIGSEGV:
		return "SIGSEGV"
	case syscall.SIGKILL:
		return "SIGKILL"
	}
	return s.String()
}

func shorten(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "..."
}
