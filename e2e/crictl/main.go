//go:build linux

// Command crictl stands in for the program of that name from cri-tools, as far
// as the commands of a plan use it: pods, ps, stopp and rmp, with the flags
// that are in them, over the same CRI.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	"etcd-rewind/node"
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	err := run(ctx, os.Args[1:])
	cancel()
	if err != nil {
		fmt.Fprintln(os.Stderr, "crictl:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	global := flag.NewFlagSet("crictl", flag.ContinueOnError)
	endpoint := global.String("r", "unix:///run/containerd/containerd.sock", "runtime endpoint")
	if err := global.Parse(args); err != nil {
		return err
	}
	if global.NArg() == 0 {
		return fmt.Errorf("no command")
	}
	runtime, err := node.Dial(ctx, *endpoint)
	if err != nil {
		return err
	}
	defer runtime.Close()

	verb := global.Arg(0)
	flags := flag.NewFlagSet(verb, flag.ContinueOnError)
	flags.Bool("q", false, "only ids, which is all there is")
	state := flags.String("state", "", "ready, or running")
	namespace := flags.String("namespace", "kube-system", "of the pod")
	name := flags.String("name", "", "^name$ of the pod")
	label := flags.String("label", "", "io.kubernetes.pod.name=name")
	if err := flags.Parse(global.Args()[1:]); err != nil {
		return err
	}
	pod := strings.TrimSuffix(strings.TrimPrefix(*name, "^"), "$")
	if *label != "" {
		pod = strings.TrimPrefix(*label, "io.kubernetes.pod.name=")
	}

	switch verb {
	case "pods", "ps":
		sandboxes, err := runtime.Pod(ctx, *namespace, pod)
		if err != nil {
			return err
		}
		for _, s := range sandboxes {
			if verb == "pods" {
				if *state == "" || s.Ready {
					fmt.Println(s.ID)
				}
				continue
			}
			for _, c := range s.Containers {
				if *state == "" || strings.EqualFold(c.State, *state) {
					fmt.Println(c.ID)
				}
			}
		}
		return nil
	case "stopp", "rmp":
		// The program itself calls this wrong usage, and so do we.
		if flags.NArg() == 0 {
			return fmt.Errorf("%s: no pod is named", verb)
		}
		for _, id := range flags.Args() {
			act := runtime.StopSandbox
			if verb == "rmp" {
				act = runtime.RemoveSandbox
			}
			if err := act(ctx, id); err != nil {
				return err
			}
		}
		return nil
	}
	return fmt.Errorf("the stand-in doesn't know %s", verb)
}
