package steps

import (
	"context"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"etcd-rewind/manifest"
	"etcd-rewind/node"
	"etcd-rewind/problem"
	"etcd-rewind/snapshot"
	"etcd-rewind/trust"
)

const defaultBump = 1_000_000_000

// Settle fills in the choices that were left open.
func (f *Facts) Settle(info *snapshot.Info, c Choices) Choices {
	if c.Stop == "" {
		c.Stop = StopNow
	}
	if c.KubeletRestart == "" {
		c.KubeletRestart = defaultKubeletRestart
	}
	if c.InPlace || c.Home { // etcd continues where it stopped
		c.Bump = new(uint64)
	}
	if c.Bump == nil && info != nil {
		b := bumpBeyond(info.Revision, f.Live)
		c.Bump = &b
	}
	if c.DataDir == "" && f.Etcd != nil && !c.Home && (c.Swap || f.SwapBecause() != "") {
		c.Swap, c.DataDir = true, swapPath(&f.Etcd.EtcdSettings)
	}
	if c.DataDir == "" && f.Etcd != nil {
		c.DataDir = newDataDir(f.Etcd.DataDir.HostPath, f.runName(c))
	}
	return c
}

// bumpBeyond makes the restored revision higher than any that a client can
// have seen: beyond the live revision by a fifth, and by a million at least,
// since the cluster keeps writing until the API server is stopped.
// (OpenShift's restore multiplies by 1.2 too.)
func bumpBeyond(revision int64, live *node.EtcdStatus) uint64 {
	if live == nil || live.Revision == 0 { // it doesn't say
		return defaultBump
	}
	target := live.Revision + min(max(live.Revision/5, 1_000_000), math.MaxInt64-live.Revision)
	return uint64(max(target-max(revision, 0), 1))
}

// NewRestore plans the restore of a snapshot on this node. The facts have to
// be fresh; what blocks is Check's to say.
func NewRestore(f *Facts, info *snapshot.Info, c Choices) (*Plan, error) {
	if err := f.usable(c.Fleet == nil); err != nil {
		return nil, err
	}
	run := f.runName(c)
	token := "etcd-rewind-" + run
	if c.Fleet != nil {
		token = c.Fleet.Token
		if f.Etcd != nil && c.Fleet.member(f.Etcd.Name) == nil {
			return nil, problem.New("", "the member %s of this node is not among those that are restored: %s", f.Etcd.Name, c.Fleet.initialCluster())
		}
	}
	c = f.Settle(info, c)
	if c.Home {
		info = &snapshot.Info{} // nothing is restored
	}
	name := ""
	if info.Name != "" {
		name = snapshot.FullName(info.Name)
	}
	b := &builder{f: f, info: info, c: c, run: run, dir: filepath.Join(f.StateDir, run)}
	p := &Plan{
		Run: run, Kind: KindRestore, Node: f.Node, RunDir: b.dir, Reach: f.Reach,
		Title: fmt.Sprintf("Restore %s on %s", snapshot.BaseName(name), f.Node), Flags: f.Flags,
		Restore: &RestoreFacts{
			Snapshot: name, SnapshotSHA256: info.SHA256, SnapshotRevision: info.Revision, Bump: *c.Bump,
			Token: token, Stop: c.Stop, KubeletRestart: c.KubeletRestart,
		},
	}
	if err := f.swapClash(c); err != nil {
		return nil, err
	}
	if c.Fleet != nil {
		p.Restore.Members = c.Fleet.Members
	}
	if f.Live != nil {
		p.Restore.OldRevision = f.Live.Revision
	}
	if f.Etcd != nil {
		if err := b.place(p); err != nil {
			return nil, err
		}
	}
	if err := b.build(p); err != nil {
		return nil, err
	}
	p.Summary = append(b.summary(p), p.Summary...)
	p.number()
	return p, nil
}

// place decides where the restored data lies.
func (b *builder) place(p *Plan) error {
	f, r := b.f, p.Restore
	if b.c.Home {
		return b.moveHome(p)
	}
	dataDir, err := filepath.Abs(b.c.DataDir)
	if err != nil {
		return err
	}
	b.c.DataDir = dataDir
	b.lay = f.layOut(b.c, b.run)
	if cause, hint := b.lay.collides(f, b.run); cause != "" && !b.c.InPlace {
		return problem.New(hint, "%s", cause)
	}
	r.OldDataDir, r.DataDir, r.Staging = f.Etcd.DataDir.HostPath, dataDir, b.lay.volumes[0].staging
	if b.c.Swap {
		if cause, hint := b.lay.unswappable(); cause != "" {
			return problem.New(hint, "%s", cause)
		}
		r.OldDataDir, r.Aside = dataDir, holding(asideFor(b.lay.volumes[0].old, b.run))
	}
	if b.c.InPlace {
		p.Title = fmt.Sprintf("Point etcd at %s on %s", dataDir, f.Node)
		r.InPlace = true
		if f.Etcd.WALDir != nil {
			return problem.New("change both volumes of "+f.Etcd.Source.Name()+" by hand", "etcd has a separate --wal-dir, and the WAL of that data can't be found")
		}
	}
	if r.Old, err = dataOf(context.Background(), &f.Etcd.EtcdSettings); err == nil && b.lay.swap {
		b.lay.real(r.Old)
	}
	return err
}

// moveHome decides which paths a move has.
func (b *builder) moveHome(p *Plan) error {
	k := &checks{ctx: context.Background(), f: b.f, c: b.c}
	if v := k.home(); v.Level != Pass {
		return problem.New(v.Hint, "%s", v.Cause)
	}
	r, to := p.Restore, b.c.DataDir
	p.Title = fmt.Sprintf("Move etcd's data to %s on %s", to, b.f.Node)
	b.lay = layOutHome(&b.f.Etcd.EtcdSettings, to, b.run)
	r.Home, r.OldDataDir, r.DataDir, r.Staging = true, filepath.Clean(b.f.Etcd.DataDir.HostPath), to, stagingFor(to, b.run)
	if isThere(to) {
		r.Aside = asideFor(to, b.run)
	}
	var err error
	r.Old, err = dataOf(context.Background(), &b.f.Etcd.EtcdSettings)
	return err
}

type builder struct {
	f    *Facts
	info *snapshot.Info
	c    Choices
	run  string
	dir  string
	lay  layout

	facts []Fact   // for the summary, besides those of every plan
	links []string // manifests that are links
}

func (b *builder) path(sub string, file *manifest.File) string {
	return filepath.Join(b.dir, sub, file.Name())
}

// parts are the processes of the control plane on this node; nil for what it
// doesn't run.
type parts struct {
	etcd, api   process
	controllers []process
}

func (b *builder) parts(p *Plan) (all parts, err error) {
	f := b.f
	if f.Etcd != nil {
		if all.etcd, err = f.Etcd.Source.process(b, p); err != nil {
			return all, err
		}
	}
	if f.API != nil {
		if all.api, err = f.API.Source.process(b, p); err != nil {
			return all, err
		}
	}
	if !b.c.KeepControllers {
		for _, source := range f.Controllers {
			c, err := source.process(b, p)
			if err != nil {
				return all, err
			}
			all.controllers = append(all.controllers, c)
		}
	}
	return all, nil
}

// apiBefore is what the API server has to be again when the run is undone; nil
// when it wasn't ready before.
func (b *builder) apiBefore(budget time.Duration) *Expect {
	if !b.f.APIReady {
		return nil
	}
	return &Expect{API: true, URL: b.f.Reach.API.ReadyURL, Budget: budget}
}

// etcdBefore is what etcd has to be again when the run is undone; nil when it
// wasn't ready before, and won't be then.
func (b *builder) etcdBefore(p *Plan, budget time.Duration) *Expect {
	f := b.f
	if !f.APIReady && f.Live == nil {
		return nil
	}
	ready := &Expect{Etcd: true, URL: readyURL(f.Etcd), Budget: budget, ClusterID: p.Restore.Old.ClusterID}
	if f.Live != nil && ready.ClusterID == 0 {
		ready.ClusterID = f.Live.ClusterID
	}
	return ready
}

// staticPod plans with a manifest, and the one that takes its place.
func (b *builder) staticPod(p *Plan, file *manifest.File, data []byte) (*staticPod, error) {
	data, err := b.freshen(data)
	if err != nil {
		return nil, err
	}
	p.Diffs = append(p.Diffs, Diff{Path: file.Path, Text: manifest.Diff(file.Path, file.Path, file.Data, data)})
	if isLink(file.Path) {
		b.links = append(b.links, file.Path)
	}
	pod := b.f.Kubelet.PodName(file.Pod.Name)
	return &staticPod{
		file: Prepared{Manifest: file.Path, Kept: b.path("kept", file), New: b.path("new", file), Old: file.Data, Data: data},
		out:  &TakeOut{Pod: pod, File: file.Path, To: b.path("aside", file), SHA256: sum(file.Data), Link: isLink(file.Path)},
		in: &PutIn{
			Pod: pod, From: b.path("new", file), File: file.Path, SHA256: sum(data), Original: sum(file.Data),
			Undone: b.path("undone", file),
		},
		cri: b.f.Kubelet.CRIEndpoint,
	}, nil
}

// build composes the plan of what etcd and the API server each need. A node
// that runs one of them has the steps of that one, and waits for the others all
// the same.
func (b *builder) build(p *Plan) error {
	parts, err := b.parts(p)
	if err != nil {
		return err
	}
	b.prepare(p, parts)
	if parts.etcd != nil {
		if err := b.staging(p, parts); err != nil {
			return err
		}
	}
	b.wait(p, PhaseStaged)
	if parts.api != nil {
		b.add(p, "stop-kube-apiserver", parts.api.stop(b.c.Stop)...)
	}
	b.wait(p, PhaseAPIGone)
	if parts.etcd != nil {
		b.add(p, "stop-etcd", slices.Concat(parts.etcd.stop(b.c.Stop), parts.etcd.rest())...)
	}
	b.wait(p, PhaseEtcdOut)
	out, restart := b.restart(parts)
	b.start(p, parts, out)
	if len(restart) > 0 {
		b.add(p, controllersStep, restart...)
	}
	if parts.api != nil {
		if a := b.kubeadm(p); a != nil {
			b.add(p, kubeadmStep, a)
		}
		if !b.c.Home { // the data is the same as before
			b.add(p, "verify", b.verify())
		}
	}
	b.wait(p, PhaseVerified)
	if b.mayGoBack() {
		p.renewKubelet(renewStep, b.f.Kubelet, b.c.KubeletRestart, b.c.Fleet != nil)
	}
	b.stuckKubelet(p)
	explainUnits(p.Steps, "", unitTexts)
	return nil
}

func (b *builder) prepare(p *Plan, parts parts) {
	prepare := &Prepare{RunDir: b.dir}
	for _, one := range append([]process{parts.etcd, parts.api}, parts.controllers...) {
		if one != nil {
			prepare.Files = append(prepare.Files, one.prepared()...)
		}
	}
	before := []Action{prepare}
	if b.c.InPlace && b.saves(parts) {
		before = append(before, saveBefore(b.f, b.run))
	}
	b.add(p, "prepare", before...)
}

// saves says whether the state that is left is saved first. It is, beside the
// staging, where etcd can send it and nobody has decided otherwise.
func (b *builder) saves(parts parts) bool { return b.f.Live != nil && parts.etcd != nil && !b.c.NoSave }

func (b *builder) staging(p *Plan, parts parts) error {
	f := b.f
	staging, step := []Action{&Adopt{DataDir: f.Etcd.DataDir.Under(p.Restore.DataDir)}}, "adopt"
	if b.c.Home {
		staging, step = nil, "prepare"
	} else if !b.c.InPlace {
		stage, err := b.stage(p.Restore)
		if err != nil {
			return err
		}
		staging[0], step = stage, "stage"
		if b.saves(parts) {
			staging = append(staging, saveBefore(f, b.run))
		}
	}
	if f.APIReady && b.c.Stop == StopNow && b.c.Fleet == nil && f.Reach.Metrics.URL != "" {
		staging = append(staging, &WaitRelist{Metrics: f.Reach.Metrics})
	}
	if len(staging) > 0 {
		b.add(p, step, staging...)
	}
	return nil
}

// start has etcd run on the restored data, and then the API server. Where etcd has
// one member, API servers are started when it has opened its data; it is compared in
// whole while that is on its way: until it leads it may take 5 s (kubespray's election
// timeout). Of several members etcd is ready only with a quorum. Controllers are taken out
// while the API server starts, which takes longer than they do to end; any earlier and
// kubelet often finishes with etcd's old pod a list later, a second.
func (b *builder) start(p *Plan, parts parts, controllersOut []Action) {
	f, alone := b.f, b.c.Fleet == nil
	// What is moved was never staged, and is known when etcd is ready only.
	early := alone && parts.api != nil && !b.c.Home || !alone && parts.api == nil && len(b.c.Fleet.Members) == 1
	var compare []Action
	if parts.etcd != nil {
		var place []Action
		for _, v := range b.lay.moved() {
			switch {
			case b.c.InPlace:
			case b.lay.home:
				place = append(place, &Move{swapping{Dir: v.new, Staged: v.old, Aside: asideFor(v.new, b.run), Old: inode(v.new)}})
			case b.lay.swap:
				place = append(place, &Swap{swapping{Dir: v.old, Staged: stagedFor(v.old, b.run), Aside: asideFor(v.old, b.run), Old: inode(v.old)}})
			default:
				place = append(place, &Rename{What: "the restored data", From: v.staging, To: v.new})
			}
		}
		ref := parts.etcd.ref()
		wait := &WaitEtcd{Pod: ref.pod, Unit: ref.unit, URL: readyURL(f.Etcd), Restored: true, File: ref.file, Budget: ref.budget}
		if b.c.Home {
			wait.Restored, wait.ClusterID = false, f.Live.ClusterID
		}
		compare = []Action{wait}
		b.add(p, "start-etcd", place...)
		b.wait(p, PhasePlaced)
		b.add(p, "start-etcd", parts.etcd.start()...)
		if early {
			b.add(p, "start-etcd", &WaitData{Pod: ref.pod, Unit: ref.unit, Peer: f.Reach.Peer, File: ref.file, Budget: ref.budget})
		} else {
			b.add(p, "start-etcd", compare...)
			compare = nil
		}
	} else {
		b.wait(p, PhasePlaced)
	}
	b.wait(p, PhaseEtcdReady)
	if parts.api != nil {
		ref := parts.api.ref()
		ready := &WaitAPI{Pod: ref.pod, Unit: ref.unit, URL: f.Reach.API.ReadyURL, File: ref.file, Budget: ref.budget}
		b.add(p, "start-kube-apiserver", slices.Concat(parts.api.rest(), controllersOut, parts.api.start(), compare, []Action{ready})...)
	} else {
		b.add(p, "start-etcd", compare...)
	}
	b.wait(p, PhaseAPIReady)
}

// restart stops all processes first, and then starts one after the other: a
// pod that kubelet begins with is known to be that one. They are stopped while the API
// is down, and waited for when it is back, where an API server is started here. Until
// they have listed again they would act on the restored data with what they remember of
// the other: in a test a Deployment was scaled to what it was before the restore, and
// the garbage collector remembers which owners are gone (absentOwnerCache,
// pkg/controller/garbagecollector).
func (b *builder) restart(all parts) (out, later []Action) {
	later = stopThenWait(all.controllers, b.c.Stop)
	if all.api != nil {
		out, later = stopsOf(later)
	}
	for _, p := range all.controllers {
		later = append(later, p.start()...)
	}
	return out, later
}

// stopsOf are those of the actions that stop something, and the others.
func stopsOf(actions []Action) (stops, others []Action) {
	for _, a := range actions {
		if _, ok := a.(stopping); ok {
			stops = append(stops, a)
		} else {
			others = append(others, a)
		}
	}
	return stops, others
}

// mayGoBack says whether etcd's revision may be lower after the run than it was.
func (b *builder) mayGoBack() bool {
	switch live := b.f.Live; {
	case b.c.Home: // the same data
		return false
	case live != nil && live.Revision > 0:
		return uint64(b.info.Revision)+*b.c.Bump <= uint64(live.Revision)
	}
	return *b.c.Bump == 0
}

func (b *builder) verify() *Verify {
	v := newVerify(b.f, b.info)
	later := joinedLater(b.f, b.info)
	for _, name := range later[:min(len(later), maxLater)] {
		v.Later = append(v.Later, trust.Clip(name, 253))
	}
	return v
}

// stuckKubelet adds the conditional step for what the plan takes out, before etcd is.
func (b *builder) stuckKubelet(p *Plan) {
	step := stuckKubeletFor(p.Steps, b.c.KubeletRestart, p.Reach.Kubelet.CRIEndpoint)
	if step == nil {
		return
	}
	i := slices.IndexFunc(p.Steps, func(s Step) bool { return s.ID == "stop-etcd" || s.ID == "start-kube-apiserver" })
	p.Steps = slices.Insert(p.Steps, i, *step)
}

// freshen makes a new pod of a manifest. etcd's is one anyway, by its hostPath;
// its annotation is there for kubelet's refusal, which another one ends.
func (b *builder) freshen(data []byte) ([]byte, error) {
	return manifest.Annotate(data, restartedAt, b.f.Time.UTC().Format("2006-01-02T15:04:05Z"))
}

// wait lets the others come as far as this node is; nothing on a single one. It
// belongs to the step before, or to the next one when this node has just done
// nothing.
func (b *builder) wait(p *Plan, phase Phase) {
	if b.c.Fleet == nil {
		return
	}
	p.Steps[len(p.Steps)-1].Actions = append(p.Steps[len(p.Steps)-1].Actions, Planned{Action: &WaitNodes{Phase: phase, Others: b.c.Fleet.others(), ClusterID: b.c.Fleet.ClusterID}})
}

func readyURL(e *Etcd) string {
	if len(e.ReadyURLs) == 0 {
		return ""
	}
	return e.ReadyURLs[0]
}

func (b *builder) stage(r *RestoreFacts) (*Stage, error) {
	e := b.f.Etcd
	q := snapshot.RestoreRequest{
		ExpectSHA256: b.info.SHA256,
		DataDir:      b.lay.stageData, WALDir: b.lay.walDir,
		Name: e.Name, PeerURLs: e.AdvertisePeerURLs,
		InitialCluster: e.Name + "=" + strings.Join(e.AdvertisePeerURLs, ","+e.Name+"="),
		Token:          r.Token, RevisionBump: r.Bump,
		SkipHashCheck: b.info.Hash == snapshot.HashMissing,
	}
	if fleet := b.c.Fleet; fleet != nil {
		q.InitialCluster = fleet.initialCluster()
		q.PeerURLs = fleet.member(e.Name).PeerURLs
	}
	uid, gid, mode, label, err := node.Owner(e.DataDir.Path)
	if err != nil {
		return nil, fmt.Errorf("inspect the data directory: %w", err)
	}
	q.UID, q.GID, q.Mode, q.SELinuxLabel = &uid, &gid, mode, label
	if q.Snapshot, err = filepath.Abs(b.info.Path); err != nil {
		return nil, err
	}
	st := &Stage{Request: q}
	for _, v := range b.lay.moved() {
		st.Roots = append(st.Roots, Root{Staging: v.staging, Old: v.old})
	}
	return st, nil
}

// add adds actions to a step, which is the last one or new.
func (b *builder) add(p *Plan, id string, actions ...Action) {
	if n := len(p.Steps); n == 0 || p.Steps[n-1].ID != id {
		t := restoreTexts[id]
		if swapped, ok := swapTexts[id]; ok && b.lay.swap {
			t = swapped
		}
		if moved, ok := moveTexts[id]; ok && b.lay.home {
			t = moved
		}
		p.Steps = append(p.Steps, Step{ID: id, Title: t.title, Why: t.why, More: t.more, Outage: t.outage})
	}
	s := &p.Steps[len(p.Steps)-1]
	s.Actions = append(s.Actions, planned(actions)...)
}

func (b *builder) summary(p *Plan) []Fact {
	r := p.Restore
	if r.Home {
		return b.summaryOfMove(p)
	}
	facts := []Fact{{"snapshot", fmt.Sprintf("%s, revision %d, %d keys", r.Snapshot, b.info.Revision, b.info.Keys)}}
	if b.f.Etcd != nil {
		facts = append(facts, Fact{"data directory", r.Moves()}, Fact{"old data", b.old(r)})
	} else {
		facts = append(facts, Fact{"etcd", "runs on other nodes"})
	}
	switch {
	case r.InPlace:
		facts[0] = Fact{"data", fmt.Sprintf("%s: revision %d, %d keys, as it is; etcd continues to write there", r.DataDir, b.info.Revision, b.info.Keys)}
	case r.Bump == 0:
		facts = append(facts, Fact{"revision", fmt.Sprintf("%d, no bump: clients may trust stale caches", b.info.Revision)})
	case b.f.Live != nil && b.f.Live.Revision > 0:
		facts = append(facts, Fact{"revision", fmt.Sprintf("%d + %d, beyond the live %d", b.info.Revision, r.Bump, b.f.Live.Revision)})
	default:
		facts = append(facts, Fact{"revision", fmt.Sprintf("%d + %d (the live one can't be read)", b.info.Revision, r.Bump)})
	}
	how := "at once, over CRI"
	if r.Stop == StopGraceful {
		how = "by kubelet, with its grace period"
	}
	if b.f.API == nil {
		how = "it runs on other nodes"
	}
	facts = append(facts, Fact{"kube-apiserver stops", how})
	if fleet := b.c.Fleet; fleet != nil {
		facts = append(facts, Fact{"members", fleet.initialCluster()})
	}
	ctl := "restarted"
	if b.c.KeepControllers {
		ctl = "left running"
	}
	if apart := b.f.apart(); len(apart) > 0 {
		facts = append(facts, Fact{"not restored", strings.Join(apart, ", ") + ": kube-apiserver keeps them in another etcd, which is left alone"})
	}
	for _, path := range b.links {
		facts = append(facts, Fact{"a link", path + ": the link is moved, what it leads to stays as it is"})
	}
	facts = append(append(facts, Fact{"controllers", ctl}), b.facts...)
	return append(facts, Fact{"this run", p.RunDir})
}

// summaryOfMove is summary where etcd's data is moved.
func (b *builder) summaryOfMove(p *Plan) []Fact {
	r := p.Restore
	facts := []Fact{{"etcd's data", r.Moves()}}
	if r.Aside != "" {
		facts = append(facts, Fact{"what lies there", "renamed to " + r.Aside + ", untouched"})
	}
	facts = append(facts, Fact{"kubeadm-config", "names " + r.DataDir + " already: kubeadm upgrade starts etcd on the same data from then on"})
	how := "at once, over CRI"
	if r.Stop == StopGraceful {
		how = "by kubelet, with its grace period"
	}
	facts = append(facts, Fact{"kube-apiserver stops", how})
	for _, path := range b.links {
		facts = append(facts, Fact{"a link", path + ": the link is moved, what it leads to stays as it is"})
	}
	return append(append(facts, b.facts...), Fact{"this run", p.RunDir})
}

// old says what an undo will find.
func (b *builder) old(r *RestoreFacts) string {
	d := r.Old
	if d.blank() {
		return fmt.Sprintf("none: %s holds no etcd data; an undo would boot a blank cluster, and is blocked until that is overridden (%s)", d.Dir, checkOldData)
	}
	if r.Aside != "" {
		return "renamed to " + r.Aside + ", untouched" + b.saved()
	}
	return "stays where it is, untouched" + b.saved()
}

// saved says in what form the state that is left is kept besides its files.
func (b *builder) saved() string {
	switch {
	case b.f.Live == nil:
		return "; etcd doesn't answer, so no snapshot of it can be taken"
	case b.c.NoSave:
		return "; no snapshot of it is taken"
	case b.c.InPlace:
		return "; a snapshot of it is taken first"
	}
	return "; a snapshot of it is taken during the staging"
}
