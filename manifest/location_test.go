package manifest

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

func TestResolve(t *testing.T) {
	dirType := corev1.HostPathDirectoryOrCreate
	host := func(name, path string) corev1.Volume {
		return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: path, Type: &dirType}}}
	}
	volumes := []corev1.Volume{
		host("data", "/mnt/disk/etcd"),
		host("lib", "/srv/lib"),
		host("root", "/"),
		{Name: "gone", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
	}
	mount := func(at, volume string) corev1.VolumeMount {
		return corev1.VolumeMount{MountPath: at, Name: volume}
	}
	sub := func(at, volume, sub string) corev1.VolumeMount {
		return corev1.VolumeMount{MountPath: at, Name: volume, SubPath: sub}
	}
	tests := []struct {
		name   string
		mounts []corev1.VolumeMount
		path   string
		want   string // on the node
		volume string
		inside string
		code   string
		cause  string
	}{
		{"the mount itself", []corev1.VolumeMount{mount("/var/lib/etcd", "data")}, "/var/lib/etcd", "/mnt/disk/etcd", "data", "", "", ""},
		{"below the mount", []corev1.VolumeMount{mount("/var/lib/etcd", "data")}, "/var/lib/etcd/a/b", "/mnt/disk/etcd/a/b", "data", "a/b", "", ""},
		{"slashes and dots don't matter", []corev1.VolumeMount{mount("/var/lib/etcd/", "data")}, "/var//lib/./etcd/x/../", "/mnt/disk/etcd", "data", "", "", ""},
		{"a mountPath without a leading slash", []corev1.VolumeMount{mount("var/lib/etcd", "data")}, "/var/lib/etcd", "/mnt/disk/etcd", "data", "", "", ""},
		{"the longest mount wins, in any order", []corev1.VolumeMount{mount("/var/lib/etcd", "data"), mount("/var/lib", "lib")}, "/var/lib/etcd", "/mnt/disk/etcd", "data", "", "", ""},
		{"the longest mount wins, in the other order", []corev1.VolumeMount{mount("/var/lib", "lib"), mount("/var/lib/etcd", "data")}, "/var/lib/etcd/x", "/mnt/disk/etcd/x", "data", "x", "", ""},
		{"a mount with the same beginning is another one", []corev1.VolumeMount{mount("/var/lib", "lib"), mount("/var/lib/etcd", "data")}, "/var/lib/etcd2", "/srv/lib/etcd2", "lib", "etcd2", "", ""},
		{"a mount below the path doesn't hold it", []corev1.VolumeMount{mount("/var/lib/etcd/wal", "data")}, "/var/lib/etcd", "", "", "", CodeNotHostPath, "none of the volumes"},
		{"the whole disk", []corev1.VolumeMount{mount("/", "root")}, "/var/lib/etcd", "/var/lib/etcd", "root", "var/lib/etcd", "", ""},
		{"a subPath", []corev1.VolumeMount{sub("/var/lib/etcd", "lib", "etcd/data")}, "/var/lib/etcd/x", "/srv/lib/etcd/data/x", "lib", "etcd/data/x", "", ""},
		{"a subPathExpr", []corev1.VolumeMount{{MountPath: "/d", Name: "lib", SubPathExpr: "n-$(NODE)"}}, "/d", "/srv/lib/n-cp1", "lib", "n-cp1", "", ""},
		{"a subPathExpr that isn't known", []corev1.VolumeMount{{MountPath: "/d", Name: "lib", SubPathExpr: "$(POD)"}}, "/d", "", "", "", CodeUnknownValue, "$(POD)"},
		{"an emptyDir", []corev1.VolumeMount{mount("/var/lib", "lib"), mount("/var/lib/etcd", "gone")}, "/var/lib/etcd", "", "", "", CodeNotHostPath, "emptyDir"},
		{"no mount", nil, "/var/lib/etcd", "", "", "", CodeNotHostPath, "isn't on the node's disk"},
		{"a relative path", []corev1.VolumeMount{mount("/", "root")}, "default.etcd", "", "", "", CodeNotHostPath, "relative"},
		{"a volume that isn't there", []corev1.VolumeMount{mount("/d", "nope")}, "/d", "", "", "", CodeInvalid, `"nope"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			pod := &corev1.Pod{Spec: corev1.PodSpec{Volumes: volumes}}
			c := &corev1.Container{Name: "etcd", VolumeMounts: tt.mounts, Env: []corev1.EnvVar{
				{Name: "NODE", Value: "cp1"},
				{Name: "POD", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.name"}}},
			}}
			l, err := Resolve(pod, c, tt.path)
			if tt.code != "" {
				wantProblem(t, err, tt.code, tt.cause)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if l.Path != tt.want || l.Volume != tt.volume || l.Inside != tt.inside || l.Flag != tt.path || l.HostPathType != "DirectoryOrCreate" {
				t.Errorf("got %+v", l)
			}
			if pod.Spec.Volumes[l.VolumeIndex].Name != tt.volume {
				t.Errorf("index %d is another volume", l.VolumeIndex)
			}
			if got := l.Under(l.HostPath); got != l.Path {
				t.Errorf("under its own hostPath: %s, want %s", got, l.Path)
			}
		})
	}
}

func TestUnderFollowsTheHostPath(t *testing.T) {
	l := Location{HostPath: "/var/lib", Inside: "etcd/data"}
	if diff := cmp.Diff("/mnt/new/etcd/data", l.Under("/mnt/new")); diff != "" {
		t.Error(diff)
	}
}
