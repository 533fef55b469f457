package practice

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// criServer serves the part of CRI that tools on a node use; what makes
// sandboxes and containers is kubelet's alone and not offered.
type criServer struct {
	cri.UnimplementedRuntimeServiceServer
	r *runtimeService
}

// serveCRI listens on a unix socket until stop is called.
func serveCRI(r *runtimeService, socket string) (stop func(), err error) {
	l, err := net.Listen("unix", socket)
	if err != nil {
		return nil, fmt.Errorf("the runtime's socket: %w", err)
	}
	if err := os.Chmod(socket, 0o600); err != nil {
		_ = l.Close()
		return nil, err
	}
	s := grpc.NewServer()
	cri.RegisterRuntimeServiceServer(s, &criServer{r: r})
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(l)
	}()
	return func() { s.Stop(); <-done }, nil
}

const runtimeName = "practice"

func (s *criServer) Version(context.Context, *cri.VersionRequest) (*cri.VersionResponse, error) {
	return &cri.VersionResponse{Version: "0.1.0", RuntimeName: runtimeName, RuntimeVersion: "v1", RuntimeApiVersion: "v1"}, nil
}

func (s *criServer) Status(context.Context, *cri.StatusRequest) (*cri.StatusResponse, error) {
	return &cri.StatusResponse{Status: &cri.RuntimeStatus{Conditions: []*cri.RuntimeCondition{
		{Type: "RuntimeReady", Status: true}, {Type: "NetworkReady", Status: true},
	}}}, nil
}

func (s *sandbox) labels() map[string]string {
	return map[string]string{
		"io.kubernetes.pod.name": s.name, "io.kubernetes.pod.namespace": s.namespace, "io.kubernetes.pod.uid": s.uid,
	}
}

func (s *sandbox) metadata() *cri.PodSandboxMetadata {
	return &cri.PodSandboxMetadata{Name: s.name, Uid: s.uid, Namespace: s.namespace, Attempt: s.attempt}
}

func (s *sandbox) state() cri.PodSandboxState {
	if s.ready {
		return cri.PodSandboxState_SANDBOX_READY
	}
	return cri.PodSandboxState_SANDBOX_NOTREADY
}

func (c *container) labels() map[string]string {
	l := c.sandbox.labels()
	l["io.kubernetes.container.name"] = c.name
	return l
}

func (c *container) annotations() map[string]string {
	return map[string]string{
		"io.kubernetes.container.hash":         c.hash,
		"io.kubernetes.container.restartCount": fmt.Sprint(c.attempt),
	}
}

func (c *container) criState() cri.ContainerState {
	switch c.state {
	case created:
		return cri.ContainerState_CONTAINER_CREATED
	case running:
		return cri.ContainerState_CONTAINER_RUNNING
	}
	return cri.ContainerState_CONTAINER_EXITED
}

func matches(labels, want map[string]string) bool {
	for k, v := range want {
		if labels[k] != v {
			return false
		}
	}
	return true
}

func (s *criServer) ListPodSandbox(_ context.Context, q *cri.ListPodSandboxRequest) (*cri.ListPodSandboxResponse, error) {
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	out := &cri.ListPodSandboxResponse{}
	for _, b := range s.r.sandboxes {
		if f := q.Filter; f != nil && (f.Id != "" && f.Id != b.id || f.State != nil && f.State.State != b.state() || !matches(b.labels(), f.LabelSelector)) {
			continue
		}
		out.Items = append(out.Items, &cri.PodSandbox{Id: b.id, Metadata: b.metadata(), State: b.state(), CreatedAt: b.created.UnixNano(), Labels: b.labels(), Annotations: b.annotations})
	}
	return out, nil
}

func (s *criServer) PodSandboxStatus(_ context.Context, q *cri.PodSandboxStatusRequest) (*cri.PodSandboxStatusResponse, error) {
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	b := s.r.sandboxes[q.PodSandboxId]
	if b == nil {
		return nil, notFound("sandbox", q.PodSandboxId)
	}
	return &cri.PodSandboxStatusResponse{Status: &cri.PodSandboxStatus{Id: b.id, Metadata: b.metadata(), State: b.state(), CreatedAt: b.created.UnixNano(), Labels: b.labels()}}, nil
}

func (s *criServer) ListContainers(_ context.Context, q *cri.ListContainersRequest) (*cri.ListContainersResponse, error) {
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	out := &cri.ListContainersResponse{}
	for _, c := range s.r.containers {
		if f := q.Filter; f != nil && (f.Id != "" && f.Id != c.id || f.PodSandboxId != "" && f.PodSandboxId != c.sandbox.id ||
			f.State != nil && f.State.State != c.criState() || !matches(c.labels(), f.LabelSelector)) {
			continue
		}
		out.Containers = append(out.Containers, &cri.Container{
			Id: c.id, PodSandboxId: c.sandbox.id, Metadata: &cri.ContainerMetadata{Name: c.name, Attempt: c.attempt},
			Image: &cri.ImageSpec{Image: c.image, UserSpecifiedImage: c.image}, ImageRef: c.image, State: c.criState(),
			CreatedAt: c.created.UnixNano(), Labels: c.labels(), Annotations: c.annotations(),
		})
	}
	return out, nil
}

// containerInfo is the part of containerd's verbose status that is of use.
type containerInfo struct {
	PID         int `json:"pid"`
	RuntimeSpec struct {
		Process struct {
			Args []string `json:"args"`
		} `json:"process"`
	} `json:"runtimeSpec"`
}

func (s *criServer) ContainerStatus(_ context.Context, q *cri.ContainerStatusRequest) (*cri.ContainerStatusResponse, error) {
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	c := s.r.containers[q.ContainerId]
	if c == nil {
		return nil, notFound("container", q.ContainerId)
	}
	st := &cri.ContainerStatus{
		Id: c.id, Metadata: &cri.ContainerMetadata{Name: c.name, Attempt: c.attempt}, State: c.criState(),
		CreatedAt: c.created.UnixNano(), StartedAt: nano(c.started), FinishedAt: nano(c.finished), ExitCode: int32(c.exitCode),
		Image: &cri.ImageSpec{Image: c.image, UserSpecifiedImage: c.image}, ImageRef: c.image, Reason: c.reason, Message: c.message,
		Labels: c.labels(), Annotations: c.annotations(), LogPath: c.logPath,
	}
	for _, m := range c.mounts {
		st.Mounts = append(st.Mounts, &cri.Mount{ContainerPath: m.container, HostPath: m.named, Readonly: m.readOnly})
	}
	out := &cri.ContainerStatusResponse{Status: st}
	if q.Verbose {
		info := containerInfo{PID: c.pid}
		info.RuntimeSpec.Process.Args = c.args
		raw, err := json.Marshal(info)
		if err != nil {
			return nil, err
		}
		out.Info = map[string]string{"info": string(raw)}
	}
	return out, nil
}

func (s *criServer) StopPodSandbox(_ context.Context, q *cri.StopPodSandboxRequest) (*cri.StopPodSandboxResponse, error) {
	if err := s.r.stopSandbox(q.PodSandboxId); err != nil && !errors.Is(err, errNotFound) {
		return nil, err
	}
	return &cri.StopPodSandboxResponse{}, nil // of one that is gone: containerd says yes too
}

func (s *criServer) RemovePodSandbox(_ context.Context, q *cri.RemovePodSandboxRequest) (*cri.RemovePodSandboxResponse, error) {
	if err := s.r.removeSandbox(q.PodSandboxId); err != nil && !errors.Is(err, errNotFound) {
		return nil, err
	}
	return &cri.RemovePodSandboxResponse{}, nil
}

func (s *criServer) StopContainer(_ context.Context, q *cri.StopContainerRequest) (*cri.StopContainerResponse, error) {
	s.r.mu.Lock()
	c := s.r.containers[q.ContainerId]
	s.r.mu.Unlock()
	if c == nil {
		return nil, notFound("container", q.ContainerId)
	}
	s.r.stopContainer(c, time.Duration(q.Timeout)*time.Second)
	return &cri.StopContainerResponse{}, nil
}

func (s *criServer) RemoveContainer(_ context.Context, q *cri.RemoveContainerRequest) (*cri.RemoveContainerResponse, error) {
	s.r.mu.Lock()
	c := s.r.containers[q.ContainerId]
	s.r.mu.Unlock()
	if c != nil {
		s.r.stopContainer(c, 0)
		s.r.mu.Lock()
		s.r.drop(c)
		s.r.mu.Unlock()
	}
	return &cri.RemoveContainerResponse{}, nil
}

func notFound(what, id string) error {
	return status.Errorf(codes.NotFound, "%s %q: not found", what, id)
}

func nano(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}
