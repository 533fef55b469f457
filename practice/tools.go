package practice

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"etcd-rewind/trust"
	"github.com/spf13/cobra"
	"go.etcd.io/etcd/etcdctl/v3/ctlv3"
	"go.etcd.io/etcd/etcdutl/v3/etcdutl"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"sigs.k8s.io/yaml"
)

// rootEnv tells the tools of the by-hand shell which practice node they are
// for.
const rootEnv = "ETCD_REWIND_PRACTICE_ROOT"

// insideEnv is the root of the node inside whose namespaces a process is.
const insideEnv = "ETCD_REWIND_PRACTICE_INSIDE"

// introEnv is set for the wizard that practice starts there.
const introEnv = "ETCD_REWIND_PRACTICE_INTRO"

// tools are the programs of the by-hand shell, by name. etcdctl and etcdutl
// are upstream's; the others do the little that the exercises need.
var tools map[string]func(args []string) int

func init() { // kubectl's command refers to tools: a literal would be a cycle
	tools = map[string]func(args []string) int{
		"etcdctl": func([]string) int { ctlv3.MustStart(); return 0 },
		"etcdutl": func(args []string) int { return execute(newEtcdutl(), args) },
		"kubectl": func(args []string) int { return execute(newKubectl(), args) },
		"crictl":  func(args []string) int { return execute(newCrictl(), args) },
		"systemctl": func(args []string) int {
			return execute(newSystemctl(), args)
		},
	}
}

func execute(c *cobra.Command, args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	c.SetArgs(args)
	c.CompletionOptions.DisableDefaultCmd = true
	c.SilenceUsage = true
	if err := c.ExecuteContext(ctx); err != nil {
		return 1
	}
	return 0
}

// writeTools puts the tools into a directory for PATH. They are this binary,
// told by their environment which one they are.
func (r Root) writeTools(exe string) error {
	if err := os.MkdirAll(r.tools(), 0o755); err != nil {
		return err
	}
	for name := range tools {
		text := trust.Shell("#!/bin/sh\n%s=%s %s=%s exec %s \"$@\"\n", roleEnv, name, rootEnv, string(r), exe)
		if err := os.WriteFile(filepath.Join(r.tools(), name), []byte(text), 0o755); err != nil {
			return err
		}
	}
	text := trust.Shell("#!/bin/sh\nexec %s \"$@\"\n", exe)
	return os.WriteFile(filepath.Join(r.tools(), "etcd-rewind"), []byte(text), 0o755)
}

// newEtcdutl is what etcdutl's main package builds of its own commands.
func newEtcdutl() *cobra.Command {
	c := &cobra.Command{Use: "etcdutl", Short: "An administrative command line tool for etcd3."}
	c.PersistentFlags().DurationVar(&etcdutl.FlockTimeout, "timeout", 10*time.Second, "time to wait to obtain a file lock on db file, 0 to block indefinitely")
	c.PersistentFlags().StringVarP(&etcdutl.OutputFormat, "write-out", "w", "simple", "set the output format (fields, json, protobuf, simple, table)")
	c.AddCommand(
		etcdutl.NewDefragCommand(), etcdutl.NewSnapshotCommand(), etcdutl.NewHashKVCommand(),
		etcdutl.NewVersionCommand(), etcdutl.NewMigrateCommand(),
	)
	return c
}

// here is the session that a tool was started for.
func here() (*session, error) {
	root := os.Getenv(rootEnv)
	if root == "" {
		return nil, fmt.Errorf("%s is not set: run this in the shell of etcd-rewind practice --by-hand", rootEnv)
	}
	return openSession(Root(root))
}

func newSystemctl() *cobra.Command {
	c := &cobra.Command{Use: "systemctl", Short: "kubelet's service on the practice node"}
	kubelet := func(args []string) error {
		if len(args) != 1 || strings.TrimSuffix(args[0], ".service") != "kubelet" {
			return errors.New("the practice node has only one service: kubelet")
		}
		return nil
	}
	c.AddCommand(
		&cobra.Command{Use: "restart kubelet", Args: cobra.ArbitraryArgs, RunE: func(c *cobra.Command, args []string) error {
			s, err := here()
			if err != nil || kubelet(args) != nil {
				return cmp.Or(err, kubelet(args))
			}
			return s.restartKubelet(c.Context())
		}},
		&cobra.Command{Use: "status kubelet", Args: cobra.ArbitraryArgs, RunE: func(c *cobra.Command, args []string) error {
			s, err := here()
			if err != nil || kubelet(args) != nil {
				return cmp.Or(err, kubelet(args))
			}
			state := "active (running)"
			resp, err := http.Get(s.seen().ports.healthzURL())
			if err != nil {
				state = "inactive (dead)"
			} else {
				_ = resp.Body.Close()
			}
			fmt.Fprintf(c.OutOrStdout(), "kubelet: %s, log in %s\n", state, s.seen().root.Path("var/log/kubelet.log"))
			return nil
		}},
	)
	return c
}

func (s *session) restartKubelet(ctx context.Context) error {
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(s.seen().ports.healthzURL(), "healthz")+"restart", nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(q)
	if err != nil {
		return fmt.Errorf("kubelet can't be restarted, is the practice node still there?: %w", err)
	}
	return resp.Body.Close()
}

// newKubectl has get, in the forms that people type, and what a restore prints.
func newKubectl() *cobra.Command {
	c := &cobra.Command{Use: "kubectl", Short: "asks the practice API server (get, replace of ConfigMaps, version)"}
	kubeconfig := c.PersistentFlags().String("kubeconfig", "", "path of the kubeconfig")
	var namespace string
	c.PersistentFlags().StringVarP(&namespace, "namespace", "n", "default", "of this namespace")
	client := func() (*apiClient, error) {
		path := cmp.Or(*kubeconfig, os.Getenv("KUBECONFIG"))
		if path == "" {
			path = Root(os.Getenv(rootEnv)).Kubeconfig()
		}
		return newAPIClient(path)
	}
	var all bool
	var output, selector string
	get := &cobra.Command{
		Use: "get TYPE[,TYPE...] [NAME]", Args: cobra.RangeArgs(1, 2),
		RunE: func(c *cobra.Command, args []string) error {
			api, err := client()
			if err != nil {
				return err
			}
			name := ""
			if len(args) == 2 {
				name = args[1]
			}
			kinds := strings.Split(args[0], ",")
			if t, n, ok := strings.Cut(args[0], "/"); ok && name == "" {
				kinds, name = []string{t}, n
			}
			for i, t := range kinds {
				if i > 0 && output == "" {
					fmt.Fprintln(c.OutOrStdout())
				}
				if err := kubectlGet(c.Context(), api, c.OutOrStdout(), t, name, namespace, output, selector, all, len(kinds) > 1); err != nil {
					return err
				}
			}
			return nil
		},
	}
	get.Flags().BoolVarP(&all, "all-namespaces", "A", false, "of all namespaces")
	get.Flags().StringVarP(&output, "output", "o", "", "json, yaml, name or wide")
	get.Flags().StringVarP(&selector, "selector", "l", "", "labels")
	version := &cobra.Command{Use: "version", RunE: func(c *cobra.Command, _ []string) error {
		api, err := client()
		if err != nil {
			return err
		}
		var v struct{ GitVersion string }
		if err := api.get(c.Context(), "/version", "", &v); err != nil {
			return err
		}
		fmt.Fprintln(c.OutOrStdout(), "Server Version:", v.GitVersion)
		return nil
	}}
	var file string
	replace := &cobra.Command{Use: "replace -f FILE", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
		api, err := client()
		if err != nil {
			return err
		}
		return kubectlReplace(c.Context(), api, c.InOrStdin(), c.OutOrStdout(), file, namespace)
	}}
	replace.Flags().StringVarP(&file, "filename", "f", "", "file with the object, - for the standard input")
	_ = replace.MarkFlagRequired("filename")
	c.AddCommand(get, replace, version)
	return c
}

// findResource asks discovery for a name in any of its forms.
func findResource(ctx context.Context, api *apiClient, name string) (metav1.APIResource, string, error) {
	var groups metav1.APIGroupList
	if err := api.get(ctx, "/apis", "", &groups); err != nil {
		return metav1.APIResource{}, "", err
	}
	paths := []string{"/api/v1"}
	for _, g := range groups.Groups {
		paths = append(paths, "/apis/"+g.PreferredVersion.GroupVersion)
	}
	name, group, _ := strings.Cut(strings.ToLower(name), ".")
	for _, path := range paths {
		if group != "" && !strings.HasPrefix(path, "/apis/"+group) {
			continue
		}
		var list metav1.APIResourceList
		if err := api.get(ctx, path, "", &list); err != nil {
			return metav1.APIResource{}, "", err
		}
		for _, r := range list.APIResources {
			if r.Name == name || r.SingularName == name || slices.Contains(r.ShortNames, name) {
				return r, path, nil
			}
		}
	}
	return metav1.APIResource{}, "", fmt.Errorf("the server doesn't have a resource type %q", name)
}

func kubectlGet(ctx context.Context, api *apiClient, out io.Writer, kind, name, namespace, output, selector string, all, several bool) error {
	r, path, err := findResource(ctx, api, kind)
	if err != nil {
		return err
	}
	if r.Namespaced && !all {
		path += "/namespaces/" + namespace
	}
	path += "/" + r.Name
	if name != "" {
		path += "/" + name
	}
	if selector != "" {
		path += "?labelSelector=" + selector
	}
	switch output {
	case "json", "yaml", "name":
		var o map[string]any
		if err := api.get(ctx, path, "", &o); err != nil {
			return err
		}
		return printObject(out, o, r, output)
	}
	var t metav1.Table
	if err := api.get(ctx, path, "application/json;as=Table;v=v1;g=meta.k8s.io,application/json", &t); err != nil {
		return err
	}
	if len(t.Rows) == 0 {
		fmt.Fprintln(out, "No resources found")
		return nil
	}
	w := tabwriter.NewWriter(out, 0, 8, 3, ' ', 0)
	head := []string{}
	if r.Namespaced && all {
		head = append(head, "NAMESPACE")
	}
	for _, d := range t.ColumnDefinitions {
		head = append(head, strings.ToUpper(d.Name))
	}
	fmt.Fprintln(w, strings.Join(head, "\t"))
	for _, row := range t.Rows {
		var line []string
		var o metav1.PartialObjectMetadata
		_ = json.Unmarshal(row.Object.Raw, &o)
		if r.Namespaced && all {
			line = append(line, o.Namespace)
		}
		for i, c := range row.Cells {
			cell := fmt.Sprint(c)
			if i == 0 && several {
				cell = r.SingularName + "/" + cell
			}
			line = append(line, cell)
		}
		fmt.Fprintln(w, strings.Join(line, "\t"))
	}
	return w.Flush()
}

func kubectlReplace(ctx context.Context, api *apiClient, in io.Reader, out io.Writer, file, namespace string) error {
	if file != "-" {
		f, err := os.Open(filepath.Clean(file))
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		in = f
	}
	raw, err := io.ReadAll(in)
	if err != nil {
		return err
	}
	var o struct {
		Kind     string
		Metadata struct{ Name, Namespace string }
	}
	if err := yaml.Unmarshal(raw, &o); err != nil {
		return err
	}
	r, path, err := findResource(ctx, api, o.Kind)
	if err != nil {
		return err
	}
	if raw, err = yaml.YAMLToJSON(raw); err != nil {
		return err
	}
	if r.Namespaced {
		path += "/namespaces/" + cmp.Or(o.Metadata.Namespace, namespace)
	}
	if err := api.put(ctx, path+"/"+r.Name+"/"+o.Metadata.Name, raw); err != nil {
		return err
	}
	fmt.Fprintf(out, "%s/%s replaced\n", r.SingularName, o.Metadata.Name)
	return nil
}

func printObject(out io.Writer, o map[string]any, r metav1.APIResource, output string) error {
	switch output {
	case "name":
		items, list := o["items"].([]any)
		if !list {
			items = []any{o}
		}
		for _, i := range items {
			m, _ := i.(map[string]any)
			fmt.Fprintf(out, "%s/%s\n", r.SingularName, field(m, "metadata", "name"))
		}
		return nil
	case "json":
		enc := json.NewEncoder(out)
		enc.SetIndent("", "    ")
		return enc.Encode(o)
	}
	raw, err := yaml.Marshal(o)
	if err == nil {
		_, err = out.Write(raw)
	}
	return err
}

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
			conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy())
			if err != nil {
				return err
			}
			defer func() { _ = conn.Close() }()
			return do(c.Context(), cri.NewRuntimeServiceClient(conn), c.OutOrStdout(), args)
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
	for _, p := range resp.Items {
		if strings.HasPrefix(p.Id, prefix) {
			return p.Id, nil
		}
	}
	return "", fmt.Errorf("no pod sandbox %q", prefix)
}

func containerID(ctx context.Context, rt cri.RuntimeServiceClient, prefix string) (string, error) {
	resp, err := rt.ListContainers(ctx, &cri.ListContainersRequest{})
	if err != nil {
		return "", err
	}
	for _, c := range resp.Containers {
		if strings.HasPrefix(c.Id, prefix) {
			return c.Id, nil
		}
	}
	return "", fmt.Errorf("no container %q", prefix)
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
