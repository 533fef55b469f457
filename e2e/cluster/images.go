//go:build linux

package cluster

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// containerdConfig is containerd's configuration. restrict_oom_score_adj: where
// root has no CAP_SYS_RESOURCE, runc could not lower a container's score and ends
// with "can't get final child's PID from pipe: EOF" [measured]. The CNI
// directories are empty ones, so a machine's own network plugins are not used.
func (n *Node) containerdConfig(images []string) string {
	return fmt.Sprintf(`version = 2
root = "/var/lib/containerd"
state = "/run/containerd"

[grpc]
  address = "/run/containerd/containerd.sock"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = %q
  restrict_oom_score_adj = true
  disable_apparmor = true

[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = %[2]q
  conf_dir = %[2]q

[plugins."io.containerd.internal.v1.opt"]
  path = "/var/lib/containerd/opt"
`, pauseImage(images), filepath.Join(n.Dir, "cni"))
}

func pauseImage(images []string) string {
	for _, image := range images {
		if imageName(image) == "pause" {
			return image
		}
	}
	return ""
}

// startContainerd starts containerd with the images in it, which it has when they
// were found in the store.
func (n *Node) startContainerd(ctx context.Context, images []string, p parts, store string, found bool) error {
	if !found {
		if err := n.importImages(ctx, images, p); err != nil {
			return err
		}
		if err := n.service(ctx, "containerd", "stop"); err != nil {
			return err
		}
		dir := n.HostPath("/var/lib/containerd")
		if n.Systemd { // the same, but a link leaves no mount
			dir = filepath.Join(n.Dir, "lib", "containerd")
		}
		if err := keepStore(dir, store); err != nil {
			return err
		}
	}
	return n.waitForContainerd(ctx)
}

// waitForContainerd starts containerd, unless it runs, and waits until it answers.
func (n *Node) waitForContainerd(ctx context.Context) error {
	if err := n.service(ctx, "containerd", "start"); err != nil {
		return err
	}
	return poll(ctx, "containerd", n.Stretched(patience), 50*time.Millisecond, func(ctx context.Context) error {
		if !n.runs(ctx, "containerd") {
			return final{errors.New("containerd has ended")}
		}
		_, err := run(n.Command(ctx, "ctr", "version"))
		return err
	})
}

// importImages starts containerd and gives it the images.
func (n *Node) importImages(ctx context.Context, images []string, p parts) error {
	if err := n.waitForContainerd(ctx); err != nil {
		return err
	}
	archive, written := io.Pipe()
	go func() { written.CloseWithError(writeImages(written, images, p)) }()
	cmd := n.Command(ctx, "ctr", "--namespace", "k8s.io", "images", "import", "-")
	cmd.Stdin = archive
	_, err := run(cmd)
	archive.CloseWithError(errors.New("ctr has ended")) // so that writing ends, too
	return err
}

// writeImages writes those of the images that a control plane needs as one
// docker-archive: what `docker save` writes. Each is busybox and one layer of
// programs.
func writeImages(w io.Writer, images []string, p parts) error {
	busybox, err := busyboxLayer()
	if err != nil {
		return err
	}
	type entry struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	var manifest []entry
	archive := tar.NewWriter(w)
	written := map[string]bool{}
	for _, image := range images {
		layers := []layer{busybox}
		var command []string
		switch name := imageName(image); name {
		case "pause":
			// As the first process of its namespace sleep would ignore SIGTERM, and
			// systemd wait 90 s for it when the host is shut down.
			command = []string{"/bin/sh", "-c", "trap 'exit 0' TERM INT; while :; do sleep 2147483647 & wait; done"}
		case "etcd":
			layers = append(layers, programs(p.etcd, "etcd", "etcdctl", "etcdutl"))
			command = []string{"etcd"}
		case "kube-apiserver", "kube-controller-manager", "kube-scheduler":
			layers = append(layers, programs(p.kubernetes, name))
			command = []string{name}
		default:
			continue // a pod that nothing here starts
		}

		e := entry{RepoTags: []string{image}}
		var diffIDs []string
		for _, l := range layers {
			// Twice through it: a tar says a file's size before the file.
			sum := sha256.New()
			var size byteCount
			if err := l.write(io.MultiWriter(sum, &size)); err != nil {
				return err
			}
			id := hex.EncodeToString(sum.Sum(nil))
			diffIDs = append(diffIDs, "sha256:"+id)
			e.Layers = append(e.Layers, id+".tar")
			if written[id] {
				continue
			}
			written[id] = true
			if err := archive.WriteHeader(&tar.Header{Name: id + ".tar", Size: int64(size), Mode: 0o644}); err != nil {
				return err
			}
			if err := l.write(archive); err != nil {
				return err
			}
		}
		config, err := json.Marshal(map[string]any{
			"architecture": runtime.GOARCH,
			"os":           "linux",
			"config": map[string]any{
				"Env": []string{"PATH=/usr/local/bin:/bin"},
				"Cmd": command,
			},
			"rootfs": map[string]any{"type": "layers", "diff_ids": diffIDs},
		})
		if err != nil {
			return err
		}
		id := sha256.Sum256(config)
		e.Config = hex.EncodeToString(id[:]) + ".json"
		if err := writeFile(archive, e.Config, config); err != nil {
			return err
		}
		manifest = append(manifest, e)
	}
	text, err := json.Marshal(manifest)
	if err != nil {
		return err
	}
	if err := writeFile(archive, "manifest.json", text); err != nil {
		return err
	}
	return archive.Close()
}

// imageName is the last part of an image's name: etcd for registry.k8s.io/etcd:3.6.10-0.
func imageName(image string) string {
	name, _, _ := strings.Cut(path.Base(image), ":")
	return name
}

func writeFile(archive *tar.Writer, name string, text []byte) error {
	if err := archive.WriteHeader(&tar.Header{Name: name, Size: int64(len(text)), Mode: 0o644}); err != nil {
		return err
	}
	_, err := archive.Write(text)
	return err
}

// byteCount counts what is written to it.
type byteCount int64

func (c *byteCount) Write(p []byte) (int, error) {
	*c += byteCount(len(p))
	return len(p), nil
}

// layer is an image's layer. Written twice it is the same twice.
type layer struct {
	files []layerFile
}

// layerFile is a directory, a symbolic link when it has a target, or a copy of
// the machine's file at source.
type layerFile struct{ name, target, source string }

func programs(dir string, names ...string) layer {
	l := layer{files: []layerFile{{name: "usr/"}, {name: "usr/local/"}, {name: "usr/local/bin/"}}}
	for _, name := range names {
		l.files = append(l.files, layerFile{name: "usr/local/bin/" + name, source: filepath.Join(dir, name)})
	}
	return l
}

// busyboxLayer is the machine's busybox, with a link for each of its commands.
func busyboxLayer() (layer, error) {
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return layer{}, err
	}
	names, err := run(exec.Command(busybox, "--list"))
	if err != nil {
		return layer{}, err
	}
	l := layer{files: []layerFile{{name: "bin/"}, {name: "etc/"}, {name: "tmp/"}, {name: "bin/busybox", source: busybox}}}
	for _, name := range strings.Fields(names) {
		if name != "busybox" {
			l.files = append(l.files, layerFile{name: "bin/" + name, target: "busybox"})
		}
	}
	return l, nil
}

func (l layer) write(w io.Writer) error {
	archive := tar.NewWriter(w)
	for _, f := range l.files {
		if err := f.write(archive); err != nil {
			return err
		}
	}
	return archive.Close()
}

func (f layerFile) write(archive *tar.Writer) error {
	header := &tar.Header{Name: f.name, Mode: 0o755}
	switch {
	case f.source != "":
		file, err := os.Open(f.source)
		if err != nil {
			return err
		}
		defer file.Close()
		info, err := file.Stat()
		if err != nil {
			return err
		}
		header.Size = info.Size()
		if err := archive.WriteHeader(header); err != nil {
			return err
		}
		_, err = io.Copy(archive, file)
		return err
	case f.target != "":
		header.Typeflag, header.Linkname = tar.TypeSymlink, f.target
	default:
		header.Typeflag = tar.TypeDir
	}
	return archive.WriteHeader(header)
}
