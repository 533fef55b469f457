package snapshot

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func inspectFixture(t *testing.T, name string) *Info {
	t.Helper()
	info, err := Inspect(context.Background(), file(t, name+".db", fixture(t, name)), nil)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func kind(t *testing.T, info *Info, name string) Kind {
	t.Helper()
	i := slices.IndexFunc(info.Kinds, func(k Kind) bool { return k.Kind == name })
	if i < 0 {
		t.Fatalf("there is no %s", name)
	}
	return info.Kinds[i]
}

func TestContentsByKindAndNamespace(t *testing.T) {
	info := inspectFixture(t, "before")
	pods := kind(t, info, "Pod")
	if pods.Objects != 9 || pods.APIVersion != "v1" || pods.Resource != "pods" {
		t.Errorf("pods: %+v", pods)
	}
	got := map[string]int{}
	for _, n := range pods.Namespaces {
		got[n.Namespace] = n.Objects
		if n.Created.IsZero() || n.Changed.Before(n.Created) {
			t.Errorf("pods in %s: created %v, changed %v", n.Namespace, n.Created, n.Changed)
		}
	}
	if diff := cmp.Diff(map[string]int{"kube-system": 4, "payments": 2, "shop": 3}, got); diff != "" {
		t.Error(diff)
	}
	deployments := kind(t, info, "Deployment")
	if deployments.APIVersion != "apps/v1" || deployments.Objects != 2 {
		t.Errorf("deployments: %+v", deployments)
	}
	if w := kind(t, info, "Widget"); w.APIVersion != "example.com/v1" || w.Resource != "widgets.example.com" ||
		w.Objects != 1 || w.Created.IsZero() || w.Namespaces[0].Namespace != "payments" {
		t.Errorf("the custom resource, which is JSON: %+v", w)
	}
	if k := kind(t, info, "Service"); k.Resource != "services" || k.Objects != 2 {
		t.Errorf("services: %+v", k)
	}
	if k := kind(t, info, "Endpoints"); k.Resource != "endpoints" && k.Resource != "masterleases" {
		t.Errorf("endpoints: %+v", k)
	}
	if k := kind(t, info, "Node"); len(k.Namespaces) != 0 || k.Resource != "minions" {
		t.Errorf("nodes: %+v", k)
	}
	if diff := cmp.Diff([]string{"widgets.example.com"}, info.CRDs); diff != "" {
		t.Error(diff)
	}
	total := 0
	for _, k := range info.Kinds {
		total += k.Objects
		if k.Changed.After(info.LastWrite.Add(time.Second)) {
			t.Errorf("%s was changed at %v, after the newest change of all, %v", k.Kind, k.Changed, info.LastWrite)
		}
	}
	if total > info.Keys || total < info.Keys-3 {
		t.Errorf("%d objects in %d keys", total, info.Keys)
	}
}

func TestEncryptedValuesAreCountedByKey(t *testing.T) {
	info := inspectFixture(t, "encrypted")
	want := []Encryption{{Provider: "aescbc", Key: "key1", Objects: 1, Resources: []string{"secrets"}}}
	if diff := cmp.Diff(want, info.Encryption); diff != "" {
		t.Error(diff)
	}
	secrets := kind(t, info, "Secret")
	if secrets.Objects < 2 || secrets.Created.IsZero() {
		t.Errorf("secrets, of which one is encrypted: %+v", secrets)
	}
}

func TestSplitKey(t *testing.T) {
	for key, want := range map[string]ObjectName{
		"pods/shop/web-1":                                            {"pods", "shop", "web-1"},
		"minions/cp1":                                                {"minions", "", "cp1"},
		"services/specs/default/kubernetes":                          {"services", "default", "kubernetes"},
		"services/endpoints/default/kubernetes":                      {"endpoints", "default", "kubernetes"},
		"example.com/widgets/payments/w1":                            {"widgets.example.com", "payments", "w1"},
		"apiextensions.k8s.io/customresourcedefinitions/a.b.example": {"customresourcedefinitions.apiextensions.k8s.io", "", "a.b.example"},
		"clusterroles/system:node":                                   {"clusterroles", "", "system:node"},
		"ranges/serviceips":                                          {"ranges", "", "serviceips"},
	} {
		if got, ok := splitKey(key); !ok || got != want {
			t.Errorf("%s: %+v", key, got)
		}
	}
	for _, key := range []string{"", "pods", "pods/", "example.com/widgets", "services/specs", "compact_rev_key"} {
		if got, ok := splitKey(key); ok {
			t.Errorf("%q: %+v", key, got)
		}
	}
}

func TestTimesAreThoseOfTheDecodedMetadata(t *testing.T) {
	looked := 0
	for _, name := range fixtureNames {
		err := eachRecord(t, name, func(r record) {
			s, ok := skim(r.value, true)
			if !ok || !s.proto {
				return
			}
			m, err := decodeMeta(s.meta, true)
			if err != nil {
				t.Fatalf("%s: %v", r.key, err)
			}
			want := m.CreationTimestamp.Time
			for _, f := range m.ManagedFields {
				if f.Time != nil && f.Time.After(want) {
					want = f.Time.Time
				}
			}
			created, changed := timesOf(s.meta)
			if !created.Equal(m.CreationTimestamp.Time) || !changed.Equal(want) {
				t.Errorf("%s: made %v, changed %v; want %v and %v", r.key, created, changed, m.CreationTimestamp.Time, want)
			}
			if !want.IsZero() {
				looked++
			}
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if looked < 1000 {
		t.Errorf("only %d objects with times", looked)
	}
}
