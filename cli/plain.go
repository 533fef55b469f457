package cli

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"etcd-rewind/snapshot"
	"etcd-rewind/steps"
	"etcd-rewind/trust"
	"etcd-rewind/ui/print"
)

// mostOffered is how many snapshots are listed; any other is named by its path.
const mostOffered = 20

// plain is the wizard's way in lines of text: for screen readers, and for
// terminals that can't move their cursor.
func (a *app) plain(c *cobra.Command, several *fleetFlags) error {
	if a.status != nil { // a line that comes and goes is read out again and again
		a.status.Close()
		a.status = nil
	}
	f, ctx, done := a.flow(c.Context(), several, strings.Fields(several.rsh), steps.Choices{KubeletRestart: a.session.Options.KubeletRestart})
	defer done()
	if err := a.discoverFor(ctx, f); err != nil {
		return stopped(ctx, err)
	}
	a.saying("searching for snapshots")
	found := a.session.Candidates(ctx, f.Want.Here)
	a.saying("")
	if u := f.Want.Here.Unfinished; u != nil {
		if err := print.Standing(a.out, *u, steps.Standing(*u, time.Now())); err != nil {
			return err
		}
	}
	found = found[:min(len(found), mostOffered)]
	for i, s := range found {
		_, _ = fmt.Fprintf(a.out, "%d: %s\n", i+1, offered(s))
	}
	question := "Path of the snapshot to restore (empty quits): "
	if len(found) > 0 {
		question = "Snapshot to restore, its number or another path (empty quits): "
	}
	line, err := a.answers().Ask(ctx, a.out, question)
	switch {
	case err != nil && !errors.Is(err, io.EOF):
		return stopped(ctx, err)
	case line == "":
		_, _ = fmt.Fprintln(a.out, "Nothing was changed.")
		return nil
	}
	name := line
	if n, err := strconv.Atoi(line); err == nil {
		if n < 1 || n > len(found) {
			return fmt.Errorf("there is no snapshot %d in the list", n)
		}
		name = found[n-1].Path
	}
	if err := a.look(ctx, f, name, nil, false); err != nil {
		return stopped(ctx, err)
	}
	return stopped(ctx, a.restoreAs(ctx, f, consent{}))
}

// offered is a snapshot in one line.
func offered(s snapshot.Candidate) string {
	line := fmt.Sprintf("%s, %s, %s", trust.Text(s.Path), steps.Bytes(s.Size), s.ModTime.Local().Format("2006-01-02 15:04"))
	if s.Safety {
		line += ", a safety copy of an earlier run"
	}
	if s.Owner != "" {
		line += ", a file of " + trust.Text(s.Owner)
	}
	if s.Err != nil {
		line += ", can't be used: " + trust.Text(s.Err.Cause)
	}
	return line
}

// answers reads what the user answers, for all questions of a command.
func (a *app) answers() *print.Answers {
	if a.asking == nil {
		a.asking = print.NewAnswers(a.in)
	}
	return a.asking
}
