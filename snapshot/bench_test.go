package snapshot

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	bolt "go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/mvccpb"
	etcdutl "go.etcd.io/etcd/etcdutl/v3/snapshot"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
)

// generate writes a snapshot of so many pods whose values have about so many
// bytes, as kube-apiserver stores them. In a later generation every hundredth
// was written since: half of them are changed, half deleted and others made.
// That is what a comparison finds.
func generate(b *testing.B, keys, valueSize, generation int) string {
	b.Helper()
	path := filepath.Join(b.TempDir(), "generated.db")
	db, err := bolt.Open(path, 0o600, &bolt.Options{NoSync: true, NoGrowSync: true, NoFreelistSync: true})
	if err != nil {
		b.Fatal(err)
	}
	for done := 0; done < keys && err == nil; {
		err = db.Update(func(tx *bolt.Tx) error {
			_, err := tx.CreateBucketIfNotExists([]byte("meta"))
			bucket, kerr := tx.CreateBucketIfNotExists([]byte("key"))
			if err := errors.Join(err, kerr); err != nil {
				return err
			}
			bucket.FillPercent = 0.95
			if done == 0 {
				system := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "kube-system", UID: "1"}}
				raw, err := system.Marshal()
				if err := errors.Join(err, putObject(bucket, 0, "/registry/namespaces/kube-system", "Namespace", raw)); err != nil {
					return err
				}
			}
			for range min(20_000, keys-done) {
				done++
				if generation > 0 && done%100 == 0 {
					continue
				}
				if err := putPod(bucket, done, done, valueSize, 0); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if generation > 0 && err == nil {
		err = db.Update(func(tx *bolt.Tx) error {
			for n := 100; n <= keys; n += 100 {
				if err := putPod(tx.Bucket([]byte("key")), n, keys+n, valueSize, generation); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err != nil {
		b.Fatal(err)
	}
	return sealed(b, db, path)
}

// sealed closes a database and returns the snapshot made of it.
func sealed(b *testing.B, db *bolt.DB, path string) string {
	b.Helper()
	out := path + ".snapshot"
	f, err := os.Create(out)
	if err != nil {
		b.Fatal(err)
	}
	h, w := sha256.New(), bufio.NewWriterSize(f, 1<<20)
	err = db.View(func(tx *bolt.Tx) error {
		_, err := tx.WriteTo(io.MultiWriter(w, h))
		return err
	})
	_, werr := w.Write(h.Sum(nil))
	if err := errors.Join(err, werr, w.Flush(), f.Close(), db.Close(), os.Remove(path)); err != nil {
		b.Fatal(err)
	}
	makeOld(b, out)
	return out
}

func putPod(bucket *bolt.Bucket, n, rev, valueSize, generation int) error {
	made := metav1.NewTime(time.Unix(1_780_000_000+int64(n), 0))
	ns, name := fmt.Sprintf("namespace-%d", n%500), fmt.Sprintf("pod-%d", n)
	if generation > 0 && n%200 == 0 {
		name += "-new"
	}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: ns, Name: name, UID: types.UID(fmt.Sprintf("00000000-0000-0000-0000-%012d", n)), CreationTimestamp: made,
		ManagedFields: []metav1.ManagedFieldsEntry{{
			Manager: "kubelet", Operation: metav1.ManagedFieldsOperationUpdate, APIVersion: "v1", Time: &made, FieldsType: "FieldsV1",
			FieldsV1: metav1.NewFieldsV1(`{"f:spec":{"f:containers":{}}}`),
		}},
	}}
	pod.Spec.NodeName = fmt.Sprintf("node-%d", generation)
	if rest := valueSize - 200; rest > 0 {
		pod.Spec.Containers = []corev1.Container{{Name: "c", Image: "example.com/image", Args: []string{strings.Repeat("argument ", rest/9)}}}
	}
	raw, err := pod.Marshal()
	if err != nil {
		return err
	}
	return putObject(bucket, rev, "/registry/pods/"+ns+"/"+name, "Pod", raw)
}

func putObject(bucket *bolt.Bucket, n int, key, kind string, raw []byte) error {
	u := runtime.Unknown{TypeMeta: runtime.TypeMeta{APIVersion: "v1", Kind: kind}, Raw: raw}
	value, err := u.Marshal()
	if err != nil {
		return err
	}
	rev := int64(n + 1)
	k := binary.BigEndian.AppendUint64(nil, uint64(rev))
	k = append(k, "_\x00\x00\x00\x00\x00\x00\x00\x00"...)
	v, err := proto.Marshal(&mvccpb.KeyValue{
		Key: []byte(key), Value: append([]byte("k8s\x00"), value...),
		CreateRevision: rev, ModRevision: rev, Version: 1,
	})
	if err != nil {
		return err
	}
	return bucket.Put(k, v)
}

// BenchmarkBesideThePeer measures in one run what an engineer would run
// instead and what this package does, several times in turn, and prints the
// medians as a table. The peer is etcdutl's library and sha256 of the file.
func BenchmarkBesideThePeer(b *testing.B) {
	const (
		inspectLimit = 0.8  // of the peer
		diffLimit    = 2.5  // of one inspect
		memoryLimit  = 200. // MB, anonymous
		rounds       = 5
	)
	var table strings.Builder
	out := tabwriter.NewWriter(&table, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintf(out, "snapshot\tsize\tetcdutl status + sha256\tinspect\tratio\t≤\tdiff\tratio\t≤\tinspect's memory\tdiff's memory\t≤\t\n")
	for _, s := range []struct {
		name            string
		keys, valueSize int
	}{
		{"400,000 keys of 6 KB", 400_000, 5_900},
		{"1,000,000 small keys", 1_000_000, 200},
	} {
		b.Run(strings.NewReplacer(",", "", " ", "-").Replace(s.name), func(b *testing.B) {
			path, other := generate(b, s.keys, s.valueSize, 0), generate(b, s.keys, s.valueSize, 1)
			st, err := os.Stat(path)
			if err != nil {
				b.Fatal(err)
			}
			var peer, inspect, diff []time.Duration
			var inspectMem, diffMem int64
			for b.Loop() {
				for range rounds {
					peer = append(peer, took(b, func() error { return etcdutlAndSum(path) }))
					mem := watchAnonymous()
					inspect = append(inspect, took(b, func() error { _, err := Inspect(context.Background(), path, nil); return err }))
					inspectMem = max(inspectMem, mem())
					mem = watchAnonymous()
					diff = append(diff, took(b, func() error {
						c, err := Compare(context.Background(), path, Other{Snapshot: other}, CompareOptions{}, nil)
						if err == nil && (c.Lineage.Relation != Before || c.TurnsBack.Objects != s.keys/200 || c.TakesAway.Objects != s.keys/200) {
							err = fmt.Errorf("%d turned back, %d taken away", c.TurnsBack.Objects, c.TakesAway.Objects)
						}
						return err
					}))
					diffMem = max(diffMem, mem())
				}
			}
			p, i, d := median(peer), median(inspect), median(diff)
			inspectRatio, diffRatio := i.Seconds()/p.Seconds(), d.Seconds()/i.Seconds()
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(inspectRatio, "inspect/peer")
			b.ReportMetric(diffRatio, "diff/inspect")
			b.ReportMetric(float64(diffMem)/1e6, "MB-anonymous")
			_, _ = fmt.Fprintf(out, "%s\t%.2f GB\t%.2f s\t%.2f s\t%.2f\t%.1f\t%.2f s\t%.2f\t%.1f\t%.0f MB\t%.0f MB\t%.0f\t\n",
				s.name, float64(st.Size())/1e9, p.Seconds(), i.Seconds(), inspectRatio, inspectLimit, d.Seconds(), diffRatio, diffLimit,
				float64(inspectMem)/1e6, float64(diffMem)/1e6, memoryLimit)
			if inspectRatio > inspectLimit || diffRatio > diffLimit || float64(max(inspectMem, diffMem))/1e6 > memoryLimit {
				b.Errorf("over a limit: inspect %.2f of %.1f, diff %.2f of %.1f, memory %d and %d MB of %.0f",
					inspectRatio, inspectLimit, diffRatio, diffLimit, inspectMem/1e6, diffMem/1e6, memoryLimit)
			}
		})
	}
	_ = out.Flush()
	fmt.Print("\n", table.String())
}

func took(b *testing.B, f func() error) time.Duration {
	b.Helper()
	start := time.Now()
	if err := f(); err != nil {
		b.Fatal(err)
	}
	return time.Since(start)
}

func median(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[len(all)/2]
}

func etcdutlAndSum(path string) error {
	if _, err := etcdutl.NewV3(zap.NewNop()).Status(path); err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(sha256.New(), f)
	return err
}

// watchAnonymous watches the worker of this process until the function that it
// returns is called, which returns the most anonymous memory it had, in bytes. 0
// where /proc doesn't show it.
func watchAnonymous() (stop func() int64) {
	quit, most := make(chan struct{}), make(chan int64)
	go func() {
		var peak int64
		for {
			select {
			case <-quit:
				most <- peak
				return
			case <-time.After(2 * time.Millisecond):
			}
			tasks, _ := filepath.Glob("/proc/self/task/*/children")
			for _, t := range tasks {
				children, _ := os.ReadFile(t)
				for _, pid := range strings.Fields(string(children)) {
					if line, _ := os.ReadFile("/proc/" + pid + "/cmdline"); bytes.Contains(line, []byte("worker)")) {
						peak = max(peak, anonymous(pid))
					}
				}
			}
		}
	}()
	return func() int64 { close(quit); return <-most }
}

func anonymous(pid string) int64 {
	status, err := os.ReadFile("/proc/" + pid + "/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		var kb int64
		if _, err := fmt.Sscanf(line, "RssAnon: %d kB", &kb); err == nil {
			return kb << 10
		}
	}
	return 0
}

func BenchmarkRestore(b *testing.B) {
	path := generate(b, 25_000, 4096, 0)
	st, err := os.Stat(path)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(st.Size())
	dir := b.TempDir()
	for i := 0; b.Loop(); i++ {
		req := request(path, filepath.Join(dir, fmt.Sprint(i)))
		req.RevisionBump = 1_000_000_000
		if _, err := Restore(context.Background(), req, nil); err != nil {
			b.Fatal(err)
		}
	}
}

// crowd writes a snapshot with so many namespaces, in each of them a ConfigMap
// and a ServiceAccount: more than any cluster has, as somebody may make it.
func crowd(b *testing.B, namespaces int) string {
	b.Helper()
	path := filepath.Join(b.TempDir(), "crowd.db")
	db, err := bolt.Open(path, 0o600, &bolt.Options{NoSync: true, NoGrowSync: true, NoFreelistSync: true})
	if err != nil {
		b.Fatal(err)
	}
	for n := 0; n <= namespaces && err == nil; {
		err = db.Update(func(tx *bolt.Tx) error {
			_, err := tx.CreateBucketIfNotExists([]byte("meta"))
			bucket, kerr := tx.CreateBucketIfNotExists([]byte("key"))
			if err := errors.Join(err, kerr); err != nil {
				return err
			}
			bucket.FillPercent = 0.95
			for end := min(n+20_000, namespaces+1); n < end; n++ {
				name := fmt.Sprintf("a-namespace-of-a-customer-%d", n)
				if n == 0 {
					name = "kube-system"
				}
				made := metav1.NewTime(time.Unix(1_780_000_000+int64(n), 0))
				meta := metav1.ObjectMeta{Name: name, UID: types.UID(fmt.Sprintf("00000000-0000-0000-0000-%012d", n)), CreationTimestamp: made}
				space, merr := (&corev1.Namespace{ObjectMeta: meta}).Marshal()
				meta.Name, meta.Namespace = "default", name
				account, aerr := (&corev1.ServiceAccount{ObjectMeta: meta}).Marshal()
				meta.Name = "kube-root-ca.crt"
				config, cerr := (&corev1.ConfigMap{ObjectMeta: meta}).Marshal()
				err := errors.Join(merr, aerr, cerr,
					putObject(bucket, 3*n, "/registry/namespaces/"+name, "Namespace", space),
					putObject(bucket, 3*n+1, "/registry/serviceaccounts/"+name+"/default", "ServiceAccount", account),
					putObject(bucket, 3*n+2, "/registry/configmaps/"+name+"/kube-root-ca.crt", "ConfigMap", config))
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err != nil {
		b.Fatal(err)
	}
	return sealed(b, db, path)
}

// BenchmarkACrowd inspects and compares a snapshot with a million namespaces. It
// is slower than it is with as many pods, and needs no more memory.
func BenchmarkACrowd(b *testing.B) {
	const (
		timeLimit   = 60 * time.Second
		memoryLimit = 400 << 20 // of worker and this process
	)
	path := crowd(b, 1_000_000)
	for b.Loop() {
		for name, work := range map[string]func() error{
			"inspect": func() error { _, err := Inspect(context.Background(), path, nil); return err },
			"diff with nothing in common": func() error {
				_, err := Compare(context.Background(), path, Other{Snapshot: file(b, "small.db", fixture(b, "before"))}, CompareOptions{}, nil)
				return err
			},
		} {
			mem := watchAnonymous()
			t := took(b, work)
			peak := mem()
			b.Logf("%s: %.1f s, %d MB in the worker", name, t.Seconds(), peak>>20)
			if t > timeLimit || peak > memoryLimit {
				b.Errorf("%s is over its limit", name)
			}
		}
	}
}
