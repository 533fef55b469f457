package unit

import (
	"bytes"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"testing"

	"etcd-rewind/problem"
)

// disk is a host whose files are these; a program begins with "\x7fELF".
func disk(files map[string]string) Host {
	get := func(name string) ([]byte, error) {
		if data, ok := files[name]; ok {
			return []byte(data), nil
		}
		return nil, fmt.Errorf("open %s: %w", name, fs.ErrNotExist)
	}
	return Host{
		Read: get,
		Head: func(name string) ([]byte, error) {
			data, err := get(name)
			if err != nil && slices.Contains([]string{"etcd", "kube-apiserver", "hyperkube", "docker", "podman", "nerdctl"}, path.Base(name)) {
				return []byte("\x7f"), nil
			}
			return data[:min(2, len(data))], err
		},
		Glob: func(pattern string) (found []string, err error) {
			for name := range files {
				if ok, _ := path.Match(pattern, name); ok {
					found = append(found, name)
				}
			}
			return found, nil
		},
		Specifier: func(letter byte) (string, bool) {
			v, ok := map[byte]string{'H': "etcd1.example", 'l': "etcd1"}[letter]
			return v, ok
		},
	}
}

const fragment = "/etc/systemd/system/etcd.service"

func service(t *testing.T, files map[string]string, dropIns ...string) *Service {
	t.Helper()
	name := "etcd.service"
	main := fragment
	for f := range files {
		if strings.HasSuffix(f, ".service") {
			main, name = f, path.Base(f)
		}
	}
	s, err := Read(Loaded{Name: name, Fragment: main, DropIns: dropIns}, disk(files))
	if err != nil {
		t.Fatal(problem.Line(err))
	}
	return s
}

func etcd(t *testing.T, files map[string]string, dropIns ...string) *Etcd {
	t.Helper()
	e, err := ReadEtcd(service(t, files, dropIns...))
	if err != nil {
		t.Fatal(problem.Line(err))
	}
	return e
}

const kubesprayEnv = `# Environment file for etcd 3.6.5
ETCD_DATA_DIR=/var/lib/etcd
ETCD_ADVERTISE_CLIENT_URLS=https://10.0.0.1:2379
ETCD_INITIAL_ADVERTISE_PEER_URLS=https://10.0.0.1:2380
ETCD_INITIAL_CLUSTER_STATE=existing

ETCD_METRICS=basic
ETCD_LISTEN_CLIENT_URLS=https://10.0.0.1:2379,https://127.0.0.1:2379
ETCD_ELECTION_TIMEOUT=5000
ETCD_HEARTBEAT_INTERVAL=250
ETCD_INITIAL_CLUSTER_TOKEN=k8s_etcd
ETCD_LISTEN_PEER_URLS=https://10.0.0.1:2380
ETCD_NAME=etcd1
ETCD_PROXY=off
ETCD_INITIAL_CLUSTER=etcd1=https://10.0.0.1:2380,etcd2=https://10.0.0.2:2380
ETCD_SNAPSHOT_COUNT=100000
ETCD_QUOTA_BACKEND_BYTES=2147483648

# TLS settings
ETCD_TRUSTED_CA_FILE=/etc/ssl/etcd/ssl/ca.pem
ETCD_CERT_FILE=/etc/ssl/etcd/ssl/member-node1.pem
ETCD_KEY_FILE=/etc/ssl/etcd/ssl/member-node1-key.pem
ETCD_CLIENT_CERT_AUTH=true

ETCD_PEER_TRUSTED_CA_FILE=/etc/ssl/etcd/ssl/ca.pem
ETCD_PEER_CERT_FILE=/etc/ssl/etcd/ssl/member-node1.pem
ETCD_PEER_KEY_FILE=/etc/ssl/etcd/ssl/member-node1-key.pem
ETCD_PEER_CLIENT_CERT_AUTH=True



# CLI settings
ETCDCTL_ENDPOINTS=https://127.0.0.1:2379
ETCDCTL_CACERT=/etc/ssl/etcd/ssl/ca.pem
`

const kubesprayUnit = `[Unit]
Description=etcd
After=network.target

[Service]
Type=notify
User=root
EnvironmentFile=/etc/etcd.env
ExecStart=/usr/local/bin/etcd
NotifyAccess=all
Restart=always
RestartSec=10s
LimitNOFILE=40000

[Install]
WantedBy=multi-user.target
`

const kubesprayScript = `#!/bin/bash
/usr/bin/docker run \
  --restart=on-failure:5 \
  --env-file=/etc/etcd.env \
  --net=host \
  -v /etc/ssl/certs:/etc/ssl/certs:ro \
  -v /etc/ssl/etcd/ssl:/etc/ssl/etcd/ssl:ro \
  -v /var/lib/etcd:/var/lib/etcd:rw \
  --memory=512M \
  --blkio-weight=1000 \
  --name=etcd1 \
  quay.io/coreos/etcd:v3.5.21 \
  /usr/local/bin/etcd \
  "$@"
`

// A row of every way in which etcd is set up under systemd.
func TestEveryWayToSetEtcdUpIsRead(t *testing.T) {
	for _, c := range []struct {
		name    string
		files   map[string]string
		dropIns []string
		at      string // where the data directory stands
		dir     string
		edited  string // the line with the new value
		member  string
		managed bool
	}{
		{
			name:  "kubespray on the host",
			files: map[string]string{fragment: kubesprayUnit, "/etc/etcd.env": kubesprayEnv},
			at:    "/etc/etcd.env:2", dir: "/var/lib/etcd", edited: "ETCD_DATA_DIR=/var/lib/etcd-new", member: "etcd1",
		},
		{
			name: "kubespray in docker",
			files: map[string]string{
				fragment: `[Service]
User=root
PermissionsStartOnly=true
EnvironmentFile=-/etc/etcd.env
ExecStart=/usr/local/bin/etcd
ExecStartPre=-/usr/bin/docker rm -f etcd1
ExecStop=/usr/bin/docker stop etcd1
Restart=always
RestartSec=15s
TimeoutStartSec=30s
`, "/usr/local/bin/etcd": kubesprayScript, "/etc/etcd.env": kubesprayEnv,
			},
			at: "/usr/local/bin/etcd:8", dir: "/var/lib/etcd", edited: `  -v /var/lib/etcd-new:/var/lib/etcd:rw \`, member: "etcd1",
		},
		{
			name: "kubespray's second cluster, for events",
			files: map[string]string{
				"/etc/systemd/system/etcd-events.service": strings.ReplaceAll(kubesprayUnit, "etcd.env", "etcd-events.env"),
				"/etc/etcd-events.env":                    "ETCD_DATA_DIR=/var/lib/etcd-events\nETCD_NAME=etcd1-events\nETCD_LISTEN_CLIENT_URLS=https://10.0.0.1:2383,https://127.0.0.1:2383\n",
			},
			at: "/etc/etcd-events.env:1", dir: "/var/lib/etcd-events", edited: "ETCD_DATA_DIR=/var/lib/etcd-new", member: "etcd1-events",
		},
		{
			name: "kubekey",
			files: map[string]string{
				fragment: `[Service]
User=root
Type=notify
Nice=-20
OOMScoreAdjust=-1000
EnvironmentFile=/etc/etcd.env
ExecStart=/usr/local/bin/etcd
NotifyAccess=all
RestartSec=10s
LimitNOFILE=40000
Restart=always
TimeoutStartSec=10min
`, "/etc/etcd.env": "# Environment file for etcd v3.5.13\r\nETCD_DATA_DIR=/var/lib/etcd\r\nETCD_NAME=etcd-node1\r\nETCD_CERT_FILE=/etc/ssl/etcd/ssl/server.crt\r\n",
			},
			at: "/etc/etcd.env:2", dir: "/var/lib/etcd", edited: "ETCD_DATA_DIR=/var/lib/etcd-new\r", member: "etcd-node1",
		},
		{
			name: "etcdadm",
			files: map[string]string{
				fragment:             "[Service]\nEnvironmentFile=/etc/etcd/etcd.env\nExecStart=/opt/bin/etcd\nType=notify\n",
				"/etc/etcd/etcd.env": "ETCD_NAME=node1\n\n# Initial cluster\nETCD_INITIAL_CLUSTER=node1=https://10.0.0.1:2380\n# Other\nETCD_DATA_DIR=/var/lib/etcd\nETCD_STRICT_RECONFIG_CHECK=true\n",
			},
			at: "/etc/etcd/etcd.env:6", dir: "/var/lib/etcd", edited: "ETCD_DATA_DIR=/var/lib/etcd-new", member: "node1",
		},
		{
			name: "Debian's package, with the settings in /etc/default",
			files: map[string]string{
				"/lib/systemd/system/etcd.service": debianUnit,
				"/etc/default/etcd":                "## etcd(1) daemon options\nETCD_DATA_DIR=\"/var/lib/etcd/default\"   \nETCD_NAME='etcd-1'\n",
			},
			at: "/etc/default/etcd:2", dir: "/var/lib/etcd/default", edited: `ETCD_DATA_DIR="/var/lib/etcd-new"   `, member: "etcd-1",
		},
		{
			name: "Debian's package, with $DAEMON_ARGS",
			files: map[string]string{
				"/lib/systemd/system/etcd.service": strings.ReplaceAll(debianUnit, "Environment=ETCD_", "#"),
				"/etc/default/etcd":                "DAEMON_ARGS=\"--name etcd-1 --data-dir /srv/etcd --listen-client-urls=https://10.0.0.1:2379\"\n",
			},
			at: "/etc/default/etcd:1", dir: "/srv/etcd", edited: `DAEMON_ARGS="--name etcd-1 --data-dir /var/lib/etcd-new --listen-client-urls=https://10.0.0.1:2379"`, member: "etcd-1",
		},
		{
			name: "RHEL's package",
			files: map[string]string{
				"/usr/lib/systemd/system/etcd.service": `[Service]
Type=notify
WorkingDirectory=/var/lib/etcd/
EnvironmentFile=-/etc/etcd/etcd.conf
User=etcd
# set GOMAXPROCS to number of processors
ExecStart=/bin/bash -c "GOMAXPROCS=$(nproc) /usr/bin/etcd --name=\"${ETCD_NAME}\" --data-dir=\"${ETCD_DATA_DIR}\" --listen-client-urls=\"${ETCD_LISTEN_CLIENT_URLS}\""
Restart=on-failure
LimitNOFILE=65536
`, "/etc/etcd/etcd.conf": "#[Member]\n#ETCD_CORS=\"\"\nETCD_DATA_DIR=\"/var/lib/etcd/default.etcd\"\n#ETCD_WAL_DIR=\"\"\nETCD_LISTEN_CLIENT_URLS=\"http://localhost:2379\"\nETCD_NAME=\"default\"\n",
			},
			at: "/etc/etcd/etcd.conf:3", dir: "/var/lib/etcd/default.etcd", edited: `ETCD_DATA_DIR="/var/lib/etcd-new"`, member: "default",
		},
		{
			name: "by hand, lines continued by backslashes",
			files: map[string]string{fragment: `[Unit]
Description=etcd

[Service]
Type=notify
ExecStart=/usr/local/bin/etcd \
  --name controller-0 \
  --cert-file=/etc/etcd/kubernetes.pem \
# the data is on the fast disk
  --data-dir=/var/lib/etcd \
  --listen-client-urls https://10.240.0.10:2379,https://127.0.0.1:2379
Restart=on-failure
`},
			at: fragment + ":10", dir: "/var/lib/etcd", edited: `  --data-dir=/var/lib/etcd-new \`, member: "controller-0",
		},
		{
			name: "etcd's own file",
			files: map[string]string{
				fragment:                   "[Service]\nEnvironment=ETCD_DATA_DIR=/not/this/one ETCD_NAME=not-this\nExecStart=/usr/bin/etcd --config-file /etc/etcd/etcd.conf.yml --name neither\n",
				"/etc/etcd/etcd.conf.yml":  "# This is the configuration file for the etcd server.\nname: 'm1'\ndata-dir: '/var/lib/etcd' # the data\nlisten-client-urls: https://10.0.0.1:2379\nclient-transport-security:\n  cert-file: /etc/etcd/server.crt\n  client-cert-auth: true\npeer-transport-security:\n  cert-file: /etc/etcd/peer.crt\n",
				"/etc/etcd/something-else": "",
			},
			at: "/etc/etcd/etcd.conf.yml:3", dir: "/var/lib/etcd", edited: "data-dir: '/var/lib/etcd-new' # the data", member: "m1",
		},
		{
			name: "etcd's own file, by its variable",
			files: map[string]string{
				fragment:              "[Service]\nEnvironment=ETCD_CONFIG_FILE=/etc/etcd.yaml\nExecStart=/usr/bin/etcd\n",
				"/etc/etcd.yaml":      "{\"name\": \"m1\", \"data-dir\": \"/var/lib/etcd\"}\n",
				"/etc/something-else": "",
			},
			at: "/etc/etcd.yaml:1", dir: "/var/lib/etcd", edited: `{"name": "m1", "data-dir": "/var/lib/etcd-new"}`, member: "m1",
		},
		{
			name: "a drop-in resets the command",
			files: map[string]string{
				fragment: "[Service]\nExecStart=/usr/bin/etcd --data-dir=/old\n",
				"/etc/systemd/system/etcd.service.d/10-data.conf": "[Service]\n; ours\nExecStart=\nExecStart=/usr/bin/etcd --name=%l \"--data-dir=/data/%p\"\n",
			},
			dropIns: []string{"/etc/systemd/system/etcd.service.d/10-data.conf"},
			at:      "/etc/systemd/system/etcd.service.d/10-data.conf:4", dir: "/data/etcd", edited: `ExecStart=/usr/bin/etcd --name=%l "--data-dir=/var/lib/etcd-new"`, member: "etcd1",
		},
		{
			name: "podman, with --mount",
			files: map[string]string{fragment: `[Service]
ExecStart=/usr/bin/podman run --rm --name etcd --net host --env ETCD_NAME=m1 -e ETCD_DATA_DIR=/data/etcd --mount type=bind,source=/srv/etcd,target=/data quay.io/coreos/etcd:v3.6.5 etcd
`},
			at: fragment + ":2", dir: "/srv/etcd", edited: "ExecStart=/usr/bin/podman run --rm --name etcd --net host --env ETCD_NAME=m1 -e ETCD_DATA_DIR=/data/etcd --mount type=bind,source=/var/lib/etcd-new,target=/data quay.io/coreos/etcd:v3.6.5 etcd", member: "m1",
		},
		{
			name: "nerdctl",
			files: map[string]string{fragment: `[Service]
ExecStartPre=-/usr/local/bin/nerdctl --namespace etcd rm -f etcd
ExecStart=/usr/local/bin/nerdctl --namespace etcd run --rm --name etcd --net host -v /srv/etcd:/var/lib/etcd -v /etc/etcd/pki:/pki:ro \
  registry.k8s.io/etcd:3.6.5-0 etcd --name=m1 --data-dir=/var/lib/etcd/default --cert-file=/pki/server.crt
`},
			at: fragment + ":3", dir: "/srv/etcd",
			edited: "ExecStart=/usr/local/bin/nerdctl --namespace etcd run --rm --name etcd --net host -v /var/lib/etcd-new:/var/lib/etcd -v /etc/etcd/pki:/pki:ro \\", member: "m1",
		},
		{
			name: "two environment files, of which the last holds",
			files: map[string]string{
				fragment:               "[Service]\nEnvironment=ETCD_DATA_DIR=/not/this\nEnvironmentFile=/etc/etcd/common.env\nEnvironmentFile=/etc/etcd/node.env\nExecStart=/usr/bin/etcd\n",
				"/etc/etcd/common.env": "ETCD_NAME=m1\nETCD_DATA_DIR=/var/lib/common\n",
				"/etc/etcd/node.env":   "ETCD_DATA_DIR=/var/lib/node\n",
			},
			at: "/etc/etcd/node.env:1", dir: "/var/lib/node", edited: "ETCD_DATA_DIR=/var/lib/etcd-new", member: "m1",
		},
		{
			name: "several environment files, of which the last may be absent, and is",
			files: map[string]string{
				fragment:               "[Service]\nEnvironmentFile=/etc/reset.env\nEnvironmentFile=\nEnvironmentFile=/etc/etcd/common.env\nEnvironmentFile=-/etc/etcd/absent.env\nExecStart=/usr/bin/etcd\n",
				"/etc/etcd/common.env": "ETCD_NAME=m1\nETCD_DATA_DIR=/var/lib/common\n",
				"/etc/reset.env":       "ETCD_NAME=not-this\n",
			},
			at: "/etc/etcd/common.env:2", dir: "/var/lib/common", edited: "ETCD_DATA_DIR=/var/lib/etcd-new", member: "m1",
		},
		{
			name: "etcd's own file, named by an environment file",
			files: map[string]string{
				fragment:              "[Service]\nEnvironmentFile=-/etc/etcd/etcd.env\nExecStart=/usr/bin/etcd --data-dir=/not/this\n",
				"/etc/etcd/etcd.env":  "ETCD_CONFIG_FILE=\"/etc/etcd/etcd.yaml\"\nETCD_NAME=neither\n",
				"/etc/etcd/etcd.yaml": "name: m1\ndata-dir: /var/lib/etcd\n",
			},
			at: "/etc/etcd/etcd.yaml:2", dir: "/var/lib/etcd", edited: "data-dir: /var/lib/etcd-new", member: "m1",
		},
		{
			name: "etcd's own file, named by a script",
			files: map[string]string{
				fragment:                  "[Service]\nExecStart=/usr/local/bin/run-etcd /etc/etcd\n",
				"/usr/local/bin/run-etcd": "#!/bin/bash\nexport ETCD_CONFIG_FILE=\"$1/etcd.yaml\"\nexec /usr/bin/etcd\n",
				"/etc/etcd/etcd.yaml":     "name: m1\ndata-dir: \"/var/lib/etcd\"\n",
			},
			at: "/etc/etcd/etcd.yaml:2", dir: "/var/lib/etcd", edited: "data-dir: \"/var/lib/etcd-new\"", member: "m1",
		},
		{
			name: "a script that reads variables",
			files: map[string]string{
				fragment:                    "[Service]\nExecStart=/usr/local/bin/start-etcd\n",
				"/usr/local/bin/start-etcd": "#!/bin/sh\nset -eu\nset -a; . /etc/etcd.sh; set +a\nulimit -n 65536\nexec /usr/bin/etcd --name \"$NODE\" >>/var/log/etcd.log 2>&1\n",
				"/etc/etcd.sh":              "# Managed by Puppet, do not edit\nNODE=m1\nETCD_DATA_DIR=/var/lib/etcd\n",
			},
			at: "/etc/etcd.sh:3", dir: "/var/lib/etcd", edited: "ETCD_DATA_DIR=/var/lib/etcd-new", member: "m1", managed: true,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := etcd(t, c.files, c.dropIns...)
			if e.DataDir.HostPath != c.dir || e.Name != c.member {
				t.Errorf("%s has its data in %s", e.Name, e.DataDir.HostPath)
			}
			if len(e.Twice) > 0 && !strings.Contains(c.name, "RHEL") {
				t.Errorf("twice: %+v", e.Twice)
			}
			if line, at := e.Managed(); (line != "") != c.managed {
				t.Errorf("managed: %q, %s", line, at)
			}
			edits, err := e.SetDirs(map[string]string{DataDir: "/var/lib/etcd-new"})
			if err != nil {
				t.Fatal(problem.Line(err))
			}
			if len(edits) != 1 || len(edits[0].Places) != 1 || edits[0].Places[0].String() != c.at {
				t.Fatalf("edits: %+v", edits)
			}
			file, _, _ := strings.Cut(c.at, ":")
			if edits[0].Reload != strings.Contains(file, "etcd.service") {
				t.Errorf("reload: %v", edits[0].Reload)
			}
			before, after := strings.Split(c.files[file], "\n"), strings.Split(string(edits[0].New), "\n")
			line := edits[0].Places[0].Line - 1
			if len(before) != len(after) || after[line] != c.edited {
				t.Fatalf("edited to\n%s", edits[0].New)
			}
			after[line] = before[line]
			if strings.Join(after, "\n") != c.files[file] {
				t.Errorf("more was edited:\n%s", edits[0].New)
			}
			// And back again.
			c.files[file] = string(edits[0].New)
			back, err := etcd(t, c.files, c.dropIns...).SetDirs(map[string]string{DataDir: c.dir})
			if err != nil || !bytes.Equal(back[0].New, edits[0].Old) && !strings.Contains(string(edits[0].Old), "%p") {
				t.Errorf("back: %v, %+v", err, back)
			}
		})
	}
}

const debianUnit = `[Unit]
Description=etcd - highly-available key value store
After=network.target

[Service]
Environment=DAEMON_ARGS=
Environment=ETCD_NAME=%H
Environment=ETCD_DATA_DIR=/var/lib/etcd/default
EnvironmentFile=-/etc/default/%p
Type=notify
User=etcd
PermissionsStartOnly=true
#ExecStart=/bin/sh -c "GOMAXPROCS=$(nproc) /usr/bin/etcd $DAEMON_ARGS"
ExecStart=/usr/bin/etcd $DAEMON_ARGS
Restart=on-abnormal
LimitNOFILE=65536

[Install]
WantedBy=multi-user.target
`

func TestASettingThatIsGivenTwiceIsSeen(t *testing.T) {
	e := etcd(t, map[string]string{
		fragment: "[Service]\nEnvironment=ETCD_DATA_DIR=/var/lib/etcd ETCD_NAME= ETCD_WAL_DIR=/wal\nExecStart=/usr/bin/etcd --data-dir=/srv/etcd --name=m1\n",
	})
	if len(e.Twice) != 2 || e.Twice[0].Flag.Value != "/srv/etcd" || e.Twice[0].Variable.As != "ETCD_DATA_DIR" || e.Twice[1].Flag.Name != "name" {
		t.Errorf("%+v", e.Twice)
	}
	if e.DataDir.HostPath != "/srv/etcd" || e.WALDir == nil || e.WALDir.HostPath != "/wal" {
		t.Errorf("data in %+v, WAL in %+v", e.DataDir, e.WALDir)
	}
}

// What can't be understood is refused with what was read.
func TestWhatIsNotUnderstoodIsRefused(t *testing.T) {
	for _, c := range []struct{ name, unit, code, says string }{
		{"another program", "ExecStart=/usr/bin/postgres -D /var/lib/etcd", CodeUnreadable, "/usr/bin/postgres"},
		{"no command", "Type=notify", CodeNoEtcd, "no ExecStart"},
		{"two commands", "ExecStart=/usr/bin/etcd\nExecStart=/usr/bin/etcd --name x", CodeSyntax, "more than one ExecStart"},
		{"a quote that doesn't end", `ExecStart=/usr/bin/etcd "--data-dir=/x`, CodeSyntax, "quotes"},
		{"a container without a directory of the host", "ExecStart=/usr/bin/docker run --name etcd quay.io/coreos/etcd:v3.6.5 etcd --data-dir /data", CodeContainer, "no directory of the host"},
		{"a volume of docker's", "ExecStart=/usr/bin/docker run -v etcd:/data quay.io/coreos/etcd:v3.6.5 etcd --data-dir /data", CodeContainer, "volume of docker's"},
		{"a container that was made before", "ExecStart=/usr/bin/docker start -a etcd", CodeContainer, "not by \"run\""},
		{"a shell that does more", `ExecStart=/bin/sh -c "if true; then /usr/bin/etcd; fi"`, CodeShell, "if"},
		{"a pipe", `ExecStart=/bin/sh -c "/usr/bin/etcd | tee /log"`, CodeShell, "|"},
		{"a value that the shell makes", `ExecStart=/bin/sh -c "/usr/bin/etcd --data-dir=$(cat /etc/dir)"`, CodeUnknown, "cat /etc/dir"},
		{"a variable that systemd makes", `ExecStart=/bin/sh -c 'exec /usr/bin/etcd --data-dir=$$STATE_DIRECTORY'`, CodeUnknown, "STATE_DIRECTORY"},
		{"other files than the host's", "RootDirectory=/srv/etcd-root\nExecStart=/usr/bin/etcd", CodeSandbox, "RootDirectory"},
		{"an environment file that isn't there", "EnvironmentFile=/etc/absent\nExecStart=/usr/bin/etcd", CodeUnreadable, "/etc/absent"},
		{"one of two environment files that isn't there", "EnvironmentFile=-/etc/absent-too\nEnvironmentFile=/etc/absent\nExecStart=/usr/bin/etcd", CodeUnreadable, "the environment file /etc/absent"},
		{"a proxy", "ExecStart=/usr/bin/etcd grpc-proxy start", CodeNoEtcd, "grpc-proxy"},
		{"a path with ..", "ExecStart=/usr/bin/etcd --data-dir=/a\x1bb", "argument", "no path"},
		{"a specifier that only systemd knows", "ExecStart=/usr/bin/etcd --data-dir=%d/x", CodeUnknown, "%d"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := Read(Loaded{Name: "etcd.service", Fragment: fragment}, disk(map[string]string{fragment: "[Service]\n" + c.unit + "\n"}))
			if err == nil {
				_, err = ReadEtcd(s)
			}
			if p := problem.Of(err); p == nil || p.Code != c.code || !strings.Contains(p.Cause, c.says) {
				t.Errorf("%v (%+v)", err, p)
			}
		})
	}
}

// What can't be edited is said, with what helps.
func TestWhatCannotBeEditedIsSaid(t *testing.T) {
	for _, c := range []struct {
		name, says string
		files      map[string]string
	}{
		{"a package's file", "a package's", map[string]string{"/lib/systemd/system/etcd.service": debianUnit}},
		{"a template", "all instances", map[string]string{"/etc/systemd/system/etcd@m1.service": "", "/etc/systemd/system/etcd@.service": "[Service]\nExecStart=/usr/bin/etcd --data-dir=/var/lib/etcd/%i\n"}},
		{"a value of two parts", "made of several", map[string]string{fragment: "[Service]\nEnvironment=BASE=/var/lib\nExecStart=/usr/bin/etcd --data-dir=${BASE}/etcd\n"}},
		{"etcd's default", "default", map[string]string{fragment: "[Service]\nWorkingDirectory=/var/lib\nExecStart=/usr/bin/etcd --name m1\n"}},
		{"a value that more depends on", "too", map[string]string{fragment: "[Service]\nEnvironment=D=/var/lib/etcd\nExecStart=/usr/bin/etcd --data-dir=${D} --cert-file=${D}\n"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var s *Service
			if c.name == "a template" {
				var err error
				if s, err = Read(Loaded{Name: "etcd@m1.service", Fragment: "/etc/systemd/system/etcd@.service"}, disk(c.files)); err != nil {
					t.Fatal(err)
				}
			} else {
				s = service(t, c.files)
			}
			e, err := ReadEtcd(s)
			if err != nil {
				t.Fatal(err)
			}
			edits, err := e.SetDirs(map[string]string{DataDir: "/var/lib/etcd-new"})
			if p := problem.Of(err); p == nil || p.Code != CodeCannotEdit || !strings.Contains(p.Cause, c.says) || !strings.Contains(p.Hint, "--swap") {
				t.Errorf("%v, %+v", err, edits)
			}
		})
	}
}

// What the unit doesn't let etcd write is no place for its data.
func TestADirectoryThatTheUnitLocksIsRefused(t *testing.T) {
	for _, c := range []struct{ locks, to, says string }{
		{"ProtectSystem=strict\nReadWritePaths=/var/lib/etcd", "/var/lib/etcd-new", "ProtectSystem=strict"},
		{"ProtectSystem=strict\nReadWritePaths=-/var/lib/etcd /srv", "/srv/etcd-new", ""},
		{"ProtectSystem=strict\nProtectSystem=full", "/var/lib/etcd-new", ""},
		{"ProtectSystem=full", "/etc/etcd-new", "ProtectSystem=full"},
		{"ProtectHome=true", "/root/etcd-new", "ProtectHome=true"},
		{"DynamicUser=yes\nStateDirectory=etcd", "/var/lib/etcd-new", "DynamicUser=yes"},
		{"DynamicUser=yes\nStateDirectory=etcd", "/var/lib/etcd/new", ""},
		{"ReadOnlyPaths=/var\nReadOnlyPaths=", "/var/lib/etcd-new", ""},
		{"ReadOnlyPaths=/var/lib", "/var/lib/etcd-new", "ReadOnlyPaths=/var/lib"},
		{"ProtectSystem=no", "/etc/etcd-new", ""},
	} {
		e := etcd(t, map[string]string{fragment: "[Service]\n" + c.locks + "\nExecStart=/usr/bin/etcd --data-dir=/var/lib/etcd\n"})
		_, err := e.SetDirs(map[string]string{DataDir: c.to})
		if c.says == "" && err != nil || c.says != "" && (!problem.HasCode(err, CodeSandbox) || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s, to %s: %v", c.locks, c.to, err)
		}
	}
}

// A WAL of its own moves with its own value, and one that is named after the data
// directory moves with that.
func TestTheWALMovesToo(t *testing.T) {
	own := map[string]string{fragment: "[Service]\nExecStart=/usr/bin/etcd --data-dir=/var/lib/etcd --wal-dir=/fast/wal\n"}
	edits, err := etcd(t, own).SetDirs(map[string]string{DataDir: "/var/lib/etcd-new", WALDir: "/fast/wal-new"})
	if err != nil || len(edits) != 1 || len(edits[0].Places) != 2 || !strings.Contains(string(edits[0].New), "--data-dir=/var/lib/etcd-new --wal-dir=/fast/wal-new\n") {
		t.Errorf("%v, %+v", err, edits)
	}
	named := map[string]string{
		fragment:        "[Service]\nEnvironmentFile=/etc/etcd.env\nExecStart=/usr/bin/etcd --data-dir=${DIR} --wal-dir=${DIR}/wal\n",
		"/etc/etcd.env": "DIR=/var/lib/etcd\n",
	}
	edits, err = etcd(t, named).SetDirs(map[string]string{DataDir: "/var/lib/etcd-new", WALDir: "/var/lib/etcd-new/wal"})
	if err != nil || len(edits) != 1 || string(edits[0].New) != "DIR=/var/lib/etcd-new\n" {
		t.Errorf("%v, %+v", err, edits)
	}
	if edits, err = etcd(t, named).SetDirs(map[string]string{DataDir: "/var/lib/etcd-new", WALDir: "/fast/wal"}); err == nil {
		t.Errorf("%+v", edits)
	}
}
