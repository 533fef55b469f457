package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"etcd-rewind/problem"
	"etcd-rewind/trust"
)

// Labels and annotations that kubelet puts on what it starts
// (k8s.io/kubelet/pkg/types/labels.go, pkg/kubelet/kuberuntime/labels.go).
const (
	labelPodName       = "io.kubernetes.pod.name"
	labelPodNamespace  = "io.kubernetes.pod.namespace"
	labelPodUID        = "io.kubernetes.pod.uid"
	labelContainerName = "io.kubernetes.container.name"
	noteHash           = "io.kubernetes.container.hash"
	noteRestarts       = "io.kubernetes.container.restartCount"
)

// States of a container.
const (
	Created = "Created"
	Running = "Running"
	Exited  = "Exited"
	Unknown = "Unknown"
)

// Sandbox is one sandbox of a pod. A pod can have several: those of earlier
// incarnations stay until kubelet removes them.
type Sandbox struct {
	ID, UID, Namespace, Name string

	Ready      bool
	Attempt    uint32
	Created    time.Time
	Containers []Container // newest first
	// Annotations are the pod's, as kubelet had them when it made the sandbox
	// (newPodAnnotations, kuberuntime/labels.go).
	Annotations map[string]string
}

// Container returns the newest container of that name, nil when there is none.
func (s *Sandbox) Container(name string) *Container {
	for i := range s.Containers {
		if s.Containers[i].Name == name {
			return &s.Containers[i]
		}
	}
	return nil
}

// Alive reports whether anything of this sandbox runs or may run: the sandbox
// itself, or a container that isn't known to have ended.
func (s *Sandbox) Alive() bool {
	return s.Ready || slices.ContainsFunc(s.Containers, func(c Container) bool { return c.State != Exited })
}

// Container is one container of a sandbox.
type Container struct {
	ID, Name string
	// Image is a tag or a digest, as the runtime has it: containerd 1.6 keeps no tag.
	Image string

	State        string // Created, Running, Exited or Unknown
	Created      time.Time
	Attempt      uint32
	RestartCount int    // as kubelet counts, from its annotation
	Hash         string // of the container's part of the pod, from kubelet's annotation
}

// Runtime is a connection to this node's container runtime.
type Runtime struct {
	endpoint string
	conn     *grpc.ClientConn
	client   cri.RuntimeServiceClient
	images   cri.ImageServiceClient
}

// RuntimeVersion is what the runtime says of itself.
type RuntimeVersion struct{ Name, Version string }

// Dial connects to the runtime at endpoint (unix:///path or /path) and makes
// sure that it speaks CRI v1. When the runtime is restarted later the
// connection is re-established by itself. Close it after use.
func Dial(ctx context.Context, endpoint string) (*Runtime, error) {
	path, err := socketPath(endpoint)
	if err != nil {
		return nil, err
	}
	// One that isn't there yet is explained by what dialling it says.
	var strange *problem.Problem
	if errors.As(trust.Socket(path), &strange) {
		return nil, fmt.Errorf("container runtime at %s: not asked: %w", path, strange)
	}
	conn, err := grpc.NewClient("unix://"+path,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithNoProxy(),
		// A node full of dead containers answers with more than gRPC's 4 MB.
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(32<<20)),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, MaxDelay: time.Second},
			// Without it a connection may take no longer than the delay before
			// it, and on a busy node it does.
			MinConnectTimeout: 5 * time.Second,
		}),
	)
	if err != nil {
		return nil, fmt.Errorf("container runtime at %s: %w", endpoint, err)
	}
	r := &Runtime{endpoint: path, conn: conn, client: cri.NewRuntimeServiceClient(conn), images: cri.NewImageServiceClient(conn)}
	if _, err := r.Version(ctx); err != nil {
		conn.Close()
		return nil, err
	}
	return r, nil
}

// Close ends the connection. Safe to call twice.
func (r *Runtime) Close() error {
	if err := r.conn.Close(); err != nil && status.Code(err) != codes.Canceled {
		return err
	}
	return nil
}

// ErrNoRuntime is a container runtime that isn't there, or doesn't answer at all.
var ErrNoRuntime = errors.New("no container runtime")

type noRuntime struct{ error }

func (n noRuntime) Unwrap() error      { return n.error }
func (noRuntime) Is(target error) bool { return target == ErrNoRuntime }

// Version asks the runtime for its name and version.
func (r *Runtime) Version(ctx context.Context) (RuntimeVersion, error) {
	resp, err := r.client.Version(ctx, &cri.VersionRequest{})
	if err != nil {
		return RuntimeVersion{}, r.explain("asking for its version", err)
	}
	return RuntimeVersion{resp.RuntimeName, resp.RuntimeVersion}, nil
}

// Pod lists the sandboxes of a pod and their containers, both newest first, in
// two calls. The name is the one in the API, with the node's name at its end
// ([Kubelet.PodName]). No sandbox and no error means: the runtime has none.
//
// A container whose sandbox came into being between the two calls is reported
// in a sandbox that isn't ready, so that nothing that runs is ever left out.
func (r *Runtime) Pod(ctx context.Context, namespace, name string) ([]Sandbox, error) {
	which := map[string]string{labelPodNamespace: namespace, labelPodName: name}
	pods, err := r.client.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{Filter: &cri.PodSandboxFilter{LabelSelector: which}})
	if err != nil {
		return nil, r.explain("listing sandboxes", err)
	}
	containers, err := r.client.ListContainers(ctx, &cri.ListContainersRequest{Filter: &cri.ContainerFilter{LabelSelector: which}})
	if err != nil {
		return nil, r.explain("listing containers", err)
	}

	out := make([]Sandbox, 0, len(pods.Items)+1)
	for _, p := range pods.Items {
		out = append(out, Sandbox{
			ID:        p.Id,
			UID:       p.Labels[labelPodUID],
			Namespace: namespace,
			Name:      name,
			Ready:     p.State == cri.PodSandboxState_SANDBOX_READY,
			Attempt:   p.Metadata.GetAttempt(),
			Created:   nanoTime(p.CreatedAt),

			Annotations: p.Annotations,
		})
	}
	at := make(map[string]int, len(out)) // sandboxes, by their IDs
	for i, s := range slices.Backward(out) {
		at[s.ID] = i
	}
	for _, c := range containers.Containers {
		i, known := at[c.PodSandboxId]
		if !known {
			i = len(out)
			at[c.PodSandboxId] = i
			out = append(out, Sandbox{
				ID: c.PodSandboxId, UID: c.Labels[labelPodUID], Namespace: namespace, Name: name,
				Created: nanoTime(c.CreatedAt),
			})
		}
		out[i].Containers = append(out[i].Containers, containerOf(c))
	}
	slices.SortStableFunc(out, func(a, b Sandbox) int {
		return cmp.Or(b.Created.Compare(a.Created), cmp.Compare(b.Attempt, a.Attempt))
	})
	for i := range out {
		slices.SortStableFunc(out[i].Containers, func(a, b Container) int {
			return cmp.Or(b.Created.Compare(a.Created), cmp.Compare(b.Attempt, a.Attempt))
		})
	}
	return out, nil
}

func containerOf(c *cri.Container) Container {
	restarts, _ := strconv.Atoi(c.Annotations[noteRestarts])
	return Container{
		ID:           c.Id,
		Name:         cmp.Or(c.Labels[labelContainerName], c.Metadata.GetName()),
		Image:        cmp.Or(c.Image.GetUserSpecifiedImage(), c.Image.GetImage(), c.ImageRef),
		State:        stateName(c.State),
		Created:      nanoTime(c.CreatedAt),
		Attempt:      c.Metadata.GetAttempt(),
		RestartCount: restarts,
		Hash:         c.Annotations[noteHash],
	}
}

// Mount is a path of the node that a container has at a path of its own.
type Mount struct {
	Host, Container string
	ReadOnly        bool
}

// Pods are the pods of kubelet's of which a sandbox runs.
func (r *Runtime) Pods(ctx context.Context) ([]Sandbox, error) {
	all, err := r.client.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{Filter: &cri.PodSandboxFilter{State: &cri.PodSandboxStateValue{State: cri.PodSandboxState_SANDBOX_READY}}})
	if err != nil {
		return nil, r.explain("listing sandboxes", err)
	}
	var out []Sandbox
	for _, p := range all.Items {
		if uid := p.Labels[labelPodUID]; uid != "" {
			out = append(out, Sandbox{
				ID: p.Id, UID: uid, Namespace: p.Labels[labelPodNamespace], Name: p.Labels[labelPodName], Ready: true, Created: nanoTime(p.CreatedAt),
			})
		}
	}
	return out, nil
}

// Mounts lists what a container has mounted from the node, as kubelet asked for
// it: what a manifest says now may be something else.
func (r *Runtime) Mounts(ctx context.Context, id string) ([]Mount, error) {
	resp, err := r.client.ContainerStatus(ctx, &cri.ContainerStatusRequest{ContainerId: id})
	if err != nil {
		return nil, r.explain("reading container "+short(id), err)
	}
	var out []Mount
	for _, m := range resp.GetStatus().GetMounts() {
		out = append(out, Mount{Host: m.HostPath, Container: m.ContainerPath, ReadOnly: m.Readonly})
	}
	return out, nil
}

// CPU is the CPU time that a container has used since it started.
func (r *Runtime) CPU(ctx context.Context, id string) (time.Duration, error) {
	resp, err := r.client.ContainerStats(ctx, &cri.ContainerStatsRequest{ContainerId: id})
	if err != nil {
		return 0, r.explain("asking for the CPU time of container "+short(id), err)
	}
	return time.Duration(resp.GetStats().GetCpu().GetUsageCoreNanoSeconds().GetValue()), nil
}

// StopSandbox ends a sandbox and every container in it at once, without a grace
// period. Safe to call twice, and for a sandbox that is gone.
func (r *Runtime) StopSandbox(ctx context.Context, id string) error {
	_, err := r.client.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: id})
	return r.unlessGone("stopping sandbox "+short(id), err)
}

// RemoveSandbox removes a sandbox and its containers, and ends those that run.
// Safe to call twice, and for a sandbox that is gone.
func (r *Runtime) RemoveSandbox(ctx context.Context, id string) error {
	_, err := r.client.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: id})
	return r.unlessGone("removing sandbox "+short(id), err)
}

// StopContainer sends a container its stop signal and kills it after grace,
// rounded up to seconds. ctx must leave more time than that. Safe to call
// twice, and for a container that is gone.
func (r *Runtime) StopContainer(ctx context.Context, id string, grace time.Duration) error {
	seconds := int64((max(grace, 0) + time.Second - 1) / time.Second)
	_, err := r.client.StopContainer(ctx, &cri.StopContainerRequest{ContainerId: id, Timeout: seconds})
	return r.unlessGone("stopping container "+short(id), err)
}

func (r *Runtime) unlessGone(doing string, err error) error {
	if err == nil || status.Code(err) == codes.NotFound {
		return nil
	}
	return r.explain(doing, err)
}

// explain turns a gRPC status into what a person can act on.
func (r *Runtime) explain(doing string, err error) error {
	where := "container runtime at " + r.endpoint
	s := status.Convert(err)
	err = clipped(err)
	switch s.Code() {
	case codes.NotFound:
		return fmt.Errorf("%s: %s: %s: %w", where, doing, trust.Clip(s.Message(), longestError), fs.ErrNotExist)
	case codes.Unimplemented:
		return fmt.Errorf("%s does not speak CRI v1 (containerd 1.6, CRI-O 1.23 or newer do): %w", where, err)
	case codes.DeadlineExceeded:
		return fmt.Errorf("%s: %s: %w", where, doing, inWords{"no answer in time", context.DeadlineExceeded})
	case codes.Canceled:
		return fmt.Errorf("%s: %s: %w", where, doing, context.Canceled)
	case codes.Unavailable:
		if _, e := os.Stat(r.endpoint); errors.Is(e, fs.ErrNotExist) {
			return noRuntime{fmt.Errorf("no %s: the socket does not exist; does the runtime run, and is this its socket? (--cri): %w", where, err)}
		}
		if strings.Contains(s.Message(), "permission denied") {
			return fmt.Errorf("%s cannot be reached: permission denied; run as root: %w", where, err)
		}
		return noRuntime{fmt.Errorf("%s does not answer; does it run?: %w", where, err)}
	}
	return fmt.Errorf("%s: %s: %w", where, doing, inWords{trust.Clip(s.Message(), longestError), err})
}

func socketPath(endpoint string) (string, error) {
	path := endpoint
	if scheme, rest, ok := strings.Cut(endpoint, ":"); ok {
		if scheme != "unix" {
			return "", fmt.Errorf("container runtime at %q: only unix sockets are supported, as unix:///path", endpoint)
		}
		path = "/" + strings.TrimLeft(rest, "/")
	}
	if !strings.HasPrefix(path, "/") {
		return "", fmt.Errorf("container runtime at %q: not an absolute path; write unix:///path", endpoint)
	}
	return path, nil
}

func stateName(s cri.ContainerState) string {
	switch s {
	case cri.ContainerState_CONTAINER_CREATED:
		return Created
	case cri.ContainerState_CONTAINER_RUNNING:
		return Running
	case cri.ContainerState_CONTAINER_EXITED:
		return Exited
	}
	return Unknown
}

// nanoTime reads CRI's nanoseconds since 1970; 0 means never.
func nanoTime(ns int64) time.Time {
	if ns <= 0 {
		return time.Time{}
	}
	return time.Unix(0, ns)
}

func short(id string) string { return id[:min(len(id), 13)] }
