package snapshot

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// asStored is an object as kube-apiserver writes it.
func asStored(t *testing.T, kind string, o interface{ Marshal() ([]byte, error) }) string {
	t.Helper()
	raw, err := o.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	u := runtime.Unknown{TypeMeta: runtime.TypeMeta{Kind: kind, APIVersion: "v1"}, Raw: raw}
	frame, err := u.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return "k8s\x00" + string(frame)
}

// What kubeadm renders etcd's manifest from is read from the snapshot, or why it
// can't be.
func TestASnapshotTellsKubeadmsConfiguration(t *testing.T) {
	const text = "apiServer: {}\netcd:\n  local:\n    dataDir: /var/lib/etcd\n"
	configMap := func(data map[string]string) string {
		return asStored(t, "ConfigMap", &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "kubeadm-config"}, Data: data})
	}
	for _, c := range []struct {
		name, prefix, value string
		want                *Kubeadm
	}{
		{"as kubeadm writes it", "/registry", configMap(map[string]string{"ClusterConfiguration": text}), &Kubeadm{ClusterConfiguration: text}},
		{"below another prefix", "/kubernetes.io", configMap(map[string]string{"ClusterConfiguration": text}), &Kubeadm{ClusterConfiguration: text}},
		{"encrypted at rest", "/registry", "k8s:enc:aescbc:v1:key1:xxxx", &Kubeadm{Unreadable: "encrypted at rest"}},
		{"without it", "/registry", configMap(nil), &Kubeadm{Unreadable: "no ClusterConfiguration in it"}},
		{"of another kind", "/registry", asStored(t, "Secret", &corev1.Secret{}), &Kubeadm{Unreadable: "not a ConfigMap"}},
		{"not Kubernetes'", "/registry", "etcd", &Kubeadm{Unreadable: "not a ConfigMap"}},
		{
			"larger than anybody's", "/registry", configMap(map[string]string{"ClusterConfiguration": strings.Repeat("x", maxClusterConfiguration+1)}),
			&Kubeadm{Unreadable: fmt.Sprintf("its ClusterConfiguration has %d bytes", maxClusterConfiguration+1)},
		},
		{"no such object", "/registry", "", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			data := makeSnapshot(t, func(db *database) {
				db.put(c.prefix+"/namespaces/kube-system", asStored(t, "Namespace", &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "kube-system", UID: "1"}}))
				db.put(c.prefix+"/configmaps/default/kubeadm-config", configMap(map[string]string{"ClusterConfiguration": "another"}))
				if c.value != "" {
					db.put(c.prefix+kubeadmConfig, c.value)
				}
			})
			info, err := Inspect(context.Background(), file(t, "kubeadm.db", bytes.Clone(data)), nil)
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case (info.Kubeadm == nil) != (c.want == nil):
				t.Errorf("%+v, want %+v", info.Kubeadm, c.want)
			case c.want != nil && *info.Kubeadm != *c.want:
				t.Errorf("%+v, want %+v", *info.Kubeadm, *c.want)
			}
		})
	}
}
