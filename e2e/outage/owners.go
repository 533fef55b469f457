//go:build linux

package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// part is a part of an outage, and who has it.
type part struct {
	what, who string
	took      time.Duration
}

// Who has a part of the outage.
const (
	kubelet   = "kubelet and runtime"
	etcd      = "etcd"
	apiServer = "kube-apiserver"
	ourselves = "etcd-rewind"
)

// outage is when a client saw the API for the last time, and again.
type outage struct{ from, to time.Time }

func (o outage) length() time.Duration { return o.to.Sub(o.from) }

// parts cuts an outage into parts: by the time at which the runtime says that a
// container started, and a program in its log that it serves, so that what
// etcd-rewind takes from there to its next action is its own. Of what stops,
// nothing but etcd-rewind's looks tell, of which there is one every 20 ms. done
// is when its actions were done.
func (b *bench) parts(ctx context.Context, o outage, done map[string]time.Time) ([]part, error) {
	conn, err := grpc.NewClient("unix://"+b.node.HostPath("/run/containerd/containerd.sock"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	runtime := cri.NewRuntimeServiceClient(conn)
	etcdContainer, err := running(ctx, runtime, "etcd")
	if err != nil {
		return nil, err
	}
	apiContainer, err := running(ctx, runtime, "kube-apiserver")
	if err != nil {
		return nil, err
	}
	etcdOpen, err := b.logged(etcdContainer, "serving peer traffic")
	if err != nil {
		return nil, err
	}
	apiServes, err := b.logged(apiContainer, "Serving securely")
	if err != nil {
		return nil, err
	}
	var all []part
	last := o.from
	for _, p := range []struct {
		what, who string
		until     time.Time
	}{
		{"begins to stop kube-apiserver", kubelet, done["stop-kube-apiserver.2"]},
		{"its sandbox is stopped", kubelet, done["stop-kube-apiserver.4"]},
		{"takes etcd.yaml out", ourselves, done["stop-etcd.1"]},
		{"stops etcd and is finished with its pod", kubelet, done["stop-etcd.2"]},
		{"puts the data in place and etcd.yaml in", ourselves, done["start-etcd.2"]},
		{"starts etcd's container", kubelet, time.Unix(0, etcdContainer.StartedAt)},
		{"opens its database, answers peers", etcd, etcdOpen},
		{"asks for its cluster ID, puts kube-apiserver.yaml in", ourselves, done["start-kube-apiserver.2"]},
		{"starts kube-apiserver's container", kubelet, time.Unix(0, apiContainer.StartedAt)},
		{"starts until it serves", apiServer, apiServes},
		{"runs its hooks until it is ready", apiServer, o.to},
	} {
		if p.until.IsZero() {
			return nil, fmt.Errorf("nothing tells when the part %q of the outage ended", p.what)
		}
		all = append(all, part{p.what, p.who, p.until.Sub(last)})
		last = p.until
	}
	return all, nil
}

func running(ctx context.Context, runtime cri.RuntimeServiceClient, name string) (*cri.ContainerStatus, error) {
	list, err := runtime.ListContainers(ctx, &cri.ListContainersRequest{Filter: &cri.ContainerFilter{
		State:         &cri.ContainerStateValue{State: cri.ContainerState_CONTAINER_RUNNING},
		LabelSelector: map[string]string{"io.kubernetes.container.name": name},
	}})
	if err != nil {
		return nil, err
	}
	if len(list.Containers) != 1 {
		return nil, fmt.Errorf("the runtime has %d containers %s that run", len(list.Containers), name)
	}
	status, err := runtime.ContainerStatus(ctx, &cri.ContainerStatusRequest{ContainerId: list.Containers[0].Id})
	if err != nil {
		return nil, err
	}
	return status.Status, nil
}

// logged is when a container first logged a text.
func (b *bench) logged(c *cri.ContainerStatus, text string) (time.Time, error) {
	f, err := os.Open(b.node.HostPath(filepath.Clean(c.LogPath)))
	if err != nil {
		return time.Time{}, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if at, _, ok := strings.Cut(lines.Text(), " "); ok && strings.Contains(lines.Text(), text) {
			return time.Parse(time.RFC3339Nano, at)
		}
	}
	if err := lines.Err(); err != nil {
		return time.Time{}, err
	}
	return time.Time{}, fmt.Errorf("%s doesn't log %q", c.Metadata.Name, text)
}
