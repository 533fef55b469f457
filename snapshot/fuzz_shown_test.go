package snapshot_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	bolt "go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"etcd-rewind/snapshot"
	"etcd-rewind/ui/print"
	"etcd-rewind/ui/text"
)

// keysOf are what a name can be in.
var keysOf = []string{
	"%s", "/registry/namespaces/%s", "/registry/minions/%s", "/registry/masterleases/%s", "/registry/servicecidrs/%s",
	"/registry/pods/%s/p", "/registry/pods/shop/%s", "/registry/deployments/shop/%s", "/registry/%s/a/b", "/registry/example.com/%s/a/b",
	"/registry/apiextensions.k8s.io/customresourcedefinitions/%s", "/registry/secrets/%s/s", "/%s/namespaces/kube-system",
	"/registry/services/specs/default/%s", "/registry/configmaps/kube-system/kubeadm-config%s",
}

// valueOf is a value with s in as many places as there are.
func valueOf(kind byte, s string) []byte {
	quoted, _ := json.Marshal(s)
	stored := func(apiVersion, kind string, o interface{ Marshal() ([]byte, error) }) []byte {
		raw, err := o.Marshal()
		u := runtime.Unknown{TypeMeta: runtime.TypeMeta{APIVersion: apiVersion, Kind: kind}, Raw: raw}
		b, uerr := u.Marshal()
		if errors.Join(err, uerr) != nil {
			return nil
		}
		return append([]byte("k8s\x00"), b...)
	}
	meta := metav1.ObjectMeta{Name: s, Namespace: s, UID: types.UID(s), Annotations: map[string]string{s: s}, Labels: map[string]string{s: s}}
	switch kind % 9 {
	case 0:
		return []byte(s)
	case 1:
		return fmt.Appendf(nil, `{"kind":%s,"apiVersion":%s,"metadata":{"name":%s,"uid":%s},"spec":{%s:%s,"cidrs":[%s]}}`, quoted, quoted, quoted, quoted, quoted, quoted, quoted)
	case 2:
		return []byte("k8s:enc:" + s + ":v1:" + s + ":")
	case 3:
		return stored("v1", "Namespace", &corev1.Namespace{ObjectMeta: meta})
	case 4:
		return stored("v1", "Node", &corev1.Node{ObjectMeta: meta})
	case 5:
		d := &appsv1.Deployment{ObjectMeta: meta}
		d.Spec.Template.Spec = corev1.PodSpec{NodeName: s, ServiceAccountName: s, Containers: []corev1.Container{{Name: s, Image: s, Args: []string{s}}}}
		return stored("apps/v1", "Deployment", d)
	case 6:
		return stored("v1", "Service", &corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{ClusterIP: s, Type: corev1.ServiceType(s)}})
	case 7:
		return stored(s, s, &corev1.Namespace{ObjectMeta: meta})
	}
	return stored("v1", "Pod", &corev1.Pod{ObjectMeta: meta, Spec: corev1.PodSpec{NodeName: s}})
}

// written makes a snapshot of the records that data describes: each is a byte
// for the key, one for the value, one for the length of the text in both.
func written(path string, data []byte) error {
	db, err := bolt.Open(path+".bolt", 0o600, &bolt.Options{NoSync: true, NoFreelistSync: true, NoGrowSync: true, PageSize: 4096})
	if err != nil {
		return err
	}
	var out bytes.Buffer
	err = db.Update(func(tx *bolt.Tx) error {
		_, err := tx.CreateBucket([]byte("meta"))
		members, merr := tx.CreateBucket([]byte("members"))
		b, kerr := tx.CreateBucket([]byte("key"))
		if err := errors.Join(err, merr, kerr); err != nil {
			return err
		}
		rev := int64(1)
		put := func(key string, value []byte) error {
			rev++
			k := binary.BigEndian.AppendUint64(nil, uint64(rev))
			k = append(k, "_\x00\x00\x00\x00\x00\x00\x00\x00"...)
			v, err := proto.Marshal(&mvccpb.KeyValue{Key: []byte(key), Value: value, CreateRevision: rev, ModRevision: rev, Version: 1})
			return errors.Join(err, b.Put(k, v))
		}
		err = put("/registry/namespaces/kube-system", valueOf(3, "one"))
		for len(data) >= 3 && err == nil {
			n := min(int(data[2]), len(data)-3)
			s := string(data[3 : 3+n])
			err = put(fmt.Sprintf(keysOf[int(data[0])%len(keysOf)], s), valueOf(data[1], s))
			if data[0] >= 250 && err == nil {
				quoted, _ := json.Marshal(s)
				err = members.Put(fmt.Appendf(nil, "%x", rev), fmt.Appendf(nil, `{"id":%d,"name":%s,"peerURLs":[%s]}`, rev, quoted, quoted))
			}
			data = data[3+n:]
		}
		return err
	})
	if err == nil {
		err = db.View(func(tx *bolt.Tx) error { _, err := tx.WriteTo(&out); return err })
	}
	if err := errors.Join(err, db.Close()); err != nil {
		return err
	}
	sum := sha256.Sum256(out.Bytes())
	return os.WriteFile(path, append(out.Bytes(), sum[:]...), 0o600)
}

func record(key, value byte, s string) []byte {
	return append([]byte{key, value, byte(len(s))}, s...)
}

// FuzzShown: whatever a snapshot holds, what is shown of it, as text or as JSON,
// moves no cursor, hides nothing after it, and is bounded.
func FuzzShown(f *testing.F) {
	for _, s := range []string{"plain", "\x1b]0;title", "\x1b[31mred", "bi\u202edi", "c1\u009b31m", "del\x7f\x00", "bad\xff\xfe", "a\nb\r\tc\u2028", "/", "..", strings.Repeat("x", 250)} {
		var all []byte
		for k := range keysOf {
			all = append(all, record(byte(k), byte(k), s)...)
			all = append(all, record(byte(k), 7, s)...)
		}
		f.Add(all, record(1, 3, s))
		f.Add(record(5, 5, s), append(record(5, 5, s+"!"), record(7, 5, s)...))
	}
	now := time.Unix(1_780_000_000, 0)
	f.Fuzz(func(t *testing.T, one, two []byte) {
		dir := t.TempDir()
		a, b := filepath.Join(dir, "a.db"), filepath.Join(dir, "b.db")
		if err := errors.Join(written(a, one[:min(len(one), 4096)]), written(b, two[:min(len(two), 4096)])); err != nil {
			t.Fatal(err)
		}
		info, err := snapshot.InspectHere(a)
		if err != nil {
			return // etcd's own readers may refuse what is in it
		}
		var plain, inJSON bytes.Buffer
		err = errors.Join(print.Inspected(&plain, text.Inspected{Info: info, Node: "cp1"}), print.JSONInspected(&inJSON, text.Inspected{Info: info}, now))
		if c, cerr := snapshot.CompareHere(a, b); cerr == nil {
			err = errors.Join(err, print.Comparison(&plain, c, text.DiffOptions{Fields: true, List: true}), print.Comparison(&plain, c, text.DiffOptions{}), print.JSONComparison(&inJSON, c, now))
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, out := range []string{plain.String(), inJSON.String()} {
			if len(out) > 1<<20 {
				t.Errorf("%d bytes are shown", len(out))
			}
			if !utf8.ValidString(out) {
				t.Errorf("not text: %q", out)
			}
			for _, r := range out {
				if r != '\n' && (unicode.IsControl(r) || unicode.Is(unicode.Cf, r)) {
					t.Fatalf("%q is shown raw in %q", r, out)
				}
			}
		}
	})
}
