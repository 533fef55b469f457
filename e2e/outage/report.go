//go:build linux

package main

import (
	"fmt"
	"html"
	"os/exec"
	"runtime"
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
	b.WriteString("| way | database | runs | median | worst | × by hand | outage_seconds differs by at most |\n|---|---|---|---|---|---|---|\n")
	line := func(way, size string, against time.Duration) {
		o, off := pick(all, way, size)
		if len(o) == 0 {
			return
		}
		worst := o[0]
		for _, d := range o {
			worst = max(worst, d)
		}
		ratio, differs := "", ""
		if against > 0 {
			ratio = fmt.Sprintf("%.2f (worst %.2f)", float64(median(o))/float64(against), float64(worst)/float64(against))
		}
		if off > 0 {
			differs = fmt.Sprintf("%.2f s", off.Seconds())
		}
		fmt.Fprintf(&b, "| %s | %s | %d | %.1f s | %.1f s | %s | %s |\n", way, size, len(o), median(o).Seconds(), worst.Seconds(), ratio, differs)
	}
	for _, size := range []string{small, large} {
		hand, _ := pick(all, ways[0].name, size)
		for _, w := range ways {
			line(w.name, size, median(hand))
		}
	}
	hand, _ := pick(all, ways[0].name, small)
	line(rewind.name, "random", median(hand))
	b.WriteString("\nWhere the time goes in etcd-rewind, medians:\n\n| step | time |\n|---|---|\n")
	for _, p := range medians(all) {
		fmt.Fprintf(&b, "| %s | %.2f s |\n", p.title, p.took.Seconds())
	}
	return b.String()
}

// medians of the steps of etcd-rewind's runs on the small database.
func medians(all []result) []phase {
	var order []string
	took := map[string][]time.Duration{}
	for _, r := range all {
		if r.way != rewind.name || r.size == large {
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
the restored data.

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
