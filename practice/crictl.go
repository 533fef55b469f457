package practice

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"k8s.io/apimachinery/pkg/util/duration"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// newCrictl looks at and ends containers, in the forms that the engine prints.
func newCrictl() *cobra.Command {
	c := &cobra.Command{Use: "crictl", Short: "the practice node's container runtime (pods, ps, logs, stopp, rmp, stop)"}
	endpoint := c.PersistentFlags().StringP("runtime-endpoint", "r", "", "the runtime's socket")
	with := func(do func(ctx context.Context, rt cri.RuntimeServiceClient, out io.Writer, args []string) error) func(*cobra.Command, []string) error {
		return func(c *cobra.Command, args []string) error {
			socket := strings.TrimPrefix(*endpoint, "unix://")
			if socket == "" {
				s, err := here()
				if err != nil {
					return err
				}
				socket = s.Socket
			}
			rt, hangUp, err := dialCRI(socket)
			if err != nil {
				return err
			}
			defer hangUp()
			return do(c.Context(), rt, c.OutOrStdout(), args)
		}
	}
	var quiet, all bool
	var state, name, namespace, label, pod string
	pods := &cobra.Command{Use: "pods", Args: cobra.NoArgs, RunE: with(func(ctx context.Context, rt cri.RuntimeServiceClient, out io.Writer, _ []string) error {
		resp, err := rt.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{})
		if err != nil {
			return err
		}
		slices.SortFunc(resp.Items, func(a, b *cri.PodSandbox) int { return cmp.Compare(b.CreatedAt, a.CreatedAt) })
		w := tabwriter.NewWriter(out, 0, 8, 3, ' ', 0)
		if !quiet {
			fmt.Fprintln(w, "POD ID\tCREATED\tSTATE\tNAME\tNAMESPACE\tATTEMPT")
		}
		for _, p := range resp.Items {
			is := map[bool]string{true: "Ready", false: "NotReady"}[p.State == cri.PodSandboxState_SANDBOX_READY]
			if !fits(name, p.Metadata.Name) || namespace != "" && namespace != p.Metadata.Namespace || state != "" && !strings.EqualFold(state, is) {
				continue
			}
			if quiet {
				fmt.Fprintln(w, p.Id)
				continue
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\n", p.Id[:13], ago(p.CreatedAt), is, p.Metadata.Name, p.Metadata.Namespace, p.Metadata.Attempt)
		}
		return w.Flush()
	})}
	ps := &cobra.Command{Use: "ps", Args: cobra.NoArgs, RunE: with(func(ctx context.Context, rt cri.RuntimeServiceClient, out io.Writer, _ []string) error {
		q := &cri.ContainerFilter{LabelSelector: map[string]string{}}
		if k, v, ok := strings.Cut(label, "="); ok {
			q.LabelSelector[k] = v
		}
		resp, err := rt.ListContainers(ctx, &cri.ListContainersRequest{Filter: q})
		if err != nil {
			return err
		}
		slices.SortFunc(resp.Containers, func(a, b *cri.Container) int { return cmp.Compare(b.CreatedAt, a.CreatedAt) })
		w := tabwriter.NewWriter(out, 0, 8, 3, ' ', 0)
		if !quiet {
			fmt.Fprintln(w, "CONTAINER\tIMAGE\tCREATED\tSTATE\tNAME\tATTEMPT\tPOD ID\tPOD")
		}
		for _, k := range resp.Containers {
			is := strings.TrimPrefix(k.State.String(), "CONTAINER_")
			switch {
			case !fits(name, k.Metadata.Name), pod != "" && !strings.HasPrefix(k.PodSandboxId, pod):
				continue
			case state != "" && !strings.EqualFold(state, is), state == "" && !all && k.State != cri.ContainerState_CONTAINER_RUNNING:
				continue
			}
			if quiet {
				fmt.Fprintln(w, k.Id)
				continue
			}
			is = is[:1] + strings.ToLower(is[1:])
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\n", k.Id[:13], k.Image.GetImage(), ago(k.CreatedAt), is, k.Metadata.Name, k.Metadata.Attempt, k.PodSandboxId[:13], k.Labels["io.kubernetes.pod.name"])
		}
		return w.Flush()
	})}
	for _, list := range []*cobra.Command{pods, ps} {
		list.Flags().BoolVarP(&quiet, "quiet", "q", false, "only IDs")
		list.Flags().StringVarP(&state, "state", "s", "", "in this state")
		list.Flags().StringVar(&name, "name", "", "with this name (a regular expression's ^ and $ are understood)")
		list.Flags().StringVar(&label, "label", "", "with this label, key=value")
	}
	pods.Flags().StringVar(&namespace, "namespace", "", "in this namespace")
	ps.Flags().BoolVarP(&all, "all", "a", false, "also those that have ended")
	ps.Flags().StringVarP(&pod, "pod", "p", "", "of this pod sandbox")

	each := func(use string, do func(ctx context.Context, rt cri.RuntimeServiceClient, id string) error, find func(context.Context, cri.RuntimeServiceClient, string) (string, error)) *cobra.Command {
		return &cobra.Command{Use: use, Args: cobra.MinimumNArgs(1), RunE: with(func(ctx context.Context, rt cri.RuntimeServiceClient, _ io.Writer, args []string) error {
			for _, a := range args {
				id, err := find(ctx, rt, a)
				if err == nil {
					err = do(ctx, rt, id)
				}
				if err != nil {
					return err
				}
			}
			return nil
		})}
	}
	tail := 0
	logs := &cobra.Command{Use: "logs CONTAINER", Args: cobra.ExactArgs(1), RunE: with(func(ctx context.Context, rt cri.RuntimeServiceClient, out io.Writer, args []string) error {
		id, err := containerID(ctx, rt, args[0])
		if err != nil {
			return err
		}
		resp, err := rt.ContainerStatus(ctx, &cri.ContainerStatusRequest{ContainerId: id})
		if err != nil {
			return err
		}
		return printLog(out, resp.Status.LogPath, tail)
	})}
	logs.Flags().IntVar(&tail, "tail", 0, "only the last lines")
	c.AddCommand(
		pods, ps, logs,
		each("stopp POD...", func(ctx context.Context, rt cri.RuntimeServiceClient, id string) error {
			_, err := rt.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: id})
			return err
		}, sandboxID),
		each("rmp POD...", func(ctx context.Context, rt cri.RuntimeServiceClient, id string) error {
			_, err := rt.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: id})
			return err
		}, sandboxID),
		each("stop CONTAINER...", func(ctx context.Context, rt cri.RuntimeServiceClient, id string) error {
			_, err := rt.StopContainer(ctx, &cri.StopContainerRequest{ContainerId: id})
			return err
		}, containerID),
	)
	return c
}

// dialCRI is a client of the practice runtime, or another at a socket.
func dialCRI(socket string) (rt cri.RuntimeServiceClient, hangUp func(), err error) {
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy())
	if err != nil {
		return nil, nil, err
	}
	return cri.NewRuntimeServiceClient(conn), func() { _ = conn.Close() }, nil
}

func fits(pattern, name string) bool {
	p, start := strings.CutPrefix(pattern, "^")
	p, end := strings.CutSuffix(p, "$")
	switch {
	case start && end:
		return name == p
	case start:
		return strings.HasPrefix(name, p)
	case end:
		return strings.HasSuffix(name, p)
	}
	return strings.Contains(name, p)
}

func ago(ns int64) string { return duration.HumanDuration(time.Since(time.Unix(0, ns))) + " ago" }

func sandboxID(ctx context.Context, rt cri.RuntimeServiceClient, prefix string) (string, error) {
	resp, err := rt.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{})
	if err != nil {
		return "", err
	}
	return theID("pod sandbox", resp.Items, prefix)
}

func containerID(ctx context.Context, rt cri.RuntimeServiceClient, prefix string) (string, error) {
	resp, err := rt.ListContainers(ctx, &cri.ListContainersRequest{})
	if err != nil {
		return "", err
	}
	return theID("container", resp.Containers, prefix)
}

// theID is the first ID that begins so.
func theID[T interface{ GetId() string }](what string, items []T, prefix string) (string, error) {
	for _, i := range items {
		if strings.HasPrefix(i.GetId(), prefix) {
			return i.GetId(), nil
		}
	}
	return "", fmt.Errorf("no %s %q", what, prefix)
}

func printLog(out io.Writer, path string, tail int) error {
	f, err := os.Open(filepath.Clean(path))
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	var lines []string
	for sc := bufio.NewScanner(f); sc.Scan(); {
		if parts := strings.SplitN(sc.Text(), " ", 4); len(parts) == 4 {
			lines = append(lines, parts[3])
		}
	}
	if tail > 0 && len(lines) > tail {
		lines = lines[len(lines)-tail:]
	}
	for _, l := range lines {
		fmt.Fprintln(out, l)
	}
	return nil
}
