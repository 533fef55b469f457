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

// View shows body, whose lines fit into w-2 cells, below a title.
func (p *Page) View(l text.Look, title string, body []string, w, h int, help ...Hint) ([]string, string, []Hint) {
	seen, where := p.Show(body, h-2)
	lines := append([]string{" " + l.Bold.Render(title), ""}, text.Indent(1, seen)...)
	return text.Box(lines, w, h), where, append(help, Hint{"esc", "back"})
}
