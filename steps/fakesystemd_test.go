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
	"etcd-rewind/practice/conformance"
	"etcd-rewind/snapshot"
	"etcd-rewind/unit"
)

// inSystemd has the fake node's etcd be a service, and no pod: what newFakeNode
// leaves out of kubelet's manifests. ofTemplate has it be a template's instance,
// allInSystemd has every part be one.
const (
	inSystemd    = "etcd as a unit"
	ofTemplate   = "etcd as a template's instance"
	allInSystemd = "the control plane as units"
)

// systemdKind is which of them, "" for pods.
func systemdKind(without []string) string {
	for _, kind := range []string{inSystemd, ofTemplate, allInSystemd} {
		if slices.Contains(without, kind) {
			return kind
		}
	}
	return ""
}

// fakeSystemd runs services from real files: etcd.service, an etcd that serves
// what lies in ETCD_DATA_DIR of its environment file, of Type=notify and with
// Restart=always, as kubespray's; the others as "the hard way" has them. It keeps
// systemd's rules, as conformance.SystemdRules has them.
type fakeSystemd struct {
	*fakeUnit // etcd.service
	n         *fakeNode
	env       string // the file with etcd's variables
	on        string // the data that its process was started on
	units     map[string]*fakeUnit
	left      []string          // other units that somebody told to start or stop
	told      []string          // all that somebody told it
	states    map[string]string // of units that are named by others
}

type fakeUnit struct {
	name   string
	active string
	sub    string
	starts int       // its processes
	since  time.Time // of the state
	asked  bool      // to stop
	queued bool      // a start that waits for its end
	begun  []time.Time
	read   time.Time            // its file, when it was loaded
	is     node.Unit            // what else systemd says of it
	next   *conformance.Service // what its file says since then

	broken bool          // its process ends at once
	waits  bool          // it never serves
	slow   time.Duration // until it serves
	stops  time.Duration // how long it takes to end
	loose  bool          // nothing refers to it
	log    []string
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

// etcdVariables are those of an etcd's settings.
func (n *fakeNode) etcdVariables(name, dir, port string) []string {
	return []string{
		"ETCD_DATA_DIR=" + filepath.Join(n.root, dir), "ETCD_NAME=" + name,
		"ETCD_LISTEN_CLIENT_URLS=https://127.0.0.1:" + port + "79", "ETCD_ADVERTISE_CLIENT_URLS=https://127.0.0.1:" + port + "79",
		"ETCD_LISTEN_PEER_URLS=https://10.77.0.11:" + port + "80", "ETCD_INITIAL_ADVERTISE_PEER_URLS=https://10.77.0.11:" + port + "80",
	}
}

// noServices is a systemd that runs nothing yet.
func noServices(n *fakeNode) *fakeSystemd {
	n.must(os.MkdirAll(filepath.Join(n.root, "etc/systemd/system"), 0o755))
	return &fakeSystemd{n: n, units: map[string]*fakeUnit{}, states: map[string]string{}}
}

func newFakeSystemd(n *fakeNode, kind string) *fakeSystemd {
	s := noServices(n)
	vars := n.etcdVariables("cp1", "lib/etcd", "23")
	if kind == ofTemplate {
		const file = "etcd@.service"
		s.env = s.file(file)
		n.write("etc/systemd/system/"+file, []byte("[Service]\nType=notify\nEnvironment="+strings.Replace(strings.Join(vars, "\nEnvironment="), "=cp1", "=%i", 1)+"\nExecStart=/usr/local/bin/etcd\nRestart=always\n"))
		s.fakeUnit = s.add("etcd@cp1.service", file)
	} else {
		s.env = filepath.Join(n.root, "etc/etcd.env")
		s.fakeUnit = s.beside("etcd", "lib/etcd", "23")
	}
	if kind == allInSystemd {
		service := func(program, flags string) {
			n.write("etc/systemd/system/"+program+".service", []byte("[Service]\nExecStart=/usr/local/bin/"+program+flags+"\nRestart=on-failure\n"))
			s.add(program+".service", program+".service")
		}
		service("kube-apiserver", " \\\n  --advertise-address=10.77.0.11 \\\n  --etcd-servers=https://127.0.0.1:2379")
		for _, name := range node.Kubeadm.Controllers {
			service(name, "")
		}
	}
	s.boot()
	return s
}

func (s *fakeSystemd) file(name string) string {
	return filepath.Join(s.n.root, "etc/systemd/system", name)
}

// beside is another etcd's service. The ports are those that begin so.
func (s *fakeSystemd) beside(name, dir, ports string) *fakeUnit {
	s.n.write("etc/"+name+".env", []byte("# ours\n"+strings.Join(s.n.etcdVariables(map[bool]string{true: "cp1", false: name}[name == "etcd"], dir, ports), "\n")+"\n"))
	s.n.write("etc/systemd/system/"+name+".service", fmt.Appendf(nil, fakeUnitFile, filepath.Join(s.n.root, "etc", name+".env")))
	return s.add(name+".service", name+".service")
}

// add loads a service, which is enabled and doesn't run.
func (s *fakeSystemd) add(name, file string) *fakeUnit {
	u := &fakeUnit{name: name, active: "inactive", sub: "dead", stops: 5 * time.Millisecond, is: node.Unit{
		Result: "success", Type: "notify", Restart: "always", RestartWait: 10 * time.Millisecond, FileState: "enabled", Fragment: s.file(file),
		CanStart: true, CanStop: true, TimeoutStart: 90 * time.Second, TimeoutStop: 90 * time.Second,
	}}
	u.read = u.written()
	s.units[name] = u
	return u
}

// written is when its file was.
func (u *fakeUnit) written() time.Time {
	info, err := os.Stat(u.is.Fragment)
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
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
		commands: func(context.Context) (all []node.ServiceCommand, _ error) {
			for name, u := range s.units {
				data, err := os.ReadFile(u.is.Fragment)
				s.n.must(err)
				_, command, _ := strings.Cut(string(data), "\nExecStart=")
				command, _, _ = strings.Cut(command, "\n")
				all = append(all, node.ServiceCommand{Name: name, ExecStart: "{ path=/x ; argv[]=" + command + " ; ignore_errors=no }"})
			}
			return all, nil
		},
		ask:    s.n.Unit,
		states: func(context.Context, []string) map[string]string { return s.states },
		host:   unit.Host{Head: func(string) ([]byte, error) { return []byte("\x7fELF"), nil }},
	}
}

var dataDir = regexp.MustCompile(`(?m)^(?:Environment=)?ETCD_DATA_DIR=(.*)$`)

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

func (u *fakeUnit) starting() bool { return u.active == "activating" && u.sub == "start" }

func (u *fakeUnit) up() bool { return u.active == "active" || u.starting() }

// pass lets time pass for a service.
func (s *fakeSystemd) pass(u *fakeUnit) {
	for range 20 {
		over := time.Since(u.since)
		switch {
		case u.active == "deactivating" && over > u.stops:
			s.ended(u)
		case u.starting() && u.broken:
			u.is.Result = "exit-code"
			s.ended(u)
		case u.starting() && !u.waits && over >= u.slow:
			u.become("active", "running")
		case u.starting() && u.is.TimeoutStart > 0 && over > u.is.TimeoutStart:
			u.is.Result = "timeout"
			u.become("deactivating", "stop-sigterm")
		case u.active == "activating" && u.sub == "auto-restart" && over > u.is.RestartWait:
			u.is.Restarts++
			s.begin(u)
		default:
			return
		}
	}
}

func (u *fakeUnit) become(active, sub string) {
	u.active, u.sub, u.since = active, sub, time.Now()
	if u.forgotten() {
		u.begun = nil
	}
}

// ended is what comes after its process.
func (s *fakeSystemd) ended(u *fakeUnit) {
	switch {
	case !u.asked && u.is.Restart == "always":
		u.become("activating", "auto-restart")
		return
	case u.is.Result == "success":
		u.become("inactive", "dead")
	default:
		u.become("failed", "failed")
	}
	if u.queued {
		s.obey(u)
	}
}

// obey starts what is stopped, since somebody said so.
func (s *fakeSystemd) obey(u *fakeUnit) {
	u.queued, u.is.Restarts = false, 0
	s.begin(u)
}

// begin starts its process, unless that was done too often.
func (s *fakeSystemd) begin(u *fakeUnit) {
	u.begun = slices.DeleteFunc(u.begun, func(at time.Time) bool { return time.Since(at) >= u.is.StartInterval })
	if u.is.StartBurst > 0 && len(u.begun) >= u.is.StartBurst {
		if u.is.Result == "success" {
			u.is.Result = "start-limit-hit"
		}
		u.become("failed", "failed")
		return
	}
	u.begun = append(u.begun, time.Now())
	u.asked, u.is.Result = false, "success"
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
		u.queued = false
		switch {
		case u.up():
			u.become("deactivating", "stop-sigterm")
			u.asked = true
		case u.active == "activating": // its restart
			u.become("inactive", "dead")
		case u.active == "deactivating":
			u.asked = true
		}
	case "kill":
		if u.forgotten() {
			return errors.New("Failed to kill unit " + name + ": Unit " + name + " not loaded.")
		}
		if u.up() || u.active == "deactivating" {
			u.is.Result = "signal"
			s.ended(u)
		}
	case "start":
		switch u.active {
		case "deactivating":
			u.queued = true
		case "inactive", "failed":
			s.obey(u)
		}
	case "reset-failed":
		if u.forgotten() {
			return errors.New("Failed to reset failed state of unit " + name + ": Unit " + name + " not loaded.")
		}
		u.begun, u.is.Restarts = nil, 0
		if u.active == "failed" {
			u.is.Result = "success"
			u.become("inactive", "dead")
		}
	}
	return nil
}

// forgotten is a service that nothing refers to any more.
func (u *fakeUnit) forgotten() bool { return u.loose && u.active == "inactive" }

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
	u.Name, u.Load, u.Active, u.Sub, u.Job = name, "loaded", s.active, s.sub, s.queued
	if s.starts > 0 {
		u.Invocation = fmt.Sprint("start", s.starts)
	}
	if s.up() || s.active == "deactivating" {
		u.PID = 1000 + s.starts
	}
	u.NeedReload = !s.read.Equal(s.written())
	if s.forgotten() {
		u.Invocation, u.NeedReload = "", false
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

// ReloadUnits has what the files say hold from here.
func (n *fakeNode) ReloadUnits(context.Context) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.systemd == nil {
		return nil
	}
	for _, u := range n.systemd.units {
		n.systemd.pass(u)
		if u.read = u.written(); u.next != nil {
			u.load(*u.next)
		}
	}
	return nil
}

func (u *fakeUnit) load(s conformance.Service) {
	u.next = nil
	u.broken, u.waits, u.stops, u.loose = s.Program == conformance.Ends, s.Program == conformance.Waits, 5*time.Millisecond, s.Loose
	if s.Program == conformance.Lingers {
		u.stops = conformance.LingersFor
	}
	u.is.Restart, u.is.RestartWait, u.is.TimeoutStart, u.is.StartBurst, u.is.StartInterval = "no", s.RestartWait, s.TimeoutStart, s.StartBurst, time.Hour
	if s.Restart {
		u.is.Restart = "always"
	}
}

// Put is a file of the conformance table.
func (n *fakeNode) Put(name string, s conformance.Service) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.write("etc/systemd/system/"+name, []byte(s.Text()))
	if n.systemd.units[name] == nil { // it is read when somebody asks for it
		n.systemd.add(name, name).load(s)
		return nil
	}
	n.systemd.units[name].next = &s
	return nil
}

// Remove removes such a file.
func (n *fakeNode) Remove(name string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.systemd.units, name)
	return os.Remove(n.systemd.file(name))
}

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
