package ui

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"etcd-rewind/snapshot"
	"etcd-rewind/steps"
)

// Inspected is a snapshot as the command inspect tells of it.
type Inspected struct {
	Info   *snapshot.Info
	Packed *snapshot.Unpacked // nil, or how the file was packed
	// Node and Verdicts are for the node it was looked at on; NoNode says why
	// there are none.
	Node     string
	Verdicts []steps.Verdict
	NoNode   string
}

// PrintInspected prints what is in a snapshot.
func PrintInspected(w io.Writer, i Inspected) error {
	return printLines(w, inspectedText(i, time.Now(), textWidth(w)))
}

// JSONInspected prints the same as one object.
func JSONInspected(w io.Writer, i Inspected, at time.Time) error {
	out := struct {
		Type string    `json:"type"`
		Time time.Time `json:"time"`
		*snapshot.Info
		Packed   *snapshot.Unpacked `json:"packed,omitempty"`
		Node     string             `json:"node,omitempty"`
		Verdicts []steps.Verdict    `json:"verdicts,omitempty"`
		NoNode   string             `json:"no_verdict,omitempty"`
	}{"snapshot", at, i.Info, i.Packed, i.Node, i.Verdicts, i.NoNode}
	return newEncoder(w).Encode(out)
}

func inspectedText(i Inspected, now time.Time, w int) []string {
	info := i.Info
	var list []steps.Fact
	add := func(name, format string, args ...any) {
		list = append(list, steps.Fact{Name: name, Value: fmt.Sprintf(format, args...)})
	}

	head := symDone + " " + info.Path + " is whole: sha256, pages and records"
	if info.Hash == snapshot.HashMissing {
		head = symWarn + " " + info.Path + " has no sha256 trailer: its pages and records are consistent, but there is no checksum to verify the content"
	}
	if p := i.Packed; p != nil && p.Format != snapshot.Raw {
		what := string(p.Format)
		if p.Inside != "" {
			what += ", " + clean(p.Inside) + " in it"
		}
		add("compressed", "%s; unpacked to %s to read it, deleted on exit", what, p.Path)
	}
	add("sha256", "%s", info.SHA256)
	add("revision", "%d", info.Revision)
	add("keys", "%d", info.Keys)
	db := size(info.TotalSize)
	if info.StorageVersion != "" {
		db += ", etcd " + info.StorageVersion
	} else {
		db += ", from before etcd 3.6"
	}
	add("database", "%s", db)
	if !info.LastWrite.IsZero() {
		add("last write", "%s, %s (newest event or lease in it)", steps.Moment(info.LastWrite), steps.Ago(info.LastWrite, now))
	}
	add("file", "%s, of %s, %s", size(info.Size), steps.Moment(info.ModTime), steps.Ago(info.ModTime, now))
	var members []string
	for _, m := range info.Members {
		name := strings.TrimSpace(clean(m.Name) + " " + strings.Join(cleanAll(m.PeerURLs), " "))
		if m.Learner {
			name += " (learner)"
		}
		members = append(members, name)
	}
	add("members", "%s", orNone(members))
	add("alarms", "%s", orNone(info.Alarms))
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
		add("nodes", "%s", orNone(objectNames(info.Nodes)))
		add("API servers", "%s", orNone(info.APIServers))
		if len(info.ServiceCIDRs) > 0 {
			add("services", "%s", orNone(info.ServiceCIDRs))
		}
		var enc []string
		for _, e := range info.Encryption {
			enc = append(enc, fmt.Sprintf("%s: %d of %s", clean(e.String()), e.Objects, orNone(e.Resources)))
		}
		add("encrypted", "%s", orNone(enc))
		add("CRDs", "%s", orNone(info.CRDs))
	}
	for _, what := range slices.Sorted(maps.Keys(info.More)) {
		add("not listed", "%d more %s", info.More[what], what)
	}
	if info.LongKeys > 0 {
		add("odd keys", "%d longer than 1024 bytes: no API server writes such keys", info.LongKeys)
	}
	lines := hangText("", clean(head), w)
	lines = append(lines, factsText(list, w)...)
	if len(info.Kinds) > 0 {
		lines = append(lines, "")
		lines = append(lines, kindsText(info.Kinds, now, w)...)
	}
	lines = append(lines, "")
	if i.NoNode != "" {
		return append(lines, hangText("", "No verdict for this machine: "+clean(i.NoNode), w)...)
	}
	lines = append(lines, "For "+clean(i.Node))
	titles := 0
	for _, v := range i.Verdicts {
		titles = max(titles, width(clean(v.Title)))
	}
	for _, v := range i.Verdicts {
		lines = append(lines, hangText("  "+levelSymbol(v)+" "+fit(clean(v.Title), titles)+"  ", clean(v.Cause), w)...)
		if v.Level != steps.Pass && v.Hint != "" {
			lines = append(lines, hangText("      → ", clean(v.Hint), w)...)
		}
	}
	return lines
}

func orNone(list []string) string {
	if len(list) == 0 {
		return "none"
	}
	list = cleanAll(list)
	const most = 12
	if len(list) > most {
		return strings.Join(list[:most], ", ") + fmt.Sprintf(" and %d more", len(list)-most)
	}
	return strings.Join(list, ", ")
}

func objectNames(list []snapshot.Object) []string {
	var out []string
	for _, o := range list {
		out = append(out, o.Name)
	}
	return out
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
		wide = max(wide, min(width(clean(k.Kind)), 32))
	}
	row := func(kind, n, created, changed, where string) []string {
		lead := fit(kind, wide) + right(n, 8) + "  " + fit(created, 10) + fit(changed, 10)
		if where == "" {
			return []string{strings.TrimRight(lead, " ")}
		}
		return hangText(lead, where, w)
	}
	lines := row("kind", "objects", "newest", "changed", "namespaces")
	for _, k := range kinds {
		slices.SortStableFunc(k.Namespaces, func(a, b snapshot.Namespace) int { return b.Objects - a.Objects })
		var where []string
		for _, n := range k.Namespaces {
			where = append(where, fmt.Sprintf("%s %d", clean(n.Namespace), n.Objects))
		}
		lines = append(lines, row(clean(k.Kind), number(int64(k.Objects)), agoOrNothing(k.Created, now), agoOrNothing(k.Changed, now), strings.Join(where, ", "))...)
	}
	return lines
}

func agoOrNothing(t, now time.Time) string {
	if t.IsZero() {
		return ""
	}
	return steps.Age(t, now)
}

// PrintSaved prints where a snapshot was saved.
func PrintSaved(w io.Writer, info *snapshot.Info) error {
	return printLines(w, append(
		[]string{symDone + " " + clean(info.Path)},
		factsText([]steps.Fact{
			{Name: "revision", Value: number(info.Revision)},
			{Name: "keys", Value: number(int64(info.Keys))},
			{Name: "size", Value: size(info.Size)},
			{Name: "sha256", Value: info.SHA256},
		}, textWidth(w))...,
	))
}
