//go:build e2e && linux

// Package onhost has tests that run on a host of the others, as root: they are
// built there, and brought to it.
package onhost

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"etcd-rewind/node"
	"etcd-rewind/practice/conformance"
)

func TestTheRealSystemdKeepsTheRulesThatTheEngineStandsOn(t *testing.T) {
	if !node.Systemd() {
		t.Fatal("systemd doesn't run this machine")
	}
	conformance.RunSystemd(t, systemd{})
}

// Services are found by their names, by the processes in them, and by their
// commands: running ones, instances of templates, and those that nothing has loaded.
func TestServicesAreFoundOnTheRealSystemd(t *testing.T) {
	const template, stopped = "conformance@.service", "stopped-conformance.service"
	for name, command := range map[string]string{template: "/bin/sleep infinity", stopped: "/opt/none/etcd-v3.6.5 --name %H"} {
		if err := os.WriteFile(filepath.Join(units, name), []byte("[Service]\nExecStart="+command+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	instance := strings.Replace(template, "@", "@a", 1)
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		err := errors.Join(node.StopUnit(ctx, instance), os.Remove(filepath.Join(units, template)), os.Remove(filepath.Join(units, stopped)), node.ReloadUnits(ctx))
		if err != nil {
			t.Error(err)
		}
	})
	if err := errors.Join(node.ReloadUnits(t.Context()), node.StartUnit(t.Context(), instance)); err != nil {
		t.Fatal(err)
	}
	var services []string
	for begun := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		var err error
		if services, err = node.Services(t.Context()); err != nil {
			t.Fatal(err)
		}
		names, err := node.ServicesOf(services, "conformance")
		if err != nil {
			t.Fatal(err)
		}
		if slices.Contains(names, instance) && !slices.Contains(names, template) {
			break
		}
		if time.Since(begun) > time.Minute {
			t.Fatalf("called so are %q", names)
		}
	}
	// Its process is called so once it has become the program.
	for begun := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		names, err := node.ServicesOf(services, "sleep")
		if err == nil && slices.Contains(names, instance) {
			break
		}
		if err != nil || time.Since(begun) > time.Minute {
			t.Fatalf("sleep runs in %q, %v", names, err)
		}
	}
	if names, err := node.ServicesOf(services, "nothing-is-called-so"); err != nil || len(names) > 0 {
		t.Errorf("nobody's are %q, %v", names, err)
	}
	begun := time.Now()
	all, err := node.ServiceCommands(t.Context(), services)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the commands of %d services took %s", len(all), time.Since(begun).Round(time.Millisecond))
	var etcds []string
	for _, c := range all {
		if c.Names("etcd") {
			etcds = append(etcds, c.Name)
		}
	}
	if !slices.Contains(etcds, stopped) || slices.Contains(etcds, instance) || len(all) < 10 {
		t.Errorf("%d services, of which etcd may be %q", len(all), etcds)
	}
}

// systemd is this machine's, as the engine asks it and tells it.
type systemd struct{}

func (systemd) Unit(ctx context.Context, name string) (*node.Unit, error) {
	return node.AskUnit(ctx, name)
}

func (systemd) StartUnit(ctx context.Context, name string) error { return node.StartUnit(ctx, name) }

func (systemd) StopUnit(ctx context.Context, name string) error { return node.StopUnit(ctx, name) }

func (systemd) KillUnit(ctx context.Context, name string) error { return node.KillUnit(ctx, name) }

func (systemd) ResetUnit(ctx context.Context, name string) error { return node.ResetUnit(ctx, name) }

func (systemd) ReloadUnits(ctx context.Context) error { return node.ReloadUnits(ctx) }

// Until the next boot, if it comes to the worst.
const (
	units = "/run/systemd/system"
	wants = units + "/multi-user.target.wants"
)

func (systemd) Put(name string, s conformance.Service) error {
	tmp := filepath.Join(units, "."+name)
	if err := os.WriteFile(tmp, []byte(s.Text()), 0o644); err != nil {
		return err
	}
	if err := os.Rename(tmp, filepath.Join(units, name)); err != nil || s.Loose {
		return err
	}
	if err := os.MkdirAll(wants, 0o755); err != nil {
		return err
	}
	if err := os.Symlink(filepath.Join(units, name), filepath.Join(wants, name)); !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

func (systemd) Remove(name string) error {
	if err := os.Remove(filepath.Join(wants, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Remove(filepath.Join(units, name))
}
