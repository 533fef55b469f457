package pane

import "etcd-rewind/ui/text"

// Hint is a key and what it does here.
type Hint [2]string

// HelpLine shows as many keys as fit; the first ones matter most, and the last
// one, the way out, is always there.
func HelpLine(l text.Look, help []Hint, w int) string {
	if len(help) == 0 {
		return ""
	}
	show := func(h Hint) string { return l.Bold.Render(h[0]) + " " + h[1] }
	out := show(help[len(help)-1])
	line := ""
	for _, h := range help[:len(help)-1] {
		next := line + " " + show(h) + "  "
		if text.Width(next)+text.Width(out)+3 > w {
			break
		}
		line = next
	}
	return text.Apart(line, out+" ", w)
}
