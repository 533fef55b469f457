package node

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// fakeCRIO answers as CRI-O does where containerd answers otherwise (server/ in
// its source, 1.2x to 1.34). CRI-O itself can't be had here: this is a fake, and no
// proof that the real one is like it.
type fakeCRIO struct{ fakeRuntime }

func (*fakeCRIO) Version(context.Context, *cri.VersionRequest) (*cri.VersionResponse, error) {
	return &cri.VersionResponse{Version: "0.1.0", RuntimeName: "cri-o", RuntimeVersion: "1.34.1", RuntimeApiVersion: "v1"}, nil
}

// A container that it doesn't know is an error; a sandbox that it doesn't know was
// stopped already.
func (f *fakeCRIO) ContainerStatus(_ context.Context, r *cri.ContainerStatusRequest) (*cri.ContainerStatusResponse, error) {
	for _, c := range f.containers {
		if c.Id != r.ContainerId {
			continue
		}
		resp := &cri.ContainerStatusResponse{Status: &cri.ContainerStatus{
			Id: c.Id, Image: c.Image, ImageRef: c.ImageRef, State: c.State,
			Mounts: []*cri.Mount{{ContainerPath: "/var/lib/etcd", HostPath: "/var/lib/etcd"}},
		}}
		if r.Verbose {
			resp.Info = map[string]string{"info": `{"sandboxID":"` + c.PodSandboxId + `","pid":4711,"runtimeSpec":{"ociVersion":"1.2.0"},"privileged":false}`}
		}
		return resp, nil
	}
	return nil, status.Errorf(codes.NotFound, "could not find container %q: container with ID starting with %s not found: ID does not exist", r.ContainerId, r.ContainerId)
}

func TestCRIOsAnswers(t *testing.T) {
	f := &fakeCRIO{fakeRuntime: fakeRuntime{
		// Without a process of its own a sandbox is ready all the same: CRI-O makes
		// no pause container for pods in the host's network (drop_infra_ctr).
		sandboxes: []*cri.PodSandbox{{
			Id: "box", CreatedAt: 900, State: cri.PodSandboxState_SANDBOX_READY,
			Labels:   podLabels("etcd-cp1", "91ab", "io.kubernetes.container.name", "POD", "tier", "control-plane"),
			Metadata: &cri.PodSandboxMetadata{Name: "etcd-cp1", Namespace: "kube-system", Uid: "91ab"}, RuntimeHandler: "runc",
		}},
		containers: []*cri.Container{{
			Id: "etcd", PodSandboxId: "box", CreatedAt: 910, State: cri.ContainerState_CONTAINER_RUNNING,
			Labels:      podLabels("etcd-cp1", "91ab", labelContainerName, "etcd"),
			Annotations: map[string]string{noteHash: "abc", noteRestarts: "2", "io.kubernetes.cri-o.Name": "k8s_etcd_etcd-cp1_kube-system_91ab_2"},
			Metadata:    &cri.ContainerMetadata{Name: "etcd", Attempt: 2},
			Image:       &cri.ImageSpec{Image: "5f1d3c", UserSpecifiedImage: "registry.k8s.io/etcd:3.6.10-0"},
			ImageRef:    "5f1d3c",
		}},
	}}
	r := dial(t, f)
	if v, err := r.Version(t.Context()); err != nil || v != (RuntimeVersion{"cri-o", "1.34.1"}) {
		t.Errorf("it is %v, %v", v, err)
	}
	boxes, err := r.Pod(t.Context(), "kube-system", "etcd-cp1")
	if err != nil || len(boxes) != 1 || !boxes[0].Ready || boxes[0].UID != "91ab" {
		t.Fatalf("%+v, %v", boxes, err)
	}
	c := boxes[0].Container("etcd")
	if c == nil || c.State != Running || c.RestartCount != 2 || c.Image != "registry.k8s.io/etcd:3.6.10-0" {
		t.Errorf("etcd's container: %+v", c)
	}
	if pid, image, err := r.Process(t.Context(), "etcd"); err != nil || pid != 4711 || image != "5f1d3c" {
		t.Errorf("its process: %d, %s, %v", pid, image, err)
	}
	if mounts, err := r.Mounts(t.Context(), "etcd"); err != nil || len(mounts) != 1 || mounts[0].Host != "/var/lib/etcd" {
		t.Errorf("its mounts: %v, %v", mounts, err)
	}
	if _, err := r.Mounts(t.Context(), "another"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a container that is gone: %v", err)
	}
	if err := errors.Join(r.StopSandbox(t.Context(), "another"), r.StopContainer(t.Context(), "another", time.Second)); err != nil {
		t.Errorf("what is gone was stopped: %v", err)
	}
}

// A node without flags for its runtime's socket, as kubeadm's had it before 1.22,
// has the one that is there.
func TestCRIOIsFoundByItsSocket(t *testing.T) {
	root := t.TempDir()
	l := Kubeadm
	l.Sockets = nil
	for _, s := range Kubeadm.Sockets {
		l.Sockets = append(l.Sockets, filepath.Join(root, s))
	}
	crio := filepath.Join(root, "/run/crio/crio.sock")
	if err := os.MkdirAll(filepath.Dir(crio), 0o755); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("unix", crio)
	if err != nil {
		t.Fatal(err)
	}
	serve(t, listener, &fakeCRIO{})
	config := filepath.Join(root, "config.yaml")
	write(t, config, "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nstaticPodPath: /etc/kubernetes/manifests\n")
	k, err := FindKubelet(t.Context(), Options{Layout: &l, KubeletConfig: config, NoProcess: true, Proc: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if k.CRIEndpoint != "unix://"+crio {
		t.Errorf("its runtime is at %s (%s)", k.CRIEndpoint, k.Sources["containerRuntimeEndpoint"])
	}
	r, err := Dial(t.Context(), k.CRIEndpoint)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}
