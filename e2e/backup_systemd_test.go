//go:build e2e && linux

package e2e

import (
	"errors"
	"os"
	"strings"
	"testing"

	"filippo.io/age"
)

func TestBackupsByATimer(t *testing.T) {
	begin(t)
	backupsOnSystemd(t)
}

// Backups on a host as people have it: set up, taken by the timer's own service
// in its cage, opened again, and reported when they don't come.
func backupsOnSystemd(t *testing.T) {
	t.Cleanup(func() { // others set backups up, too
		insideLater(t, "umount /srv/backup 2>/dev/null; systemctl disable --now etcd-rewind-backup.timer 2>/dev/null; rm -rf /etc/etcd-rewind /var/lib/etcd-rewind /srv/backup /srv/kept")
	})
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(
		os.WriteFile(node.HostPath("/root/identity.txt"), []byte(id.String()+"\n"), 0o600),
		os.Mkdir(node.HostPath("/srv/backup"), 0o700),
	); err != nil {
		t.Fatal(err)
	}
	well := func(args ...string) outcome {
		t.Helper()
		o := run(t, args...)
		if o.code != 0 {
			t.Fatalf("%v: exit status %d\n%s%s", args, o.code, o.stdout, o.stderr)
		}
		return o
	}
	well("backup", "init", "--location", "file:///srv/backup", "--recipient", id.Recipient().String(), "--identity", "/root/identity.txt",
		"--every", "6h", "--at", "02:30", "--keep", "last=2", "--include", "pki,manifests,encryption-config")
	well("backup", "enable")
	if next := said(t, "systemctl show -P NextElapseUSecRealtime etcd-rewind-backup.timer"); strings.TrimSpace(next) == "" {
		t.Error("the timer is never due")
	}

	// The turn is taken once.
	said(t, "systemctl start etcd-rewind-backup.service")
	first := said(t, "find /srv/backup -type f | sort")
	if strings.Count(first, "\n") != 3 || !strings.Contains(first, node.Hostname+".db.zst.age") || !strings.Contains(first, node.Hostname+".secrets.tar.zst.age") || !strings.Contains(first, node.Hostname+".json") {
		t.Errorf("stored: %s\n%s", first, said(t, "journalctl -u etcd-rewind-backup --no-pager"))
	}
	said(t, "systemctl start etcd-rewind-backup.service")
	if again := said(t, "find /srv/backup -type f | sort"); again != first {
		t.Errorf("taken again: %s", again)
	}
	if left := said(t, "find /var/lib/etcd-rewind "+dataDir(t)+" -name '*making*' -o -name '*etcd-rewind-backup*' -o -name plain"); left != "" {
		t.Errorf("left on the node: %s", left)
	}

	// What was asked for counts, too; two are kept, and the newest opens.
	well("backup")
	well("backup")
	if n := strings.Count(well("backup", "list", "--output", "json").stdout, `"stored-backup"`); n != 2 {
		t.Errorf("%d are kept", n)
	}
	well("backup", "status")
	file := strings.TrimSpace(said(t, "ls -t /srv/backup/*/*/"+node.Hostname+".db.zst.age | head -n 1"))
	if o := well("inspect", file, "--identity", "/root/identity.txt"); !strings.Contains(o.stdout, node.Hostname) {
		t.Errorf("inspect: %s", o.stdout)
	}
	if o := run(t, "inspect", file); o.code != 4 {
		t.Errorf("it opens without the identity: %s", o.stdout)
	}

	// The location is full: the service fails, check and status say so, and what
	// was good is still there.
	said(t, "mv /srv/backup /srv/kept && mkdir /srv/backup && mount -t tmpfs -o size=16k tmpfs /srv/backup && cp -r /srv/kept/. /srv/backup/ 2>/dev/null || true")
	if out, err := node.Command(t.Context(), "systemctl", "start", "etcd-rewind-backup.service").CombinedOutput(); err == nil {
		if o := run(t, "backup"); o.code != 1 || !strings.Contains(o.stdout, "room") {
			t.Errorf("a full location: exit status %d\n%s%s%s", o.code, o.stdout, o.stderr, out)
		}
	}
	if o := run(t, "backup", "status"); o.code != 1 {
		t.Errorf("status: exit status %d\n%s", o.code, o.stdout)
	}
	o := run(t, "check", "--output", "json")
	warned := false
	for _, e := range o.events {
		warned = warned || e.Check == "backups" && e.Level == "warning"
	}
	if !warned {
		t.Errorf("check doesn't warn:\n%s", o.stdout)
	}
	said(t, "umount /srv/backup && rmdir /srv/backup")

	// One that isn't there is reported by the program: systemd starts it all the same
	// (else the status were 226).
	_ = node.Command(t.Context(), "systemctl", "start", "etcd-rewind-backup.service").Run() // fails, as the next line says
	if status := strings.TrimSpace(said(t, "systemctl show -P ExecMainStatus etcd-rewind-backup.service")); status != "1" {
		t.Errorf("without the location's directory the service ends with %s", status)
	}
	if o := run(t, "backup", "status"); o.code != 1 || !strings.Contains(o.stdout, "no such") {
		t.Errorf("without the location's directory: exit status %d\n%s", o.code, o.stdout)
	}
	said(t, "mv /srv/kept /srv/backup")
	well("backup")
	well("backup", "status")

	well("backup", "disable")
	if left := said(t, "ls /etc/systemd/system | grep etcd-rewind || true"); left != "" {
		t.Errorf("left: %s", left)
	}
	well("backup", "disable")
}
