package pane

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"etcd-rewind/snapshot"
	"etcd-rewind/ui/text"
)

var (
	noon = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	look = text.NewLook(func(name string) string { return map[string]string{"LANG": "C.UTF-8", "TERM": "xterm"}[name] })
)

// changesOf are the changes of a few objects for each name.
func changesOf(names ...string) snapshot.Changes {
	var c snapshot.Changes
	for _, n := range names {
		for i := range 6 {
			ch := snapshot.Change{Kind: "Deployment", Then: 1, Now: 2, Created: noon.Add(-time.Hour)}
			ch.Resource, ch.Namespace, ch.Name = "deployments", fmt.Sprintf("%s-%d", n, i/5), fmt.Sprintf("%s-%d", n, i)
			ch.Fields = []snapshot.Field{{Path: "metadata.annotations[" + n + "]", Hidden: true}, {Path: "spec.image", Then: n, Now: n + ":2"}, {Path: "spec.replicas", Then: "2"}}
			c.List = append(c.List, ch)
		}
		c.Groups = append(c.Groups, snapshot.Group{Namespace: n + "-0", Kind: "Deployment", Objects: 5})
	}
	c.Objects = len(c.List) + 3
	c.Unlisted = 3
	return c
}

func comparisonOf(names ...string) *snapshot.Comparison {
	return &snapshot.Comparison{
		Snapshot:   snapshot.Side{What: "snapshot", From: "/var/backups/" + names[0], Revision: 675, Keys: 327, LastWrite: noon.Add(-time.Hour)},
		Other:      snapshot.Side{What: "cluster", From: "https://" + names[0], Revision: 743, Keys: 321},
		Lineage:    snapshot.Lineage{Relation: snapshot.Before, Cause: "one cluster; " + names[0]},
		BringsBack: changesOf(names...), TakesAway: changesOf(names[0]), TurnsBack: changesOf(names...),
	}
}

// What a screen of thousands of rows keeps from one frame to the next must not
// outlive a change.
func TestAKeptRowIsDrawnAgainWhenItChanges(t *testing.T) {
	d := &Diff{Result: comparisonOf("shop", "bank", "farm")}
	w, h := 80, 70
	draw := func() string {
		lines, _, _ := d.View(look, noon, w, h)
		return strings.Join(lines, "\n")
	}
	key := func(names ...string) {
		for _, n := range names {
			d.Key(n, h)
			draw()
		}
	}
	var before []string
	for i, change := range []func(){
		func() {}, func() { key(" ") }, func() { key("j", " ") }, func() { key("f") }, func() { w, h = 100, 75 }, func() { key("f") },
		func() { key("k", " ") }, func() { d.Result = comparisonOf("other") }, func() { key("end", " ") },
	} {
		change()
		kept := draw()
		d.drawn = drawnDiff{}
		if fresh := draw(); kept != fresh {
			t.Errorf("after change %d the pane shows\n%s\nand redrawn from scratch\n%s", i, kept, fresh)
		}
		if slices.Contains(before, kept) {
			t.Errorf("change %d shows nothing", i)
		}
		before = append(before, kept)
	}
}
