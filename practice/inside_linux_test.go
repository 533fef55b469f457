package practice

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// mayNot says why this machine gives no namespaces, "" when it does.
func mayNot(t *testing.T) string {
	t.Helper()
	attr := namespaces()
	cmd := exec.Command("/bin/true")
	cmd.SysProcAttr = attr
	if err := cmd.Run(); err != nil {
		return err.Error()
	}
	return ""
}

// Mounts that would hide the practice node itself are refused before the first
// one is made, and the shell stays outside.
func TestNobodyIsInsideWhereThatWouldHideTheNode(t *testing.T) {
	if err := mayEnter(t.Context(), "/var/lib/somebody/practice"); err == nil {
		t.Error("the node lies below /var/lib, and inside it there would be another /var/lib")
	} else if mayNot(t) == "" && !strings.Contains(err.Error(), "is below /var/lib") {
		t.Error(err)
	}
	if _, err := os.Stat("/var/lib/somebody"); err == nil {
		t.Error("something was made on the machine")
	}
}

// What learners read in every guide works as it is written, and etcd.yaml says
// what it says on a real node. Where nobody listens a connection is refused.
func TestTheShellHasTheRealPathsAndPorts(t *testing.T) {
	t.Parallel()
	if why := mayNot(t); why != "" {
		c := Config{Root: Root(t.TempDir())}
		if err := mayEnter(t.Context(), c.Root); err == nil {
			t.Errorf("the probe finds what isn't there: %s", why)
		}
		return
	}
	s := attempt(t, "exam", true)
	if !s.Inside {
		t.Fatal(mayEnter(t.Context(), Root(t.TempDir())))
	}
	var out bytes.Buffer
	err := shell(within(t, 2*time.Minute), s, strings.NewReader(`
cd /etc/kubernetes/pki/etcd
tell() { echo "$1: $(eval "$2" 2>&1 | tr '\n' ' ')"; }
E="--endpoints=https://127.0.0.1:2379 --cacert=ca.crt --cert=server.crt --key=server.key"
tell health "etcdctl $E endpoint health"
tell member "etcdctl $E member list"
tell manifest "grep -hE '127.0.0.1:|path: /var' /etc/kubernetes/manifests/etcd.yaml"
tell long "grep -rl $ETCD_REWIND_PRACTICE_ROOT /etc/kubernetes/manifests /var/lib/kubelet/config.yaml /etc/kubernetes/*.conf"
tell kubeadm "kubectl -n kube-system get cm kubeadm-config -o yaml | grep dataDir"
tell kubelet "systemctl status kubelet"
tell grade "etcd-rewind practice status"
tell pods "crictl ps -q | wc -l"
etcdctl $E watch a-connection-that-stays >/dev/null 2>&1 & WATCH=$!
mv /etc/kubernetes/manifests/etcd.yaml /etc/
while crictl ps | grep -q etcd; do sleep 0.1; done; sleep 0.3
tell gone "etcdctl $E --command-timeout=2s endpoint health"
mv /etc/etcd.yaml /etc/kubernetes/manifests/
until etcdctl $E endpoint health >/dev/null 2>&1; do sleep 0.2; done
tell again "etcdctl $E endpoint health"
tell restart "env -i /opt/practice/systemctl restart kubelet && echo done" # as the engine runs it
kill $WATCH
`), &out, &out, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"a real node's: /etc/kubernetes", "It has no other network.",
		"health: https://127.0.0.1:2379 is healthy",
		"cp1, https://127.0.0.1:2380, https://127.0.0.1:2379",
		"--listen-client-urls=https://127.0.0.1:2379 ", "path: /var/lib/etcd ",
		"long: \n", "dataDir: /var/lib/etcd \n", "kubelet: kubelet: active (running), log in /var/log/kubelet.log",
		"etcd's data              /var/lib/etcd ", "pods: 4", "connection refused", "again: https://127.0.0.1:2379 is healthy", "restart: done",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q isn't in\n%s", want, out.String())
		}
	}
}
