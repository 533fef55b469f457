package snapshot

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func compareFixtures(t *testing.T, a, b string, opts CompareOptions) *Comparison {
	t.Helper()
	c, err := Compare(context.Background(), file(t, a+".db", fixture(t, a)), Other{Snapshot: file(t, b+".db", fixture(t, b))}, opts, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// told is a list as words, "Pod payments/api (spec.replicas 5 → 2)"; the random
// ends of names are left out.
func told(list []Change) []string {
	random := regexp.MustCompile(`-[0-9a-f]{8,10}-[a-z0-9]{5}$`)
	var out []string
	for _, c := range list {
		name := random.ReplaceAllString(c.Name, "-*")
		s := strings.TrimPrefix(fmt.Sprintf("%s %s/%s", c.Kind, c.Namespace, name), "/")
		if c.Namespace == "" {
			s = c.Kind + " " + name
		}
		var fields []string
		for _, f := range c.Fields {
			if f.Hidden {
				fields = append(fields, f.Path+" *")
			} else {
				fields = append(fields, fmt.Sprintf("%s %s → %s", f.Path, f.Now, f.Then))
			}
		}
		if len(fields) > 0 {
			s += " (" + strings.Join(fields, ", ") + ")"
		}
		if c.Replaced {
			s += " replaced"
		}
		out = append(out, s)
	}
	slices.Sort(out)
	return out
}

// What happened between the two: namespace shop deleted, payments/api scaled 2
// to 5, ConfigMap payments/app deleted, namespace after-the-snapshot and Secret
// payments/late made.
func TestCompareTellsExactlyWhatHappened(t *testing.T) {
	c := compareFixtures(t, "before", "after", CompareOptions{})
	if diff := cmp.Diff([]string{
		"ConfigMap payments/app",
		"ConfigMap shop/kube-root-ca.crt",
		"Deployment shop/web",
		"Namespace shop",
		"Pod shop/web-*", "Pod shop/web-*", "Pod shop/web-*",
		"ReplicaSet shop/web-64c966cf88",
		"Secret shop/s1",
		"ServiceAccount shop/default",
	}, told(c.BringsBack.List)); diff != "" {
		t.Errorf("brings back: %s", diff)
	}
	if diff := cmp.Diff([]string{
		"ConfigMap after-the-snapshot/kube-root-ca.crt",
		"Namespace after-the-snapshot",
		"Pod payments/api-*", "Pod payments/api-*", "Pod payments/api-*",
		"Secret payments/late",
		"ServiceAccount after-the-snapshot/default",
	}, told(c.TakesAway.List)); diff != "" {
		t.Errorf("takes away: %s", diff)
	}
	if diff := cmp.Diff([]string{
		"Deployment payments/api (spec.replicas 5 → 2)",
		"ReplicaSet payments/api-86587d6cb5 (metadata.annotations[deployment.kubernetes.io/desired-replicas] 5 → 2," +
			" metadata.annotations[deployment.kubernetes.io/max-replicas] 7 → 3, spec.replicas 5 → 2)",
	}, told(c.TurnsBack.List)); diff != "" {
		t.Errorf("turns back: %s", diff)
	}
	if c.BringsBack.Objects != 10 || c.TakesAway.Objects != 7 || c.TurnsBack.Objects != 2 || c.Same() {
		t.Errorf("%d, %d, %d objects", c.BringsBack.Objects, c.TakesAway.Objects, c.TurnsBack.Objects)
	}
	if c.Lineage.Relation != Before || c.Snapshot.Revision >= c.Other.Revision || c.Snapshot.Keys != 327 {
		t.Errorf("%+v\n%+v\n%+v", c.Lineage, c.Snapshot, c.Other)
	}
	if c.BringsBack.Noise == 0 || c.TurnsBack.Noise == 0 {
		t.Error("events and leases differ, and aren't counted")
	}
}

func TestCompareTheOtherWayRoundIsTheMirrorImage(t *testing.T) {
	c, m := compareFixtures(t, "before", "after", CompareOptions{Noise: true}), compareFixtures(t, "after", "before", CompareOptions{Noise: true})
	if diff := cmp.Diff(told(c.BringsBack.List), told(m.TakesAway.List)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(told(c.TakesAway.List), told(m.BringsBack.List)); diff != "" {
		t.Error(diff)
	}
	if len(c.TurnsBack.List) != len(m.TurnsBack.List) || m.Lineage.Relation != After {
		t.Errorf("%d and %d turned back; %+v", len(c.TurnsBack.List), len(m.TurnsBack.List), m.Lineage)
	}
	for _, ch := range []Changes{c.BringsBack, c.TakesAway, c.TurnsBack} {
		if len(ch.List) != ch.Objects+ch.Noise {
			t.Errorf("%d listed of %d and %d", len(ch.List), ch.Objects, ch.Noise)
		}
	}
}

func TestCompareWithItself(t *testing.T) {
	c := compareFixtures(t, "after", "after", CompareOptions{Noise: true})
	if !c.Same() || c.Lineage.Relation != SameMoment || len(c.TurnsBack.List)+c.TurnsBack.Noise > 0 {
		t.Errorf("%+v", c)
	}
}

func TestCompareListsNoMoreThanTheLimit(t *testing.T) {
	c := compareFixtures(t, "before", "after", CompareOptions{Limit: 3})
	if len(c.BringsBack.List) != 3 || c.BringsBack.Unlisted != 7 || c.BringsBack.Objects != 10 {
		t.Errorf("%d listed, %d not, of %d", len(c.BringsBack.List), c.BringsBack.Unlisted, c.BringsBack.Objects)
	}
}

// The old data directory holds what was restored into it.
func TestCompareWithADataDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "etcd")
	req := request(file(t, "after.db", fixture(t, "after")), dir)
	req.RevisionBump = 1_000_000
	if _, err := Restore(context.Background(), req, nil); err != nil {
		t.Fatal(err)
	}
	path := file(t, "before.db", fixture(t, "before"))
	c, err := Compare(context.Background(), path, Other{DataDir: dir}, CompareOptions{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.BringsBack.Objects != 10 || c.TakesAway.Objects != 7 || c.TurnsBack.Objects != 2 || c.Lineage.Relation != Before || c.Other.What != "data directory" {
		t.Errorf("%+v", c)
	}
	// What was just restored differs in nothing but the bump.
	c, err = Compare(context.Background(), req.Snapshot, Other{DataDir: dir}, CompareOptions{Noise: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !c.Same() || c.Other.Revision-c.Snapshot.Revision != 1_000_000 || c.Lineage.Relation != Before {
		t.Errorf("%+v", c)
	}
}

func TestLineage(t *testing.T) {
	one, two := func(rev int64) Side { return Side{What: "snapshot", Revision: rev, KubeSystemUID: "1"} }, Side{What: SideCluster, Revision: 9, KubeSystemUID: "2"}
	for _, c := range []struct {
		name            string
		a, b            Side
		minThen, minNow int64
		want            Relation
		notOfOneCluster bool
	}{
		{"went on", one(5), one(9), 3, 6, Before, false},
		{"older", one(9), one(5), 6, 2, After, false},
		{"the same", one(5), one(5), 0, 0, SameMoment, false},
		{"went on from before", one(5), one(9), 3, 4, Forked, false},
		{"older, but with its own past", one(9), one(5), 4, 2, Forked, false},
		{"same revision, another past", one(5), one(5), 4, 4, Forked, false},
		{"another cluster", one(5), two, 1, 1, OtherCluster, true},
		{"nothing to compare", one(5), Side{Revision: 9}, 0, 0, Unrelated, true},
	} {
		l := lineage(c.a, c.b, c.minThen, c.minNow)
		if l.Relation != c.want || l.Cause == "" || l.OneCluster() == c.notOfOneCluster {
			t.Errorf("%s: %+v", c.name, l)
		}
	}
}

func TestCompareSaysWhichFileIsBad(t *testing.T) {
	good, bad := file(t, "good.db", fixture(t, "before")), file(t, "bad.db", flip(fixture(t, "after"), 300_000))
	crash := file(t, "crash.db", withRoot(fixture(t, "after"), 1<<30))
	for _, c := range []struct{ a, b, code, name string }{
		{good, bad, CodeDamagedHash, "bad.db"},
		{bad, good, CodeDamagedHash, "bad.db"},
		{good, crash, CodeStructure, "crash.db"},
		{crash, good, CodeStructure, "crash.db"},
		{good, filepath.Join(t.TempDir(), "missing.db"), CodeMissing, "missing.db"},
	} {
		_, err := Compare(context.Background(), c.a, Other{Snapshot: c.b}, CompareOptions{}, nil)
		if p := wantProblem(t, err, c.code); !strings.HasPrefix(p.Cause, c.name+": ") {
			t.Errorf("%s, want %s named", p.Cause, c.name)
		}
	}
}

func TestCompareOfAnEtcdWithoutKubernetes(t *testing.T) {
	a := file(t, "a.db", makeSnapshot(t, func(db *database) { db.put("x", "1"); db.put("y", "1") }))
	b := file(t, "b.db", makeSnapshot(t, func(db *database) { db.put("x", "2"); db.put("z", "1") }))
	c, err := Compare(context.Background(), a, Other{Snapshot: b}, CompareOptions{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	got := slices.Concat(told(c.BringsBack.List), told(c.TakesAway.List), told(c.TurnsBack.List))
	if diff := cmp.Diff([]string{"Key y", "Key z", "Key x"}, got); diff != "" || c.Lineage.Relation != Unrelated {
		t.Errorf("%s %+v", diff, c.Lineage)
	}
}

// Two etcds wrote on from one past, each for itself: the same key, at the same
// revision, as often, and of the same length.
func TestCompareSeesAChangeInTheMiddleOfALongValue(t *testing.T) {
	long := func(middle string) string { return strings.Repeat("a", 3000) + middle + strings.Repeat("z", 3000) }
	for _, c := range []struct{ name, last string }{{"with another key after it", "other"}, {"and nothing else", ""}} {
		a := file(t, "a.db", makeSnapshot(t, func(db *database) { db.put("x", long("1")); db.put("y", "1") }))
		b := file(t, "b.db", makeSnapshot(t, func(db *database) { db.put("x", long("2")); db.put("y"+c.last, "1") }))
		got, err := Compare(context.Background(), a, Other{Snapshot: b}, CompareOptions{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"Key x"}, told(got.TurnsBack.List)); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
	}
}

// The middle of a long value in one cluster, at one revision: the revisions say
// that nothing differs, and a hostile copy of a snapshot is made like that.
func TestCompareReadsLongValuesWholeInOneClusterToo(t *testing.T) {
	long := func(middle string) string { return strings.Repeat("a", 3000) + middle + strings.Repeat("z", 3000) }
	make := func(value string) string {
		return file(t, "x.db", makeSnapshot(t, func(db *database) {
			db.put("/registry/namespaces/kube-system", namespaceJSON("one"))
			db.put("/registry/configmaps/a/c", value)
			db.put("/registry/configmaps/a/d", "{}")
		}))
	}
	for _, c := range []struct{ then, now string }{{long("1"), long("2")}, {"1", "2"}, {long("1"), "1"}} {
		got, err := Compare(t.Context(), make(c.then), Other{Snapshot: make(c.now)}, CompareOptions{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"ConfigMap a/c"}, told(got.TurnsBack.List)); diff != "" || got.Same() || got.Lineage.Relation != Forked {
			t.Errorf("%.5s and %.5s: %s %+v", c.then, c.now, diff, got.Lineage)
		}
	}
}

// Another file took the snapshot's place after it was looked at: what would be
// told isn't about what was seen.
func TestCompareRefusesAnotherFileThanWasLookedAt(t *testing.T) {
	path := file(t, "latest.db", fixture(t, "before"))
	info, err := Inspect(t.Context(), path, nil)
	if err != nil {
		t.Fatal(err)
	}
	opts := CompareOptions{ExpectSHA256: info.SHA256}
	other := Other{Snapshot: file(t, "b.db", fixture(t, "encrypted"))}
	if c, err := Compare(t.Context(), path, other, opts, nil); err != nil || c.Snapshot.SHA256 != info.SHA256 {
		t.Errorf("%+v, %v", c, err)
	}
	if err := os.Rename(file(t, "after.db", fixture(t, "after")), path); err != nil {
		t.Fatal(err)
	}
	_, err = Compare(t.Context(), path, other, opts, nil)
	wantProblem(t, err, CodeChanged)
}

// The data that etcd ran on is what is broken: the snapshot is good, and nobody
// is told to take another one.
func TestCompareBlamesTheDamagedDataDirectory(t *testing.T) {
	good := file(t, "good.db", fixture(t, "before"))
	for name, data := range map[string][]byte{
		"zeros":     make([]byte, 1<<20),
		"empty":     {},
		"cut off":   fixture(t, "after")[:4096*20],
		"scrambled": withoutTrailer(withRoot(fixture(t, "after"), 1<<30)),
		"missing":   nil,
	} {
		dir := t.TempDir()
		if err := os.MkdirAll(filepath.Join(dir, "member", "snap"), 0o700); err != nil {
			t.Fatal(err)
		}
		if data != nil {
			if err := os.WriteFile(dbPath(dir), data, 0o600); err != nil {
				t.Fatal(err)
			}
			makeOld(t, dbPath(dir))
		}
		read := false
		_, err := Compare(t.Context(), good, Other{DataDir: dir}, CompareOptions{}, func(Progress) { read = true })
		p := wantProblem(t, err, CodeOther)
		if read && name != "scrambled" { // which only its pages show
			t.Errorf("%s: the snapshot is read first", name)
		}
		if !strings.Contains(p.Cause, dir) || strings.Contains(p.Cause, "not a snapshot") || strings.Contains(p.Hint, "another snapshot") || !strings.Contains(p.Hint, "snapshot is intact") {
			t.Errorf("%s: %s (%s)", name, p.Cause, p.Hint)
		}
	}
}
