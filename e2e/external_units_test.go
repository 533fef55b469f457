//go:build e2e && linux

package e2e

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"etcd-rewind/e2e/cluster"
)

// "The hard way": etcd, kube-apiserver, kube-controller-manager and kube-scheduler
// are services of one host's systemd, and no kubelet runs them. A restore stops and
// starts them, an undo and a redo do, and no file differs after that.
func TestExternalEtcdTheHardWay(t *testing.T) {
	c := externalUp(t, cluster.ByHand, 1, 1)
	host := c.Etcd[0]
	theHardWay(t, c.Nodes[0], host)
	s := aStory(t)
	giveTo(t, host, s.snapshot)
	const settings = "cat /etc/systemd/system/etcd.service /etc/systemd/system/kube-*.service; stat -c '%n %U:%G %a' /etc/systemd/system/*; stat -c '%i %U:%G %a' /var/lib/etcd"
	before := readOn(t, host, settings)

	do := func(args ...string) {
		t.Helper()
		on(host, func() {
			result := call{args: append(args, "--yes", "--output", "json")}.run(t).succeeded(t)
			t.Logf("%s: the API was down for %.1f s, at load %s", args[0], result.Outage, loadNow())
		})
	}
	do("restore", s.snapshot)
	s.isThen(t)
	do("undo")
	s.isNow(t)
	if now := readOn(t, host, settings); now != before {
		t.Errorf("the undo has left another host:\n%s\n%s", before, now)
	}
	do("redo")
	s.isThen(t)
	do("undo")
	s.isNow(t)

	do("restore", s.snapshot, "--swap")
	s.isThen(t)
	if err := host.Reboot(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the API", apiReady)
	s.isThen(t)
	giveTool(t, host)
	do("undo")
	s.isNow(t)
	if now := readOn(t, host, settings); now != before {
		t.Errorf("the undo of a swap has left another host:\n%s\n%s", before, now)
	}
}

// theHardWay moves the control plane of a node to another host, as services of its
// systemd. kubectl on the node asks that one then.
func theHardWay(t *testing.T, from, to *cluster.Node) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "parts/build.sh", "kubernetes").Output()
	if err != nil {
		t.Fatal(err)
	}
	_, dir, _ := strings.Cut(strings.TrimSpace(string(out)), "\t")
	tmp := t.TempDir()
	programs := []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler"}
	readOn(t, from, "mkdir -p "+tmp+"/hard "+tmp+"/out && cp /etc/kubernetes/pki/ca.crt /etc/kubernetes/pki/ca.key "+tmp+"/hard/ && "+
		"kubeadm init phase certs apiserver --cert-dir "+tmp+"/hard --kubernetes-version v1.34.0 --apiserver-advertise-address "+to.Address+" && "+
		"mv /etc/kubernetes/manifests/*.yaml "+tmp+"/out/ && cp "+tmp+"/hard/apiserver.* /etc/kubernetes/pki/ && "+
		"sed -i 's|server: .*|server: https://"+to.Address+":6443|' /etc/kubernetes/admin.conf /etc/kubernetes/controller-manager.conf /etc/kubernetes/scheduler.conf /etc/kubernetes/super-admin.conf && "+
		"tar -C / -cf "+tmp+"/hard.tar etc/kubernetes/pki etc/kubernetes/admin.conf etc/kubernetes/controller-manager.conf etc/kubernetes/scheduler.conf")
	giveTo(t, to, tmp+"/hard.tar")
	readOn(t, to, "tar -C / -xf "+tmp+"/hard.tar")
	for _, name := range programs {
		if out, err := exec.CommandContext(t.Context(), "install", "-m", "755", filepath.Join(dir, name), to.HostPath("/usr/local/bin/"+name)).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		unit := "[Unit]\nAfter=etcd.service\n\n[Service]\nExecStart=/usr/local/bin/" + name
		for flag := range strings.Lines(readOn(t, from, "sed -n 's/^    - --/--/p' "+tmp+"/out/"+name+".yaml")) {
			if flag = strings.TrimSpace(flag); strings.HasPrefix(flag, "--advertise-address=") {
				flag = "--advertise-address=" + to.Address
			}
			unit += " \\\n  " + flag
		}
		unit += "\nRestart=on-failure\nRestartSec=5\n\n[Install]\nWantedBy=multi-user.target\n"
		readOn(t, to, "cat > /etc/systemd/system/"+name+".service <<'END'\n"+unit+"END\nsystemctl daemon-reload && systemctl enable --now "+name)
	}
	eventually(t, "the API", apiReady)
}
