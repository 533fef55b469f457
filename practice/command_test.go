package practice

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"etcd-rewind/steps"
)

func runtimeAt(t *testing.T, socket string) cri.RuntimeServiceClient {
	t.Helper()
	rt, hangUp, err := dialCRI(socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(hangUp)
	return rt
}

// practise runs the command with a home of its own.
func practise(t *testing.T, home string, wizard Wizard, stdin string, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	root := &cobra.Command{Use: "etcd-rewind", SilenceErrors: true, SilenceUsage: true}
	root.AddCommand(Command(wizard))
	root.SetOut(&out)
	root.SetErr(&out)
	root.SetIn(strings.NewReader(stdin))
	root.SetArgs(append([]string{"practice", "--home", home}, args...))
	err := root.ExecuteContext(t.Context())
	return out.String(), err
}

func TestTheCommandsOfATry(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	var root string
	out, err := practise(t, home, func(_ context.Context, o steps.Options, intro string) error {
		root = filepath.Dir(filepath.Dir(o.Snapshots[0]))
		if entries, err := os.ReadDir(o.Snapshots[0]); err != nil || len(entries) != 1 {
			t.Errorf("snapshots %v, %v", entries, err)
		}
		if !strings.Contains(intro, root) || strings.Contains(intro, "{}") {
			t.Errorf("the story names no paths: %s", intro)
		}
		for _, args := range [][]string{{"status"}, {"hint"}, {"task"}, {"list"}} {
			out, err := practise(t, home, nil, "", args...)
			if err != nil || !strings.Contains(out, map[string]string{"status": "namespace shop is back", "hint": "1. ", "task": "three in the morning", "list": "running: "}[args[0]]) {
				t.Errorf("%v: %v %s", args, err, out)
			}
		}
		return nil
	}, "")
	var not *NotPassedError
	if !errors.As(err, &not) || !strings.Contains(out, "deleted-namespace: not passed") || !strings.Contains(out, "hints: 1") {
		t.Errorf("%v\n%s", err, out)
	}
	if _, err := os.Stat(root); err == nil {
		t.Error("the node's directory is left")
	}
	if out, err := practise(t, home, nil, "", "list"); err != nil || !strings.Contains(out, "0 of 1") {
		t.Errorf("%v\n%s", err, out)
	}

	out, err = practise(t, home, nil, "mv $R/etc/kubernetes/manifests/etcd.yaml.bak $ETCD_REWIND_PRACTICE_ROOT/tmp/\nuntil kubectl get ns shop; do sleep 0.5; done; sleep 1\n", "stray-backup", "--by-hand")
	if err != nil || !strings.Contains(out, "stray-backup: passed, 95 of 100 points") {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := practise(t, home, nil, "", "list"); err != nil || !strings.Contains(out, "1 of 1") || !strings.Contains(out, "by hand, 95") {
		t.Errorf("%v\n%s", err, out)
	}
}

// Where the real paths and ports can't be had, the shell says so and why, and
// everything is below $R.
func TestTheShellWithoutNamespacesSaysSo(t *testing.T) {
	t.Parallel()
	script := `test -s $R/etc/kubernetes/manifests/etcd.yaml && grep -q "path: $R/var/lib/etcd$" $R/etc/kubernetes/manifests/etcd.yaml && echo the path is long
kubectl get ns payments
sleep 1000 & echo background $!
setsid sh -c 'trap "" TERM; echo background $$; while :; do sleep 0.1; done' & sleep 0.2
`
	out, err := practise(t, t.TempDir(), nil, script, "exam", "--by-hand", "--no-namespaces")
	var not *NotPassedError
	if !errors.As(err, &not) {
		t.Errorf("%v\n%s", err, out)
	}
	background := regexp.MustCompile(`background (\d+)`).FindAllStringSubmatch(out, -1)
	if len(background) != 2 {
		t.Errorf("%d processes were started in the background", len(background))
	}
	for _, m := range background {
		if line, err := os.ReadFile("/proc/" + m[1] + "/cmdline"); err == nil && len(line) > 0 { // a zombie has none
			t.Errorf("process %s outlives the shell: %q", m[1], line)
		}
	}
	told := strings.Join(strings.Fields(out), " ")
	for _, want := range []string{"In this shell / of the node is $R, /", "ports can't be had here (--no-namespaces).", "the path is long", "payments Active"} {
		if !strings.Contains(told, want) {
			t.Errorf("%q isn't in\n%s", want, out)
		}
	}
}

func TestBadInput(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "thesis.txt"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(full, "thesis.txt")
	for _, c := range []struct{ name, args, want string }{
		{"an exercise that isn't there", "juggling", `there is no exercise "juggling"; there are: deleted-namespace`},
		{"a directory that isn't empty", "exam --dir " + full, "is not empty, and not a practice node"},
		{"a file for a directory", "exam --dir " + file + "/x", "not a directory"},
		{"clean of what isn't a practice node", "clean --dir " + full, "is not a practice node"},
		{"status without an exercise", "status", "no exercise is running"},
		{"grade of what isn't a practice node", "grade --dir " + full, "is not a practice node"},
	} {
		out, err := practise(t, home, nil, "", strings.Fields(c.args)...)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q\n%s", c.name, err, c.want, out)
		}
	}
	if _, err := os.Stat(file); err != nil {
		t.Error(err)
	}
}

func TestNoFreePorts(t *testing.T) {
	_, _, err := portsFrom([]int{1, 2}, func(int) (net.Listener, error) { return nil, errors.New("address already in use") })
	if err == nil || !strings.Contains(err.Error(), "no free ports on 127.0.0.1") {
		t.Error(err)
	}
}
