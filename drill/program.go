package drill

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"etcd-rewind/node"
	"etcd-rewind/problem"
	"etcd-rewind/steps"
	"etcd-rewind/trust"
)

// The programs of a drill.
const (
	etcdName = "etcd"
	apiName  = "kube-apiserver"
)

// Program is a program of a drill, and where it is from.
type Program struct {
	Name string `json:"name"` // etcd, kube-apiserver
	// From says which file it is, for people: "the running container 1f2e3d".
	From  string `json:"from"`
	Image string `json:"image,omitempty"` // its image's ID, "sha256:...", where it is from one

	file   *os.File // opened, to be run: its path may lead elsewhere by then
	env    []string // what it needs beside its flags
	static bool     // it needs no other file of its image
}

// look opens the program at path.
func (p *Program) look(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	p.file = f
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() {
		return fmt.Errorf("%s isn't a file", path)
	}
	p.static, err = static(f)
	return err
}

func (p *Program) close() {
	if p != nil && p.file != nil {
		_ = p.file.Close()
	}
}

// static says whether a program is linked statically.
func static(f *os.File) (bool, error) {
	e, err := elf.NewFile(f)
	if err != nil {
		return false, problem.New("name the program itself, not a script", "%s isn't a Linux executable", f.Name())
	}
	return !slices.ContainsFunc(e.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }), nil
}

// runtimeLimit is for each question to the container runtime.
const runtimeLimit = 5 * time.Second

// finder finds what the drill runs: a program of the person's choice, else that
// of the process which runs now, else the one in the image, else etcd alone from
// this binary.
type finder struct {
	facts   *steps.Facts
	proc    string // /proc
	builtIn []string
	scratch string
	runtime func(ctx context.Context) (containers, error)
	trusted func(path string) error // trust.File: nobody but root can change it
}

// containers is the part of the container runtime that is needed.
type containers interface {
	Pod(ctx context.Context, namespace, name string) ([]node.Sandbox, error)
	Process(ctx context.Context, id string) (pid int, image string, err error)
	GiveBack(ctx context.Context) error
	Borrow(ctx context.Context, image, hold string, env []string) (pid int, giveBack func(), err error)
	Close() error
}

// find returns nil when there is no such program here, and why.
func (f *finder) find(ctx context.Context, name, named string) (*Program, error) {
	p := &Program{Name: name}
	if named != "" {
		p.From = named
		if err := p.look(named); err != nil {
			p.close()
			return nil, problem.From(fmt.Errorf("--%s: %w", name, err))
		}
		return p, nil
	}
	if f.facts != nil && f.facts.Own {
		return f.instead(name, errStandIn)
	}
	image, why := "", error(nil)
	if pod := f.pod(name); pod != nil {
		if p, image, why = f.running(ctx, name, pod); p != nil {
			return p, nil
		}
		if p, err := f.fromImage(ctx, name, pod, image); err == nil {
			return p, nil
		} else if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		} else if err.Error() != why.Error() { // both asked the runtime
			why = fmt.Errorf("%w; %w", why, err)
		}
	} else if name == etcdName && f.facts != nil {
		if u, binary := f.facts.EtcdUnit(); u != nil {
			if p, why = f.ofUnit(u.Name, u.PID, binary); p != nil {
				return p, nil
			}
		}
	}
	return f.instead(name, why)
}

// instead is what there is for a program that wasn't found, and why it wasn't.
func (f *finder) instead(name string, why error) (*Program, error) {
	if name == etcdName && f.builtIn != nil {
		return f.ofThisBinary()
	}
	return nil, why
}

// errStandIn is a program of a practice node, which is this one.
var errStandIn = errors.New("on a practice node it is a stand-in")

// pod is how a static pod is known to the runtime; nil without one.
func (f *finder) pod(name string) *pod {
	facts := f.facts
	if facts == nil || facts.Kubelet == nil {
		return nil
	}
	switch {
	case name == apiName && facts.APIPod() != nil:
		a := facts.APIPod()
		return &pod{facts.Layout.Namespace, facts.Kubelet.PodName(a.File.Pod.Name), a.Container, a.Image}
	case name == etcdName && facts.EtcdPod() != nil:
		e := facts.EtcdPod()
		return &pod{facts.Layout.Namespace, facts.Kubelet.PodName(e.File.Pod.Name), e.Container, e.Image}
	}
	return nil
}

type pod struct{ namespace, name, container, image string }

// running finds the program of a container that runs, and the image of the
// newest container in any case.
func (f *finder) running(ctx context.Context, name string, want *pod) (p *Program, image string, err error) {
	ctx, cancel := context.WithTimeout(ctx, runtimeLimit)
	defer cancel()
	rt, err := f.runtime(ctx)
	if err != nil {
		return nil, "", err
	}
	defer rt.Close()
	_ = rt.GiveBack(ctx) // of a drill that was killed; if it can't be, kubelet does it
	all, err := rt.Pod(ctx, want.namespace, want.name)
	if err != nil {
		return nil, "", err
	}
	for i := range all {
		c := all[i].Container(want.container)
		if c == nil {
			continue
		}
		pid, of, err := rt.Process(ctx, c.ID)
		if image == "" {
			image = of
		}
		if err != nil || pid == 0 || c.State != node.Running {
			continue
		}
		p, err := f.ofProcess(name, pid, c.ID, "the running container "+short(c.ID), inContainer)
		if err == nil {
			p.Image = of
			return p, of, nil
		}
	}
	return nil, image, fmt.Errorf("no container of %s runs", want.name)
}

// ofUnit is the etcd that systemd runs, or would run: a file that only root can
// change, whoever it runs as.
func (f *finder) ofUnit(unit string, pid int, binary string) (*Program, error) {
	from := "the service " + unit
	if pid != 0 {
		if p, err := f.ofProcess(etcdName, pid, unit, from, func(exe string, _ *Program) error { return f.trusted(exe) }); err == nil {
			return p, nil
		}
	}
	if binary == "" {
		return nil, fmt.Errorf("%s runs no etcd now", from)
	}
	p := &Program{Name: etcdName, From: from}
	err := f.trusted(binary)
	if err == nil {
		err = p.look(binary)
	}
	if err != nil {
		p.close()
		return nil, fmt.Errorf("%s: %w", from, err)
	}
	return p, nil
}

// inContainer says why a program that a container runs can't run without the
// container.
func inContainer(_ string, p *Program) error {
	if !p.static {
		return errors.New("it isn't linked statically")
	}
	return nil
}

// ofProcess is the program of a container's or a service's first process, or of
// another one in the same cgroup when that one only starts it. The cgroup has to
// be called after the container or service; fit says what else is wrong with the
// program.
func (f *finder) ofProcess(name string, pid int, called, from string, fit func(exe string, p *Program) error) (*Program, error) {
	group := f.group(pid)
	if !strings.Contains(group, called) {
		return nil, errGone // another process has its number by now
	}
	try := []int{pid}
	if !f.runs(pid, name) {
		entries, err := os.ReadDir(f.proc)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if n, err := strconv.Atoi(e.Name()); err == nil && f.runs(n, name) && f.group(n) == group {
				try = append(try, n)
			}
		}
	}
	for _, n := range slices.Backward(try) {
		p := &Program{Name: name, From: from}
		exe := filepath.Join(f.proc, strconv.Itoa(n), "exe")
		err := p.look(exe)
		if err == nil {
			err = fit(exe, p)
		}
		if err == nil && f.group(n) == group {
			return p, nil
		}
		p.close()
	}
	return nil, errGone
}

// errGone is a process that ended, or that isn't what was looked for.
var errGone = errors.New("its process can't be used")

func (f *finder) group(pid int) string {
	text, _ := os.ReadFile(filepath.Join(f.proc, strconv.Itoa(pid), "cgroup"))
	return string(text)
}

func (f *finder) runs(pid int, name string) bool {
	exe, err := os.Readlink(filepath.Join(f.proc, strconv.Itoa(pid), "exe"))
	return err == nil && filepath.Base(exe) == name
}

func (f *finder) ofThisBinary() (*Program, error) {
	self, err := trust.SelfPath()
	if err != nil {
		return nil, err
	}
	p := &Program{Name: etcdName, From: "this program, which has it built in", env: f.builtIn}
	if err := p.look(self); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// usualPath is where images have their programs; of etcd and Kubernetes both
// have them in the first.
var usualPath = []string{"usr/local/bin", "usr/bin", "bin", "usr/local/sbin", "usr/sbin", "sbin", ""}

// fromImage takes the program out of an image that is on this node, by a
// container that does nothing and is removed at once: kubelet would end it within
// 2 s. Nothing is pulled.
func (f *finder) fromImage(ctx context.Context, name string, want *pod, image string) (*Program, error) {
	if image == "" {
		image = want.image
	}
	hold := filepath.Join(f.scratch, "hold")
	if err := copySelf(hold); err != nil {
		return nil, err
	}
	defer os.Remove(hold)
	ctx, cancel := context.WithTimeout(ctx, 4*runtimeLimit)
	defer cancel()
	rt, err := f.runtime(ctx)
	if err != nil {
		return nil, err
	}
	defer rt.Close()
	pid, giveBack, err := rt.Borrow(ctx, image, hold, []string{workerEnv + "=" + roleHold})
	if err != nil {
		return nil, err
	}
	defer giveBack()
	root, err := os.OpenRoot(filepath.Join(f.proc, strconv.Itoa(pid), "root"))
	if err != nil {
		return nil, err
	}
	defer root.Close()
	for _, dir := range usualPath {
		in, err := root.Open(filepath.Join(dir, name))
		if err != nil {
			continue
		}
		// A copy: the image's file system goes away with the container.
		p := &Program{Name: name, From: "the image " + trust.Text(image), Image: image}
		at := filepath.Join(f.scratch, name)
		if err := copyFile(at, in); err != nil {
			return nil, err
		}
		err = p.look(at)
		if err == nil && !p.static {
			err = problem.New("", "%s in the image %s isn't linked statically", name, trust.Text(image))
		}
		if err != nil {
			p.close()
			return nil, err
		}
		return p, nil
	}
	return nil, fmt.Errorf("no %s in the image %s", name, trust.Text(image))
}

// copySelf makes a copy of this program for a container, in which it has to run
// without any library.
func copySelf(to string) error {
	self, err := trust.SelfPath()
	if err != nil {
		return err
	}
	f, err := os.Open(self)
	if err != nil {
		return err
	}
	defer f.Close()
	if ok, err := static(f); err != nil || !ok {
		return problem.New("use a released build, or build with CGO_ENABLED=0", "this program isn't linked statically, so it doesn't run in another image")
	}
	if _, err := f.Seek(0, 0); err != nil {
		return err
	}
	return copyFile(to, f)
}

// copyFile closes in.
func copyFile(to string, in fs.File) error {
	defer in.Close()
	if st, err := in.Stat(); err != nil || !st.Mode().IsRegular() {
		return errors.Join(err, fmt.Errorf("%s isn't a file", to))
	}
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o700)
	if err != nil {
		return err
	}
	_, err = out.ReadFrom(in)
	return errors.Join(err, out.Close())
}

func short(id string) string { return id[:min(len(id), 12)] }
