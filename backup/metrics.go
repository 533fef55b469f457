package backup

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"etcd-rewind/problem"
	"etcd-rewind/steps"
)

// keepResult keeps how the last backup went: the state, and the metrics that say
// the same. A result that can't be kept is no good one, in either. The error is a
// *problem.Problem.
func keepResult(metrics, dir string, b *steps.Backups) error {
	bad := func(err error) error {
		p := problem.From(err).About("the result of the backup can't be saved")
		if b.Last.OK {
			b.Last.OK, b.Last.Error = false, p
		}
		return p
	}
	err := b.Write(dir)
	if err != nil {
		err = bad(err)
	}
	if merr := writeMetrics(metrics, b); merr != nil {
		if err == nil {
			err = bad(merr)
		}
		_ = b.Write(dir) // it has failed before, or says why there are no metrics
	}
	return err
}

// writeMetrics writes what node_exporter's textfile collector reads, in one
// piece; "" writes nothing. Others may read it: there are no secrets in it. The
// error is a *problem.Problem.
func writeMetrics(path string, b *steps.Backups) error {
	if path == "" {
		return nil
	}
	var out bytes.Buffer
	metric := func(name, help string, lines ...string) {
		fmt.Fprintf(&out, "# HELP %s %s\n# TYPE %s gauge\n", name, help, name)
		for _, l := range lines {
			fmt.Fprintf(&out, "%s%s\n", name, l)
		}
	}
	unix := func(t time.Time) int64 {
		if t.IsZero() {
			return 0
		}
		return t.Unix()
	}
	var good, failures []string
	for _, l := range b.Locations {
		good = append(good, fmt.Sprintf("{location=%q} %d", l.Location, unix(l.Good)))
		failures = append(failures, fmt.Sprintf("{location=%q} %d", l.Location, l.Failures))
	}
	ok := 0
	r := b.Last
	if r.OK {
		ok = 1
	}
	metric("etcd_rewind_backup_last_good_timestamp_seconds", "When the last good backup in a location was taken, 0 without one.", good...)
	metric("etcd_rewind_backup_failures", "Failures in a location since the last good backup there.", failures...)
	metric("etcd_rewind_backup_last_success", "Whether the last backup of this node succeeded everywhere.", fmt.Sprintf(" %d", ok))
	metric("etcd_rewind_backup_last_timestamp_seconds", "When the last backup of this node ended.", fmt.Sprintf(" %d", r.Time.Unix()))
	metric("etcd_rewind_backup_last_duration_seconds", "How long it took.", fmt.Sprintf(" %g", r.Seconds))
	if r.Bytes > 0 {
		metric("etcd_rewind_backup_last_bytes", "Size of its snapshot, compressed and encrypted.", fmt.Sprintf(" %d", r.Bytes))
		metric("etcd_rewind_backup_last_revision", "etcd's revision in it.", fmt.Sprintf(" %d", r.Revision))
	}
	return publish(path, out.Bytes())
}

// Broken is what is known of a configuration that can't be read as one: its path,
// and where its metrics go, so that they don't say for ever that all is well.
func Broken(path string) *Config {
	c := &Config{Path: path}
	data, err := readPrivate(path, maxConfig)
	if err != nil {
		return c
	}
	for line := range strings.Lines(string(data)) {
		value, ok := strings.CutPrefix(line, "metricsFile:")
		if !ok {
			continue
		}
		value, _, _ = strings.Cut(value, " #")
		if value = strings.Trim(value, " \t\r\n'\""); isMetricsFile(value) {
			c.MetricsFile = value
		}
	}
	return c
}

// isMetricsFile says whether node_exporter would read it.
func isMetricsFile(path string) bool { return filepath.IsAbs(path) && strings.HasSuffix(path, ".prom") }

// DrillMetrics writes how the last drill of the latest backup went, beside the
// configuration's file: etcd-rewind-drill.prom for etcd-rewind.prom. Without such
// a file it writes nothing.
func (c *Config) DrillMetrics(d *steps.DrillResult) error {
	if c.MetricsFile == "" {
		return nil
	}
	proven := 0
	if d.Proven {
		proven = 1
	}
	var out bytes.Buffer
	for _, m := range []struct {
		name, help string
		value      any
	}{
		{"etcd_rewind_drill_last_success", "Whether the last drill proved the latest backup.", proven},
		{"etcd_rewind_drill_last_timestamp_seconds", "When it ended.", d.Time.Unix()},
		{"etcd_rewind_drill_last_duration_seconds", "How long all of it took.", d.Seconds},
		{"etcd_rewind_drill_recovery_seconds", "From the fetch until kube-apiserver was ready, 0 unless proven.", d.RecoverySeconds},
	} {
		fmt.Fprintf(&out, "# HELP %[1]s %s\n# TYPE %[1]s gauge\n%[1]s %[3]v\n", m.name, m.help, m.value)
	}
	return publish(strings.TrimSuffix(c.MetricsFile, ".prom")+"-drill.prom", out.Bytes())
}

// TryMetrics proves that the file of the metrics can be written; what is there
// stays. Without one it is nothing. The error is a *problem.Problem.
func (c *Config) TryMetrics() error {
	if c.MetricsFile == "" {
		return nil
	}
	f, err := beside(c.MetricsFile)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Close(), os.Remove(f.Name())); err != nil {
		return problem.From(err).About("the metrics can't be written")
	}
	return nil
}

// publish replaces a file that others may read. The error is a *problem.Problem.
func publish(path string, data []byte) error {
	// The collector reads whole files only if they come by a rename.
	f, err := beside(path)
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // renamed, or not worth keeping
	_, err = f.Write(data)
	if err = errors.Join(err, f.Chmod(0o644), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return problem.From(err).About("the metrics can't be written")
	}
	return nil
}

// beside makes what is to become the file of metrics.
func beside(path string) (*os.File, error) {
	if st, err := os.Stat(path); err == nil && !st.Mode().IsRegular() {
		return nil, problem.New("metricsFile takes the path of a file below the directory of node_exporter's textfile collector", "the metrics can't be written: %s is not a file", path)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".etcd-rewind-*")
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, problem.New("create it, or correct metricsFile in the configuration", "the metrics can't be written: there is no directory %s", filepath.Dir(path))
	case err != nil:
		return nil, problem.From(err).About("the metrics can't be written")
	}
	return f, nil
}
