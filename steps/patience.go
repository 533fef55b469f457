package steps

import (
	"context"
	"fmt"
	"strings"
	"time"

	"etcd-rewind/node"
)

// patience is how long a wait for a process lasts that runs and isn't ready:
// kubelet's own (the budget of its startup probe, 4 minutes with kubeadm), and
// beyond that as long as something moves. What is slow is not failed: a large
// cluster's API server, or a slow disk, takes minutes.
type patience struct {
	run   *run
	who   life
	base  time.Duration
	begun time.Time
	asked time.Time // the last time that log and CPU were looked at
	moved time.Time // the last sign of life
	sign  string    // what it was
	known map[string]bool
	cpu   time.Duration
	id    string // of the instance whose CPU time that is
}

// life is what shows that a process gets on, whatever it runs as.
type life struct {
	log func() []string
	cpu func(ctx context.Context, instance string) (time.Duration, error)
}

// patient begins to wait for a process; base is what is waited in any case.
func (r *run) patient(who life, base time.Duration) *patience {
	now := r.now()
	return &patience{
		run: r, who: who, base: base,
		begun: now, asked: now, moved: now, known: map[string]bool{},
	}
}

// maxKnown bounds what is remembered of a log.
const maxKnown = 5000

// busy is the share of a core from which a process counts as working.
const busy = 0.2

// see takes a look at what shows that the process gets on. instance is the one
// that runs, "" when none does; failing are the hooks that its readiness waits
// for. It adds what it has seen, once that matters, and sets the limit.
func (p *patience) see(ctx context.Context, instance, failing string, s *sight) {
	now := p.run.now()
	if instance == "" {
		s.limit = p.limit()
		return
	}
	if p.new("hooks " + failing) {
		p.moves(now, "readiness")
	}
	if over := now.Sub(p.asked); over >= p.run.pace.evidence {
		p.asked = now
		for _, line := range p.who.log() {
			// The same message again, with other numbers, is no progress.
			if p.new("log " + shape(line)) {
				p.moves(now, "log")
			}
		}
		ask, cancel := context.WithTimeout(ctx, 2*time.Second)
		cpu, err := p.who.cpu(ask, instance)
		cancel()
		switch {
		case err != nil:
		case p.id != instance:
			p.id, p.cpu = instance, cpu
		default:
			if used := cpu - p.cpu; used.Seconds() >= busy*over.Seconds() {
				p.moves(now, "CPU time")
			}
			p.cpu = cpu
		}
	}
	s.limit = p.limit()
	if now.Sub(p.begun) > 5*p.run.pace.evidence {
		quiet := now.Sub(p.moved).Round(time.Second)
		is := fmt.Sprintf("%s last changed %s ago", p.sign, quiet)
		if quiet < time.Second {
			is = p.sign + " is changing"
		}
		s.seen = append(s.seen, Sighting{
			What: "progress", OK: quiet < p.run.pace.still,
			Is: fmt.Sprintf("%s; limit %s, longer while something changes", is, p.base.Round(time.Second)),
		})
	}
}

func (p *patience) moves(now time.Time, sign string) { p.moved, p.sign = now, sign }

func (p *patience) new(what string) bool {
	if p.known[what] || len(p.known) >= maxKnown {
		return false
	}
	p.known[what] = true
	return true
}

func (p *patience) limit() time.Duration {
	return min(max(p.base, p.moved.Sub(p.begun)+p.run.pace.still), p.base+p.run.pace.most)
}

// shape is a line of a log without what changes from time to time: numbers,
// IDs, times. A word with a digit in it counts as one.
func shape(line string) string {
	words := strings.FieldsFunc(line[:min(len(line), 300)], func(r rune) bool { return strings.ContainsRune(" \t=:,;\"'()[]{}/", r) })
	for i, w := range words {
		if strings.ContainsAny(w, "0123456789") {
			words[i] = "#"
		}
	}
	return strings.Join(words, " ")
}

// slow says of a wait that ran out whether nothing has failed: the restored etcd
// is proven, and the process runs since its first start without any
// known error. An undo is no remedy then.
func (r *run) slow(pod string, b *node.Sandbox, t *trouble) bool {
	return r.mem.Proven && t.known == "" && len(running(*b)) > 0 && len(r.since(pod, b.Containers)) == 1 && b.Containers[0].RestartCount == 0
}

const slowHint = "nothing has failed and etcd holds the restored data: keep waiting, or leave it and resume later. An undo would have to wait for the same process"
