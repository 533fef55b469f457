//go:build e2e && linux

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// comparison is what diff --output json prints.
type comparison struct {
	Type    string `json:"type"`
	Lineage struct {
		Relation string `json:"relation"`
		Cause    string `json:"cause"`
	} `json:"lineage"`
	Other struct {
		What     string `json:"what"`
		Revision int64  `json:"revision"`
	} `json:"other"`
	BringsBack changes `json:"brings_back"`
	TakesAway  changes `json:"takes_away"`
	TurnsBack  changes `json:"turns_back"`
}

type changes struct {
	List []struct {
		Kind      string `json:"kind"`
		Namespace string `json:"namespace"`
		Name      string `json:"name"`
		Replaced  bool   `json:"replaced"`
		Fields    []struct{ Path, Then, Now string }
	} `json:"list"`
}

// in is what changed in a namespace, or of the namespace itself.
func (c changes) in(namespaces ...string) []string {
	var out []string
	for _, o := range c.List {
		if !slices.Contains(namespaces, o.Namespace) && !(o.Kind == "Namespace" && slices.Contains(namespaces, o.Name)) {
			continue
		}
		s := o.Kind + " " + strings.TrimPrefix(o.Namespace+"/"+o.Name, "/")
		for _, f := range o.Fields {
			if f.Path == "spec.replicas" {
				s += fmt.Sprintf(" %s → %s", f.Now, f.Then)
			}
		}
		out = append(out, s)
	}
	slices.Sort(out)
	return out
}

func diff(t *testing.T, args ...string) comparison {
	t.Helper()
	o := run(t, append([]string{"diff", "--output", "json"}, args...)...)
	var c comparison
	if err := json.Unmarshal([]byte(o.stdout), &c); o.code != 0 || err != nil || c.Type != "comparison" {
		t.Fatalf("exit status %d, %v: %s%s", o.code, err, o.stdout, o.stderr)
	}
	return c
}

func TestSaveDamageDiffRestoreDiff(t *testing.T) {
	begin(t)
	s := aStory(t)
	shop, late := "shop-"+s.number(), "late-"+s.number()
	kubectl(t, "create", "configmap", "kept", "--namespace="+shop, "--from-literal=a=b")
	// What controllers make of namespaces and Deployments has to be in the
	// snapshot, or it would be taken away.
	for _, ns := range []string{shop, late} {
		for _, made := range []string{"configmap/kube-root-ca.crt", "serviceaccount/default"} {
			kubectl(t, "wait", made, "--namespace="+ns, "--for=create", "--timeout=240s")
		}
	}
	kubectl(t, "wait", "deployment/web", "--namespace="+shop, "--for=jsonpath={.status.unavailableReplicas}=1", "--timeout=240s")

	// Taken without a flag, under a name of its own, and nobody else may read it.
	dir := t.TempDir()
	o := run(t, "save", dir)
	files, err := filepath.Glob(dir + "/*")
	if err != nil || o.code != 0 || len(files) != 1 {
		t.Fatalf("exit status %d: %v %v\n%s%s", o.code, files, err, o.stdout, o.stderr)
	}
	saved := files[0]
	if st, err := os.Stat(saved); err != nil || st.Mode() != 0o600 || !strings.HasPrefix(filepath.Base(saved), "etcd-cp1-rev") {
		t.Errorf("%s has mode %v (%v)", saved, st.Mode(), err)
	}
	if o := run(t, "save", saved); o.code != 4 || !strings.Contains(strings.Join(strings.Fields(o.stderr), " "), "exists already") {
		t.Errorf("a second save over it: exit status %d\n%s", o.code, o.stderr)
	}
	if out, err := node.Command(t.Context(), "etcdutl", "snapshot", "status", saved).CombinedOutput(); err != nil {
		t.Errorf("etcdutl: %v\n%s", err, out)
	}
	if o := run(t, "inspect", saved); o.code != 0 || !strings.Contains(o.stdout, "cp1") || strings.Contains(o.stdout, "No verdict") {
		t.Errorf("inspect: exit status %d\n%s%s", o.code, o.stdout, o.stderr)
	}

	// Damage, and how the tool reports it.
	kubectl(t, "delete", "configmap/kept", "--namespace="+shop)
	kubectl(t, "scale", "deployment/web", "--namespace="+shop, "--replicas=3")
	kubectl(t, "wait", "deployment/web", "--namespace="+shop, "--for=jsonpath={.status.replicas}=3", "--timeout=240s")
	kubectl(t, "create", "secret", "generic", "new", "--namespace="+late, "--from-literal=password=hunter2isNotTold")
	c := diff(t, saved)
	if c.Lineage.Relation != "before" || c.Other.What != "cluster" {
		t.Errorf("%+v %+v", c.Lineage, c.Other)
	}
	if d := cmp.Diff([]string{"ConfigMap " + shop + "/kept"}, c.BringsBack.in(shop, late)); d != "" {
		t.Errorf("brings back: %s", d)
	}
	taken := slices.DeleteFunc(c.TakesAway.in(shop, late), func(s string) bool { return strings.HasPrefix(s, "Pod "+shop) })
	if d := cmp.Diff([]string{"Secret " + late + "/new"}, taken); d != "" {
		t.Errorf("takes away: %s", d)
	}
	turned := slices.DeleteFunc(c.TurnsBack.in(shop, late), func(s string) bool { return strings.HasPrefix(s, "ReplicaSet") })
	if d := cmp.Diff([]string{"Deployment " + shop + "/web 3 → 1"}, turned); d != "" {
		t.Errorf("turns back: %s", d)
	}
	for _, o := range []outcome{run(t, "diff", "--all", "--fields", saved), run(t, "inspect", "-o", "json", saved)} {
		if strings.Contains(o.stdout+o.stderr, "hunter2") || strings.Contains(o.stdout, "aHVudGVy") {
			t.Error("a Secret's value came out")
		}
	}

	// Restored, nothing is left but what the restore itself does: the static
	// pods are others, and kubeadm knows the new data directory.
	restored := restore(t, saved)
	c = diff(t, saved)
	if c.Lineage.Relation != "before" || c.Other.Revision < restored.Rev {
		t.Errorf("after the restore: %+v %+v, restored to %d", c.Lineage, c.Other, restored.Rev)
	}
	for what, list := range map[string]changes{"brings back": c.BringsBack, "takes away": c.TakesAway, "turns back": c.TurnsBack} {
		for _, o := range list.List {
			pod := o.Kind == "Pod" && o.Namespace == "kube-system" && strings.HasSuffix(o.Name, "-cp1")
			kubeadm := what == "turns back" && o.Kind == "ConfigMap" && o.Namespace == "kube-system" && o.Name == "kubeadm-config"
			if !pod && !kubeadm {
				t.Errorf("after the restore it still %s %s %s/%s %+v", what, o.Kind, o.Namespace, o.Name, o.Fields)
			}
		}
	}

	// Put back, it is as it was reported before.
	undo(t)
	if c = diff(t, saved); !slices.Contains(c.BringsBack.in(shop), "ConfigMap "+shop+"/kept") {
		t.Errorf("after the undo it brings back %v", c.BringsBack.in(shop))
	}
}

// number tells the story's objects from another's.
func (s story) number() string { return strings.TrimPrefix(s.label, "story=n") }
