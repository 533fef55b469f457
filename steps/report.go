package steps

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"etcd-rewind/manifest"
	"etcd-rewind/trust"
)

// summary says what runs from where and what is kept where, after a plan.
func (r *run) summary(res *Result) []Fact {
	var s []Fact
	add := func(name, format string, args ...any) { s = append(s, Fact{name, fmt.Sprintf(format, args...)}) }
	if res.OutageSeconds > 0 {
		still := ""
		if res.DownSince != nil {
			still = ", and still down"
		}
		add("API down", "%.1f s%s%s", res.OutageSeconds, still, beforeToo(r.mem.APIBefore))
	}
	f := r.plan.Restore
	if f == nil {
		return s
	}
	aside := filepath.Join(r.plan.RunDir, "aside")
	pods := r.plan.has(func(a Action) bool { _, pod := a.(ofKubelet); return pod })
	switch {
	case res.OK && r.plan.Kind != KindUndo:
		switch {
		case f.DataDir == "":
			add("etcd", "runs on other nodes")
		case f.Home:
			add("etcd runs from", "%s", f.DataDir)
			add("revision", "%d", res.Revision)
			if f.Aside != "" {
				add("what lay there", "%s, untouched", f.Aside)
			}
		case f.InPlace:
			add("etcd runs from", "%s", f.DataDir)
			add("revision", "%d", res.Revision)
			add("old data", "%s, untouched", f.oldAt())
		default:
			add("etcd runs from", "%s", f.DataDir)
			add("revision", "%d (snapshot %d, raised by %d)", res.Revision, f.SnapshotRevision, f.Bump)
			add("old data", "%s, untouched", f.oldAt())
		}
		if save := r.plan.saved(); save != "" {
			add("state left behind", "%s", save)
		}
		if pods {
			add("old manifests", "%s", aside)
		}
		s = append(s, r.mem.Notes...)
	case r.plan.Kind == KindUndo && res.Reverted && f.DataDir == "":
		add("etcd", "runs on other nodes")
	case r.plan.Kind == KindUndo && res.Reverted:
		add("etcd runs from", "%s, as before", f.OldDataDir)
		switch {
		case f.Home:
		case f.InPlace:
			add("repointed data", "kept at %s", f.DataDir)
		default:
			add("restored data", "kept at %s", f.Staging)
			add("free it with", "%s", trust.Shell("rm -rf %s", f.Staging))
		}
		s = append(s, r.mem.Notes...)
	case res.Reverted:
		add("node", "nothing was changed: nothing was stopped or replaced")
		if r.mem.Staged != nil && !f.InPlace && !f.Home {
			add("restored data", "kept at %s", f.Staging)
		}
	default:
		if f.Home {
			add("etcd's data", "%s", r.plan.oldNow())
		} else if f.DataDir != "" {
			add("old data", "%s, untouched", r.plan.oldNow())
		}
		if pods {
			add("old manifests", "%s", aside)
		}
	}
	if do := r.plan.Afterwards; do != "" && (res.OK || r.plan.Kind == KindUndo && res.Reverted) {
		add("afterwards", "%s", do)
	}
	return s
}

// beforeToo says that the API was down already when a run stopped it: since
// when isn't known then.
func beforeToo(was string) string {
	if was == "" || was == apiReady {
		return ""
	}
	return ", and already before this run"
}

// writeReport writes the run's Markdown report beside the manifests kept. An
// undo has a report of its own.
func writeReport(r *run, res *Result) (string, error) {
	name := "report.md"
	if r.plan.Kind != KindRestore {
		name = "report-" + r.plan.Kind + ".md"
	}
	path := filepath.Join(r.plan.RunDir, name)
	tmp := path + ".tmp"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if err := manifest.WriteAside(tmp, []byte(reportText(r, res)), ""); err != nil {
		return "", err
	}
	return path, os.Rename(tmp, path)
}

// reportText is the report. What is in it was named by a snapshot, a manifest or
// another node: it goes through markdown or block.
func reportText(r *run, res *Result) string {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	p("#%s", " "+markdown(r.plan.Title))
	p("")
	switch {
	case res.OK:
		p("Done on %s.", Moment(r.now()))
	case res.Reverted:
		p("Failed on %s; the node is as it was before.", Moment(r.now()))
	default:
		p("Failed on %s. **Inspect the node.**", Moment(r.now()))
	}
	p("")
	p("| | |\n|---|---|")
	for _, f := range append([]Fact{{"node", r.plan.Node}, {"run", r.plan.Run}}, res.Summary...) {
		p("| %s | %s |", markdown(f.Name), markdown(f.Value))
	}
	for _, f := range r.plan.Summary {
		p("| planned: %s | %s |", markdown(f.Name), markdown(f.Value))
	}
	if res.Error != nil {
		p("\n## What went wrong\n\n%s: %s", markdown(res.Error.Title), markdown(res.Error.Cause))
		if res.Error.Hint != "" {
			p("\n%s", markdown(res.Error.Hint))
		}
		if len(res.Error.Log) > 0 {
			p("\n%s", block("", res.Error.Log))
		}
	}
	if res.Undo != "" {
		p("\n## The way back\n\n    %s", trust.Text(res.Undo))
	}
	if res.Redo != "" {
		p("\n## To the restored data again\n\n    %s", trust.Text(res.Redo))
	}
	for _, d := range r.plan.Diffs {
		p("\n## %s\n\n%s", markdown(filepath.Base(d.Path)), block("diff", strings.Split(strings.TrimSuffix(d.Text, "\n"), "\n")))
	}
	var did []string
	for _, s := range r.plan.Steps {
		if !s.ran(&r.mem) {
			continue
		}
		did = append(did, trust.Comment(s.Title))
		for _, a := range s.Actions {
			for _, c := range a.Commands() {
				did = append(did, strings.Split(c, "\n")...)
			}
		}
	}
	p("\n## What was done\n\nThe same by hand:\n\n%s", block("bash", did))
	return b.String()
}

// markdown is text from outside in a line or a cell of Markdown: what would
// begin markup, a link or HTML is escaped.
func markdown(s string) string { return marks.Replace(trust.Text(s)) }

var marks = strings.NewReplacer(`\`, `\\`, "|", `\|`, "`", "\\`", "<", "&lt;", "[", `\[`, "*", `\*`)

// block is a fenced block whose fence is longer than any in it.
func block(language string, lines []string) string {
	text := strings.Join(trust.Lines(lines), "\n")
	fence := "```"
	for strings.Contains(text, fence) {
		fence += "`"
	}
	return fence + language + "\n" + text + "\n" + fence
}
