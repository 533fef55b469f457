package steps

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"etcd-rewind/manifest"
	"etcd-rewind/node"
)

// The checks of plans that are made from a journal.
const (
	checkUnreadable = "unreadable-run" // with ":" and the run
	checkEdited     = "edited-manifests"
	checkThisNode   = "this-node"
	checkRestart    = "kubelet-restart-command"
)

// Terms are what a person, and the node as it is found now, say when an earlier
// run is taken up again: a journal alone decides neither which node this is nor
// which command is run on it.
type Terms struct {
	Accept []string // checks overridden by name
	// KubeletRestart is the shell command that restarts kubelet; "" means the
	// default.
	KubeletRestart string
	// Kubelet is this node's as found now; nil where nobody looked for it.
	// KubeletErr says why it can't be found.
	Kubelet    *node.Kubelet
	KubeletErr error
	CRI        string // the runtime's endpoint, "" for the run's
	Flags      []string
	Fleet      bool // what is planned is done by a conductor, with the run's other nodes
	same       bool // the run itself goes on: what had to be stopped elsewhere is
}

// undoActions are the actions that take back what has begun, last first, by
// the step of the restore they belong to. But the controllers start last: what
// they have seen of the restored data, and the leases they hold in it, must not
// outlive it.
func undoActions(h *history) []Step {
	var steps []Step
	var controllers, kubeadm []Action
	handled, rests := map[string]bool{}, false
	for i := len(h.restore.Steps) - 1; i >= 0; i-- {
		s := h.restore.Steps[i]
		back := Step{ID: "undo-" + s.ID, Title: s.Title, Outage: s.Outage}
		var acts []Action
		for j := len(s.Actions) - 1; j >= 0; j-- {
			if !h.began[s.Actions[j].ID] {
				continue
			}
			into := &acts
			if t, ok := s.Actions[j].Action.(stopping); ok {
				p := t.stops()
				if handled[p.name] {
					continue // the conditional step stops what another step stops too
				}
				handled[p.name] = true
				if p.role == RoleControllers {
					into = &controllers
					if start := h.atRest(p.name); start != nil { // as below
						acts = append(acts, start.undo()...)
					}
				}
			}
			if _, ok := s.Actions[j].Action.(*SetKubeadmConfig); ok {
				into = &kubeadm
			}
			back := s.Actions[j].undo()
			if out, ok := s.Actions[j].Action.(stopping); ok {
				h.knowing(back, out.stops())
			}
			if _, moves := s.Actions[j].Action.(moving); moves && len(back) > 0 && !rests {
				// A service that the run has stopped starts again when the machine boots.
				rests = true
				for _, role := range []Role{RoleEtcd, RoleAPI} {
					if start := h.roleAtRest(role); start != nil {
						back = append(start.undo(), back...)
						if role == RoleAPI {
							stops, starts := h.bootedControllers()
							back, controllers = append(stops, back...), append(controllers, starts...)
						}
					}
				}
			}
			*into = append(*into, back...)
		}
		if s.ID == controllersStep {
			acts = together(acts)
		}
		if back.Actions = planned(acts); len(acts) > 0 {
			if t, ok := undoTexts[s.ID]; ok {
				back.Title, back.Why, back.More = t.title, t.why, t.more
			}
			steps = append(steps, back)
		}
	}
	if len(controllers) > 0 {
		t := undoTexts[controllersBack]
		steps = append(steps, Step{ID: "undo-" + controllersBack, Title: t.title, Why: t.why, More: t.more, Actions: planned(controllers)})
	}
	if len(kubeadm) > 0 { // it asks the API
		t := undoTexts[kubeadmStep]
		steps = append(steps, Step{ID: "undo-" + kubeadmStep, Title: t.title, Why: t.why, More: t.more, Actions: planned(kubeadm)})
	}
	return steps
}

// knowing tells the waits before a manifest is back what this run has made of the
// pod: nothing, or one with another UID, that kubelet has to finish with first.
func (h *history) knowing(back []Action, out program) {
	another := h.reached(func(a Action) bool {
		in, ok := a.(starting)
		return ok && in.starts() == out
	})
	for _, a := range back {
		if w, ok := a.(*WaitForgotten); ok {
			w.Same, w.Lists = !another, another
		}
	}
}

// soon has the API server of a node alone start when etcd has opened its data, as
// a restore does: etcd leads while kubelet starts the container.
func soon(steps []Step, restore *Plan) []Step {
	if restore.fleet() || len(restore.Reach.Peer.Endpoints) == 0 {
		return steps
	}
	var etcd *Planned
	for i := range steps {
		for j := range steps[i].Actions {
			switch a := &steps[i].Actions[j]; w := a.Action.(type) {
			case *WaitEtcd:
				if etcd = a; w.ClusterID == 0 {
					return steps
				}
			case *WaitAPI:
				if etcd != nil {
					ready := etcd.Action.(*WaitEtcd)
					etcd.Action = &WaitData{Pod: ready.Pod, Unit: ready.Unit, Peer: restore.Reach.Peer, Budget: ready.Budget, ClusterID: ready.ClusterID}
					steps[i].Actions = slices.Insert(slices.Clone(steps[i].Actions), j, Planned{Action: ready})
					return steps
				}
			}
		}
	}
	return steps
}

// timed has the outage of an undo begin at the moment of kubelet's second at which
// a restore's begins.
func timed(steps []Step, restore *Plan) []Step {
	if restore.fleet() || restore.Reach.Metrics.URL == "" {
		return steps
	}
	for i := range steps {
		acts := steps[i].Actions
		j := slices.IndexFunc(acts, func(a Planned) bool {
			t, ok := a.Action.(*TakeOut)
			return ok && t.API
		})
		if j >= 0 {
			steps[i].Actions = slices.Insert(slices.Clone(acts), j, Planned{Action: &WaitRelist{Metrics: restore.Reach.Metrics}})
			return steps
		}
	}
	return steps
}

// roleAtRest is how a program is started, where it is a service that the run has
// stopped and not started yet.
func (h *history) roleAtRest(role Role) *StartUnit {
	for a := range h.restore.actions() {
		if s, ok := a.Action.(*StopUnit); ok && s.Role == role {
			return h.atRest(s.Unit)
		}
	}
	return nil
}

// atRest is how a service is started that the run has stopped, or was to, and
// has not started yet; nil for another.
func (h *history) atRest(unit string) *StartUnit {
	for a := range h.restore.actions() {
		if s, ok := a.Action.(*StartUnit); ok && s.Unit == unit && !h.began[a.ID] {
			return s
		}
	}
	return nil
}

// bootedControllers are those that the run had not come to: services that were
// started with the machine may have seen the restored data. They stop before the
// API server is back on the other.
func (h *history) bootedControllers() (stops, starts []Action) {
	for a := range h.restore.actions() {
		s, ok := a.Action.(*StopUnit)
		if ok && s.Role == RoleControllers && !h.began[a.ID] {
			stops = append(stops, s, &WaitUnitStopped{Unit: s.Unit, Role: s.Role, Limit: s.Limit})
			starts = append(starts, &StartUnit{Unit: s.Unit, Role: s.Role, StopLimit: s.Limit}, &WaitUnitUp{Unit: s.Unit})
		}
	}
	return stops, starts
}

// undoPlan is the way back from a run. What blocks it is in its Checks.
func undoPlan(h *history, t Terms) (*Plan, error) {
	r := h.restore
	p := h.plan(KindUndo, t)
	p.Title = "Undo run " + r.Run + " on " + r.Node
	p.Steps = undoActions(h)
	explainUnits(p.Steps, "undo-", unitUndoTexts)
	p.Steps = inStep(p.Steps, r)
	p.redo = h.redo()
	p.memory.renew()
	if h.reached(RoleEtcd.starts) {
		if p.ran = h.memory.Revision; p.ran == 0 && h.staged() != nil {
			p.ran = h.staged().Revision
		}
	}
	p.Summary = []Fact{{"run", fmt.Sprintf("%s, of %s", r.Run, Moment(h.started))}}
	restart := p.takeUp(h, t)
	if p.has(RoleEtcd.starts) {
		old, err := h.oldTarget()
		if err != nil {
			return nil, err
		}
		// What etcd.yaml lets etcd start on is what has to be there.
		p.target = old
		v, is := old.verdict(context.Background())
		p.Checks = append(p.Checks, v)
		goes := old.say(is)
		if v.Level != Pass {
			goes = v.Cause
		}
		p.Summary = append(p.Summary, Fact{"etcd will run on", goes})
		p.expect(is.ClusterID)
		p.Steps = soon(p.Steps, r)
		if p.memory.AwaySince.IsZero() {
			p.Steps = timed(p.Steps, r)
		}
	}
	if r.Restore.DataDir != "" && !r.Restore.Home {
		p.Summary = append(p.Summary, Fact{"restored data", "kept at " + r.Restore.keptAt()})
	}
	edited := h.edited()
	for _, d := range edited {
		p.Diffs = append(p.Diffs, d.Diff)
		p.Summary = append(p.Summary, Fact{"edited since", fmt.Sprintf("%s: the edit is kept at %s, and not used", d.Path, d.kept)})
	}
	p.Summary = append(p.Summary, Fact{r.files(), "byte for byte as they were"})
	p.Checks = append(p.Checks, editedVerdict(edited))
	if h.watched() {
		p.renewKubelet("undo-"+renewStep, cmp.Or(t.Kubelet, &r.Reach.Kubelet), restart, r.fleet())
	}
	if step := stuckKubeletFor(p.Steps, restart, p.Reach.Kubelet.CRIEndpoint); step != nil {
		p.Steps = append(p.Steps, *step)
	}
	p.number()
	Accept(p.Checks, t.Accept)
	return p, nil
}

// watched says whether clients may have seen revisions of the restored data that
// an undo takes back: an API server was started on it, here or on another node.
func (h *history) watched() bool {
	r := h.restore
	if r.Restore.Home { // the data is the same
		return false
	}
	return h.reached(RoleAPI.starts) || h.reached(RoleEtcd.starts) && (r.fleet() || !r.has(RoleAPI.starts))
}

// plan is the frame of a plan that takes the run up again.
func (h *history) plan(kind string, t Terms) *Plan {
	r := h.restore
	return &Plan{
		Run: r.Run, Kind: kind, Node: r.Node, RunDir: r.RunDir, Reach: r.Reach,
		Restore: r.Restore, Flags: t.Flags,
		memory: h.memory, ended: h.latest, accept: t.Accept,
	}
}

// takeUp adds to a plan what is the same whenever a run is taken up again: the
// runtime and the command that restarts kubelet as they are given now, and
// whether this is the run's node.
func (p *Plan) takeUp(h *history, t Terms) (restart string) {
	if t.CRI != "" {
		p.Reach.Kubelet.CRIEndpoint = t.CRI
	}
	p.Summary = append(slices.Clip(p.Summary), h.halfSwapped()...)
	if v := t.thisNode(h.restore); v.Level != "" {
		p.Checks = append(p.Checks, v)
	}
	if v := t.apiServers(h.restore); v.Level != "" {
		p.Checks = append(p.Checks, v)
	}
	restart = h.restore.Restore.KubeletRestart
	v := ok("%s", cmp.Or(t.KubeletRestart, defaultKubeletRestart))
	switch {
	case t.KubeletRestart != "":
		restart = t.KubeletRestart
	case restart == "":
		restart = defaultKubeletRestart
	case restart != defaultKubeletRestart:
		v = wrong("if it is the right one, give it with --kubelet-restart-command, or override "+checkRestart,
			"the run names a command of its own to restart kubelet: %s", restart)
	}
	v.Check, v.Title = checkRestart, "kubelet's restart"
	p.Checks = append(p.Checks, v)
	return restart
}

// files is what a run edits and moves, for people.
func (p *Plan) files() string {
	if p.has(func(a Action) bool { _, pod := a.(*TakeOut); return pod }) {
		return "manifests"
	}
	return "files with settings"
}

// halfSwapped says what a swap that was interrupted has left where.
func (h *history) halfSwapped() (facts []Fact) {
	for a := range h.restore.actions() {
		if s, ok := a.Action.(*Swap); ok && h.began[a.ID] {
			facts = append(facts, s.stands()...)
		}
	}
	return facts
}

// apiServers: as in a restore, etcd's data changes while no API server runs.
func (t Terms) apiServers(r *Plan) Verdict {
	if t.Fleet || t.same || r.fleet() || !r.has(RoleEtcd.starts) || r.has(RoleAPI.starts) {
		return none
	}
	v := wrong("stop kube-apiserver on each of them, override "+CheckAPIServers+", and start it again afterwards", apiElsewhere, "")
	v.Check, v.Title = CheckAPIServers, "API servers"
	return v
}

// thisNode says whether the run was made on this node: its directory may have
// been copied, with all of /etc/kubernetes.
func (t Terms) thisNode(r *Plan) Verdict {
	v := none
	var without *noKubelet
	k := t.Kubelet
	if name, err := node.Hostname(); err == nil && r.Reach.Kubelet.StaticPodPath == "" && errors.As(t.KubeletErr, &without) {
		k = &node.Kubelet{NodeName: name}
	}
	switch {
	case k == nil && t.KubeletErr != nil:
		v = wrong("name its configuration with --kubelet-config, or override "+checkThisNode, "cannot tell whether run %s is this node's: %s", r.Run, t.KubeletErr)
	case k == nil:
		return none
	case k.NodeName != r.Node:
		v = wrong("if the node was renamed, override "+checkThisNode, "run %s was made on the node %s, and this is %s", r.Run, r.Node, k.NodeName)
	case filepath.Clean(k.StaticPodPath) != filepath.Clean(r.Reach.Kubelet.StaticPodPath) && !sameDir(k.StaticPodPath, r.Reach.Kubelet.StaticPodPath):
		v = wrong("name the directory with --manifests, or override "+checkThisNode,
			"run %s was made with the manifests in %s, and kubelet reads %s", r.Run, r.Reach.Kubelet.StaticPodPath, k.StaticPodPath)
	default:
		v = ok("%s, as in the run", k.NodeName)
	}
	v.Check, v.Title = checkThisNode, "This node"
	return v
}

// expect makes the waits for etcd compare with the cluster that its files name.
func (p *Plan) expect(clusterID uint64) {
	for a := range p.actions() {
		if w, ok := a.Action.(*WaitEtcd); ok && !w.Restored && clusterID != 0 {
			c := *w
			c.ClusterID = clusterID
			a.Action = &c
		}
	}
}

// placing is an action that puts a file of the run's own where another was.
type placing interface {
	Action
	placed() placed
}

// placed is such a file: the SHA256 of the one that was there before, and of the
// one that was put there; where undo moves it.
type placed struct{ file, original, sha256, undone string }

// edit is a manifest that somebody has changed since a run put it in.
type edit struct {
	Diff
	kept string // where an undo moves it
}

// edited are the manifests that somebody has changed since the run put them
// in: an upgrade meanwhile, for example. The annotation that makes a new pod
// may be the run's own.
func (h *history) edited() []edit {
	var all []edit
	for a := range h.restore.actions() {
		in, ok := a.Action.(placing)
		if !ok || !h.began[a.ID] {
			continue
		}
		is := in.placed()
		now, err := os.ReadFile(is.file)
		if err != nil || sum(now) == is.original || sum(now) == is.sha256 {
			continue
		}
		put := h.prepared(is.file)
		if put == nil || sameButFresh(put.Data, now) {
			continue
		}
		all = append(all, edit{Diff{Path: is.file, Text: manifest.Diff(is.file, is.file, put.Data, now)}, is.undone})
	}
	return all
}

func sameButFresh(a, b []byte) bool {
	x, errX := manifest.Annotate(a, restartedAt, "same")
	y, errY := manifest.Annotate(b, restartedAt, "same")
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

func editedVerdict(edited []edit) Verdict {
	v := ok("as the run wrote them")
	if len(edited) > 0 {
		var names []string
		for _, e := range edited {
			names = append(names, e.Path)
		}
		v = wrong("look at the diff (--dry-run); to revert the edits all the same, override "+checkEdited,
			"edited by somebody since the run, and undo would revert that: %s", strings.Join(names, ", "))
	}
	v.Check, v.Title = checkEdited, "Manifests since the run"
	return v
}

// prepared is what a run made of a manifest.
func (h *history) prepared(file string) *Prepared {
	for a := range h.restore.actions() {
		if p, ok := a.Action.(*Prepare); ok {
			for i := range p.Files {
				if p.Files[i].Manifest == file {
					return &p.Files[i]
				}
			}
		}
	}
	return nil
}

// reached says whether an action of the run has begun.
func (h *history) reached(such func(Action) bool) bool {
	for a := range h.restore.actions() {
		if h.began[a.ID] && such(a.Action) {
			return true
		}
	}
	return false
}
