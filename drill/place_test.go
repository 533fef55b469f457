package drill

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"etcd-rewind/problem"
)

func TestOneDrillAtATimeAndTheNextRemovesWhatIsLeft(t *testing.T) {
	parent := t.TempDir()
	p, err := claim(parent)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(p.dir, "root/data/member"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := claim(parent); !problem.HasCode(err, CodeBusy) {
		t.Errorf("a second one: %v", err)
	}

	// As when it is killed: its programs end a moment later.
	_ = p.lock.Close()
	programs := p.life
	time.AfterFunc(100*time.Millisecond, func() { _ = programs.Close() })
	if p, err = claim(parent); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(p.dir); err != nil || len(left) != 1 || left[0].Name() != lifeName {
		t.Errorf("the next one found %v (%v)", left, err)
	}
	for range 2 {
		if err := p.remove(); err != nil {
			t.Error(err)
		}
	}
	if left, err := os.ReadDir(parent); err != nil || len(left) > 0 {
		t.Errorf("%v is left (%v)", left, err)
	}
}

func TestWhatOthersHaveMadeIsNotTaken(t *testing.T) {
	elsewhere := t.TempDir()
	for name, make := range map[string]func(dir string) error{
		"a link":                   func(dir string) error { return os.Symlink(elsewhere, dir) },
		"a file":                   func(dir string) error { return os.WriteFile(dir, nil, 0o600) },
		"one that others write to": func(dir string) error { _ = os.Mkdir(dir, 0o700); return os.Chmod(dir, 0o777) },
	} {
		parent := t.TempDir()
		dir := filepath.Join(parent, dirName)
		if err := make(dir); err != nil {
			t.Fatal(err)
		}
		if _, err := claim(parent); err == nil {
			t.Errorf("%s was taken", name)
		}
		if _, err := os.Lstat(dir); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestADrillLeavesRoomForTheLiveEtcd(t *testing.T) {
	if err := fits(t.TempDir(), 1<<60); !problem.HasCode(err, CodeRoom) || !strings.Contains(err.Error(), "MB free") {
		t.Error(err)
	}
	file := filepath.Join(t.TempDir(), "meminfo")
	if err := os.WriteFile(file, []byte("MemTotal:  8000000 kB\nMemFree: 1 kB\nMemAvailable:     300 kB\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if free, ok := freeMemory(file); !ok || free != 300<<10 {
		t.Error(free, ok)
	}
}
