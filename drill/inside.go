package drill

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"etcd-rewind/defect"
	"etcd-rewind/pipe"
	"etcd-rewind/problem"
	"etcd-rewind/trust"
)

// workerEnv makes this binary the process that the programs of a drill are
// children of, or one that holds a container.
const (
	workerEnv  = "ETCD_REWIND_DRILL"
	roleInside = "inside"
	roleHold   = "hold"
)

// order is what the process inside is to do.
type order struct {
	Dir      string   `json:"dir"`
	Groups   []string `json:"groups,omitempty"` // files that take it into its cgroups
	EtcdUser string   `json:"etcd_user"`
	Etcd     launch   `json:"etcd"`
	Quota    int64    `json:"quota,omitempty"`
	API      *launch  `json:"api,omitempty"`

	Flags      []string `json:"flags,omitempty"` // of the API server
	Encryption string   `json:"encryption,omitempty"`
	Files      []bound  `json:"files,omitempty"`

	Revision int64    `json:"revision"`
	Keys     int      `json:"keys"`
	Kinds    []wanted `json:"kinds,omitempty"`
	Doubtful []wanted `json:"doubtful,omitempty"` // those of the kinds that may be unreadable
}

// launch is a program to be started; the file is handed over open.
type launch struct {
	Static bool     `json:"static"`
	Env    []string `json:"env,omitempty"`
}

// told is a line of what the process inside says: parts as they end, and then
// what was read or why it wasn't.
type told struct {
	Begun string           `json:"begun,omitempty"`
	Part  *Part            `json:"part,omitempty"`
	Say   string           `json:"say,omitempty"`
	Etcd  string           `json:"etcd_version,omitempty"`
	API   string           `json:"api_version,omitempty"`
	Kinds []Kind           `json:"kinds,omitempty"`
	End   bool             `json:"end,omitempty"`
	Fault *problem.Problem `json:"fault,omitempty"` // of the backup
	Error *problem.Problem `json:"error,omitempty"` // of the drill
}

// enter starts the process inside and passes on what it says. All that runs
// there ends before enter does. The files are the locks of the place, etcd, and
// kube-apiserver, which may be nil.
func enter(ctx context.Context, o order, files []*os.File, hear func(told)) error {
	text, err := json.Marshal(o)
	if err != nil {
		return err
	}
	cmd, err := trust.Self(ctx, "(drill)") // for ps
	if err != nil {
		return err
	}
	cmd.Env = append(cmd.Env, workerEnv+"="+roleInside)
	cmd.ExtraFiles = files
	if cmd.SysProcAttr, err = namespaces(); err != nil {
		return err
	}
	stderr := trust.Tail{Most: keptOfALog}
	cmd.Stderr = &stderr
	ended, err := pipe.Ask(cmd, text, func(t told) bool {
		hear(t)
		return t.End || t.Fault != nil || t.Error != nil
	})
	if start := (pipe.StartError{}); errors.As(err, &start) {
		return problem.New("run it as root, on a kernel that allows namespaces", "cannot make namespaces for the drill: %w", start.Err)
	}
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case ended:
		return nil
	case err == nil:
		err = errors.New("it ended without an answer")
	}
	return fmt.Errorf("the drill's process: %w: %s", err, trust.Clip(trust.Text(lastOf(&stderr)), 400))
}

// Worker must be among the first things that main, and TestMain of a package
// whose tests run drills, calls. In a process of a drill it does what that is
// for and doesn't return; otherwise it returns at once.
func Worker() {
	role := os.Getenv(workerEnv)
	if role == "" {
		return
	}
	_ = os.Unsetenv(workerEnv)
	switch role {
	case roleHold:
		holdOn()
	case roleInside:
		os.Exit(serve(os.Stdin, os.Stdout))
	}
	fmt.Fprintf(os.Stderr, "%s is for internal use: it must not be set\n", workerEnv)
	os.Exit(2)
}

func serve(in io.Reader, out io.Writer) int {
	r := bufio.NewReader(in)
	line, err := r.ReadBytes('\n')
	var o order
	if err != nil || json.Unmarshal(line, &o) != nil {
		fmt.Fprintf(os.Stderr, "%s is for internal use: it must not be set\n", workerEnv)
		return 2
	}
	go defect.Do(func() {
		// The parent keeps the pipe open until it has its answer; so it is gone.
		_, _ = io.Copy(io.Discard, r)
		os.Exit(1)
	})()
	enc := json.NewEncoder(out)
	var mu sync.Mutex
	say := func(t told) {
		mu.Lock()
		defer mu.Unlock()
		_ = enc.Encode(t)
	}
	last := inside(context.Background(), o, say)
	say(last)
	return 0
}
