package steps

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"etcd-rewind/manifest"
	"etcd-rewind/node"
	"etcd-rewind/trust"
)

// kubeadm upgrade, kubeadm join and kubeadm init phase etcd local render etcd's
// manifest from etcd.local.dataDir in the ConfigMap kube-system/kubeadm-config
// (GetEtcdPodSpec, kubeadm/app/phases/etcd/local.go; kubernetes#94395). The
// ConfigMap comes back with the snapshot and names the old directory: the next
// upgrade would drop the restore's hostPath and start etcd on the old data.
var kubeadmConfigMap, kubeadmKey = node.Kubeadm.ConfigMap, node.Kubeadm.ConfigMapKey

// SetKubeadmConfig writes the new data directory into kubeadm-config. It never
// fails a run: the restore is over, and what is left to do is named.
type SetKubeadmConfig struct {
	DataDir string `json:"data_dir"` // where etcd's data now lies on the node
	// Was are what the ConfigMap may hold before: what the snapshot says, and
	// where this node's data was. In a fleet anything else is another node's.
	Was   []string `json:"was,omitempty"`
	Fleet bool     `json:"fleet,omitempty"`
	// APIBefore says that the API server was ready before the run, so that it is
	// asked again after an undo.
	APIBefore bool   `json:"api_before,omitempty"`
	OldDir    string `json:"old_dir"` // where the data was
}

func (*SetKubeadmConfig) Kind() string { return "kubeadm-config" }

func (a *SetKubeadmConfig) Title() string {
	return "Set etcd.local.dataDir in kubeadm-config to " + a.DataDir
}

func (a *SetKubeadmConfig) Commands() []string { return []string{SetDataDirCommand(a.DataDir)} }

// SetDataDirCommand changes kubeadm-config by hand. What kubectl gets has the
// resourceVersion in it, so a change by somebody else meanwhile is noticed.
func SetDataDirCommand(to string) string {
	return trust.Shell("kubectl -n %s get configmap %s -o yaml | sed %s | kubectl replace -f -", namespace, kubeadmConfigMap, `s|^\( *dataDir: \).*|\1`+sedText(to)+"|")
}

// sedText is a path in a sed command whose separator is |.
func sedText(path string) string {
	return strings.NewReplacer(`\`, `\\`, `|`, `\|`, `&`, `\&`).Replace(path)
}

func (*SetKubeadmConfig) limit(p pace) time.Duration { return p.verify }

func (a *SetKubeadmConfig) do(ctx context.Context, r *run) (State, error) {
	state, err := r.poll(ctx, a.limit(r.pace), r.pace.lookConfig, func(ctx context.Context) (sight, error) {
		ask, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		read, have, err := readKubeadm(ask, r.world)
		if err != nil {
			return sight{}, err
		}
		s := sight{seen: []Sighting{{What: "etcd.local.dataDir", Is: have.DataDir, OK: have.DataDir == a.DataDir}}}
		if s.ok = s.seen[0].OK; s.ok {
			return s, nil
		}
		text, err := a.edit(read.Data[kubeadmKey], have)
		if err != nil {
			return s, stuck("", "it can't be changed: %w", err)
		}
		if err := r.world.SetKubeadmConfig(ask, read, string(text)); err != nil {
			return s, unlessRefused(err)
		}
		r.point("in the middle", r.action.ID)
		return s, nil // the next look sees it
	}, func(s sight) error {
		if len(s.seen) > 0 {
			return stuck("", "it can't be written: %s", s.seen[0].Is)
		}
		return stuck("", "it can't be written")
	})
	if errors.Is(err, errStopped) {
		return state, err
	}
	if err != nil {
		cause := err.Error()
		r.note(kubeadmConfigMap, "does not name %s: %s. A kubeadm upgrade would start etcd on other data; before one: %s", a.DataDir, cause, SetDataDirCommand(a.DataDir))
		r.say("not written: %s; the restore itself is done", cause)
		return Warned, nil
	}
	r.note(kubeadmConfigMap, "etcd.local.dataDir is %s, so kubeadm upgrade keeps etcd on it", a.DataDir)
	return state, nil
}

// edit gives the text with the new directory, or says why that is not for this
// program to write.
func (a *SetKubeadmConfig) edit(text string, have manifest.KubeadmEtcd) ([]byte, error) {
	if a.Fleet && len(a.Was) > 0 && !oneOf(have.DataDir, a.Was) {
		return nil, stuck("", "it names %s, written by another node: the nodes' data directories differ, and kubeadm-config has one for all", have.DataDir)
	}
	if have.WALDir != "" {
		return nil, stuck("", "it also sets wal-dir to %s: set both by hand", have.WALDir)
	}
	return manifest.SetKubeadmDataDir([]byte(text), a.DataDir)
}

func oneOf(dir string, dirs []string) bool {
	for _, d := range dirs {
		if samePath(d, dir) {
			return true
		}
	}
	return false
}

func (a *SetKubeadmConfig) places(v *vetter) { v.path(a.DataDir, a.OldDir) }

// undo only looks: etcd's old data has the ConfigMap of before, and the
// restored data keeps its own.
func (a *SetKubeadmConfig) undo() []Action {
	if !a.APIBefore {
		return nil
	}
	return []Action{&SeeKubeadmConfig{DataDir: a.OldDir}}
}

// SeeKubeadmConfig looks whether kubeadm-config names the directory that etcd
// is back on. It never fails a run.
type SeeKubeadmConfig struct {
	DataDir string `json:"data_dir"`
}

func (*SeeKubeadmConfig) Kind() string { return "see-kubeadm-config" }

func (a *SeeKubeadmConfig) Title() string { return "Compare kubeadm-config with " + a.DataDir }

func (a *SeeKubeadmConfig) Commands() []string {
	return []string{trust.Shell("kubectl -n %s get configmap %s -o yaml | grep dataDir:   %s", namespace, kubeadmConfigMap, trust.Raw(trust.Comment(a.DataDir+"?")))}
}

func (*SeeKubeadmConfig) limit(p pace) time.Duration { return p.verify }

func (a *SeeKubeadmConfig) do(ctx context.Context, r *run) (State, error) {
	var have manifest.KubeadmEtcd
	state, err := r.poll(ctx, a.limit(r.pace), r.pace.lookConfig, func(ctx context.Context) (s sight, err error) {
		ask, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		if _, have, err = readKubeadm(ask, r.world); err != nil {
			return sight{}, err
		}
		return sight{ok: true, seen: []Sighting{{What: "etcd.local.dataDir", Is: have.DataDir, OK: samePath(have.DataDir, a.DataDir)}}}, nil
	}, func(sight) error { return stuck("", "the API server doesn't answer") })
	switch {
	case errors.Is(err, errStopped):
		return state, err
	case errors.Is(err, node.ErrNotFound):
		return Done, nil // it was made since, in the restored data
	case err != nil:
		cause := err.Error()
		r.note(kubeadmConfigMap, "could not be read: %s. It has to name %s before a kubeadm upgrade", cause, a.DataDir)
		return Warned, nil
	case !samePath(have.DataDir, a.DataDir):
		r.note(kubeadmConfigMap, "names %s and etcd runs on %s, as before the run. Before a kubeadm upgrade: %s", have.DataDir, a.DataDir, SetDataDirCommand(a.DataDir))
		return Warned, nil
	}
	r.note(kubeadmConfigMap, "etcd.local.dataDir is %s again, from the old data", a.DataDir)
	return Done, nil
}

func (a *SeeKubeadmConfig) places(v *vetter) { v.path(a.DataDir) }

func (*SeeKubeadmConfig) undo() []Action { return nil }

// readKubeadm reads the ConfigMap; what a second try can't change is a trouble.
func readKubeadm(ctx context.Context, w world) (*node.ConfigMap, manifest.KubeadmEtcd, error) {
	read, err := w.KubeadmConfig(ctx)
	if err != nil {
		return nil, manifest.KubeadmEtcd{}, unlessRefused(err)
	}
	have, err := manifest.ReadKubeadmEtcd([]byte(read.Data[kubeadmKey]))
	switch {
	case err != nil:
		return nil, have, stuck("", "its %s can't be read: %w", kubeadmKey, err)
	case have.External:
		return nil, have, stuck("", "it declares etcd external")
	}
	return read, have, nil
}

// unlessRefused makes a trouble, which ends a wait, of what asking again doesn't
// change.
func unlessRefused(err error) error {
	var refused *node.RefusedError
	if errors.As(err, &refused) {
		return stuck("", "the API server refuses: %w", err)
	}
	return err
}

// kubeadm plans what is to be written into the snapshot's kubeadm-config; nil
// where there is none, or kubeadm doesn't render etcd's manifest from it.
func (b *builder) kubeadm(p *Plan) *SetKubeadmConfig {
	e, config := b.f.Etcd, b.info.Kubeadm
	if config == nil || e == nil {
		return nil
	}
	a := &SetKubeadmConfig{
		DataDir: b.dataPath(), OldDir: e.DataDir.Path,
		Fleet: b.c.Fleet != nil, APIBefore: b.f.APIReady,
	}
	fact := func(format string, args ...any) {
		b.facts = append(b.facts, Fact{kubeadmConfigMap, fmt.Sprintf(format, args...)})
	}
	a.Was = []string{a.OldDir}
	if config.Unreadable != "" {
		fact("etcd.local.dataDir → %s, once the API is back (in the snapshot it is %s)", a.DataDir, config.Unreadable)
		return a
	}
	text := []byte(config.ClusterConfiguration)
	have, err := manifest.ReadKubeadmEtcd(text)
	if err == nil && have.External {
		return nil
	}
	var edited []byte
	if err == nil {
		if have.DataDir != a.OldDir {
			a.Was = append(a.Was, have.DataDir)
		}
		edited, err = a.edit(config.ClusterConfiguration, have)
	}
	switch {
	case err != nil:
		cause := err.Error()
		fact("stays as it is (%s): set etcd.local.dataDir to %s by hand before a kubeadm upgrade", cause, a.DataDir)
	case bytes.Equal(text, edited) && b.lay.swap:
		return nil // as it was, and as it stays
	case bytes.Equal(text, edited):
		fact("etcd.local.dataDir is %s already", a.DataDir)
	default:
		fact("etcd.local.dataDir %s → %s, so that kubeadm upgrade keeps etcd on it", have.DataDir, a.DataDir)
		name := "ConfigMap " + namespace + "/" + kubeadmConfigMap
		p.Diffs = append(p.Diffs, Diff{Path: name, Text: manifest.Diff(name, name, text, edited)})
	}
	return a
}
