package steps

import (
	"context"
	"fmt"
	"math"
	"path/filepath"
	"strings"

	"etcd-rewind/manifest"
	"etcd-rewind/node"
	"etcd-rewind/problem"
	"etcd-rewind/snapshot"
	"etcd-rewind/trust"
)

// The kinds of plans.
const (
	KindRestore = "restore"
	KindUndo    = "undo"
	KindRedo    = "redo" // from an undo, to what was restored
)

// RestoreFacts are what a restore is about, for the report, the list of runs,
// and the way back.
type RestoreFacts struct {
	Snapshot         string `json:"snapshot"` // the name of its source
	SnapshotSHA256   string `json:"snapshot_sha256,omitempty"`
	SnapshotRevision int64  `json:"snapshot_revision"`
	Bump             uint64 `json:"bump"`
	Token            string `json:"token"`
	OldDataDir       string `json:"old_data_dir"` // hostPath before
	DataDir          string `json:"data_dir"`     // hostPath after
	Staging          string `json:"staging"`      // where the restored data is until it is put in place
	OldRevision      int64  `json:"old_revision,omitempty"`
	// InPlace says that DataDir held the data before: etcd is only pointed there.
	InPlace bool `json:"in_place,omitempty"`
	// Members are those of the restored cluster, when several nodes are restored.
	Members []manifest.Member `json:"members,omitempty"`
	// Old is whose data etcd had, by its files: undo goes back to that and to
	// nothing else. Nil in a run of an older version.
	Old            *Data   `json:"old,omitempty"`
	Stop           StopHow `json:"stop"`
	KubeletRestart string  `json:"kubelet_restart"`
}

const defaultBump = 1_000_000_000

// defaultKubeletRestart works where systemd runs kubelet, which is kubeadm's
// way.
var defaultKubeletRestart = node.Kubeadm.RestartKubelet()

// Settle fills in the choices that were left open.
func (f *Facts) Settle(info *snapshot.Info, c Choices) Choices {
	if c.Stop == "" {
		c.Stop = StopNow
	}
	if c.KubeletRestart == "" {
		c.KubeletRestart = defaultKubeletRestart
	}
	if c.InPlace { // etcd goes on where it stopped
		c.Bump = new(uint64)
	}
	if c.Bump == nil && info != nil {
		b := bumpBeyond(info.Revision, f.Live)
		c.Bump = &b
	}
	if c.DataDir == "" && f.Etcd != nil {
		c.DataDir = newDataDir(f.Etcd.DataDir.HostPath, f.runName(c))
	}
	return c
}

// runName is the same on all nodes of a fleet.
func (f *Facts) runName(c Choices) string {
	if c.Fleet != nil {
		return c.Fleet.Run
	}
	return newRunName(f.StateDir, f.Time)
}

// bumpBeyond makes the restored revision higher than any that a client can
// have seen: beyond the live revision by a fifth, and by a million at least,
// since the cluster goes on writing until the API server is stopped.
// (OpenShift's restore multiplies by 1.2 too.)
func bumpBeyond(revision int64, live *node.EtcdStatus) uint64 {
	if live == nil || live.Revision == 0 { // it doesn't tell
		return defaultBump
	}
	target := live.Revision + min(max(live.Revision/5, 1_000_000), math.MaxInt64-live.Revision)
	return uint64(max(target-max(revision, 0), 1))
}

// roomForRevisions is how many revisions a restored cluster has to be able to
// write before etcd's int64 is at its end: 1000 a second for 30 years.
const roomForRevisions = 1 << 40

// revision holds the sum of the snapshot's revision and the bump against what
// an int64 holds: beyond its end etcd's revisions would begin again below zero.
func (k *checks) revision() Verdict {
	have, bump := k.info.Revision, *k.c.Bump
	switch {
	case have < 0:
		return bad("use another snapshot", "its revision is %d: no etcd wrote that", have)
	case have > math.MaxInt64-roomForRevisions || bump > uint64(math.MaxInt64-roomForRevisions-have):
		return bad("choose a smaller --bump-revision; without one, use another snapshot: only damage makes such a revision",
			"revision %d + %d exceeds what etcd can count to", have, bump)
	}
	return ok("%d + %d", have, bump)
}

// NewRestore plans the restore of a snapshot on this node. The facts have to
// be fresh; what blocks is Check's to say.
func NewRestore(f *Facts, info *snapshot.Info, c Choices) (*Plan, error) {
	if f.Etcd == nil {
		return nil, f.EtcdErr
	}
	if f.API == nil {
		return nil, f.APIErr
	}
	run := f.runName(c)
	token := "etcd-rewind-" + run
	if c.Fleet != nil {
		token = c.Fleet.Token
		if c.Fleet.member(f.Etcd.Name) == nil {
			return nil, problem.New("", "the member %s of this node is not among those that are restored: %s", f.Etcd.Name, c.Fleet.initialCluster())
		}
	}
	c = f.Settle(info, c)
	dataDir, err := filepath.Abs(c.DataDir)
	if err != nil {
		return nil, err
	}
	name := snapshot.FullName(info.Name)
	b := &builder{f: f, info: info, c: c, run: run, dir: filepath.Join(f.StateDir, run), lay: layOut(&f.Etcd.EtcdSettings, dataDir, run)}
	if cause, hint := b.lay.collides(f, run); cause != "" && !c.InPlace {
		return nil, problem.New(hint, "%s", cause)
	}
	p := &Plan{
		Run: run, Kind: KindRestore, Node: f.Node, RunDir: b.dir, Reach: f.Reach,
		Title: fmt.Sprintf("Restore %s on %s", filepath.Base(name), f.Node), Flags: f.Flags,
		Restore: &RestoreFacts{
			Snapshot: name, SnapshotSHA256: info.SHA256, SnapshotRevision: info.Revision, Bump: *c.Bump,
			Token:      token,
			OldDataDir: f.Etcd.DataDir.HostPath, DataDir: dataDir, Staging: b.lay.volumes[0].staging,
			Stop: c.Stop, KubeletRestart: c.KubeletRestart,
		},
	}
	if c.Fleet != nil {
		p.Restore.Members = c.Fleet.Members
	}
	if c.InPlace {
		p.Title = fmt.Sprintf("Point etcd at %s on %s", dataDir, f.Node)
		p.Restore.InPlace = true
		if f.Etcd.WALDir != nil {
			return nil, problem.New("change both volumes of "+f.Etcd.Source.Name()+" by hand", "etcd has a --wal-dir of its own, and where the WAL of that data lies isn't known")
		}
	}
	if p.Restore.Old, err = dataOf(context.Background(), &f.Etcd.EtcdSettings); err != nil {
		return nil, err
	}
	if f.Live != nil {
		p.Restore.OldRevision = f.Live.Revision
	}
	if err := b.build(p); err != nil {
		return nil, err
	}
	p.Summary = b.summary(p)
	p.number()
	return p, nil
}

type builder struct {
	f    *Facts
	info *snapshot.Info
	c    Choices
	run  string
	dir  string
	lay  layout

	facts []Fact // for the summary, besides those of every plan
}

func (b *builder) pod(file *manifest.File) string { return b.f.Kubelet.PodName(file.Pod.Name) }

func (b *builder) path(sub string, file *manifest.File) string {
	return filepath.Join(b.dir, sub, file.Name())
}

func (b *builder) build(p *Plan) error {
	f := b.f
	etcd, api := f.Etcd.pod().File, f.API.File
	etcdPod, apiPod := b.pod(etcd), b.pod(api)
	cri := f.Kubelet.CRIEndpoint

	newEtcd, err := f.Etcd.Source.repoint(b.lay.volumes)
	if err == nil {
		newEtcd, err = b.freshen(newEtcd)
	}
	if err != nil {
		return err
	}
	prepare := &Prepare{RunDir: b.dir}
	prep := func(file *manifest.File, data []byte) {
		prepare.Files = append(prepare.Files, Prepared{
			Manifest: file.Path, Kept: b.path("kept", file), New: b.path("new", file), Old: file.Data, Data: data,
		})
	}
	prep(etcd, newEtcd)
	p.Diffs = append(p.Diffs, Diff{Path: etcd.Path, Text: manifest.Diff(etcd.Path, etcd.Path, etcd.Data, newEtcd)})
	fresh := map[string][]byte{}
	restart := []*manifest.File{api}
	if !b.c.KeepControllers {
		restart = append(restart, f.Controllers...)
	}
	for _, file := range restart {
		data, err := b.freshen(file.Data)
		if err != nil {
			return err
		}
		fresh[file.Path] = data
		prep(file, data)
		p.Diffs = append(p.Diffs, Diff{Path: file.Path, Text: manifest.Diff(file.Path, file.Path, file.Data, data)})
	}

	takeOut := func(file *manifest.File) *TakeOut {
		return &TakeOut{Pod: b.pod(file), File: file.Path, To: b.path("aside", file), SHA256: sum(file.Data), Link: isLink(file.Path)}
	}
	putIn := func(file *manifest.File, data []byte) *PutIn {
		return &PutIn{
			Pod: b.pod(file), From: b.path("new", file), File: file.Path, SHA256: sum(data), Original: sum(file.Data),
			Undone: b.path("undone", file),
		}
	}

	outAPI := takeOut(api)
	outEtcd := takeOut(etcd)
	outAPI.API, outEtcd.Etcd = true, true
	// A node that goes back to how it was isn't ready when it wasn't before.
	if f.APIReady {
		outAPI.Ready = &Expect{API: true, URL: f.Reach.API.ReadyURL, Budget: f.API.StartupBudget}
	}
	if f.APIReady || f.Live != nil {
		outEtcd.Ready = &Expect{Etcd: true, URL: readyURL(f.Etcd), Budget: f.Etcd.pod().StartupBudget}
	}
	if old := p.Restore.Old; outEtcd.Ready != nil {
		if outEtcd.Ready.ClusterID = old.ClusterID; f.Live != nil && old.ClusterID == 0 {
			outEtcd.Ready.ClusterID = f.Live.ClusterID
		}
	}
	inAPI, inEtcd := putIn(api, fresh[api.Path]), putIn(etcd, newEtcd)
	inAPI.API, inEtcd.Etcd = true, true

	gone := &WaitGone{Pod: apiPod, File: api.Path}
	stop := []Action{outAPI, &WaitStopping{Pod: apiPod, File: api.Path, URL: f.Reach.API.ReadyURL}}
	if b.c.Stop == StopGraceful {
		gone.Grace = f.API.GracePeriod
	} else {
		stop = append(stop, &EndPods{Pods: []string{apiPod}, CRI: cri})
	}
	stop = append(stop, gone)
	start := []Action{}
	for _, v := range b.lay.moved() {
		if b.c.InPlace {
			break
		}
		start = append(start, &Rename{What: "the restored data", From: v.staging, To: v.new})
	}
	start = append(start, b.barrier(PhasePlaced)...)
	start = append(start, inEtcd, &WaitStarted{Pod: etcdPod, File: etcd.Path, Fresh: true})
	ready := &WaitEtcd{Pod: etcdPod, URL: readyURL(f.Etcd), Restored: true, File: etcd.Path, Budget: f.Etcd.pod().StartupBudget}
	startAPI := []Action{
		&WaitForgotten{Pods: []string{apiPod}, Files: []string{api.Path}, Fresh: true}, inAPI,
		&WaitStarted{Pod: apiPod, File: api.Path, Fresh: true},
	}
	if b.c.Fleet == nil {
		start = append(start, &WaitData{Pod: etcdPod, Peer: f.Reach.Peer, File: etcd.Path, Budget: f.Etcd.pod().StartupBudget})
		startAPI = append(startAPI, ready)
	} else { // ready takes a quorum
		start = append(append(start, ready), b.barrier(PhaseEtcdReady)...)
	}
	startAPI = append(startAPI, &WaitAPI{Pod: apiPod, URL: f.Reach.API.ReadyURL, File: api.Path, Budget: f.API.StartupBudget})

	staging := []Action{&Adopt{DataDir: f.Etcd.DataDir.Under(p.Restore.DataDir)}}
	stageStep := "adopt"
	if !b.c.InPlace {
		stage, err := b.stage(p.Restore)
		if err != nil {
			return err
		}
		staging[0], stageStep = stage, "stage"
	}
	if f.APIReady && b.c.Stop == StopNow && b.c.Fleet == nil && f.Reach.Metrics.URL != "" {
		staging = append(staging, &WaitRelist{Metrics: f.Reach.Metrics})
	}
	before := []Action{prepare}
	if f.Live != nil {
		before = append(before, saveBefore(f, b.run))
	}
	stop = append(stop, b.barrier(PhaseAPIGone)...)
	b.add(p, "prepare", before...)
	b.add(p, stageStep, append(staging, b.barrier(PhaseStaged)...)...)
	b.add(p, "stop-kube-apiserver", stop...)
	b.add(p, letGoStep)
	b.add(p, "stop-etcd", append([]Action{outEtcd, &WaitForgotten{Pods: []string{etcdPod}, Files: []string{etcd.Path}, Fresh: true}}, b.barrier(PhaseEtcdOut)...)...)
	b.add(p, "start-etcd", start...)
	b.add(p, "start-kube-apiserver", append(startAPI, b.barrier(PhaseAPIReady)...)...)
	if !b.c.KeepControllers && len(f.Controllers) > 0 {
		b.add(p, controllersStep, b.restartControllers(takeOut, putIn, fresh)...)
	}
	if a := b.kubeadm(p); a != nil {
		b.add(p, kubeadmStep, a)
	}
	verify := newVerify(f, b.info)
	later := joinedLater(f, b.info)
	for _, name := range later[:min(len(later), maxLater)] {
		verify.Later = append(verify.Later, trust.Clip(name, 253))
	}
	b.add(p, "verify", append([]Action{verify}, b.barrier(PhaseVerified)...)...)

	letGo := letGoFor(p.Steps, b.c.KubeletRestart, cri)
	*p.step(letGoStep) = *letGo
	return nil
}

// freshen makes a new pod of a manifest. etcd's is one anyway, by its hostPath;
// its annotation is there for kubelet's refusal, which another one ends.
func (b *builder) freshen(data []byte) ([]byte, error) {
	return manifest.Annotate(data, restartedAt, b.f.Time.UTC().Format("2006-01-02T15:04:05Z"))
}

// barrier is nothing on a single node.
func (b *builder) barrier(phase Phase) []Action {
	if b.c.Fleet == nil {
		return nil
	}
	return []Action{&WaitNodes{Phase: phase, Others: b.c.Fleet.others()}}
}

func (b *builder) restartControllers(takeOut func(*manifest.File) *TakeOut, putIn func(*manifest.File, []byte) *PutIn, fresh map[string][]byte) []Action {
	var acts, back []Action
	var pods, files []string
	for _, file := range b.f.Controllers {
		files = append(files, file.Path)
		pods = append(pods, b.pod(file))
		acts = append(acts, takeOut(file))
		// One after the other: a pod that kubelet begins with is known to be this one.
		back = append(back, putIn(file, fresh[file.Path]), &WaitStarted{Pod: b.pod(file), File: file.Path, Fresh: true})
	}
	acts = append(acts, &WaitForgotten{Pods: pods, Files: files, Fresh: true})
	return append(acts, back...)
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
		return nil, fmt.Errorf("look at the data directory: %w", err)
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

func (b *builder) add(p *Plan, id string, actions ...Action) {
	t := restoreTexts[id]
	s := Step{ID: id, Title: t.title, Why: t.why, More: t.more, Outage: t.outage}
	for _, a := range actions {
		s.Actions = append(s.Actions, Planned{Action: a})
	}
	p.Steps = append(p.Steps, s)
}

func (b *builder) summary(p *Plan) []Fact {
	r := p.Restore
	facts := []Fact{
		{"snapshot", fmt.Sprintf("%s, revision %d, %d keys", r.Snapshot, b.info.Revision, b.info.Keys)},
		{"data directory", r.OldDataDir + " → " + r.DataDir},
		{"old data", b.old(r.Old)},
	}
	switch {
	case r.InPlace:
		facts[0] = Fact{"data", fmt.Sprintf("%s: revision %d, %d keys, as it is; etcd goes on writing there", r.DataDir, b.info.Revision, b.info.Keys)}
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
	facts = append(facts, Fact{"kube-apiserver stops", how})
	if fleet := b.c.Fleet; fleet != nil {
		facts = append(facts, Fact{"members", fleet.initialCluster()})
	}
	ctl := "restarted after the restore"
	if b.c.KeepControllers {
		ctl = "left running"
	}
	if apart := b.f.apart(); len(apart) > 0 {
		facts = append(facts, Fact{"not restored", strings.Join(apart, ", ") + ": kube-apiserver keeps them in another etcd, which is left alone"})
	}
	for _, file := range append([]*manifest.File{b.f.Etcd.pod().File, b.f.API.File}, b.f.Controllers...) {
		if isLink(file.Path) {
			facts = append(facts, Fact{"a link", file.Path + ": the link is moved, what it leads to stays as it is"})
		}
	}
	facts = append(append(facts, Fact{"controllers", ctl}), b.facts...)
	return append(facts, Fact{"this run", p.RunDir})
}

// old says what an undo will find.
func (b *builder) old(d *Data) string {
	if d.blank() {
		return fmt.Sprintf("none: %s holds no etcd data; an undo would boot a blank cluster, and is blocked until that is overridden (%s)", d.Dir, checkOldData)
	}
	return "stays where it is, untouched" + b.saved()
}

// saved says in what form the state that is left is kept besides its files.
func (b *builder) saved() string {
	if b.f.Live == nil {
		return "; etcd doesn't answer, so no snapshot of it can be taken"
	}
	return "; a snapshot of it is taken first"
}
