package practice

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

// roleEnv makes this binary be one of the programs of a control plane.
const roleEnv = "ETCD_REWIND_PRACTICE"

// insideRole is the first process inside the node's namespaces.
const insideRole = "inside"

// programs are what a container's command may name.
var programs = map[string]func(args []string) int{
	"etcd":                    etcdMain,
	"kube-apiserver":          apiServerMain,
	"kube-controller-manager": idleMain,
	"kube-scheduler":          idleMain,
	"sleep":                   sleepMain,
	"pause":                   idleMain,
}

// EtcdEnv is the environment in which a process of this binary is etcd, and takes
// etcd's flags. It ends with its standard input.
func EtcdEnv() []string { return []string{roleEnv + "=etcd"} }

// Worker must be the first thing that main, and TestMain of a package whose
// tests start a practice node, calls. In a process that was started as one of
// the programs of a control plane it is that program and doesn't return;
// otherwise it returns at once.
func Worker() {
	role := os.Getenv(roleEnv)
	if role == "" {
		return
	}
	_ = os.Unsetenv(roleEnv)
	if role == insideRole {
		os.Exit(insideMain(os.Args[1:]))
	}
	if tool := tools[role]; tool != nil {
		os.Exit(tool(os.Args[1:]))
	}
	program := programs[role]
	if program == nil {
		fmt.Fprintf(os.Stderr, "%s is for internal use: it must not be set\n", roleEnv)
		os.Exit(2)
	}
	go func() {
		// The parent keeps the pipe open as long as it lives.
		_, _ = io.Copy(io.Discard, os.Stdin)
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}()
	os.Exit(program(os.Args[1:]))
}

// idleMain stands for kube-controller-manager and kube-scheduler: they hold no
// state, and nothing here needs what they do.
func idleMain([]string) int {
	fmt.Fprintln(os.Stderr, "a stand-in that does nothing; practice doesn't need it")
	return untilTerm(0)
}

func sleepMain(args []string) int {
	var d time.Duration
	if len(args) > 0 && args[0] != "infinity" {
		s, err := strconv.ParseFloat(args[0], 64)
		if err != nil {
			fmt.Fprintf(os.Stderr, "sleep: invalid number '%s'\n", args[0])
			return 1
		}
		d = time.Duration(s * float64(time.Second))
		if d <= 0 {
			return 0
		}
	}
	return untilTerm(d)
}

// untilTerm waits for SIGTERM, or for d when it isn't 0.
func untilTerm(d time.Duration) int {
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM, syscall.SIGINT)
	var over <-chan time.Time
	if d > 0 {
		over = time.After(d)
	}
	select {
	case <-term:
	case <-over:
	}
	return 0
}
