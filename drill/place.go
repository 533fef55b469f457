package drill

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"etcd-rewind/node"
	"etcd-rewind/problem"
	"etcd-rewind/trust"
)

// dirName is the directory of a drill, in the one that etcd's data lies in. The
// lock on it says that a drill is under way; without one it is a leftover.
const dirName = ".etcd-rewind-drill"

// place is where a drill has its files.
type place struct {
	dir  string
	lock *os.File // also held by the process inside
	// life is a file whose lock the programs of the drill hold, too: as long as one
	// of them is there, so is the lock. The directory's own is none for them: by it
	// they would get out of their root directory.
	life *os.File
}

// lifeName is the file of that lock, and lifeLimit how long the programs of a drill
// that was killed may take to end.
const (
	lifeName  = "life"
	lifeLimit = 10 * time.Second
)

// claim takes the place below parent, and removes what a drill that was killed
// has left there.
func claim(parent string) (*place, error) {
	dir := filepath.Join(parent, dirName)
	for range 10 {
		made := os.Mkdir(dir, 0o700)
		if made != nil && !errors.Is(made, fs.ErrExist) {
			return nil, made
		}
		f, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENOTDIR):
			return nil, problem.New("find out who created it, and remove it", "%s isn't a directory", dir)
		case err != nil:
			return nil, err
		}
		p := &place{dir: dir, lock: f}
		again, err := p.take()
		if err == nil && !again {
			return p, nil
		}
		_ = f.Close()
		if err != nil && !again {
			if made == nil {
				_ = os.Remove(dir)
			}
			return nil, err
		}
	}
	return nil, fmt.Errorf("cannot keep %s: something keeps removing it", dir)
}

// take locks the place and empties it; again says that another drill has just
// removed it.
func (p *place) take() (again bool, err error) {
	if err := trust.Dir(p.dir); err != nil {
		return errors.Is(err, fs.ErrNotExist), err
	}
	is, err := p.lock.Stat()
	if err != nil {
		return false, err
	}
	err = unix.Flock(int(p.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	switch {
	case errors.Is(err, unix.EWOULDBLOCK):
		return false, problem.Coded(CodeBusy, "wait until it ends", "another drill is running in %s", p.dir)
	case err != nil:
		return false, fmt.Errorf("cannot lock %s: %w", p.dir, err)
	}
	at, err := os.Lstat(p.dir)
	if err != nil || !os.SameFile(is, at) {
		return true, nil
	}
	if err := p.outlive(); err != nil {
		return false, err
	}
	if err := p.empty(); err != nil {
		return false, err
	}
	p.life, err = os.OpenFile(filepath.Join(p.dir, lifeName), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		err = unix.Flock(int(p.life.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	return false, err
}

// outlive waits for the end of what a drill that was killed has started: the
// kernel ends it.
func (p *place) outlive() error {
	old, err := os.OpenFile(filepath.Join(p.dir, lifeName), os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil //nolint:nilerr // there was none, or what is there is no lock
	}
	defer old.Close()
	for until := time.Now().Add(lifeLimit); ; time.Sleep(20 * time.Millisecond) {
		err := unix.Flock(int(old.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case !errors.Is(err, unix.EWOULDBLOCK):
			return err
		case time.Now().After(until):
			return problem.Coded(CodeBusy, "find what still runs: fuser -v "+trust.Shell("%s", old.Name()), "the programs of another drill still run in %s", p.dir)
		}
	}
}

func (p *place) empty() error {
	// What is mounted by a drill is mounted in its own namespace alone. If that
	// weren't so, what is mounted would be removed.
	if at := mountedBelow(p.dir); at != "" {
		return problem.New("unmount it", "%s is mounted below %s", at, p.dir)
	}
	all, err := os.ReadDir(p.dir)
	if err != nil {
		return err
	}
	for _, e := range all {
		if err := os.RemoveAll(filepath.Join(p.dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// remove removes the place. It is safe to call twice.
func (p *place) remove() error {
	if p.lock == nil {
		return nil
	}
	err := p.empty()
	if err == nil {
		err = os.Remove(p.dir)
	}
	if p.life != nil {
		_ = p.life.Close()
	}
	_ = p.lock.Close()
	p.lock = nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot remove %s: %w", p.dir, err)
	}
	return nil
}

// mountedBelow is a mount point below dir, "" without one.
func mountedBelow(dir string) string {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "" // no Linux
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 4 && trust.Within(dir, f[4]) {
			return f[4]
		}
	}
	return ""
}

// Bounds of what a drill needs beside the database itself.
const (
	spareDisk   = 512 << 20 // bytes: two files of etcd's log, and what stays free for etcd
	spareMemory = 700 << 20 // bytes: kube-apiserver without its caches, and etcd
)

// fits says why a database of so many bytes can't be tried here: the live etcd
// needs space and memory more than a drill does.
func fits(dir string, database int64) error {
	d, err := node.DiskOf(dir)
	if err != nil {
		return err
	}
	if need := uint64(database) + spareDisk; d.FreeBytes < need {
		return problem.Coded(CodeRoom, "free space there, or name a directory on another disk with --dir", "%s has %d MB free, and the drill needs %d MB", dir, d.FreeBytes>>20, need>>20)
	}
	if free, ok := freeMemory("/proc/meminfo"); ok && free < spareMemory {
		return problem.Coded(CodeRoom, "run it when this node is less busy, or on another machine", "%d MB of memory are free, and the drill needs %d MB", free>>20, spareMemory>>20)
	}
	return nil
}

// freeMemory is what the kernel can give without swapping, in bytes.
func freeMemory(meminfo string) (uint64, bool) {
	text, err := os.ReadFile(meminfo)
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(text)) {
		var kb uint64
		if n, _ := fmt.Sscanf(line, "MemAvailable: %d kB", &kb); n == 1 {
			return kb << 10, true
		}
	}
	return 0, false
}
