package fleet

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"etcd-rewind/manifest"
	"etcd-rewind/restore"
	"etcd-rewind/steps"
)

// relay stands between the conductor and an agent. ask sees each request and
// says whether it is passed on; answer returns what is passed on of each line
// that the agent says.
func relay(in io.Reader, out io.Writer, agent func(io.Reader, io.Writer), ask func(request) bool, answer func(line []byte) []byte) {
	toAgent, agentIn := io.Pipe()
	agentOut, fromAgent := io.Pipe()
	ended, passed := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		agent(toAgent, fromAgent)
		_ = fromAgent.Close()
	}()
	go func() {
		defer close(passed)
		lines := bufio.NewReader(agentOut)
		for {
			line, err := lines.ReadBytes('\n')
			if line = answer(line); len(line) > 0 {
				_, _ = out.Write(line)
			}
			if err != nil {
				return
			}
		}
	}()
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			break
		}
		var r request
		_ = json.Unmarshal(line, &r)
		to := io.Discard
		if ask(r) {
			to = agentIn
		}
		_, _ = to.Write(line)
		if r.Do == doPiece {
			_, _ = io.CopyN(to, lines, int64(r.Bytes))
		}
	}
	_ = agentIn.Close()
	<-ended
	<-passed
}

// liar changes an agent's answers to one request; all else passes.
type liar struct {
	to  string
	lie func(with map[string]any, id int64) []string // lines instead of the answer
}

func (l *liar) stand(in io.Reader, out io.Writer, agent func(io.Reader, io.Writer)) {
	asked := make(chan int64, 100)
	var id int64
	relay(in, out, agent, func(r request) bool {
		if r.Do == l.to {
			asked <- r.ID
		}
		return true
	}, func(line []byte) []byte {
		var m struct {
			ID   int64          `json:"id"`
			With map[string]any `json:"with"`
		}
		_ = json.Unmarshal(line, &m)
		select {
		case id = <-asked:
		default:
		}
		if id != 0 && m.ID == id {
			return []byte(strings.Join(l.lie(m.With, id), "\n") + "\n")
		}
		return line
	})
}

func answerOf(id int64, with any) string {
	data, _ := json.Marshal(map[string]any{"id": id, "with": with})
	return string(data)
}

// but is the true answer with some fields changed.
func but(change func(with map[string]any)) func(map[string]any, int64) []string {
	return func(with map[string]any, id int64) []string {
		change(with)
		return []string{answerOf(id, with)}
	}
}

func instead(with any) func(map[string]any, int64) []string {
	return func(_ map[string]any, id int64) []string { return []string{answerOf(id, with)} }
}

func membersAt(n int, url string) []map[string]any {
	var all []map[string]any
	for i := range n {
		all = append(all, map[string]any{"Name": fmt.Sprintf("evil%d", i), "PeerURLs": []string{url}})
	}
	return all
}

// Whatever one node's agent answers, and to what: nothing is dialled but the
// members, no node is touched, the look ends in minutes, and the error names
// the node.
func TestALookAtNodesBelievesNoLie(t *testing.T) {
	pong := strings.Repeat("x", 8<<20)
	for _, tt := range []struct {
		story, to string
		lie       func(with map[string]any, id int64) []string
		says      string
	}{
		{"is another member", doFacts, but(func(w map[string]any) { w["member"] = "cp1" }), "the host cp2 is the member cp1"},
		{"is a member that nobody knows", doFacts, but(func(w map[string]any) { w["member"] = "cp9" }), "the host cp2 is the member cp9, not cp2"},
		{"has a name that leads out of a directory", doFacts, but(func(w map[string]any) { w["member"] = "../../etc" }), "cp2"},
		{"has an option for a name", doFacts, but(func(w map[string]any) { w["node"] = "-oProxyCommand=id" }), "cp2"},
		{"names a member with an option for a host", doFacts, but(func(w map[string]any) { w["initial_cluster"] = membersAt(1, "https://-oProxyCommand=id:2380") }), "cp2"},
		{"names a member with a user in its URL", doFacts, but(func(w map[string]any) { w["initial_cluster"] = membersAt(1, "https://root@10.66.6.6:2380") }), "cp2"},
		{"names a file for a member", doFacts, but(func(w map[string]any) { w["initial_cluster"] = membersAt(1, "file:///etc/shadow") }), "cp2"},
		{"says its API server is a file", doFacts, but(func(w map[string]any) { w["ready_url"] = "file:///etc/shadow" }), "cp2"},
		{"names more members than there can be", doFacts, but(func(w map[string]any) { w["initial_cluster"] = membersAt(65, "https://10.66.6.6:2380") }), "65 members"},
		{"names a member at too many addresses", doFacts, but(func(w map[string]any) {
			w["peer_urls"] = strings.Split(strings.Repeat("https://10.66.6.6:2380 ", 17)+"https://10.66.6.6:2380", " ")
		}), "18 URLs"},
		{"has its files nowhere", doFacts, but(func(w map[string]any) { w["state_dir"] = "../x" }), "cp2"},
		{"has its data nowhere", doFacts, but(func(w map[string]any) { w["kubeadm_data_dir"] = "/var/../etc" }), "cp2"},
		{"answers with a list", doFacts, instead([]int{1}), "cp2"},
		{"answers another request", doFacts, func(w map[string]any, id int64) []string { return []string{answerOf(id+1, w), answerOf(id+7, w)} }, "no answer to \"facts\""},
		{"answers half", doFacts, func(w map[string]any, id int64) []string { return []string{answerOf(id, w)[:40]} }, "not an agent's message"},
		{"answers with too much at once", doFacts, func(map[string]any, int64) []string {
			return slices.Repeat([]string{`{"pong":true,"x":"` + pong + `"}`}, 20)
		}, "5000 messages or 64 MB within a second"},
		{"asks for the snapshot again and again", doPut, func(map[string]any, int64) []string {
			return slices.Repeat([]string{`{"put":-1}`}, 200)
		}, "no answer to \"put\""},
		{"has put the snapshot nowhere", doPut, instead(map[string]any{"path": "../../x"}), "cp2"},
		{"has more verdicts than there are checks", doCheck, func(_ map[string]any, id int64) []string {
			return []string{answerOf(id, slices.Repeat([]map[string]any{{"check": "x", "level": "ok"}}, 2000))}
		}, "2000 verdicts"},
		{"has a verdict that is none", doCheck, instead([]map[string]any{{"check": "x", "level": "fine"}}), "cp2"},
		{"plans another run", doPlan, but(func(w map[string]any) { w["run"] = "20200101-000000" }), "cp2: its plan is of cp2 and run 20200101-000000"},
		{"plans for another node", doPlan, but(func(w map[string]any) { w["node"] = "cp1" }), "cp2: its plan is of cp1"},
		{"plans an undo", doPlan, but(func(w map[string]any) { w["kind"] = "undo" }), "cp2"},
		{"plans another snapshot", doPlan, but(func(w map[string]any) {
			w["restore"].(map[string]any)["snapshot_sha256"] = strings.Repeat("ab", 32)
		}), "cp2: its plan isn't of this run and this snapshot"},
	} {
		t.Run(tt.story, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newFakeWorld(t, "cp1", "cp2", "cp3")
				d := w.pipes(t, "cp1")
				d.between["cp2"] = (&liar{tt.to, tt.lie}).stand
				c := conductor(t, d)
				c.Pace = RealPace
				begun := time.Now()
				err := lookAndPlan(t, c)
				if err == nil || !strings.Contains(err.Error(), tt.says) || !strings.Contains(err.Error(), "cp2") {
					t.Errorf("%v, want %q", err, tt.says)
				}
				if took := time.Since(begun); took > 5*time.Minute {
					t.Errorf("it took %s", took)
				}
				for host := range d.dials {
					if w.node(host) == nil && host != "10.0.0.2" {
						t.Errorf("%s was dialled", host)
					}
				}
				same(t, "nodes", w.all(), asBefore)
			})
		})
	}
}

// lookAndPlan goes as far as the plans; what blocks is an error.
func lookAndPlan(t *testing.T, c *Conductor) error {
	_, verdicts, err := c.Discover(t.Context(), restore.Want{Info: theSnapshot(t)})
	if err != nil {
		return err
	}
	if b := steps.Blocking(verdicts); len(b) > 0 {
		return fmt.Errorf("%s", b[0].Cause)
	}
	if err := c.Send(t.Context(), nil); err != nil {
		return err
	}
	if _, err := c.Check(t.Context(), steps.Choices{}); err != nil {
		return err
	}
	_, err = c.Plan(t.Context(), steps.Choices{})
	return err
}

// endless has an agent on every host, and each of them names the next.
type endless struct{ *pipes }

func (e *endless) Dial(ctx context.Context, host string) (*Conn, error) {
	e.mu.Lock()
	if e.w.node(host) == nil {
		e.w.nodes = append(e.w.nodes, &fakeNode{w: e.w, name: host, api: "old", etcd: "old"})
	}
	e.mu.Unlock()
	return e.pipes.Dial(ctx, host)
}

// Each node that is reached may name more members: not for ever.
func TestMembersThatNameEverMoreMembersEnd(t *testing.T) {
	w := newFakeWorld(t, "cp1")
	d := &endless{w.pipes(t, "cp1")}
	c := conductor(t, d)
	w.next = func(f *restore.NodeFacts) {
		f.Live = nil
		f.InitialCluster = append(f.InitialCluster, manifest.Member{Name: fmt.Sprintf("cp1%d", len(d.dials))})
	}
	_, _, err := c.Discover(t.Context(), restore.Want{})
	if err == nil || !strings.Contains(err.Error(), "more than 64 members") {
		t.Error(err)
	}
	if len(d.dials) > mostMembers+1 {
		t.Errorf("%d hosts were dialled", len(d.dials))
	}
}
