package text

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"etcd-rewind/problem"
	"etcd-rewind/steps"
	"etcd-rewind/trust"
)

// OrNone lists names, the first dozen of them, or says "none".
func OrNone(list []string) string {
	if len(list) == 0 {
		return "none"
	}
	list = trust.Lines(list)
	const most = 12
	if len(list) > most {
		return strings.Join(list[:most], ", ") + fmt.Sprintf(" and %d more", len(list)-most)
	}
	return strings.Join(list, ", ")
}

// Number writes n as people of the field paste it: digits only.
func Number(n int64) string { return strconv.FormatInt(n, 10) }

// Seconds writes a duration: "3.1 s", "2 min 05 s", "1 h 02 min".
func Seconds(s float64) string {
	switch {
	case s < 0:
		return "0.0 s"
	case s < 99.95:
		return fmt.Sprintf("%.1f s", s)
	case s < 3600:
		return fmt.Sprintf("%d min %02d s", int(s)/60, int(s)%60)
	default:
		return fmt.Sprintf("%d h %02d min", int(s)/3600, int(s)%3600/60)
	}
}

// Limit writes a limit: "120 s", "2 min 30 s" from there on.
func Limit(s float64) string {
	if s <= 300 {
		return fmt.Sprintf("%g s", float64(int(s*10))/10)
	}
	return Seconds(s)
}

// Old is an age with the word that fits it.
func Old(t, now time.Time) string {
	if a := steps.Age(t, now); t.IsZero() || strings.HasPrefix(a, "in ") {
		return "age " + a
	} else {
		return a + " old"
	}
}

// Size writes bytes in units of 1000, as df -H does.
func Size(n int64) string {
	switch f := float64(n); {
	case n < 1000:
		return fmt.Sprintf("%d B", n)
	case n < 1000_000:
		return fmt.Sprintf("%.0f kB", f/1e3)
	case n < 1000_000_000:
		return fmt.Sprintf("%.1f MB", f/1e6)
	default:
		return fmt.Sprintf("%.2f GB", f/1e9)
	}
}

// Roles says what a node runs where that isn't etcd and an API server; "" where
// it is, or isn't known.
func Roles(roles []steps.Role) string {
	etcd, api := slices.Contains(roles, steps.RoleEtcd), slices.Contains(roles, steps.RoleAPI)
	switch {
	case len(roles) == 0 || etcd && api:
		return ""
	case etcd:
		return "etcd only"
	case api:
		return "no etcd"
	}
	return "neither etcd nor API server"
}

// Plural is a number with the word that fits it.
func Plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return Number(int64(n)) + " " + many
}

// Explain is problem.Explain, as text that can be shown.
func Explain(err error) (cause, hint string) {
	cause, hint = problem.Explain(err)
	return trust.Text(cause), trust.Text(hint)
}

// Waited says how long a wait has taken and may take.
func Waited(so, max float64) string {
	if max <= 0 {
		return Seconds(so)
	}
	return Seconds(so) + " of " + Limit(max)
}

// Progress says how far an action with a known amount of work is.
func Progress(p *steps.Progress) string {
	if p.Total <= 0 {
		return trust.Text(p.Phase) + "  " + Size(p.Done)
	}
	return fmt.Sprintf("%s  %s of %s, %d %%", trust.Text(p.Phase), Size(p.Done), Size(p.Total), Percent(p.Done, p.Total))
}

// Percent is done of total, from 0 to 100.
func Percent(done, total int64) int {
	if total <= 0 {
		return 0
	}
	return int(min(100, max(0, done)*100/total))
}

// Bar draws progress in w cells.
func Bar(done, total int64, w int) string {
	if total <= 0 || w <= 0 {
		return ""
	}
	n := int(float64(w) * float64(min(max(done, 0), total)) / float64(total))
	return strings.Repeat("█", n) + strings.Repeat("░", w-n)
}

// Facts lays names and values out in two columns.
func Facts(list []steps.Fact, w int) []string { return layFacts(list, w, Hang) }

// FactsWhole is Facts for text that is printed: no word is broken.
func FactsWhole(list []steps.Fact, w int) []string { return layFacts(list, w, HangWhole) }

func layFacts(list []steps.Fact, w int, hang func(lead, s string, w int) []string) []string {
	n := 0
	for _, f := range list {
		n = max(n, len([]rune(f.Name)))
	}
	n = min(n, max(8, w/3))
	var out []string
	for _, f := range list {
		out = append(out, hang(Fit(trust.Text(f.Name), n)+"  ", trust.Text(f.Value), w)...)
	}
	return out
}

// About are facts; what has no value isn't one.
type About []steps.Fact

// Add adds a fact, made of those parts that say something.
func (a *About) Add(name string, parts ...string) {
	parts = slices.DeleteFunc(parts, func(p string) bool { return p == "" })
	if len(parts) > 0 {
		*a = append(*a, steps.Fact{Name: name, Value: strings.Join(parts, " · ")})
	}
}

// Advice is a cause and what to do about it, for two columns.
func Advice(cause, hint string) []steps.Fact {
	list := []steps.Fact{{Name: "Cause", Value: cause}}
	if hint != "" {
		list = append(list, steps.Fact{Name: "Hint", Value: hint})
	}
	return list
}

// Commands are shell commands with a prompt, line by line.
func Commands(commands []string) []string {
	var out []string
	for _, c := range commands {
		for i, l := range strings.Split(strings.TrimRight(c, "\n"), "\n") {
			prompt := "$ "
			if i > 0 {
				prompt = "  "
			}
			if strings.HasPrefix(c, "#") {
				prompt = "" // a remark, not a command
			}
			out = append(out, prompt+trust.Text(l))
		}
	}
	return out
}

// Diff are the lines of a unified diff.
func Diff(diff string) []string {
	return trust.Lines(strings.Split(strings.TrimRight(diff, "\n"), "\n"))
}
