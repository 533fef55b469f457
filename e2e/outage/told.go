//go:build linux

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"etcd-rewind/steps"
)

// told is what a run of etcd-rewind reports, on one node or on several.
type told struct {
	claimed time.Duration // the outage, as it says
	begun   time.Time     // its first step, on any node
	nodes   map[string]*nodeTold
	// Of several nodes: when all had come to a phase, and those in their order.
	reached map[steps.Phase]time.Time
	order   []steps.Phase
}

// nodeTold is a node's part in it. A node that is restored alone has no name.
type nodeTold struct {
	done  map[string]time.Time // when an action was, by "stop-etcd/take-out": step and kind
	steps []phase
}

// at is when an action was done; zero for one that wasn't.
func (n *nodeTold) at(action string) time.Time { return n.done[action] }

// readTold reads the lines of --output json.
func readTold(lines io.Reader) (*told, error) {
	t := &told{nodes: map[string]*nodeTold{}, reached: map[steps.Phase]time.Time{}}
	kinds := map[string]string{} // of actions, by node and ID
	begun := map[string]time.Time{}
	ended := false
	scan := bufio.NewScanner(lines)
	scan.Buffer(nil, 64<<20)
	for scan.Scan() {
		var ev struct {
			Type, Node, Step, Action, State, Message string
			Phase                                    steps.Phase
			Time                                     time.Time
			Outage                                   float64 `json:"outage_seconds"`
			Plan                                     struct {
				Steps []struct {
					ID      string
					Actions []struct {
						ID, Kind string
						With     struct{ Phase string }
					}
				}
			}
		}
		if err := json.Unmarshal(scan.Bytes(), &ev); err != nil {
			return nil, fmt.Errorf("%w: %s", err, scan.Bytes())
		}
		switch {
		case ev.Type == "phase":
			t.reached[ev.Phase] = ev.Time
			t.order = append(t.order, ev.Phase)
		case ev.Type == "result" && ev.Node == "":
			ended = true
			t.claimed = time.Duration(ev.Outage * float64(time.Second))
		}
		if ev.Type != "plan" && ev.Type != "step" && ev.Type != "action" {
			continue
		}
		n := t.nodes[ev.Node]
		if n == nil {
			n = &nodeTold{done: map[string]time.Time{}}
			t.nodes[ev.Node] = n
		}
		switch {
		case ev.Type == "plan":
			first := map[string]bool{}
			for _, s := range ev.Plan.Steps {
				for _, a := range s.Actions {
					kind := s.ID + "/" + a.Kind
					if a.Kind == "meet" { // there are several in a step
						kind += ":" + a.With.Phase
					}
					if first[kind] { // what follows the first of a kind is of other pods
						kind += ":" + a.ID
					}
					first[kind] = true
					kinds[ev.Node+" "+a.ID] = kind
				}
			}
		case ev.Type == "step" && ev.State == "started":
			if t.begun.IsZero() {
				t.begun = ev.Time
			}
			begun[ev.Node] = ev.Time
			n.steps = append(n.steps, phase{title: ev.Message})
		case ev.Type == "step" && ev.State == "done" && len(n.steps) > 0:
			n.steps[len(n.steps)-1].took = ev.Time.Sub(begun[ev.Node])
		case ev.Type == "action" && (ev.State == "done" || ev.State == "already"):
			kind := kinds[ev.Node+" "+ev.Action]
			if kind == "" {
				return nil, fmt.Errorf("the action %s is in no plan", ev.Action)
			}
			n.done[kind] = ev.Time
		}
	}
	if err := scan.Err(); err != nil {
		return nil, err
	}
	if !ended {
		return nil, errors.New("there is no result")
	}
	return t, nil
}

// phases are the steps of a node that was alone, or how long several took from one
// phase to the next.
func (t *told) phases() []phase {
	if len(t.order) == 0 {
		if n := t.nodes[""]; n != nil {
			return n.steps
		}
		return nil
	}
	var all []phase
	last := t.begun
	for _, p := range t.order {
		all = append(all, phase{"until " + p.Name(), t.reached[p].Sub(last)})
		last = t.reached[p]
	}
	return all
}
