package pane

import (
	"time"

	"etcd-rewind/trust"
	"etcd-rewind/ui/text"
)

// Components are those whose logs can be shown.
var Components = []string{"etcd", "kube-apiserver"}

// logEvery is how often a log that is shown is read again.
const logEvery = time.Second / 4

// Log shows the end of a log, and follows it: one of several, by name.
type Log struct {
	Page
	names []string
	at    int // of names

	Lines    []string // of the log
	reading  bool
	read     bool
	readAt   time.Time
	folded   []string // Lines as they fit into foldedTo cells
	foldedTo int
}

// NewLog shows the log with the name at first.
func NewLog(names []string, at int) Log { return Log{names: names, at: at} }

// Name says whose log it is.
func (o *Log) Name() string { return o.names[o.at] }

// Due says whether the log is to be read: it was not for a while, and nobody
// reads it now. What was read comes by Set.
func (o *Log) Due(now time.Time) bool {
	if o.reading || now.Sub(o.readAt) < logEvery {
		return false
	}
	o.reading, o.readAt = true, now
	return true
}

// Set takes what was read. The end of the log stays in sight unless the user
// has scrolled up.
func (o *Log) Set(name string, lines []string) {
	o.reading = false
	if name != o.Name() {
		return
	}
	follow := !o.read || o.atEnd
	o.Lines, o.read, o.folded = trust.Lines(lines), true, nil
	if follow {
		o.Scroller.Key("end", 0)
	}
}

// Next shows the next log.
func (o *Log) Next() { *o = NewLog(o.names, (o.at+1)%len(o.names)) }

// View shows the log in w cells and h lines.
func (o *Log) View(l text.Look, w, h int) ([]string, string, []Hint) {
	if o.folded == nil || o.foldedTo != w-2 {
		o.folded, o.foldedTo = text.Narrow(o.Lines, w-2), w-2
	}
	body := o.folded
	switch {
	case !o.read:
		body = []string{"Reading …"}
	case len(body) == 0:
		body = []string{"No log on this node."}
	}
	return o.Page.View(l, "Log of "+o.Name(), body, w, h, Hint{"tab", "other component"}, Hint{"/", "search"}, Hint{"e", "export"}, Hint{"↑↓", "scroll"})
}
