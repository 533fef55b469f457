package node

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"etcd-rewind/trust"
)

// Shell runs a command line of the user's in a shell, until it ends or ctx does.
// An error has what the command printed.
func Shell(ctx context.Context, command string) error {
	cmd, err := trust.Command(ctx, "/bin/sh", "-c", command)
	if err != nil {
		return err
	}
	// A process group of its own: Ctrl-C and a hangup are for this program and
	// must not interrupt a restart half-way.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// A kubelet started in the background keeps the pipe open; the command has
	// ended all the same.
	cmd.WaitDelay = 2 * time.Second
	out, err := cmd.CombinedOutput()
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil
	}
	if text := strings.TrimSpace(string(out)); err != nil && text != "" {
		return fmt.Errorf("%w: %s", err, text)
	}
	return err
}
