package practice

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"
)

func tell(out io.Writer, s *session) {
	e := s.exercise()
	fmt.Fprintf(out, "\n%s  (%s, %s)\n\n%s\n%s\n", e.Title, e.Name, e.Limit, fold("", s.text(e.Story)), fold("", "Task: "+s.text(e.Task)))
}

// fold breaks a text between words at 80 columns, after a prefix and below it.
func fold(prefix, text string) string {
	var b strings.Builder
	b.WriteString(prefix)
	indent := utf8.RuneCountInString(prefix)
	width := indent
	for i, word := range strings.Fields(text) {
		n := utf8.RuneCountInString(word)
		switch {
		case i == 0:
		case width+1+n > 80:
			b.WriteString("\n" + strings.Repeat(" ", indent))
			width = indent
		default:
			b.WriteByte(' ')
			width++
		}
		b.WriteString(word)
		width += n
	}
	b.WriteByte('\n')
	return b.String()
}

func printGrade(out io.Writer, s *session, g Grade) {
	e := s.exercise()
	verdict := "passed"
	switch {
	case !g.Passed:
		verdict = "not passed"
	case g.Late:
		verdict = "passed, but late"
	}
	fmt.Fprintf(out, "\n%s: %s, %d of 100 points, %s of %s", e.Name, verdict, g.Points, g.Took.Round(time.Second), e.Limit)
	if g.Hints > 0 {
		fmt.Fprintf(out, ", hints: %d", g.Hints)
	}
	fmt.Fprint(out, "\n\n")
	for _, m := range g.Marks {
		sign := "✓"
		switch {
		case m.Missed != "":
			sign = "✗"
		case m.Idle:
			sign = "–"
		}
		text := m.Title
		if m.Bonus {
			text += " (extra)"
		}
		switch {
		case m.Missed != "":
			text += ": " + m.Missed
		case m.Idle:
			text += ": counts once something else is reached"
		}
		fmt.Fprint(out, fold(fmt.Sprintf(" %s %3d  ", sign, m.Points), text))
		if m.Why != "" {
			fmt.Fprint(out, fold("        ", m.Why))
		}
	}
	fmt.Fprint(out, "\n", fold("", "With the wizard: "+s.text(e.Wizard)))
}

func printStatus(out io.Writer, s *session, l StatusLine) {
	fmt.Fprintf(out, "%s  %s of %s", s.Exercise, l.Grade.Took.Round(time.Second), s.exercise().Limit)
	if !l.Running {
		fmt.Fprint(out, "  (the node is no longer running)")
	}
	fmt.Fprintln(out)
	for _, c := range components {
		fmt.Fprintf(out, "  %-24s %s\n", c, cmp.Or(l.Components[c], "no container"))
	}
	fmt.Fprintf(out, "  %-24s %s\n", "/readyz", l.Readyz)
	if l.DataDir != "" {
		fmt.Fprint(out, fold(fmt.Sprintf("  %-24s ", "etcd's data"), l.DataDir))
	}
	fmt.Fprintln(out)
	for _, m := range l.Grade.Marks {
		if m.Missed == "" {
			fmt.Fprint(out, fold("  ✓ ", m.Title))
		} else {
			fmt.Fprint(out, fold("  · ", m.Title+": "+m.Missed))
		}
	}
}

func took(r *Result) string {
	if r == nil {
		return "-"
	}
	how := "wizard"
	if r.ByHand {
		how = "by hand"
	}
	return fmt.Sprintf("%s %s, %d", time.Duration(r.Seconds*float64(time.Second)).Round(time.Second), how, r.Points)
}
