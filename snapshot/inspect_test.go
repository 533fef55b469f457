package snapshot

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/client/pkg/v3/types"
	etcdutl "go.etcd.io/etcd/etcdutl/v3/snapshot"
	"go.etcd.io/etcd/server/v3/etcdserver/api/membership"
	"go.etcd.io/etcd/server/v3/storage/schema"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

func TestInspectAgreesWithEtcdutl(t *testing.T) {
	for _, name := range fixtureNames {
		t.Run(name, func(t *testing.T) {
			path := file(t, name+".db", fixture(t, name))
			want, err := etcdutl.NewV3(zap.NewNop()).Status(path)
			if err != nil {
				t.Fatal(err)
			}
			got, err := Inspect(context.Background(), path, nil)
			if err != nil {
				t.Fatal(err)
			}
			keys := got.Keys
			if got.EmptyKey {
				keys++
			}
			if got.Revision != want.Revision || keys != want.TotalKey || got.TotalSize != want.TotalSize || got.StorageVersion != want.Version {
				t.Errorf("revision %d keys %d size %d version %q, etcdutl says %+v", got.Revision, got.Keys, got.TotalSize, got.StorageVersion, want)
			}
			quick, err := Quick(path)
			if err != nil {
				t.Fatal(err)
			}
			if quick.TotalSize != want.TotalSize || quick.Hash != HashUnchecked {
				t.Errorf("Quick says size %d, hash %q", quick.TotalSize, quick.Hash)
			}
		})
	}
}

func at(t *testing.T, s string) time.Time {
	t.Helper()
	when, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		t.Fatal(err)
	}
	return when
}

func TestInspectTellsWhatIsInARealSnapshot(t *testing.T) {
	path := file(t, "encrypted.db", fixture(t, "encrypted"))
	var last int64
	got, err := Inspect(context.Background(), path, func(done, total int64) {
		if done < last || total != 983040 {
			t.Errorf("progress went from %d to %d of %d", last, done, total)
		}
		last = done
	})
	if err != nil {
		t.Fatal(err)
	}
	if last != 983040 {
		t.Errorf("progress ended at %d", last)
	}
	early := at(t, "2026-11-20T20:54:44Z")
	want := &Info{
		Name: path, Path: path, Size: 983072, ModTime: got.ModTime,
		SHA256: "ede78381eeb313d766ab5e7018f55a1b51c6e7053afd00ac8083ffdc793bea46", Hash: HashOK,
		Revision: 1000000794, Keys: 330, EmptyKey: true, TotalSize: 983040, StorageVersion: "3.6.0",
		Members:       []Member{{ID: 2677674080080550774, Name: "cp1", PeerURLs: []string{"https://10.77.0.11:2380"}}},
		Prefix:        "/registry",
		KubeSystemUID: "4e239f2c-f011-4f22-97a6-8585746fba76",
		Namespaces: []Object{
			{Name: "after-the-snapshot", UID: "6f17d367-0a2e-4e99-810f-0c1b4137331b", Created: at(t, "2026-11-20T21:21:38Z")},
			{Name: "default", UID: "5911d3a1-642e-4ba2-8702-9467f73129cb", Created: early},
			{Name: "kube-node-lease", UID: "c579eaa6-f7bc-4118-8db1-d3f01da54ed2", Created: early},
			{Name: "kube-public", UID: "01d5b8b1-a0e5-4bed-a7be-e2f46d27f860", Created: early},
			{Name: "kube-system", UID: "4e239f2c-f011-4f22-97a6-8585746fba76", Created: early},
			{Name: "payments", UID: "3cb38013-598f-45b7-b4a7-94ccfbdf15c8", Created: at(t, "2026-11-20T21:21:26Z")},
		},
		Nodes:             []Object{{Name: "cp1", UID: "f247ab5e-9bf6-4cea-a1b6-1852ae62e941", Created: early}},
		KubeletVersions:   map[string]int{"v1.34.4": 1},
		ServiceCIDRs:      []string{"10.96.0.0/12"},
		ServiceIP:         "10.96.0.1",
		APIServers:        []string{"10.77.0.11"},
		LastWrite:         at(t, "2026-11-20T21:22:29Z"),
		EncryptedPrefixes: []string{"aescbc:key1"},
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(Info{}), cmpopts.IgnoreFields(Info{}, "Kinds", "CRDs", "Encryption")); diff != "" {
		t.Error(diff)
	}
}

func TestInspectFollowsDeletions(t *testing.T) {
	names := func(snapshot string) (names []string) {
		info, err := Inspect(context.Background(), file(t, snapshot+".db", fixture(t, snapshot)), nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range info.Namespaces {
			names = append(names, o.Name)
		}
		return names
	}
	system := []string{"default", "kube-node-lease", "kube-public", "kube-system"}
	if diff := cmp.Diff(append(system[:4:4], "payments", "shop"), names("before")); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(append(append([]string{"after-the-snapshot"}, system...), "payments"), names("after")); diff != "" {
		t.Error(diff)
	}
}

func stored(t *testing.T, apiVersion, kind string, object interface{ Marshal() ([]byte, error) }) string {
	t.Helper()
	raw, err := object.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	u := runtime.Unknown{TypeMeta: runtime.TypeMeta{APIVersion: apiVersion, Kind: kind}, Raw: raw}
	b, err := u.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return "k8s\x00" + string(b)
}

func TestInspectReadsWhatTheFixturesDoNotHold(t *testing.T) {
	created := metav1.NewTime(at(t, "2026-01-02T03:04:05Z").Local())
	namespace := func(name string) string {
		return stored(t, "v1", "Namespace", &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, UID: "uid-" + "of-" + "1", CreationTimestamp: created}})
	}
	snapshot := makeSnapshot(t, func(db *database) {
		// Another prefix, as OpenShift's.
		db.put("/kubernetes.io/namespaces/kube-system", namespace("kube-system"))
		db.put("/kubernetes.io/namespaces/json", `{"kind":"Namespace","apiVersion":"v1","metadata":{"name":"json","uid":"j","creationTimestamp":"2026-01-02T03:04:05Z"}}`)
		db.put("/kubernetes.io/namespaces/hidden", "k8s:enc:kms:v2:vault:whatever")
		db.put("/kubernetes.io/namespaces/gone", namespace("gone"))
		db.delete("/kubernetes.io/namespaces/gone")
		db.put("/kubernetes.io/namespaces/again", namespace("again"))
		db.delete("/kubernetes.io/namespaces/again")
		db.put("/kubernetes.io/namespaces/again", namespace("again"))
		// Look like namespaces and aren't.
		db.put("/kubernetes.io/configmaps/namespaces/kube-system", stored(t, "v1", "ConfigMap", &corev1.ConfigMap{}))
		db.put("/elsewhere/namespaces/not-ours", namespace("not-ours"))
		// Left behind under the prefix of before.
		db.put("/kubernetes.io-of-before/namespaces/kube-system", namespace("kube-system"))
		db.put("/kubernetes.io/namespaces/rubbish", "k8s\x00\xff\xff\xff")
		// Encrypted, overwritten by another key, deleted.
		db.put("/kubernetes.io/secrets/a/one", "k8s:enc:aescbc:v1:old:xxxx")
		db.put("/kubernetes.io/secrets/a/one", "k8s:enc:secretbox:v1:new:xxxx")
		db.put("/kubernetes.io/secrets/a/two", "k8s:enc:aesgcm:v1:deleted:xxxx")
		db.delete("/kubernetes.io/secrets/a/two")
		db.put("/kubernetes.io/secrets/a/odd", "k8s:enc:nothing more")
		// What a revision bump writes.
		db.put("", "")

		alarms := schema.NewAlarmBackend(zap.NewNop(), db)
		alarms.MustPutAlarm(&etcdserverpb.AlarmMember{MemberID: 1, Alarm: etcdserverpb.AlarmType_NOSPACE})
		alarms.MustPutAlarm(&etcdserverpb.AlarmMember{MemberID: 2, Alarm: etcdserverpb.AlarmType_NOSPACE})
		alarms.MustPutAlarm(&etcdserverpb.AlarmMember{MemberID: 1, Alarm: etcdserverpb.AlarmType_CORRUPT})
		members := schema.NewMembershipBackend(zap.NewNop(), db)
		for id, learner := range map[types.ID]bool{9: false, 7: true, 8: false} {
			members.MustSaveMemberToBackend(&membership.Member{
				ID:             id,
				Attributes:     membership.Attributes{Name: "m" + id.String()},
				RaftAttributes: membership.RaftAttributes{PeerURLs: []string{"http://" + id.String()}, IsLearner: learner},
			})
		}
		auth := schema.NewAuthBackend(zap.NewNop(), db).BatchTx()
		auth.Lock()
		auth.UnsafeSaveAuthEnabled(true)
		auth.Unlock()
	})
	got, err := Inspect(context.Background(), file(t, "made.db", snapshot), nil)
	if err != nil {
		t.Fatal(err)
	}
	when := created.UTC()
	want := &Info{
		Name: got.Path, Path: got.Path, Size: got.Size, ModTime: got.ModTime, SHA256: got.SHA256, TotalSize: got.TotalSize,
		Hash: HashOK, Revision: 19, Keys: 10, EmptyKey: true,
		Members: []Member{
			{ID: 7, Name: "m7", PeerURLs: []string{"http://7"}, Learner: true},
			{ID: 8, Name: "m8", PeerURLs: []string{"http://8"}},
			{ID: 9, Name: "m9", PeerURLs: []string{"http://9"}},
		},
		Alarms: []string{"CORRUPT", "NOSPACE"}, AuthEnabled: true,
		Prefix: "/kubernetes.io", Prefixes: []string{"/kubernetes.io", "/kubernetes.io-of-before"}, KubeSystemUID: "uid-of-1",
		Namespaces: []Object{
			{Name: "again", UID: "uid-of-1", Created: when},
			{Name: "hidden"},
			{Name: "json", UID: "j", Created: when},
			{Name: "kube-system", UID: "uid-of-1", Created: when},
		},
		LastWrite:         when,
		EncryptedPrefixes: []string{"kms:vault", "secretbox:new"},
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(Info{}), cmpopts.IgnoreFields(Info{}, "Kinds", "CRDs", "Encryption")); diff != "" {
		t.Error(diff)
	}
}

func TestInspectOfAnEtcdWithoutKubernetesNamesNothing(t *testing.T) {
	snapshot := makeSnapshot(t, func(db *database) {
		db.put("a", "1")
		db.put("/namespaces/x", "2")
		db.put("no/namespaces", "3")
		db.put("/", "4")
	})
	got, err := Inspect(context.Background(), file(t, "plain.db", snapshot), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got.Prefix != "" || got.Namespaces != nil || !got.LastWrite.IsZero() || got.Keys != 4 {
		t.Errorf("got %+v", got)
	}
}

func TestInspectNoticesThatSomebodyWrites(t *testing.T) {
	touch := func(path string) error { return os.Chtimes(path, time.Time{}, time.Now().Add(-time.Minute)) }
	shrink := func(path string) error { return os.Truncate(path, 8192) }
	replace := func(path string) error {
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return errors.Join(os.WriteFile(path+".new", data, 0o600), os.Rename(path+".new", path))
	}
	grow := func(path string) error {
		f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = f.Write([]byte("more"))
		return errors.Join(err, f.Close())
	}
	for name, change := range map[string]func(string) error{
		"it grows": grow, "it shrinks": shrink, "its content changes": touch, "another takes its place": replace,
	} {
		t.Run(name, func(t *testing.T) {
			path := file(t, "busy.db", fixture(t, "before"))
			done := false
			_, err := Inspect(context.Background(), path, func(int64, int64) {
				if !done {
					done = true
					if err := change(path); err != nil {
						t.Error(err)
					}
				}
			})
			wantProblem(t, err, CodeGrowing)
		})
	}
	t.Run("a copy that isn't complete yet", func(t *testing.T) {
		whole := fixture(t, "before")
		path := filepath.Join(t.TempDir(), "copy.db")
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.Write(whole[:100_000]); err != nil {
			t.Fatal(err)
		}
		stop, stopped := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(stopped)
			for off := 100_000; off < 300_000; off += 100 {
				select {
				case <-stop:
					return
				case <-time.After(time.Millisecond):
				}
				if _, err := f.Write(whole[off : off+100]); err != nil {
					t.Error(err)
				}
			}
		}()
		_, err = Inspect(context.Background(), path, nil)
		close(stop)
		<-stopped
		wantProblem(t, err, CodeGrowing)
	})
}

func TestInspectCanBeCancelled(t *testing.T) {
	path := file(t, "a.db", fixture(t, "before"))
	ctx, cancel := context.WithCancel(context.Background())
	_, err := Inspect(ctx, path, func(int64, int64) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want cancelled", err)
	}
}

func TestInspectOfAFileThatAnEtcdHasOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	if err := os.WriteFile(path, withoutTrailer(fixture(t, "before")), 0o600); err != nil {
		t.Fatal(err)
	}
	makeOld(t, path)
	lockExclusive(t, path)
	_, err := Inspect(context.Background(), path, nil)
	wantProblem(t, err, CodeInUse)
}
