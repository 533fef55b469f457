//go:build linux

package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// parts are the directories of what nodes are made of.
type parts struct {
	kubernetes, etcd string
	containerd       string // of systemd hosts; empty when it is Debian's
	host             string // the Debian of systemd hosts
	engines          string // what lies over it where a unit runs a container; empty elsewhere
}

// build has e2e/parts/build.sh build what is missing. The first time takes about
// five minutes of two cores for each Kubernetes, later it takes milliseconds.
func build(ctx context.Context, config Config) (parts, error) {
	script, err := findUp("e2e/parts/build.sh")
	if err != nil {
		return parts{}, err
	}
	args := []string{config.Kubernetes, config.Etcd}
	if config.Systemd || config.etcdHosts {
		args = append(args, "host")
	}
	if f := config.founding; f != nil && f.form.engine() != "" {
		args = append(args, "engines")
	}
	if config.Systemd && config.Containerd != "" {
		args = append(args, config.Containerd)
	}
	var out strings.Builder
	cmd := exec.CommandContext(ctx, script, args...)
	cmd.Stdout = &out
	errOut := &lastBytes{}
	cmd.Stderr = io.MultiWriter(config.Progress, errOut)
	if err := cmd.Run(); err != nil {
		return parts{}, fmt.Errorf("e2e/parts/build.sh: %w\n%s", err, errOut)
	}
	dirs := map[string]string{}
	for line := range strings.Lines(out.String()) {
		if part, dir, ok := strings.Cut(strings.TrimSpace(line), "\t"); ok {
			dirs[part] = dir
		}
	}
	for _, part := range args {
		if dirs[part] == "" {
			return parts{}, fmt.Errorf("e2e/parts/build.sh did not say where %s is: %q", part, out.String())
		}
	}
	return parts{
		kubernetes: dirs[config.Kubernetes], etcd: dirs[config.Etcd],
		containerd: dirs[config.Containerd], host: dirs["host"], engines: dirs["engines"],
	}, nil
}

// findUp looks for a file of the repository in the working directory and above.
func findUp(name string) (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); err == nil {
			return path, nil
		} else if !errors.Is(err, os.ErrNotExist) {
			return "", err
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("%s not found: run this inside the repository", name)
		}
		dir = filepath.Dir(dir)
	}
}

// lastBytes keeps the end of what is written to it.
type lastBytes struct{ text []byte }

func (l *lastBytes) Write(p []byte) (int, error) {
	l.text = append(l.text, p...)
	l.text = l.text[max(0, len(l.text)-4096):]
	return len(p), nil
}

func (l *lastBytes) String() string { return strings.TrimSpace(string(l.text)) }
