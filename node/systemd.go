package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"etcd-rewind/trust"
)

// Unit is a service as systemd has it now.
type Unit struct {
	Name          string // "etcd.service", after aliases
	Load          string // "loaded", "not-found", "masked"
	Active, Sub   string // "activating", "auto-restart"
	Result        string // of its last end: "success", "exit-code", "timeout", "start-limit-hit"
	Job           bool   // one waits in systemd's queue
	Type          string // "notify", "simple"
	PID           int    // of its main process, 0 when none runs
	Restarts      int    // by Restart=, since it was started
	Invocation    string // of the start that is under way, or was last
	CPU           time.Duration
	Fragment      string // its file
	DropIns       []string
	NeedReload    bool   // its files are newer than what systemd has read
	ExecStart     string // as systemd has it loaded
	ControlGroup  string
	User          string // "" is root
	Restart       string
	RestartWait   time.Duration
	TimeoutStart  time.Duration // 0 is without limit
	TimeoutStop   time.Duration
	StartBurst    int // starts within StartInterval, then systemd gives up; 0 is without limit
	StartInterval time.Duration
	FileState     string // "enabled", "disabled", "static"
	// CanStart and CanStop are false where the unit refuses to be told
	// (RefuseManualStop=).
	CanStart, CanStop bool
	// SuccessAction and FailureAction are what systemd does to the whole machine
	// when it ends so, StartLimitAction when it was started too often: "none", "reboot".
	SuccessAction, FailureAction, StartLimitAction string
	TriggeredBy                                    []string // sockets, timers, paths that start it
	UpheldBy                                       []string // units that have it started whenever it isn't
	OnSuccess, OnFailure                           []string // units that are started when it ends so
	// Dependents are units that are stopped with it, and not started with it again.
	Dependents []string
	// States are those of the units that are named here, by name: "active".
	States map[string]string
}

// Others are all units that are named by how they belong to this one.
func (u *Unit) Others() []string {
	all := slices.Concat(u.TriggeredBy, u.UpheldBy, u.OnSuccess, u.OnFailure, u.Dependents)
	slices.Sort(all)
	return slices.Compact(all)
}

// Up are those of some units that aren't stopped.
func (u *Unit) Up(names []string) (up []string) {
	for _, name := range names {
		if is := u.States[name]; is != "" && is != "inactive" && is != "failed" {
			up = append(up, name)
		}
	}
	return up
}

// unitProperties are those that Unit is made from, by systemd's names.
var unitProperties = []string{
	"Id", "LoadState", "ActiveState", "SubState", "Result", "Job", "Type", "MainPID", "NRestarts", "InvocationID", "CPUUsageNSec",
	"FragmentPath", "DropInPaths", "NeedDaemonReload", "ExecStart", "ControlGroup", "User", "Restart", "RestartUSec", "TimeoutStartUSec",
	"TimeoutStopUSec", "StartLimitBurst", "StartLimitIntervalUSec", "TriggeredBy", "UnitFileState", "CanStart", "CanStop", "SuccessAction", "FailureAction", "StartLimitAction",
	"UpheldBy", "OnSuccess", "OnFailure", "RequiredBy", "BoundBy", "ConsistsOf",
}

// Stopped says that nothing of it runs, and nothing is about to.
func (u *Unit) Stopped() bool {
	return (u.Active == "inactive" || u.Active == "failed") && !u.Job && u.PID == 0
}

// String is its state for people: "activating (auto-restart), process 123".
func (u *Unit) String() string {
	is := u.Active
	switch u.Sub {
	case u.Active, "running", "dead", "":
	default:
		is += " (" + u.Sub + ")"
	}
	if u.Active == "failed" && u.Result != "" && u.Result != "success" {
		is = "failed (" + u.Result + ")"
	}
	if u.PID != 0 {
		is += fmt.Sprintf(", process %d", u.PID)
	}
	if u.Restarts > 0 {
		is += fmt.Sprintf(", restarted %d times", u.Restarts)
	}
	return trust.Text(is)
}

// Systemd says whether systemd runs this machine, as sd_booted does.
func Systemd() bool {
	_, err := os.Stat("/run/systemd/system")
	return err == nil
}

// otherName is that of any unit that systemd itself has named.
var otherName = regexp.MustCompile(`^[A-Za-z0-9:_.\\][A-Za-z0-9:_.\\@-]*\.[a-z]+$`)

// UnitStates asks systemd for the states of units, by name: "active"; those that it
// doesn't know are left out.
func UnitStates(ctx context.Context, names []string) map[string]string {
	names = slices.DeleteFunc(slices.Clone(names), func(n string) bool { return len(n) > 255 || !otherName.MatchString(n) })
	if len(names) == 0 {
		return nil
	}
	names = names[:min(len(names), 200)]
	cmd, err := trust.Command(ctx, "systemctl", append([]string{"show", "--no-pager", "--property=Id,ActiveState", "--"}, names...)...)
	if err != nil {
		return nil
	}
	out, err := systemctl(cmd)
	if err != nil {
		return nil
	}
	states := map[string]string{}
	for block := range strings.SplitSeq(string(out), "\n\n") {
		var id, state string
		for line := range strings.Lines(block) {
			switch name, value, _ := strings.Cut(strings.TrimSpace(line), "="); name {
			case "Id":
				id = value
			case "ActiveState":
				state = value
			}
		}
		states[id] = state
	}
	return states
}

var unitName = regexp.MustCompile(`^[A-Za-z0-9:_.\\][A-Za-z0-9:_.\\@-]*\.service$`)

// UnitName says whether a name is that of a service, and of nothing else that
// systemctl would take it for: an option, a pattern.
func UnitName(name string) bool { return len(name) < 256 && unitName.MatchString(name) }

// AskUnit asks systemd for a service. One that isn't there is no error: its Load
// says so.
func AskUnit(ctx context.Context, name string) (*Unit, error) {
	if !UnitName(name) {
		return nil, fmt.Errorf("%s is not the name of a service", trust.Quote(trust.Clip(name, 80)))
	}
	cmd, err := trust.Command(ctx, "systemctl", "show", "--no-pager", "--property="+strings.Join(unitProperties, ","), "--", name)
	if err != nil {
		return nil, err
	}
	out, err := systemctl(cmd)
	if err != nil {
		return nil, err
	}
	u, err := readUnit(out)
	if err != nil {
		return nil, fmt.Errorf("systemctl show %s: %w", trust.Quote(name), err)
	}
	if u.CPU == 0 && u.PID != 0 {
		u.CPU = processCPU(u.PID)
	}
	return u, nil
}

// mostSystemctl is more than systemctl prints of anything that is asked here, in
// bytes.
const mostSystemctl = 4 << 20

func systemctl(cmd *exec.Cmd) ([]byte, error) {
	out := trust.Head{Most: mostSystemctl}
	err := asks(cmd, &out)
	if err == nil && len(out.String()) == mostSystemctl {
		err = fmt.Errorf("it says more than %d MB", mostSystemctl>>20)
	}
	return []byte(out.String()), err
}

// asks runs a program of systemd's; the error is what that says itself.
func asks(cmd *exec.Cmd, out io.Writer) error {
	errs := trust.Tail{Most: 4 << 10}
	cmd.Stdout, cmd.Stderr = out, &errs
	err := cmd.Run()
	if text := strings.TrimSpace(errs.String()); err != nil && text != "" {
		err = errors.New(trust.Clip(trust.Text(strings.Join(strings.Fields(text), " ")), longestError))
	}
	return err
}

// readUnit reads what systemctl show prints. A command with a line feed in it is
// printed as it is, and could say anything in the name of systemd: what is there
// twice is believed of neither.
func readUnit(out []byte) (*Unit, error) {
	is := map[string]string{}
	for line := range strings.Lines(string(out)) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if !ok || !slices.Contains(unitProperties, name) {
			continue
		}
		old, twice := is[name]
		switch {
		case twice && name != "ExecStart":
			return nil, fmt.Errorf("it says %s twice: there is a line feed in the unit's command", name)
		case twice: // of a unit with several
			value = old + " ; " + value
		}
		is[name] = value
	}
	number := func(name string) int {
		n, _ := strconv.Atoi(is[name])
		return n
	}
	u := &Unit{
		Name: is["Id"], Load: is["LoadState"], Active: is["ActiveState"], Sub: is["SubState"], Result: is["Result"],
		Job: is["Job"] != "" && is["Job"] != "0", Type: is["Type"], PID: number("MainPID"), Restarts: number("NRestarts"),
		Invocation: is["InvocationID"], Fragment: is["FragmentPath"], NeedReload: is["NeedDaemonReload"] == "yes",
		ExecStart: is["ExecStart"], ControlGroup: is["ControlGroup"], User: is["User"], Restart: is["Restart"],
		RestartWait: systemdTime(is["RestartUSec"]), TimeoutStart: systemdTime(is["TimeoutStartUSec"]), TimeoutStop: systemdTime(is["TimeoutStopUSec"]),
		StartBurst: number("StartLimitBurst"), StartInterval: systemdTime(is["StartLimitIntervalUSec"]),
		DropIns: strings.Fields(is["DropInPaths"]), TriggeredBy: strings.Fields(is["TriggeredBy"]),
		FileState: is["UnitFileState"], CanStart: is["CanStart"] != "no", CanStop: is["CanStop"] != "no",
		SuccessAction: is["SuccessAction"], FailureAction: is["FailureAction"], StartLimitAction: is["StartLimitAction"],
		UpheldBy: strings.Fields(is["UpheldBy"]), OnSuccess: strings.Fields(is["OnSuccess"]), OnFailure: strings.Fields(is["OnFailure"]),
		Dependents: strings.Fields(is["RequiredBy"] + " " + is["BoundBy"] + " " + is["ConsistsOf"]),
	}
	slices.Sort(u.Dependents)
	u.Dependents = slices.Compact(u.Dependents)
	if n, err := strconv.ParseUint(is["CPUUsageNSec"], 10, 63); err == nil {
		u.CPU = time.Duration(n)
	}
	return u, nil
}

// systemdTime reads a time as systemctl show prints it ("1min 30s", "100ms",
// "infinity"); 0 for one without end.
func systemdTime(s string) (d time.Duration) {
	units := map[string]time.Duration{
		"us": time.Microsecond, "ms": time.Millisecond, "s": time.Second, "min": time.Minute, "h": time.Hour, "d": 24 * time.Hour, "w": 7 * 24 * time.Hour,
		"month": 2629800 * time.Second, "y": 31557600 * time.Second,
	}
	for _, word := range strings.Fields(s) {
		i := strings.IndexFunc(word, func(r rune) bool { return (r < '0' || r > '9') && r != '.' })
		if i <= 0 {
			return 0
		}
		n, err := strconv.ParseFloat(word[:i], 64)
		if err != nil {
			return 0
		}
		d += time.Duration(n * float64(units[word[i:]]))
	}
	return d
}

// processCPU is what a process has used, 0 where that can't be read.
func processCPU(pid int) time.Duration {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0
	}
	_, rest, _ := bytes.Cut(stat, []byte(") "))
	fields := strings.Fields(string(rest))
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.ParseUint(fields[11], 10, 48)
	system, _ := strconv.ParseUint(fields[12], 10, 48)
	return time.Duration(user+system) * 10 * time.Millisecond // 100 ticks a second on every architecture
}

// StopUnit tells systemd to stop a service, and doesn't wait for that.
func StopUnit(ctx context.Context, name string) error {
	cmd, err := trust.Command(ctx, "systemctl", "stop", "--no-block", "--", name)
	return tell(cmd, err, name)
}

// StartUnit tells systemd to start a service, and doesn't wait: one of
// Type=notify that needs a quorum has started only when the others have.
func StartUnit(ctx context.Context, name string) error {
	cmd, err := trust.Command(ctx, "systemctl", "start", "--no-block", "--", name)
	return tell(cmd, err, name)
}

// KillUnit has systemd kill what a service still runs. One that wasn't told to
// stop before is started again by its Restart=.
func KillUnit(ctx context.Context, name string) error {
	cmd, err := trust.Command(ctx, "systemctl", "kill", "--signal=SIGKILL", "--", name)
	return tell(cmd, err, name)
}

// ResetUnit has systemd forget that a service has failed, and how often it was
// started.
func ResetUnit(ctx context.Context, name string) error {
	cmd, err := trust.Command(ctx, "systemctl", "reset-failed", "--", name)
	return tell(cmd, err, name)
}

// ReloadUnits has systemd read the files of all units again.
func ReloadUnits(ctx context.Context) error {
	cmd, err := trust.Command(ctx, "systemctl", "daemon-reload")
	if err == nil {
		_, err = systemctl(cmd)
	}
	return err
}

func tell(cmd *exec.Cmd, err error, name string) error {
	if !UnitName(name) {
		return fmt.Errorf("%s is not the name of a service", trust.Quote(trust.Clip(name, 80)))
	}
	if err == nil {
		_, err = systemctl(cmd)
	}
	return err
}

// UnitLog are the last lines that a service has written to the journal, the
// oldest first; empty when there are none.
func UnitLog(ctx context.Context, name string, lines int) []string {
	if !UnitName(name) {
		return nil
	}
	cmd, err := trust.Command(ctx, "journalctl", "--no-pager", "--quiet", "--output=cat", "--lines="+strconv.Itoa(lines), "--unit="+name)
	if err != nil {
		return nil
	}
	out := trust.Tail{Most: maxUnitLog}
	if err := asks(cmd, &out); err != nil {
		return nil
	}
	return trust.Lines(strings.Split(strings.TrimRight(out.String(), "\n"), "\n"))
}

// maxUnitLog bounds what is kept of a service's lines, in bytes.
const maxUnitLog = 256 << 10

// UnitOf is the service in whose cgroup a process is, "" for one in none.
func UnitOf(pid int) string {
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cgroup"))
	if err != nil {
		return ""
	}
	return unitOfCgroup(string(data))
}

// unitOfCgroup prefers systemd's own hierarchy, which is named, or the only one.
func unitOfCgroup(cgroups string) string {
	lines := strings.Split(strings.TrimSpace(cgroups), "\n")
	slices.SortStableFunc(lines, func(a, b string) int {
		own := func(s string) int {
			if strings.Contains(s, ":name=systemd:") || strings.HasPrefix(s, "0::") {
				return 0
			}
			return 1
		}
		return own(a) - own(b)
	})
	for _, line := range lines {
		parts := strings.SplitN(line, ":", 3)
		if len(parts) < 3 {
			continue
		}
		for _, dir := range slices.Backward(strings.Split(parts[2], "/")) {
			if UnitName(dir) {
				return dir
			}
		}
	}
	return ""
}

// Services are the names of all services that systemd has loaded or has a file of.
// It isn't given a pattern: list-unit-files fails, and says nothing, where none
// matches.
func Services(ctx context.Context) ([]string, error) {
	var all strings.Builder
	for _, list := range [][]string{
		{"list-units", "--all"},
		{"list-unit-files"}, // a unit that is stopped and was not started since boot isn't loaded
	} {
		cmd, err := trust.Command(ctx, "systemctl", append(list, "--no-pager", "--no-legend", "--plain", "--full", "--type=service")...)
		if err != nil {
			return nil, err
		}
		out, err := systemctl(cmd)
		if err != nil {
			return nil, err
		}
		all.Write(out)
		all.WriteByte('\n')
	}
	return servicesIn(all.String()), nil
}

func servicesIn(out string) (names []string) {
	for line := range strings.Lines(out) {
		fields := strings.Fields(strings.TrimLeft(line, "●* "))
		// A template is none: its instances are.
		if len(fields) > 1 && UnitName(fields[0]) && !strings.HasSuffix(fields[0], "@.service") && fields[1] != "not-found" {
			names = append(names, fields[0])
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// mostServices are more than a machine has of one program.
const mostServices = 50

// ServicesOf are those of all services that may be a program: that are called as it
// is ("etcd.service", "etcd@a.service", "etcd-events.service" for "etcd"), and those
// in which a process of that name runs. There may be none.
func ServicesOf(all []string, called string) ([]string, error) {
	names := slices.DeleteFunc(slices.Clone(all), func(n string) bool { return !strings.HasPrefix(n, called) })
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return names, nil // not Linux
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		comm, err := os.ReadFile(filepath.Join("/proc", e.Name(), "comm"))
		if err != nil || strings.TrimSpace(string(comm)) != called[:min(len(called), 15)] { // TASK_COMM_LEN
			continue
		}
		if name := UnitOf(pid); name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if len(names) > mostServices {
		return nil, fmt.Errorf("%d services are called %s", len(names), called)
	}
	return names, nil
}

// ServiceCommand is what a service runs, as systemd says. It is a hint: a line feed
// in it could have others say so.
type ServiceCommand struct{ Name, ExecStart string }

// ServiceCommands asks systemd for the commands of services, those that are
// stopped and those that have failed as well.
func ServiceCommands(ctx context.Context, names []string) (all []ServiceCommand, _ error) {
	for some := range slices.Chunk(names, 500) {
		cmd, err := trust.Command(ctx, "systemctl", append([]string{"show", "--no-pager", "--property=Id,LoadState,ExecStart", "--"}, some...)...)
		if err != nil {
			return nil, err
		}
		out, err := systemctl(cmd)
		if err != nil {
			return nil, err
		}
		all = append(all, commandsIn(string(out))...)
	}
	return all, nil
}

func commandsIn(out string) (all []ServiceCommand) {
	known := map[string]bool{} // an alias shows what it is of
	for block := range strings.SplitSeq(out, "\n\n") {
		is := map[string]string{}
		for line := range strings.Lines(block) {
			if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && is[name] == "" {
				is[name] = value
			}
		}
		if id := is["Id"]; UnitName(id) && !known[id] && is["LoadState"] == "loaded" && is["ExecStart"] != "" {
			known[id] = true
			all = append(all, ServiceCommand{id, is["ExecStart"]})
		}
	}
	return all
}

// Names says whether one of the command's words may be a program: its path, also
// with a version, or an image of it. "/usr/local/bin/etcd-v3.5.9" and
// "quay.io/coreos/etcd:v3.6.5" are etcd, etcdctl isn't.
func (c ServiceCommand) Names(program string) bool {
	_, argv, ok := strings.Cut(c.ExecStart, "argv[]=")
	if !ok {
		return false
	}
	argv, _, _ = strings.Cut(argv, " ; ignore_errors=")
	for _, word := range strings.FieldsFunc(argv, func(r rune) bool { return strings.ContainsRune(" \t\"'`();&|", r) }) {
		word = word[strings.LastIndexByte(word, '/')+1:]
		word, _, _ = strings.Cut(word, ":")
		word, _, _ = strings.Cut(word, "@")
		version, is := strings.CutPrefix(word, program)
		if is && (version == "" || programVersion.MatchString(version)) {
			return true
		}
	}
	return false
}

var programVersion = regexp.MustCompile(`^[-_]?v?[0-9][0-9.]*$`)

// SystemdEnvironment is what systemd gives to all services; nil where it doesn't
// say.
func SystemdEnvironment(ctx context.Context) []string {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	cmd, err := trust.Command(ctx, "systemctl", "show-environment")
	if err != nil {
		return nil
	}
	out, err := systemctl(cmd)
	if err != nil {
		return nil
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}
