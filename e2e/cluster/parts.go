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

// build has e2e/parts/build.sh build what is missing, and returns the
// directories of Kubernetes' and of etcd's programs. The first time takes about
// five minutes of two cores, later it takes milliseconds.
func build(ctx context.Context, etcd string, progress io.Writer) (kubernetesDir, etcdDir string, err error) {
	script, err := findUp("e2e/parts/build.sh")
	if err != nil {
		return "", "", err
	}
	var out strings.Builder
	cmd := exec.CommandContext(ctx, script, "kubernetes", etcd)
	cmd.Stdout = &out
	errOut := &lastBytes{}
	cmd.Stderr = io.MultiWriter(progress, errOut)
	if err := cmd.Run(); err != nil {
		return "", "", fmt.Errorf("e2e/parts/build.sh: %w\n%s", err, errOut)
	}
	dirs := map[string]string{}
	for line := range strings.Lines(out.String()) {
		if part, dir, ok := strings.Cut(strings.TrimSpace(line), "\t"); ok {
			dirs[part] = dir
		}
	}
	if dirs["kubernetes"] == "" || dirs[etcd] == "" {
		return "", "", fmt.Errorf("e2e/parts/build.sh did not say where kubernetes and %s are: %q", etcd, out.String())
	}
	return dirs["kubernetes"], dirs[etcd], nil
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
