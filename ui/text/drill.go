package text

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"etcd-rewind/drill"
	"etcd-rewind/steps"
	"etcd-rewind/trust"
)

// drillParts say what a drill does, by part: while it does it, and after.
var drillParts = map[string][2]string{
	drill.PartFetch:   {"fetching the snapshot", "fetch, decrypt, decompress"},
	drill.PartVerify:  {"verifying the snapshot", "verify"},
	drill.PartRestore: {"restoring into the drill's directory", "restore"},
	drill.PartEtcd:    {"starting etcd", "etcd start"},
	drill.PartAPI:     {"starting kube-apiserver", "kube-apiserver start"},
	drill.PartRead:    {"reading through the API", "read all objects"},
	drill.PartRemove:  {"removing the drill", "stop and remove"},
}

// DrillDoing is what a drill does now, in words.
func DrillDoing(part string) string {
	if p, ok := drillParts[part]; ok {
		return p[0]
	}
	return part
}

// Drill is the whole outcome of a drill.
func Drill(r *drill.Report, now time.Time, w int) []string {
	head := SymDone + " " + trust.Text(r.Snapshot)
	switch started := len(r.Programs); {
	case r.Fault != nil:
		head = SymBad + " " + trust.Text(r.Snapshot) + ": the drill failed: " + trust.Text(r.Fault.Cause)
	case started > 1:
		head += fmt.Sprintf(" is proven: etcd and kube-apiserver started on it, and %s objects were read through the API", Number(int64(r.Objects)))
	default:
		head += " is proven as far as etcd: it started on it and has all keys"
	}
	lines := HangWhole("", head, w)
	if r.Fault != nil && r.Fault.Hint != "" {
		lines = append(lines, HangWhole("  → ", trust.Text(r.Fault.Hint), w)...)
	}
	lines = append(lines, Doubt(r.Doubt, w)...)
	var list []steps.Fact
	add := func(name, format string, args ...any) {
		list = append(list, steps.Fact{Name: name, Value: fmt.Sprintf(format, args...)})
	}
	if !r.Taken.IsZero() {
		add("taken", "%s, %s", steps.Moment(r.Taken), steps.Ago(r.Taken, now))
		add("revision", "%s, %s keys, %s", Number(r.Revision), Number(int64(r.Keys)), Size(r.Size))
	}
	for _, p := range r.Programs {
		version := r.Etcd
		if p.Name != "etcd" {
			version = r.API
		}
		add(p.Name, "%s", strings.TrimPrefix(trust.Text(version)+", of "+trust.Text(p.From), ", "))
	}
	var decrypted []string
	kinds := 0
	for _, k := range r.Kinds {
		if k.NotListed != "" {
			continue
		}
		kinds++
		for _, with := range k.Encrypted {
			decrypted = append(decrypted, trust.Text(k.Resource)+" with "+trust.Text(with))
		}
	}
	if kinds > 0 {
		add("objects", "%s of %d kinds, as many as in the snapshot", Number(int64(r.Objects)), kinds)
		if r.Fault != nil {
			list = list[:len(list)-1]
		}
	}
	if len(decrypted) > 0 {
		slices.Sort(decrypted)
		add("decrypted", "%s", OrNone(decrypted))
	}
	for _, l := range r.LeftOut {
		add("left out", "%s", trust.Text(l))
	}
	lines = append(lines, FactsWhole(list, w)...)
	lines = append(lines, "")
	list = nil
	for _, p := range r.Parts {
		add(drillParts[p.Part][1], "%s", drillSeconds(p.Seconds))
	}
	if r.Fault == nil {
		until := "kube-apiserver is ready"
		if len(r.Programs) < 2 {
			until = "etcd answers"
		}
		add("time to recovery", "%s, from the fetch until %s", drillSeconds(r.Recovery), until)
	}
	add("the whole drill", "%s", drillSeconds(r.Total))
	return append(lines, FactsWhole(list, w)...)
}

func drillSeconds(s float64) string { return fmt.Sprintf("%.1f s", s) }
