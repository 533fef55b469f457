package practice

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"etcd-rewind/trust"
)

// runWizard runs the wizard inside the node, as a process of its own.
func (s *session) runWizard(ctx context.Context, in io.Reader, out, errOut io.Writer) error {
	cmd, err := trust.Self(ctx)
	if err != nil {
		return err
	}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, errOut
	cmd.Env = append(s.environ(), introEnv+"=1")
	var exit *exec.ExitError
	if err := s.run(cmd); err != nil && !errors.As(err, &exit) {
		return err
	}
	return nil // what went wrong was on the screen, and is graded
}

// environ is the person's own environment, with what the tools need: it is
// their terminal.
func (s *session) environ() []string {
	path := s.named().root.tools()
	if own := os.Getenv("PATH"); own != "" { // an empty element is the working directory
		path += string(filepath.ListSeparator) + own
	}
	return append(slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "ETCD") }),
		"PATH="+path,
		"KUBECONFIG="+s.named().root.Kubeconfig(), rootEnv+"="+string(s.Root),
	)
}

// run runs a program to its end, inside the node where that can be had, and ends
// what it leaves running in the background.
func (s *session) run(cmd *exec.Cmd) error {
	defer endStarted(s.Root)
	if s.Inside {
		leave, err := s.enter(cmd)
		if err != nil {
			return err
		}
		defer leave()
	}
	// Ctrl-C is for what runs there, which would inherit that it is ignored.
	taken := make(chan os.Signal, 1)
	signal.Notify(taken, os.Interrupt)
	defer signal.Stop(taken)
	cmd.WaitDelay = max(cmd.WaitDelay, time.Second) // what stays behind may hold its output
	if err := cmd.Run(); !errors.Is(err, exec.ErrWaitDelay) {
		return err
	}
	return nil
}

// shell runs the user's shell, or the script on stdin, with the node's tools.
// outside is why it isn't inside the node.
func shell(ctx context.Context, s *session, in io.Reader, out, errOut io.Writer, outside error) error {
	cmd, err := trust.Command(ctx, "bash")
	bash := err == nil
	if !bash {
		if cmd, err = trust.Command(ctx, "/bin/sh"); err != nil {
			return err
		}
	}
	prompt := fmt.Sprintf("[%s] \\w$ ", s.Exercise)
	switch {
	case !isTerminal(in):
		cmd.SysProcAttr = childAttr()
	case bash:
		rc := filepath.Join(s.Root.tools(), ".bashrc")
		if err := os.WriteFile(rc, []byte(trust.Shell("PS1=%s\n", prompt)), 0o600); err != nil {
			return err
		}
		cmd.Args = append(cmd.Args, "--noprofile", "--rcfile", rc, "-i")
	}
	root := strings.TrimSuffix(string(s.named().root), "/")
	cmd.Dir = string(s.Root)
	cmd.Env = append(s.environ(), "R="+root, "PS1="+prompt, "PROMPT_DIRTRIM=2")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, errOut
	tell(out, s)
	place := fmt.Sprintf("In this shell paths and ports are a real node's: /etc/kubernetes, /var/lib, /var/log, /opt/backup, %s, etcd at %s. "+
		"It has no other network.", realView.socket, realView.ports.etcdURL())
	if outside != nil {
		place = fmt.Sprintf("In this shell / of the node is $R, %s, and etcd is at %s: a real node's paths and ports can't be had here (%v).", root, s.Ports.etcdURL(), outside)
	}
	fmt.Fprint(out, fold("", place), "etcdctl, etcdutl, kubectl, crictl, systemctl and etcd-rewind are the node's.\n"+
		"etcd-rewind practice hint, status, grade; exit ends it all and grades.\n\n")
	var exit *exec.ExitError
	if err := s.run(cmd); err != nil && !errors.As(err, &exit) {
		return err
	}
	return nil // an exit status is that of its last command: not ours to judge
}
