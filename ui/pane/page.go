package pane

import "etcd-rewind/ui/text"

// Page is a text that is scrolled.
type Page struct {
	Scroller
	Rows  []string // as they were drawn last
	atEnd bool     // the last of them was to be seen
}

// Show is the part of body that is to be seen in h lines, and where it is.
func (p *Page) Show(body []string, h int) (seen []string, where string) {
	seen, where = p.Window(body, h)
	p.Rows, p.atEnd = body, p.Top+h >= len(body)
	return seen, where
}

// why is a title with the cause of an error, and what to do about it.
func why(l text.Look, symbol, title string, err error, w int) []string {
	cause, advice := text.Explain(err)
	lines := []string{" " + l.Symbol(symbol) + " " + l.Bold.Render(title), ""}
	return append(lines, text.Indent(3, text.Facts(text.Advice(cause, advice), w-4))...)
}

// View shows body, whose lines fit into w-2 cells, below a title.
func (p *Page) View(l text.Look, title string, body []string, w, h int, help ...Hint) ([]string, string, []Hint) {
	seen, where := p.Show(body, h-2)
	lines := append([]string{" " + l.Bold.Render(title), ""}, text.Indent(1, seen)...)
	return text.Box(lines, w, h), where, append(help, Hint{"esc", "back"})
}
