package fleet

import (
	"time"

	"etcd-rewind/problem"
	"etcd-rewind/restore"
	"etcd-rewind/steps"
)

// end says how it all ended.
func (m *machine) end() {
	res := m.result()
	m.res = res
	state := steps.Done
	if !res.OK {
		state = steps.Failed
	}
	of := &steps.Result{OK: res.OK, OutageSeconds: res.OutageSeconds, Reverted: res.Reverted, Redo: res.Redo, Error: res.Error}
	if !res.Reverted {
		of.Undo = m.command("undo --fleet")
	}
	m.do(tell{restore.NodeEvent{Event: steps.Event{Type: steps.TypeResult, Time: m.now.UTC(), State: state, Result: of}, Nodes: res.Nodes}})
}

// result says where each node is.
func (m *machine) result() *restore.Result {
	res := &restore.Result{OK: true, Reverted: true, Error: m.fail, Left: m.left}
	goal := restore.Restored
	if m.verb == restore.Undo {
		goal = restore.Reverted
	}
	var first, last time.Time
	reverted, again := 0, false // the nodes, and whether one has the restored data
	for _, n := range m.nodes {
		if !n.apiDown.IsZero() {
			back := n.apiBack
			if back.IsZero() {
				back = m.now
			}
			if back.After(last) {
				last = back
			}
			if first.IsZero() || n.apiDown.Before(first) {
				first = n.apiDown
			}
		}
		nr := m.of(n)
		res.OK = res.OK && nr.State == goal
		res.Reverted = res.Reverted && (nr.State == restore.Reverted || nr.State == restore.Untouched)
		nr.Told = n == m.blamed && nr.Cause == m.blamedFor
		res.Nodes = append(res.Nodes, nr)
		if nr.State == restore.Reverted {
			reverted++
			again = again || nr.Result != nil && nr.Result.Redo != ""
		}
	}
	if again && m.verb == restore.Undo && reverted == len(m.nodes) { // a redo needs every node
		res.Redo = m.command("redo --fleet")
	}
	if !first.IsZero() {
		res.OutageSeconds = last.Sub(first).Seconds()
	}
	for _, waited := range []bool{false, true} { // who waited for another isn't to blame
		for i := range res.Nodes {
			nr := &res.Nodes[i]
			cause := nr.Cause
			if r := nr.Result; cause == "" && r != nil && r.Error != nil {
				cause = r.Error.Cause
			}
			if !res.OK && res.Error == nil && cause != "" && (m.nodes[i].why != "") == waited {
				res.Error, nr.Told = &steps.Failure{Title: "Run", Cause: nr.Node + ": " + cause}, true
			}
		}
	}
	// What it ended with is that another run is under way there.
	locked := m.blamed != nil && m.blamed.verb == "" && problem.HasCode(m.blamed.err, codeLocked)
	res.NotBegun = locked && res.Reverted && !m.touched
	m.advise(res.Nodes)
	return res
}

// of is how one node ended.
func (m *machine) of(n *nodeRun) restore.NodeResult {
	nr := restore.NodeResult{Node: n.name, Result: n.res}
	if n.reached > 0 {
		nr.Phase = steps.Phases[n.reached-1]
	}
	untouched := !m.touched && !n.apart() // it can't have gone on without the word
	switch {
	case n.lost != nil:
		nr.State, nr.Cause = restore.Unreachable, n.lost.Error()
		if untouched {
			nr.State = restore.Untouched
		}
	case n.res == nil:
		nr.State = restore.HalfWay
		if n.err != nil {
			nr.Cause = n.err.Error()
		}
		if untouched {
			nr.State = restore.Untouched
		}
	case n.res.OK && n.verb != restore.Undo:
		nr.State = restore.Restored
	case n.res.Reverted && n.apart():
		nr.State = restore.Reverted
	case n.res.Reverted:
		nr.State = restore.Untouched
	default:
		nr.State = restore.HalfWay
		if n.res.Error != nil {
			nr.Cause = n.res.Error.Cause
		}
	}
	if n.why != "" && nr.State == restore.HalfWay {
		nr.Cause = n.why
	}
	return nr
}

// advise says which commands bring each node to where the others are: alone
// when those have ended, with all of them when not.
func (m *machine) advise(all []restore.NodeResult) {
	restored, reverted := 0, 0
	begun := map[restore.Verb]bool{m.verb: true} // on any node
	for i, nr := range all {
		n := m.nodes[i]
		begun[n.verb], begun[n.instead] = true, true
		switch nr.State {
		case restore.Restored:
			restored++
		case restore.Reverted, restore.Untouched:
			reverted++
		}
	}
	for i := range all {
		nr := &all[i]
		there := nr.State == restore.Reverted || nr.State == restore.Untouched
		var verbs []string
		switch {
		case nr.State == restore.Restored || there && restored == 0:
			continue
		case m.nodes[i].why != "":
			verbs = []string{string(m.nodes[i].verb) + " --fleet"}
		case begun[restore.Undo] && reverted > 0 && restored == 0:
			verbs = []string{"undo"}
		case begun[restore.Undo]:
			verbs = []string{"undo --fleet"}
		case begun[restore.Redo] && restored > 0:
			verbs = []string{"redo --fleet"}
		case begun[restore.Redo] && restored == 0:
			verbs = []string{"redo --fleet", "undo --fleet"}
		case restored > 0 && reverted == 0:
			verbs = []string{"resume"}
		case restored == 0 && reverted > 0:
			verbs = []string{"undo"}
		default:
			verbs = []string{"resume --fleet", "undo --fleet"}
		}
		for _, v := range verbs {
			nr.Do = append(nr.Do, m.command(v))
		}
	}
}
