//go:build linux && !nopractice

package cli

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/charmbracelet/x/ansi"
	"github.com/creack/pty"
)

// terminal is this program on a terminal of its own.
type terminal struct {
	t     *testing.T
	tty   *os.File
	ended chan error
	seen  int

	mu   sync.Mutex
	told strings.Builder
}

// onTerminal practises below dir.
func onTerminal(t *testing.T, dir string, args ...string) *terminal {
	t.Helper()
	return callOnTerminal(t, dir, append([]string{"practice", "--home", dir + "/home"}, args...)...)
}

// callOnTerminal calls the program, which it puts into dir.
func callOnTerminal(t *testing.T, dir string, args ...string) *terminal {
	t.Helper()
	return callOnTerminalOf(t, dir, []string{"TERM=xterm-256color", "LANG=C.UTF-8"}, args...)
}

func callOnTerminalOf(t *testing.T, dir string, vars []string, args ...string) *terminal {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// testscript.Main runs main when the program is called by its name.
	if err := os.Symlink(self, dir+"/etcd-rewind"); err != nil && !errors.Is(err, os.ErrExist) {
		t.Fatal(err)
	}
	cmd := exec.Command(dir+"/etcd-rewind", args...)
	cmd.Env = append(os.Environ(), vars...)
	p := &terminal{t: t, ended: make(chan error, 1)}
	if p.tty, err = pty.StartWithSize(cmd, &pty.Winsize{Rows: 24, Cols: 80}); err != nil {
		t.Fatal(err)
	}
	go func() { p.ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGKILL)
		_ = p.tty.Close()
	})
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := p.tty.Read(buf)
			p.mu.Lock()
			p.told.Write(buf[:n])
			p.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return p
}

func (p *terminal) screen() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return ansi.Strip(p.told.String())
}

// see waits for a text after the one that was waited for last. A line may break
// where it has a space: a path before it can be of any length.
func (p *terminal) see(what string) {
	p.t.Helper()
	text := regexp.MustCompile(strings.ReplaceAll(regexp.QuoteMeta(what), " ", `(?: |\r?\n *)`))
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if at := text.FindStringIndex(p.screen()[p.seen:]); at != nil {
			p.seen += at[1]
			return
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("not seen: %q. The screen so far:\n%s", what, p.screen())
		}
	}
}

func (p *terminal) press(keys string) {
	p.t.Helper()
	if _, err := io.WriteString(p.tty, keys); err != nil {
		p.t.Fatal(err)
	}
}

func (p *terminal) ends() error {
	p.t.Helper()
	select {
	case err := <-p.ended:
		return err
	case <-time.After(2 * time.Minute):
		p.t.Fatal("it doesn't end")
		return nil
	}
}

// A terminal that can't move its cursor, as Emacs' shell is one, gets no wizard:
// the same way is gone in lines of text.
func TestADumbTerminalIsAskedInLines(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir+"/manifests", os.DirFS("../steps/testdata/manifests")); err != nil {
		t.Fatal(err)
	}
	p := callOnTerminalOf(t, dir, []string{"TERM=dumb", "LC_ALL=C"}, "--manifests", dir+"/manifests", "--cri", dir+"/no.sock")
	p.see("(empty quits): ")
	p.press("\n")
	p.see("Nothing was changed.")
	if err := p.ends(); err != nil {
		t.Error(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if told := p.told.String(); strings.ContainsFunc(told, func(r rune) bool { return r == 0x1b || r > '~' }) {
		t.Errorf("it was sent more than ASCII text: %q", told)
	}
}

// The README's first command, as somebody uses it who has read nothing else:
// enter, enter, the node's name, q.
func TestTheTourIsSolvedWithTheKeyboard(t *testing.T) {
	begun := time.Now()
	p := onTerminal(t, t.TempDir())
	p.see("A control plane with one etcd member")
	t.Logf("first frame on a broken cluster after %.1f s", time.Since(begun).Seconds())
	p.press("\r")
	p.see("SHA-256     verified") // it has been read
	p.press("\r")
	p.see("The restore re-creates")
	p.press("\r")
	p.see("nothing blocks the restore")
	p.press("\r")
	p.see("Restore etcd-nightly.db on cp1")
	p.press("\r")
	p.see("Type the node's name")
	p.press("cp1\r")
	p.see("Restored: the API server answers")
	p.press("q")
	p.see("passed, 100 of 100 points")
	if err := p.ends(); err != nil {
		t.Error(err)
	}
}

// The shell of an exercise is one as in an exam: Ctrl-C ends what runs in it and
// not the shell, and what is called there is for the practice node, never for
// the machine.
func TestTheShellOfAnExerciseIsAnOrdinaryOne(t *testing.T) {
	p := onTerminal(t, t.TempDir(), "exam", "--by-hand")
	p.see("exit ends it all and grades")
	p.press("sh -c 'echo beg\"\"un; exec sleep 1000'\r") // said by what the terminal's Ctrl-C is for
	p.see("begun")
	p.press("\x03")
	p.press("echo interr''upted\r")
	p.see("interrupted")
	p.press("etcd-rewind check; echo the node: $?\r")
	p.see("cp1 at https://127.0.0.1:")
	p.see("the node: 0")
	p.press("exit\r")
	p.see("exam: not passed, 0 of 100 points")
	if err := p.ends(); err == nil {
		t.Error("an exam that isn't passed ends with status 0")
	}
}

// Where namespaces can be had, the shell has the paths and ports of a real node:
// what the guides say works as it is written. The machine itself doesn't change.
func TestTheShellOfAnExerciseIsARealNodes(t *testing.T) {
	t.Parallel()
	may := exec.Command("/bin/true")
	may.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET}
	if os.Geteuid() != 0 {
		may.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
	}
	places := []string{"/", "/etc", "/opt", "/var/lib", "/var/log", "/etc/kubernetes", "/var/lib/etcd-exam", "/opt/backup", "/run/containerd"}
	before := listed(places)
	p := onTerminal(t, t.TempDir(), "exam", "--by-hand")
	if may.Run() != nil {
		p.see("In this shell / of the node is $R")
		p.see("can't be had here")
		p.press("exit\r")
		_ = p.ends()
		return
	}
	name, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	p.see("etcd to /opt/backup/etcd-now.db.")
	p.see("exit ends it all and grades")
	p.press("stty -echo\r")
	p.press("find $ETCD_REWIND_PRACTICE_ROOT/run/inside | wc -l; echo linked: $(cat /etc/hostname)\r") // rm -r $R must not reach the machine
	p.see("\n1\r")
	p.see("linked: " + name)
	p.press("etcd-rewind check; echo checked: $?\r")
	p.see("/etc/kubernetes/manifests")
	p.see("checked: 0")
	p.press("P=/etc/kubernetes/pki/etcd\r")
	p.press("etcdctl --endpoints=https://127.0.0.1:2379 --cacert $P/ca.crt --cert $P/server.crt --key $P/server.key snapshot save /opt/backup/etcd-now.db\r")
	p.see("Snapshot saved at /opt/backup/etcd-now.db")
	p.press("etcdutl snapshot restore /opt/backup/etcd-previous.db --data-dir /var/lib/etcd-exam --name cp1 --initial-cluster cp1=https://127.0.0.1:2380 --initial-advertise-peer-urls https://127.0.0.1:2380 2>/dev/null\r")
	p.press("mkdir /var/lib/aside; mv /etc/kubernetes/manifests/{etcd,kube-apiserver}.yaml /var/lib/aside\r")
	p.press("while crictl --runtime-endpoint unix:///run/containerd/containerd.sock ps | grep -q 'etcd\\|apiserver'; do sleep .2; done\r")
	p.press("sed -i 's|path: /var/lib/etcd$|path: /var/lib/etcd-exam|' /var/lib/aside/etcd.yaml; mv /var/lib/aside/*.yaml /etc/kubernetes/manifests\r")
	p.press("until kubectl get ns shop 2>/dev/null; do sleep .2; done\r")
	p.see("Active")
	p.press("kubectl -n kube-system get configmap kubeadm-config -o yaml | sed 's|^\\( *dataDir: \\).*|\\1/var/lib/etcd-exam|' | kubectl replace -f -\r")
	p.see("configmap/kubeadm-config replaced")
	p.press("etcd-rewind check | cat; echo checked: ${PIPESTATUS[0]}\r")
	p.see("/var/lib/etcd-exam, by etcd.yaml and the")
	p.see("checked: 0")
	p.press("exit\r")
	p.see("exam: passed, 100 of 100 points")
	if err := p.ends(); err != nil {
		t.Error(err)
	}
	if after := listed(places); after != before {
		t.Errorf("the machine has changed from\n%s\nto\n%s", before, after)
	}
}

func listed(places []string) string {
	var b strings.Builder
	for _, p := range places {
		entries, err := os.ReadDir(p)
		b.WriteString(p + ":")
		if err != nil {
			b.WriteString(" " + err.Error())
		}
		for _, e := range entries {
			b.WriteString(" " + e.Name())
		}
		b.WriteByte('\n')
	}
	return b.String()
}
