package backup

import (
	"context"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"filippo.io/age"

	"etcd-rewind/node"
	"etcd-rewind/problem"
	"etcd-rewind/steps"
)

// The service is caged: it writes to its locations and its state, and no word of
// a path becomes another setting, or another command.
func TestTheServiceMayWriteWhereItHasTo(t *testing.T) {
	c := &Config{
		Path: ConfigPath, Locations: []string{"file:///srv/my backups", "file:///mnt/nas?mounted=true", "s3://bucket/x"}, MetricsFile: "/var/lib/m/e.prom",
		Schedule: Schedule{Every: Duration(6 * time.Hour), At: Clock(150 * time.Minute)},
	}
	units := c.Units(Timed{Program: "/usr/bin/etcd-rewind", Flags: []string{"--manifests", "/etc/50% \"x\"$HOME\nExecStart=/bin/sh"}, Writes: c.WritesOf()})
	service, timer := units[0].Text, units[1].Text
	for _, want := range []string{
		`ReadWritePaths="-/srv/my backups"` + "\n", "ReadWritePaths=-/mnt/nas\n", "ReadWritePaths=-/var/lib/m\n", "ConditionPathExists=" + ConfigPath + "\n", "ProtectSystem=strict\n", "StateDirectory=etcd-rewind\n",
		`ExecStart=/usr/bin/etcd-rewind backup --scheduled --manifests "/etc/50%% \"x\"$$HOME`, "Nice=10\n", "NoNewPrivileges=yes\n",
	} {
		if !strings.Contains(service, want) {
			t.Errorf("no %q in\n%s", want, service)
		}
	}
	if strings.Count(service, "\nExecStart=") != 1 || strings.Contains(service, "s3:") || strings.Contains(service, "--config") {
		t.Error(service)
	}
	for _, want := range []string{"OnCalendar=*-*-* 02,08,14,20:30:00 UTC\n", "Persistent=yes\n", "RandomizedDelaySec=300\n"} {
		if !strings.Contains(timer, want) {
			t.Errorf("no %q in\n%s", want, timer)
		}
	}
	for _, u := range Packaged("/usr/bin/etcd-rewind") {
		if strings.Contains(u.Text, "ProtectSystem=strict") || !strings.Contains(u.Text, "Of the package") || strings.Contains(u.Text, "%!") {
			t.Error(u.Text)
		}
	}
}

// The service of drills may make namespaces, and still writes nowhere but to its
// own places.
func TestTheServiceOfDrillsMayMakeNamespaces(t *testing.T) {
	units := DrillUnits(Drilled{
		Program: "/usr/bin/etcd-rewind", Flags: []string{"--identity", "/etc/etcd-rewind/my drill.txt\nExecStart=/bin/sh"}, Writes: []string{"/var/lib", "/srv/a b"}, When: "weekly",
	})
	service, timer := units[0].Text, units[1].Text
	for _, want := range []string{
		`ExecStart=/usr/bin/etcd-rewind drill latest --identity "/etc/etcd-rewind/my drill.txt`, "ReadWritePaths=-/var/lib\n", `ReadWritePaths="-/srv/a b"` + "\n",
		"ProtectSystem=strict\n", "CAP_SYS_ADMIN", "NoNewPrivileges=yes\n", "OOMScoreAdjust=1000\n",
	} {
		if !strings.Contains(service, want) {
			t.Errorf("no %q in\n%s", want, service)
		}
	}
	if strings.Count(service, "\nExecStart=") != 1 || strings.Contains(service, "RestrictNamespaces") || strings.Contains(service, "ProtectControlGroups") || strings.Contains(service, "%!") {
		t.Error(service)
	}
	if !strings.Contains(timer, "OnCalendar=weekly\n") || !strings.Contains(timer, "Persistent=yes\n") {
		t.Error(timer)
	}
}

// What enable has written is held against the configuration as it is now: a
// schedule or a location that was changed by hand needs enable again.
func TestAnOutdatedTimerIsReported(t *testing.T) {
	written := func() *Config {
		return &Config{
			Path: ConfigPath, Locations: []string{"file:///srv/my backups", "s3://bucket/x"}, MetricsFile: "/var/lib/m/e.prom", Schedule: Schedule{Every: Duration(6 * time.Hour)},
		}
	}
	for name, c := range map[string]struct {
		change func(*Config)
		edit   func(dir string) error
		says   string
	}{
		"nothing was changed":   {func(*Config) {}, nil, ""},
		"another retention":     {func(c *Config) { c.Keep.Last = 5; c.Recipients = []string{anAge} }, nil, ""},
		"a bucket more":         {func(c *Config) { c.Locations = append(c.Locations, "s3://other/x") }, nil, ""},
		"a directory less":      {func(c *Config) { c.Locations = c.Locations[1:] }, nil, ""},
		"a directory below one": {func(c *Config) { c.Locations = append(c.Locations, "file:///srv/my backups/etcd") }, nil, ""},
		"a directory more":      {func(c *Config) { c.Locations = append(c.Locations, "file:///srv/my") }, nil, ServiceName + " may not write to /srv/my,"},
		"metrics elsewhere":     {func(c *Config) { c.MetricsFile = "/opt/m/e.prom" }, nil, "may not write to /opt/m,"},
		"another schedule":      {func(c *Config) { c.Schedule.Every = Duration(time.Hour) }, nil, "the schedule in " + ConfigPath + " was changed"},
		"another hour":          {func(c *Config) { c.Schedule.At = Clock(time.Hour) }, nil, "the schedule in " + ConfigPath + " was changed"},
		"no schedule":           {func(c *Config) { c.Schedule = Schedule{} }, nil, "has no schedule any more"},
		"another configuration": {func(c *Config) { c.Path, c.Schedule.Every = "/etc/other.yaml", Duration(time.Hour) }, nil, ""},
		"allowed by a drop-in": {
			func(c *Config) { c.Locations = append(c.Locations, "file:///data/b", "file:///data/c") },
			func(dir string) error {
				d := filepath.Join(dir, ServiceName+".d")
				return errors.Join(os.Mkdir(d, 0o700), os.WriteFile(filepath.Join(d, "ours.conf"), []byte("[Service]\nReadWritePaths = -/data/b '-/data/c'\n"), 0o600))
			}, "",
		},
		"not there": {func(c *Config) { c.Schedule.Every = Duration(time.Hour) }, func(dir string) error { return os.Remove(filepath.Join(dir, TimerName)) }, ""},
		"written by an earlier version": {func(*Config) {}, func(dir string) error {
			path := filepath.Join(dir, ServiceName)
			text, err := os.ReadFile(path)
			return errors.Join(err, os.WriteFile(path, []byte(strings.ReplaceAll(string(text), "=-/var", "=/var")), 0o600))
		}, "systemd doesn't start it at all"},
		"drills write metrics, too": {func(c *Config) { c.MetricsFile = "/srv/my backups/e.prom" }, func(dir string) error {
			return writeUnit(filepath.Join(dir, DrillServiceName), DrillUnits(Drilled{Program: "/usr/bin/etcd-rewind", Writes: []string{"/var/lib/m"}, When: "weekly"})[0].Text)
		}, DrillServiceName + " may not write to /srv/my backups"},
	} {
		dir := t.TempDir()
		conf := written()
		for _, u := range conf.Units(Timed{Program: "/usr/bin/etcd-rewind", Writes: conf.WritesOf(), StateDir: "/opt/state"}) {
			if err := writeUnit(filepath.Join(dir, u.Name), u.Text); err != nil {
				t.Fatal(err)
			}
		}
		if c.edit != nil {
			if err := c.edit(dir); err != nil {
				t.Fatal(err)
			}
		}
		c.change(conf)
		p := conf.Outdated(dir)
		if (p == nil) != (c.says == "") || p != nil && (!strings.Contains(p.Cause, c.says) || !strings.Contains(p.Hint, "etcd-rewind backup")) {
			t.Errorf("%s: %v", name, p)
		}
		if st := (&Found{}).Report(conf, nil, nil, steps.Drills{}, dir, noon); st.OK != (p == nil) || p != nil && st.Warning != st.Outdated {
			t.Errorf("%s: %+v", name, st)
		}
	}
}

// A drill that failed is reported by the status and in a file of its own.
func TestADrillThatFailedIsReported(t *testing.T) {
	k, s := NewKey(), &Directory{Path: t.TempDir()}
	put(t, s, aRecord(noon, "cp1"), k)
	dir := t.TempDir()
	c := &Config{MetricsFile: filepath.Join(dir, "etcd-rewind.prom")}
	for _, d := range []*steps.DrillResult{
		{Time: noon, Snapshot: "cp1.db.zst.age", Proven: true, RecoverySeconds: 4.5, Seconds: 5},
		{Time: noon, Snapshot: "cp1.db.zst.age", Error: problem.New("put the key back", "the key aescbc:key1 is missing")},
	} {
		if err := errors.Join(steps.Drills{Latest: d}.Write(dir), c.DrillMetrics(d)); err != nil {
			t.Fatal(err)
		}
		read, err := steps.ReadDrills(dir)
		if err != nil {
			t.Fatal(err)
		}
		st := Find(t.Context(), []Store{s}, k, clusterA).Report(c, []Store{s}, nil, read, "", noon)
		metrics, err := os.ReadFile(filepath.Join(dir, "etcd-rewind-drill.prom"))
		if err != nil {
			t.Fatal(err)
		}
		if st.OK != d.Proven || strings.Contains(string(metrics), "last_success 1\n") != d.Proven || strings.Contains(string(metrics), "recovery_seconds 4.5\n") != d.Proven {
			t.Errorf("%+v\n%s", st, metrics)
		}
		if w := st.Warning; !d.Proven && (w == nil || !strings.Contains(w.Cause, "aescbc:key1 is missing") || w.Hint != "put the key back") {
			t.Errorf("%+v", w)
		}
	}
}

func TestALocationIsTried(t *testing.T) {
	s := &Directory{Path: t.TempDir()}
	if kept, err := Try(t.Context(), s); kept || err != nil || names(t, s, "") != "" {
		t.Errorf("%v %v %s", kept, err, names(t, s, ""))
	}
	if kept, err := Try(t.Context(), &guarded{Store: s, locked: "etcd-rewind-test"}); !kept || err != nil {
		t.Errorf("an object lock: %v %v", kept, err)
	}
	for name, s := range map[string]Store{
		"it isn't there": &Directory{Path: "/nowhere"}, "it takes nothing": refusing{s, "", os.ErrPermission}, "it gives nothing": broken{s},
	} {
		if _, err := Try(t.Context(), s); problem.Of(err) == nil || !strings.Contains(err.Error(), s.Location()) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// So is the file of the metrics, and what is there stays.
func TestTheMetricsAreTried(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "etcd-rewind.prom")
	if err := os.WriteFile(file, []byte("up 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := (&Config{MetricsFile: file}).TryMetrics(); err != nil {
		t.Error(err)
	}
	if got, err := os.ReadFile(file); string(got) != "up 1\n" {
		t.Errorf("%q %v", got, err)
	}
	if left, err := os.ReadDir(dir); len(left) != 1 {
		t.Error(left, err)
	}
	if err := (&Config{}).TryMetrics(); err != nil {
		t.Error(err)
	}
	for path, says := range map[string]string{filepath.Join(dir, "nowhere", "e.prom"): "there is no directory " + dir + "/nowhere", dir: "is not a file"} {
		if p := problem.Of((&Config{MetricsFile: path}).TryMetrics()); p == nil || !strings.Contains(p.Cause, says) || p.Hint == "" {
			t.Errorf("%s: %v", path, p)
		}
	}
}

func TestNothingIsSetUpBeforeItWasOpened(t *testing.T) {
	mine, escrow, other := identity(t), identity(t), identity(t)
	c := &Config{Locations: []string{"file:///srv/backup"}, Recipients: []string{mine.Recipient().String(), escrow.Recipient().String()}}
	if p, err := c.Prove(t.Context(), asIdentities(mine)); err != nil || len(p.Opened) != 1 || len(p.Unproven) != 1 || p.Unproven[0] != escrow.Recipient().String() {
		t.Error(p, err)
	}
	if p, err := c.Prove(t.Context(), asIdentities(escrow, mine)); err != nil || len(p.Opened) != 2 || p.Unproven != nil {
		t.Error(p, err)
	}
	if _, err := c.Prove(t.Context(), asIdentities(other)); problem.Of(err) == nil {
		t.Error("somebody else's identity", err)
	}
	if _, err := c.Prove(t.Context(), nil); problem.Of(err) == nil {
		t.Error("none", err)
	}
	dir := filepath.Join(t.TempDir(), "etcd-rewind")
	path := filepath.Join(dir, "backup.yaml")
	c.Schedule, c.Keep = Schedule{Every: Duration(time.Hour), At: Clock(5 * time.Minute)}, Policy{Last: 3, Within: Duration(48 * time.Hour)}
	if err := c.Check(); err != nil {
		t.Fatal(err)
	}
	if err := c.Write(path, false); err != nil {
		t.Fatal(err)
	}
	got, err := Load(path)
	if err != nil || got.Schedule != c.Schedule || got.Keep != c.Keep || got.Recipients[1] != c.Recipients[1] {
		t.Errorf("%+v %v", got, err)
	}
	if err := c.Write(path, false); problem.Of(err) == nil {
		t.Error("written over")
	}
	if err := c.Write(path, true); err != nil || string(c.Key) != string(got.Key) {
		t.Errorf("another key: %v", err)
	}
}

// What is included is lost as well as a snapshot is, when nobody can open it: one
// recipient of each file has to be proven, and the others are named.
func TestBothFilesAreProven(t *testing.T) {
	mine, ours, escrow := identity(t), identity(t), identity(t)
	name := func(id *age.X25519Identity) string { return id.Recipient().String() }
	c := &Config{
		Path: ConfigPath, Locations: []string{"file:///srv/backup"}, Recipients: []string{name(mine)},
		Include: []string{IncludePKI}, SecretsRecipients: []string{name(ours), name(escrow)},
	}
	if _, err := c.Prove(t.Context(), asIdentities(mine)); problem.Of(err) == nil || !strings.Contains(err.Error(), "what is included (pki) wasn't opened") {
		t.Errorf("the CAs' recipients: %v", err)
	}
	if ok, err := c.Opens(t.Context(), asIdentities(mine)); !ok || err != nil {
		t.Errorf("a drill needs no more: %v", err)
	}
	if ok, err := c.Opens(t.Context(), asIdentities(ours)); ok || err != nil {
		t.Errorf("nor can it do with less: %v", err)
	}
	if _, err := c.Prove(t.Context(), asIdentities(ours, escrow)); problem.Of(err) == nil || strings.Contains(err.Error(), "included") {
		t.Errorf("the snapshots' recipients: %v", err)
	}
	p, err := c.Prove(t.Context(), asIdentities(mine, ours))
	if err != nil || strings.Join(p.Opened, " ") != name(mine)+" "+name(ours) || strings.Join(p.Unproven, " ") != name(escrow) {
		t.Errorf("%+v %v", p, err)
	}
	c.PassphraseFile, c.Recipients = filepath.Join(t.TempDir(), "pass"), nil
	if err := os.WriteFile(c.PassphraseFile, []byte("correct-horse-battery-staple\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	pass, err := c.PassphraseIdentity()
	if err != nil {
		t.Fatal(err)
	}
	if p, err := c.Prove(t.Context(), append(pass, asIdentities(ours)...)); err != nil || len(p.Opened) != 2 {
		t.Errorf("%+v %v", p, err)
	}
}

// Recipients that somebody changed since are proven by nobody, unless one that was
// is still among them.
func TestRecipientsChangedByHandAreUnproven(t *testing.T) {
	for name, c := range map[string]struct {
		conf Config
		says string
	}{
		"as init wrote it":           {Config{Recipients: []string{anAge, anSSH}, Proven: []string{anSSH}}, ""},
		"a passphrase":               {Config{PassphraseFile: "/etc/pass"}, ""},
		"another recipient":          {Config{Recipients: []string{anAge}, Proven: []string{anSSH}}, "that the backups can be opened"},
		"written by hand":            {Config{Recipients: []string{anAge}}, "that the backups can be opened"},
		"another for the CAs":        {Config{Recipients: []string{anAge}, Include: []string{"pki"}, SecretsRecipients: []string{anSSH}, Proven: []string{anAge}}, "what is included (pki)"},
		"both files, one proven":     {Config{Recipients: []string{anAge}, Include: []string{"pki"}, SecretsRecipients: []string{anSSH, anAge}, Proven: []string{anAge}}, ""},
		"a passphrase, and the CAs'": {Config{PassphraseFile: "/etc/pass", Include: []string{"pki"}, SecretsRecipients: []string{anSSH}}, "what is included (pki)"},
	} {
		if p := c.conf.Unproven(); (p == nil) != (c.says == "") || p != nil && (!strings.Contains(p.Cause, c.says) || !strings.Contains(p.Hint, "enable --identity")) {
			t.Errorf("%s: %v", name, p)
		}
	}
}

// What is wrong is said once, the worst first.
func TestTheStatusSaysWhatIsWrong(t *testing.T) {
	k := NewKey()
	good := func(age time.Duration) Store {
		s := &Directory{Path: t.TempDir()}
		put(t, s, aRecord(noon.Add(-age), "cp1"), k)
		return s
	}
	swapped := good(time.Hour)
	replace(t, swapped, aRecord(noon.Add(-time.Hour), "cp1").SnapshotName(), "other")
	swapped.(*Directory).Mounted = false
	put(t, swapped, aRecord(noon.Add(-30*time.Minute), "cp1"), k)
	for name, c := range map[string]struct {
		stores []Store
		says   string
	}{
		"all is well":           {[]Store{good(time.Hour), good(0)}, ""},
		"one is old":            {[]Store{good(time.Hour), good(3 * time.Hour)}, "3 h ago, but one is due every 1h"},
		"one is empty":          {[]Store{good(0), &Directory{Path: t.TempDir()}}, "no good backup"},
		"one can't be read":     {[]Store{good(0), &Directory{Path: "/nowhere"}}, "no such directory"},
		"one is of the future":  {[]Store{good(-time.Hour)}, "no good backup"},
		"a file was swapped":    {[]Store{swapped}, "isn't the file that was stored"},
		"a key of another time": {[]Store{func() Store { s := good(0); put(t, s, aRecord(noon.Add(-time.Hour), "cp2"), NewKey()); return s }()}, "can't be trusted"},
	} {
		st := Find(t.Context(), c.stores, k, clusterA).Report(&Config{Schedule: Schedule{Every: Duration(time.Hour)}}, c.stores, nil, steps.Drills{}, "", noon.Add(time.Minute))
		if st.OK != (c.says == "") || !st.OK && (!strings.Contains(st.Warning.Cause, c.says) || !strings.Contains(st.Warning.Cause, c.stores[len(c.stores)-1].Location())) {
			t.Errorf("%s: %+v", name, st.Warning)
		}
	}
}

// One backup in several locations is one line.
func TestABackupIsListedOnce(t *testing.T) {
	k := NewKey()
	a, b := &Directory{Path: t.TempDir()}, &Directory{Path: t.TempDir()}
	put(t, a, aRecord(noon, "cp1"), k)
	put(t, b, aRecord(noon, "cp1"), k)
	put(t, b, aRecord(noon.Add(time.Hour), "cp2"), k)
	replace(t, b, aRecord(noon, "cp1").SnapshotName(), "other")
	all := Find(t.Context(), []Store{a, b}, k, "").Backups()
	if len(all) != 2 || all[0].Node != "cp2" || len(all[1].Locations) != 2 || all[1].Record == nil || all[1].Error == nil || !strings.Contains(all[1].Error.Cause, b.Location()) {
		t.Errorf("%+v", all)
	}
}

// A timer that catches up after a boot comes before etcd does. It is waited for;
// what no waiting mends isn't.
func TestATurnWaitsForEtcdAfterABoot(t *testing.T) {
	up, refused := &steps.Facts{Etcd: &steps.Etcd{}, Live: &node.EtcdStatus{}}, &steps.Facts{Etcd: &steps.Etcd{}, LiveErr: syscall.ECONNREFUSED}
	for name, c := range map[string]struct {
		seen         []*steps.Facts
		limit        time.Duration
		asked, lates int
		answers      bool
	}{
		"it answers":                   {[]*steps.Facts{up}, time.Minute, 1, 0, true},
		"it comes":                     {[]*steps.Facts{refused, refused, up}, 100 * time.Millisecond, 3, 1, true},
		"it never does":                {[]*steps.Facts{refused}, 20 * time.Millisecond, 0, 1, false},
		"there is none":                {[]*steps.Facts{{EtcdErr: errors.New("no manifest")}}, time.Minute, 1, 0, false},
		"its certificate is another's": {[]*steps.Facts{{Etcd: &steps.Etcd{}, LiveErr: x509.UnknownAuthorityError{}}}, time.Minute, 1, 0, false},
	} {
		asked, lates := 0, 0
		f, err := Await(t.Context(), c.limit, func(context.Context) (*steps.Facts, error) {
			asked++
			return c.seen[min(asked, len(c.seen))-1], nil
		}, func(error) { lates++ })
		if err != nil || (f.Live != nil) != c.answers || c.asked != 0 && asked != c.asked || asked < 1+lates || lates != c.lates {
			t.Errorf("%s: %v, asked %d times, told %d times", name, err, asked, lates)
		}
	}
}
