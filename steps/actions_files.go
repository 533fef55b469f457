package steps

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
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

// Prepare writes everything the run needs into its directory while the cluster
// still runs: a copy of each manifest as it is, and the manifests to come.
type Prepare struct {
	RunDir string     `json:"run_dir"`
	Files  []Prepared `json:"files"`
}

// Prepared is a manifest that will change.
type Prepared struct {
	Manifest string `json:"manifest"` // in kubelet's directory, or a file with a unit's settings
	Settings bool   `json:"settings,omitempty"`
	Kept     string `json:"kept"` // copy of it as it was
	New      string `json:"new"`  // what will be put in
	Old      []byte `json:"old"`
	Data     []byte `json:"data"`
}

func (*Prepare) Kind() string { return "prepare" }

func (a *Prepare) Title() string {
	switch {
	case len(a.Files) == 0:
		return "Make the directory of this run"
	case slices.ContainsFunc(a.Files, func(f Prepared) bool { return f.Settings }):
		return "Keep copies of the files, prepare the new ones"
	}
	return "Keep copies of the manifests, prepare the new ones"
}

func (a *Prepare) Commands() []string {
	cmds := []string{trust.Shell("mkdir -p -m 700 %s/{kept,new,aside,undone}", a.RunDir)}
	for _, f := range a.Files {
		cmds = append(cmds, trust.Shell("cp -a %s %s", f.Manifest, f.Kept))
		cmds = append(cmds, trust.Shell("cp -a %s %s", f.Manifest, f.New))
		if sed := sedFor(f.Old, f.Data, f.New); sed != "" {
			cmds = append(cmds, sed)
		}
	}
	return cmds
}

func (a *Prepare) do(_ context.Context, r *run) (State, error) {
	// All of them now: a disk that fills up must not block the way back.
	for _, dir := range ownDirs {
		if err := ownSubdir(filepath.Join(a.RunDir, dir)); err != nil {
			return Failed, err
		}
	}
	for _, f := range a.Files {
		now, err := os.ReadFile(f.Manifest)
		if err != nil {
			return Failed, err
		}
		if !bytes.Equal(now, f.Old) {
			return Failed, changedSince(f.Manifest)
		}
		for path, data := range map[string][]byte{f.Kept: f.Old, f.New: f.Data} {
			if err := writeOnce(path, data, f.Manifest); err != nil {
				return Failed, err
			}
			r.point("in the middle", r.action.ID)
		}
	}
	return Done, nil
}

func (a *Prepare) places(v *vetter) {
	if a.RunDir != v.runDir {
		v.refuse("the run directory", a.RunDir)
	}
	for _, f := range a.Files {
		if f.Settings {
			v.path(f.Manifest)
		} else {
			v.manifest(f.Manifest)
		}
		v.own(f.Kept, f.New)
	}
}

func (*Prepare) undo() []Action { return nil }

// writeOnce writes a file of the run's own. A half-written one of an earlier
// try is replaced: nobody but the run has it.
func writeOnce(path string, data []byte, like string) error {
	if _, err := os.Lstat(path); err == nil {
		if have, err := os.ReadFile(path); err == nil && bytes.Equal(have, data) && realFile(path) == nil {
			return nil
		}
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	return manifest.WriteAside(path, data, like)
}

// Stage restores the snapshot into a directory beside the new data directory,
// in a process of its own, while the cluster still runs.
type Stage struct {
	Request snapshot.RestoreRequest `json:"request"`
	// Roots are the directories that become hostPaths: what is restored lies
	// in them, or is them.
	Roots []Root `json:"roots"`
}

// Root is a directory that will be put in place of another.
type Root struct {
	Staging string `json:"staging"`
	Old     string `json:"old"` // gives owner, mode and SELinux label
}

func (*Stage) Kind() string { return "stage" }

func (a *Stage) Title() string { return "Restore the snapshot into " + a.Request.DataDir }

func (a *Stage) Commands() []string {
	q := a.Request
	cmd := trust.Shell("etcdutl snapshot restore %s --data-dir %s --name %s --initial-advertise-peer-urls %s --initial-cluster %s --initial-cluster-token %s",
		q.Snapshot, q.DataDir, q.Name, strings.Join(q.PeerURLs, ","), q.InitialCluster, q.Token)
	if q.WALDir != "" {
		cmd = trust.Shell("%s --wal-dir %s", trust.Raw(cmd), q.WALDir)
	}
	if q.SkipHashCheck {
		cmd += " --skip-hash-check"
	}
	if q.RevisionBump > 0 {
		cmd = trust.Shell("%s --bump-revision %d --mark-compacted", trust.Raw(cmd), q.RevisionBump)
	}
	var cmds []string
	for _, root := range a.parents() {
		cmds = append(cmds, trust.Shell("mkdir -p %s", root))
	}
	cmds = append(cmds, cmd)
	for _, root := range a.Roots {
		cmds = append(cmds, trust.Shell("chown -R --reference=%[1]s %[2]s && chmod --reference=%[1]s %[2]s", root.Old, root.Staging))
		if q.SELinuxLabel != "" {
			cmds = append(cmds, trust.Shell("chcon -R %s %s", q.SELinuxLabel, root.Staging))
		}
	}
	return cmds
}

// parents are the directories that have to exist before etcdutl writes below
// them: a data directory may lie deeper than the volume's hostPath.
func (a *Stage) parents() []string {
	var dirs []string
	for _, target := range []string{a.Request.DataDir, a.Request.WALDir} {
		for _, root := range a.Roots {
			if up := filepath.Dir(target); target != "" && target != root.Staging && trust.Within(root.Staging, up) && !slices.Contains(dirs, up) {
				dirs = append(dirs, up)
			}
		}
	}
	return dirs
}

func (a *Stage) do(ctx context.Context, r *run) (State, error) {
	if r.mem.Staged != nil {
		return Already, nil
	}
	for _, root := range a.Roots {
		// What an earlier try of this very run left half-built is no use to
		// anybody; nobody else has a directory of this name.
		if strings.Contains(filepath.Base(root.Staging), r.plan.Run) {
			if err := os.RemoveAll(root.Staging); err != nil {
				return Failed, err
			}
		}
		if err := a.makeParents(root); err != nil {
			return Failed, err
		}
	}
	r.saveBeside()
	req := a.Request
	from, err := a.from(ctx, r)
	if err != nil {
		return Failed, err
	}
	if from != nil {
		req.Snapshot = from.Path
		if r.saving != nil { // a file that came slowly doesn't make the disk slow
			r.saving.spare = min(from.Took, 2*time.Minute)
		}
	}
	staged, err := r.world.Restore(ctx, req, from, func(p snapshot.Progress) {
		r.progress(p)
	})
	if err != nil {
		return Failed, err
	}
	// A snapshot that was unpacked by a process which was killed since isn't
	// needed any more. That it stays is no reason to stop.
	_ = snapshot.RemoveStale(filepath.Dir(a.Request.Snapshot))
	r.point("in the middle", r.action.ID)
	r.mem.Staged = staged
	r.say("%d keys, revision %d, cluster ID %x", staged.Keys, staged.Revision, staged.ClusterID)
	return Done, nil
}

// from is the staging file of the snapshot; nil where it is a file of the user's.
func (a *Stage) from(ctx context.Context, r *run) (*snapshot.Staged, error) {
	if r.engine.staged == nil {
		return nil, nil
	}
	return r.engine.staged(ctx, r.plan.Restore.Snapshot, a.Request.Snapshot, func(done, total int64) {
		r.progress(snapshot.Progress{Phase: "unpack", Done: done, Total: total})
	})
}

func (a *Stage) makeParents(root Root) error {
	for _, dir := range a.parents() {
		if !trust.Within(root.Staging, dir) {
			continue
		}
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		if err := realDir(root.Staging); err != nil {
			return err
		}
		for d := dir; trust.Within(root.Staging, d); d = filepath.Dir(d) {
			if err := likeOld(d, root.Old); err != nil {
				return err
			}
		}
	}
	return nil
}

func likeOld(dir, old string) error {
	uid, gid, mode, _, err := node.Owner(old)
	if err != nil {
		return err
	}
	if err := os.Lchown(dir, uid, gid); err != nil {
		return err
	}
	if err := os.Chmod(dir, mode.Perm()); err != nil {
		return err
	}
	return manifest.KeepLabel(old, dir)
}

func (a *Stage) places(v *vetter) {
	for _, root := range a.Roots {
		v.staged(root.Staging)
	}
	v.staged(a.Request.DataDir)
	if a.Request.WALDir != "" {
		v.staged(a.Request.WALDir)
	}
}

func (*Stage) undo() []Action { return nil }

// TakeOut moves a manifest out of kubelet's directory, so that kubelet ends
// its pod.
type TakeOut struct {
	Pod  string `json:"pod"`
	File string `json:"file"` // in kubelet's directory
	To   string `json:"to"`   // where it is kept
	// SHA256 of the file as it was read; another content is not touched.
	// Empty takes whatever is there.
	SHA256 string `json:"sha256,omitempty"`
	// API says that the API goes away with it.
	API  bool `json:"api,omitempty"`
	Etcd bool `json:"etcd,omitempty"`
	// Link says that it was a symbolic link when the run was planned. Then the
	// link is moved; what it leads to stays where it is.
	Link bool `json:"link,omitempty"`
	// Ready is what to wait for when the manifest is moved back; nil for an API
	// server or an etcd that wasn't ready before and won't be then.
	Ready *Expect `json:"ready,omitempty"`
}

func (*TakeOut) Kind() string { return "take-out" }

func (a *TakeOut) Title() string { return "Move " + filepath.Base(a.File) + " aside" }

func (a *TakeOut) Commands() []string { return []string{mv(a.File, a.To)} }

func (a *TakeOut) do(_ context.Context, r *run) (State, error) {
	data, err := os.ReadFile(a.File)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Lstat(a.To); err == nil {
			return Already, nil
		}
		return Failed, problem.New("somebody else moved it; move it back or undo this run", "%s is gone, and it isn't at %s", a.File, a.To)
	}
	if err != nil {
		return Failed, err
	}
	if a.SHA256 != "" && (sum(data) != a.SHA256 || !a.Link && realFile(a.File) != nil) {
		return Failed, changedSince(a.File)
	}
	if err := ownSubdir(filepath.Dir(a.To)); err != nil {
		return Failed, err
	}
	if a.API {
		r.apiGoesAway(a.Ready != nil || r.plan.Kind != KindRestore)
	}
	r.runsOn(a.Pod)
	if err := manifest.Move(a.File, a.To); err != nil {
		return Failed, err
	}
	return Done, nil
}

func (a *TakeOut) stops() program { return program{podRole(a.Etcd, a.API), a.File} }

func (a *TakeOut) before() *Expect { return a.Ready }

func (a *TakeOut) podOf() (pod, file string) { return a.Pod, a.File }

func (a *TakeOut) places(v *vetter) {
	v.pod(a.Pod)
	v.manifest(a.File)
	v.own(a.To)
}

// undo puts the manifest back once kubelet has finished with the pod, and
// removes what is left of its containers first: kubelet's crash back-off needs
// an ended container to count from (doBackOff, kuberuntime_manager.go 1.34),
// and the manifest has to come back byte for byte, so its UID can't change.
func (a *TakeOut) undo() []Action {
	if data, err := os.ReadFile(a.File); err == nil && (a.SHA256 == "" || sum(data) == a.SHA256) {
		return nil
	}
	acts := goneActions(a.Pod, a.File, a.API)
	acts = append(
		acts,
		&ForgetPods{Pods: []string{a.Pod}},
		&PutIn{Pod: a.Pod, From: a.To, File: a.File, SHA256: a.SHA256, API: a.API, Etcd: a.Etcd, Link: a.Link},
	)
	switch {
	case a.Ready != nil:
		acts = append(acts, &WaitStarted{Pod: a.Pod, File: a.File}, a.Ready.wait(processRef{pod: a.Pod}))
	case !a.API && !a.Etcd:
		acts = append(acts, &WaitStarted{Pod: a.Pod, File: a.File})
	}
	return acts
}

// PutIn puts a manifest into kubelet's directory by one rename.
type PutIn struct {
	Pod  string `json:"pod"`
	From string `json:"from"`
	File string `json:"file"` // in kubelet's directory
	// SHA256 of what is put in.
	SHA256 string `json:"sha256"`
	// Original is the SHA256 of the manifest that was there before the run;
	// undo leaves that one alone.
	Original string `json:"original,omitempty"`
	// Undone is where undo moves it to.
	Undone string `json:"undone,omitempty"`
	API    bool   `json:"api,omitempty"`
	Etcd   bool   `json:"etcd,omitempty"`
	Link   bool   `json:"link,omitempty"` // a symbolic link goes back as it was
}

func (*PutIn) Kind() string { return "put-in" }

func (a *PutIn) Title() string { return "Move " + filepath.Base(a.File) + " in" }

func (a *PutIn) Commands() []string { return []string{mv(a.From, a.File)} }

func (a *PutIn) do(ctx context.Context, r *run) (State, error) {
	if data, err := os.ReadFile(a.File); err == nil {
		if sum(data) == a.SHA256 && (a.Link || realFile(a.File) == nil) {
			return Already, nil
		}
		return Failed, problem.New("this run doesn't replace it: inspect it, move it out of the directory, then retry", "somebody else put a manifest at %s", a.File)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return Failed, err
	}
	if err := a.fits(); err != nil {
		return Failed, err
	}
	if a.Etcd && r.plan.target != nil {
		// Minutes may have gone by since it was proven: a disk was unmounted, a
		// directory cleaned up. etcd would start on nothing.
		if err := r.plan.proven(context.WithoutCancel(ctx)); err != nil {
			return Failed, err
		}
	}
	r.rememberBegun(a.Pod)
	r.runsOn(a.Pod)
	delete(r.halted, a.Pod)
	if err := manifest.Move(a.From, a.File); err != nil {
		return Failed, err
	}
	return Done, nil
}

// fits says whether what lies ready is what was meant.
func (a *PutIn) fits() error {
	if a.Link {
		return nil // what it leads to is not this run's, and a relative link leads nowhere from aside
	}
	data, err := os.ReadFile(a.From)
	switch {
	case err != nil:
		return err
	case sum(data) != a.SHA256:
		return changedSince(a.From)
	}
	return realFile(a.From)
}

func (a *PutIn) starts() program { return program{podRole(a.Etcd, a.API), a.File} }

func (a *PutIn) podOf() (pod, file string) { return a.Pod, a.File }

func (a *PutIn) placed() placed { return placed{a.File, a.Original, a.SHA256, a.Undone} }

func (a *PutIn) places(v *vetter) {
	v.pod(a.Pod)
	v.manifest(a.File)
	v.own(a.From)
	if a.Undone != "" {
		v.own(a.Undone)
	}
}

func (a *PutIn) undo() []Action {
	var acts []Action
	switch data, err := os.ReadFile(a.File); {
	case err == nil && sum(data) == a.Original:
		return nil
	case err == nil:
		// As it is when the plan is shown: what somebody puts there after that
		// isn't moved.
		acts = append(acts, &TakeOut{Pod: a.Pod, File: a.File, To: a.Undone, SHA256: sum(data), Link: isLink(a.File), API: a.API, Etcd: a.Etcd})
	}
	// Forgotten and not just gone: a pod whose manifest was in for a moment only
	// has no containers yet, and gets them.
	gone := goneActions(a.Pod, a.File, a.API)
	if w, ok := gone[len(gone)-1].(*WaitForgotten); ok {
		w.Later = !a.Etcd // their old manifests go in when etcd runs again
		w.Lists = true
	}
	return append(acts, gone...)
}

// Rename moves a directory on one file system.
type Rename struct {
	What string `json:"what"` // "the restored data"
	From string `json:"from"`
	To   string `json:"to"`
}

func (*Rename) Kind() string { return "rename" }

func (a *Rename) Title() string { return fmt.Sprintf("Rename %s to %s", a.What, a.To) }

func (a *Rename) Commands() []string { return []string{mv(a.From, a.To)} }

func (a *Rename) do(_ context.Context, _ *run) (State, error) {
	_, errFrom := os.Lstat(a.From)
	_, errTo := os.Lstat(a.To)
	if errors.Is(errFrom, fs.ErrNotExist) && errTo == nil {
		return Already, realDir(a.To)
	}
	if err := realDir(a.From); err != nil {
		return Failed, err
	}
	if err := manifest.Move(a.From, a.To); err != nil {
		return Failed, err
	}
	return Done, nil
}

func (a *Rename) moved() bool {
	_, err := os.Lstat(a.From)
	return errors.Is(err, fs.ErrNotExist)
}

func (a *Rename) where(path string) string { return dataMoved(path, a.From, a.To) }

func (a *Rename) places(v *vetter) { v.renamed(a.From, a.To) }

func (a *Rename) undo() []Action {
	if _, err := os.Lstat(a.To); err != nil {
		return nil
	}
	if _, err := os.Lstat(a.From); err == nil {
		return nil
	}
	return []Action{&Rename{What: a.What, From: a.To, To: a.From}}
}

func changedSince(path string) error {
	return problem.New("somebody else edited it; nothing was done to it. Start again to plan with what is there now", "%s is not what it was when this run was planned", path)
}

func sum(data []byte) string {
	h := sha256.Sum256(data)
	return hex.EncodeToString(h[:])
}
