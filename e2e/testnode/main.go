//go:build linux

// Command testnode keeps a control-plane node up for a developer to work on.
//
//	go run ./e2e/testnode up            bring it up; it stays until down
//	go run ./e2e/testnode exec          a shell inside it
//	go run ./e2e/testnode exec -- ls    a command inside it
//	go run ./e2e/testnode env           where it is, as shell variables
//	go run ./e2e/testnode path FILE     where a path inside it is on this machine
//	go run ./e2e/testnode list          the nodes of this machine
//	go run ./e2e/testnode down          take it down
//
// With --nodes 3 it is a cluster of cp1, cp2 and cp3: three nodes, that are named
// after the cluster and the host for the other commands, and reach each other by
// `ssh cp2`.
//
//	go run ./e2e/testnode up --name ha --nodes 3
//	go run ./e2e/testnode exec --name ha-cp2
//	go run ./e2e/testnode cut --name ha-cp3     pull its cable
//	go run ./e2e/testnode mend --name ha-cp3    plug it in again
//	go run ./e2e/testnode down --name ha
//
// With --systemd it is a host as people have it: kubelet and containerd as
// systemd's units. With --etcd-hosts etcd is on systemd hosts of its own, etcd1 and
// so on, and kubeadm's etcd.external is in front.
//
//	go run ./e2e/testnode up --name sys --systemd --kubernetes kubernetes-1.37 --containerd containerd-2.4
//	go run ./e2e/testnode up --name ext --etcd-hosts 1 --form kubespray
//	go run ./e2e/testnode exec --name ext-etcd1
//
// It needs root, and Debian's packages that e2e/install.sh installs.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"etcd-rewind/e2e/cluster"
)

const usage = `usage: testnode up|down|exec|env|path|list|cut|mend [--name NAME] [flags] [-- COMMAND [ARGUMENTS]]`

func main() {
	// A node that stays would keep whatever the caller has open, the lock of
	// `flock FILE testnode up` for one.
	if err := unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		fmt.Fprintln(os.Stderr, "testnode:", err)
		os.Exit(1)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	err := run(ctx, os.Args[1:])
	stop()
	// Not errors.As: an error that wraps it is of the node, and is printed.
	if exit, ok := err.(*exec.ExitError); ok && exit.ExitCode() > 0 { //nolint:errorlint // see above
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
	flags.StringVar(&config.Name, "name", "cp1", "the node's name, or the cluster's")
	layout := ""
	nodes, etcdHosts, form := 1, 0, string(cluster.Kubespray)
	if args[0] == "up" {
		flags.IntVar(&nodes, "nodes", nodes, "how many control planes, of one cluster")
		flags.IntVar(&etcdHosts, "etcd-hosts", 0, "how many hosts of an external etcd")
		flags.StringVar(&form, "form", form, "how an external etcd is set up: kubespray, by-hand, docker, podman or standalone")
		flags.BoolVar(&config.Systemd, "systemd", false, "hosts with systemd")
		flags.StringVar(&config.Kubernetes, "kubernetes", "", "the folder in e2e/parts that Kubernetes is built from")
		flags.StringVar(&config.Containerd, "containerd", "", "the folder in e2e/parts that a systemd host's containerd is built from (default: Debian's)")
		flags.StringVar(&layout, "layout", "", "who has set the host with systemd up: minikube or kind (default: Kubernetes' packages)")
		flags.BoolVar(&config.VM, "vm", false, "a virtual machine with systemd, on cgroup v2: needs user-mode-linux")
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

	config.Layout = cluster.Layout(layout)
	switch args[0] {
	case "up":
		if nodes > 1 || etcdHosts > 0 {
			var c *cluster.Cluster
			var err error
			if etcdHosts > 0 {
				c, err = cluster.UpExternal(ctx, config, cluster.Form(form), numbered("etcd", etcdHosts), numbered("cp", nodes)...)
			} else {
				c, err = cluster.UpCluster(ctx, config, numbered("cp", nodes)...)
			}
			if err != nil {
				return err
			}
			list(c.All())
			return nil
		}
		node, err := cluster.Up(ctx, config)
		if err != nil {
			return err
		}
		print(node)
		return nil
	case "down":
		c, err := cluster.OpenCluster(config.Name)
		if err == nil {
			return c.Down(ctx)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
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
		list(nodes)
		return err
	case "cut", "mend":
		node, err := cluster.Open(config.Name)
		if err != nil {
			return err
		}
		if args[0] == "cut" {
			return node.LinkDown(ctx)
		}
		return node.LinkUp(ctx)
	case "path":
		node, err := cluster.Open(config.Name)
		if err == nil && flags.NArg() != 1 {
			err = errors.New(usage)
		}
		if err != nil {
			return err
		}
		fmt.Println(node.HostPath(flags.Arg(0)))
		return nil
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
		cmd.Env = append(cmd.Env, "KUBECONFIG="+node.Kubeconfig)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		return cmd.Run()
	}
	return errors.New(usage)
}

func numbered(name string, count int) []string {
	var all []string
	for i := range count {
		all = append(all, fmt.Sprintf("%s%d", name, i+1))
	}
	return all
}

func list(nodes []*cluster.Node) {
	for _, node := range nodes {
		fmt.Printf("%s\t%s\t%s\n", node.Name, node.Address, node.Dir)
	}
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
