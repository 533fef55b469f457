package steps

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"etcd-rewind/node"
	"etcd-rewind/snapshot"
	"etcd-rewind/unit"
)

// inSystemd has the fake node's etcd be a service, and no pod: what newFakeNode
// leaves out of kubelet's manifests.
const inSystemd = "etcd as a unit"

// fakeSystemd runs one service, etcd.service, from real files: an etcd that
// serves what lies in ETCD_DATA_DIR of its environment file, of Type=notify and
// with Restart=always, as kubespray's.
type fakeSystemd struct {
	n       *fakeNode
	env     string // its environment file
	on      string // the data that its process was started on
	active  string
	sub     string
	result  string
	starts  int
	restart int
	since   time.Time // of the state
	broken  bool      // its process ends at once
	given   int       // starts until systemd gives up, 0 for never
	slow    time.Duration
	log     []string
	left    []string // other units that somebody told to start or stop
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

func newFakeSystemd(n *fakeNode) *fakeSystemd {
	s := &fakeSystemd{n: n, env: filepath.Join(n.root, "etc/etcd.env"), active: "inactive", sub: "dead"}
	if err := os.MkdirAll(filepath.Join(n.root, "etc/systemd/system"), 0o755); err != nil {
		n.t.Fatal(err)
	}
	n.write("etc/etcd.env", []byte("# ours\nETCD_DATA_DIR="+filepath.Join(n.root, "lib/etcd")+"\nETCD_NAME=cp1\n"+
		"ETCD_LISTEN_CLIENT_URLS=https://127.0.0.1:2379\nETCD_ADVERTISE_CLIENT_URLS=https://127.0.0.1:2379\n"+
		"ETCD_LISTEN_PEER_URLS=https://10.77.0.11:2380\nETCD_INITIAL_ADVERTISE_PEER_URLS=https://10.77.0.11:2380\n"))
	n.write("etc/systemd/system/etcd.service", fmt.Appendf(nil, fakeUnitFile, s.env))
	if err := s.tell("start", "etcd.service"); err != nil {
		n.t.Fatal(err)
	}
	return s
}

// found is how discovery asks it.
func (s *fakeSystemd) found() *systemd {
	return &systemd{
		services: func(context.Context, string) ([]string, error) { return []string{"etcd.service"}, nil },
		ask:      s.n.Unit,
		host:     unit.Host{Head: func(string) ([]byte, error) { return []byte("\x7fELF"), nil }},
	}
}

var dataDir = regexp.MustCompile(`(?m)^ETCD_DATA_DIR=(.*)$`)

// etcd is the data that it runs on, and whether it serves. The node's lock is
// held.
func (s *fakeSystemd) etcd() (dir string, runs bool) {
	s.pass()
	return s.on, s.active == "active" || s.active == "activating" && s.sub == "start"
}

// pass lets time pass for the service.
func (s *fakeSystemd) pass() {
	for range 20 {
		over := time.Since(s.since)
		switch {
		case s.active == "deactivating" && over > 5*time.Millisecond:
			s.become("inactive", "dead")
		case s.active == "activating" && s.sub == "start" && s.broken:
			s.result = "exit-code"
			if s.given > 0 && s.restart+1 >= s.given {
				s.result = "start-limit-hit"
				s.become("failed", "failed")
				return
			}
			s.become("activating", "auto-restart")
		case s.active == "activating" && s.sub == "start" && over > s.slow:
			s.become("active", "running")
		case s.active == "activating" && s.sub == "auto-restart" && over > 10*time.Millisecond:
			s.restart++
			s.begin()
		default:
			return
		}
	}
}

func (s *fakeSystemd) become(active, sub string) {
	s.active, s.sub, s.since = active, sub, time.Now()
}

func (s *fakeSystemd) begin() {
	s.starts++
	s.become("activating", "start")
	data, err := os.ReadFile(s.env)
	if err != nil {
		s.broken = true
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
	if err := s.tell("start", "etcd.service"); err != nil {
		s.n.t.Fatal(err)
	}
}

func (s *fakeSystemd) tell(verb, name string) error {
	if name != "etcd.service" {
		s.left = append(s.left, verb+" "+name)
		return errors.New("Unit " + name + " not loaded.")
	}
	s.pass()
	switch verb {
	case "stop":
		if s.active == "active" || s.active == "activating" {
			s.become("deactivating", "stop-sigterm")
			s.result = "success"
		}
	case "start":
		if s.active == "failed" {
			return errors.New("Start request repeated too quickly.")
		}
		if s.active == "inactive" || s.active == "deactivating" {
			s.restart = 0
			s.begin()
		}
	case "reset-failed":
		if s.active == "failed" {
			s.result, s.restart = "success", 0
			s.become("inactive", "dead")
		}
	}
	return nil
}

// What follows is the world of the actions.

func (n *fakeNode) Unit(_ context.Context, name string) (*node.Unit, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := n.systemd
	if s == nil || name != "etcd.service" {
		return &node.Unit{Name: name, Load: "not-found", Active: "inactive", Sub: "dead"}, nil
	}
	s.pass()
	u := &node.Unit{
		Name: name, Load: "loaded", Active: s.active, Sub: s.sub, Result: s.result, Type: "notify", Restarts: s.restart,
		Invocation: fmt.Sprint("start", s.starts), Fragment: filepath.Join(n.root, "etc/systemd/system/etcd.service"), Restart: "always",
		TimeoutStart: 90 * time.Second, TimeoutStop: 90 * time.Second,
	}
	if s.active == "active" || s.sub == "start" || s.active == "deactivating" {
		u.PID = 1000 + s.starts
	}
	return u, nil
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
