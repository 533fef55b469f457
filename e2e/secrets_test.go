//go:build e2e && linux

package e2e

import (
	"encoding/base64"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Nothing of a Secret but its name comes out: not on the screen, not in the
// journal, the events, the report or the plan.
func TestNoSecretIsTold(t *testing.T) {
	begin(t)
	const value = "correct-horse-battery-staple"
	kubectl(t, "create", "secret", "generic", "told-to-nobody", "--from-literal=password="+value)
	t.Cleanup(func() {
		_, _ = node.Kubectl(afterwards(t), "delete", "secret", "told-to-nobody", "--ignore-not-found")
	})
	const snapshot = "/var/lib/with-a-secret.db"
	if err := node.Save(t.Context(), snapshot); err != nil {
		t.Fatal(err)
	}
	kubectl(t, "patch", "secret", "told-to-nobody", "--type=merge", "-p", `{"stringData":{"password":"`+value+`-2"}}`)

	told := map[string]string{}
	for _, args := range [][]string{
		{"inspect", snapshot},
		{"inspect", snapshot, "--output", "json"},
		{"diff", snapshot, "--fields", "--all"},
		{"diff", snapshot, "--fields", "--all", "--output", "json"},
		{"restore", snapshot, "--dry-run"},
		{"restore", snapshot, "--yes", "--output", "json"},
		{"undo", "--yes"},
	} {
		o := run(t, args...)
		if o.code != 0 {
			t.Fatalf("%v: exit status %d\n%s%s", args, o.code, o.stdout, o.stderr)
		}
		told[strings.Join(args, " ")] = o.stdout + o.stderr
	}
	if !strings.Contains(told["diff "+snapshot+" --fields --all"], "told-to-nobody") {
		t.Error("the comparison doesn't name the Secret that has changed")
	}
	root := node.HostPath(stateDir)
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		told[path] = string(data)
		if info, ierr := e.Info(); ierr == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s can be read by others: %v", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for where, text := range told {
		for _, secret := range []string{value, base64.StdEncoding.EncodeToString([]byte(value))[:36], "PRIVATE KEY"} {
			if strings.Contains(text, secret) {
				t.Errorf("%s holds %q", where, secret)
			}
		}
	}
}
