package snapshot

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// kube is what tells one Kubernetes cluster from another.
type kube struct {
	prefix        string
	prefixes      []string
	kubeSystemUID string
	namespaces    []Object
	nodes         []Object
	serviceCIDRs  []string
	serviceIP     string
	apiServers    []string
	kubeadm       *Kubeadm
}

// Kubeadm is the ConfigMap kube-system/kubeadm-config, from which kubeadm
// upgrade and kubeadm join render etcd's manifest.
type Kubeadm struct {
	// ClusterConfiguration is its text as stored, "" when Unreadable says why
	// it can't be read.
	ClusterConfiguration string `json:"cluster_configuration,omitempty"`
	Unreadable           string `json:"unreadable,omitempty"`
}

// maxClusterConfiguration bounds what is taken from a snapshot: kubeadm's own
// has some 500 bytes, with patches and many extra arguments a few thousand.
const maxClusterConfiguration = 64 << 10

// finder collects the newest state of those objects while the revisions go by.
// The prefix of the keys is known only at the end: --etcd-prefix may be
// anything.
type finder map[string]found

type found struct {
	prefix, resource string
	Object
	cidrs   []string
	ip      string
	kubeadm *Kubeadm
}

// The resources looked for, by the segment before the name in
// <prefix>/<resource>/<name>, and the kind that the value must have.
var kinds = map[string]string{
	"namespaces":   "Namespace",
	"minions":      "Node",
	"servicecidrs": "ServiceCIDR",
	"masterleases": "Endpoints",
}

// kubernetesService is the service default/kubernetes; its resource has
// another depth than the others.
const kubernetesService = "/services/specs/default/kubernetes"

// kubeadmConfig is as deep as no other that is looked for, too.
const kubeadmConfig = "/configmaps/kube-system/kubeadm-config"

// resourceOf splits a key; resource is "" for one that isn't looked for.
func resourceOf(key []byte) (prefix, resource, name string) {
	i := bytes.LastIndexByte(key, '/')
	if i <= 0 {
		return "", "", ""
	}
	j := bytes.LastIndexByte(key[:i], '/')
	if j < 0 {
		return "", "", ""
	}
	switch segment := key[j+1 : i]; string(segment) {
	case "namespaces", "minions", "servicecidrs", "masterleases":
		return string(key[:j]), string(segment), string(key[i+1:])
	case "default":
		if before, ok := bytes.CutSuffix(key, []byte(kubernetesService)); ok {
			return string(before), kubernetesService, "kubernetes"
		}
	case "kube-system":
		if before, ok := bytes.CutSuffix(key, []byte(kubeadmConfig)); ok {
			return string(before), kubeadmConfig, "kubeadm-config"
		}
	}
	return "", "", ""
}

func (f finder) put(key, value []byte) {
	prefix, resource, name := resourceOf(key)
	if resource == "" {
		return
	}
	o := found{prefix: prefix, resource: resource, Object: Object{Name: name}}
	e, ok := open(value)
	switch {
	case !ok && bytes.HasPrefix(value, []byte("k8s:enc:")):
		// Encrypted: the name is all there is.
		o.kubeadm = &Kubeadm{Unreadable: "encrypted at rest"}
	case resource == kubeadmConfig:
		o.kubeadm = readKubeadm(e, ok)
	case !ok:
		return
	case resource == kubernetesService:
		var s corev1.Service
		if e.kind != "Service" || e.into(&s) != nil {
			return
		}
		o.ip = s.Spec.ClusterIP
	case e.kind != kinds[resource]:
		return // for example a ConfigMap in a namespace called "namespaces"
	case resource == "servicecidrs":
		var s networkingv1.ServiceCIDR
		if e.into(&s) != nil {
			return
		}
		o.cidrs = s.Spec.CIDRs
	default:
		var m metav1.PartialObjectMetadata
		if e.into(&m) != nil {
			return
		}
		o.UID, o.Created, o.Deleting = string(m.UID), m.CreationTimestamp.Time, m.DeletionTimestamp != nil
	}
	f[string(key)] = o
}

func readKubeadm(e envelope, ok bool) *Kubeadm {
	var c corev1.ConfigMap
	if !ok || e.kind != "ConfigMap" || e.into(&c) != nil {
		return &Kubeadm{Unreadable: "not a ConfigMap"}
	}
	text := c.Data["ClusterConfiguration"]
	switch {
	case text == "":
		return &Kubeadm{Unreadable: "no ClusterConfiguration in it"}
	case len(text) > maxClusterConfiguration:
		return &Kubeadm{Unreadable: fmt.Sprintf("its ClusterConfiguration has %d bytes", len(text))}
	}
	return &Kubeadm{ClusterConfiguration: strings.Clone(text)}
}

// maxPrefixes bounds what is told of an etcd that many clusters share.
const maxPrefixes = 100

// result takes the prefix under which the namespace kube-system lies.
func (f finder) result() kube {
	var k kube
	have := false
	for _, o := range f {
		if o.resource != "namespaces" || o.Name != "kube-system" {
			continue
		}
		if len(k.prefixes) < maxPrefixes && len(o.prefix) < 1024 {
			k.prefixes = append(k.prefixes, o.prefix)
		}
		// Were there several, the one nearest to the root is Kubernetes'.
		if !have || len(o.prefix) < len(k.prefix) {
			have, k.prefix, k.kubeSystemUID = true, o.prefix, o.UID
		}
	}
	if !have {
		return kube{}
	}
	if slices.Sort(k.prefixes); len(k.prefixes) == 1 {
		k.prefixes = nil
	}
	for _, o := range f {
		if o.prefix != k.prefix {
			continue
		}
		switch o.resource {
		case "namespaces":
			k.namespaces = append(k.namespaces, o.Object)
		case "minions":
			k.nodes = append(k.nodes, o.Object)
		case "servicecidrs":
			k.serviceCIDRs = append(k.serviceCIDRs, o.cidrs...)
		case "masterleases":
			k.apiServers = append(k.apiServers, o.Name)
		case kubernetesService:
			k.serviceIP = o.ip
		case kubeadmConfig:
			k.kubeadm = o.kubeadm
		}
	}
	byName := func(a, b Object) int { return strings.Compare(a.Name, b.Name) }
	slices.SortFunc(k.namespaces, byName)
	slices.SortFunc(k.nodes, byName)
	slices.Sort(k.serviceCIDRs)
	slices.Sort(k.apiServers)
	return k
}

// envelope is an object as Kubernetes stores it: protobuf in a
// runtime.Unknown behind the bytes "k8s\x00", or JSON.
type envelope struct {
	kind  string
	raw   []byte
	proto bool
}

// open fails for what is encrypted or isn't a Kubernetes object.
func open(value []byte) (envelope, bool) {
	if rest, ok := bytes.CutPrefix(value, []byte("k8s\x00")); ok {
		var u runtime.Unknown
		if u.Unmarshal(rest) != nil {
			return envelope{}, false
		}
		return envelope{kind: u.Kind, raw: u.Raw, proto: true}, true
	}
	if bytes.HasPrefix(value, []byte("{")) {
		var t metav1.TypeMeta
		if json.Unmarshal(value, &t) != nil || t.Kind == "" {
			return envelope{}, false
		}
		return envelope{kind: t.Kind, raw: value}, true
	}
	return envelope{}, false
}

// into decodes into one of Kubernetes' types. PartialObjectMetadata fits all:
// metadata is the first field of every kind.
func (e envelope) into(to interface{ Unmarshal([]byte) error }) error {
	if e.proto {
		return to.Unmarshal(e.raw)
	}
	return json.Unmarshal(e.raw, to)
}

// newestTime is the newest time that an object says it was touched.
func newestTime(value []byte) time.Time {
	e, ok := open(value)
	if !ok {
		return time.Time{}
	}
	var newest time.Time
	see := func(t time.Time) {
		if t.After(newest) {
			newest = t
		}
	}
	var m metav1.PartialObjectMetadata
	if e.into(&m) != nil {
		return time.Time{}
	}
	see(m.CreationTimestamp.Time)
	for _, f := range m.ManagedFields {
		if f.Time != nil {
			see(f.Time.Time)
		}
	}
	switch e.kind {
	case "Lease":
		var l coordinationv1.Lease
		if e.into(&l) == nil && l.Spec.RenewTime != nil {
			see(l.Spec.RenewTime.Time)
		}
	case "Event":
		var v corev1.Event
		if e.into(&v) == nil {
			see(v.LastTimestamp.Time)
			see(v.EventTime.Time)
			if v.Series != nil {
				see(v.Series.LastObservedTime.Time)
			}
		}
	}
	return newest
}
