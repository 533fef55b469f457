// Package nodetest makes what tests show as a node: a kubelet among its processes.
package nodetest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// PID is the process that Proc's kubelet is.
const PID = 42

// Proc makes a /proc in the directory dir, with one process in it: a kubelet with
// that command line, of this user, whose program is beside it.
func Proc(dir string, args ...string) error {
	program := filepath.Join(dir, "bin", "kubelet")
	ids := strings.Repeat(fmt.Sprintf("\t%d", os.Geteuid()), 4)
	for name, text := range map[string]string{
		"bin/kubelet":  "#!/bin/sh\n",
		"uptime":       "1000.00 5.00\n",
		"42/cmdline":   strings.Join(append([]string{"/usr/bin/kubelet"}, args...), "\x00") + "\x00",
		"42/stat":      "42 (kubelet) S 1" + strings.Repeat(" 0", 17) + " 90000 0 0\n",
		"42/status":    "Name:\tkubelet\nUid:" + ids + "\nGid:" + ids + "\n",
		"42/ns/net":    "",
		"self/ns/net":  "",
		"self/cmdline": "",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
			return err
		}
	}
	for link, to := range map[string]string{"42/exe": program, "42/cwd": "/", "42/ns/mnt": "mnt:[1]", "self/ns/mnt": "mnt:[1]"} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			return err
		}
	}
	return nil
}
