package node

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// A user starts a program of their own under kubelet's name, with flags that
// lead to files of their own, before kubelet was started: the oldest. Root runs
// this program. Nothing of that process is believed, and nothing of it is run.
func TestAnotherUsersKubeletIsNeitherRunNorBelieved(t *testing.T) {
	marker := filepath.Join(t.TempDir(), "was-run")
	evil := "#!/bin/sh\necho Kubernetes v9.9.9\ntouch " + marker + "\n"
	for name, hostile := range map[string]func(proc fakeProc, pid int) (because string){
		"its user isn't root": func(proc fakeProc, pid int) string {
			proc.runs(t, pid, 65534, proc.program(t, "kubelet", evil))
			return "it belongs to user 65534"
		},
		"it runs as root by the setuid bit": func(proc fakeProc, pid int) string {
			proc.runs(t, pid, 0, proc.program(t, "kubelet", evil))
			write(t, filepath.Join(proc.dir, strconv.Itoa(pid), "status"), "Name:\tUid:\t0\t0\t0\t0\nUid:\t65534\t0\t0\t0\n")
			return "it belongs to user 65534"
		},
		"others may write to its program": func(proc fakeProc, pid int) string {
			program := proc.program(t, "kubelet-for-all", evil)
			if err := os.Chmod(program, 0o777); err != nil {
				t.Fatal(err)
			}
			proc.runs(t, pid, os.Geteuid(), program)
			return "others can write to " + program
		},
		"others may replace its program": func(proc fakeProc, pid int) string {
			program := proc.program(t, "all/kubelet", evil)
			if err := os.Chmod(filepath.Dir(program), 0o777); err != nil {
				t.Fatal(err)
			}
			proc.runs(t, pid, os.Geteuid(), program)
			return "others can write to " + filepath.Dir(program)
		},
		"it is a program of root's that anybody may start": func(proc fakeProc, pid int) string {
			program := proc.program(t, "sudo", evil)
			proc.runs(t, pid, os.Geteuid(), program)
			return "its program is " + program
		},
		"its program has the setuid bit": func(proc fakeProc, pid int) string { // a hard link to sudo, by any name
			program := proc.program(t, "kubelet-by-link", evil)
			if err := os.Chmod(program, 0o755|os.ModeSetuid); err != nil {
				t.Fatal(err)
			}
			proc.runs(t, pid, os.Geteuid(), program)
			return "its program can be started as another user: " + program
		},
		"its status says nothing": func(proc fakeProc, pid int) string {
			write(t, filepath.Join(proc.dir, strconv.Itoa(pid), "status"), "Name:\tkubelet\n")
			return "the owner of the process can't be read"
		},
	} {
		t.Run(name, func(t *testing.T) {
			proc := newProc(t)
			proc.add(t, 42, "mnt:[1]", "/", 900, "/usr/bin/kubelet", "--pod-manifest-path=/etc/kubernetes/manifests", "--hostname-override=cp1")
			proc.add(t, 13, "mnt:[1]", "/", 100, "kubelet", "--pod-manifest-path=/tmp/evil", "--hostname-override=evil")
			because := hostile(proc, 13)

			k := find(t, Options{Proc: proc.dir})
			if k.PID != 42 || k.NodeName != "cp1" || k.StaticPodPath != "/etc/kubernetes/manifests" {
				t.Errorf("kubelet is process %d, on node %s, with manifests in %s", k.PID, k.NodeName, k.StaticPodPath)
			}
			if len(k.Ignored) != 1 || !strings.HasPrefix(k.Ignored[0], "process 13 is named kubelet, but ") || !strings.Contains(k.Ignored[0], because) {
				t.Errorf("ignored: %q, want process 13, because %s", k.Ignored, because)
			}

			// Alone it is no kubelet at all.
			if err := os.RemoveAll(filepath.Join(proc.dir, "42")); err != nil {
				t.Fatal(err)
			}
			k = find(t, Options{Proc: proc.dir, KubeletRoot: t.TempDir(), envFiles: []string{}})
			if k.PID != 0 || k.StaticPodPath == "/tmp/evil" {
				t.Errorf("kubelet is process %d with manifests in %s, where only another user's runs", k.PID, k.StaticPodPath)
			}
			if _, err := os.Lstat(marker); err == nil {
				t.Error("its program was run")
			}
		})
	}
}

// What runs may have been replaced on the disk since: by an upgrade, usually.
func TestAKubeletThatWasReplacedOnTheDiskIsStillTheKubelet(t *testing.T) {
	proc := newProc(t)
	proc.add(t, 42, "mnt:[1]", "/", 900, "kubelet", "--pod-manifest-path=/pods")
	// The kernel's link leads to the file that runs, under a name that is gone.
	proc.runs(t, 42, os.Geteuid(), proc.program(t, "kubelet (deleted)", ""))
	if err := os.Remove(filepath.Join(proc.dir, "bin", "kubelet")); err != nil {
		t.Fatal(err)
	}
	if k := find(t, Options{Proc: proc.dir}); k.PID != 42 || k.Version != "" {
		t.Errorf("process %d, version %q, ignored: %q", k.PID, k.Version, k.Ignored)
	}
}

// Of several kubelets of root's it is the one that systemd has started.
func TestTheKubeletIsTheOneThatSystemdStarted(t *testing.T) {
	proc := newProc(t)
	proc.add(t, 42, "mnt:[1]", "/", 900, "kubelet")
	proc.add(t, 7, "mnt:[1]", "/", 100, "kubelet")
	for mainPID, want := range map[int]int{0: 7, 42: 42, 7: 7, 99: 7} {
		if got := findProcess(proc.dir, mainPID).own; got == nil || got.pid != want {
			t.Errorf("systemd's main process is %d: got %+v, want process %d", mainPID, got, want)
		}
	}
	proc.runs(t, 42, 65534, "/usr/bin/kubelet")
	if got := findProcess(proc.dir, 42).own; got == nil || got.pid != 7 {
		t.Errorf("the unit's user isn't root: got %+v, want process 7", got)
	}
}
