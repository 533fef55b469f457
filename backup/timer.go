package backup

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"etcd-rewind/problem"
	"etcd-rewind/trust"
)

// The timer that takes the turns of a schedule, and its service; and those that
// prove the latest backup.
const (
	ServiceName      = "etcd-rewind-backup.service"
	TimerName        = "etcd-rewind-backup.timer"
	DrillServiceName = "etcd-rewind-drill.service"
	DrillTimerName   = "etcd-rewind-drill.timer"
	UnitDir          = "/etc/systemd/system"
	packagedDir      = "/usr/lib/systemd/system"
)

// DrillTimes are how often a timer drills, as systemd's calendar has it.
var DrillTimes = []string{"daily", "weekly", "monthly"}

// Unit is a file of systemd's.
type Unit struct {
	Name string `json:"name"`
	Text string `json:"text"`
}

// Timed is what the timer's service runs.
type Timed struct {
	Program string   // path
	Flags   []string // that reach the node
	// Writes are directories that a backup writes to, besides the state directory.
	Writes []string
	// StateDir is "" for the usual one, which systemd makes.
	StateDir string
}

// Packaged are the units as packages bring them, for whoever enables the timer by
// hand: they know no configuration. The service may write anywhere but to the
// system, and the timer looks every hour whether a turn is due. Those of Enable go
// before them.
func Packaged(program string) []Unit {
	c := &Config{Path: ConfigPath, Schedule: Schedule{Every: Duration(time.Hour)}}
	units := c.Units(Timed{Program: program})
	for i := range units {
		text := strings.Replace(units[i].Text, writtenBy, "# Of the package: any location, every hour. etcd-rewind backup enable writes them for\n# a configuration.\n", 1)
		units[i].Text = strings.Replace(text, "ProtectSystem=strict", "ProtectSystem=full", 1)
	}
	return units
}

const writtenBy = "# Written by etcd-rewind backup enable; etcd-rewind backup disable removes it.\n"

// WritesOf are the directories of this node that backups write to.
func (c *Config) WritesOf() []string {
	var all []string
	for _, l := range c.Locations {
		if u, err := url.Parse(l); err == nil && u.Scheme == "file" {
			all = append(all, filepath.Clean(u.Path))
		}
	}
	if c.MetricsFile != "" {
		all = append(all, filepath.Dir(c.MetricsFile))
	}
	return all
}

// Units are the service and the timer. The service may write where a backup has
// to, and nowhere else; it gives way to whatever else runs on the node.
func (c *Config) Units(t Timed) []Unit {
	command := unitWord(t.Program) + " backup --scheduled"
	if c.Path != ConfigPath {
		command += " --config " + unitWord(c.Path)
	}
	for _, f := range t.Flags {
		command += " " + unitWord(f)
	}
	calendar := ""
	for _, on := range c.Schedule.OnCalendar() {
		calendar += "OnCalendar=" + on + "\n"
	}
	// Nodes begin apart, and early enough for whoever takes over.
	delay := min(time.Duration(c.Schedule.Every)/10, 5*time.Minute)
	return []Unit{
		{ServiceName, fmt.Sprintf(serviceText, unitLine(c.Path), command, writable(append(slices.Clone(t.Writes), t.StateDir)))},
		{TimerName, fmt.Sprintf(timerText, calendar, int(delay.Seconds()))},
	}
}

// unitWord is one word of a command in a unit file.
func unitWord(s string) string {
	s = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "%", "%%", "$", "$$").Replace(trust.Text(s))
	if strings.ContainsAny(s, " '\"\\;") {
		return `"` + s + `"`
	}
	return s
}

// unitLine is a path that is all of a line in a unit file: nothing in it is quoted.
func unitLine(s string) string { return strings.ReplaceAll(trust.Text(s), "%", "%%") }

// writable are the lines for the directories that a service writes to. One that
// isn't there is none of systemd's business: without the - it would fail the
// service before the program starts (226/NAMESPACE, systemd.exec(5)), so that no
// other location got a backup either, and nothing said which one is missing.
func writable(dirs []string) string {
	var lines strings.Builder
	for _, dir := range dirs {
		if dir != "" {
			fmt.Fprintf(&lines, "ReadWritePaths=%s\n", unitPath("-"+dir))
		}
	}
	return lines.String()
}

// unitPath is one of several paths in a unit file. systemd takes a backslash off
// there, and reads no \x20 as it does in a command.
func unitPath(s string) string {
	s = strings.NewReplacer("%", "%%", `\`, `\\`, `"`, `\"`).Replace(trust.Text(s))
	if strings.ContainsAny(s, " '\"\\") {
		return `"` + s + `"`
	}
	return s
}

// Both services are kept from all of the node that they have no need of: caged has
// a place for the directories that one writes to.
const (
	caged = `UMask=0077
StateDirectory=etcd-rewind
StateDirectoryMode=0700
ProtectSystem=strict
%sProtectHome=read-only
PrivateTmp=yes
ProtectClock=yes
`
	untouched = `ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
NoNewPrivileges=yes
LockPersonality=yes
`
)

const serviceText = writtenBy + `[Unit]
Description=Back up etcd
Documentation=man:etcd-rewind-backup(8)
Wants=network-online.target
After=network-online.target
ConditionPathExists=%s

[Service]
Type=oneshot
ExecStart=%s
TimeoutStartSec=6h
Nice=10
IOSchedulingClass=best-effort
IOSchedulingPriority=7
CPUWeight=20
IOWeight=20
` + caged + `ProtectControlGroups=yes
` + untouched + `MemoryDenyWriteExecute=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
`

// Nice is the priority of a backup that is started by hand, as the timer's service has it.
const Nice = 10

const timerText = writtenBy + `[Unit]
Description=Back up etcd when it is due
Documentation=man:etcd-rewind-backup(8)

[Timer]
%sPersistent=yes
RandomizedDelaySec=%d
AccuracySec=1s

[Install]
WantedBy=timers.target
`

// Drilled is what the service of drills runs.
type Drilled struct {
	Program string   // path
	Flags   []string // that reach the node, and what opens the backups
	// Writes are the directories that a drill writes to.
	Writes []string
	When   string // of DrillTimes
}

// DrillUnits are the service that proves the latest backup, and its timer. The
// service needs more of the node than a backup does: namespaces, mounts and
// cgroups for the drill's own, and the programs of the containers that run.
func DrillUnits(d Drilled) []Unit {
	command := unitWord(d.Program) + " drill latest"
	for _, f := range d.Flags {
		command += " " + unitWord(f)
	}
	return []Unit{
		{DrillServiceName, fmt.Sprintf(drillServiceText, command, writable(d.Writes))},
		{DrillTimerName, fmt.Sprintf(drillTimerText, d.When)},
	}
}

const drillServiceText = writtenBy + `[Unit]
Description=Prove the latest backup of etcd by a drill
Documentation=man:etcd-rewind-drill(8)
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
ExecStart=%s
TimeoutStartSec=6h
Nice=15
IOSchedulingClass=best-effort
IOSchedulingPriority=7
CPUWeight=10
IOWeight=10
OOMScoreAdjust=1000
` + caged + untouched + `RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictRealtime=yes
SystemCallArchitectures=native
# The drill makes its own namespaces (sys_admin), root directory (sys_chroot) and
# loopback (net_admin), takes the programs of running containers (sys_ptrace), and
# gives all of it away before it starts them (setpcap).
CapabilityBoundingSet=CAP_SYS_ADMIN CAP_SYS_CHROOT CAP_SYS_PTRACE CAP_NET_ADMIN CAP_SETPCAP CAP_SYS_RESOURCE CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER CAP_CHOWN CAP_KILL
`

const drillTimerText = writtenBy + `[Unit]
Description=Prove the latest backup of etcd
Documentation=man:etcd-rewind-drill(8)

[Timer]
OnCalendar=%s
Persistent=yes
RandomizedDelaySec=4h
AccuracySec=1min

[Install]
WantedBy=timers.target
`

// Outdated says why the units in a directory of systemd's no longer fit the
// configuration, which somebody has changed since; nil when they do, when there
// are none, or when they are those of another configuration. What an
// administrator adds by a drop-in counts.
func (c *Config) Outdated(dir string) *problem.Problem {
	const again = "run etcd-rewind backup enable again: it rewrites the timer and the service"
	timer, service := installed(dir, TimerName), installed(dir, ServiceName)
	if timer == nil || service == nil || !slices.Equal(service.values("ConditionPathExists"), []string{unitLine(c.Path)}) {
		return nil
	}
	due := c.Schedule.OnCalendar()
	switch {
	case len(due) == 0:
		return problem.New("add it again, schedule: {every: 1h}, or stop the timer with etcd-rewind backup disable", "%s is enabled, but %s has no schedule any more", TimerName, c.Path)
	case !slices.Equal(timer.values("OnCalendar"), due):
		return problem.New(again, "the schedule in %s was changed: %s still fires by the former one", c.Path, TimerName)
	}
	if p := service.keepsFrom(c.WritesOf(), again); p != nil {
		return p
	}
	if drills := installed(dir, DrillServiceName); drills != nil && c.MetricsFile != "" {
		return drills.keepsFrom([]string{filepath.Dir(c.MetricsFile)}, "run etcd-rewind backup enable again, with its --drill and --identity")
	}
	return nil
}

// installedUnit is a unit as it lies on the disk, and its drop-ins after it.
type installedUnit struct{ name, text string }

const maxUnit = 256 << 10

// installed is nil when there is none in the directory, or none that can be read.
func installed(dir, name string) *installedUnit {
	u := &installedUnit{name: name}
	more, _ := filepath.Glob(filepath.Join(dir, name+".d", "*.conf")) // the pattern is sound
	for i, path := range append([]string{filepath.Join(dir, name)}, more...) {
		if st, err := os.Stat(path); err != nil || !st.Mode().IsRegular() || st.Size() > maxUnit {
			if i == 0 {
				return nil
			}
			continue
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return nil
		}
		u.text += string(data) + "\n"
	}
	return u
}

// values are those of a setting that may be there several times; an empty one
// takes back what was before it.
func (u *installedUnit) values(key string) (all []string) {
	for line := range strings.Lines(u.text) {
		k, v, ok := strings.Cut(line, "=")
		if !ok || strings.TrimSpace(k) != key {
			continue
		}
		if v = strings.TrimSpace(v); v == "" {
			all = nil
			continue
		}
		all = append(all, v)
	}
	return all
}

// keepsFrom says which of the directories the service can't write to, or is
// stopped by when it isn't there.
func (u *installedUnit) keepsFrom(dirs []string, hint string) *problem.Problem {
	if p := u.values("ProtectSystem"); len(p) == 0 || p[len(p)-1] != "strict" {
		return nil
	}
	paths := map[string]bool{} // and whether it may be missing
	for _, v := range u.values("ReadWritePaths") {
		for _, path := range unitPaths(v) {
			bare := strings.TrimLeft(path, "-+")
			paths[filepath.Clean(bare)] = strings.HasPrefix(path, "-")
		}
	}
	for _, dir := range dirs {
		if missing, named := paths[dir]; named && !missing {
			return problem.New(hint, "%s was written by an earlier version: while %s isn't there, systemd doesn't start it at all", u.name, dir)
		}
		above := func(path string) bool { return path == "/" || path == dir || strings.HasPrefix(dir, path+"/") }
		if !slices.ContainsFunc(slices.Collect(maps.Keys(paths)), above) {
			return problem.New(hint, "%s may not write to %s, which the configuration has now", u.name, dir)
		}
	}
	return nil
}

// unitPaths takes a list of paths in a unit file apart: what unitPath writes, and
// what a person would.
func unitPaths(s string) (all []string) {
	var word strings.Builder
	quote, in := rune(0), false
	escaped := false
	for _, r := range s + " " {
		switch {
		case escaped:
			word.WriteRune(r)
			escaped = false
		case r == '\\':
			escaped, in = true, true
		case quote != 0 && r == quote:
			quote = 0
		case quote == 0 && (r == '"' || r == '\''):
			quote, in = r, true
		case quote == 0 && (r == ' ' || r == '\t'):
			if in {
				all = append(all, strings.ReplaceAll(word.String(), "%%", "%"))
			}
			word.Reset()
			in = false
		default:
			word.WriteRune(r)
			in = true
		}
	}
	return all
}

// Enable writes the units and starts the timers among them. Safe to call twice:
// what is there is replaced. The error is a *problem.Problem.
func Enable(ctx context.Context, dir string, units []Unit) error {
	if err := trust.Dir(dir); err != nil {
		return problem.From(fmt.Errorf("units can't be written: %w", err))
	}
	for _, u := range units {
		if err := writeUnit(filepath.Join(dir, u.Name), u.Text); err != nil {
			return problem.From(err)
		}
	}
	if err := systemctl(ctx, "daemon-reload"); err != nil {
		return err
	}
	for _, u := range units {
		if strings.HasSuffix(u.Name, ".timer") {
			if err := systemctl(ctx, "enable", "--now", u.Name); err != nil {
				return err
			}
		}
	}
	return nil
}

// Disable stops both timers and removes their units; a backup or a drill that is
// under way goes on. Safe to call twice. The error is a *problem.Problem.
func Disable(ctx context.Context, dir string) error {
	return errors.Join(disable(ctx, dir, DrillTimerName, DrillServiceName), disable(ctx, dir, TimerName, ServiceName))
}

// DisableDrills does that with the drills alone.
func DisableDrills(ctx context.Context, dir string) error {
	return disable(ctx, dir, DrillTimerName, DrillServiceName)
}

// DrillsEnabled says whether a timer drills here.
func DrillsEnabled(dir string) bool {
	_, err := os.Lstat(filepath.Join(dir, DrillTimerName))
	return err == nil
}

func disable(ctx context.Context, dir, timer, service string) error {
	there := false
	for _, dir := range []string{dir, packagedDir} {
		if _, err := os.Lstat(filepath.Join(dir, timer)); err == nil {
			there = true
		}
	}
	if !there {
		return nil
	}
	if err := systemctl(ctx, "disable", "--now", timer); err != nil {
		return err
	}
	var errs []error
	for _, name := range []string{timer, service} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return problem.From(err)
	}
	return systemctl(ctx, "daemon-reload")
}

func writeUnit(path, text string) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".etcd-rewind-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // renamed, or not worth keeping
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

const systemctlLimit = 30 * time.Second

func systemctl(ctx context.Context, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, systemctlLimit)
	defer cancel()
	cmd, err := trust.Command(ctx, "systemctl", args...)
	if err != nil {
		return problem.New("show the units with --print, and run the command by whatever starts programs here", "systemd can't be reached: %w", err)
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return problem.New("check systemctl status", "systemctl %s: %w: %s", strings.Join(args, " "), err, trust.Clip(trust.Text(strings.TrimSpace(string(out))), 300))
	}
	return nil
}
