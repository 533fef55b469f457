package steps

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"etcd-rewind/problem"
)

// The timer's backups are as old as its own file says; nobody asks a store.
func TestTheCheckOfBackups(t *testing.T) {
	now := time.Date(2026, 3, 3, 12, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	const hour = int64(3600)
	good := &BackupResult{Time: ago(time.Hour), OK: true}
	bad := &BackupResult{Time: ago(time.Hour), Error: problem.New("", "403 Forbidden")}
	for name, c := range map[string]struct {
		b     *Backups
		level Level
		says  string
	}{
		"none were set up":           {nil, "", ""},
		"all is well":                {&Backups{EverySeconds: hour, Enabled: ago(99 * time.Hour), Last: good, Locations: []BackupLocation{{Location: "s3://b", Good: ago(time.Hour)}}}, Pass, "60 min ago"},
		"as old as twice the time":   {&Backups{EverySeconds: hour, Enabled: ago(99 * time.Hour), Last: good, Locations: []BackupLocation{{Location: "s3://b", Good: ago(2 * time.Hour)}}}, Pass, "2 h ago"},
		"older":                      {&Backups{EverySeconds: hour, Enabled: ago(99 * time.Hour), Last: good, Locations: []BackupLocation{{Location: "s3://b", Good: ago(3 * time.Hour)}}}, Warn, "the last good backup in s3://b is from 3 h ago, but one is due every 1h"},
		"older in one place":         {&Backups{EverySeconds: hour, Enabled: ago(99 * time.Hour), Last: good, Locations: []BackupLocation{{Location: "file:///a", Good: ago(time.Hour)}, {Location: "s3://b", Good: ago(3 * time.Hour)}}}, Warn, "s3://b"},
		"never a good one":           {&Backups{EverySeconds: 6 * hour, Enabled: ago(99 * time.Hour), Last: bad, Locations: []BackupLocation{{Location: "s3://b", Failures: 3}}}, Warn, "no good backup in s3://b, but one is due every 6h"},
		"old, and nothing was due":   {&Backups{EverySeconds: hour, Enabled: ago(time.Hour), Last: good, Locations: []BackupLocation{{Location: "s3://b", Good: ago(300 * time.Hour)}}}, Pass, "12 days ago"},
		"the timer was just started": {&Backups{EverySeconds: hour, Enabled: ago(time.Minute)}, Pass, "none was taken"},
		"the timer doesn't run":      {&Backups{EverySeconds: hour, Enabled: ago(3 * time.Hour)}, Warn, "no backup was taken"},
		"no timer":                   {&Backups{EverySeconds: hour, Last: good, Locations: []BackupLocation{{Location: "s3://b", Good: ago(300 * time.Hour)}}}, Pass, "12 days ago"},
		"the last one failed":        {&Backups{Last: bad, Locations: []BackupLocation{{Location: "s3://b", Good: ago(time.Hour)}}}, Warn, "403 Forbidden"},
	} {
		k := &checks{ctx: t.Context(), f: &Facts{Time: now, Backups: c.b}}
		if v := k.backups(); v.Level != c.level || !strings.Contains(v.Cause, c.says) || v.Level == Warn && v.Hint == "" {
			t.Errorf("%s: %+v", name, v)
		}
	}
}

// A timer whose configuration was changed is reported, with the command, unless a
// backup is overdue already.
func TestATimerThatIsOutOfDateIsChecked(t *testing.T) {
	now := time.Date(2026, 3, 3, 12, 0, 0, 0, time.UTC)
	for age, says := range map[time.Duration]string{time.Hour: "the schedule was changed", 3 * time.Hour: "from 3 h ago"} {
		b := &Backups{EverySeconds: 3600, Enabled: now.Add(-99 * time.Hour), Last: &BackupResult{Time: now, OK: true}, Locations: []BackupLocation{{Location: "s3://b", Good: now.Add(-age)}}}
		k := &checks{ctx: t.Context(), f: &Facts{Time: now, Backups: b, BackupTimer: problem.New("etcd-rewind backup enable", "the schedule was changed")}}
		if v := k.backups(); v.Level != Warn || v.Blocks() == (age == time.Hour) || !strings.Contains(v.Cause, says) || !strings.Contains(v.Hint, "etcd-rewind backup ") {
			t.Errorf("%+v", v)
		}
	}
}

func TestHowBackupsStandIsKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "etcd-rewind", "backup")
	if b, err := ReadBackups(dir); b != nil || err != nil {
		t.Errorf("none: %v %v", b, err)
	}
	b := &Backups{Cluster: "x"}
	b.At("s3://b").Failures = 2
	for range 2 {
		if err := b.Write(dir); err != nil {
			t.Fatal(err)
		}
	}
	got, err := ReadBackups(dir)
	if err != nil || got.Cluster != "x" || got.At("s3://b").Failures != 2 || len(got.Locations) != 1 {
		t.Errorf("%+v %v", got, err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("%v %v", left, err)
	}
	// Somebody else's word isn't taken, nor what is no state.
	path := filepath.Join(dir, backupsFile)
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadBackups(dir); err == nil {
		t.Error("others may write it")
	}
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadBackups(dir); problem.Of(err) == nil || !strings.Contains(problem.Line(err), "remove it") {
		t.Errorf("nonsense: %v", err)
	}
}

// A drill of the latest backup that failed is reported; a good one isn't.
func TestTheCheckTellsOfADrillThatFailed(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	b := &Backups{EverySeconds: 3600, Last: &BackupResult{OK: true, Time: now}, Locations: []BackupLocation{{Location: "s3://b", Good: now}}}
	for _, d := range []*DrillResult{nil, {Time: now, Proven: true}, {Time: now.Add(-3 * time.Hour), Error: problem.New("", "the key aescbc:key1 is missing")}} {
		v := (&checks{f: &Facts{Time: now, Backups: b, Drills: Drills{Latest: d}}}).backups()
		if failed := d != nil && !d.Proven; (v.Level == Warn) != failed || failed && (!strings.Contains(v.Cause, "3 h ago, failed: the key aescbc:key1") || v.Hint == "") {
			t.Errorf("%+v: %+v", d, v)
		}
	}
}
