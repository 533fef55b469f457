package text

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"etcd-rewind/problem"
	"etcd-rewind/snapshot"
	"etcd-rewind/steps"
	"etcd-rewind/trust"
)

// Inspected is a snapshot as the command inspect prints it.
type Inspected struct {
	Info *snapshot.Info
	// Node and Verdicts are for the node it was looked at on; NoNode says why
	// there are none.
	Node     string
	Verdicts []steps.Verdict
	NoNode   string
}

// Inspection is all that inspect says about a snapshot, for text that is printed.
func Inspection(i Inspected, now time.Time, w int) []string {
	info := i.Info
	var list []steps.Fact
	add := func(name, format string, args ...any) {
		list = append(list, steps.Fact{Name: name, Value: fmt.Sprintf(format, args...)})
	}

	head := SymDone + " " + info.Name + " is intact: sha256, pages and records"
	if info.Hash == snapshot.HashMissing {
		head = SymWarn + " " + info.Name + " has no sha256 trailer: its pages and records are consistent, but there is no checksum to verify the content"
	}
	if p := info.Packed; p != nil {
		what := string(p.Format)
		if p.Inside != "" {
			what += ", " + trust.Text(p.Inside) + " in it"
		}
		if p.Age {
			add("encrypted file", "with age, %s inside; decrypted to %s to read it, deleted on exit", what, p.Path)
		} else {
			add("compressed", "%s; unpacked to %s to read it, deleted on exit", what, p.Path)
		}
	}
	add("sha256", "%s", info.SHA256)
	add("revision", "%d", info.Revision)
	keys := Number(int64(info.Keys))
	if info.EmptyKey {
		keys += ", and the empty key that a revision bump leaves (etcdutl counts it too)"
	}
	add("keys", "%s", keys)
	db := Size(info.TotalSize)
	if info.StorageVersion != "" {
		db += ", etcd " + info.StorageVersion
	} else {
		db += ", from before etcd 3.6"
	}
	add("database", "%s", db)
	if !info.LastWrite.IsZero() {
		add("last write", "%s, %s (newest event or lease in it)", steps.Moment(info.LastWrite), steps.Ago(info.LastWrite, now))
	}
	add("file", "%s, of %s, %s", Size(info.Size), steps.Moment(info.ModTime), steps.Ago(info.ModTime, now))
	var members []string
	for _, m := range info.Members {
		name := strings.TrimSpace(trust.Text(m.Name) + " " + strings.Join(trust.Lines(m.PeerURLs), " "))
		if m.Learner {
			name += " (learner)"
		}
		members = append(members, name)
	}
	add("members", "%s", OrNone(members))
	add("alarms", "%s", OrNone(info.Alarms))
	auth := "off"
	if info.AuthEnabled {
		auth = "on"
	}
	add("auth", "%s", auth)
	if info.Prefix == "" {
		add("Kubernetes", "none in it")
	} else {
		uid := info.KubeSystemUID
		if uid == "" {
			uid = "unknown: encrypted at rest"
		}
		add("cluster", "kube-system %s", uid)
		add("nodes", "%s", Names(info.Nodes))
		add("API servers", "%s", OrNone(info.APIServers))
		if len(info.ServiceCIDRs) > 0 {
			add("services", "%s", OrNone(info.ServiceCIDRs))
		}
		var enc []string
		for _, e := range info.Encryption {
			enc = append(enc, fmt.Sprintf("%s: %d of %s", trust.Text(e.String()), e.Objects, OrNone(e.Resources)))
		}
		add("encrypted", "%s", OrNone(enc))
		add("CRDs", "%s", OrNone(info.CRDs))
	}
	for _, what := range slices.Sorted(maps.Keys(info.More)) {
		add("not listed", "%d more %s", info.More[what], what)
	}
	if info.LongKeys > 0 {
		add("odd keys", "%d longer than 1024 bytes: no API server writes such keys", info.LongKeys)
	}
	lines := HangWhole("", trust.Text(head), w)
	if i.NoNode != "" { // else it is among the verdicts
		lines = append(lines, Doubt(info.Doubt, w)...)
	}
	lines = append(lines, FactsWhole(list, w)...)
	if len(info.Kinds) > 0 {
		lines = append(lines, "")
		lines = append(lines, kindsText(info.Kinds, now, w)...)
	}
	lines = append(lines, "")
	if i.NoNode != "" {
		return append(lines, HangWhole("", "No verdict for this machine: "+trust.Text(i.NoNode), w)...)
	}
	lines = append(lines, "For "+trust.Text(i.Node))
	titles := 0
	for _, v := range i.Verdicts {
		titles = max(titles, Width(trust.Text(v.Title)))
	}
	for _, v := range i.Verdicts {
		lines = append(lines, HangWhole("  "+LevelSymbol(v)+" "+Fit(trust.Text(v.Title), titles)+"  ", trust.Text(v.Cause), w)...)
		if v.Level != steps.Pass && v.Hint != "" {
			lines = append(lines, HangWhole("      → ", trust.Text(v.Hint), w)...)
		}
	}
	return lines
}

// Doubt is what nobody can know of where a snapshot comes from; nothing for nil.
func Doubt(p *problem.Problem, w int) []string {
	if p == nil {
		return nil
	}
	cause, advice := Explain(p)
	lines := HangWhole(SymWarn+" ", cause, w)
	if advice != "" {
		lines = append(lines, HangWhole("  → ", advice, w)...)
	}
	return lines
}

// Names are the names of objects as OrNone lists them.
func Names(list []snapshot.Object) string {
	names := make([]string, 0, len(list))
	for _, o := range list {
		names = append(names, o.Name)
	}
	return OrNone(names)
}

// kindsText is a table of kinds, the most numerous first.
func kindsText(kinds []snapshot.Kind, now time.Time, w int) []string {
	kinds = slices.Clone(kinds)
	slices.SortStableFunc(kinds, func(a, b snapshot.Kind) int { return b.Objects - a.Objects })
	wide := len("kind")
	for i, k := range kinds {
		if k.Resource == "masterleases" { // API servers lease their addresses as Endpoints
			k.Kind += " (" + k.Resource + ")"
			kinds[i] = k
		}
		wide = max(wide, min(Width(trust.Text(k.Kind)), 32))
	}
	row := func(kind, n, created, changed, where string) []string {
		lead := Fit(kind, wide) + FitRight(n, 8) + "  " + Fit(created, 10) + Fit(changed, 10)
		if where == "" {
			return []string{strings.TrimRight(lead, " ")}
		}
		return HangWhole(lead, where, w)
	}
	lines := row("kind", "objects", "newest", "changed", "namespaces")
	for _, k := range kinds {
		slices.SortStableFunc(k.Namespaces, func(a, b snapshot.Namespace) int { return b.Objects - a.Objects })
		var where []string
		for _, n := range k.Namespaces {
			where = append(where, fmt.Sprintf("%s %d", trust.Text(n.Namespace), n.Objects))
		}
		lines = append(lines, row(trust.Text(k.Kind), Number(int64(k.Objects)), agoOrNothing(k.Created, now), agoOrNothing(k.Changed, now), strings.Join(where, ", "))...)
	}
	return lines
}

func agoOrNothing(t, now time.Time) string {
	if t.IsZero() {
		return ""
	}
	return steps.Age(t, now)
}
