package practice

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"etcd-rewind/trust"
	"github.com/spf13/cobra"
	"go.etcd.io/etcd/etcdctl/v3/ctlv3"
	"go.etcd.io/etcd/etcdutl/v3/etcdutl"
)

// rootEnv names, for the tools of the by-hand shell, the practice node that they are
// for.
const rootEnv = "ETCD_REWIND_PRACTICE_ROOT"

// introEnv is set for the wizard that practice starts there.
const introEnv = "ETCD_REWIND_PRACTICE_INTRO"

// tools are the programs of the by-hand shell, by name. etcdctl and etcdutl
// are upstream's; the others do the little that the exercises need.
var tools map[string]func(args []string) int

func init() { // kubectl's command refers to tools: a literal would be a cycle

	tools = map[string]func(args []string) int{
		"etcdctl": func([]string) int { ctlv3.MustStart(); return 0 },
		"etcdutl": func(args []string) int { return execute(newEtcdutl(), args) },
		"kubectl": func(args []string) int { return execute(newKubectl(), args) },
		"crictl":  func(args []string) int { return execute(newCrictl(), args) },
		"systemctl": func(args []string) int {
			return execute(newSystemctl(), args)
		},
	}
}

func execute(c *cobra.Command, args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	c.SetArgs(args)
	c.CompletionOptions.DisableDefaultCmd = true
	c.SilenceUsage = true
	if err := c.ExecuteContext(ctx); err != nil {
		return 1
	}
	return 0
}

// writeTools puts the tools into a directory for PATH. They are this binary,
// their environment says which one they are.
func (r Root) writeTools(exe string) error {
	if err := os.MkdirAll(r.tools(), 0o755); err != nil {
		return err
	}
	for name := range tools {
		text := trust.Shell("#!/bin/sh\n%s=%s %s=%s exec %s \"$@\"\n", roleEnv, name, rootEnv, string(r), exe)
		if err := os.WriteFile(filepath.Join(r.tools(), name), []byte(text), 0o755); err != nil {
			return err
		}
	}
	text := trust.Shell("#!/bin/sh\nexec %s \"$@\"\n", exe)
	return os.WriteFile(filepath.Join(r.tools(), "etcd-rewind"), []byte(text), 0o755)
}

// newEtcdutl is what etcdutl's main package builds of its own commands.
func newEtcdutl() *cobra.Command {
	c := &cobra.Command{Use: "etcdutl", Short: "An administrative command line tool for etcd3."}
	c.PersistentFlags().DurationVar(&etcdutl.FlockTimeout, "timeout", 10*time.Second, "time to wait to obtain a file lock on db file, 0 to block indefinitely")
	c.PersistentFlags().StringVarP(&etcdutl.OutputFormat, "write-out", "w", "simple", "set the output format (fields, json, protobuf, simple, table)")
	c.AddCommand(
		etcdutl.NewDefragCommand(), etcdutl.NewSnapshotCommand(), etcdutl.NewHashKVCommand(),
		etcdutl.NewVersionCommand(), etcdutl.NewMigrateCommand(),
	)
	return c
}

// here is the session that a tool was started for.
func here() (*session, error) {
	root := os.Getenv(rootEnv)
	if root == "" {
		return nil, fmt.Errorf("%s is not set: run this in the shell of etcd-rewind practice --by-hand", rootEnv)
	}
	return openSession(Root(root))
}

func newSystemctl() *cobra.Command {
	c := &cobra.Command{Use: "systemctl", Short: "kubelet's service on the practice node"}
	kubelet := func(args []string) error {
		if len(args) != 1 || strings.TrimSuffix(args[0], ".service") != "kubelet" {
			return errors.New("the practice node has only one service: kubelet")
		}
		return nil
	}
	c.AddCommand(
		&cobra.Command{Use: "restart kubelet", Args: cobra.ArbitraryArgs, RunE: func(c *cobra.Command, args []string) error {
			s, err := here()
			if err != nil || kubelet(args) != nil {
				return cmp.Or(err, kubelet(args))
			}
			return s.restartKubelet(c.Context())
		}},
		&cobra.Command{Use: "status kubelet", Args: cobra.ArbitraryArgs, RunE: func(c *cobra.Command, args []string) error {
			s, err := here()
			if err != nil || kubelet(args) != nil {
				return cmp.Or(err, kubelet(args))
			}
			state := "active (running)"
			q, err := http.NewRequestWithContext(c.Context(), http.MethodGet, s.seen().ports.healthzURL(), nil)
			if err != nil {
				return err
			}
			if resp, err := kubeletClient.Do(q); err != nil {
				state = "inactive (dead)"
			} else {
				_ = resp.Body.Close()
			}
			fmt.Fprintf(c.OutOrStdout(), "kubelet: %s, log in %s\n", state, s.seen().root.Path("var/log/kubelet.log"))
			return nil
		}},
	)
	return c
}

// kubeletClient asks the node's kubelet, which may have been stopped (SIGSTOP) as
// a process of its own.
var kubeletClient = &http.Client{Timeout: 30 * time.Second}

func (s *session) restartKubelet(ctx context.Context) error {
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(s.seen().ports.healthzURL(), "healthz")+"restart", nil)
	if err != nil {
		return err
	}
	resp, err := kubeletClient.Do(q)
	if err != nil {
		return fmt.Errorf("kubelet can't be restarted, is the practice node still there?: %w", err)
	}
	return resp.Body.Close()
}
