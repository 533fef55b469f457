package steps

import (
	"context"
	"path/filepath"

	"etcd-rewind/trust"
)

// Adopt reads a data directory that etcd is to run on as it is. What it holds
// is what the running etcd is compared with.
type Adopt struct {
	DataDir string `json:"data_dir"` // on the node: what has member in it
}

func (*Adopt) Kind() string { return "adopt" }

func (a *Adopt) Title() string { return "Read whose data is in " + a.DataDir }

func (a *Adopt) Commands() []string {
	return []string{trust.Shell("etcdutl snapshot status %s -w table", filepath.Join(a.DataDir, dbFile))}
}

func (a *Adopt) do(ctx context.Context, r *run) (State, error) {
	if r.mem.Staged != nil {
		return Already, nil
	}
	data, err := r.world.ReadData(ctx, a.DataDir)
	if err != nil {
		return Failed, err
	}
	r.mem.Staged = data
	r.say("%d keys, revision %d, cluster ID %x", data.Keys, data.Revision, data.ClusterID)
	return Done, nil
}

func (a *Adopt) places(v *vetter) { v.path(a.DataDir) }

func (*Adopt) undo() []Action { return nil }
