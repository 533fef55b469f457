package node

import (
	"context"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// lender is a runtime with one image. Where systemd makes its cgroups it takes
// sandboxes in a slice only, as runc does below containerd; else it takes them
// anywhere but in a slice, as CRI-O does.
type lender struct {
	fakeRuntime
	cri.UnimplementedImageServiceServer

	systemd, says bool
	made          []string // the cgroups of the sandboxes that were asked for
}

func (*lender) ImageStatus(context.Context, *cri.ImageStatusRequest) (*cri.ImageStatusResponse, error) {
	return &cri.ImageStatusResponse{Image: &cri.Image{Id: "sha256:1"}}, nil
}

func (l *lender) RuntimeConfig(context.Context, *cri.RuntimeConfigRequest) (*cri.RuntimeConfigResponse, error) {
	if !l.says {
		return nil, status.Error(codes.Unimplemented, "unknown method RuntimeConfig for service runtime.v1.RuntimeService")
	}
	driver := cri.CgroupDriver_CGROUPFS
	if l.systemd {
		driver = cri.CgroupDriver_SYSTEMD
	}
	return &cri.RuntimeConfigResponse{Linux: &cri.LinuxRuntimeConfiguration{CgroupDriver: driver}}, nil
}

func (l *lender) RunPodSandbox(_ context.Context, r *cri.RunPodSandboxRequest) (*cri.RunPodSandboxResponse, error) {
	parent := r.Config.Linux.CgroupParent
	l.made = append(l.made, parent)
	switch slice := strings.HasSuffix(parent, ".slice"); {
	case l.systemd && !slice:
		return nil, status.Error(codes.Unknown, `failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: expected cgroupsPath to be of format "slice:prefix:name" for systemd cgroups, got "/k8s.io/e7df" instead: unknown`)
	case !l.systemd && slice:
		return nil, status.Error(codes.Unknown, "cri-o configured with cgroupfs cgroup manager, but received systemd slice as parent: "+parent)
	}
	return &cri.RunPodSandboxResponse{PodSandboxId: "box"}, nil
}

func (*lender) CreateContainer(context.Context, *cri.CreateContainerRequest) (*cri.CreateContainerResponse, error) {
	return &cri.CreateContainerResponse{ContainerId: "hold"}, nil
}

func (*lender) StartContainer(context.Context, *cri.StartContainerRequest) (*cri.StartContainerResponse, error) {
	return &cri.StartContainerResponse{}, nil
}

func (*lender) ContainerStatus(context.Context, *cri.ContainerStatusRequest) (*cri.ContainerStatusResponse, error) {
	return &cri.ContainerStatusResponse{Status: &cri.ContainerStatus{}, Info: map[string]string{"info": `{"pid":4711}`}}, nil
}

// Whoever makes a runtime's cgroups, it lends a container: asked where it says, and
// found out where it doesn't, as before containerd 2.0.
func TestAContainerIsBorrowedWhoeverMakesCgroups(t *testing.T) {
	for _, c := range []struct {
		name          string
		systemd, says bool
		asked         int
	}{
		{"systemd, and the runtime says so", true, true, 1},
		{"systemd, and the runtime doesn't say", true, false, 2},
		{"the runtime itself, and it says so", false, true, 1},
		{"the runtime itself, and it doesn't say", false, false, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := &lender{systemd: c.systemd, says: c.says}
			r, err := Dial(t.Context(), serveImages(t, f))
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			pid, giveBack, err := r.Borrow(t.Context(), "registry.k8s.io/etcd:1", "/hold", nil)
			if err != nil || pid != 4711 {
				t.Fatalf("process %d, %v", pid, err)
			}
			giveBack()
			if calls := strings.Join(f.calls, ", "); !strings.HasSuffix(calls, "stop sandbox box, remove sandbox box") {
				t.Errorf("it isn't given back: %s", calls)
			}
			if len(f.made) != c.asked {
				t.Errorf("sandboxes were asked for in %q", f.made)
			}
		})
	}
}

// What it refuses for another reason is said in its words.
func TestARuntimeThatLendsNothingSaysWhy(t *testing.T) {
	f := &refusing{}
	r, err := Dial(t.Context(), serveImages(t, f))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, _, err := r.Borrow(t.Context(), "registry.k8s.io/etcd:1", "/hold", nil); err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("%v", err)
	}
}

type refusing struct{ lender }

func (*refusing) RunPodSandbox(context.Context, *cri.RunPodSandboxRequest) (*cri.RunPodSandboxResponse, error) {
	return nil, status.Error(codes.Unknown, "failed to create sandbox: no space left on device")
}

// serveImages serves a runtime that has images, too.
func serveImages(t *testing.T, f interface {
	cri.RuntimeServiceServer
	cri.ImageServiceServer
},
) string {
	t.Helper()
	l, sock := listenUnix(t)
	srv := grpc.NewServer()
	cri.RegisterRuntimeServiceServer(srv, f)
	cri.RegisterImageServiceServer(srv, f)
	go srv.Serve(l)
	t.Cleanup(srv.Stop)
	return sock
}
