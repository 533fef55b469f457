package manifest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path"
	"reflect"
	"slices"
	"strings"

	"etcd-rewind/problem"
)

// KubeadmDefaultDataDir is where kubeadm puts etcd's data when its configuration doesn't say (DefaultEtcdDataDir,
// kubeadm/v1beta4/defaults.go).
const KubeadmDefaultDataDir = "/var/lib/etcd"

// MaxClusterConfiguration bounds the bytes of a ClusterConfiguration that is read. Kubeadm's own has some 500, with patches
// and many extra arguments a few thousand; who may write the ConfigMap, or made the snapshot, can put 1.5 MB there.
const MaxClusterConfiguration = 64 << 10

// KubeadmEtcd is what kubeadm's ClusterConfiguration says of etcd. Kubeadm renders etcd's manifest from it, at kubeadm
// upgrade and kubeadm join: dataDir becomes the hostPath, the mountPath and --data-dir at once (GetEtcdPodSpec,
// phases/etcd/local.go).
type KubeadmEtcd struct {
	DataDir  string // etcd.local.dataDir, or kubeadm's default
	External bool   // etcd.external: kubeadm renders no manifest of etcd
	// WALDir is --wal-dir of etcd.local.extraArgs, a path in the container.
	WALDir string
}

// ReadKubeadmEtcd reads the text of a ClusterConfiguration, of any version that kubeadm has had.
func ReadKubeadmEtcd(text []byte) (KubeadmEtcd, error) {
	var c struct {
		Kind string `json:"kind"`
		Etcd struct {
			External json.RawMessage `json:"external"`
			Local    struct {
				DataDir   string          `json:"dataDir"`
				ExtraArgs json.RawMessage `json:"extraArgs"`
			} `json:"local"`
		} `json:"etcd"`
	}
	if len(text) > MaxClusterConfiguration {
		return KubeadmEtcd{}, problem.Coded(CodeTooLarge, "", "ClusterConfiguration has %d bytes", len(text))
	}
	asJSON, err := toJSON(text)
	if err == nil {
		err = json.Unmarshal(asJSON, &c)
	}
	if err != nil {
		return KubeadmEtcd{}, fmt.Errorf("read ClusterConfiguration: %w", err)
	}
	if c.Kind != "" && c.Kind != "ClusterConfiguration" {
		return KubeadmEtcd{}, problem.Coded(CodeInvalid, "", "it is a %q and not a ClusterConfiguration", c.Kind)
	}
	e := KubeadmEtcd{DataDir: c.Etcd.Local.DataDir, External: len(c.Etcd.External) > 0 && !bytes.Equal(c.Etcd.External, []byte("null"))}
	if e.DataDir == "" {
		e.DataDir = KubeadmDefaultDataDir
	}
	// Until v1beta3 a map, since v1beta4 a list.
	var byName map[string]string
	var list []struct{ Name, Value string }
	if json.Unmarshal(c.Etcd.Local.ExtraArgs, &byName) == nil {
		e.WALDir = byName["wal-dir"]
	} else if json.Unmarshal(c.Etcd.Local.ExtraArgs, &list) == nil {
		for _, a := range list {
			if a.Name == "wal-dir" {
				e.WALDir = a.Value
			}
		}
	}
	return e, nil
}

// SetKubeadmDataDir changes etcd.local.dataDir of a ClusterConfiguration's text and no other byte, as [SetHostPath] does
// with a manifest. Where it isn't written it is added to etcd.local.
func SetKubeadmDataDir(text []byte, to string) ([]byte, error) {
	if !path.IsAbs(to) || !printable(to) || slices.Contains(strings.Split(to, "/"), "..") {
		return nil, problem.Coded(CodeArgument, "", "%q can't be etcd's data directory: it must be absolute, without '..' and control characters", to)
	}
	have, err := ReadKubeadmEtcd(text)
	if err != nil {
		return nil, err
	}
	if have.External {
		return nil, problem.Coded(CodeArgument, "", "etcd.external is set: kubeadm renders no manifest of etcd")
	}
	if have.DataDir == to {
		return bytes.Clone(text), nil
	}
	d, err := parseDocument(text)
	if err != nil {
		return nil, err
	}
	etcd, err := d.root.child("etcd", mappingNode)
	if err != nil {
		return nil, err
	}
	local, err := etcd.child("local", mappingNode)
	if err != nil {
		return nil, err
	}
	var out []byte
	const name = "dataDir"
	switch i := local.get(name); {
	case i >= 0:
		out, err = d.replace(local.values[i], to, true)
	case local.get("<<") >= 0:
		err = cannotEdit("etcd.local has a merge (<<), which may hold dataDir", "write it out in full")
	case local.style == flowStyle:
		out, err = d.addToFlow(local, d.key(name)+": "+quote(to))
	default:
		out, err = d.addToBlock(etcd.keys[etcd.get("local")], local, func(indent, eol string) string {
			return indent + name + ": " + quote(to) + eol
		})
	}
	if err != nil {
		return nil, err
	}
	return verifiedTree(text, out, "etcd", "local", name, to)
}

// verifiedTree gives the second text back if it differs from the first in nothing but the value at a place, where ends in.
func verifiedTree(before, after []byte, where ...any) ([]byte, error) {
	differs := func(what string) ([]byte, error) {
		return nil, cannotEdit("an edit would change more than was meant ("+what+")", "")
	}
	want, err := decodeTree(before)
	if err != nil {
		return nil, err
	}
	got, err := decodeTree(after)
	if err != nil {
		return differs("the result can't be read: " + err.Error())
	}
	if err := set(want, where[:len(where)-1], where[len(where)-1]); err != nil {
		return differs(err.Error())
	}
	if !reflect.DeepEqual(want, got) {
		return differs("the result has other fields")
	}
	return after, nil
}
