package pane

import "etcd-rewind/ui/text"

// Page is a text with a title that takes the place of a screen, scrolled.
type Page struct {
	Scroller
	Rows  []string // as they were drawn last
	atEnd bool     // the last of them was to be seen
}

// View shows body, whose lines fit into w-2 cells.
func (p *Page) View(l text.Look, title string, body []string, w, h int, help ...Hint) ([]string, string, []Hint) {
	seen, where := p.Window(body, h-2)
	p.Rows, p.atEnd = body, p.Top+h-2 >= len(body)
	lines := append([]string{" " + l.Bold.Render(title), ""}, text.Indent(1, seen)...)
	return text.Box(lines, w, h), where, append(help, Hint{"esc", "back"})
}
