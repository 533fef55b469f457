package backup

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"etcd-rewind/problem"
)

const (
	clusterA = "11111111-2222-3333-4444-555555555555"
	clusterB = "99999999-8888-7777-6666-555555555555"
)

func aRecord(round time.Time, node string) *Record {
	sha := strings.Repeat("ab", 32)
	return &Record{
		Format: RecordFormat, Tool: "v0.1.0", Cluster: ClusterID{KubeSystemUID: clusterA, CASHA256: sha}, Node: node,
		Round: RoundAt(round), Taken: round.Add(7 * time.Second).UTC(), Revision: 4711, Keys: 300, SnapshotSHA256: sha,
		File:       File{Name: node + snapshotSuffix, Sealed: Sealed{PlainSize: 100, PlainSHA256: sha, Size: 10, SHA256: sha}},
		Secrets:    &File{Name: node + secretsSuffix, Sealed: Sealed{PlainSize: 50, PlainSHA256: sha, Size: 5, SHA256: sha}, Content: []string{"etc/kubernetes/pki/ca.crt"}},
		Kubernetes: "v1.34.2", Etcd: "3.6.5", Encryption: []string{"aescbc:key1"},
	}
}

// put stores a backup as one that was taken would lie there.
func put(t *testing.T, s Store, r *Record, k Key) {
	t.Helper()
	data, err := r.Seal(k)
	if err != nil {
		t.Fatal(err)
	}
	store(t, s, r.SnapshotName(), strings.Repeat("x", int(r.File.Size)))
	if r.Secrets != nil {
		store(t, s, r.SecretsName(), strings.Repeat("x", int(r.Secrets.Size)))
	}
	store(t, s, r.Name(), string(data))
}

func store(t *testing.T, s Store, name, data string) {
	t.Helper()
	if err := s.Put(t.Context(), name, strings.NewReader(data), int64(len(data))); err != nil {
		t.Fatal(err)
	}
}

func replace(t *testing.T, s Store, name, data string) {
	t.Helper()
	if err := s.Delete(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	store(t, s, name, data)
}

var noon = time.Date(2026, 2, 28, 12, 0, 0, 0, time.UTC)

func TestRecordsAreListedNewestFirst(t *testing.T) {
	s, k := &Directory{Path: t.TempDir()}, NewKey()
	want := aRecord(noon.Add(time.Hour), "cp2")
	put(t, s, aRecord(noon, "cp1"), k)
	put(t, s, want, k)
	other := aRecord(noon, "cp1")
	other.Cluster.KubeSystemUID = clusterB
	put(t, s, other, NewKey())
	store(t, s, clusterA+"/notes.txt", "somebody's")
	store(t, s, clusterA+"/20260228T120000Z/claim.1", "cp1")
	store(t, s, "nightly/20260228T120000Z/cp1.json", "{}")

	l, err := Records(t.Context(), s, k, clusterA)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range l.Entries {
		if e.Err != nil || e.Record == nil {
			t.Errorf("%s: %v", e.Name, e.Err)
		}
		got = append(got, e.Round.String()+" "+e.Node)
	}
	if diff := cmp.Diff([]string{"20260228T130000Z cp2", "20260228T120000Z cp1"}, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(want, l.Entries[0].Record); diff != "" {
		t.Error(diff)
	}
	if l, err := Records(t.Context(), s, nil, ""); err != nil || len(l.Entries) != 3 {
		t.Errorf("of all clusters, without the key: %+v %v", l, err)
	}
}

// Who can write to the store, and knows the recipients, can put anything there.
func TestARecordThatIsNotThisClustersIsNotBelieved(t *testing.T) {
	k := NewKey()
	r := aRecord(noon, "cp1")
	good, err := r.Seal(k)
	if err != nil {
		t.Fatal(err)
	}
	forged, err := r.Seal(NewKey())
	if err != nil {
		t.Fatal(err)
	}
	older, err := aRecord(noon.Add(-time.Hour), "cp1").Seal(k)
	if err != nil {
		t.Fatal(err)
	}
	of := func(change func(map[string]any)) string {
		var all struct {
			Record map[string]any `json:"record"`
			HMAC   string         `json:"hmac_sha256"`
		}
		if err := json.Unmarshal(good, &all); err != nil {
			t.Fatal(err)
		}
		change(all.Record)
		raw, err := json.Marshal(all.Record)
		if err != nil {
			t.Fatal(err)
		}
		data, err := json.Marshal(authenticated{raw, fmt.Sprintf("%x", mac(k, ofRecord, raw))})
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	for name, c := range map[string]struct{ record, says string }{
		"as it was":                 {string(good), ""},
		"other white space":         {strings.ReplaceAll(string(good), "  ", "\t"), ""},
		"a field of a later time":   {of(func(m map[string]any) { m["colour"] = "blue" }), ""},
		"another revision":          {strings.Replace(string(good), "4711", "4712", 1), "changed afterwards"},
		"another sha256":            {strings.Replace(string(good), "abab", "abac", 1), "changed afterwards"},
		"with another key":          {string(forged), "changed afterwards"},
		"without a MAC":             {strings.Replace(string(good), "hmac", "mac", 1), "changed afterwards"},
		"that of an earlier backup": {string(older), "of another backup"},
		"nothing":                   {"", "not the record"},
		"no JSON":                   {"\x1b[2J", "not the record"},
		"null":                      {"null", "not the record"},
		"a list":                    {"[]", "not the record"},
		"much":                      {strings.Repeat(" ", maxRecord) + string(good), "too long"},
		"a later format":            {of(func(m map[string]any) { m["format"] = 2; m["node"] = 3 }), "later version"},
		"a path for a file":         {of(func(m map[string]any) { m["file"].(map[string]any)["name"] = "../../../etc/shadow" }), "file is invalid"},
		"a node upwards":            {of(func(m map[string]any) { m["node"] = ".." }), "node is invalid"},
		"a cluster upwards":         {of(func(m map[string]any) { m["cluster"].(map[string]any)["kube_system_uid"] = ".." }), "cluster is invalid"},
		"a size below nothing":      {of(func(m map[string]any) { m["file"].(map[string]any)["size"] = -1 }), "file is invalid"},
		"a round of no time":        {of(func(m map[string]any) { m["round"] = "now" }), "not the record"},
	} {
		t.Run(name, func(t *testing.T) {
			s := &Directory{Path: t.TempDir()}
			put(t, s, r, k)
			replace(t, s, r.Name(), c.record)
			l, err := Records(t.Context(), s, k, clusterA)
			if err != nil || len(l.Entries) != 1 {
				t.Fatal(l, err)
			}
			switch e := l.Entries[0]; {
			case c.says == "" && (e.Err != nil || e.Record == nil):
				t.Error(e.Err)
			case c.says != "" && (e.Err == nil || e.Record != nil || !strings.Contains(e.Err.Cause, c.says) || e.Err.Hint == ""):
				t.Errorf("%v, want %s", e.Err, c.says)
			}
		})
	}
}

func TestWhatLiesBesideARecordIsHeldAgainstIt(t *testing.T) {
	k, r := NewKey(), aRecord(noon, "cp1")
	for name, c := range map[string]struct {
		do   func(t *testing.T, s Store)
		says string
		gone bool
	}{
		"its file is gone":     {func(t *testing.T, s Store) { _ = s.Delete(t.Context(), r.SnapshotName()) }, "isn't there any more", true},
		"it was swapped":       {func(t *testing.T, s Store) { replace(t, s, r.SnapshotName(), "another") }, "isn't the file that was stored", false},
		"the secrets are gone": {func(t *testing.T, s Store) { _ = s.Delete(t.Context(), r.SecretsName()) }, "isn't there any more", false},
	} {
		s := &Directory{Path: t.TempDir()}
		put(t, s, r, k)
		c.do(t, s)
		l, err := Records(t.Context(), s, k, clusterA)
		if err != nil || len(l.Entries) != 1 {
			t.Fatal(l, err)
		}
		if e := l.Entries[0]; e.Err == nil || !strings.Contains(e.Err.Cause, c.says) || e.Gone != c.gone {
			t.Errorf("%s: %v, gone %v", name, e.Err, e.Gone)
		}
	}
}

// many is a store with so many records, listed in no order.
type many struct {
	Store
	n int
	// between is called now and then, with how many were listed.
	between func(int) error
}

func (m *many) each(_ context.Context, _ string, f func(Object) error) error {
	const step = 7919 // a prime: all are named, each once
	name := []byte(clusterA + "/20260228T120000Z/cp1.json")
	at := name[len(clusterA)+1:]
	for i := range m.n {
		if m.between != nil && i%10_000 == 0 {
			if err := m.between(i); err != nil {
				return err
			}
		}
		noon.Add(-time.Duration(i*step%m.n)*time.Minute).AppendFormat(at[:0], roundFormat)
		if err := f(Object{Name: string(name), Size: 1}); err != nil {
			return err
		}
	}
	return nil
}

func (m *many) Get(context.Context, string) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(nil)), nil
}

func TestAMillionObjectsAreListedInBounds(t *testing.T) {
	const n = 1_000_000
	v := newInventory(noon.AddDate(0, 1, 0))
	most := 0
	err := (&many{n: n}).each(t.Context(), "", func(o Object) error {
		v.add(o)
		most = max(most, len(v.objects))
		return nil
	})
	entries, more := v.records(nil)
	if err != nil || most > 2*maxObjects || len(entries) != maxRecords || more != n-maxRecords || entries[0].Round != RoundAt(noon) || entries[maxRecords-1].Round != RoundAt(noon.Add((1-maxRecords)*time.Minute)) {
		t.Errorf("%d entries, %d not read, %d objects at once, %v", len(entries), more, most, err)
	}
}

// A round is listed whole or not at all: half of one would look like a backup
// whose file is gone.
func TestAListingIsCutBetweenRounds(t *testing.T) {
	v := newInventory(noon.AddDate(0, 1, 0))
	for _, suffix := range []string{recordSuffix, snapshotSuffix, secretsSuffix} { // as in no store, but allowed
		for i := range maxObjects {
			v.add(Object{Name: clusterA + "/" + RoundAt(noon.Add(-time.Duration(i)*time.Minute)).String() + "/cp1" + suffix})
		}
	}
	in := map[string]int{}
	for _, o := range v.objects {
		in[path.Dir(o.Name)]++
	}
	for round, n := range in {
		if n != 3 {
			t.Fatalf("%s has %d of its 3 objects", round, n)
		}
	}
	if len(in) < maxRecords {
		t.Errorf("%d rounds are left", len(in))
	}
}

func TestAListingEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	_, err := Records(ctx, &many{Store: &Directory{Path: "/srv"}, n: 10_000_000, between: func(i int) error {
		if i == 50_000 {
			cancel()
		}
		return context.Cause(ctx)
	}}, nil, clusterA)
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// broken is a store that lists and gives nothing.
type broken struct{ Store }

func (broken) Get(context.Context, string) (io.ReadCloser, error) {
	return nil, errors.New("503 Slow Down")
}

// A store that can't be read isn't one without backups.
func TestAStoreThatCannotBeReadIsAnError(t *testing.T) {
	s := &Directory{Path: t.TempDir()}
	put(t, s, aRecord(noon, "cp1"), NewKey())
	for name, s := range map[string]Store{"no record is given": broken{s}, "nothing is there": &Directory{Path: "/nowhere"}} {
		if _, err := Records(t.Context(), s, nil, ""); problem.Of(err) == nil || !strings.Contains(err.Error(), s.Location()) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAKeyIsKeptForOneself(t *testing.T) {
	file := filepath.Join(t.TempDir(), "backup.key")
	k := NewKey()
	if err := k.Write(file); err != nil {
		t.Fatal(err)
	}
	if err := NewKey().Write(file); !errors.Is(err, fs.ErrExist) {
		t.Errorf("written over: %v", err)
	}
	got, err := ReadKey(file)
	if err != nil || !bytes.Equal(got, k) {
		t.Errorf("%v", err)
	}
	if s := fmt.Sprintf("%v %s", k, k); s != "(a key) (a key)" {
		t.Errorf("it shows itself: %s", s)
	}
	if err := os.Chmod(file, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadKey(file); err == nil || !strings.Contains(problem.Line(err), "chmod 600") {
		t.Errorf("others may read it: %v", err)
	}
}

// A new key takes the place of another: what the old one has authenticated is
// still this cluster's, until its line is removed.
func TestAKeyIsReplacedByAnother(t *testing.T) {
	file := filepath.Join(t.TempDir(), "backup.key")
	former, s := NewKey(), &Directory{Path: t.TempDir()}
	put(t, s, aRecord(noon, "cp1"), former)
	add := NewKey()
	if err := append(slices.Clone(add), former...).Write(file); err != nil {
		t.Fatal(err)
	}
	both, err := ReadKey(file)
	if err != nil {
		t.Fatal(err)
	}
	put(t, s, aRecord(noon.Add(time.Hour), "cp1"), both)

	good := func(k Key) (rounds []string) {
		t.Helper()
		l, err := Records(t.Context(), s, k, clusterA)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range l.Entries {
			if e.Err == nil {
				rounds = append(rounds, e.Round.String())
			}
		}
		return rounds
	}
	for name, c := range map[string]struct {
		key  Key
		want string
	}{
		"both":           {both, "20260228T130000Z 20260228T120000Z"},
		"the new alone":  {add, "20260228T130000Z"},
		"the old alone":  {former, "20260228T120000Z"},
		"another":        {NewKey(), ""},
		"nobody's, none": {Key{}, ""},
	} {
		if got := strings.Join(good(c.key), " "); got != c.want {
			t.Errorf("with %s: %q are believed", name, got)
		}
	}
	// Retention counts them together.
	l, err := Records(t.Context(), s, both, clusterA)
	if err != nil {
		t.Fatal(err)
	}
	if p := l.Prune(t.Context(), Policy{Last: 1}, noon.Add(2*time.Hour), nil, false, time.Minute); p.Failed != nil || len(p.Removed) != 1 || p.Kept != 1 {
		t.Errorf("%+v", p)
	}
	if got := strings.Join(good(both), " "); got != "20260228T130000Z" {
		t.Errorf("left: %s", got)
	}
	for _, bad := range []string{"", "\n", "abcd\n", strings.Repeat("ab", 32) + "\nabcd\n", strings.Repeat("ab", 33), strings.Repeat(strings.Repeat("ab", 32)+"\n", maxKeys+1), "hunter2"} {
		if err := os.WriteFile(file, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if k, err := ReadKey(file); problem.Of(err) == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %d bytes, %v", bad, len(k), err)
		}
	}
}

func FuzzRecord(f *testing.F) {
	good, err := aRecord(noon, "cp1").Seal(NewKey())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"record":{"format":1}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := openRecord(aRecord(noon, "cp1").Name(), data, nil)
		if (err == nil) == (r == nil) {
			t.Fatal(r, err)
		}
		if r != nil && (CheckName(r.SnapshotName()) != nil || path.Dir(r.SnapshotName()) != path.Dir(r.Name())) {
			t.Errorf("%s leads elsewhere", r.SnapshotName())
		}
	})
}
