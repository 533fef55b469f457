//go:build linux

package main

import (
	"fmt"
	"html"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"
)

// pick returns the outages of a way at a size, and the largest difference
// between what was seen and what the tool says.
func pick(all []result, way, size string) (outages []time.Duration, off time.Duration) {
	for _, r := range all {
		if r.way != way || r.size != size {
			continue
		}
		outages = append(outages, r.outage)
		if r.claimed > 0 {
			off = max(off, (r.outage - r.claimed).Abs())
		}
	}
	return outages, off
}

func table(all []result) string {
	var b strings.Builder
	b.WriteString("| way | database | runs | median, × by hand | worst | median | worst | outage_seconds differs by at most |\n|---|---|---|---|---|---|---|---|\n")
	line := func(way, size string, against time.Duration) {
		o, off := pick(all, way, size)
		if len(o) == 0 {
			return
		}
		worst := o[0]
		for _, d := range o {
			worst = max(worst, d)
		}
		typical, most, differs := "", "", ""
		if against > 0 {
			typical, most = fmt.Sprintf("%.2f", ratio(median(o), against)), fmt.Sprintf("%.2f", ratio(worst, against))
		}
		if off > 0 {
			differs = fmt.Sprintf("%.2f s", off.Seconds())
		}
		fmt.Fprintf(&b, "| %s | %s | %d | %s | %s | %.1f s | %.1f s | %s |\n", way, size, len(o), typical, most, median(o).Seconds(), worst.Seconds(), differs)
	}
	for _, size := range []string{small, large} {
		hand, _ := pick(all, ways[0].name, size)
		for _, w := range ways {
			line(w.name, size, median(hand))
		}
	}
	hand, _ := pick(all, ways[0].name, small)
	for _, circumstances := range []string{atRandom, inARow, afterAFailure} {
		line(rewind.name, circumstances, median(hand))
	}
	b.WriteString("\nThe goals:\n\n")
	for _, g := range goals(all) {
		fmt.Fprintf(&b, "- %s: %s\n", g.what, g.is())
	}
	b.WriteString("\nWhere the time goes in etcd-rewind, medians:\n\n| step | small | 2 GB |\n|---|---|---|\n")
	little := medians(all, func(size string) bool { return size != large })
	big := medians(all, func(size string) bool { return size == large })
	titles := little
	if len(titles) == 0 {
		titles = big
	}
	for i, p := range titles {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", p.title, nth(little, i), nth(big, i))
	}
	b.WriteString(owners(all))
	return b.String()
}

// owners tells who has the outage of etcd-rewind, in means, which add up.
func owners(all []result) string {
	type column struct {
		size string
		sum  []part
		runs int
	}
	columns := []column{{size: small}, {size: large}}
	var names []part
	for _, r := range all {
		for i := range columns {
			c := &columns[i]
			if len(r.parts) == 0 || (r.size == large) != (c.size == large) {
				continue
			}
			if c.sum == nil {
				c.sum = make([]part, len(r.parts))
				names = r.parts
			}
			for j, p := range r.parts {
				c.sum[j].took += p.took
			}
			c.runs++
		}
	}
	if names == nil {
		return ""
	}
	var b strings.Builder
	b.WriteString("\nWho has the outage, means of all those runs; what the runtime and the programs' logs say bounds each part:\n\n| | who | small | 2 GB |\n|---|---|---|---|\n")
	line := func(what, who string, of func(j int) bool) {
		fmt.Fprintf(&b, "| %s | %s |", what, who)
		for _, c := range columns {
			var sum time.Duration
			for j, p := range c.sum {
				if of(j) {
					sum += p.took / time.Duration(c.runs)
				}
			}
			if c.runs == 0 {
				b.WriteString(" not measured |")
				continue
			}
			fmt.Fprintf(&b, " %.2f s |", sum.Seconds())
		}
		b.WriteString("\n")
	}
	for i, n := range names {
		line(n.what, n.who, func(j int) bool { return i == j })
	}
	for _, who := range []string{kubelet, etcd, apiServer, ourselves} {
		line("together", who, func(j int) bool { return names[j].who == who })
	}
	return b.String()
}

func nth(phases []phase, i int) string {
	if i >= len(phases) {
		return "not measured"
	}
	return fmt.Sprintf("%.2f s", phases[i].took.Seconds())
}

// goal is a limit with what was measured.
type goal struct {
	what        string
	have, limit float64
}

func (g goal) is() string {
	verdict := "holds"
	if g.have > g.limit {
		verdict = "**exceeded**"
	}
	return fmt.Sprintf("%.3f, limit %.2f: %s", g.have, g.limit, verdict)
}

func goals(all []result) []goal {
	hand, _ := pick(all, ways[0].name, small)
	by := float64(median(hand))
	var out []goal
	add := func(what string, have time.Duration, against, limit float64) {
		if have > 0 && against > 0 {
			out = append(out, goal{what, float64(have) / against, limit})
		}
	}
	ours, off := pick(all, rewind.name, small)
	add("median, × by hand", median(ours), by, 0.10)
	for _, circumstances := range []string{atRandom, inARow, afterAFailure} {
		o, differs := pick(all, rewind.name, circumstances)
		off = max(off, differs)
		if len(o) > 0 {
			add("worst of "+fmt.Sprint(len(o))+" ("+circumstances+"), × by hand", slices.Max(o), by, 0.18)
		}
	}
	if big, _ := pick(all, rewind.name, large); len(big) > 0 {
		hand, _ := pick(all, ways[0].name, large)
		add("median with 2 GB, × by hand with 2 GB", median(big), float64(median(hand)), 0.10)
		more := opening(all, large) - opening(all, small)
		add("the same without etcd's own time to open 2 GB, × by hand with a small one", median(big)-more, by, 0.10)
	}
	add("outage_seconds differs from what the client saw by at most, in s", off, float64(time.Second), 0.3)
	return out
}

// opening is how long etcd's start takes with a database.
func opening(all []result, size string) time.Duration {
	for _, p := range medians(all, func(s string) bool { return s == size }) {
		if p.title == "Start etcd" {
			return p.took
		}
	}
	return 0
}

// medians of the steps of etcd-rewind's runs.
func medians(all []result, of func(size string) bool) []phase {
	return phasesOf(all, func(r result) bool { return r.way == rewind.name && of(r.size) })
}

func phases(all []result, way, size string, dead bool) []phase {
	return phasesOf(all, func(r result) bool { return r.way == way && r.size == size && r.dead == dead })
}

func phasesOf(all []result, such func(result) bool) []phase {
	var order []string
	took := map[string][]time.Duration{}
	for _, r := range all {
		if !such(r) {
			continue
		}
		for _, p := range r.phases {
			if _, ok := took[p.title]; !ok {
				order = append(order, p.title)
			}
			took[p.title] = append(took[p.title], p.took)
		}
	}
	var out []phase
	for _, title := range order {
		out = append(out, phase{title, median(took[title])})
	}
	return out
}

func page(text string) string {
	cpu, _ := exec.Command("sh", "-c", "sed -n 's/^model name.*: //p' /proc/cpuinfo | head -1").Output()
	return fmt.Sprintf(`# The outage, measured

Made by `+"`make bench-outage`"+` on %s, with %d cores (%s), kubeadm 1.34.4, containerd, etcd 3.6.10, one node. A client asks
every 20 ms for /readyz and for a known object; the outage is the time from the last good answer to the first good answer with
the restored data. The ratio to by hand is what to expect on another machine; the seconds are not. Where the host of a virtual machine takes free memory back, whatever starts there is slower: before each run 2 GB
are touched until that gets no quicker, and how quickly the host gives memory is told below.

![outage](outage.svg)

%s`, time.Now().UTC().Format(time.DateOnly), runtime.NumCPU(), strings.TrimSpace(string(cpu)), text)
}

// picture draws the medians as bars.
func picture(all []result) string {
	const left, scale, height = 230, 11, 30
	var b strings.Builder
	type bar struct {
		name string
		took time.Duration
	}
	var bars []bar
	for _, size := range []string{small, large} {
		for _, w := range ways {
			if o, _ := pick(all, w.name, size); len(o) > 0 {
				bars = append(bars, bar{w.name + ", " + size, median(o)})
			}
		}
	}
	width := left
	for _, x := range bars {
		width = max(width, left+int(x.took.Seconds()*scale)+70)
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
		fmt.Fprintf(&b, `<rect x="%d" y="%d" width="%.0f" height="20" fill="%s"/>`+"\n", left, y, x.took.Seconds()*scale, colour)
		fmt.Fprintf(&b, `<text x="%.0f" y="%d">%.1f s</text>`+"\n", float64(left)+x.took.Seconds()*scale+6, y+15, x.took.Seconds())
	}
	b.WriteString("</svg>\n")
	return b.String()
}
