//go:build linux

// Command testnode keeps a control-plane node up for a developer to work on.
//
//	go run ./e2e/testnode up            bring it up; it stays until down
//	go run ./e2e/testnode exec          a shell inside it
//	go run ./e2e/testnode exec -- ls    a command inside it
//	go run ./e2e/testnode env           where it is, as shell variables
//	go run ./e2e/testnode list          the nodes of this machine
//	go run ./e2e/testnode down          take it down
//
// It needs root, and Debian's packages that e2e/install.sh installs.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"

	"etcd-rewind/e2e/cluster"
)

const usage = `usage: testnode up|down|exec|env|list [--name NAME] [flags] [-- COMMAND [ARGUMENTS]]`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	err := run(ctx, os.Args[1:])
	stop()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.ExitCode() > 0 {
		os.Exit(exit.ExitCode()) // the command has said why itself
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "testnode:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errors.New(usage)
	}
	config := cluster.Config{Detached: true, Progress: os.Stderr}
	flags := flag.NewFlagSet("testnode "+args[0], flag.ContinueOnError)
	flags.StringVar(&config.Name, "name", "cp1", "the node's name")
	if args[0] == "up" {
		flags.StringVar(&config.Hostname, "hostname", "", "its name in Kubernetes, if another")
		flags.StringVar(&config.Dir, "dir", "", "where its files and logs lie (default: below the temporary directory)")
		flags.StringVar(&config.Address, "address", "", "its address (default: a free one)")
		flags.IntVar(&config.KubeletVerbosity, "kubelet-verbosity", 0, "kubelet's -v")
	}
	if err := flags.Parse(args[1:]); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}

	switch args[0] {
	case "up":
		node, err := cluster.Up(ctx, config)
		if err != nil {
			return err
		}
		print(node)
		return nil
	case "down":
		node, err := cluster.Open(config.Name)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		return node.Down(ctx)
	case "env":
		node, err := cluster.Open(config.Name)
		if err != nil {
			return err
		}
		print(node)
		return nil
	case "list":
		nodes, err := cluster.List()
		for _, node := range nodes {
			fmt.Printf("%s\t%s\t%s\n", node.Name, node.Address, node.Dir)
		}
		return err
	case "exec":
		node, err := cluster.Open(config.Name)
		if err != nil {
			return err
		}
		command := flags.Args()
		if len(command) == 0 {
			command = []string{"bash"}
		}
		// Ctrl-C is for the command, which the terminal asks itself.
		cmd := node.Command(context.WithoutCancel(ctx), command[0], command[1:]...)
		cmd.Env = append(cmd.Env, "KUBECONFIG="+cluster.SuperAdmin)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		return cmd.Run()
	}
	return errors.New(usage)
}

// print writes what a script may want to know, for `eval`.
func print(node *cluster.Node) {
	for _, line := range [][2]string{
		{"NODE_NAME", node.Name},
		{"NODE_ADDRESS", node.Address},
		{"NODE_DIR", node.Dir},
		{"NODE_KUBELET_LOG", node.KubeletLog},
		{"NODE_CONTAINERD_LOG", node.ContainerdLog},
		{"NODE_KUBELET_RESTART", node.KubeletRestartCommand},
	} {
		fmt.Printf("%s='%s'\n", line[0], strings.ReplaceAll(line[1], "'", `'\''`))
	}
}
