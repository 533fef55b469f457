package manifest

import (
	"path"
	"strings"

	"etcd-rewind/problem"

	corev1 "k8s.io/api/core/v1"
)

// Location says where a path inside a container lies on the node.
type Location struct {
	Flag         string // the path in the container, as it was given
	Volume       string
	VolumeIndex  int // in spec.volumes
	MountPath    string
	SubPath      string
	HostPath     string // the volume's hostPath.path, as written
	HostPathType string
	Inside       string // where Path lies below HostPath, "" when it is HostPath itself
	Path         string // on the node, cleaned
}

// Under gives where the same path in the container would lie on the node if the volume's hostPath.path were hostPath.
func (l Location) Under(hostPath string) string { return path.Join(hostPath, l.Inside) }

// Resolve follows a path in the container to the node's disk: through the longest mountPath above it, the mount's subPath,
// and the volume's hostPath. It is an error when no hostPath volume is mounted there, since then the files are in the image
// or in a volume that goes away with the pod.
func Resolve(pod *corev1.Pod, c *corev1.Container, p string) (Location, error) {
	if !path.IsAbs(p) {
		return Location{}, problem.Coded(CodeNotHostPath, "give the absolute path in the manifest",
			"%q is relative to the working directory of the image, which the manifest doesn't name", p)
	}
	clean := path.Clean(p)
	var mount *corev1.VolumeMount
	longest := -1
	for i := range c.VolumeMounts {
		m := &c.VolumeMounts[i]
		at := mountPoint(m)
		if _, ok := below(at, clean); ok && len(at) > longest {
			mount, longest = m, len(at)
		}
	}
	if mount == nil {
		return Location{}, problem.Coded(CodeNotHostPath, "mount a hostPath volume there, or correct the path",
			"%s is below none of the volumes mounted in container %q, so it isn't on the node's disk", p, c.Name)
	}

	index := -1
	for i := range pod.Spec.Volumes {
		if pod.Spec.Volumes[i].Name == mount.Name {
			index = i
		}
	}
	if index < 0 {
		return Location{}, problem.Coded(CodeInvalid, "", "container %q mounts the volume %q, which does not exist", c.Name, mount.Name)
	}
	v := &pod.Spec.Volumes[index]
	if v.HostPath == nil {
		return Location{}, problem.Coded(CodeNotHostPath, "only what is on a hostPath volume can be found on the node",
			"%s is on the volume %q, which is %s, not a hostPath", p, v.Name, volumeKind(v))
	}

	sub := mount.SubPath
	if mount.SubPathExpr != "" {
		env := readEnv(c)
		sub = env.expand(mount.SubPathExpr)
		if name, from := env.unknownIn(mount.SubPathExpr); name != "" {
			return Location{}, problem.Coded(CodeUnknownValue, "write the value into subPath",
				"the mount of %s has a subPathExpr with $(%s), which is filled in by kubelet (%s)", mount.MountPath, name, from)
		}
	}
	rest, _ := below(mountPoint(mount), clean)
	l := Location{
		Flag:        p,
		Volume:      v.Name,
		VolumeIndex: index,
		MountPath:   mount.MountPath,
		SubPath:     sub,
		HostPath:    v.HostPath.Path,
		Inside:      path.Join(sub, rest),
	}
	if v.HostPath.Type != nil {
		l.HostPathType = string(*v.HostPath.Type)
	}
	l.Path = l.Under(l.HostPath)
	return l, nil
}

func mountPoint(m *corev1.VolumeMount) string {
	// Kubelet takes a mountPath without a leading slash as one below the root.
	return path.Clean("/" + m.MountPath)
}

// below says whether p is dir or lies in it, and where. By whole path segments: /var/lib/etcd2 isn't in /var/lib/etcd.
func below(dir, p string) (rest string, ok bool) {
	if p == dir {
		return "", true
	}
	if dir != "/" {
		dir += "/"
	}
	return strings.CutPrefix(p, dir)
}

func volumeKind(v *corev1.Volume) string {
	switch {
	case v.EmptyDir != nil:
		return "an emptyDir (lost with the pod)"
	case v.ConfigMap != nil:
		return "a configMap"
	case v.Secret != nil:
		return "a secret"
	case v.Projected != nil:
		return "projected"
	case v.PersistentVolumeClaim != nil:
		return "a persistentVolumeClaim"
	}
	return "of another kind"
}
