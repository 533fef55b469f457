package fleet

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"etcd-rewind/restore"
	"etcd-rewind/steps"
)

// aRemote is a remote shell that runs on this machine: what comes after the
// host is a command line for sh, as with ssh. bin is first in its PATH, tmp is
// where temporary directories go.
func aRemote(t *testing.T, before string) (r *Rsh, bin, tmp string) {
	t.Helper()
	dir := t.TempDir()
	bin, tmp = filepath.Join(dir, "bin"), filepath.Join(dir, "tmp")
	for _, d := range []string{bin, tmp} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	script(t, filepath.Join(bin, "id"), "echo 0") // root there
	rsh := filepath.Join(dir, "rsh")
	script(t, rsh, fmt.Sprintf(`host=$1; shift
[ "$host" != away ] || { echo "connect to host away: No route to host" >&2; exit 255; }
export PATH=%s:$PATH TMPDIR=%s FLEET_TEST_AGENT=cp2 FLEET_TEST_DIR=%s
%s
exec sh -c "$*"`, bin, tmp, dir, before))
	return &Rsh{Command: []string{rsh}}, bin, tmp
}

func script(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
}

func dialled(t *testing.T, r *Rsh, host string) (*link, error) {
	t.Helper()
	c, err := r.Dial(t.Context(), host)
	if err != nil {
		return nil, err
	}
	return newLink(t.Context(), c, quick, nil)
}

func entries(t *testing.T, dir string) []string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

func TestTheProgramIsCopiedWhereItIsNotAndRemovedAfterwards(t *testing.T) {
	r, _, tmp := aRemote(t, "echo 'Welcome! You have mail.'; printf 'no end of line'; echo >&2 'a word on stderr'")
	l, err := dialled(t, r, "cp2")
	if err != nil {
		t.Fatal(err)
	}
	f, err := call[*restore.NodeFacts](t.Context(), l, doFacts, struct{}{})
	if err != nil || f.Member != "cp2" {
		t.Fatalf("%+v %v", f, err)
	}
	copies := entries(t, tmp)
	if len(copies) != 1 {
		t.Fatalf("in the temporary directory: %v", copies)
	}
	dir, err := os.Stat(filepath.Join(tmp, copies[0]))
	if err != nil || dir.Mode().Perm() != 0o700 {
		t.Errorf("%v %v", dir.Mode(), err)
	}
	if is, err := os.Stat(filepath.Join(tmp, copies[0], "etcd-rewind")); err != nil || is.Mode().Perm() != 0o700 {
		t.Errorf("%v %v", is, err)
	}
	l.bye()
	eventually(t, "the copy is removed", func() bool { return len(entries(t, tmp)) == 0 })
}

func TestACopyIsRemovedAlsoWhenTheConnectionIsCut(t *testing.T) {
	r, _, tmp := aRemote(t, "")
	c, err := r.Dial(t.Context(), "cp2")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := newLink(t.Context(), c, quick, nil); err != nil {
		t.Fatal(err)
	}
	if len(entries(t, tmp)) != 1 {
		t.Fatal("there is no copy")
	}
	_ = c.In.Close()
	eventually(t, "the copy is removed", func() bool { return len(entries(t, tmp)) == 0 })
	_ = c.Close()
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}

func TestTheSameProgramIsNotCopied(t *testing.T) {
	r, bin, tmp := aRemote(t, "")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(bin, "etcd-rewind")); err != nil {
		t.Fatal(err)
	}
	l, err := dialled(t, r, "cp2")
	if err != nil {
		t.Fatal(err)
	}
	defer l.bye()
	if left := entries(t, tmp); len(left) > 0 {
		t.Errorf("copied: %v", left)
	}
	if l.hello.Version != "test" {
		t.Errorf("%+v", l.hello)
	}
}

func TestAnotherVersionThereIsNotUsed(t *testing.T) {
	r, bin, tmp := aRemote(t, "")
	script(t, filepath.Join(bin, "etcd-rewind"), "echo this is another one; exit 1")
	l, err := dialled(t, r, "cp2")
	if err != nil {
		t.Fatal(err)
	}
	defer l.bye()
	if len(entries(t, tmp)) != 1 {
		t.Error("there is no copy")
	}
}

func TestWhatCanBeWrongWithARemoteShell(t *testing.T) {
	for _, tt := range []struct {
		story, host, before string
		there               map[string]string // programs
		says                string
	}{
		{"the host can't be reached", "away", "", nil, "No route to host"},
		{"the host would be an option", "-oProxyCommand=true", "", nil, "is neither a DNS name nor an IP address"},
		{"the host would be a command", "cp2;true", "", nil, "is neither a DNS name nor an IP address"},
		{"a machine of another kind", "cp2", "", map[string]string{"uname": "echo Linux riscv64"}, "its platform differs (Linux riscv64"},
		{"sudo wants a password", "cp2", "", map[string]string{"id": "echo 1000", "sudo": "echo 'sudo: a password is required' >&2; exit 1"}, "a password is required"},
		{"the copy is altered", "cp2", "", map[string]string{"head": `command -p head "$@" | tr a b`}, "altered on its way"},
		{"nothing may be run where temporary files are", "cp2", "", map[string]string{"chmod": "exit 0"}, "no directory in which a copy of etcd-rewind may run"},
		{"an agent of another protocol", "cp2", "", map[string]string{"uname": "echo Other machine", "etcd-rewind": `echo '{"etcd_rewind_agent":{"protocol":99,"version":"v99"}}'; cat >/dev/null`}, "another version: v99"},
		{"a shell that repeats what it doesn't take", "cp2", `printf 'rbash: %s: restricted\n' "$*" >&2; exit 1`, nil, "rbash: exec /bin/sh -c '…': restricted"},
		{"a program that says nothing", "cp2", "exit 3", nil, "exited without a message"},
	} {
		t.Run(tt.story, func(t *testing.T) {
			r, bin, _ := aRemote(t, tt.before)
			for name, text := range tt.there {
				script(t, filepath.Join(bin, name), text)
			}
			l, err := dialled(t, r, tt.host)
			if err == nil {
				l.bye()
				t.Fatal("it went well")
			}
			if !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%q doesn't say %q", err, tt.says)
			}
			if strings.Contains(err.Error(), "umask") || len(err.Error()) > 1000 {
				t.Errorf("the cause has the shell script in it: %s", err)
			}
		})
	}
	if _, err := (&Rsh{Command: []string{"/nonexistent/rsh"}}).Dial(t.Context(), "cp2"); err == nil || !strings.Contains(err.Error(), "/nonexistent/rsh") {
		t.Error(err)
	}
}

func TestASilentAgentIsGone(t *testing.T) {
	w := newFakeWorld(t, "cp1")
	d := w.pipes(t, "cp1")
	c, err := d.Dial(t.Context(), "cp1")
	if err != nil {
		t.Fatal(err)
	}
	l, err := newLink(t.Context(), &Conn{In: hole{}, Out: c.Out, Close: c.Close, Said: c.Said}, Pace{Hello: time.Second, Ping: 10 * time.Millisecond, Silence: 100 * time.Millisecond}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := call[*restore.NodeFacts](t.Context(), l, doFacts, struct{}{}); err == nil || !strings.Contains(err.Error(), "no message from the agent") {
		t.Error(err)
	}
}

// hole is a connection that swallows everything.
type hole struct{}

func (hole) Write(p []byte) (int, error) { return len(p), nil }
func (hole) Close() error                { return nil }

func TestAnAgentThatHearsNothingStops(t *testing.T) {
	w := newFakeWorld(t, "cp1")
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close() // nobody writes, and the collector of garbage must not close it
	err = serve(context.Background(), in, hole{}, w.nodes[0], "test", 50*time.Millisecond)
	if err == nil || !strings.Contains(err.Error(), "no message from the conductor") {
		t.Error(err)
	}
}

func TestWhoTheMembersAre(t *testing.T) {
	for _, tt := range []struct {
		story  string
		change func(w *fakeWorld, d *pipes, want *restore.Want)
		level  map[string]steps.Level // of verdicts that aren't ok
		says   string
		taken  string
	}{
		{"all are known everywhere", func(*fakeWorld, *pipes, *restore.Want) {}, nil, "", "cp1 cp2 cp3"},
		{"one joined after the snapshot", func(_ *fakeWorld, _ *pipes, want *restore.Want) {
			want.Info.Members = want.Info.Members[:2]
		}, map[string]steps.Level{"fleet-members": steps.Warn}, "cp3 is named by etcd and etcd.yaml, not by the snapshot", "cp1 cp2 cp3"},
		{
			"one can't be reached", func(_ *fakeWorld, d *pipes, _ *restore.Want) { d.lose("cp3") },
			map[string]steps.Level{"fleet-hosts": steps.Error},
			"no route to host", "cp1 cp2",
		},
		{
			"one is left out", func(_ *fakeWorld, d *pipes, want *restore.Want) { d.lose("cp3"); want.Without = []string{"cp3"} },
			nil, "", "cp1 cp2",
		},
		{
			"most are left out", func(_ *fakeWorld, _ *pipes, want *restore.Want) { want.Without = []string{"cp3", "cp2"} },
			map[string]steps.Level{"left-out": steps.Warn},
			"most of the members", "cp1",
		},
		{
			"nodes that are named and not all", func(_ *fakeWorld, _ *pipes, want *restore.Want) { want.Nodes = []string{"cp1", "cp2"} },
			map[string]steps.Level{"fleet-hosts": steps.Error},
			"isn't among the nodes that were named", "cp1 cp2",
		},
		{"their etcds are three clusters of one", func(w *fakeWorld, _ *pipes, _ *restore.Want) {
			w.node("cp2").facts = func(f *restore.NodeFacts) { f.Live.ClusterID = 2 }
		}, map[string]steps.Level{"fleet-cluster": steps.Error}, "of different clusters: 1 on cp1, cp3; 2 on cp2", "cp1 cp2 cp3"},
		{"etcd with authentication shows nothing, and its data is of another cluster", func(w *fakeWorld, _ *pipes, _ *restore.Want) {
			w.node("cp2").facts = func(f *restore.NodeFacts) { f.Live.ClusterID, f.Live.Revision, f.ClusterID = 0, 0, 3 }
		}, map[string]steps.Level{"fleet-cluster": steps.Error}, "3 on cp2", "cp1 cp2 cp3"},
		{"the cluster of a dead etcd isn't known", func(w *fakeWorld, _ *pipes, _ *restore.Want) {
			w.node("cp2").facts = func(f *restore.NodeFacts) { f.Live, f.ClusterErr = nil, "the WAL is damaged" }
		}, map[string]steps.Level{"fleet-cluster": steps.Warn}, "cp2: the WAL is damaged", "cp1 cp2 cp3"},
		{"a dead etcd is of this cluster, by its data", func(w *fakeWorld, _ *pipes, _ *restore.Want) {
			w.node("cp2").facts = func(f *restore.NodeFacts) { f.Live, f.ClusterID = nil, 1 }
		}, nil, "", "cp1 cp2 cp3"},
		{"two versions", func(w *fakeWorld, _ *pipes, _ *restore.Want) {
			w.node("cp2").facts = func(f *restore.NodeFacts) { f.EtcdVersion = "3.5.21" }
		}, map[string]steps.Level{"fleet-etcd-version": steps.Warn}, "3.5.21 on cp2", "cp1 cp2 cp3"},
		{"a node's data lies elsewhere", func(w *fakeWorld, _ *pipes, _ *restore.Want) {
			for _, n := range w.nodes {
				n.facts = func(f *restore.NodeFacts) { f.KubeadmDataDir = "/var/lib/etcd" }
			}
			w.node("cp2").facts = func(f *restore.NodeFacts) { f.KubeadmDataDir = "/data/etcd" }
		}, map[string]steps.Level{"fleet-data-directory": steps.Warn}, "/data/etcd on cp2; /var/lib/etcd on cp1, cp3", "cp1 cp2 cp3"},
		{"it lies elsewhere, and kubeadm renders nothing", func(w *fakeWorld, _ *pipes, _ *restore.Want) {}, nil, "", "cp1 cp2 cp3"},
	} {
		t.Run(tt.story, func(t *testing.T) {
			w := newFakeWorld(t, "cp1", "cp2", "cp3")
			for _, n := range w.nodes {
				n.facts = func(f *restore.NodeFacts) {}
			}
			d := w.pipes(t, "cp1")
			want := restore.Want{Info: theSnapshot(t)}
			tt.change(w, d, &want)
			c := conductor(t, d)
			members, verdicts, err := c.Discover(t.Context(), want)
			if err != nil {
				t.Fatal(err)
			}
			var taken []string
			for i := range members {
				if members[i].Taken() {
					taken = append(taken, members[i].Name)
				}
			}
			if got := strings.Join(taken, " "); got != tt.taken {
				t.Errorf("taken: %s, want %s", got, tt.taken)
			}
			said := ""
			for _, v := range verdicts {
				said += v.Cause + "\n"
				if want := tt.level[v.Check]; v.Level != steps.Pass && v.Level != want || v.Level == steps.Pass && want != "" {
					t.Errorf("%s: %s, %s", v.Check, v.Level, v.Cause)
				}
			}
			if !strings.Contains(said, tt.says) {
				t.Errorf("nothing says %q:\n%s", tt.says, said)
			}
		})
	}
}

func TestMistakesInNamingTheNodes(t *testing.T) {
	for _, tt := range []struct {
		story string
		want  restore.Want
		says  string
	}{
		{"a host that is another member", restore.Want{Hosts: map[string]string{"cp2": "cp3"}}, "the host cp3 is the member cp3, not cp2"},
		{"this node is left out", restore.Want{Without: []string{"cp1"}}, "it can't be excluded"},
		{"one that nobody knows is left out", restore.Want{Without: []string{"cp9"}}, "no member cp9"},
		{"a host twice", restore.Want{Nodes: []string{"cp2", "cp2", "cp3"}}, "which is there already"},
		{"a host that isn't there", restore.Want{Nodes: []string{"cp2", "cp3", "cp9"}}, "could not resolve hostname cp9"},
	} {
		t.Run(tt.story, func(t *testing.T) {
			w := newFakeWorld(t, "cp1", "cp2", "cp3")
			tt.want.Info = theSnapshot(t)
			_, _, err := conductor(t, w.pipes(t, "cp1")).Discover(t.Context(), tt.want)
			if err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%v doesn't say %q", err, tt.says)
			}
		})
	}
}

func TestOneThatIsLeftOutAndAnswersStandsInTheWay(t *testing.T) {
	w := newFakeWorld(t, "cp1", "cp2", "cp3")
	c := conductor(t, w.pipes(t, "cp1"))
	c.Answers = func(_ context.Context, url string) bool { return url == "https://10.0.0.3:2380" }
	_, verdicts, err := c.Discover(t.Context(), restore.Want{Info: theSnapshot(t), Without: []string{"cp3"}})
	if err != nil {
		t.Fatal(err)
	}
	if b := steps.Blocking(verdicts); len(b) != 1 || b[0].Check != "left-out" || !strings.Contains(b[0].Cause, "cp3") {
		t.Errorf("%+v", b)
	}
}
