package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"etcd-rewind/problem"
	"etcd-rewind/trust"
)

// Process is the first process of a container, as this node's kernel numbers it,
// 0 when it has none, and the ID of the container's image. The runtime reports the
// number in what CRI leaves to it; containerd and CRI-O do.
func (r *Runtime) Process(ctx context.Context, id string) (pid int, image string, err error) {
	resp, err := r.client.ContainerStatus(ctx, &cri.ContainerStatusRequest{ContainerId: id, Verbose: true})
	if err != nil {
		return 0, "", r.explain("reading container "+short(id), err)
	}
	var info struct {
		PID int `json:"pid"`
	}
	_ = json.Unmarshal([]byte(resp.Info["info"]), &info) // elsewhere it has another shape, or none
	return max(info.PID, 0), resp.GetStatus().GetImageRef(), nil
}

const (
	borrowLabel = "etcd-rewind.borrowed"
	// giveBackLimit is for the removal, whatever became of the caller's context.
	giveBackLimit = 10 * time.Second
)

// Borrow has a container of an image that is on this node, so that files of the
// image can be read below /proc/PID/root: nothing is pulled, and nothing of the
// image runs. Its one process is the program at hold, which must need no library
// and do nothing for as long; it gets env. The container is in a sandbox of its own,
// with no network of its own and no capabilities, and is none of kubelet's: kubelet
// ends it within 2 s. giveBack removes it; what an earlier caller didn't remove
// is removed first.
func (r *Runtime) Borrow(ctx context.Context, image, hold string, env []string) (pid int, giveBack func(), err error) {
	if err := r.GiveBack(ctx); err != nil {
		return 0, nil, err
	}
	have, err := r.images.ImageStatus(ctx, &cri.ImageStatusRequest{Image: &cri.ImageSpec{Image: image}})
	if err != nil {
		return 0, nil, r.explain("asking for the image "+trust.Text(image), err)
	}
	if have.GetImage().GetId() == "" {
		return 0, nil, problem.New("pull it, or start the pod once", "the image %s isn't on this node", trust.Text(image))
	}
	sandbox := &cri.PodSandboxConfig{
		Metadata: &cri.PodSandboxMetadata{
			Name: "etcd-rewind", Namespace: "etcd-rewind", Uid: fmt.Sprintf("etcd-rewind-%d-%d", os.Getpid(), time.Now().UnixNano()),
		},
		Labels: map[string]string{borrowLabel: "true"},
		Linux: &cri.LinuxPodSandboxConfig{SecurityContext: &cri.LinuxSandboxSecurityContext{
			NamespaceOptions: &cri.NamespaceOption{Network: cri.NamespaceMode_NODE}, // else the network plugin is asked for one
		}},
	}
	made, err := r.sandbox(ctx, sandbox)
	if err != nil {
		return 0, nil, r.explain("making a sandbox", err)
	}
	giveBack = func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), giveBackLimit)
		defer cancel()
		_ = r.StopSandbox(ctx, made.PodSandboxId) // what stays is removed by the next one, or by kubelet
		_ = r.RemoveSandbox(ctx, made.PodSandboxId)
	}
	pid, err = r.hold(ctx, made.PodSandboxId, sandbox, have.Image.Id, hold, env)
	if err != nil {
		giveBack()
		return 0, nil, err
	}
	return pid, giveBack, nil
}

// sandbox makes a sandbox where the runtime makes cgroups. With systemd's driver
// containerd takes one in a slice only, such as kubelet names for its pods, and has
// no default ("expected cgroupsPath to be of format slice:prefix:name", of runc). Which
// driver it is no containerd says before 2.0 (RuntimeConfig): it is tried out.
func (r *Runtime) sandbox(ctx context.Context, config *cri.PodSandboxConfig) (*cri.RunPodSandboxResponse, error) {
	const slice = "system.slice"
	parents := []string{"", slice}
	if told, err := r.client.RuntimeConfig(ctx, &cri.RuntimeConfigRequest{}); err == nil && told.GetLinux() != nil {
		parents = []string{""}
		if told.Linux.CgroupDriver == cri.CgroupDriver_SYSTEMD {
			parents[0] = slice
		}
	}
	var made *cri.RunPodSandboxResponse
	var err error
	for _, config.Linux.CgroupParent = range parents {
		if made, err = r.client.RunPodSandbox(ctx, &cri.RunPodSandboxRequest{Config: config}); err == nil || ctx.Err() != nil {
			break
		}
	}
	return made, err
}

func (r *Runtime) hold(ctx context.Context, sandbox string, in *cri.PodSandboxConfig, image, hold string, env []string) (pid int, err error) {
	const inside = "/etcd-rewind"
	config := &cri.ContainerConfig{
		Metadata: &cri.ContainerMetadata{Name: "hold"}, Image: &cri.ImageSpec{Image: image}, Command: []string{inside},
		Labels: map[string]string{borrowLabel: "true"},
		Mounts: []*cri.Mount{{HostPath: hold, ContainerPath: inside, Readonly: true, SelinuxRelabel: true}},
		Linux: &cri.LinuxContainerConfig{SecurityContext: &cri.LinuxContainerSecurityContext{
			Capabilities: &cri.Capability{DropCapabilities: []string{"ALL"}}, NoNewPrivs: true,
			NamespaceOptions: &cri.NamespaceOption{Network: cri.NamespaceMode_NODE},
		}},
	}
	for _, e := range env {
		k, v, _ := strings.Cut(e, "=")
		config.Envs = append(config.Envs, &cri.KeyValue{Key: k, Value: []byte(v)})
	}
	made, err := r.client.CreateContainer(ctx, &cri.CreateContainerRequest{PodSandboxId: sandbox, Config: config, SandboxConfig: in})
	if err != nil {
		return 0, r.explain("making a container", err)
	}
	if _, err := r.client.StartContainer(ctx, &cri.StartContainerRequest{ContainerId: made.ContainerId}); err != nil {
		return 0, r.explain("starting a container", err)
	}
	pid, _, err = r.Process(ctx, made.ContainerId)
	if err == nil && pid == 0 {
		err = errors.New("the container runtime doesn't give the process of a container")
	}
	return pid, err
}

// GiveBack removes what was borrowed and not given back, as after a crash.
func (r *Runtime) GiveBack(ctx context.Context) error {
	all, err := r.client.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{Filter: &cri.PodSandboxFilter{LabelSelector: map[string]string{borrowLabel: "true"}}})
	if err != nil {
		return r.explain("listing sandboxes", err)
	}
	for _, p := range all.Items {
		if err := errors.Join(r.StopSandbox(ctx, p.Id), r.RemoveSandbox(ctx, p.Id)); err != nil {
			return err
		}
	}
	return nil
}
