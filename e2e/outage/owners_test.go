//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"etcd-rewind/e2e/matrix"
)

var noon = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

// at is a time of a story, in seconds.
func at(s float64) time.Time { return noon.Add(time.Duration(s * float64(time.Second))) }

// lines are what --output json prints.
type lines struct{ strings.Builder }

func (l *lines) say(fields map[string]any) {
	data, err := json.Marshal(fields)
	if err != nil {
		panic(err)
	}
	l.Write(append(data, '\n'))
}

// plan is a node's, of actions "stop-etcd/take-out" or "stop-etcd/meet:etcd-out".
func (l *lines) plan(node string, actions ...string) (ids map[string]string) {
	type action struct {
		ID   string            `json:"id"`
		Kind string            `json:"kind"`
		With map[string]string `json:"with"`
	}
	type step struct {
		ID      string   `json:"id"`
		Actions []action `json:"actions"`
	}
	var steps []step
	ids = map[string]string{}
	for _, a := range actions {
		of, kind, _ := strings.Cut(a, "/")
		kind, phase, _ := strings.Cut(kind, ":")
		if len(steps) == 0 || steps[len(steps)-1].ID != of {
			steps = append(steps, step{ID: of})
		}
		s := &steps[len(steps)-1]
		ids[a] = fmt.Sprintf("%s.%d", of, len(s.Actions)+1)
		s.Actions = append(s.Actions, action{ids[a], kind, map[string]string{"phase": phase}})
	}
	l.say(map[string]any{"type": "plan", "time": at(-5), "node": node, "plan": map[string]any{"steps": steps}})
	return ids
}

// restored is a restore of one node, whose API is down from 0 to 4 s.
func restored(t *testing.T) *told {
	t.Helper()
	var l lines
	done := []struct {
		action string
		at     float64
	}{
		{"stop-kube-apiserver/take-out", -0.1},
		{"stop-kube-apiserver/wait-stopping", 0.02},
		{"stop-kube-apiserver/end-pods", 0.17},
		{"stop-kube-apiserver/wait-gone", 0.2},
		{"stop-etcd/take-out", 0.21},
		{"stop-etcd/wait-forgotten", 0.6},
		{"start-etcd/rename", 0.61},
		{"start-etcd/put-in", 0.62},
		{"start-etcd/wait-started", 1.15},
		{"start-etcd/wait-data", 1.19},
		{"start-kube-apiserver/put-in", 1.2},
		{"start-kube-apiserver/wait-started", 1.7},
		{"start-kube-apiserver/wait-api", 4.01},
	}
	var names []string
	for _, d := range done {
		names = append(names, d.action)
	}
	ids := l.plan("", names...)
	step := ""
	for _, d := range done {
		of, _, _ := strings.Cut(d.action, "/")
		if of != step {
			if step != "" {
				l.say(map[string]any{"type": "step", "time": at(d.at), "step": step, "state": "done", "message": step})
			}
			l.say(map[string]any{"type": "step", "time": at(d.at), "step": of, "state": "started", "message": of})
			step = of
		}
		l.say(map[string]any{"type": "action", "time": at(d.at), "step": of, "action": ids[d.action], "state": "done", "message": d.action})
	}
	l.say(map[string]any{"type": "result", "time": at(4.1), "ok": true, "outage_seconds": 3.98})
	told, err := readTold(strings.NewReader(l.String()))
	if err != nil {
		t.Fatal(err)
	}
	return told
}

var oneNode = moments{etcdStarted: at(1.12), etcdOpen: at(1.16), apiStarted: at(1.68), apiServes: at(2.8)}

func byOwner(parts []part) map[string]float64 {
	sums := map[string]float64{}
	for _, p := range parts {
		sums[p.who] = milli(sums[p.who] + p.took.Seconds())
	}
	return sums
}

func is(t *testing.T, what string, got, want map[string]float64) {
	t.Helper()
	for _, who := range owning {
		if got[who] != want[who] {
			t.Errorf("%s: %s has %.3f s, want %.3f s", what, who, got[who], want[who])
		}
	}
}

func TestTheOutageOfOneNodeIsSharedOutWhole(t *testing.T) {
	told := restored(t)
	if told.claimed != 3980*time.Millisecond {
		t.Errorf("it claims %s", told.claimed)
	}
	if p := told.phases(); len(p) != 4 || p[1].title != "stop-etcd" || p[1].took != 400*time.Millisecond {
		t.Errorf("its steps are %v", p)
	}
	n := told.nodes[""]
	parts, err := cut(outage{at(0), at(4)}, restoreMarks(n, oneNode, at(4)))
	if err != nil {
		t.Fatal(err)
	}
	is(t, "a restore", byOwner(parts), map[string]float64{kubelet: 0.2 + 0.39 + 0.5 + 0.48, etcd: 0.04, apiServer: 1.12 + 1.2, ourselves: 0.01 + 0.02 + 0.04})

	// From the first command, where it was dead.
	told.begun = at(-2)
	parts, err = cut(outage{at(-3), at(4)}, deadMarks(told, n, oneNode, at(4)))
	if err != nil {
		t.Fatal(err)
	}
	if parts[0].took != time.Second || parts[1].took != 1900*time.Millisecond {
		t.Errorf("a dead one is read in %s and staged in %s", parts[0].took, parts[1].took)
	}

	delete(n.done, "stop-etcd/wait-forgotten")
	if _, err := cut(outage{at(0), at(4)}, restoreMarks(n, oneNode, at(4))); err == nil || !strings.Contains(err.Error(), "finished with its pod") {
		t.Errorf("a part that nothing shows: %v", err)
	}
}

// recorded are lines that a restore and its undo printed on a practice node, without
// what is not read.
func recorded(t *testing.T, name string) *told {
	t.Helper()
	f, err := os.Open("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	told, err := readTold(f)
	if err != nil {
		t.Fatal(err)
	}
	return told
}

func TestARestoreAndItsUndoSayAllThatIsNeeded(t *testing.T) {
	told := recorded(t, "restore.jsonl")
	n := told.nodes[""]
	if p := told.phases(); len(p) != 9 || p[2].title != "Stop kube-apiserver" || p[2].took <= 0 {
		t.Errorf("the steps of the restore are %v", p)
	}
	from := n.at("stop-kube-apiserver/take-out")
	o := outage{from, n.at("start-kube-apiserver/wait-api")}
	// As the runtime and the logs could have it.
	open := n.at("start-etcd/wait-data").Add(-10 * time.Millisecond)
	in := n.at("start-kube-apiserver/put-in")
	m := moments{n.at("start-etcd/put-in").Add(10 * time.Millisecond), open, in.Add(10 * time.Millisecond), in.Add(300 * time.Millisecond)}
	parts, err := cut(o, restoreMarks(n, m, o.to))
	if err != nil {
		t.Fatal(err)
	}
	if sums := byOwner(parts); sums[kubelet] < 1.4 || sums[ourselves] > 0.1 {
		t.Errorf("of the restore they have %v", sums)
	}

	told = recorded(t, "undo.jsonl")
	n = told.nodes[""]
	o = outage{n.at("undo-start-kube-apiserver/take-out"), n.at("undo-stop-kube-apiserver/wait-etcd")}
	open = n.at("undo-stop-etcd/wait-data").Add(-10 * time.Millisecond)
	in = n.at("undo-stop-kube-apiserver/put-in")
	m = moments{n.at("undo-stop-etcd/put-in").Add(10 * time.Millisecond), open, in.Add(10 * time.Millisecond), in.Add(300 * time.Millisecond)}
	if parts, err = cut(o, undoMarks(n, m, o.to)); err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(parts, func(p part) bool { return p.what == "is finished with kube-apiserver's old pod" })
	if i < 0 || parts[i].took < 500*time.Millisecond || byOwner(parts)[ourselves] > 0.1 {
		t.Errorf("in the undo kubelet took half a second to be finished with the API server's pod: %v", parts)
	}
}

func TestALineThatNobodyPlannedIsAnError(t *testing.T) {
	for _, text := range []string{
		`{"type":"action","action":"stop-etcd.1","state":"done"}`,
		`{"type":"step","step":"stop-etcd","state":"started"}`, // and no result
		`not JSON`,
	} {
		if _, err := readTold(strings.NewReader(text)); err == nil {
			t.Errorf("%s: no error", text)
		}
	}
}

// three is a restore of three nodes: cp1 leads, so its etcd stops last, and they start one
// after the other. The outage is from 0 to 12 s.
func three(t *testing.T) (*told, []moments, []outage) {
	t.Helper()
	var l lines
	actions := []string{
		"stop-kube-apiserver/wait-stopping", "stop-kube-apiserver/wait-gone", "stop-kube-apiserver/meet:api-gone",
		"stop-etcd/take-out", "stop-etcd/wait-forgotten", "stop-etcd/meet:etcd-out",
		"start-etcd/rename", "start-etcd/meet:placed", "start-etcd/put-in", "start-etcd/wait-etcd", "start-etcd/meet:etcd-ready",
		"start-kube-apiserver/wait-forgotten", "start-kube-apiserver/put-in", "start-kube-apiserver/meet:api-ready",
	}
	phases := map[string]float64{"staged": -1, "api-gone": 0.5, "etcd-out": 2.4, "placed": 2.5, "etcd-ready": 6.2, "api-ready": 12.1}
	l.say(map[string]any{"type": "phase", "time": at(phases["staged"]), "phase": "staged"})
	for node, times := range map[string][]float64{
		// Its API server is the last to be gone, and it waits for both others to stop.
		"cp1": {0.1, 0.48, 1.5, 1.5, 2.39, 2.4, 2.45, 2.5, 2.5, 6.1, 6.2, 6.2, 6.3, 12.1},
		"cp2": {0.1, 0.4, 0.5, 0.5, 1.5, 2.4, 2.45, 3.3, 3.3, 6.1, 6.2, 6.2, 6.3, 12.1},
		"cp3": {0.1, 0.4, 0.5, 0.5, 1.4, 2.4, 2.45, 4.3, 4.3, 6.18, 6.2, 6.2, 6.3, 12.1},
	} {
		ids := l.plan(node, actions...)
		for i, a := range actions {
			l.say(map[string]any{"type": "action", "time": at(times[i]), "node": node, "action": ids[a], "state": "done"})
		}
		l.say(map[string]any{"type": "result", "time": at(12.2), "node": node, "ok": true, "outage_seconds": 1})
	}
	for _, p := range []string{"api-gone", "etcd-out", "placed", "etcd-ready", "api-ready"} {
		l.say(map[string]any{"type": "phase", "time": at(phases[p]), "phase": p})
	}
	l.say(map[string]any{"type": "result", "time": at(12.3), "ok": true, "outage_seconds": 11.9})
	told, err := readTold(strings.NewReader(l.String()))
	if err != nil {
		t.Fatal(err)
	}
	told.begun = at(-4)
	return told, []moments{
		{at(3.1), at(3.25), at(6.9), at(9)},
		{at(4.0), at(4.25), at(6.9), at(9)},
		{at(5.0), at(5.7), at(7.1), at(10)},
	}, []outage{{at(0), at(11)}, {at(0.05), at(11.2)}, {at(0.1), at(12)}}
}

func TestWhatThreeNodesWaitForIsSomebodys(t *testing.T) {
	told, moments, seen := three(t)
	if told.claimed != 11900*time.Millisecond {
		t.Errorf("all claim %s", told.claimed)
	}
	if p := told.phases(); len(p) != 6 || p[0] != (phase{"until staged", 3 * time.Second}) || p[2] != (phase{"until etcd down", 1900 * time.Millisecond}) {
		t.Errorf("the phases are %v", p)
	}
	if o := whole(seen); o.length() != 12*time.Second || none(seen) != 10900*time.Millisecond {
		t.Errorf("the outage is %s, none was seen for %s", o.length(), none(seen))
	}
	each, together, err := fleetParts(told, []string{"cp1", "cp2", "cp3"}, moments, seen)
	if err != nil {
		t.Fatal(err)
	}
	is(t, "cp1", byOwner(each[0]), map[string]float64{
		kubelet: 0.48 + 0.89 + 0.6 + 0.6, etcd: 0.15 + 1.85, apiServer: 2.1 + 2, ourselves: 0.05 + 0.1, others: 0.02 + 0.01 + 0.05 + 1 + 0.1 + 1, turn: 1,
	})
	is(t, "cp3", byOwner(each[2]), map[string]float64{
		kubelet: 0.4 + 0.9 + 0.7 + 0.8, etcd: 0.7 + 0.48, apiServer: 2.9 + 2, ourselves: 0.05 + 0.1, others: 0.1 + 1 + 0.05 + 0.02, turn: 1.8,
	})
	for i, parts := range append(each, together) {
		var sum time.Duration
		for _, p := range parts {
			sum += p.took
		}
		if sum != 12*time.Second {
			t.Errorf("the parts of %d are %s of 12 s", i, sum)
		}
	}

	// In all: cp1's API server, then the others' etcds stop, then cp1's; the etcds start
	// one after the other; then cp3, whose API server is the last.
	is(t, "together", byOwner(together), map[string]float64{
		kubelet:   0.48 + 1 + 0.89 + 0.6 + 0.7 + 0.7 + 0.8,
		etcd:      0.15 + 0.25 + 0.7 + 0.48,
		apiServer: 2.9 + 2,
		ourselves: 0.05 + 0.1 + 0.02 + 0.01 + 0.05 + 0.05 + 0.05 + 0.02,
	})
	if slices.ContainsFunc(together, func(p part) bool { return (p.who == others || p.who == turn) && p.took != 0 }) {
		t.Errorf("all together wait for nobody: %v", together)
	}
}

func TestARecordSaysTheRatioFirstAndWhoHasWhatIsNotMet(t *testing.T) {
	n := restored(t).nodes[""]
	parts, err := cut(outage{at(0), at(4)}, restoreMarks(n, oneNode, at(4)))
	if err != nil {
		t.Fatal(err)
	}
	entry, err := matrix.One("systemd-1.37")
	if err != nil {
		t.Fatal(err)
	}
	all := []result{
		{way: handName, size: small, outage: 20 * time.Second},
		{way: rewind.name, size: small, outage: 4 * time.Second, claimed: 3980 * time.Millisecond, parts: parts},
	}
	r := newRecord(asked{on: entry, nodes: 1}, all, noon)
	text := r.text()
	for _, want := range []string{
		"| by hand | small | 1 | 1.00 | 1.00 | 20.0 s |",
		"| etcd-rewind | small | 1 | 0.20 | 0.20 | 4.0 s | 4.0 s | 0.02 s |",
		"median, × by hand: 0.200, limit 0.10: **exceeded**. Who has it: kubelet and runtime 1.6 s, kube-apiserver 2.3 s, etcd-rewind 0.1 s; the longest: kube-apiserver runs its hooks until it is ready, 1.2 s",
		"|  | who | small |\n",
		"| together | kubelet and runtime | 1.57 s |\n",
		"not tuned",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the record doesn't say %q:\n%s", want, text)
		}
	}
	if v := r.versions(); !strings.HasPrefix(v, "kubeadm 1.37.2, containerd 2.4.2, etcd 3.6.10; kubelet and containerd as systemd units") {
		t.Errorf("its versions are %q", v)
	}

	recovery := newRecord(asked{on: entry, nodes: 1, recovery: true, tuned: "all of it"}, []result{
		{way: handName, size: large, outage: 100 * time.Second, dead: true},
		{way: rewind.name, size: large, outage: 30 * time.Second, dead: true, parts: parts},
		{way: rewind.name, size: large, outage: 4 * time.Second, parts: parts},
		{way: undone, size: large, outage: 8 * time.Second, parts: parts},
	}, noon)
	text = recovery.text()
	for _, want := range []string{"2 GB database, × by hand: 0.300, limit 0.35: holds", "× etcd-rewind: 2.000, limit 1.50: **exceeded**. Who has it: kubelet", "tuned by hand: all of it", "Who has it, undo, means"} {
		if !strings.Contains(text, want) {
			t.Errorf("the recoveries don't say %q:\n%s", want, text)
		}
	}
}
