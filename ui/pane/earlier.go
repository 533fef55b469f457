package pane

import (
	"slices"
	"strings"
	"time"

	"etcd-rewind/restore"
	"etcd-rewind/steps"
	"etcd-rewind/trust"
	"etcd-rewind/ui/text"
)

// Earlier is about a run that broke off: where it has left the node.
type Earlier struct {
	Standing []steps.Fact
	Read     time.Time // when that was so
	Reading  bool

	All   *restore.Record // the run is one of several nodes
	Alone bool            // but this node is settled without the others
}

// together says whether the run is settled on all its nodes.
func (e *Earlier) Together() bool { return e.All != nil && !e.Alone }

// ways are what can be done with the run.
func (e *Earlier) Ways(f *steps.Facts) []restore.Verb {
	return restore.Ways(*f.Unfinished, e.Together())
}

// missing are the names of the manifests that aren't in the directory.
func missing(f *steps.Facts) []string {
	there := func(name string) bool {
		if f.Manifests == nil {
			return false
		}
		file, _ := f.Manifests.Component(name)
		return file != nil
	}
	var list []string
	if f.Etcd == nil && !there(Components[0]) {
		list = append(list, Components[0])
	}
	if f.API == nil && !there(Components[1]) {
		list = append(list, Components[1])
	}
	return list
}

func manifestDir(f *steps.Facts) string {
	if f.Kubelet == nil {
		return "kubelet's directory"
	}
	return f.Kubelet.StaticPodPath
}

// nowFacts is how the node looks at this moment, whatever a journal says.
func nowFacts(f *steps.Facts) []steps.Fact {
	gone := missing(f)
	etcd := "answers"
	switch {
	case f.Live != nil:
		etcd = "answers, revision " + text.Number(f.Live.Revision)
	case f.LiveErr != nil:
		etcd = "doesn't answer: " + f.LiveErr.Error()
	}
	list := []steps.Fact{{Name: Components[0], Value: etcd}, {Name: Components[1], Value: f.APIState}}
	for i := range list {
		if slices.Contains(gone, list[i].Name) {
			list[i].Value = "not run: no manifest in " + manifestDir(f)
		}
	}
	return list
}

// view shows the run and the node as it is now, and what can be done.
func (e *Earlier) View(l text.Look, f *steps.Facts, w, h int) ([]string, string, []Hint) {
	told := text.InterruptedFacts(*f.Unfinished, e.Standing)
	for i := range told {
		if told[i].Value == f.Unfinished.Snapshot {
			told[i].Value = text.ShortPath(trust.Text(told[i].Value), w-24)
		}
	}
	lines := []string{" " + l.Symbol(text.SymWarn) + " " + l.Bold.Render(text.Interrupted), ""}
	if e.All != nil {
		told = append(told, steps.Fact{Name: "made with", Value: text.Listed(e.All.Names()) + ", restored as one"})
	}
	lines = append(lines, text.Indent(3, text.Facts(told, w-4))...)
	lines = append(lines, "", "   The node as it is now:")
	lines = append(lines, text.Indent(3, text.Facts(nowFacts(f), w-4))...)
	lines = append(lines, "")
	choices, help := []string(nil), []Hint(nil)
	offer := func(c, hint Hint) {
		choices = append(choices, "   "+l.Bold.Render(c[0])+"  "+c[1])
		help = append(help, hint)
	}
	for _, v := range e.Ways(f) {
		c := Way(v, e.Together(), e.Alone)
		offer(c, Hint{c[0], string(v)})
	}
	switch {
	case e.Alone:
		offer(Hint{"a", "all nodes together instead"}, Hint{"a", "all nodes"})
	case e.All != nil:
		offer(Hint{"a", "this node alone instead"}, Hint{"a", "this node alone"})
	}
	choices = append(choices, "   "+l.Bold.Render("q")+"  leave it like this; all of these work later, too")
	help = append(help, Hint{"n", "the node"}, Hint{"r", "read again"}, Hint{"?", "help"}, Hint{"q", "leave"})
	if room := h - len(choices); len(lines) > room {
		lines = slices.DeleteFunc(lines, func(line string) bool { return line == "" })
		if len(lines) > room {
			lines = append(lines[:room-1], "   …")
		}
	}
	return append(lines, choices...), "", help
}

// Explained takes out of the verdicts what an earlier run has brought about:
// that it moved manifests aside makes no node anything else than a control
// plane. One verdict says so instead.
func Explained(f *steps.Facts, verdicts []steps.Verdict) []steps.Verdict {
	gone := missing(f)
	if f.Unfinished == nil || len(gone) == 0 {
		return verdicts
	}
	out := []steps.Verdict{{
		Check: "earlier-run", Title: "Earlier run", Level: steps.Error,
		Cause: "run " + f.Unfinished.Run + " was interrupted, and " + manifestDir(f) + " holds no manifest of " + strings.Join(gone, " and "),
		Hint:  "resume that run or undo it: esc",
	}}
	for _, v := range verdicts {
		if v.Check != steps.CheckEarlierRun && v.Check != steps.CheckEtcdManifest && v.Check != steps.CheckAPIManifest {
			out = append(out, v)
		}
	}
	return out
}
