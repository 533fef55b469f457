package pane

import (
	"etcd-rewind/steps"
	"etcd-rewind/ui/text"
)

// Question asks before something is done that can't be taken back with a key.
// What an answer comes to is a T.
type Question[T any] struct {
	Title   string
	Now     func() string // what is happening meanwhile; nil for nothing
	Text    []string      // paragraphs
	Facts   []steps.Fact
	Answers []Answer[T] // the last one changes nothing; esc is the same
}

// Answer is a key, what it does in words, and what it comes to.
type Answer[T any] struct {
	Key, Says string
	Do        T
}

// Key is the answer that a key gives, false when it gives none.
func (q *Question[T]) Key(name string) (do T, ok bool) {
	last := q.Answers[len(q.Answers)-1]
	if name == "esc" {
		return last.Do, true
	}
	for _, a := range q.Answers {
		if a.Key == name {
			return a.Do, true
		}
	}
	return do, false
}

// View shows the question in w cells and h lines.
func (q *Question[T]) View(l text.Look, w, h int) ([]string, string, []Hint) {
	lines := []string{"", " " + l.Symbol(text.SymWarn) + " " + l.Bold.Render(q.Title), ""}
	paragraphs := q.Text
	if q.Now != nil {
		paragraphs = append([]string{q.Now()}, paragraphs...)
	}
	for _, t := range paragraphs {
		lines = append(lines, text.Hang("   ", t, w-3)...)
		lines = append(lines, "")
	}
	if len(q.Facts) > 0 {
		lines = append(lines, text.Indent(3, text.Facts(q.Facts, w-4))...)
		lines = append(lines, "")
	}
	lines = lines[:min(len(lines), max(0, h-len(q.Answers)))] // the answers have to be seen
	help := make([]Hint, 0, len(q.Answers))
	for _, a := range q.Answers {
		help = append(help, Hint{a.Key, a.Says})
		lines = append(lines, "   "+l.Bold.Render(a.Key)+"  "+a.Says)
	}
	return text.Box(lines, w, h), "", help
}

// Small is the question with its answers where there is little room, nil when
// it doesn't fit.
func (q *Question[T]) Small(w, h int) []string {
	lines := text.Wrap(q.Title, w)
	for _, a := range q.Answers {
		lines = append(lines, text.Cut(a.Key+" "+a.Says, w))
	}
	if len(lines) > h {
		return nil
	}
	return lines
}
