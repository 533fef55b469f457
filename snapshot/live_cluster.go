package snapshot

import (
	"context"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Cluster is what distinguishes a running etcd's Kubernetes from another.
type Cluster struct {
	KubeSystemUID string    // "" when there is no namespace kube-system, or it can't be read
	Created       time.Time // of that namespace
	None          bool      // there is no such namespace below the prefix
}

// AskCluster asks a running etcd for the namespace kube-system below a prefix.
func AskCluster(ctx context.Context, e Etcd, prefix string) (Cluster, error) {
	l, err := dial(ctx, e)
	if err != nil {
		return Cluster{}, err
	}
	defer l.close()
	value, err := l.value(ctx, []byte(prefix+"/namespaces/kube-system"), 0)
	if err != nil || value == nil {
		return Cluster{None: err == nil}, err
	}
	var m metav1.PartialObjectMetadata
	if o, ok := open(value); !ok || o.kind != "Namespace" || o.into(&m) != nil {
		return Cluster{}, nil
	}
	return Cluster{KubeSystemUID: string(m.UID), Created: m.CreationTimestamp.Time}, nil
}
