package ui

import (
	"fmt"
	"html"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/charmbracelet/x/ansi"

	"etcd-rewind/steps"
)

// The README's picture is a frame of the wizard in the middle of a restore. It
// is written again with -update.
func TestThePictureIsTheWizardsOwnFrame(t *testing.T) {
	const columns = 114
	d := drive(t, newFake(), Options{})
	d.during(record(d.f, restorePlan(), steps.Unattended), action("start-etcd.4", steps.Waiting, 5))
	d.size(columns, 22)
	frame := d.m.View()
	if !strings.Contains(frame, "\x1b[") || !strings.Contains(frame, "Start etcd on the restored data") {
		t.Fatalf("this is not a frame of a run:\n%s", frame)
	}
	for name, theme := range map[string]theme{
		"light": {back: "#ffffff", fore: "#24292f", frame: "#d0d7de", colours: [4]string{"", "#cf222e", "#1a7f37", "#9a6700"}},
		"dark":  {back: "#0d1117", fore: "#e6edf3", frame: "#30363d", colours: [4]string{"", "#ff7b72", "#3fb950", "#d29922"}},
	} {
		path, got := "../docs/wizard-"+name+".svg", svg(frame, columns, theme)
		if *update {
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if string(want) != got {
			t.Errorf("%s isn't what the wizard shows: go test ./ui -run Picture -update", path)
		}
	}
}

// theme is the colours of a terminal: the background, the text, and red, green
// and yellow by their numbers.
type theme struct {
	back, fore, frame string
	colours           [4]string
}

// svg draws a frame of a terminal. Every piece of text has its place and its
// width, whatever the reader's fonts are.
func svg(frame string, columns int, th theme) string {
	const wide, high, edge = 8.4, 18, 14
	lines := strings.Split(frame, "\n")
	var b strings.Builder
	w, h := float64(columns)*wide+2*edge, len(lines)*high+2*edge
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %d" width="%.0f" height="%d" role="img" aria-label="etcd-rewind in the middle of a restore">`+"\n", w, h, w, h)
	fmt.Fprintf(&b, `<rect x="0.5" y="0.5" width="%.0f" height="%d" rx="6" fill="%s" stroke="%s"/>`+"\n", w-1, h-1, th.back, th.frame)
	fmt.Fprintf(&b, `<g font-family="ui-monospace, 'SF Mono', Menlo, Consolas, 'DejaVu Sans Mono', 'Liberation Mono', monospace" font-size="14" fill="%s">`+"\n", th.fore)
	for y, line := range lines {
		for _, p := range pieces(line) {
			blank := len(p.text) - len(strings.TrimLeft(p.text, " "))
			x, text := float64(edge)+float64(p.at+blank)*wide, strings.TrimSpace(p.text)
			n := ansi.StringWidth(text)
			if p.reverse {
				fmt.Fprintf(&b, `<rect x="%.1f" y="%d" width="%.1f" height="%d" fill="%s"/>`+"\n", float64(edge)+float64(p.at)*wide, edge+y*high, float64(ansi.StringWidth(p.text))*wide, high, th.fore)
			}
			if n == 0 {
				continue
			}
			style := ""
			switch {
			case p.reverse:
				style = ` fill="` + th.back + `"`
			case p.colour > 0:
				style = ` fill="` + th.colours[p.colour] + `"`
			}
			if p.bold {
				style += ` font-weight="bold"`
			}
			if p.faint {
				style += ` opacity="0.65"`
			}
			fmt.Fprintf(&b, `<text x="%.1f" y="%d" textLength="%.1f" lengthAdjust="spacingAndGlyphs"%s xml:space="preserve">%s</text>`+"\n",
				x, edge+y*high+high-4, float64(n)*wide, style, html.EscapeString(text))
		}
	}
	b.WriteString("</g>\n</svg>\n")
	return b.String()
}

// piece is text of one look.
type piece struct {
	at                   int // column
	text                 string
	bold, faint, reverse bool
	colour               int
}

// pieces takes a line of a terminal apart. What stands apart by two blanks is a
// piece of its own, so that columns stay columns.
func pieces(line string) []piece {
	var all []piece
	now, column := piece{}, 0
	flush := func() {
		if now.text != "" {
			all = append(all, now)
		}
		now.text, now.at = "", column
	}
	state := byte(0)
	for len(line) > 0 {
		seq, width, n, next := ansi.DecodeSequence(line, state, nil)
		state, line = next, line[n:]
		if width == 0 {
			if params, ok := strings.CutPrefix(seq, "\x1b["); ok && strings.HasSuffix(params, "m") {
				flush()
				now = now.with(strings.TrimSuffix(params, "m"))
			}
			continue
		}
		if seq != " " && strings.HasSuffix(now.text, "  ") && !now.reverse {
			flush()
		}
		now.text += seq
		column += width
	}
	flush()
	return all
}

// with is a piece after a change of its look; anything but the looks that the
// wizard uses would be drawn wrong, and is refused.
func (p piece) with(params string) piece {
	for _, param := range strings.Split(params, ";") {
		n, err := strconv.Atoi(param)
		switch {
		case param == "" || n == 0 && err == nil:
			p = piece{at: p.at}
		case n == 1:
			p.bold = true
		case n == 2:
			p.faint = true
		case n == 7:
			p.reverse = true
		case n >= 31 && n <= 33:
			p.colour = n - 30
		default:
			panic("the picture doesn't know the look " + params)
		}
	}
	return p
}
