package ui

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"etcd-rewind/snapshot"
	"etcd-rewind/steps"
	"etcd-rewind/ui/print"
	"etcd-rewind/ui/text"
)

func changed(resource, kind, namespace, name string, then, now int64, fields ...snapshot.Field) snapshot.Change {
	return snapshot.Change{ObjectName: snapshot.ObjectName{Resource: resource, Namespace: namespace, Name: name}, Kind: kind, Then: then, Now: now, Fields: fields}
}

func someComparison() *snapshot.Comparison {
	c := &snapshot.Comparison{
		Snapshot: snapshot.Side{What: "snapshot", From: "/var/backups/before.db", Revision: 1000000675, Keys: 327, LastWrite: noon.Add(-12 * time.Minute)},
		Other:    snapshot.Side{What: "cluster", From: "https://127.0.0.1:2379", Revision: 1000000743, Keys: 321},
		Lineage:  snapshot.Lineage{Relation: snapshot.Before, Cause: "one cluster; the cluster is 68 revisions further than the snapshot"},
	}
	group := func(ns, kind string, n int, noise snapshot.Noise) snapshot.Group {
		return snapshot.Group{Namespace: ns, Kind: kind, Objects: n, Noise: noise}
	}
	c.BringsBack = snapshot.Changes{Objects: 5, Noise: 4, Groups: []snapshot.Group{
		group("", "Namespace", 1, ""), group("payments", "ConfigMap", 1, ""),
		group("shop", "NetworkPolicy", 2, ""), group("shop", "Secret", 1, ""), group("shop", "Event", 4, snapshot.NoiseEvent),
	}, List: []snapshot.Change{
		changed("namespaces", "Namespace", "", "shop", 5, 0),
		changed("configmaps", "ConfigMap", "payments", "app", 5, 0),
		changed("networkpolicies", "NetworkPolicy", "shop", "a", 5, 0),
		changed("networkpolicies", "NetworkPolicy", "shop", "b", 5, 0),
		changed("secrets", "Secret", "shop", "s1", 5, 0),
	}}
	c.TakesAway = snapshot.Changes{Objects: 5, Groups: []snapshot.Group{group("payments", "Pod", 4, ""), group("payments", "Secret", 1, "")}}
	for _, n := range []string{"1", "2", "3", "4"} {
		c.TakesAway.List = append(c.TakesAway.List, changed("pods", "Pod", "payments", "api-"+n, 0, 9))
	}
	c.TakesAway.List = append(c.TakesAway.List, changed("secrets", "Secret", "payments", "late\x1b[31m", 0, 9))
	replaced := changed("pods", "Pod", "kube-system", "etcd-cp1", 5, 9)
	replaced.Replaced = true
	c.TurnsBack = snapshot.Changes{Objects: 3, Noise: 2, Unlisted: 1, Groups: []snapshot.Group{
		group("", "Node", 2, snapshot.NoiseStatus), group("payments", "Deployment", 1, ""), group("kube-system", "Pod", 1, ""), group("x", "ConfigMap", 1, ""),
	}, List: []snapshot.Change{
		replaced,
		changed("deployments", "Deployment", "payments", "api", 5, 9,
			snapshot.Field{Path: "metadata.annotations[note]", Hidden: true},
			snapshot.Field{Path: "spec.replicas", Then: "2", Now: "5"},
			snapshot.Field{Path: "spec.template.spec.containers[api].env[TOKEN].value", Hidden: true}),
	}}
	return c
}

// What will be left to settle is said with the changes, and in a line of the plan.
func TestWhatIsToSettleIsSaidBeforeTheRestore(t *testing.T) {
	c := someComparison()
	if owed := text.Foretold(c, 80); owed != nil {
		t.Errorf("it owes %q", owed)
	}
	c.TakesAway.Groups = append(c.TakesAway.Groups, snapshot.Group{Resource: "nodes", Kind: "Node", Objects: 1})
	c.TakesAway.List = append(c.TakesAway.List, changed("nodes", "Node", "", "w7\x1b[31m", 0, 9))
	c.TurnsBack.Groups = append(c.TurnsBack.Groups, snapshot.Group{Resource: "secrets", Kind: "Secret", Objects: 2})
	all := strings.Join(text.Comparison(c, text.DiffOptions{}, noon, 100), "\n")
	if !strings.Contains(all, "To settle after it (etcd-rewind settle)\n  → 1 node (w7") || strings.Contains(all, "\x1b") {
		t.Errorf("it says %q", all)
	}
	facts := text.Foreseen(c)
	if len(facts) != 2 || !strings.HasSuffix(facts[1].Value, "joined since; 2 Secrets changed since") {
		t.Errorf("the plan has %+v", facts)
	}
	d := diffPane{}
	d.Result = c
	if lines, _, _ := d.View(text.NewLook(func(string) string { return "" }), noon, 80, 60); !strings.Contains(strings.Join(lines, "\n"), "To settle after it") {
		t.Errorf("the screen shows %q", lines)
	}
}

func TestComparisonAsText(t *testing.T) {
	const want = `✓ one cluster; the cluster is 68 revisions further than the snapshot
before.db   revision 1000000675   327 keys   last write 12 min ago
cluster     revision 1000000743   321 keys   https://127.0.0.1:2379

The restore re-creates 5 objects
  + Namespace shop with 3 objects: 2 NetworkPolicies, Secret
  + ConfigMap payments/app

It deletes 5 objects
  - 4 Pods in payments
  - Secret payments/late

It reverts 3 objects
  ~ Pod kube-system/etcd-cp1 (another object of the same name)
  ~ Deployment payments/api (replicas 5 → 2, containers[api].env[TOKEN].value differs)
  · 1 more

Not shown: 4 events, 2 with a change of status only`
	got := strings.Join(text.Comparison(someComparison(), text.DiffOptions{}, noon, 100), "\n")
	if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(got, "\n")); diff != "" {
		t.Error(diff)
	}
	if s := text.ComparisonSummary(someComparison()); s != "re-creates 5, deletes 5, reverts 3 objects" {
		t.Errorf("summary %q", s)
	}
	all := strings.Join(text.Comparison(someComparison(), text.DiffOptions{List: true, Fields: true}, noon, 100), "\n")
	for _, want := range []string{"      + Secret shop/s1\n", "      - Pod payments/api-3\n", "      metadata.annotations[note] differs\n", "      spec.replicas 5 → 2\n"} {
		if !strings.Contains(all, want) {
			t.Errorf("with all and fields, %q is missing:\n%s", want, all)
		}
	}
}

func TestComparisonOfOtherClustersIsSaidFirst(t *testing.T) {
	c := someComparison()
	c.Lineage = snapshot.Lineage{Relation: snapshot.OtherCluster, Cause: "another cluster"}
	if first := text.Comparison(c, text.DiffOptions{}, noon, 100)[0]; first != "✗ another cluster" {
		t.Errorf("first line %q", first)
	}
	c = &snapshot.Comparison{Other: snapshot.Side{What: "data directory"}, Lineage: snapshot.Lineage{Relation: snapshot.SameMoment, Cause: "same"}}
	sentence := strings.Join(text.Comparison(c, text.DiffOptions{}, noon, 100), "\n")
	if !strings.Contains(sentence, "No differences in user objects") || !strings.Contains(sentence, "etcd doesn't answer") {
		t.Error(sentence)
	}
	if s := text.ComparisonSummary(c); s != "no differences in user objects" {
		t.Errorf("summary %q", s)
	}
}

func TestComparisonFitsNarrowScreens(t *testing.T) {
	for w := 40; w < 120; w += 7 {
		for _, l := range text.Comparison(someComparison(), text.DiffOptions{List: true, Fields: true}, noon, w) {
			if text.Width(l) > w && strings.Contains(strings.TrimLeft(l, " "), " ") { // a word is never broken
				t.Errorf("%d wide: %q", w, l)
			}
		}
	}
}

func TestInspectedAsText(t *testing.T) {
	info := &snapshot.Info{
		Name: "a.db", Packed: &snapshot.Staged{Path: "/var/lib/x", Format: snapshot.TarGzip, Inside: "b/a.db"}, Size: 750_000, TotalSize: 749_000, Hash: snapshot.HashMissing, Revision: 7, Keys: 3, Prefix: "/registry",
		Members:    []snapshot.Member{{Name: "cp1", PeerURLs: []string{"https://1"}}, {Name: "new", Learner: true}},
		Encryption: []snapshot.Encryption{{Provider: "aescbc", Key: "key1", Objects: 2, Resources: []string{"secrets"}}},
		Kinds: []snapshot.Kind{
			{Kind: "Endpoints", Resource: "endpoints", Count: snapshot.Count{Objects: 1, Created: noon.Add(-time.Hour)}},
			{Kind: "Endpoints", Resource: "masterleases", Count: snapshot.Count{Objects: 5}},
		},
	}
	i := text.Inspected{
		Info: info, Node: "cp1",
		Verdicts: []steps.Verdict{{Title: "Disk space", Level: steps.Error, Cause: "full", Hint: "free some"}},
	}
	text := strings.Join(text.Inspection(i, noon, 100), "\n")
	for _, want := range []string{
		"! a.db has no sha256 trailer", "tar.gz, b/a.db in it; unpacked to /var/lib/x", "aescbc:key1: 2 of secrets", "from before etcd 3.6",
		"cp1 https://1, new (learner)", "unknown: encrypted at rest", "Endpoints (masterleases)", "60 min", "For cp1", "✗ Disk space  full", "→ free some",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing:\n%s", want, text)
		}
	}
	var b bytes.Buffer
	if err := print.JSONInspected(&b, i, noon); err != nil || !strings.Contains(b.String(), `"type":"snapshot"`) || strings.Count(b.String(), "\n") != 1 {
		t.Errorf("%v %s", err, b.String())
	}
	if info.Kinds[0].Kind != "Endpoints" {
		t.Error("printing has changed what it prints")
	}
}
