package unit

import (
	"bytes"
	"testing"
)

// Whatever a unit's files hold, they are read or refused; and what is edited
// differs in the one value, and can be edited back.
func FuzzUnit(f *testing.F) {
	f.Add(kubesprayUnit, kubesprayEnv, "", "")
	f.Add("[Service]\nEnvironmentFile=-/etc/etcd.env\nExecStart=/usr/local/bin/start\n", kubesprayEnv, kubesprayScript, "")
	f.Add("[Service]\nExecStart=/usr/local/bin/start\n", "N=1\nETCD_DATA_DIR='/var/lib/etcd'\n", "#!/bin/sh\nset -a\n. /etc/etcd.env\nexec /usr/bin/etcd --name \"${N:-x}\" \\\n --wal-dir=$ETCD_DATA_DIR/wal >/log 2>&1\n", "")
	f.Add("[Service]\nExecStart=/usr/bin/etcd --config-file=/etc/etcd.env\n", "name: a\ndata-dir: \"/var/lib/etcd\"\nclient-transport-security: {cert-file: /c}\n", "", "")
	f.Add("[Service]\nEnvironmentFile=/etc/etcd.env\nExecStart=/bin/bash -c \"GOMAXPROCS=$(nproc) /usr/bin/etcd --data-dir=\\\"${ETCD_DATA_DIR}\\\"\"\n", "ETCD_DATA_DIR=\"/var/lib/etcd\"\r\n", "", "")
	f.Add("[Service]\nExecStart=/usr/bin/podman run -v /srv/etcd:/data:Z -e ETCD_DATA_DIR=/data/x --env-file /etc/etcd.env etcd:v3.6.5 etcd\n", "ETCD_NAME=a\n", "", "")
	f.Add("[Service]\nExecStart=/usr/bin/etcd --data-dir=/old\n", kubesprayEnv, "", "[Service]\nEnvironmentFile=/etc/etcd.env\nEnvironmentFile=-/etc/absent\nExecStart=\nExecStart=/usr/bin/etcd --wal-dir=/fast/wal\n")
	f.Add("[Service]\nExecStart=/usr/bin/etcd --data-dir=/var/lib/etcd \\\n  --wal-dir /var/lib/etcd/wal\n", "", "", "[Service]\nEnvironment=\"A=b c\"\nReadWritePaths=/new\n")
	f.Add("[Service]\nEnvironmentFile=/etc/etcd.env\nExecStart=/usr/bin/etcd --data-dir=${D} --wal-dir=${D}/wal\n", "D=/var/lib/etcd\n", "", "")
	f.Add("[Service]\nEnvironmentFile=/etc/etcd.env\nExecStart=/usr/bin/kube-apiserver $ARGS --etcd-servers=https://10.0.0.1:2379 \\\n  --secure-port 6443\n", "ARGS='--etcd-cafile=/a --etcd-certfile=/b'\n", "", "")
	f.Add("[Service]\nExecStart=/usr/bin/docker run --net=host -v /srv/pki:/pki kube-apiserver:v1.34.1 kube-apiserver --etcd-servers=http://a:1 --etcd-certfile=/pki/x\n", "", "", "")
	for _, c := range recordedUnits(f)[:60] {
		f.Add(c.Unit, c.Env, "", "")
	}
	f.Fuzz(func(t *testing.T, unit, env, script, dropIn string) {
		files := map[string]string{fragment: unit, "/etc/etcd.env": env, "/rec/env": env}
		if script != "" {
			files["/usr/local/bin/start"] = script
		}
		loaded := Loaded{Name: "etcd.service", Fragment: fragment}
		if dropIn != "" {
			loaded.DropIns = []string{fragment + ".d/10-more.conf"}
			files[loaded.DropIns[0]] = dropIn
		}
		read := func() *Etcd {
			s, err := Read(loaded, disk(files))
			if err != nil {
				return nil
			}
			if a, err := ReadAPIServer(s); err == nil && (len(a.EtcdServers) == 0 || a.ReadyURL == "") {
				t.Fatalf("an API server of no etcd: %+v", a.APISettings)
			}
			e, err := ReadEtcd(s)
			if err != nil {
				return nil
			}
			return e
		}
		e := read()
		if e == nil {
			return
		}
		was, to := map[string]string{DataDir: e.DataDir.HostPath}, map[string]string{DataDir: "/new/data"}
		if w := e.WALDir; w != nil && w.Volume == WALDir {
			was[WALDir], to[WALDir] = w.HostPath, "/new/data/wal"
		}
		edits, err := e.SetDirs(to)
		if err != nil {
			if edits != nil {
				t.Fatal("an error and edits")
			}
			return
		}
		for _, edit := range edits {
			if !bytes.Equal(edit.Old, []byte(files[edit.Path])) {
				t.Fatal("what was read was changed")
			}
			removed, added := between(edit.Old, edit.New)
			if one := len(edit.Places) == 1; one && (bytes.Count(removed, []byte("\n")) > 0 || len(added) > len("/new/data/wal")+2) || bytes.Count(removed, []byte("\n")) != bytes.Count(added, []byte("\n")) {
				t.Fatalf("more was edited: %q for %q", added, removed)
			}
			files[edit.Path] = string(edit.New)
		}
		now := read()
		if now == nil || now.DataDir.HostPath != to[DataDir] || now.Name != e.Name || to[WALDir] != "" && now.WALDir.HostPath != to[WALDir] {
			t.Fatalf("edited, and read as %+v", now)
		}
		if simple.MatchString(was[DataDir]) && (was[WALDir] == "" || simple.MatchString(was[WALDir])) {
			if _, err := now.SetDirs(was); err != nil {
				t.Fatalf("can't be reverted: %v", err)
			}
		}
	})
}

// between is what of a was replaced by what.
func between(a, b []byte) (removed, added []byte) {
	head, tail := 0, 0
	for head < len(a) && head < len(b) && a[head] == b[head] {
		head++
	}
	for tail < len(a)-head && tail < len(b)-head && a[len(a)-1-tail] == b[len(b)-1-tail] {
		tail++
	}
	return a[head : len(a)-tail], b[head : len(b)-tail]
}
