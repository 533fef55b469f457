package drill

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"etcd-rewind/defect"
	"etcd-rewind/node"
	"etcd-rewind/priority"
	"etcd-rewind/problem"
	"etcd-rewind/trust"
)

// The files that the process inside gets.
const (
	lockFD = 3
	lifeFD = 4
	etcdFD = 5
	apiFD  = 6
)

// namespaces are those of a drill. As the first process of its own namespace of
// processes it takes all others there along when it ends.
func namespaces() (*syscall.SysProcAttr, error) {
	attr := &syscall.SysProcAttr{
		Setpgid: true, Pdeathsig: syscall.SIGKILL,
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS,
	}
	if os.Geteuid() != 0 {
		attr.Cloneflags |= syscall.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	return attr, nil
}

// holdOn keeps a container alive that somebody reads; not for long, should they
// be gone.
func holdOn() {
	time.Sleep(time.Minute)
	os.Exit(0)
}

// root is / for the programs of a drill.
func (o *order) root() string { return filepath.Join(o.Dir, "root") }

// drillsNice is the priority of all that a drill starts, as the timer's service has it.
const drillsNice = 15

// inside boots and reads. It is called once, by the first process inside.
func inside(ctx context.Context, o order, say func(told)) told {
	failed := func(err error) told { return told{Error: problem.From(err)} }
	for _, g := range o.Groups {
		_ = os.WriteFile(g, []byte("0"), 0) // without it there is nice
	}
	priority.GiveWay(drillsNice)
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("1000"), 0) // it is ended first when memory runs out
	if err := o.settle(); err != nil {
		return failed(err)
	}
	children := newStarter()
	lock, life, etcdProgram, apiProgram := os.NewFile(lockFD, "lock"), os.NewFile(lifeFD, lifeName), os.NewFile(etcdFD, etcdName), os.NewFile(apiFD, apiName)
	defer runtime.KeepAlive([]*os.File{lock, life, etcdProgram, apiProgram})

	begun := time.Now()
	say(told{Begun: PartEtcd})
	base := ""
	if !o.Etcd.Static {
		base = o.root()
	}
	etcd, err := children.start(etcdName, o.chroot(o.Etcd), etcdFlags(base, o.Quota), o.Etcd.Env, []*os.File{etcdProgram, life})
	if err != nil {
		return failed(err)
	}
	at := func(name string) string { return filepath.Join(o.root(), certDir, name) }
	of := node.EtcdConfig{Endpoints: []string{etcdURL}, CA: at(caFile), Cert: at(etcdFile), Key: at(etcdKey)}
	if err := etcd.ready(ctx, bootLimit, func() error { _, err := node.EtcdReady(ctx, of); return err }); err != nil {
		return etcd.blamed(fmt.Errorf("etcd doesn't start on it: %w", err))
	}
	st, err := node.AskEtcd(ctx, of, true)
	if err != nil {
		return etcd.blamed(fmt.Errorf("etcd doesn't answer on it: %w", err))
	}
	say(told{Part: &Part{PartEtcd, time.Since(begun).Seconds()}, Etcd: st.Version})
	if p := o.compare(st); p != nil {
		return told{Fault: p}
	}
	if o.API == nil {
		return told{End: true}
	}

	begun = time.Now()
	say(told{Begun: PartAPI})
	api, err := children.start(apiName, o.root(), apiFlags(o.Flags, o.Encryption), o.API.Env, []*os.File{apiProgram, life})
	if err != nil {
		return failed(err)
	}
	read, err := newReader(apiURL, at(caFile), at(clientFile), at(clientKey), o.Revision)
	if err != nil {
		return failed(err)
	}
	defer read.close()
	asker := node.NewAPIAsker(node.APIConfig{ReadyURL: apiURL + "/readyz", CA: at(caFile), ClientCert: at(clientFile), ClientKey: at(clientKey)})
	defer asker.Close()
	doubt := doubts{kinds: o.Doubtful, next: doubtAfter}
	err = api.ready(ctx, bootLimit, func() error {
		a := asker.Ask(ctx, 5*time.Second)
		switch {
		case a.Ready():
			return nil
		case a.Code != 0: // it serves, and waits for something
			if err := doubt.confirmed(ctx, read, time.Now()); err != nil {
				return &fatal{err}
			}
		}
		return errors.New(a.String())
	})
	if err != nil {
		return api.blamed(fmt.Errorf("kube-apiserver isn't ready on it: %w", err))
	}
	version, err := read.version(ctx)
	if err != nil {
		return told{Fault: problem.From(err)}
	}
	say(told{Part: &Part{PartAPI, time.Since(begun).Seconds()}, API: version})

	begun = time.Now()
	say(told{Begun: PartRead})
	kinds, err := read.all(ctx, o.Kinds, func(what string) { say(told{Say: what}) })
	if err == nil && api.gone() {
		err = errors.New(api.end())
	}
	if err != nil {
		return api.blamed(err)
	}
	say(told{Part: &Part{PartRead, time.Since(begun).Seconds()}})
	return told{End: true, Kinds: kinds}
}

// compare holds what etcd says against what was restored.
func (o *order) compare(st *node.EtcdStatus) *problem.Problem {
	switch {
	case st.Denied != nil: // its authentication is enabled, and this user may not ask
		return nil
	case st.Revision != o.Revision:
		return problem.New("", "etcd is at revision %d on it, the snapshot at %d", st.Revision, o.Revision)
	case st.Keys >= 0 && st.Keys != int64(o.Keys):
		return problem.New("", "etcd has %d keys on it, the snapshot %d", st.Keys, o.Keys)
	case slices.Contains(st.Alarms, "CORRUPT"):
		return problem.New("take another snapshot", "etcd raises the alarm CORRUPT on it")
	}
	return nil
}

// settle makes the world that the programs are in: a root directory with nothing
// in it but what they need, a loopback, and no way to more.
func (o *order) settle() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("private mounts: %w", err)
	}
	if err := loopbackUp(); err != nil {
		return fmt.Errorf("the loopback: %w", err)
	}
	if err := os.MkdirAll(filepath.Join(o.root(), "tmp"), 0o700); err != nil {
		return err
	}
	// The keys are on no disk.
	certs := filepath.Join(o.root(), certDir)
	if err := os.MkdirAll(certs, 0o700); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", certs, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=700,size=1m"); err != nil {
		return fmt.Errorf("tmpfs: %w", err)
	}
	if err := certificates(certs, o.EtcdUser); err != nil {
		return err
	}
	proc := filepath.Join(o.root(), "proc")
	if err := os.MkdirAll(proc, 0o700); err != nil {
		return err
	}
	if err := unix.Mount("proc", proc, "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("proc: %w", err)
	}
	for _, dev := range []string{"/dev/null", "/dev/zero", "/dev/urandom"} {
		if err := o.bind(bound{dev, dev}, 0); err != nil {
			return err
		}
	}
	for _, f := range o.Files {
		if err := o.bind(f, unix.MS_RDONLY); err != nil {
			return err
		}
	}
	return nil
}

// bind shows a file of the node to the programs. Its place is made one part at a
// time, none of them a link.
func (o *order) bind(f bound, flags uintptr) error {
	root, err := os.OpenRoot(o.root())
	if err != nil {
		return err
	}
	defer root.Close()
	at := strings.TrimPrefix(filepath.Clean("/"+f.Inside), "/")
	if err := root.MkdirAll(filepath.Dir(at), 0o700); err != nil {
		return err
	}
	place, err := root.OpenFile(at, os.O_CREATE|os.O_RDONLY, 0o600)
	if err != nil {
		return err
	}
	_ = place.Close()
	to := filepath.Join(o.root(), at)
	if err := unix.Mount(f.Host, to, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount %s: %w", trust.Text(f.Host), err)
	}
	if flags == 0 {
		return nil
	}
	if err := unix.Mount("", to, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC|flags, ""); err != nil {
		return fmt.Errorf("mount %s read-only: %w", trust.Text(f.Host), err)
	}
	return nil
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	ifr.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr)
}

// chroot is the root directory of a program; one that needs libraries of this
// machine has the machine's.
func (o *order) chroot(l launch) string {
	if l.Static {
		return o.root()
	}
	return ""
}

// starter starts programs from a thread of its own that has given away what
// they don't need.
type starter struct{ calls chan func() }

func newStarter() *starter {
	s := &starter{make(chan func())}
	go defect.Do(func() {
		runtime.LockOSThread() // and never unlocked: the thread is good for nothing else
		for c := 0; unix.Prctl(unix.PR_CAPBSET_READ, uintptr(c), 0, 0, 0) == nil; c++ {
			_ = unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0)
		}
		_ = unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
		for call := range s.calls {
			call()
		}
	})()
	return s
}

// child is a program that was started.
type child struct {
	name  string
	log   trust.Tail
	ended chan struct{}
	err   error // once ended is closed
}

// start runs the first of the files. Its own paths begin at chroot, "" for this
// machine's.
func (s *starter) start(name, chroot string, flags, env []string, files []*os.File) (*child, error) {
	// The kernel finds a program that was handed over as a file below /proc.
	cmd, err := trust.Command(context.Background(), "/proc/self/fd/3", flags...)
	if err != nil {
		return nil, err
	}
	c := &child{name: name, log: trust.Tail{Most: keptOfALog}, ended: make(chan struct{})}
	cmd.Args[0] = name
	cmd.Env = slices.Concat([]string{"PATH=" + trust.Path}, env)
	cmd.ExtraFiles = files
	cmd.Stdout, cmd.Stderr = &c.log, &c.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: chroot}
	if chroot != "" {
		cmd.Dir = "/"
	}
	if _, err := cmd.StdinPipe(); err != nil { // open for as long as this process lives
		return nil, err
	}
	started := make(chan error)
	s.calls <- func() { started <- cmd.Start() }
	if err := <-started; err != nil {
		return nil, fmt.Errorf("cannot start %s: %w", name, err)
	}
	go defect.Do(func() {
		c.err = cmd.Wait()
		close(c.ended)
	})()
	return c, nil
}

func (c *child) gone() bool {
	select {
	case <-c.ended:
		return true
	default:
		return false
	}
}

// blamed is what is wrong with the backup, unless the kernel has killed the program:
// nothing else here sends that signal, and it says nothing about the backup.
func (c *child) blamed(err error) told {
	// A program that was killed ends a moment after its connections.
	select {
	case <-c.ended:
	case <-time.After(100 * time.Millisecond):
	}
	if c.gone() {
		if exit := (*exec.ExitError)(nil); errors.As(c.err, &exit) {
			if s, ok := exit.Sys().(syscall.WaitStatus); ok && s.Signaled() && s.Signal() == syscall.SIGKILL {
				return told{Error: problem.Coded(CodeRoom, "run it when this node is less busy, or on another machine", "%s was killed: it needs more memory than the drill leaves to the node", c.name)}
			}
		}
	}
	return told{Fault: problem.From(err)}
}

// end says how a program ended that should not have.
func (c *child) end() string {
	how := "it ended"
	var exit *exec.ExitError
	if errors.As(c.err, &exit) {
		how = "it ended with " + exit.String()
	}
	if why := lastOf(&c.log); why != "" {
		how += ": " + trust.Clip(trust.Text(why), 500)
	}
	return how
}

// bootLimit is for a program to be ready: etcd reads all keys of a large
// database first, and others of the machine go before it. One that ends isn't
// waited for; one on a machine whose CPUs others want needed more than 3 minutes,
// and that is no fault of the backup.
const bootLimit = 15 * time.Minute

// fatal is what no waiting mends.
type fatal struct{ error }

// ready waits until a program says that it is ready, or has ended.
func (c *child) ready(ctx context.Context, limit time.Duration, ask func() error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ask()
		var no *fatal
		switch {
		case err == nil:
			return nil
		case errors.As(err, &no):
			return no.error
		}
		select {
		case <-c.ended:
			return errors.New(c.end())
		case <-ctx.Done():
			why := lastOf(&c.log)
			return fmt.Errorf("timed out after %s: %w; its log: %s", limit, err, trust.Clip(trust.Text(why), 500))
		case <-tick.C:
		}
	}
}
