package fleet

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"etcd-rewind/restore"
	"etcd-rewind/steps"
)

// turncoat lets everything pass until it turns: then the conductor meets
// something else.
type turncoat struct {
	until  string // this request, or a phase of the node when it is ""
	turned atomic.Bool
	// then is what the conductor meets; ping is sent each time it asks whether
	// the agent lives.
	then func(ask request, in io.Reader, out io.Writer, ping <-chan struct{})
}

func (tc *turncoat) stand(in io.Reader, out io.Writer, agent func(io.Reader, io.Writer)) {
	ping := make(chan struct{}, 1000)
	var then sync.WaitGroup
	met := false
	relay(in, out, agent, func(r request) bool {
		if (tc.until == "" || r.Do != tc.until) && !tc.turned.Load() {
			return true
		}
		tc.turned.Store(true)
		if !met {
			met = true
			then.Go(func() { tc.then(r, in, out, ping) })
		}
		if r.Do == doPing {
			select {
			case ping <- struct{}{}:
			default:
			}
		}
		return false
	}, func(line []byte) []byte {
		if tc.turned.Load() {
			return nil
		}
		return line
	})
	close(ping)
	then.Wait()
}

// What an agent can become.
var agentsGoneBad = map[string]func(ask request, in io.Reader, out io.Writer, ping <-chan struct{}){
	"answers pings and nothing else": func(_ request, _ io.Reader, out io.Writer, ping <-chan struct{}) {
		for range ping {
			_, _ = io.WriteString(out, `{"pong":true}`+"\n")
		}
	},
	"says nothing at all": func(_ request, _ io.Reader, _ io.Writer, ping <-chan struct{}) {
		for range ping {
			continue
		}
	},
	"answers byte by byte": func(ask request, _ io.Reader, out io.Writer, ping <-chan struct{}) {
		for range ping {
			if _, err := io.WriteString(out, "{"); err != nil {
				return
			}
		}
	},
	"floods": func(_ request, _ io.Reader, out io.Writer, _ <-chan struct{}) {
		for {
			if _, err := io.WriteString(out, `{"event":{"type":"action","state":"waiting","message":"x"}}`+"\n"); err != nil {
				return
			}
		}
	},
	"sends a line without an end": func(_ request, _ io.Reader, out io.Writer, _ <-chan struct{}) {
		for {
			if _, err := io.WriteString(out, strings.Repeat("x", 1<<20)); err != nil {
				return
			}
		}
	},
	"closes its input": func(_ request, in io.Reader, _ io.Writer, _ <-chan struct{}) {
		_ = in.(io.Closer).Close()
	},
	"says null": func(ask request, _ io.Reader, out io.Writer, ping <-chan struct{}) {
		_ = json.NewEncoder(out).Encode(map[string]any{"id": ask.ID, "with": nil})
		for range ping {
			_, _ = io.WriteString(out, `{"event":null,"ask":null,"barrier":null}`+"\n"+`{"event":{"type":"plan","plan":null}}`+"\n")
		}
	},
	"sends a plan with nothing in it": func(ask request, _ io.Reader, out io.Writer, ping <-chan struct{}) {
		for range ping {
			_, _ = io.WriteString(out, `{"event":{"type":"plan","plan":{"run":"20261121-030000","kind":"restore","node":"cp2","steps":[{"actions":[null]}]}}}`+"\n")
		}
	},
}

// Whatever one agent becomes, and whatever it was asked for at that moment: the
// look at the nodes ends, and says whose fault it was.
func TestALookAtNodesEndsWhateverAnAgentDoes(t *testing.T) {
	for _, until := range []string{doUse, doFacts, doPut, doCheck, doPlan} {
		for story, then := range agentsGoneBad {
			t.Run(until+": "+story, func(t *testing.T) {
				if story == "sends a plan with nothing in it" && until != doPlan {
					return // nothing but noise there
				}
				synctest.Test(t, func(t *testing.T) {
					w := newFakeWorld(t, "cp1", "cp2", "cp3")
					d := w.pipes(t, "cp1")
					d.between["cp2"] = (&turncoat{until: until, then: then}).stand
					c := conductor(t, d)
					c.Pace = RealPace
					begun := time.Now()
					err := lookAndPlan(t, c)
					if until == doUse && story == "says null" {
						return // use has no answer
					}
					if until == doCheck && story == "says null" {
						return // no verdicts are none
					}
					if err == nil || !strings.Contains(err.Error(), "cp2") {
						t.Errorf("%v", err)
					}
					if took := time.Since(begun); took > 5*time.Minute {
						t.Errorf("it took %s", took)
					}
					same(t, "nodes", w.all(), asBefore)
				})
			})
		}
	}
}

// In the middle of a restore an agent that is wedged counts as down: it is tried
// again for a minute, and then somebody is asked. The others don't wait in the
// outage for ever.
func TestANodeWhoseAgentIsWedgedInTheMiddleIsAskedAbout(t *testing.T) {
	for _, phase := range []steps.Phase{steps.PhaseStaged, steps.PhaseAPIGone, steps.PhaseEtcdReady} {
		for story, then := range agentsGoneBad {
			t.Run(string(phase)+": "+story, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newFakeWorld(t, "cp1", "cp2", "cp3")
					d := w.pipes(t, "cp1")
					tc := &turncoat{then: then}
					d.between["cp2"] = tc.stand
					w.node("cp2").hook = func(p steps.Phase) {
						if p == phase {
							tc.turned.Store(true)
						}
					}
					c := conductor(t, d)
					c.Pace = RealPace
					prepare(t, c, restore.Want{Info: theSnapshot(t)})
					begun := time.Now()
					asked := 0
					res, err := c.Run(t.Context(), func(restore.NodeEvent) {}, func(tr restore.Trouble) steps.Choice {
						asked++
						if tr.Node != "cp2" || !tr.Away {
							t.Errorf("asked about %+v", tr)
						}
						return restore.Unattended(tr)
					})
					if err != nil || res.OK {
						t.Fatalf("%+v %v", res, err)
					}
					if took := time.Since(begun); took > 10*time.Minute || phase != steps.PhaseStaged && took > 4*time.Minute {
						t.Errorf("it took %s", took)
					}
					if phase != steps.PhaseStaged && asked != 1 {
						t.Errorf("asked %d times", asked)
					}
					w.check(t)
					n := res.Nodes[1]
					if phase != steps.PhaseStaged && (n.State != restore.Unreachable || len(n.Do) == 0 || n.Cause == "") {
						t.Errorf("%+v", n)
					}
				})
			})
		}
	}
}

// Ctrl-C gives a silent node up after seconds, and says where it was last seen
// and what is to be done there. A second one waits for nobody.
func TestStoppingGivesUpASilentNode(t *testing.T) {
	for _, twice := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := newFakeWorld(t, "cp1", "cp2", "cp3")
			d := w.pipes(t, "cp1")
			tc := &turncoat{then: agentsGoneBad["answers pings and nothing else"]}
			d.between["cp2"] = tc.stand
			c := conductor(t, d)
			c.Pace = RealPace
			ctx, cancel := context.WithCancel(t.Context())
			var at time.Time
			w.node("cp2").hook = func(p steps.Phase) {
				if p == steps.PhaseEtcdOut {
					tc.turned.Store(true)
					at = time.Now()
					cancel()
					if twice {
						c.Leave()
					}
				}
			}
			prepare(t, c, restore.Want{Info: theSnapshot(t)})
			res, err := c.Run(ctx, func(restore.NodeEvent) {}, restore.Unattended)
			if err != nil || res.ExitCode() != 3 {
				t.Fatalf("%+v %v", res, err)
			}
			if took := time.Since(at); took > 15*time.Second || twice && took > time.Second {
				t.Errorf("it took %s", took)
			}
			n := res.Nodes[1]
			if n.State != restore.Unreachable || !strings.Contains(n.Cause, "last seen past the phase API down") || len(n.Do) != 2 || !strings.HasPrefix(n.Do[0], "etcd-rewind resume --fleet ") {
				t.Errorf("%+v", n)
			}
		})
	}
}

// An undo, and a look at an earlier run, end as well.
func TestUndoAndResumeEndWhateverAnAgentDoes(t *testing.T) {
	for _, until := range []string{doRuns, doPlanAgain + doUndo, doUndo, doResume} {
		for story, then := range agentsGoneBad {
			t.Run(until+": "+story, func(t *testing.T) {
				if story == "sends a plan with nothing in it" {
					return
				}
				synctest.Test(t, func(t *testing.T) {
					w := newFakeWorld(t, "cp1", "cp2", "cp3")
					d := w.pipes(t, "cp1")
					first := conductor(t, d)
					w.node("cp3").fails[steps.PhaseEtcdReady] = 1
					prepare(t, first, restore.Want{Info: theSnapshot(t)})
					if res, err := first.Run(t.Context(), func(restore.NodeEvent) {}, func(restore.Trouble) steps.Choice { return steps.Leave }); err != nil || res.OK {
						t.Fatalf("%+v %v", res, err)
					}
					rec, err := ReadRecord(w.node("cp1").dir + "/" + theRun)
					if err != nil {
						t.Fatal(err)
					}
					d.between["cp2"] = (&turncoat{until: until, then: then}).stand
					c := conductor(t, d)
					c.Pace = RealPace
					begun := time.Now()
					_, err = c.Open(t.Context(), *rec)
					if until == doResume && err == nil {
						if _, err := c.PlanAgain(t.Context(), restore.Resume); err == nil {
							if res, err := c.Run(t.Context(), func(restore.NodeEvent) {}, restore.Unattended); err == nil && res.OK {
								t.Errorf("%+v %v", res, err)
							}
						}
					} else if err == nil {
						_, perr := c.PlanAgain(t.Context(), restore.Undo)
						if until == doPlanAgain+doUndo && perr == nil && story != "says null" {
							t.Error("it was planned")
						}
						if perr == nil {
							res, err := c.Run(t.Context(), func(restore.NodeEvent) {}, restore.Unattended)
							if err != nil {
								t.Fatal(err)
							}
							if until == doUndo && (res.OK || res.Nodes[1].State == restore.Reverted) {
								t.Errorf("%+v", res)
							}
						}
					}
					if took := time.Since(begun); took > 10*time.Minute {
						t.Errorf("it took %s", took)
					}
					w.check(t)
				})
			})
		}
	}
}

// What the conductor sends is looked at as closely: a line that is none, or a
// request for something that isn't there, ends the agent or is refused, and
// never more.
func TestAnAgentTakesNoNonsense(t *testing.T) {
	for _, line := range []string{
		`null`, `[]`, `{"do":null}`, `{"id":1,"do":"plan","with":null}`, `{"id":1,"do":"plan","with":{"choices":{"fleet":null}}}`,
		`{"id":1,"do":"run","with":null}`, `{"id":1,"do":"undo","with":{"run":"../../etc"}}`, `{"id":1,"do":"put","with":{"size":-1}}`,
		`{"id":1,"do":"check","with":{"snapshot":"../x","choices":{"fleet":{"run":"20261121-030000","token":"t","members":[{"Name":"cp1"}]}}}}`,
		`{"do":"piece","bytes":-1}`, `{"do":"go","phase":"never"}`, `{"do":"answer","choice":"whatever"}`, strings.Repeat("[", 100), strings.Repeat(`{"with":`, 100),
	} {
		w := newFakeWorld(t, "cp1")
		d := w.pipes(t, "cp1")
		conn, err := d.Dial(t.Context(), "cp1")
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn.In, line+"\n"+`{"do":"bye"}`+"\n")
		_, _ = io.Copy(io.Discard, conn.Out)
		same(t, line, w.all(), []string{"old/old"})
		if left, err := os.ReadDir(w.nodes[0].dir); err != nil || len(left) > 0 {
			t.Errorf("%s: %v %v", line, left, err)
		}
	}
}
