package practice

import (
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	bolt "go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"

	"etcd-rewind/manifest"
)

// Snapshots that are built in, by the order in which e2e/seeds has taken them
// of one real cluster.
const (
	SnapshotBefore    = "before"    // namespaces payments and shop
	SnapshotAfter     = "after"     // shop deleted, payments changed, after-the-snapshot created
	SnapshotEncrypted = "encrypted" // one Secret encrypted at rest
)

// Objects of the first snapshot, by their paths in the API.
const (
	pathShop   = "/api/v1/namespaces/shop"
	pathPay    = "/api/v1/namespaces/payments"
	pathConfig = "/api/v1/namespaces/payments/configmaps/app"
	pathWidget = "/apis/example.com/v1/namespaces/payments/widgets/w1"
)

// pathKubeadm is the ConfigMap that kubeadm renders etcd's manifest from.
const pathKubeadm = "/api/v1/namespaces/kube-system/configmaps/kubeadm-config"

// SeedObjects are the objects of the first snapshot whose UIDs the grader
// knows, by their paths in the API.
func SeedObjects() []string { return []string{pathShop, pathPay, pathConfig, pathWidget} }

// seedUIDs are theirs.
var seedUIDs = sync.OnceValue(func() map[string]string {
	uids := map[string]string{}
	raw, err := files.ReadFile("files/uids.json")
	if err == nil {
		err = json.Unmarshal(raw, &uids)
	}
	if err != nil {
		panic(err)
	}
	return uids
})

// WriteSnapshot writes a built-in snapshot to a new file, as this node's etcd
// would have taken it: kubeadm-config names the directory that etcd.yaml does.
func (n *Node) WriteSnapshot(name, path string) (err error) {
	f, err := files.Open("files/" + name + ".db.gz")
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	z, err := gzip.NewReader(f)
	if err != nil {
		return err
	}
	raw, err := io.ReadAll(z)
	if err != nil {
		return err
	}
	out, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = out.Write(raw[:len(raw)-sha256.Size])
	if err := errors.Join(err, out.Close()); err != nil {
		return err
	}
	if err := setSeedDataDir(path, n.named.root.Path("var/lib/etcd")); err != nil {
		return fmt.Errorf("kubeadm-config in the snapshot %s: %w", name, err)
	}
	return appendHash(path)
}

const kubeadmConfigKey = "/registry/configmaps/kube-system/kubeadm-config"

// setSeedDataDir changes etcd.local.dataDir in a database that isn't in use.
func setSeedDataDir(path, dir string) (err error) {
	db, err := bolt.Open(path, 0o600, &bolt.Options{NoFreelistSync: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return db.Update(func(tx *bolt.Tx) error {
		keys := tx.Bucket([]byte("key"))
		if keys == nil {
			return errors.New("there are no keys")
		}
		changed := map[string][]byte{}
		err := keys.ForEach(func(revision, value []byte) error {
			var kv mvccpb.KeyValue
			if err := proto.Unmarshal(value, &kv); err != nil || string(kv.Key) != kubeadmConfigKey {
				return err
			}
			o, err := decode(kubeadmConfigKey, kv.Value)
			if err != nil {
				return err
			}
			m, ok := o.(*corev1.ConfigMap)
			if !ok {
				return fmt.Errorf("it is a %T", o)
			}
			text, err := manifest.SetKubeadmDataDir([]byte(m.Data["ClusterConfiguration"]), dir)
			if err != nil {
				return err
			}
			m.Data["ClusterConfiguration"] = string(text)
			if kv.Value, err = encode(m); err != nil {
				return err
			}
			changed[string(revision)], err = proto.Marshal(&kv)
			return err
		})
		for revision, value := range changed {
			err = errors.Join(err, keys.Put([]byte(revision), value))
		}
		if err == nil && len(changed) == 0 {
			err = errors.New("it is not there")
		}
		return err
	})
}

// appendHash makes a snapshot of a database: etcd's server sends its sha256
// behind it.
func appendHash(path string) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(raw)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(sum[:])
	return errors.Join(err, f.Close())
}
