package pane

import (
	"time"

	"etcd-rewind/trust"
	"etcd-rewind/ui/text"
)

// sending shows how far the snapshot is on its way to the nodes.
type sending struct {
	nodes []string
	here  string              // the one that has it from the start
	done  map[string][2]int64 // bytes and of how many, by node
	all   bool                // every node has it, with the same sha256
}

// view shows it; err is why it went no further.
func (s *sending) view(l text.Look, now time.Time, w int, err error, help []Hint) ([]string, string, []Hint) {
	mark := text.Spin(now)
	title := "Sending the snapshot to every node"
	switch {
	case err != nil && s.all:
		title = "Not every node could be checked"
	case err != nil:
		title = "The snapshot did not arrive on every node"
	case s.all:
		title = "Checking every node and its copy of the snapshot"
	}
	if err != nil {
		mark = l.Symbol(text.SymBad)
	}
	lines := []string{" " + mark + " " + l.Bold.Render(title), ""}
	names := 0
	for _, n := range s.nodes {
		names = max(names, text.Width(trust.Text(n)))
	}
	names = min(names, w/3)
	for _, n := range s.nodes {
		done, known := s.done[n]
		sym, say := text.SymLater, "waiting"
		switch {
		case s.all:
			sym, say = text.SymDone, "has it; its sha256 is the same"
		case n == s.here:
			sym, say = text.SymDone, "is this node"
		case err != nil && known:
			say = text.Size(done[0]) + " of " + text.Size(done[1]) + " are there"
		case err != nil:
			say = "has received nothing yet"
		case known && done[0] < done[1]:
			sym = text.SymNow
			say = text.Bar(done[0], done[1], max(8, min(30, w-names-34))) + "  " + text.Size(done[0]) + " of " + text.Size(done[1]) + ", " + text.Number(int64(text.Percent(done[0], done[1]))) + " %"
		case known:
			sym, say = text.SymNow, text.Size(done[1])+" are there; comparing the sha256"
		}
		lines = append(lines, text.Cut("   "+l.Symbol(sym)+" "+text.Fit(trust.Text(n), names)+"  "+say, w))
	}
	lines = append(lines, "")
	if err != nil {
		cause, advice := text.Explain(err)
		return append(lines, text.Indent(3, text.Facts(text.Advice(cause, advice), w-4))...), "", help[2:]
	}
	return append(lines, text.Hang("   ", "This changes nothing except for the copy of the snapshot beside each node's data. It is removed after the restore.", w-2)...), "", help[3:]
}
