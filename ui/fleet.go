package ui

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"etcd-rewind/restore"
	"etcd-rewind/steps"
	"etcd-rewind/trust"
	"etcd-rewind/ui/text"
)

// newFleetPlain prints a fleet's events as lines of text: those of plain with
// the node's name before them, and one line for what all nodes have come to.
func newFleetPlain(w io.Writer, o PlainOptions, wide int) *fleetPlain {
	p := &fleetPlain{w: w, look: text.NewLook(os.Getenv), wide: len("all"), nodes: map[string]*plain{}, meets: map[string]bool{}}
	for _, n := range o.Nodes {
		p.wide = max(p.wide, text.Width(trust.Text(n)))
	}
	p.room = wide
	for _, n := range o.Nodes {
		p.nodes[n] = newPlain(&prefixed{w: w, with: p.prefix(n)}, o, max(wide-p.wide-2, minPlainWidth))
	}
	return p
}

type fleetPlain struct {
	w     io.Writer
	look  text.Look
	wide  int // of the names
	room  int // of a line
	start time.Time
	nodes map[string]*plain
	meets map[string]bool // actions that wait for the others: told once, for all
	hint  string          // of the last question: told once
}

func (p *fleetPlain) prefix(node string) string { return text.Fit(trust.Text(node), p.wide) + "  " }

func (p *fleetPlain) event(ev restore.NodeEvent) {
	if p.start.IsZero() {
		p.start = ev.Time
	}
	switch ev.Type {
	case restore.TypePhase:
		p.at("all", ev.Time, text.SymDone+" "+trust.Text(ev.Message))
		return
	case restore.TypeLink, restore.TypeLeft:
		p.at(ev.Node, ev.Time, text.SymWarn+" "+trust.Text(ev.Message))
		return
	case steps.TypeResult:
		if ev.Node == "" {
			p.result(ev)
		}
		return // how each ended is told at the end
	}
	n := p.nodes[ev.Node]
	if n == nil {
		return
	}
	if ev.Plan != nil {
		for _, s := range ev.Plan.Steps {
			for _, a := range s.Actions {
				if _, meets := a.Action.(*steps.WaitNodes); meets {
					p.meets[a.ID] = true
				}
			}
		}
	}
	// A meeting that is over is told once, for all; one that lasts is worth a
	// word.
	if ev.Type == steps.TypeAction && p.meets[ev.Action] && (ev.State == steps.Done || ev.State == steps.Already) {
		return
	}
	if n.start.IsZero() {
		n.start = p.start
	}
	if ev.Type == steps.TypeAsk && ev.Failure != nil {
		p.hint = ev.Failure.Hint
	}
	n.event(ev.Event)
}

func (p *fleetPlain) at(node string, t time.Time, sentence string) {
	p.line(p.prefix(node) + text.FitRight(text.Seconds(t.Sub(p.start).Seconds()), 8) + "  " + sentence)
}

func (p *fleetPlain) line(s string) {
	_, _ = fmt.Fprintln(p.w, p.look.Finish(strings.TrimRight(s, " ")))
}

func (p *fleetPlain) result(ev restore.NodeEvent) {
	p.line("")
	if r := ev.Result; r != nil && r.Error != nil && p.hint != "" && r.Error.Hint == p.hint {
		res, failed := *r, *r.Error
		failed.Hint = ""
		res.Error, ev.Result = &failed, &res
	}
	for _, l := range fleetSummary(ev, p.room) {
		p.line(l)
	}
}

// fleetSummary says how a fleet's run ended.
func fleetSummary(ev restore.NodeEvent, w int) []string {
	r := ev.Result
	var lines []string
	back := r.PutBack
	switch {
	case r.OK && !back:
		lines = append(lines, text.SymDone+" Restored: all "+text.Plural(len(ev.Nodes), "node", "nodes"))
	case r.OK:
		lines = append(lines, text.SymDone+" Undone: all nodes are as before the run")
	case back:
		lines = append(lines, text.SymBad+" Not restored. The run was undone: every node is as before")
	default:
		lines = append(lines, text.SymBad+" Not finished on every node")
	}
	var list []steps.Fact
	if r.Error != nil {
		list = append(list, steps.Fact{Name: "cause", Value: trust.Text(r.Error.Cause)})
		if r.Error.Hint != "" {
			list = append(list, steps.Fact{Name: "", Value: trust.Text(r.Error.Hint)})
		}
	}
	if r.OutageSeconds > 0 {
		list = append(list, steps.Fact{Name: "API down", Value: text.Seconds(r.OutageSeconds)})
	}
	list = append(list, nodeEndings(ev.Nodes, r.Error)...)
	if r.Undo != "" {
		list = append(list, steps.Fact{Name: "to undo", Value: r.Undo})
	}
	return append(lines, text.Indent(4, text.FactsWhole(list, w-4))...)
}

// prefixed puts a text before each line; empty lines are left out.
type prefixed struct {
	w    io.Writer
	with string
}

func (p *prefixed) Write(b []byte) (int, error) {
	for line := range strings.Lines(string(b)) {
		if strings.TrimSpace(line) == "" {
			continue
		}
		if _, err := io.WriteString(p.w, p.with+line); err != nil {
			return 0, err
		}
	}
	return len(b), nil
}

// PrintMembers prints who the members are, from where they are known, and how
// their nodes are reached.
func PrintMembers(w io.Writer, members []restore.Member) error {
	var list []steps.Fact
	for _, m := range members {
		say := strings.Join(m.PeerURLs, ", ")
		switch {
		case m.Out:
			say += ", excluded"
		case m.Local:
			say += ", this node"
		case m.Facts != nil:
			say += ", reached as " + m.Host
		default:
			say += ", not reached"
		}
		if f := m.Facts; f != nil && !m.Out {
			say += "; API " + f.APIState
			switch {
			case f.Live != nil:
				say += fmt.Sprintf("; etcd at revision %d", f.Live.Revision)
			default:
				say += "; etcd doesn't answer"
			}
		}
		list = append(list, steps.Fact{Name: trust.Text(m.Name), Value: trust.Text(say)})
	}
	return printLines(w, append(text.FactsWhole(list, textWidth(w)), ""))
}
