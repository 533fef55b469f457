package node

import (
	"context"
	"errors"
	"maps"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// fakeRuntime is a container runtime that runs nothing.
type fakeRuntime struct {
	cri.UnimplementedRuntimeServiceServer

	mu         sync.Mutex
	sandboxes  []*cri.PodSandbox
	containers []*cri.Container
	between    func() // runs after sandboxes were listed
	fail       error
	calls      []string
}

func (f *fakeRuntime) called(what string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, what)
	return f.fail
}

func (f *fakeRuntime) Version(context.Context, *cri.VersionRequest) (*cri.VersionResponse, error) {
	return &cri.VersionResponse{RuntimeName: "containerd", RuntimeVersion: "1.6.20"}, f.called("version")
}

func matches(labels, selector map[string]string) bool {
	for k, v := range selector {
		if labels[k] != v {
			return false
		}
	}
	return true
}

func (f *fakeRuntime) ListPodSandbox(_ context.Context, r *cri.ListPodSandboxRequest) (*cri.ListPodSandboxResponse, error) {
	if err := f.called("sandboxes"); err != nil {
		return nil, err
	}
	out := &cri.ListPodSandboxResponse{}
	for _, s := range f.sandboxes {
		if matches(s.Labels, r.Filter.LabelSelector) {
			out.Items = append(out.Items, s)
		}
	}
	if f.between != nil {
		f.between()
	}
	return out, nil
}

func (f *fakeRuntime) ListContainers(_ context.Context, r *cri.ListContainersRequest) (*cri.ListContainersResponse, error) {
	if err := f.called("containers"); err != nil {
		return nil, err
	}
	out := &cri.ListContainersResponse{}
	for _, c := range f.containers {
		if matches(c.Labels, r.Filter.LabelSelector) {
			out.Containers = append(out.Containers, c)
		}
	}
	return out, nil
}

func (f *fakeRuntime) StopPodSandbox(_ context.Context, r *cri.StopPodSandboxRequest) (*cri.StopPodSandboxResponse, error) {
	return &cri.StopPodSandboxResponse{}, f.called("stop sandbox " + r.PodSandboxId)
}

func (f *fakeRuntime) RemovePodSandbox(_ context.Context, r *cri.RemovePodSandboxRequest) (*cri.RemovePodSandboxResponse, error) {
	return &cri.RemovePodSandboxResponse{}, f.called("remove sandbox " + r.PodSandboxId)
}

func (f *fakeRuntime) StopContainer(_ context.Context, r *cri.StopContainerRequest) (*cri.StopContainerResponse, error) {
	return &cri.StopContainerResponse{}, f.called("stop container " + r.ContainerId + " after " + (time.Duration(r.Timeout) * time.Second).String())
}

func podLabels(pod, uid string, more ...string) map[string]string {
	l := map[string]string{labelPodName: pod, labelPodNamespace: "kube-system", labelPodUID: uid}
	for i := 0; i < len(more); i += 2 {
		l[more[i]] = more[i+1]
	}
	return l
}

func serveCRI(t testing.TB, f cri.RuntimeServiceServer) string {
	t.Helper()
	l, sock := listenUnix(t)
	serve(t, l, f)
	return sock
}

func serve(t testing.TB, l net.Listener, f cri.RuntimeServiceServer) {
	t.Helper()
	srv := grpc.NewServer()
	cri.RegisterRuntimeServiceServer(srv, f)
	go srv.Serve(l)
	t.Cleanup(srv.Stop)
}

// busy is a runtime on a node that has much to do.
type busy struct{ net.Listener }

func (l busy) Accept() (net.Conn, error) {
	time.Sleep(400 * time.Millisecond)
	return l.Listener.Accept()
}

func TestARuntimeThatIsSlowToTakeAConnectionIsWaitedFor(t *testing.T) {
	l, sock := listenUnix(t)
	serve(t, busy{l}, &fakeRuntime{})
	r, err := Dial(t.Context(), sock)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

func dial(t *testing.T, f cri.RuntimeServiceServer) *Runtime {
	t.Helper()
	r, err := Dial(t.Context(), "unix://"+serveCRI(t, f))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func TestPodListsSandboxesAndContainersNewestFirst(t *testing.T) {
	f := &fakeRuntime{
		sandboxes: []*cri.PodSandbox{
			{Id: "old", CreatedAt: 100, State: cri.PodSandboxState_SANDBOX_NOTREADY, Labels: podLabels("etcd-cp1", "6f3c")},
			{Id: "new", CreatedAt: 900, State: cri.PodSandboxState_SANDBOX_READY, Labels: podLabels("etcd-cp1", "91ab"), Metadata: &cri.PodSandboxMetadata{Attempt: 1}, Annotations: map[string]string{"note": "1"}},
			{Id: "other", CreatedAt: 950, Labels: podLabels("etcd-cp2", "77")},
		},
		containers: []*cri.Container{
			{Id: "c1", PodSandboxId: "old", CreatedAt: 110, State: cri.ContainerState_CONTAINER_EXITED, Labels: podLabels("etcd-cp1", "6f3c", labelContainerName, "etcd")},
			{
				Id: "c2", PodSandboxId: "new", CreatedAt: 910, State: cri.ContainerState_CONTAINER_EXITED,
				Labels: podLabels("etcd-cp1", "91ab", labelContainerName, "etcd"),
			},
			{
				Id: "c3", PodSandboxId: "new", CreatedAt: 920, State: cri.ContainerState_CONTAINER_RUNNING,
				Labels:      podLabels("etcd-cp1", "91ab", labelContainerName, "etcd"),
				Annotations: map[string]string{noteHash: "abc", noteRestarts: "4"},
				Metadata:    &cri.ContainerMetadata{Name: "etcd", Attempt: 4},
				Image:       &cri.ImageSpec{Image: "sha256:1234", UserSpecifiedImage: "registry.k8s.io/etcd:3.6.10-0"},
			},
			{Id: "c9", PodSandboxId: "other", Labels: podLabels("etcd-cp2", "77")},
		},
	}
	r := dial(t, f)
	f.calls = nil
	got, err := r.Pod(t.Context(), "kube-system", "etcd-cp1")
	if err != nil {
		t.Fatal(err)
	}
	at := func(ns int64) time.Time { return time.Unix(0, ns) }
	want := []Sandbox{
		{
			ID: "new", UID: "91ab", Namespace: "kube-system", Name: "etcd-cp1", Ready: true, Attempt: 1, Created: at(900), Annotations: map[string]string{"note": "1"},
			Containers: []Container{
				{
					ID: "c3", Name: "etcd", Image: "registry.k8s.io/etcd:3.6.10-0", State: Running, Created: at(920),
					Attempt: 4, RestartCount: 4, Hash: "abc",
				},
				{ID: "c2", Name: "etcd", State: Exited, Created: at(910)},
			},
		},
		{
			ID: "old", UID: "6f3c", Namespace: "kube-system", Name: "etcd-cp1", Created: at(100),
			Containers: []Container{{ID: "c1", Name: "etcd", State: Exited, Created: at(110)}},
		},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("want -, got +\n%s", d)
	}
	if d := cmp.Diff([]string{"sandboxes", "containers"}, f.calls); d != "" {
		t.Errorf("it is polled, so two calls must do: want -, got +\n%s", d)
	}
	if !got[0].Alive() || got[1].Alive() {
		t.Errorf("alive: new %v, old %v", got[0].Alive(), got[1].Alive())
	}
	if c := got[0].Container("etcd"); c == nil || c.ID != "c3" {
		t.Errorf("the newest etcd container: %+v", c)
	}
	if c := got[0].Container("pause"); c != nil {
		t.Errorf("a container that isn't there: %+v", c)
	}
}

func TestPodThatIsGone(t *testing.T) {
	got, err := dial(t, &fakeRuntime{}).Pod(t.Context(), "kube-system", "etcd-cp1")
	if err != nil || len(got) != 0 {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestAContainerBornBetweenTheTwoCallsIsNotLeftOut(t *testing.T) {
	f := &fakeRuntime{}
	f.between = func() {
		f.containers = []*cri.Container{{
			Id: "c1", PodSandboxId: "s1", CreatedAt: 5, State: cri.ContainerState_CONTAINER_RUNNING,
			Labels: podLabels("etcd-cp1", "91ab", labelContainerName, "etcd"),
		}}
	}
	got, err := dial(t, f).Pod(t.Context(), "kube-system", "etcd-cp1")
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 || got[0].ID != "s1" || got[0].UID != "91ab" || got[0].Ready || !got[0].Alive() {
		t.Errorf("got %+v", got)
	}
}

func TestStoppingAndRemovingAreSafeTwice(t *testing.T) {
	f := &fakeRuntime{}
	r := dial(t, f)
	f.calls = nil
	all := func() error {
		return errors.Join(
			r.StopSandbox(t.Context(), "s1"),
			r.RemoveSandbox(t.Context(), "s1"),
			r.StopContainer(t.Context(), "c1", 1500*time.Millisecond),
			r.StopContainer(t.Context(), "c1", 0),
		)
	}
	if err := all(); err != nil {
		t.Error(err)
	}
	want := []string{"stop sandbox s1", "remove sandbox s1", "stop container c1 after 2s", "stop container c1 after 0s"}
	if d := cmp.Diff(want, f.calls); d != "" {
		t.Errorf("want -, got +\n%s", d)
	}
	f.fail = status.Error(codes.NotFound, "not found")
	if err := all(); err != nil {
		t.Errorf("what is gone counts as stopped: %v", err)
	}
	f.fail = status.Error(codes.Unknown, "runc is broken")
	for i, err := range []error{r.StopSandbox(t.Context(), "s1"), r.RemoveSandbox(t.Context(), "s1"), r.StopContainer(t.Context(), "c1", 0)} {
		if err == nil || !strings.Contains(err.Error(), "runc is broken") || strings.Contains(err.Error(), "rpc error") {
			t.Errorf("%d: a failure reads %v", i, err)
		}
	}
}

func TestRuntimesThatCannotBeTalkedTo(t *testing.T) {
	old := serveCRI(t, &cri.UnimplementedRuntimeServiceServer{})
	l, dead := listenUnix(t)
	l.SetUnlinkOnClose(false)
	l.Close()
	for name, c := range map[string]struct{ endpoint, want string }{
		"it has no socket":         {"unix:///does/not/exist.sock", "the socket does not exist"},
		"nobody listens any more":  {dead, "does not answer; does it run?"},
		"it is too old":            {old, "does not speak CRI v1"},
		"it is a network address":  {"tcp://127.0.0.1:1", "only unix sockets"},
		"it is a relative path":    {"run/x.sock", "not an absolute path"},
		"it is a name for Windows": {`npipe:////./pipe/containerd`, "only unix sockets"},
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			_, err := Dial(t.Context(), c.endpoint)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want something about %q", err, c.want)
			}
			if took := time.Since(start); took > 2*time.Second {
				t.Errorf("it took %v to say so", took)
			}
		})
	}
}

func TestARuntimeThatHangsIsLeftAtTheDeadline(t *testing.T) {
	_, sock := listenUnix(t)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := Dial(ctx, sock)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestCloseIsSafeTwice(t *testing.T) {
	r := dial(t, &fakeRuntime{})
	v, err := r.Version(t.Context())
	if err != nil || v != (RuntimeVersion{"containerd", "1.6.20"}) {
		t.Errorf("version %v, %v", v, err)
	}
	for range 2 {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}

func BenchmarkPod(b *testing.B) {
	f := &fakeRuntime{}
	for i := range 60 {
		l := maps.Clone(podLabels("etcd-cp1", "91ab", labelContainerName, "etcd"))
		f.sandboxes = append(f.sandboxes, &cri.PodSandbox{Id: string(rune('a' + i)), CreatedAt: int64(i), Labels: l})
		f.containers = append(f.containers, &cri.Container{Id: string(rune('a' + i)), PodSandboxId: string(rune('a' + i)), Labels: l})
	}
	r, err := Dial(b.Context(), serveCRI(b, f))
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	for b.Loop() {
		if _, err := r.Pod(b.Context(), "kube-system", "etcd-cp1"); err != nil {
			b.Fatal(err)
		}
	}
}
