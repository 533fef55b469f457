package settle

import (
	"slices"
	"strings"
	"testing"

	"etcd-rewind/snapshot"
)

// changes of objects, each as "resource/name"; of noise only the group is kept, as
// a comparison does.
func changes(noise snapshot.Noise, objects ...string) (c snapshot.Changes) {
	for _, o := range objects {
		resource, name, _ := strings.Cut(o, "/")
		c.Groups = append(c.Groups, snapshot.Group{Resource: resource, Objects: 1, Noise: noise})
		if noise == "" {
			c.List = append(c.List, snapshot.Change{ObjectName: snapshot.ObjectName{Resource: resource, Name: name}})
		}
	}
	return c
}

// What a restore will leave to be settled is said before it, by the kinds that
// settle knows.
func TestWhatARestoreWillOweIsForetold(t *testing.T) {
	one := snapshot.Lineage{Relation: snapshot.Before}
	lost := func(c snapshot.Changes) *snapshot.Comparison { return &snapshot.Comparison{Lineage: one, TakesAway: c} }
	back := func(c snapshot.Changes) *snapshot.Comparison {
		return &snapshot.Comparison{Lineage: one, BringsBack: c}
	}
	reverted := func(c snapshot.Changes) *snapshot.Comparison {
		return &snapshot.Comparison{Lineage: one, TurnsBack: c}
	}
	for _, tt := range []struct {
		name string
		c    *snapshot.Comparison
		want string // kind, and the beginning of what is said; "" for nothing
	}{
		{"nodes joined", lost(changes("", "nodes/w8", "nodes/w7")), "node-missing: 2 nodes (w7, w8) joined since"},
		{"a node was deleted", back(changes("", "nodes/w1")), "node-gone: 1 node (w1) deleted since"},
		{"volumes were provisioned", lost(changes("", "persistentvolumes/pvc-1")), "volume: 1 volume (pvc-1) provisioned since"},
		{"volumes were deleted", back(changes("", "persistentvolumes/pvc-1")), "volume: 1 volume (pvc-1) deleted since"},
		{"volumes were attached", lost(changes("", "volumeattachments/csi-1")), "volume-attachment: 1 volume attached since"},
		{"volumes were detached", back(changes("", "volumeattachments/csi-1", "volumeattachments/csi-2")), "volume-attachment: 2 volumes detached since"},
		{"Jobs were completed", reverted(changes(snapshot.NoiseStatus, "jobs/a", "jobs/b")), "job: 2 Jobs progressed"},
		{"an API server went", back(changes(snapshot.NoiseLease, "masterleases/10.0.0.9")), "masterlease: 1 API server then, not now"},
		{"a webhook was deleted", back(changes("", "validatingwebhookconfigurations/guard")), "webhook: 1 webhook configuration deleted since"},
		{"an APIService was deleted", back(changes("", "apiservices/v1beta1.metrics.k8s.io")), "api-service: 1 APIService"},
		{"a service account was made", lost(changes("", "serviceaccounts/ci")), "token: 1 service account created since"},
		{"a namespace was made", lost(changes("", "serviceaccounts/default", "namespaces/shop")), ""},
		{"a Job was completed", reverted(changes(snapshot.NoiseStatus, "jobs/migrate")), "job: 1 Job progressed"},
		{"a CronJob ran", reverted(changes(snapshot.NoiseStatus, "cronjobs/report")), "job: 1 CronJob ran"},
		{"a certificate was renewed", reverted(changes("", "secrets/tls")), "secret: 1 Secret changed since"},
		{"pods were made", lost(changes("", "pods/web-1")), ""},
		{"only the status of a node has changed", reverted(changes(snapshot.NoiseStatus, "nodes/w1")), ""},
		{"it is another cluster's snapshot", &snapshot.Comparison{Lineage: snapshot.Lineage{Relation: snapshot.OtherCluster}, TakesAway: changes("", "nodes/w7")}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			all := Foretell(tt.c)
			if tt.want == "" {
				if len(all) > 0 {
					t.Errorf("it foretells %+v", all)
				}
				return
			}
			if len(all) != 1 || !strings.HasPrefix(all[0].Kind+": "+all[0].Is, tt.want) || all[0].Then == "" {
				t.Errorf("it foretells %+v, not %q", all, tt.want)
			}
		})
	}
}

// Each kind is seen after a restore, or before it, or both.
func TestEachKindOfDebtIsSeen(t *testing.T) {
	for _, k := range kinds {
		if k.find == nil && k.foretell == nil {
			t.Errorf("nothing sees %s", k.name)
		}
	}
	if slices.Contains(Kinds(), "secret") {
		t.Error("secret can't be settled: it is only foretold")
	}
}
