package drill

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"etcd-rewind/manifest"
	"etcd-rewind/node"
	"etcd-rewind/problem"
	"etcd-rewind/steps"
)

// program is a file that looks like a program of Linux.
func program(t *testing.T, path string, isStatic bool) {
	t.Helper()
	h := elf.Header64{Type: uint16(elf.ET_EXEC), Machine: uint16(elf.EM_X86_64), Version: 1, Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: 1, Shentsize: 64}
	copy(h.Ident[:], "\x7fELF\x02\x01\x01")
	kind := elf.PT_INTERP
	if isStatic {
		kind = elf.PT_NOTE
	}
	var b bytes.Buffer
	for _, part := range []any{h, elf.Prog64{Type: uint32(kind)}} {
		if err := binary.Write(&b, binary.LittleEndian, part); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b.Bytes(), 0o700); err != nil {
		t.Fatal(err)
	}
}

// fakeRuntime has one container of etcd, and images.
type fakeRuntime struct {
	state    string
	pid      int
	image    string
	borrowed int  // processes of containers that were borrowed
	absent   bool // the image isn't there
	full     bool // no disk is left for a container
	back     int
	swept    int
}

func (f *fakeRuntime) Pod(_ context.Context, namespace, name string) ([]node.Sandbox, error) {
	if namespace != "kube-system" || name != "etcd-cp1" || f.state == "" {
		return nil, nil
	}
	return []node.Sandbox{{ID: "s1", Containers: []node.Container{{ID: "c1c1c1c1c1c1c1c1", Name: "etcd", State: f.state}}}}, nil
}

func (f *fakeRuntime) Process(context.Context, string) (int, string, error) {
	return f.pid, f.image, nil
}

func (f *fakeRuntime) Borrow(_ context.Context, image, hold string, env []string) (int, func(), error) {
	if f.absent {
		return 0, nil, fmt.Errorf("the image %s isn't on this node", image)
	}
	if f.full {
		return 0, nil, errors.New("container runtime at /run/containerd/containerd.sock: making a sandbox: mkdir /var/lib/containerd/x: no space left on device")
	}
	if _, err := os.Stat(hold); err != nil || len(env) != 1 {
		return 0, nil, fmt.Errorf("%w %v", err, env)
	}
	return f.borrowed, func() { f.back++ }, nil
}

func (f *fakeRuntime) GiveBack(context.Context) error { f.swept++; return nil }
func (f *fakeRuntime) Close() error                   { return nil }

// found is a finder on a machine with the processes of one /proc.
func found(t *testing.T, rt *fakeRuntime) *finder {
	t.Helper()
	dir := t.TempDir()
	text := `apiVersion: v1
kind: Pod
metadata: {name: etcd, namespace: kube-system}
spec:
  containers:
  - name: etcd
    image: registry.k8s.io/etcd:3.6.10-0
    command: [etcd, --name=cp1, --data-dir=/var/lib/etcd]
    volumeMounts: [{name: data, mountPath: /var/lib/etcd}]
  volumes: [{name: data, hostPath: {path: /var/lib/etcd}}]
`
	if err := os.WriteFile(filepath.Join(dir, "etcd.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	all, err := manifest.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	file, _ := all.Component("etcd")
	e, err := manifest.ReadEtcd(file)
	if err != nil {
		t.Fatal(err)
	}
	return &finder{
		facts: &steps.Facts{Layout: &node.Kubeadm, Kubelet: &node.Kubelet{NodeName: "cp1"}, Etcd: steps.EtcdOfPod(e)},
		proc:  t.TempDir(), scratch: t.TempDir(),
		runtime: func(context.Context) (containers, error) { return rt, nil },
	}
}

// process is one of the machine's, of a container.
func (f *finder) process(t *testing.T, pid int, name, container string, isStatic bool) {
	t.Helper()
	dir := filepath.Join(f.proc, strconv.Itoa(pid))
	exe := filepath.Join(dir, "root/usr/local/bin", name)
	program(t, exe, isStatic)
	if err := os.Symlink(exe, filepath.Join(dir, "exe")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "cgroup"), []byte("0::/kubepods/cri-containerd-"+container+".scope\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

const ofEtcd = "c1c1c1c1c1c1c1c1"

func TestTheProgramIsTheOneThatTheContainerRuns(t *testing.T) {
	rt := &fakeRuntime{state: node.Running, pid: 10, image: "sha256:aa", absent: true}
	f := found(t, rt)
	f.process(t, 10, "etcd", ofEtcd, true)
	p, err := f.find(t.Context(), etcdName, "")
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	if rt.swept == 0 {
		t.Error("what a killed drill has borrowed isn't given back")
	}
	if p.From != "the running container c1c1c1c1c1c1" || p.Image != "sha256:aa" || !p.static {
		t.Errorf("%+v", p)
	}

	// One that a shell or an init program has started there is found, too.
	f = found(t, rt)
	f.process(t, 10, "tini", ofEtcd, true)
	f.process(t, 11, "etcd", "another container", true)
	f.process(t, 12, "etcd", ofEtcd, true)
	p, err = f.find(t.Context(), etcdName, "")
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	if !strings.Contains(p.file.Name(), "/12/") {
		t.Errorf("%s was taken", p.file.Name())
	}
}

// A process that has the container's number and isn't in it is nobody's: it may
// be any user's.
func TestAProcessOutsideTheContainerIsNotTaken(t *testing.T) {
	rt := &fakeRuntime{state: node.Running, pid: 10, absent: true}
	f := found(t, rt)
	f.process(t, 10, "etcd", "user.slice", true)
	if p, err := f.find(t.Context(), etcdName, ""); p != nil || err == nil {
		t.Errorf("%+v", p)
	}
	f = found(t, rt)
	f.process(t, 10, "etcd", ofEtcd, false) // it needs libraries that only its image has
	if p, err := f.find(t.Context(), etcdName, ""); p != nil || err == nil {
		t.Errorf("%+v", p)
	}
}

// With nothing running the program comes from the image; the container is given
// back. Without an image, etcd is this binary's where it has one.
func TestWithoutAContainerTheProgramIsTheImages(t *testing.T) {
	rt := &fakeRuntime{state: node.Exited, pid: 0, image: "sha256:aa", borrowed: 77}
	f := found(t, rt)
	f.process(t, 77, "etcd", "borrowed", true)
	p, err := f.find(t.Context(), etcdName, "")
	if self, _ := os.Open("/proc/self/exe"); err != nil {
		if ok, serr := static(self); serr == nil && ok || !strings.Contains(err.Error(), "linked statically") {
			t.Fatal(err)
		}
	} else {
		defer p.close()
		if p.From != "the image sha256:aa" || rt.back != 1 || !strings.HasPrefix(p.file.Name(), f.scratch) {
			t.Errorf("%+v, given back %d times", p, rt.back)
		}
	}

	rt.absent = true
	if p, err := f.find(t.Context(), etcdName, ""); p != nil || err == nil {
		t.Errorf("%+v", p)
	}
	f.builtIn = []string{"X=etcd"}
	if p, err = f.find(t.Context(), etcdName, ""); err != nil || p.From != "this program, which has it built in" {
		t.Errorf("%+v %v", p, err)
	}
	p.close()
	if p, err := f.find(t.Context(), apiName, ""); p != nil || err != nil {
		t.Errorf("%+v %v", p, err)
	}
}

// A full image store, or no runtime at all: what helps is said, and nothing that was
// made for it is left.
func TestWithoutARuntimeTheDrillSaysWhatHelps(t *testing.T) {
	f := found(t, &fakeRuntime{state: node.Exited, full: true})
	_, err := f.find(t.Context(), etcdName, "")
	if err == nil {
		t.Fatal("it found one")
	}
	if p := noEtcd(err); p.Code != CodePrograms || !strings.Contains(p.Cause, "no space left") && !strings.Contains(p.Cause, "linked statically") || strings.Contains(p.Cause, "no space left") && !strings.Contains(p.Hint, "df -h") {
		t.Errorf("%s: %s", p.Cause, p.Hint)
	}
	if left, err := os.ReadDir(f.scratch); err != nil || len(left) > 0 {
		t.Errorf("left: %v %v", left, err)
	}

	dir := t.TempDir()
	facts := found(t, nil).facts
	facts.Kubelet.CRIEndpoint = "unix://" + filepath.Join(dir, "none.sock")
	_, err = Run(t.Context(), "x", nil, Options{Dir: dir, Facts: facts})
	p := problem.Of(err)
	if p == nil || p.Code != CodePrograms || !strings.Contains(p.Hint, "start the container runtime") || strings.Count(p.Cause, "socket does not exist") != 1 {
		t.Errorf("%v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left: %v %v", left, err)
	}
}

// An etcd of systemd's may be linked dynamically: the machine has its libraries.
// Its user may have started another program under the service's name.
func TestTheProgramOfAServiceIsOneThatOnlyRootCanChange(t *testing.T) {
	rt := &fakeRuntime{}
	binary := filepath.Join(t.TempDir(), "etcd")
	program(t, binary, true)
	var judged []string
	for _, c := range []struct {
		pid  int
		good string // what the path of a program that root alone can change contains
		want string
	}{
		{pid: 10, good: "/10/exe", want: "/10/exe"},
		{pid: 10, good: binary, want: binary}, // the running one is its user's
		{pid: 0, good: binary, want: binary},
		{pid: 99, good: binary, want: binary}, // another process has its number
		{pid: 10, good: "nothing"},
	} {
		f := found(t, rt)
		f.process(t, 10, "etcd", "etcd.service", false)
		f.process(t, 99, "etcd", "user.slice", false)
		judged = nil
		f.trusted = func(path string) error {
			judged = append(judged, path)
			if !strings.Contains(path, c.good) {
				return errors.New("others may change it")
			}
			return nil
		}
		p, err := f.ofUnit("etcd.service", c.pid, binary)
		switch {
		case c.want == "" && (p != nil || err == nil || !strings.Contains(err.Error(), "others may change it")):
			t.Errorf("%+v: %v %v", c, p, err)
		case c.want != "" && (err != nil || !strings.Contains(p.file.Name(), c.want) || p.From != "the service etcd.service"):
			t.Errorf("%+v: %+v %v", c, p, err)
		case len(judged) == 0:
			t.Errorf("%+v: nobody looked whose it is", c)
		}
		p.close()
	}
}

func TestANamedProgramHasToBeOne(t *testing.T) {
	f := &finder{}
	path := filepath.Join(t.TempDir(), "etcd")
	program(t, path, true)
	p, err := f.find(t.Context(), etcdName, path)
	if err != nil || p.From != path {
		t.Fatal(p, err)
	}
	p.close()
	if err := os.WriteFile(path, []byte("#!/bin/sh\nexec etcd\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	if p, err := f.find(t.Context(), etcdName, path); p != nil || err == nil || !strings.Contains(err.Error(), "--etcd: ") {
		t.Error(p, err)
	}
	if _, err := f.find(t.Context(), apiName, path+".gone"); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}
