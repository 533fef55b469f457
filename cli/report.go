package cli

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"
	etcd "go.etcd.io/etcd/api/v3/version"

	"etcd-rewind/restore"
	"etcd-rewind/settle"
	"etcd-rewind/steps"
	"etcd-rewind/trust"
	"etcd-rewind/ui/print"
)

// mostReported is how many runs a bundle holds when none is named.
const mostReported = 5

const aboutTheBundle = `Written by etcd-rewind report, to be sent to whoever helps.

version.txt   the version and the platform
checks.jsonl  the checks of the node, as of now
runs.jsonl    the runs of this node
settled.jsonl what was settled after them
RUN/          of each run: the journal, what the screen showed, the reports

It has names of nodes, namespaces and paths, and addresses. Not in it: manifests,
certificates, keys, snapshots, values of objects. What looks like a key, a token
or a password is replaced by [removed]. Read through it before you send it.
`

// report puts together what somebody needs who wasn't there.
func (a *app) report() *cobra.Command {
	var to string
	c := &cobra.Command{
		Use:   "report [RUN]",
		Short: "Collect versions, checks and the runs' journals in one file, without secrets",
		Long: `Collect versions, checks and the runs' journals in one file, without secrets.

For a bug report, or a colleague who wasn't there. Without RUN it has the last
five runs. Nothing on the node is changed, and nothing is sent anywhere.
Names of nodes, namespaces and paths are in it: read through it before you send
it.`,
		Example: `  etcd-rewind report
  etcd-rewind report 20261120-120000 --to /tmp/run.tar.gz`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeRuns,
		RunE: func(c *cobra.Command, args []string) error {
			ctx, stop := interruptible(c.Context())
			defer stop()
			now := time.Now().UTC()
			files := []steps.BundleFile{
				{Name: "README.txt", Data: []byte(aboutTheBundle)},
				{Name: "version.txt", Data: fmt.Appendf(nil, "etcd-rewind %s\netcdutl v%s\n%s\n%s/%s\n", a.buildVersion(), etcd.Version, runtime.Version(), runtime.GOOS, runtime.GOARCH)},
			}
			name := "node"
			facts, nerr := a.discover(ctx)
			if err := nerr; err != nil {
				files = append(files, notHad("checks", err))
			} else {
				name = facts.Node
				var out bytes.Buffer
				checked := []restore.Checked{{Verdicts: a.session.Check(ctx, facts, nil, steps.Choices{})}}
				if err := print.JSONChecked(&out, checked, true, now); err != nil {
					return err
				}
				files = append(files, steps.BundleFile{Name: "checks.jsonl", Data: out.Bytes()})
			}
			runs, err := a.session.Runs(ctx)
			switch {
			case err != nil && len(args) > 0:
				return err
			case err != nil:
				files = append(files, notHad("runs", err))
			default:
				var out bytes.Buffer
				if err := writeRuns(&out, runs); err != nil {
					return err
				}
				files = append(files, steps.BundleFile{Name: "runs.jsonl", Data: out.Bytes()})
				chosen, err := steps.ChooseRuns(runs, strings.Join(args, ""), mostReported)
				if err != nil {
					return err
				}
				for _, r := range chosen {
					files = append(files, steps.RunFiles(r)...)
				}
			}
			if nerr == nil {
				files = append(files, settledFile(facts.StateDir)...)
			}
			dir := "etcd-rewind-report-" + fileName(name) + "-" + now.Format("20060102-150405")
			if to == "" {
				to = dir + ".tar.gz"
			}
			if err := steps.WriteNew(to, func(w io.Writer) error { return steps.WriteBundle(w, dir, files, now) }); err != nil {
				return err
			}
			if a.output == "json" {
				return trust.JSON(a.out).Encode(writtenTo{"report", now, to})
			}
			size := int64(0)
			if st, err := os.Stat(to); err == nil {
				size = st.Size()
			}
			_, err = fmt.Fprintf(a.out, "Wrote %s (%s).\nIt has names and addresses, and no manifests, keys or values of objects.\nRead through it before you send it: tar -tzf lists what is in it.\n", trust.Text(to), steps.Bytes(size))
			return err
		},
	}
	c.Flags().StringVar(&to, "to", "", "the `file` to write, a tar.gz (etcd-rewind-report-NODE-TIME.tar.gz here)")
	a.outputFlag(c)
	return c
}

// writtenTo is the object of report --output json.
type writtenTo struct {
	Type string    `json:"type"` // report
	Time time.Time `json:"time"`
	Path string    `json:"path"`
}

// notHad says why something isn't in the bundle.
func notHad(what string, err error) steps.BundleFile {
	return steps.BundleFile{Name: what + ".unreadable.txt", Data: []byte(err.Error() + "\n")}
}

// fileName is a node's name as a part of a file's.
func fileName(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '.':
			return r
		}
		return '_'
	}, trust.Clip(s, 60))
}

// settledFile is what was settled after restores.
func settledFile(stateDir string) []steps.BundleFile {
	all, err := settle.Read(stateDir)
	if err != nil {
		return []steps.BundleFile{notHad("settled", err)}
	}
	if len(all) == 0 {
		return nil
	}
	var out bytes.Buffer
	if err := writeSettled(&out, all); err != nil {
		return []steps.BundleFile{notHad("settled", err)}
	}
	return []steps.BundleFile{{Name: settle.Record, Data: out.Bytes()}}
}
