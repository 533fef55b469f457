//go:build linux

package main

import (
	"cmp"
	"errors"
	"fmt"
	"html"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// text is what was measured, in Markdown, the ratio first.
func (r record) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s.\n\n", r.circumstances())
	if r.Note != "" {
		fmt.Fprintf(&b, "%s\n\n", r.Note)
	}
	b.WriteString(r.table())
	if len(r.Goals) > 0 {
		b.WriteString("\nThe goals:\n\n")
		for _, g := range r.Goals {
			fmt.Fprintf(&b, "- %s: %s\n", g.What, g.is())
		}
	}
	for _, t := range r.Steps {
		fmt.Fprintf(&b, "\n%s:\n\n%s", t.Title, t.table("step"))
	}
	for _, t := range r.Owners {
		fmt.Fprintf(&b, "\n%s; what the runtime and the programs' logs say bounds each part:\n\n%s", t.Title, t.table(""))
	}
	return b.String()
}

// circumstances are the machine's, on which the seconds depend.
func (r record) circumstances() string {
	m := r.Machine
	set := "not tuned"
	if r.Tuned != "" {
		set = "tuned by hand: " + r.Tuned
	}
	all := []string{fmt.Sprintf("%s, %d cores (%s), %s", r.Date, m.Cores, m.CPU, m.Memory), set}
	for _, more := range []struct{ name, is string }{{"Linux ", m.Kernel}, {"load: ", m.Load}, {"", m.Settings}} {
		if more.is != "" {
			all = append(all, more.name+more.is)
		}
	}
	return strings.Join(all, "; ")
}

// kind is what the nodes and the machine are: what makes a measurement another one.
func (r record) kind() (nodes, machine string) {
	nodes, machine = "One node", "not tuned"
	if r.Nodes > 1 {
		nodes = "Three nodes on one machine"
	}
	if strings.HasPrefix(r.On, "systemd") {
		nodes += " under systemd"
	}
	nodes += ", Kubernetes " + r.Kubernetes
	if r.database() == large {
		nodes += ", 2 GB alone"
	}
	if r.Tuned != "" {
		machine = "tuned"
	}
	return nodes, machine
}

func (r record) title() string {
	nodes, machine := r.kind()
	return nodes + ", " + machine
}

// database is the one whose figures stand for a measurement: the small one, where
// that was measured.
func (r record) database() string {
	if _, ok := r.of(rewind.name, small); !ok {
		if _, ok := r.of(rewind.name, large); ok {
			return large
		}
	}
	return small
}

func (r record) versions() string {
	return fmt.Sprintf("kubeadm %s, containerd %s, etcd %s; %s", r.Kubernetes, r.Containerd, r.Etcd, r.Node)
}

func (r record) table() string {
	var b strings.Builder
	head := []string{"way", "database", "runs", "median, × by hand", "worst", "median", "worst", "outage_seconds differs by at most"}
	several := r.Nodes > 1
	if several {
		head = slices.Insert(head, 7, "no API server at all, median")
	}
	if r.What == aRecovery {
		head = []string{"what", "way", "database", "median, × the last row of its kind", "median", "each"}
	}
	fmt.Fprintf(&b, "| %s |\n|%s\n", strings.Join(head, " | "), strings.Repeat("---|", len(head)))
	for _, x := range r.Rows {
		differs := ""
		if x.Differs > 0 {
			differs = fmt.Sprintf("%.2f s", x.Differs)
		}
		cells := []string{x.Way, x.Database, fmt.Sprint(x.Runs), times(x.Ratio), times(x.AtWorst), tenths(x.Median), tenths(x.Worst), differs}
		if several {
			cells = slices.Insert(cells, 7, tenths(x.None))
		}
		if r.What == aRecovery {
			cells = []string{x.Case, x.Way, x.Database, times(x.Ratio), tenths(x.Median), list(x.Each)}
		}
		fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | "))
	}
	return b.String()
}

func times(x float64) string {
	if x == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f", x)
}

func tenths(x float64) string { return fmt.Sprintf("%.1f s", x) }

func list(all []float64) string {
	var s []string
	for _, x := range all {
		s = append(s, fmt.Sprintf("%.1f", x))
	}
	return strings.Join(s, ", ") + " s"
}

func (g goal) is() string {
	verdict := "holds"
	if g.Have > g.Limit {
		verdict = "**exceeded**"
		if g.Because != "" {
			verdict += ". Who has it: " + g.Because
		}
	}
	return fmt.Sprintf("%.3f, limit %.2f: %s", g.Have, g.Limit, verdict)
}

// table has what took the times, who has them if anybody, and a line for all that
// each of those has. A column of which nothing was measured is left out.
func (t seconds) table(first string) string {
	var b strings.Builder
	owned := slices.ContainsFunc(t.Rows, func(x taken) bool { return x.Who != "" })
	head := []string{first}
	if owned {
		head = append(head, "who")
	}
	var columns []int
	for i, name := range t.Columns {
		if slices.ContainsFunc(t.Rows, func(x taken) bool { return x.Took[i] >= 0 }) {
			columns, head = append(columns, i), append(head, name)
		}
	}
	fmt.Fprintf(&b, "| %s |\n|%s\n", strings.Join(head, " | "), strings.Repeat("---|", len(head)))
	line := func(what, who string, took []float64) {
		cells := []string{what}
		if owned {
			cells = append(cells, who)
		}
		for _, x := range took {
			if x < 0 {
				cells = append(cells, "not measured")
				continue
			}
			cells = append(cells, fmt.Sprintf("%.2f s", x))
		}
		fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | "))
	}
	sums := map[string][]float64{}
	for _, x := range t.Rows {
		var took []float64
		for _, i := range columns {
			if owned { // where it isn't there, it wasn't needed
				took = append(took, max(0, x.Took[i]))
				continue
			}
			took = append(took, x.Took[i])
		}
		line(x.What, x.Who, took)
		if sums[x.Who] == nil {
			sums[x.Who] = make([]float64, len(took))
		}
		for i := range took {
			sums[x.Who][i] += took[i]
		}
	}
	if owned {
		for _, who := range owning {
			if sums[who] != nil {
				line("together", who, sums[who])
			}
		}
	}
	return b.String()
}

// owns is what somebody has of the first column that was measured of the first table
// of owners, or 0.
func (r record) owns(who string) (sum float64) {
	if len(r.Owners) == 0 {
		return 0
	}
	for i := range r.Owners[0].Columns {
		measured := false
		for _, x := range r.Owners[0].Rows {
			measured = measured || x.Took[i] >= 0
			if x.Who == who {
				sum += max(0, x.Took[i])
			}
		}
		if measured {
			return sum
		}
	}
	return 0
}

// of finds the restores of a way.
func (r record) of(way, database string) (row, bool) {
	for _, x := range r.Rows {
		if x.Way == way && x.Database == database {
			return x, true
		}
	}
	return row{}, false
}

// outagesOf are the records of outages: what isn't tuned first, one node before
// three, the newest first.
func outagesOf(all []record) []record {
	var out []record
	for _, r := range slices.Backward(all) {
		if r.What == anOutage {
			out = append(out, r)
		}
	}
	tuned := func(r record) int { return min(1, len(r.Tuned)) }
	slices.SortStableFunc(out, func(a, b record) int { return cmp.Or(tuned(a)-tuned(b), a.Nodes-b.Nodes) })
	return out
}

// wanted is what is to be published: see page.
var wanted = []struct {
	on         string
	nodes      int
	what, make string
}{
	{"bare-1.34", 1, "one node", "make bench-outage"},
	{"systemd-1.37", 1, "one node under systemd with Kubernetes 1.37", "make bench-outage-systemd"},
	{"bare-1.34", 3, "three nodes", "make bench-outage-three"},
}

// Where the part of a page begins that is made, and where it ends.
const (
	madeBegins = "<!-- Made from outage.json, as make bench-outage leaves it: edit above or below. -->\n"
	madeEnds   = "<!-- Here that ends. -->\n"
)

// outagePage is all of outage.md that is made: all that was measured, by its ratio,
// and the newest of each kind in full.
func outagePage(all []record) string {
	var b strings.Builder
	out := outagesOf(all)
	b.WriteString("| nodes | machine | × by hand in the same run, median (worst) | outage, median (worst) | by hand | kube-apiserver's own part | date |\n|---|---|---|---|---|---|---|\n")
	for _, r := range out {
		ours, _ := r.of(rewind.name, r.database())
		hand, _ := r.of(handName, r.database())
		worst, most := ours.AtWorst, ours.Worst
		for _, x := range r.Rows {
			if x.Way == rewind.name && (x.Database != large || x.Database == ours.Database) {
				worst, most = max(worst, x.AtWorst), max(most, x.Worst)
			}
		}
		nodes, machine := r.kind()
		fmt.Fprintf(&b, "| %s | %s | **%s** (%s) | %s (%s) | %s | %.1f s | %s |\n",
			nodes, machine, times(ours.Ratio), times(worst), tenths(ours.Median), tenths(most), tenths(hand.Median), r.owns(apiServer), r.Date)
	}
	var missing []string
	for _, w := range wanted {
		if !slices.ContainsFunc(out, func(r record) bool {
			return r.On == w.on && r.Nodes == w.nodes && r.Tuned == "" && r.database() == small
		}) {
			missing = append(missing, fmt.Sprintf("%s (`%s`)", w.what, w.make))
		}
	}
	if len(missing) > 0 {
		fmt.Fprintf(&b, "\n**Not measured yet** on a machine that isn't tuned, with by hand in the same run: %s.\n", strings.Join(missing, ", "))
	}
	b.WriteString("\n![outage](outage.svg)\n")
	full := map[string]bool{}
	for _, r := range out {
		if title := r.title(); !full[title] {
			full[title] = true
			fmt.Fprintf(&b, "\n## %s\n\n%s.\n%s", title, r.versions(), r.text())
		}
	}
	return b.String()
}

// recoveryPart is what benchmarks.md has of recoveries: the newest of each kind in
// full, and the ratios of those before.
func recoveryPart(all []record) string {
	var b strings.Builder
	full := map[string]bool{}
	var before []string
	measured := map[string]bool{}
	for _, r := range slices.Backward(all) {
		if r.What != aRecovery {
			continue
		}
		for _, x := range r.Rows {
			measured[x.Database] = true
		}
		if title := r.title(); !full[title] {
			full[title] = true
			fmt.Fprintf(&b, "### %s\n\n%s.\n%s\n", title, r.versions(), r.text())
			continue
		}
		var goals []string
		for _, g := range r.Goals {
			verdict := "holds"
			if g.Have > g.Limit {
				verdict = "exceeded"
			}
			goals = append(goals, fmt.Sprintf("%s %.2f (%.2f: %s)", g.What, g.Have, g.Limit, verdict))
		}
		before = append(before, fmt.Sprintf("- %s, %s: %s\n", r.Date, r.title(), strings.Join(goals, "; ")))
	}
	if len(before) > 0 {
		fmt.Fprintf(&b, "Before that:\n\n%s\n", strings.Join(before, ""))
	}
	for _, size := range []string{small, large} {
		if !measured[size] {
			fmt.Fprintf(&b, "**Not measured yet**: a database of the size %q.\n", size)
		}
	}
	return strings.TrimRight(b.String(), "\n") + "\n"
}

// put replaces the part of a page that is made, and keeps what was written by hand.
func put(page, part string) (string, error) {
	before, rest, ok := strings.Cut(page, madeBegins)
	_, after, ok2 := strings.Cut(rest, madeEnds)
	if !ok || !ok2 {
		return "", fmt.Errorf("the page doesn't say where the part that is made begins and ends: %q, %q", strings.TrimSpace(madeBegins), strings.TrimSpace(madeEnds))
	}
	return before + madeBegins + "\n" + part + "\n" + madeEnds + after, nil
}

// pages are the files that are made from what is kept in a directory, and their text.
func pages(dir string) (map[string]string, error) {
	all, err := records(dir)
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, errors.New("nothing is kept in " + filepath.Join(dir, keptIn))
	}
	made := map[string]string{filepath.Join(dir, "outage.svg"): picture(all)}
	for name, part := range map[string]string{"outage.md": outagePage(all), "benchmarks.md": recoveryPart(all)} {
		path := filepath.Join(dir, name)
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		if made[path], err = put(string(text), part); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	return made, nil
}

func writePages(dir string) error {
	made, err := pages(dir)
	if err != nil {
		return err
	}
	for path, text := range made {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// picture draws the medians as bars: of one node, and of three where they were
// measured.
func picture(all []record) string {
	const left, scale, height = 260, 11, 30
	var b strings.Builder
	type bar struct {
		name string
		took float64
	}
	var bars []bar
	drawn := map[int]bool{}
	for _, r := range outagesOf(all) {
		if drawn[r.Nodes] || r.database() != small {
			continue
		}
		drawn[r.Nodes] = true
		for _, x := range r.Rows {
			name := x.Way + ", " + x.Database
			if r.Nodes > 1 {
				name = fmt.Sprintf("%s, %d nodes", name, r.Nodes)
			}
			if x.Database == small || x.Database == large {
				bars = append(bars, bar{name, x.Median})
			}
		}
	}
	width := left
	for _, x := range bars {
		width = max(width, left+int(x.took*scale)+70)
	}
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="13">`+"\n", width, height*len(bars)+10)
	fmt.Fprintf(&b, `<rect width="100%%" height="100%%" fill="white"/>`+"\n")
	for i, x := range bars {
		y := i*height + 8
		colour := "#8a8a8a"
		if strings.HasPrefix(x.name, "etcd-rewind") {
			colour = "#2a7f4f"
		}
		fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="end">%s</text>`+"\n", left-8, y+15, html.EscapeString(x.name))
		fmt.Fprintf(&b, `<rect x="%d" y="%d" width="%.0f" height="20" fill="%s"/>`+"\n", left, y, x.took*scale, colour)
		fmt.Fprintf(&b, `<text x="%.0f" y="%d">%.1f s</text>`+"\n", float64(left)+x.took*scale+6, y+15, x.took)
	}
	b.WriteString("</svg>\n")
	return b.String()
}
