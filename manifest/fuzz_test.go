package manifest

import (
	"bytes"
	"path"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

func seeds(f *testing.F) [][]byte {
	var s [][]byte
	for _, name := range []string{
		"kubeadm-1.34/etcd.yaml", "kubeadm-1.34/kube-apiserver.yaml", "etcd.json", "by-hand.yaml", "rke2-etcd.yaml",
	} {
		data := fixture(f, name)
		s = append(s, data, bytes.ReplaceAll(data, []byte("\n"), []byte("\r\n")))
	}
	for _, volumes := range []string{
		"  volumes:\n  - name: v\n    hostPath: {path: /old, type: ''}\n",
		"  volumes:\n    -   hostPath: &a\n          path: |-\n            /old\n        name: v\n",
		"  volumes: [{name: v, hostPath: {\"path\": \"/o\\x41\"}}]\n",
		"  volumes:\n  - &v\n    name: v\n    hostPath: {path: &p /old}\n  - <<: *v\n    name: w\n  - {name: x, hostPath: {path: *p}}\n",
	} {
		s = append(s, []byte(withVolumes(volumes)))
	}
	return s
}

// oneSplice says whether b is a with one piece replaced by text, and gives what was replaced. Without it any two texts are.
func oneSplice(a, b []byte) (removed, added string) {
	head := 0
	for head < len(a) && head < len(b) && a[head] == b[head] {
		head++
	}
	tail := 0
	for tail < len(a)-head && tail < len(b)-head && a[len(a)-1-tail] == b[len(b)-1-tail] {
		tail++
	}
	return string(a[head : len(a)-tail]), string(b[head : len(b)-tail])
}

// decodeLoosely reads a pod by another way than the package does: false where that way can't, since encoding/json matches
// keys without regard to case and merges what is given twice.
func decodeLoosely(data []byte) (*corev1.Pod, bool) {
	var pod corev1.Pod
	if err := yaml.Unmarshal(data, &pod); err != nil {
		return nil, false
	}
	strict, err := decodePod(data)
	return &pod, err == nil && reflect.DeepEqual(strict, &pod)
}

func FuzzSetHostPath(f *testing.F) {
	for _, s := range seeds(f) {
		f.Add(s, "/var/lib/etcd-new")
		f.Add(s, "/a \"b' #: {}")
	}
	f.Fuzz(func(t *testing.T, data []byte, to string) {
		pod, err := decodePod(data)
		if err != nil {
			if out, err := SetHostPath(data, "v", to); err == nil || out != nil {
				t.Fatal("edited what kubelet can't read")
			}
			return
		}
		for i, v := range pod.Spec.Volumes {
			before := bytes.Clone(data)
			out, err := SetHostPath(data, v.Name, to)
			if !bytes.Equal(before, data) {
				t.Fatal("the argument was changed")
			}
			if err != nil {
				if out != nil {
					t.Fatal("an error and output")
				}
				continue
			}
			removed, _ := oneSplice(data, out)
			if v.HostPath.Path != to && strings.Count(removed, "\n") > strings.Count(v.HostPath.Path, "\n")+2 {
				t.Fatalf("several lines were replaced: %q", removed)
			}
			if want, ok := decodeLoosely(data); ok {
				want.Spec.Volumes[i].HostPath.Path = to
				if got, _ := decodeLoosely(out); !reflect.DeepEqual(want, got) {
					t.Fatalf("the pod changed elsewhere\n%s", Diff("before", "after", data, out))
				}
			}
			back, err := SetHostPath(out, v.Name, v.HostPath.Path)
			if err != nil {
				if !strings.HasPrefix(v.HostPath.Path, "/") || !printable(v.HostPath.Path) || strings.Contains(v.HostPath.Path, "..") {
					continue
				}
				t.Fatalf("can't be reverted: %v\n%s", err, out)
			}
			again, err := decodePod(back)
			if err != nil || !reflect.DeepEqual(pod, again) {
				t.Fatalf("putting it back gives another pod: %v\n%s", err, back)
			}
		}
	})
}

func FuzzAnnotate(f *testing.F) {
	for _, s := range seeds(f) {
		f.Add(s, annKey, annVal)
		f.Add(s, "a", "x: \"y\" # {}\n'")
	}
	f.Fuzz(func(t *testing.T, data []byte, key, value string) {
		before := bytes.Clone(data)
		out, err := Annotate(data, key, value)
		if !bytes.Equal(before, data) {
			t.Fatal("the argument was changed")
		}
		if err != nil {
			if out != nil {
				t.Fatal("an error and output")
			}
			return
		}
		if !utf8.ValidString(value) {
			t.Fatal("took a value that is no text")
		}
		if want, ok := decodeLoosely(data); ok {
			if want.Annotations == nil {
				want.Annotations = map[string]string{}
			}
			want.Annotations[key] = value
			if got, _ := decodeLoosely(out); !reflect.DeepEqual(want, got) {
				t.Fatalf("the pod changed elsewhere\n%s", Diff("before", "after", data, out))
			}
		}
		removed, _ := oneSplice(data, out)
		if strings.Count(removed, "\n") > 2+strings.Count(decodeAnnotation(data, key), "\n") {
			t.Fatalf("several lines were replaced: %q", removed)
		}
		again, err := Annotate(out, key, value)
		if err != nil || !bytes.Equal(again, out) {
			t.Fatalf("a second time: %v", err)
		}
		if out, err = Annotate(out, key, value+"2"); err != nil {
			t.Fatalf("another value: %v\n%s", err, out)
		}
	})
}

func decodeAnnotation(data []byte, key string) string {
	pod, err := decodePod(data)
	if err != nil {
		return ""
	}
	return pod.Annotations[key]
}

func FuzzDiff(f *testing.F) {
	etcd := fixture(f, "kubeadm-1.34/etcd.yaml")
	f.Add(etcd, bytes.ReplaceAll(etcd, []byte("etcd"), []byte("x")))
	f.Add([]byte("a\nb\nc"), []byte("b\nc\n"))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		edits := compare(splitLines(a), splitLines(b))
		var before, after strings.Builder
		for _, e := range edits {
			if e.op != '+' {
				before.WriteString(e.line)
			}
			if e.op != '-' {
				after.WriteString(e.line)
			}
		}
		if before.String() != string(a) || after.String() != string(b) {
			t.Fatal("the diff doesn't lead from one text to the other")
		}
		if (Diff("a", "b", a, b) == "") != bytes.Equal(a, b) {
			t.Fatal("the diff is empty for different texts, or not for the same")
		}
	})
}

// FuzzLayout reformats a real manifest, line by line, as people and tools do. All of it must be editable, and the edit
// must be exactly the one that is to be expected.
func FuzzLayout(f *testing.F) {
	const mark = "/mnt/the/one/to/change"
	base := replaced(f, fixture(f, "kubeadm-1.34/etcd.yaml"), "path: /var/lib/etcd\n", "path: "+mark+"\n")
	lines := strings.Split(strings.TrimSuffix(string(base), "\n"), "\n")
	f.Add([]byte{0}, byte(0))
	f.Add([]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}, byte(1))
	f.Add([]byte{2, 6, 3}, byte(6))
	f.Add([]byte{7, 8}, byte(9))
	f.Fuzz(func(t *testing.T, ops []byte, whole byte) {
		if len(ops) == 0 {
			return
		}
		var text strings.Builder
		if whole&1 != 0 {
			text.WriteString("\ufeff")
		}
		if whole&2 != 0 {
			text.WriteString("# größe\n---\n")
		}
		for i, line := range lines {
			indent := line[:len(line)-len(strings.TrimLeft(line, " "))]
			key, value, pair := strings.Cut(strings.TrimPrefix(strings.TrimLeft(line, " "), "- "), ": ")
			quotable := pair && !strings.ContainsAny(value, "{}'\"") && strings.ContainsAny(value, "/:")
			before, behind := "", ""
			switch op := ops[i%len(ops)]; op % 12 {
			case 1:
				behind = strings.Repeat(" ", int(op>>4))
			case 2:
				behind = " # ✓ path: /x\t"
			case 3:
				before = strings.Repeat(" ", int(op>>4)) + "# - hostPath: {path: '/x'}\n"
			case 4:
				before = "\n" + indent + "\n"
			case 5:
				behind = "\t# tab"
			case 6:
				before = indent + "# \u2028# \u0085# 😀\n"
			case 7:
				if quotable {
					line = strings.TrimSuffix(line, value) + `"` + value + `"`
				}
			case 8:
				if quotable {
					line = strings.TrimSuffix(line, value) + "'" + value + "'"
				}
			case 9:
				if pair {
					line = strings.Replace(line, key+": ", `"`+key+`":   `, 1)
				}
			case 10:
				if quotable {
					line = strings.Replace(line, ": ", ":\n"+indent+"      ", 1)
				}
			case 11:
				if quotable {
					line = strings.Replace(line, ": ", ": &a"+key[:1]+" ", 1)
				}
			}
			text.WriteString(before + line + behind + "\n")
		}
		data := text.String()
		if whole&4 != 0 {
			data = strings.ReplaceAll(data, "\n", "\r\n")
		}
		if whole&8 != 0 {
			data = strings.TrimRight(data, "\r\n")
		}
		if _, err := decodePod([]byte(data)); err != nil {
			return // the layout went wrong
		}
		out, err := SetHostPath([]byte(data), "etcd-data", newPath)
		if err != nil {
			t.Fatalf("%v\n%s", err, data)
		}
		if want := strings.Replace(data, mark, newPath, 1); string(out) != want {
			t.Fatal(Diff("want", "got", []byte(want), out))
		}
		if _, err := Annotate(out, annKey, annVal); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	})
}

// FuzzFlags: whatever words etcd and kube-apiserver are started with, their
// flags are read or refused with a cause, and what is read holds to what the
// programs hold to.
func FuzzFlags(f *testing.F) {
	for _, name := range []string{"kubeadm-1.34/etcd.yaml", "kubeadm-1.34/kube-apiserver.yaml", "by-hand.yaml", "rke2-etcd.yaml"} {
		pod, err := decodePod(fixture(f, name))
		if err != nil {
			f.Fatal(err)
		}
		c := pod.Spec.Containers[0]
		f.Add(strings.Join(append(c.Command, c.Args...), "\n"))
	}
	for _, words := range []string{
		"etcd\ngrpc-proxy\nstart", "tini\n--\netcd\n-name\na", "etcd\n--quota-backend-bytes=-1", "etcd\n--quota-backend-bytes=0x7fffffffffffffff\n--data-dir=/d",
		"etcd\n--initial-cluster=a=http://x:1,a=http://y:2,=,b", "etcd\n--name=$(A)\n--data-dir=/$$(A)/$(B)", "etcd\n--data-dir=/d/../../e\n--wal-dir=/d/wal",
		"etcd\n--listen-client-urls=https://[::]:2379,unix://x,://", "sh\n-c\netcd", "kube-apiserver\n--etcd-prefix=../..//x/", "kube-apiserver\n--etcd_servers=https://a:1;b\n-v2",
		"kube-apiserver\n--etcd-servers-overrides=/events#https://a:1;https://b:2,#,/\n--secure-port=65536", "kube-apiserver\n--anonymous-auth=maybe", "etcd\n--\n", "etcd\n---",
	} {
		f.Add(words)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c := corev1.Container{Name: "c", Command: strings.Split(text, "\n"), Env: []corev1.EnvVar{{Name: "A", Value: "$(B)"}, {Name: "ETCD_NAME", Value: "n"}}}
		c.VolumeMounts = []corev1.VolumeMount{{Name: "v", MountPath: "/d"}}
		c.Env = append(c.Env, corev1.EnvVar{Name: "B", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "status.hostIP"}}})
		pod := file(c)
		pod.Pod.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/host"}}}}
		if e, err := ReadEtcd(pod); err == nil {
			if e.Name == "" && !strings.Contains(text, "name") {
				t.Error("it has no name")
			}
			if !path.IsAbs(e.DataDir.Path) || path.Clean(e.DataDir.Path) != e.DataDir.Path {
				t.Errorf("the data lies at %q", e.DataDir.Path)
			}
			if _, inside := below("/host", e.DataDir.Path); !inside {
				t.Errorf("the data lies outside of the volume, at %q", e.DataDir.Path)
			}
			if first := c.Command[0]; path.Base(first) == "etcd" && len(c.Command) > 1 && c.Command[1] == "grpc-proxy" {
				t.Error("a proxy is taken for a server")
			}
		}
		if a, err := ReadAPIServer(pod); err == nil {
			if !path.IsAbs(a.EtcdPrefix) || path.Clean(a.EtcdPrefix) != a.EtcdPrefix {
				t.Errorf("the prefix is %q", a.EtcdPrefix)
			}
			if a.SecurePort < 0 || a.SecurePort > 65535 {
				t.Errorf("the port is %d", a.SecurePort)
			}
		}
	})
}
