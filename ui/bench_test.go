package ui

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"etcd-rewind/problem"
	"etcd-rewind/snapshot"
	"etcd-rewind/steps"
)

// crowded are screens with as much on them as there may be.
var crowded = []struct {
	name string
	show func(b *testing.B) *driver
}{
	{"choose-of-4000", func(b *testing.B) *driver {
		d := drive(b, newFake(), Options{})
		d.f.candidates = nil
		for i := range 4000 {
			c := snapshot.Candidate{Path: fmt.Sprintf("%s-%d", long, i), Size: 528_416, ModTime: noon.Add(-time.Duration(i) * time.Minute)}
			if i%3 == 0 {
				c.Err = &problem.Problem{Code: "truncated", Cause: "truncated: its own pages end at 528384 bytes, the file at 200000", Hint: "take another one"}
			}
			d.f.candidates = append(d.f.candidates, c)
		}
		d.to(chooseScreen)
		return d
	}},
	{"diff-of-3000-objects", func(b *testing.B) *driver { return driveComparing(b, &comparing{result: muchChanged()}) }},
	{"diff-of-3000-objects-with-fields", func(b *testing.B) *driver {
		d := driveComparing(b, &comparing{result: muchChanged()})
		d.key("f")
		return d
	}},
	{"run-on-seven-nodes", func(b *testing.B) *driver {
		d := drive(b, newFake(), Options{})
		names := []string{"cp1", "cp2", "cp3", "cp4", "cp5", "cp6", "cp7"}
		d.duringAll(names, on("cp2", "start-etcd.4", steps.Waiting, 3))
		return d
	}},
	{"logs-of-200-long-lines", func(b *testing.B) *driver {
		d := drive(b, newFake(), Options{})
		d.during(record(d.f, restorePlan(), steps.Unattended), action("start-etcd.4", steps.Waiting, 5))
		d.key("l")
		d.update(logsMsg{"etcd", muchLogged(200)})
		return d
	}},
	{"failure-with-a-long-log", func(b *testing.B) *driver {
		d := drive(b, newFake(), Options{})
		f := someFailure()
		f.Log = muchLogged(20)
		failed(d, f)
		return d
	}},
	{"commands-of-a-long-run", func(b *testing.B) *driver {
		d := drive(b, newFake(), Options{})
		p := restorePlan()
		for range 20 {
			p.Steps = append(p.Steps, restorePlan().Steps...)
		}
		events := record(d.f, p, steps.Unattended)
		d.during(events, func(ev steps.Event) bool { return ev.Type == steps.TypeResult })
		d.key("c")
		return d
	}},
	{"plan-with-long-manifests", func(b *testing.B) *driver {
		d := drive(b, newFake(), Options{})
		d.to(planScreen)
		d.m.plan.Plan.Diffs[0].Text += strings.Repeat(" - --flag=of-kube-apiserver-that-is-"+strings.Repeat("very-", 30)+"long\n", 400)
		return d
	}},
}

func muchLogged(n int) []string {
	var lines []string
	for i := range n {
		lines = append(lines, fmt.Sprintf(`{"level":"warn","n":%d,"msg":"%s"}`, i, strings.Repeat("apply request took too long ", 40)))
	}
	return lines
}

// muchChanged is a comparison with as many objects as it may list, 1000 in
// each direction, each in a line of its own.
func muchChanged() *snapshot.Comparison {
	c := someComparison()
	changes := func() snapshot.Changes {
		out := snapshot.Changes{Objects: 1000}
		for i := range 1000 {
			ch := snapshot.Change{Kind: "Deployment", Then: 1, Now: 2, Created: noon.Add(-time.Hour)}
			ch.Resource, ch.Namespace, ch.Name = "deployments", fmt.Sprintf("namespace-%d", i/2), fmt.Sprintf("deployment-of-some-team-%d", i)
			for f := range 4 {
				ch.Fields = append(ch.Fields, snapshot.Field{
					Path: fmt.Sprintf("spec.template.spec.containers[container-%d].image", f),
					Then: "registry.example.com/team/application:v1.2.3", Now: "registry.example.com/team/application:v1.2.4",
				})
			}
			out.List = append(out.List, ch)
		}
		return out
	}
	c.BringsBack, c.TakesAway, c.TurnsBack = changes(), changes(), changes()
	return c
}

// BenchmarkScreenFrames measures one frame of every screen at 200×60: a key or
// a tick is taken in, and the whole view is built.
func BenchmarkScreenFrames(b *testing.B) {
	const (
		limit  = 16 * time.Millisecond
		frames = 60
		passes = 3 // of the same frames; the best counts: the machine may be busy
	)
	type timed struct {
		name          string
		median, worst time.Duration
	}
	var all []timed
	measure := func(name string, show func() *driver) {
		took := slices.Repeat([]time.Duration{time.Hour}, frames)
		for range passes {
			d := show()
			d.size(200, 60)
			for i := range frames {
				var msg tea.Msg = tickMsg(noon)
				switch i % 4 {
				case 1:
					msg = tea.KeyMsg{Type: tea.KeyDown}
				case 2:
					msg = tea.KeyMsg{Type: tea.KeyPgDown}
				case 3:
					msg = tea.WindowSizeMsg{Width: 200 + i%8/4, Height: 60} // everything is laid out again
				}
				d.m.ticking = true // no ticks but these
				began := time.Now()
				d.m.Update(msg)
				view := d.m.View()
				took[i] = min(took[i], time.Since(began))
				if n := strings.Count(view, "\n"); n != 59 {
					b.Fatalf("%s: %d lines", name, n+1)
				}
			}
		}
		slices.Sort(took)
		all = append(all, timed{name, took[frames/2], took[frames-1]})
	}
	for b.Loop() {
		all = nil
		for _, s := range screens {
			measure(s.name, func() *driver {
				d := drive(b, newFake(), Options{})
				s.show(d)
				return d
			})
		}
		measure("diff", func() *driver { return driveComparing(b, &comparing{result: someComparison()}) })
		for _, s := range crowded {
			measure(s.name, func() *driver { return s.show(b) })
		}
	}
	slices.SortFunc(all, func(x, y timed) int { return int(y.median - x.median) })
	var table strings.Builder
	out := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintf(out, "one frame at 200×60, %d screens\tmedian\tworst of %d\t≤\n", len(all), frames)
	var worst time.Duration
	for i, s := range all {
		if i < 10 || i == len(all)/2 {
			_, _ = fmt.Fprintf(out, "%s\t%.1f ms\t%.1f ms\t%d ms\n", s.name, ms(s.median), ms(s.worst), limit.Milliseconds())
		}
		worst = max(worst, s.worst)
		if s.worst > limit {
			b.Errorf("%s: a frame took %v, more than %v", s.name, s.worst, limit)
		}
	}
	_ = out.Flush()
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(ms(worst), "ms-worst-frame")
	fmt.Print("\n", table.String(), "\n")
}

func ms(d time.Duration) float64 { return d.Seconds() * 1000 }
