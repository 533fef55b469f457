package fleet

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"path/filepath"
	"slices"

	"etcd-rewind/manifest"
	"etcd-rewind/restore"
	"etcd-rewind/settle"
	"etcd-rewind/steps"
	"etcd-rewind/trust"
)

// Bounds of what one end of a connection takes from the other.
const (
	longestLine  = 16 << 20 // bytes; a plan has the manifests and their diffs in it
	deepest      = 32       // objects and lists in one another
	mostValues   = 500_000  // in one message
	mostMembers  = 64
	mostURLs     = 16 // of a member
	mostVerdicts = 1000
	longestPath  = 4096
)

var errNull = errors.New("null where a value is due")

// decode reads what came from the other end of a connection, or in a ticket:
// one JSON value, neither deep nor endless, with no null in a list. An object's
// fields may be missing or null, which is the same; what has to be there is
// the checker's to say (valid).
func decode(data []byte, v any) error {
	if err := bounded(data); err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return err
	}
	return nil
}

func bounded(data []byte) error {
	if len(data) > longestLine {
		return fmt.Errorf("%d bytes", len(data))
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var in []json.Delim
	for n := 0; ; n++ {
		t, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch t := t.(type) {
		case json.Delim:
			if t == '}' || t == ']' {
				in = in[:len(in)-1]
				continue
			}
			in = append(in, t)
		case nil:
			if len(in) > 0 && in[len(in)-1] == '[' {
				return errNull
			}
		}
		if len(in) > deepest || n > mostValues {
			return fmt.Errorf("more than %d values, or more than %d in one another", mostValues, deepest)
		}
	}
}

// valid says what is wrong with a value that was decoded: what has to be there
// and isn't, what isn't among the values that this version knows.
func valid(v any) error {
	switch v := v.(type) {
	case *restore.NodeFacts:
		return validFacts(v)
	case []steps.Verdict:
		if len(v) > mostVerdicts {
			return fmt.Errorf("%d verdicts", len(v))
		}
		for _, x := range v {
			if x.Check == "" || x.Level != steps.Pass && x.Level != steps.Warn && x.Level != steps.Error {
				return fmt.Errorf("a verdict %q of level %q", clip([]byte(x.Check)), clip([]byte(x.Level)))
			}
		}
	case *steps.Plan:
		return validPlan(v)
	case *steps.Result:
		if v == nil {
			return errNull
		}
	case *settle.Kubelet:
		return validKubelet(v)
	case []steps.RunInfo:
		return validRuns(v)
	case planReply:
		if v.Plan != nil {
			return validPlan(v.Plan)
		}
	case putReply:
		return validPath(v.Path)
	case message:
		return validMessage(v)
	case request:
		return validRequest(v)
	case Order:
		if v.Choices.Fleet == nil {
			return errNull
		}
		return errors.Join(validFleet(v.Choices.Fleet), validPathOrNone(v.Snapshot), validSourceName(v.Name), validSumOrNone(v.SHA256))
	case restore.Record:
		return validRecord(v)
	case RunOf:
		return validRun(v.Run)
	case putOrder:
		if v.Size <= 0 || !validSum(v.SHA256) {
			return fmt.Errorf("not a snapshot's sha256 and size: %q, %d", clip([]byte(v.SHA256)), v.Size)
		}
	}
	return nil
}

func validFacts(f *restore.NodeFacts) error {
	if f == nil {
		return errNull
	}
	if err := trust.Name(f.Node); err != nil {
		return err
	}
	if f.Member != "" {
		if err := trust.Name(f.Member); err != nil {
			return err
		}
	}
	for _, role := range f.Roles {
		if !slices.Contains(steps.Roles, role) {
			return fmt.Errorf("a role %q", clip([]byte(role)))
		}
	}
	if f.Member == "" && f.EtcdErr == "" {
		f.EtcdErr = "this node has no etcd"
	}
	if err := validURLs(f.PeerURLs); err != nil {
		return err
	}
	if f.ReadyURL != "" {
		if err := validURL(f.ReadyURL); err != nil {
			return err
		}
	}
	if err := validMembers(f.InitialCluster, false); err != nil {
		return err
	}
	if err := validURLs(f.EtcdServers); err != nil {
		return err
	}
	for _, ips := range [][]string{f.APIServers, f.LastAPIServers} {
		if len(ips) > mostMembers {
			return fmt.Errorf("%d API servers", len(ips))
		}
		for _, ip := range ips {
			if _, err := netip.ParseAddr(ip); err != nil {
				return fmt.Errorf("%q is not an address", clip([]byte(ip)))
			}
		}
	}
	if err := validMembers(f.LastMembers, false); err != nil {
		return err
	}
	if f.AdvertiseAddress != "" {
		if err := trust.Host(f.AdvertiseAddress); err != nil {
			return err
		}
	}
	if f.Live != nil {
		if f.Live.Revision < 0 {
			return fmt.Errorf("revision %d", f.Live.Revision)
		}
		// One that was added and never started has no name.
		if err := validMembers(f.Live.Members, true); err != nil {
			return err
		}
	}
	if f.LatestRun != "" {
		if err := validRun(f.LatestRun); err != nil {
			return err
		}
	}
	if u := f.Unfinished; u != nil {
		if err := validRuns([]steps.RunInfo{*u}); err != nil {
			return err
		}
	}
	return errors.Join(validPathOrNone(f.StateDir), validPathOrNone(f.KubeadmDataDir))
}

func validMembers(all []manifest.Member, nameless bool) error {
	if len(all) > mostMembers {
		return fmt.Errorf("%d members", len(all))
	}
	for _, m := range all {
		if m.Name != "" || !nameless {
			if err := trust.Name(m.Name); err != nil {
				return err
			}
		}
		if err := validURLs(m.PeerURLs); err != nil {
			return err
		}
	}
	return nil
}

func validURLs(urls []string) error {
	if len(urls) > mostURLs {
		return fmt.Errorf("%d URLs of one member", len(urls))
	}
	for _, u := range urls {
		if err := validURL(u); err != nil {
			return err
		}
	}
	return nil
}

func validURL(s string) error {
	_, err := trust.URL(s)
	return err
}

func validPlan(p *steps.Plan) error {
	if p == nil {
		return errNull
	}
	if err := validRun(p.Run); err != nil {
		return err
	}
	if !slices.Contains([]string{steps.KindRestore, steps.KindUndo, steps.KindRedo}, p.Kind) {
		return fmt.Errorf("a plan of kind %q", clip([]byte(p.Kind)))
	}
	if err := trust.Name(p.Node); err != nil {
		return err
	}
	for _, s := range p.Steps {
		for _, a := range s.Actions {
			if a.Action == nil {
				return errNull
			}
		}
	}
	return nil
}

func validRun(run string) error {
	if !steps.IsRunName(run) {
		return fmt.Errorf("%q is not the name of a run", clip([]byte(run)))
	}
	return nil
}

func validRuns(all []steps.RunInfo) error {
	states := []steps.RunState{steps.RunRestored, steps.RunUndone, steps.RunFailed, steps.RunUnfinished, steps.RunUntouched, steps.RunUnreadable}
	for _, r := range all {
		if err := validRun(r.Run); err != nil {
			return err
		}
		if !slices.Contains(states, r.State) {
			return fmt.Errorf("run %s is %q", r.Run, clip([]byte(r.State)))
		}
	}
	return nil
}

// validPath is a file's on a node: absolute, and nothing to look twice at.
func validPath(p string) error {
	if !filepath.IsAbs(p) || len(p) > longestPath || filepath.Clean(p) != p || trust.Text(p) != p {
		return fmt.Errorf("%q is not the path of a file", clip([]byte(p)))
	}
	return nil
}

func validPathOrNone(p string) error {
	if p == "" {
		return nil
	}
	return validPath(p)
}

// validSourceName is for the name of a snapshot, which is only shown.
func validSourceName(s string) error {
	if len(s) > longestPath || trust.Text(s) != s {
		return fmt.Errorf("%q is not the name of a snapshot", clip([]byte(s)))
	}
	return nil
}

func validSumOrNone(s string) error {
	if s != "" && !validSum(s) {
		return fmt.Errorf("%q is not a sha256", clip([]byte(s)))
	}
	return nil
}

func validMessage(m message) error {
	if m.ID < 0 {
		return fmt.Errorf("an answer to request %d", m.ID)
	}
	if m.Barrier != "" && index(m.Barrier) < 0 {
		return fmt.Errorf("a phase %q", clip([]byte(m.Barrier)))
	}
	if w := m.Send; w != nil && (w.From < 0 || !validSum(w.SHA256)) {
		return fmt.Errorf("a snapshot wanted from byte %d on, after %q", w.From, clip([]byte(w.SHA256)))
	}
	if m.Ask != nil {
		if err := validChoices(m.Ask.Choices); err != nil {
			return err
		}
	}
	if m.Event != nil {
		return validEvent(*m.Event)
	}
	return nil
}

// validChoices is for what a node's engine offers after a failure: each once.
func validChoices(offered []steps.Choice) error {
	for i, c := range offered {
		if !slices.Contains(steps.AllChoices, c) || slices.Contains(offered[:i], c) {
			return fmt.Errorf("a choice %q", clip([]byte(c)))
		}
	}
	return nil
}

func validEvent(ev steps.Event) error {
	if ev.State != "" && !slices.Contains(steps.States, ev.State) {
		return fmt.Errorf("an event of state %q", clip([]byte(ev.State)))
	}
	if ev.Etcd != "" && ev.Etcd != steps.EtcdStopped && ev.Etcd != steps.EtcdServes {
		return fmt.Errorf("an etcd that is %q", clip([]byte(ev.Etcd)))
	}
	if ev.Away != nil && (*ev.Away < 0 || *ev.Away > 1e7) { // seconds; JSON has no NaN
		return fmt.Errorf("an API that is down for %f s", *ev.Away)
	}
	missing := false
	switch ev.Type {
	case steps.TypePlan:
		missing = ev.Plan == nil
	case steps.TypeAsk:
		missing = ev.Failure == nil
	case steps.TypeResult:
		missing = ev.Result == nil
	case steps.TypeStep, steps.TypeAction, steps.TypeAnswer:
	default:
		return fmt.Errorf("an event of type %q", clip([]byte(ev.Type)))
	}
	if missing {
		return errNull
	}
	if ev.Failure != nil {
		if err := validChoices(ev.Failure.Choices); err != nil {
			return err
		}
	}
	if ev.Plan != nil {
		return validPlan(ev.Plan)
	}
	return nil
}

func validRequest(r request) error {
	if r.Phase != "" && index(r.Phase) < 0 {
		return fmt.Errorf("a phase %q", clip([]byte(r.Phase)))
	}
	if len(r.Seen) > mostMembers {
		return fmt.Errorf("%d nodes are seen", len(r.Seen))
	}
	if r.Choice != "" && !slices.Contains(steps.AllChoices, r.Choice) {
		return fmt.Errorf("an answer %q", clip([]byte(r.Choice)))
	}
	return nil
}

// validFleet is what decides whom a node's etcd will talk to.
func validFleet(f *steps.Fleet) error {
	if err := validRun(f.Run); err != nil {
		return err
	}
	if trust.Name(f.Token) != nil {
		return fmt.Errorf("%q is not the token of a cluster", clip([]byte(f.Token)))
	}
	if len(f.Members) == 0 {
		return errNull
	}
	if err := validMembers(f.Members, false); err != nil {
		return err
	}
	return validRemotes(f.Others)
}

func validRemotes(all []steps.RemoteNode) error {
	if len(all) > mostMembers {
		return fmt.Errorf("%d nodes", len(all))
	}
	for _, n := range all {
		if err := trust.Name(n.Name); err != nil {
			return err
		}
		for _, u := range []string{n.ReadyURL, n.PeerURL} {
			if u == "" {
				continue
			}
			if err := validURL(u); err != nil {
				return err
			}
		}
	}
	return nil
}

func validRecord(r restore.Record) error {
	if err := validRun(r.Run); err != nil {
		return err
	}
	if err := trust.Name(r.Me); err != nil {
		return err
	}
	if err := validMembers(r.Members, false); err != nil {
		return err
	}
	if len(r.Nodes) == 0 || len(r.Nodes) > mostMembers {
		return fmt.Errorf("%d nodes", len(r.Nodes))
	}
	for _, n := range r.Nodes {
		if err := trust.Name(n.Name); err != nil {
			return err
		}
		for _, h := range n.Try {
			if err := validHost(h); err != nil {
				return err
			}
		}
	}
	return nil
}
