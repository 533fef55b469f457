package fleet

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"etcd-rewind/manifest"
	"etcd-rewind/problem"
	"etcd-rewind/restore"
	"etcd-rewind/settle"
	"etcd-rewind/steps"
	"etcd-rewind/trust"
)

// What passes for a ticket names directories, members and hosts: all of them
// are what they have to be, and it reads the same once it is written again.
func FuzzTicket(f *testing.F) {
	f.Add([]byte(whole(`"bump":1`)))
	f.Add([]byte(whole(`"members":[{"Name":"cp1\n; id","PeerURLs":["https://-o"]}]`)))
	f.Add([]byte(whole(`"nodes":[null]`)))
	f.Add([]byte(`{"v":1,"run":"../../etc"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		ticket, err := parseTicket(data)
		if err != nil {
			return
		}
		for _, m := range ticket.Members {
			if trust.Text(m.Name) != m.Name || strings.ContainsAny(m.Name, " /\\\n'\"") {
				t.Errorf("a member %q", m.Name)
			}
		}
		if !steps.IsRunName(ticket.Run) || strings.ContainsAny(ticket.Run+ticket.Token, "/\n ") {
			t.Errorf("run %q, token %q", ticket.Run, ticket.Token)
		}
		again, err := json.Marshal(ticket)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseTicket(again); err != nil {
			t.Errorf("%s: %v", again, err)
		}
	})
}

// FuzzAgentMessages is all that a conductor decodes of an agent: its line, and
// the answer in it as each of the answers that there are. What passes is shown.
func FuzzAgentMessages(f *testing.F) {
	for _, line := range []string{
		`{"etcd_rewind_agent":{"protocol":4,"version":"v"}}`, `{"etcd_rewind_agent":null}`, `{"pong":true}`, `{"id":1,"with":null}`,
		`{"id":1,"with":{"node":"cp1","member":"cp1","peer_urls":["https://10.0.0.1:2380"],"live":{"members":[{"Name":""}]},"unfinished":{"run":"20261121-030000","state":"failed"}}}`,
		`{"id":1,"with":{"run":"20261121-030000","kind":"restore","node":"cp1","steps":[{"id":"x","actions":[{"id":"x.1","kind":"meet","with":{"phase":"staged","others":[{"name":"a\nb"}]}}]}]}}`,
		`{"id":1,"with":{"run":"20261121-030000","kind":"undo","node":"cp1","steps":[{"actions":[null]}]}}`,
		`{"id":1,"with":[{"check":"x","level":"warning","cause":"c"}]}`, `{"id":1,"with":[{"run":"20261121-030000","state":"restored"}]}`,
		`{"id":1,"no":{"cause":"c","code":"locked"}}`, `{"event":{"type":"action","state":"waiting","seen":[{"what":"a","is":"b"}]}}`,
		`{"event":{"type":"plan","plan":null}}`, `{"event":{"type":"result","ok":true}}`, `{"barrier":"staged"}`, `{"ask":{"cause":"c","choices":["undo"]}}`, `{"put":-1}`,
	} {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		var m message
		if decode(line, &m) != nil || valid(m) != nil {
			return
		}
		if m.No != nil {
			_, _ = problem.Explain(clipped(m.No))
		}
		one := &machine{nodes: []*nodeRun{{name: "cp1", linked: true}}, command: strings.ToUpper, pace: RealPace, opened: map[steps.Phase]time.Time{}}
		one.step(time.Now(), begun{})
		one.step(time.Now(), news{0, 1, m})
		one.step(time.Now(), leaving{})
		if one.res == nil {
			t.Error("it doesn't end")
		}
		if m.Event != nil {
			shown(m.Event.Plan)
		}
		if facts, err := answer[*restore.NodeFacts](m); err == nil {
			c := &Conductor{nodes: []*fleetNode{{name: "cp1", facts: facts, local: true}}}
			for _, one := range c.union() {
				for _, h := range c.hosts(one) {
					if strings.HasPrefix(h, "-") || trust.Text(h) != h {
						t.Errorf("the host %q", h)
					}
				}
			}
			for _, role := range facts.Roles {
				if !slices.Contains(steps.Roles, role) {
					t.Errorf("the role %q", role)
				}
			}
			_ = remote(facts)
			_ = judge([]restore.Member{{Name: facts.Member, Facts: facts}}, nil)
			_ = c.settle(steps.Choices{})
		}
		if p, err := answer[*steps.Plan](m); err == nil {
			shown(p)
		}
		if r, err := answer[planReply](m); err == nil {
			shown(r.Plan)
		}
		if res, err := answer[*steps.Result](m); err == nil {
			_ = res.ExitCode()
		}
		if v, err := answer[[]steps.Verdict](m); err == nil {
			_ = steps.Blocking(v)
		}
		_, _ = answer[[]steps.RunInfo](m)
		_, _ = answer[putReply](m)
		_, _ = answer[*settle.Kubelet](m)
	})
}

func answer[T any](m message) (T, error) {
	var v T
	if len(m.W) > 0 {
		if err := decode(m.W, &v); err != nil {
			return v, err
		}
	}
	return v, valid(v)
}

func shown(p *steps.Plan) {
	if p == nil {
		return
	}
	for _, s := range p.Steps {
		for _, a := range s.Actions {
			_ = a.Title()
			for _, line := range a.Commands() {
				if _, own := a.Action.(*steps.RestartKubelet); !own && trust.Text(line) != line {
					panic("a command that isn't one line: " + line)
				}
			}
		}
	}
	_, _ = json.Marshal(p)
}

// FuzzRequests is all that an agent decodes of its conductor.
func FuzzRequests(f *testing.F) {
	order := `{"choices":{"fleet":{"run":"20261121-030000","token":"t","members":[{"Name":"cp1","PeerURLs":["https://10.0.0.1:2380"]}]}}}`
	for _, lines := range []string{
		`{"id":1,"do":"use","with":{}}` + "\n" + `{"id":2,"do":"facts"}`, `{"id":1,"do":"plan","with":` + order + `}` + "\n" + `{"id":2,"do":"run","with":{"run":"20261121-030000","me":"cp1","nodes":[{"name":"cp1"}]}}`,
		`{"id":1,"do":"put","with":{"size":3,"sha256":"` + strings.Repeat("ab", 32) + `"}}` + "\n" + `{"do":"piece","bytes":3}` + "\nabc",
		`{"do":"go","phase":"staged"}`, `{"do":"seen","seen":[{}]}`, `{"do":"answer","choice":"undo"}`, `{"do":"stop"}`, `{"do":"ping"}`, `{"id":1,"do":"check","with":` + order + `}`,
		`{"id":1,"do":"undo","with":{"run":"../x"}}`, `{"id":1,"do":"plan","with":null}`, `null`, `{"do":"piece","bytes":-1}`, `{"id":1,"do":"resume","with":{"run":"20261121-030000"}}`,
	} {
		f.Add([]byte(lines + "\n"))
	}
	f.Fuzz(func(t *testing.T, lines []byte) {
		err := serve(t.Context(), bytes.NewReader(lines), io.Discard, nobody{}, "test", time.Minute)
		if err != nil && len(err.Error()) > 1<<12 {
			t.Errorf("%d bytes of error", len(err.Error()))
		}
	})
}

// nobody is a node that does nothing.
type nobody struct{}

var errNobody = errors.New("nothing is done here")

func (nobody) Use(restore.Paths) {}
func (nobody) Facts(context.Context) (*restore.NodeFacts, error) {
	return &restore.NodeFacts{Node: "cp1"}, nil
}

func (nobody) Place(sum string) (string, error) {
	if !validSum(sum) {
		panic(sum)
	}
	return "", errNobody
}

func (nobody) Check(_ context.Context, o Order, busy func()) ([]steps.Verdict, error) {
	busy()
	return nil, placed(o)
}

func (nobody) Plan(_ context.Context, o Order) (*steps.Plan, error) {
	return &steps.Plan{Run: o.Choices.Fleet.Run}, placed(o)
}

// placed panics at what the real node would take for a path or a directory.
func placed(o Order) error {
	for _, m := range append([]manifest.Member{{Name: o.Choices.Fleet.Run}}, o.Choices.Fleet.Members...) {
		if m.Name == "" || strings.ContainsAny(m.Name, "/\n") {
			panic(m.Name)
		}
	}
	if strings.Contains(o.Snapshot, "/../") {
		panic(o.Snapshot)
	}
	return nil
}

func (nobody) PlanAgain(_ context.Context, _ restore.Verb, run string) (*steps.Plan, error) {
	if strings.ContainsAny(run, "/\n") {
		panic(run)
	}
	return nil, errNobody
}

func (nobody) Run(context.Context, *steps.Plan, steps.Barrier, func(steps.Event), steps.Asker) (*steps.Result, error) {
	return &steps.Result{}, nil
}

func (nobody) Runs(context.Context) ([]steps.RunInfo, error) {
	return []steps.RunInfo{{Run: theRun, State: steps.RunFailed}}, nil
}
func (nobody) Busy(context.Context) error { return nil }

func (nobody) Kubelet(context.Context) (*settle.Kubelet, error) { return nil, errNobody }
func (nobody) RestartKubelet(context.Context) error             { return errNobody }
