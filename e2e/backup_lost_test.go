//go:build e2e && linux

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
)

// The stores of backups: servers that others have written, as units of the host,
// and a directory that has to be a mount. The data is the host's; nothing of it is
// the control plane's.
const (
	storeS3   = "s3://backups/prod?endpoint=https://127.0.0.1:7070&region=eu-test-1&ca=/etc/store/ca.crt&credentials=/etc/store/credentials"
	storeSFTP = "sftp://nas/srv/sftp"
	storeDir  = "file:///mnt/nas?mounted=true"
)

func startStores(t *testing.T) {
	t.Helper()
	out, err := exec.Command("parts/build.sh", "versitygw").Output()
	if err != nil {
		t.Fatal(err)
	}
	_, dir, _ := strings.Cut(strings.TrimSpace(string(out)), "\t")
	program, err := os.ReadFile(filepath.Join(dir, "versitygw"))
	if err == nil {
		err = os.WriteFile(node.HostPath("/usr/local/bin/versitygw"), program, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	said(t, `set -eu
mkdir -p /srv/s3/backups /srv/sftp /var/lib/nas /mnt/nas /etc/store
chmod 700 /srv/sftp /var/lib/nas
for key in /etc/store/host /root/.ssh/id_ed25519; do ssh-keygen -q -t ed25519 -N '' -f $key; done
cp /root/.ssh/id_ed25519.pub /etc/store/authorized
cat >/etc/store/sshd_config <<end
Port 2222
ListenAddress 127.0.0.1
HostKey /etc/store/host
AuthorizedKeysFile /etc/store/authorized
StrictModes no
PidFile none
UsePAM no
Subsystem sftp /usr/lib/openssh/sftp-server
end
printf 'Host nas\n HostName 127.0.0.1\n Port 2222\n' >/root/.ssh/config
echo "[127.0.0.1]:2222 $(cat /etc/store/host.pub)" >/root/.ssh/known_hosts
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=store -addext subjectAltName=IP:127.0.0.1 \
	-keyout /etc/store/ca.key -out /etc/store/ca.crt 2>/dev/null
printf '[default]\naws_access_key_id = backup-user\naws_secret_access_key = hunter2hunter2\n' >/etc/store/credentials
chmod 600 /etc/store/credentials
cat >/etc/systemd/system/store-sftp.service <<end
[Service]
ExecStart=/usr/sbin/sshd -D -e -f /etc/store/sshd_config
RuntimeDirectory=sshd
[Install]
WantedBy=multi-user.target
end
cat >/etc/systemd/system/store-s3.service <<end
[Service]
ExecStart=/usr/local/bin/versitygw --port 127.0.0.1:7070 --access backup-user --secret hunter2hunter2 --region eu-test-1 --cert /etc/store/ca.crt --key /etc/store/ca.key posix /srv/s3
KillSignal=SIGKILL
[Install]
WantedBy=multi-user.target
end
cat >/etc/systemd/system/mnt-nas.mount <<end
[Mount]
What=/var/lib/nas
Where=/mnt/nas
Type=none
Options=bind
[Install]
WantedBy=local-fs.target
end
systemctl daemon-reload
systemctl -q enable --now store-sftp store-s3 mnt-nas.mount`)
	eventually(t, "the stores", func() bool {
		return node.Command(t.Context(), "sh", "-c", "ssh -o BatchMode=yes nas true && curl -s -k https://127.0.0.1:7070/ >/dev/null || openssl s_client -connect 127.0.0.1:7070 </dev/null >/dev/null 2>&1").Run() == nil
	})
}

// encryptSecrets has kube-apiserver encrypt Secrets with a key.
func encryptSecrets(t *testing.T) {
	t.Helper()
	writeEncryption(t, "key1")
	said(t, `set -eu
m=/etc/kubernetes/manifests/kube-apiserver.yaml
sed 's|^    - kube-apiserver$|&\n    - --encryption-provider-config=/etc/kubernetes/pki/encryption.yaml|' $m >/root/kube-apiserver.yaml
chmod 600 /root/kube-apiserver.yaml
mv /root/kube-apiserver.yaml $m`)
	eventually(t, "an API server that encrypts", func() bool {
		// The one before would take its time to end, and may be started once more.
		_ = node.Command(t.Context(), "sh", "-c", `for p in $(pgrep -x kube-apiserver); do
	grep -qz encryption-provider-config /proc/$p/cmdline || kill -KILL $p
done`).Run()
		return node.Command(t.Context(), "pgrep", "-f", "encryption-provider-config").Run() == nil && apiReady()
	})
}

// writeEncryption writes an EncryptionConfiguration with a key of that name.
func writeEncryption(t *testing.T, key string) {
	t.Helper()
	text := fmt.Sprintf("kind: EncryptionConfiguration\napiVersion: apiserver.config.k8s.io/v1\nresources:\n- resources: [secrets]\n  providers:\n"+
		"  - aescbc: {keys: [{name: %s, secret: cHJhY3RpY2UgcHJhY3RpY2UgcHJhY3RpY2UgMTIzNDU=}]}\n  - identity: {}\n", key)
	if err := os.WriteFile(node.HostPath("/etc/kubernetes/pki/encryption.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// types types a line.
func (w wizard) types(text string) {
	w.t.Helper()
	if text != "" {
		w.press("-l", text)
	}
	w.press("Enter")
}

// turnBegins has the schedule's turn begin some minutes ago, so that there are
// several turns within a minute.
func turnBegins(t *testing.T, ago int) {
	t.Helper()
	at := (time.Now().UTC().Minute() - ago + 60) % 60
	said(t, fmt.Sprintf(`sed -i -e '/^ *at:/d' -e 's/^\( *\)every: 1h.*/&\n\1at: "00:%02d"/' /etc/etcd-rewind/backup.yaml`, at))
}

// rounds says how many there are in each location.
func rounds(t *testing.T) (n int) {
	t.Helper()
	lists := []string{}
	for _, dir := range []string{"/srv/s3/backups/prod", "/srv/sftp", "/var/lib/nas"} {
		lists = append(lists, said(t, "cd "+dir+" && find . -name 'cp1.json' | sort"))
	}
	if lists[0] != lists[1] || lists[1] != lists[2] {
		t.Errorf("the locations differ: %q", lists)
	}
	return strings.Count(lists[0], "\n")
}

// The whole of it: backups are set up, taken by the timer's service to S3, over
// SFTP and into a directory, proven by a drill; everything on the node is lost, and
// the wizard restores the latest from its store.
func lostAndRestoredOnSystemd(t *testing.T) {
	began := time.Now()
	begin(t)
	lap := func(what string) { t.Logf("%5.1f s  %s", time.Since(began).Seconds(), what) }
	mine, drills := anIdentity(t), anIdentity(t)
	startStores(t)
	encryptSecrets(t)
	s := aStory(t) // what is in the cluster now has to be there again
	kubectl(t, "create", "secret", "generic", "sealed", "--from-literal=password=hunter4")
	said(t, "cp "+tool+" /usr/local/bin/etcd-rewind; mkdir -p /var/lib/metrics")
	lap("stores run, Secrets are encrypted")

	// The wizard of backup init, and what it doesn't let pass.
	w := startWizard(t, tool+" backup init --metrics-file /var/lib/metrics/etcd-rewind.prom")
	for _, l := range []string{storeS3, storeSFTP, storeDir} {
		w.sees("Where to:")
		w.types(l)
		w.sees("✓ " + l[:19])
		w.sees("One more location")
	}
	w.types("")
	w.sees("Who can open them")
	w.types(mine.Recipient().String())
	w.sees("an escrow key")
	w.types(drills.Recipient().String())
	eventually(t, "the same question again", func() bool { return strings.Count(w.capture(), "an escrow key") == 2 })
	w.types("")
	w.sees("How often")
	w.types("")
	w.sees("Rounds to keep")
	w.types("last=3")
	w.sees("(yes or no)")
	w.types("yes")
	w.sees("The identity,")
	w.types(anIdentity(t).String())
	w.sees("backups would be lost")
	w.types(mine.String())
	w.sees("1 of 2 recipients are proven", "backup enable")
	if strings.Contains(w.capture("-S", "-"), "AGE-SECRET-KEY-1") {
		t.Error("the screen shows the identity")
	}
	lap("set up")

	// Three rounds by the timer's own command.
	if err := os.WriteFile(node.HostPath("/etc/etcd-rewind/drill-identity.txt"), []byte(drills.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	said(t, "/usr/local/bin/etcd-rewind backup enable --drill weekly --identity /etc/etcd-rewind/drill-identity.txt")
	// Nothing of theirs comes between, in whatever minute this begins.
	stopTimers := func() { said(t, "systemctl stop etcd-rewind-backup.timer etcd-rewind-drill.timer") }
	stopTimers()
	for i := range 3 {
		turnBegins(t, 5-i)
		said(t, "systemctl start etcd-rewind-backup.service")
	}
	if n := rounds(t); n != 3 {
		t.Fatalf("%d rounds after three:\n%s", n, said(t, "journalctl -u etcd-rewind-backup --no-pager -n 30"))
	}
	if leaks := said(t, "grep -rlE 'registry/(secrets|configmaps)|BEGIN.*PRIVATE' /srv /var/lib/nas || true"); leaks != "" {
		t.Errorf("it is readable in the stores: %s", leaks)
	}
	lap("three rounds by the service")

	// The timer fires by itself.
	turnBegins(t, 2)
	newest := func() string { return said(t, "cat /var/lib/nas/*/*/cp1.json | sha256sum") }
	before := newest()
	said(t, `mkdir -p /etc/systemd/system/etcd-rewind-backup.timer.d
printf '[Timer]\nOnCalendar=\nOnCalendar=*:*:0/2\nRandomizedDelaySec=0\n' >/etc/systemd/system/etcd-rewind-backup.timer.d/soon.conf
systemctl daemon-reload; systemctl start etcd-rewind-backup.timer`)
	eventually(t, "a round by the timer", func() bool { return newest() != before })
	stopTimers()
	eventually(t, "the service to end", func() bool {
		return strings.TrimSpace(said(t, "systemctl show -P ActiveState etcd-rewind-backup.service")) == "inactive"
	})
	said(t, `printf '[Timer]\nRandomizedDelaySec=0\n' >/etc/systemd/system/etcd-rewind-backup.timer.d/soon.conf; systemctl daemon-reload`)
	if n := rounds(t); n != 3 { // the oldest is gone
		t.Errorf("%d rounds are kept", n)
	}
	lap("the timer fired")

	// A location is down: reported in every way, and the others have the round.
	turnBegins(t, 1)
	said(t, "systemctl stop store-sftp")
	if err := node.Command(t.Context(), "systemctl", "start", "etcd-rewind-backup.service").Run(); err == nil {
		t.Error("the service succeeds without one of its locations")
	}
	if o := run(t, "backup", "status"); o.code != 1 || !strings.Contains(o.stdout, "nas") {
		t.Errorf("status without a location: exit status %d\n%s", o.code, o.stdout)
	}
	said(t, `cd /var/lib/metrics && grep -q 'last_success 0' etcd-rewind.prom && grep -q 'failures{location="sftp://nas/srv/sftp"} 1' etcd-rewind.prom`)
	said(t, "systemctl start store-sftp; systemctl reset-failed etcd-rewind-backup.service")

	// The host is down when a round is due: it is caught up on after the boot, as
	// soon as etcd is there. Here that is after the service was seen to wait for it.
	said(t, "systemctl --quiet disable kubelet")
	if err := node.PowerOff(t.Context()); err != nil {
		t.Fatal(err)
	}
	turnOff := node.HostPath("/var/lib/systemd/timers/stamp-etcd-rewind-backup.timer")
	if err := os.Chtimes(turnOff, time.Time{}, time.Now().Add(-48*time.Hour)); err != nil {
		t.Fatal(err)
	}
	lap("powered off")
	if err := node.PowerOn(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := buildTool(); err != nil {
		t.Fatal(err)
	}
	journal := func() string { return said(t, "journalctl --boot -u etcd-rewind-backup --output=cat") }
	comes := func(what string) {
		eventually(t, what, func() bool { return strings.Contains(journal(), what) || strings.Contains(journal(), "Failed") })
	}
	comes("waiting for etcd")
	said(t, "systemctl --quiet enable --now kubelet")
	comes("Finished etcd-rewind-backup.service")
	if all := journal(); strings.Contains(all, "Failed") {
		t.Errorf("after the boot:\n%s", all)
	}
	stopTimers()
	if err := node.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	if o := run(t, "backup"); o.code != 0 {
		t.Fatalf("exit status %d\n%s%s", o.code, o.stdout, o.stderr)
	}
	// The turns were moved by hand: the timer has to be written again, and then all is well.
	if o := run(t, "backup", "status"); o.code != 1 || !strings.Contains(o.stdout, "backup enable") {
		t.Errorf("status with a schedule that was changed: exit status %d\n%s", o.code, o.stdout)
	}
	said(t, "/usr/local/bin/etcd-rewind backup enable")
	stopTimers()
	if o := run(t, "backup", "status"); o.code != 0 {
		t.Errorf("status: exit status %d\n%s", o.code, o.stdout)
	}
	lap("caught up after a boot")

	// The drill's own service, in its cage.
	running := tasks(t)
	said(t, "systemctl start etcd-rewind-drill.service")
	if o := run(t, "backup", "status"); o.code != 0 || !strings.Contains(o.stdout, "proven") {
		t.Errorf("status after a drill: exit status %d\n%s", o.code, o.stdout)
	}
	said(t, "grep -q 'drill_last_success 1' /var/lib/metrics/etcd-rewind-drill.prom")
	nothingOfADrill(t, running)
	lap("a drill by its service")

	// All is lost but the stores and the identity.
	kubectl(t, "create", "namespace", "too-late")
	data := dataDir(t)
	said(t, fmt.Sprintf("rm -rf %s/* /var/lib/nas/* /srv/sftp/* /etc/etcd-rewind/drill-identity.txt /root/story-*.db; pkill -KILL -x etcd", data))
	if err := os.WriteFile(node.HostPath("/run/identity.txt"), []byte(mine.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	// kubelet boots a blank etcd there.
	eventually(t, "a blank etcd", func() bool {
		out, err := node.Etcdctl(t.Context(), "get", "/registry/namespaces/too-late", "--keys-only")
		return err == nil && strings.TrimSpace(out) == ""
	})
	w = startWizard(t, tool+`; echo "exit status $?"`)
	w.sees("enter choose the snapshot", node.Hostname)
	w.press("Enter")
	w.sees("▸·", "stored", "s3://backups/prod", "Enter fetches it")
	t.Log(w.capture())
	w.press("Enter")
	w.sees("What opens this snapshot?")
	w.types("/run/identity.txt")
	w.sees("enter checks")
	eventually(t, "the end of the comparison", func() bool { return !strings.Contains(w.capture(), "Comparing the snapshot") })
	t.Log(w.capture())
	w.press("Enter")
	// What kubelet has booted is another cluster or none yet, beside which the data of
	// an earlier test may lie.
	w.sees("try it first: ", "space overrides it")
	left := func() string {
		before, _, _ := strings.Cut(w.capture(), " to fix or override")
		return before[strings.LastIndexAny(before, " ;\n")+1:]
	}
	for !strings.Contains(w.capture(), "nothing blocks the restore") {
		one := left()
		w.press("Space")
		eventually(t, "one less to override than "+one, func() bool { return left() != one })
	}
	w.press("t")
	w.sees("is proven")
	w.press("Escape")
	w.sees("nothing blocks the restore")
	w.press("Enter")
	w.sees("enter confirm", "Restore cp1.db.zst.age on cp1")
	w.press("Enter")
	w.confirm()
	w.sees("✓ Restored", "API down")
	t.Log(w.capture())
	w.press("q")
	w.sees("exit status 0")
	s.isNow(t)
	if out := kubectl(t, "get", "namespaces"); strings.Contains(out, "too-late") {
		t.Errorf("what was made after the backup is there:\n%s", out)
	}
	if value := kubectl(t, "get", "secret", "sealed", "--output=jsonpath={.data.password}"); value != "aHVudGVyNA==" {
		t.Errorf("the Secret has %q", value)
	}
	lap("lost, and restored by the wizard")

	// The same backup is proven, and isn't once the key of its Secrets is missing.
	drill := func() outcome {
		return run(t, "drill", "latest", "--identity", "/run/identity.txt", "--output", "json")
	}
	if o := drill(); o.code != 0 || !o.drilled(t).Proven || !strings.Contains(o.stdout, "aescbc:key1") {
		t.Errorf("exit status %d: %s%s", o.code, o.stdout, o.stderr)
	}
	writeEncryption(t, "another")
	o := drill()
	if d := o.drilled(t); o.code != 1 || d.Proven || d.Fault == nil || !strings.Contains(d.Fault.Cause, "aescbc:key1") || d.Fault.Hint == "" {
		t.Errorf("exit status %d: %s%s", o.code, o.stdout, o.stderr)
	}
	if o := run(t, "backup", "status", "--output", "json"); o.code != 1 || !strings.Contains(o.stdout, "aescbc:key1") {
		t.Errorf("status after a drill that failed: exit status %d\n%s", o.code, o.stdout)
	}
	writeEncryption(t, "key1")
	lap("drilled with and without the key")

	said(t, "/usr/local/bin/etcd-rewind backup disable")
	if left := said(t, "ls /etc/systemd/system | grep 'etcd-rewind.*[re]$' || true"); left != "" {
		t.Errorf("left: %s", left)
	}
}

func anIdentity(t *testing.T) *age.X25519Identity {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return id
}
