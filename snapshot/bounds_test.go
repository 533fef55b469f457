package snapshot

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"reflect"
	"strings"
	"testing"

	"go.etcd.io/etcd/server/v3/storage/mvcc"
	"go.etcd.io/etcd/server/v3/storage/schema"
)

func namespaceJSON(name string) string {
	return `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"x","uid":"` + name + `"}}`
}

// strings of a value, wherever they are in it.
func eachString(v reflect.Value, visit func(string)) {
	switch v.Kind() {
	case reflect.String:
		visit(v.String())
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			eachString(v.Elem(), visit)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				eachString(v.Field(i), visit)
			}
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			eachString(v.Index(i), visit)
		}
	case reflect.Map:
		for _, k := range v.MapKeys() {
			eachString(k, visit)
			eachString(v.MapIndex(k), visit)
		}
	}
}

// A snapshot can hold a name of 70 MB and ten thousands of everything: what is
// known of it stays small, says what it left out, and the cluster is still found.
func TestWhatASnapshotHoldsIsBoundedWhereItEnters(t *testing.T) {
	long := strings.Repeat("long", 1<<18)
	data := makeSnapshot(t, func(db *database) {
		db.put("/registry/namespaces/kube-system", namespaceJSON("the-uid"))
		for i := range maxObjects + 500 {
			db.put(fmt.Sprintf("/registry/namespaces/n%d", i), namespaceJSON("u"))
		}
		for i := range maxKinds + 50 {
			db.put(fmt.Sprintf("/registry/apiextensions.k8s.io/customresourcedefinitions/c%d", i), `{"kind":"CustomResourceDefinition","apiVersion":"x"}`)
			db.put(fmt.Sprintf("/registry/example.com/r%d/a/b", i), `{"kind":"R","apiVersion":"example.com/v1"}`)
		}
		for i := range maxPlaces + 50 {
			db.put(fmt.Sprintf("/registry/configmaps/n%d/c", i), `{"kind":"ConfigMap","apiVersion":"v1"}`)
			db.put(fmt.Sprintf("/registry/secrets/n/s%d", i), fmt.Sprintf("k8s:enc:aescbc:v1:key%d:x", i))
		}
		for _, key := range []string{
			long, "/" + long, "/registry/namespaces/" + long, "/registry/minions/" + long, "/registry/masterleases/" + long,
			"/registry/configmaps/" + long + "/x", "/registry/" + long + "/a/b", "/registry/example.com/" + long + "/a",
			"/" + long + "/namespaces/kube-system", "/registry/namespaces/" + strings.Repeat("n", 300),
		} {
			db.put(key, namespaceJSON(long[:1<<16]))
		}
		db.put("/registry/minions/odd", `{"apiVersion":"`+long+`","kind":"Node","metadata":{"name":"x","uid":"`+long+`"}}`)
		db.put("/registry/things/odd/a", `{"apiVersion":"`+long+`","kind":"`+long+`","metadata":{"name":"x","uid":"`+long+`"}}`)
		db.put("/registry/servicecidrs/odd", `{"apiVersion":"v1","kind":"ServiceCIDR","spec":{"cidrs":["`+long+`","`+long+`","`+long+`"]}}`)
	})
	info, err := Inspect(t.Context(), file(t, "a.db", data), nil)
	if err != nil {
		t.Fatal(err)
	}
	if info.KubeSystemUID != "the-uid" || info.Prefix != "/registry" {
		t.Errorf("the cluster is lost: prefix %q, kube-system %q", info.Prefix, info.KubeSystemUID)
	}
	eachString(reflect.ValueOf(info), func(s string) {
		if len(s) > maxKey {
			t.Errorf("a string of %d bytes: %.40q", len(s), s)
		}
	})
	raw, err := json.Marshal(info)
	if err != nil || len(raw) > 4<<20 {
		t.Errorf("%d bytes are known of it (%v)", len(raw), err)
	}
	if info.LongKeys != 9 {
		t.Errorf("%d keys are too long", info.LongKeys)
	}
	all := func(name string) int {
		for _, k := range info.Kinds {
			if k.Resource == name {
				sum := 0
				for _, n := range k.Namespaces {
					sum += n.Objects
				}
				if len(k.Namespaces) > maxPlaces || len(k.Namespaces) > 0 && sum != k.Objects {
					t.Errorf("%s: %d objects, %d in %d namespaces", name, k.Objects, sum, len(k.Namespaces))
				}
				return k.Objects
			}
		}
		return 0
	}
	if n := len(info.Namespaces) + info.More["namespaces"]; n != maxObjects+503 || all("namespaces") != n {
		t.Errorf("%d namespaces listed, %v more, %d counted", len(info.Namespaces), info.More, all("namespaces"))
	}
	if n := len(info.CRDs) + info.More["CRDs"]; n != maxKinds+50 {
		t.Errorf("%d CRDs", n)
	}
	if n := all("configmaps"); n != maxPlaces+50 {
		t.Errorf("%d ConfigMaps", n)
	}
	if len(info.Kinds) > maxKinds+1 || all(Others) == 0 || len(info.Encryption) > maxFew+1 {
		t.Errorf("%d kinds, %d encryptions", len(info.Kinds), len(info.Encryption))
	}

	// And what is different in it, in both directions.
	other := file(t, "b.db", fixture(t, "before"))
	for _, c := range [][2]string{{file(t, "a.db", data), other}, {other, file(t, "a.db", data)}} {
		diff, err := Compare(t.Context(), c[0], Other{Snapshot: c[1]}, CompareOptions{Noise: true}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if raw, err = json.Marshal(diff); err != nil || len(raw) > 4<<20 {
			t.Errorf("%d bytes are shown of the difference (%v)", len(raw), err)
		}
		sum := 0
		for _, g := range append(diff.BringsBack.Groups, diff.TakesAway.Groups...) {
			sum += g.Objects
		}
		if n := diff.BringsBack.Objects + diff.BringsBack.Noise + diff.TakesAway.Objects + diff.TakesAway.Noise; n != sum || n < maxObjects {
			t.Errorf("%d differ, %d in the groups", n, sum)
		}
	}
}

// What is kept while keys go by doesn't grow with their number.
func TestAMillionKeysKeepABoundedNumberOfNames(t *testing.T) {
	f, k := finder{below: map[string]*below{}}, newTally()
	value := []byte(namespaceJSON("u"))
	for i := range 120_000 {
		f.put(fmt.Appendf(nil, "/registry/namespaces/n%d", i), value)
		f.put(fmt.Appendf(nil, "/p%d/minions/n", i), []byte(encryptedMark))
		k.put(fmt.Appendf(nil, "/registry/configmaps/n%d/c", i), nil)
		k.put(fmt.Appendf(nil, "/registry/r%d/n/x", i), nil)
	}
	f.put([]byte("/registry/namespaces/kube-system"), value)
	if err := k.wait(); err != nil {
		t.Fatal(err)
	}
	kept := 0
	for _, b := range f.below {
		kept += len(b.namespaces.list) + len(b.nodes.list)
	}
	if kept > maxFound || kept != f.kept || len(f.below) > maxPrefixes || len(k.dirs) > maxDirs+maxKinds {
		t.Errorf("%d objects (%d), %d prefixes, %d paths are kept", kept, f.kept, len(f.below), len(k.dirs))
	}
	if r := f.result(); r.prefix != "/registry" || r.kubeSystemUID != "u" || len(r.namespaces)+r.moreNamespaces != 120_001 {
		t.Errorf("prefix %q, %d and %d namespaces", r.prefix, len(r.namespaces), r.moreNamespaces)
	}
	var objects int
	for _, d := range k.dirs {
		objects += d.Objects
	}
	if objects += k.moved; objects != 240_000 {
		t.Errorf("%d of 240000 objects are counted", objects)
	}
}

// Revisions near the end of what fits are refused, and not taken for small or
// negative ones.
func TestRevisionsNearTheEndDontOverflow(t *testing.T) {
	for _, c := range []struct {
		revision int64
		bump     uint64
		ok       bool
	}{
		{1000, 1_000_000_000, true},
		{math.MaxInt64 / 2, 0, true},
		{math.MaxInt64/2 - 5, 6, false},
		{math.MaxInt64, 0, false},
		{math.MaxInt64 - 10, 1_000_000_000, false},
		{5, math.MaxUint64, false},
		{5, math.MaxInt64, false},
		{-1, 5, false},
	} {
		got, err := raised(c.revision, c.bump)
		if (err == nil) != c.ok || c.ok && got != c.revision+int64(c.bump) {
			t.Errorf("%d raised by %d: %d, %v", c.revision, c.bump, got, err)
		}
	}
	at := func(rev int64) string {
		return file(t, "a.db", makeSnapshot(t, func(db *database) {
			db.put("/registry/namespaces/kube-system", namespaceJSON("u"))
			db.record(mvcc.RevToBytes(mvcc.Revision{Main: rev}, mvcc.NewRevBytes()), "x", "1")
		}))
	}
	small := file(t, "small.db", fixture(t, "before"))
	for _, rev := range []int64{math.MaxInt64, math.MaxInt64 / 2, maxRevision} {
		path := at(rev)
		info, err := Inspect(t.Context(), path, nil)
		if err != nil || info.Revision != rev {
			t.Fatalf("revision %d: %v, %v", rev, info, err)
		}
		_, err = Compare(t.Context(), path, Other{Snapshot: small}, CompareOptions{}, nil)
		wantProblem(t, err, CodeStructure)
		_, err = Compare(t.Context(), small, Other{Snapshot: path}, CompareOptions{}, nil)
		wantProblem(t, err, CodeStructure)
		dir := t.TempDir() + "/etcd"
		req := request(path, dir)
		req.RevisionBump = 1_000_000_000 + math.MaxInt64/4
		_, err = Restore(t.Context(), req, nil)
		if rev != maxRevision {
			wantProblem(t, err, CodeRequest)
			if _, err := os.Stat(dir); err == nil {
				t.Error("a directory is left behind")
			}
		}
	}
	_, err := Inspect(t.Context(), at(-5), nil)
	wantProblem(t, err, CodeStructure)
}

// Members, users and alarms lie in buckets of their own.
func TestAMillionMembersAreNotRead(t *testing.T) {
	data := makeSnapshot(t, func(db *database) {
		db.put("/registry/namespaces/kube-system", namespaceJSON("u"))
		tx := db.BatchTx()
		tx.LockOutsideApply()
		for i := range 3 * maxRecords {
			long := strings.Repeat("n", 10+i%2*1000)
			tx.UnsafePut(schema.Members, fmt.Appendf(nil, "%016x", i+1), fmt.Appendf(nil, `{"id":%d,"name":%q,"peerURLs":[%q,"http://%d"]}`, i+1, long, long, i))
		}
		tx.Unlock()
	})
	info, err := Inspect(t.Context(), file(t, "a.db", data), nil)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(info.Members); n != maxFew || n+info.More["members"] != maxRecords {
		t.Errorf("%d members, %v more", n, info.More)
	}
	eachString(reflect.ValueOf(info), func(s string) {
		if len(s) > maxName+30 {
			t.Errorf("a string of %d bytes", len(s))
		}
	})
}
