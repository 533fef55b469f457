package steps

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"etcd-rewind/node"
	"etcd-rewind/snapshot"
	"etcd-rewind/unit"
)

// inSystemd has the fake node's etcd be a service, and no pod: what newFakeNode
// leaves out of kubelet's manifests. allInSystemd has every part be one.
const (
	inSystemd    = "etcd as a unit"
	allInSystemd = "the control plane as units"
)

// fakeSystemd runs services from real files: etcd.service, an etcd that serves
// what lies in ETCD_DATA_DIR of its environment file, of Type=notify and with
// Restart=always, as kubespray's; the others as "the hard way" has them.
type fakeSystemd struct {
	*fakeUnit // etcd.service
	n         *fakeNode
	env       string // etcd's environment file
	on        string // the data that its process was started on
	units     map[string]*fakeUnit
	left      []string          // other units that somebody told to start or stop
	told      []string          // all that somebody told it
	states    map[string]string // of units that are named by others
}

type fakeUnit struct {
	name    string
	active  string
	sub     string
	result  string
	starts  int
	restart int
	since   time.Time // of the state
	broken  bool      // its process ends at once
	given   int       // starts until systemd gives up, 0 for never
	limit   int       // how often it may be started by hand, 0 for always
	counted int       // those starts, as systemd counts them
	slow    time.Duration
	stops   time.Duration // how long it takes to end
	log     []string
	is      node.Unit // what else systemd says of it
}

const fakeUnitFile = `[Unit]
Description=etcd

[Service]
Type=notify
EnvironmentFile=%s
ExecStart=/usr/local/bin/etcd
Restart=always
RestartSec=10s
LimitNOFILE=40000

[Install]
WantedBy=multi-user.target
`

func newFakeSystemd(n *fakeNode, all bool) *fakeSystemd {
	s := &fakeSystemd{n: n, env: filepath.Join(n.root, "etc/etcd.env"), units: map[string]*fakeUnit{}, states: map[string]string{}}
	if err := os.MkdirAll(filepath.Join(n.root, "etc/systemd/system"), 0o755); err != nil {
		n.t.Fatal(err)
	}
	n.write("etc/etcd.env", []byte("# ours\nETCD_DATA_DIR="+filepath.Join(n.root, "lib/etcd")+"\nETCD_NAME=cp1\n"+
		"ETCD_LISTEN_CLIENT_URLS=https://127.0.0.1:2379\nETCD_ADVERTISE_CLIENT_URLS=https://127.0.0.1:2379\n"+
		"ETCD_LISTEN_PEER_URLS=https://10.77.0.11:2380\nETCD_INITIAL_ADVERTISE_PEER_URLS=https://10.77.0.11:2380\n"))
	files := map[string]string{"etcd.service": fmt.Sprintf(fakeUnitFile, s.env)}
	if all {
		files["kube-apiserver.service"] = "[Service]\nExecStart=/usr/local/bin/kube-apiserver \\\n  --advertise-address=10.77.0.11 \\\n  --etcd-servers=https://127.0.0.1:2379\nRestart=on-failure\n"
		for _, name := range node.Kubeadm.Controllers {
			files[name+".service"] = "[Service]\nExecStart=/usr/local/bin/" + name + "\nRestart=on-failure\n"
		}
	}
	for name, text := range files {
		n.write("etc/systemd/system/"+name, []byte(text))
		s.units[name] = &fakeUnit{name: name, active: "inactive", sub: "dead", stops: 5 * time.Millisecond}
	}
	s.fakeUnit = s.units["etcd.service"]
	s.boot()
	return s
}

// found is how discovery asks it.
func (s *fakeSystemd) found() *systemd {
	return &systemd{
		services: func(_ context.Context, called string) (names []string, _ error) {
			for name := range s.units {
				if strings.HasPrefix(name, called) {
					names = append(names, name)
				}
			}
			slices.Sort(names)
			return names, nil
		},
		ask:    s.n.Unit,
		states: func(context.Context, []string) map[string]string { return s.states },
		host:   unit.Host{Head: func(string) ([]byte, error) { return []byte("\x7fELF"), nil }},
	}
}

var dataDir = regexp.MustCompile(`(?m)^ETCD_DATA_DIR=(.*)$`)

// etcd is the data that it runs on, and whether it serves. The node's lock is
// held.
func (s *fakeSystemd) etcd() (dir string, runs bool) {
	s.pass(s.fakeUnit)
	return s.on, s.up()
}

// runs says whether a service does, or nothing of one that isn't there.
func (s *fakeSystemd) runs(name string) bool {
	u := s.units[name]
	if u == nil {
		return false
	}
	s.pass(u)
	return u.up()
}

func (u *fakeUnit) up() bool {
	return u.active == "active" || u.active == "activating" && u.sub == "start"
}

// pass lets time pass for a service.
func (s *fakeSystemd) pass(u *fakeUnit) {
	for range 20 {
		over := time.Since(u.since)
		switch {
		case u.active == "deactivating" && over > u.stops:
			u.become("inactive", "dead")
		case u.active == "activating" && u.sub == "start" && u.broken:
			u.result = "exit-code"
			if u.given > 0 && u.restart+1 >= u.given {
				u.result = "start-limit-hit"
				u.become("failed", "failed")
				return
			}
			u.become("activating", "auto-restart")
		case u.active == "activating" && u.sub == "start" && over > u.slow:
			u.become("active", "running")
		case u.active == "activating" && u.sub == "auto-restart" && over > 10*time.Millisecond:
			u.restart++
			s.begin(u)
		default:
			return
		}
	}
}

func (u *fakeUnit) become(active, sub string) {
	u.active, u.sub, u.since = active, sub, time.Now()
}

func (s *fakeSystemd) begin(u *fakeUnit) {
	u.starts++
	u.become("activating", "start")
	if u != s.fakeUnit {
		return
	}
	data, err := os.ReadFile(s.env)
	if err != nil {
		u.broken = true
	} else if m := dataDir.FindSubmatch(data); m != nil {
		s.on = string(m[1])
	}
	// etcd makes a directory that isn't there: a blank cluster.
	if _, err := os.Stat(s.on); os.IsNotExist(err) {
		s.n.writeData(s.on, snapshot.Restored{ClusterID: blankCluster, Revision: 1, Members: []snapshot.Member{{ID: 1, Name: "cp1"}}})
	}
}

// blankCluster is what etcd makes where it finds no data.
const blankCluster = 0xcccc

// boot is what systemd does when the machine starts: each service that is enabled
// runs again, whatever somebody had stopped before.
func (s *fakeSystemd) boot() {
	s.n.t.Helper()
	for name := range s.units {
		if err := s.tell("start", name); err != nil {
			s.n.t.Fatal(err)
		}
	}
	s.told = nil
}

func (s *fakeSystemd) tell(verb, name string) error {
	s.told = append(s.told, verb+" "+name)
	u := s.units[name]
	if u == nil {
		s.left = append(s.left, verb+" "+name)
		return errors.New("Unit " + name + " not loaded.")
	}
	s.pass(u)
	switch verb {
	case "stop":
		if u.active == "active" || u.active == "activating" {
			u.become("deactivating", "stop-sigterm")
			u.result = "success"
		}
	case "kill":
		switch {
		case u.active == "deactivating":
			u.result = "signal"
			u.become("failed", "failed")
		case u.up(): // Restart=
			u.become("activating", "auto-restart")
		}
	case "start":
		if u.active == "failed" && u.result == "start-limit-hit" {
			return errors.New("Start request repeated too quickly.")
		}
		if u.active == "inactive" || u.active == "deactivating" || u.active == "failed" {
			if u.counted++; u.limit > 0 && u.counted > u.limit {
				u.result = "start-limit-hit"
				u.become("failed", "failed")
				return errors.New("Start request repeated too quickly.")
			}
			u.restart = 0
			s.begin(u)
		}
	case "reset-failed":
		u.counted = 0
		if u.active == "failed" {
			u.result, u.restart = "success", 0
			u.become("inactive", "dead")
		}
	}
	return nil
}

// What follows is the world of the actions.

func (n *fakeNode) Unit(_ context.Context, name string) (*node.Unit, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.systemd == nil || n.systemd.units[name] == nil {
		return &node.Unit{Name: name, Load: "not-found", Active: "inactive", Sub: "dead"}, nil
	}
	s := n.systemd.units[name]
	n.systemd.pass(s)
	u := s.is
	u.Name, u.Load, u.Active, u.Sub, u.Result, u.Restarts = name, "loaded", s.active, s.sub, s.result, s.restart
	u.Invocation, u.Fragment = fmt.Sprint("start", s.starts), filepath.Join(n.root, "etc/systemd/system", name)
	u.Type, u.Restart, u.FileState = "notify", "always", "enabled"
	u.CanStart, u.CanStop, u.TimeoutStart, u.TimeoutStop = true, true, 90*time.Second, 90*time.Second
	if s.up() || s.active == "deactivating" {
		u.PID = 1000 + s.starts
	}
	return &u, nil
}

func (n *fakeNode) systemctl(verb, name string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.systemd == nil {
		return errors.New("System has not been booted with systemd as init system (PID 1).")
	}
	return n.systemd.tell(verb, name)
}

func (n *fakeNode) StopUnit(_ context.Context, name string) error { return n.systemctl("stop", name) }

func (n *fakeNode) KillUnit(_ context.Context, name string) error { return n.systemctl("kill", name) }

func (n *fakeNode) StartUnit(_ context.Context, name string) error { return n.systemctl("start", name) }

func (n *fakeNode) ResetUnit(_ context.Context, name string) error {
	return n.systemctl("reset-failed", name)
}
func (n *fakeNode) ReloadUnits(context.Context) error { return nil }

func (n *fakeNode) UnitLog(string, int) []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.systemd == nil {
		return nil
	}
	return append([]string{}, n.systemd.log...)
}

// env is the environment file as it is now.
func (s *fakeSystemd) envNow() string {
	data, err := os.ReadFile(s.env)
	if err != nil {
		s.n.t.Fatal(err)
	}
	return strings.TrimSpace(string(data))
}
