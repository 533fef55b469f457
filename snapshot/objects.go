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

// kube is what distinguishes one Kubernetes cluster from another.
type kube struct {
	prefix        string
	prefixes      []string
	kubeSystemUID string
	namespaces    []Object
	nodes         []Object
	kubelets      map[string]int
	serviceCIDRs  []string
	serviceIP     string
	apiServers    []string
	kubeadm       *Kubeadm

	moreNamespaces, moreNodes int // that aren't in the lists
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

// finder collects those objects while the live keys go by. The prefix of the
// keys is known only at the end: --etcd-prefix may be anything.
type finder struct {
	below map[string]*below // by prefix
	kept  int
	lost  int // prefixes that weren't kept
}

// below is what was found under one prefix.
type below struct {
	system     *Object // the namespace kube-system
	namespaces objectList
	nodes      objectList
	cidrs      []string
	servers    []string
	ip         string
	kubeadm    *Kubeadm
	kubelets   map[string]int // nodes by their kubelet's version
}

// objectList has the first of the objects, and the number of all.
type objectList struct {
	list []Object
	n    int
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
const kubeadmConfig = "/configmaps/" + metav1.NamespaceSystem + "/kubeadm-config"

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
	case metav1.NamespaceSystem:
		if before, ok := bytes.CutSuffix(key, []byte(kubeadmConfig)); ok {
			return string(before), kubeadmConfig, "kubeadm-config"
		}
	}
	return "", "", ""
}

// at is where to keep what is below a prefix, nil when that is one too many. An
// etcd may be shared by many clusters; only one of them is looked at closely.
func (f *finder) at(prefix string, system bool) *below {
	b := f.below[prefix]
	if b != nil {
		return b
	}
	if len(f.below) >= maxPrefixes {
		f.lost++
		if !system {
			return nil
		}
		for other, o := range f.below { // one that isn't a cluster's
			if o.system == nil {
				f.kept -= len(o.namespaces.list) + len(o.nodes.list)
				delete(f.below, other)
				break
			}
		}
		if len(f.below) >= maxPrefixes {
			return nil
		}
	}
	b = &below{}
	f.below[prefix] = b
	return b
}

func (f *finder) full(l *objectList) bool { return len(l.list) >= maxObjects || f.kept >= maxFound }

func (f *finder) add(l *objectList, o Object) {
	l.n++
	l.list = append(l.list, o)
	f.kept++
}

func (f *finder) put(key, value []byte) {
	prefix, resource, named := resourceOf(key)
	if resource == "" || len(prefix) > maxKey {
		return
	}
	e, ok := open(value)
	encrypted := !ok && bytes.HasPrefix(value, []byte(encryptedMark))
	switch {
	case resource == kubeadmConfig:
		// One that can't be read is shown as well.
	case !ok && !encrypted:
		return
	case resource == kubernetesService && ok && e.kind != "Service":
		return
	case resource != kubernetesService && ok && e.kind != kinds[resource]:
		return // for example a ConfigMap in a namespace called "namespaces"
	}
	system := resource == "namespaces" && named == metav1.NamespaceSystem
	at := f.at(prefix, system)
	if at == nil {
		return
	}
	switch resource {
	case kubeadmConfig:
		if at.kubeadm = (&Kubeadm{Unreadable: "encrypted at rest"}); !encrypted {
			at.kubeadm = readKubeadm(e, ok)
		}
	case kubernetesService:
		var s corev1.Service
		if ok && e.into(&s) == nil {
			at.ip = name(s.Spec.ClusterIP)
		}
	case "servicecidrs":
		var s networkingv1.ServiceCIDR
		if ok && e.into(&s) == nil && len(at.cidrs) < maxFew {
			for _, c := range s.Spec.CIDRs[:min(len(s.Spec.CIDRs), 2)] { // the API allows two
				at.cidrs = append(at.cidrs, name(c))
			}
		}
	case "masterleases":
		if len(at.servers) < maxFew {
			at.servers = append(at.servers, name(named))
		}
	case "minions":
		if f.full(&at.nodes) {
			at.nodes.n++
		} else if o, ok := objectOf(named, e, encrypted); ok {
			f.add(&at.nodes, o)
			at.countKubelet(e)
		}
	case "namespaces":
		if f.full(&at.namespaces) && !system {
			at.namespaces.n++ // a million of them needn't be decoded
			return
		}
		o, ok := objectOf(named, e, encrypted)
		switch {
		case ok && system:
			at.system = &o
		case ok:
			f.add(&at.namespaces, o)
		}
	}
}

// maxKubelets bounds the versions that are kept.
const maxKubelets = 50

func (b *below) countKubelet(e envelope) {
	var n corev1.Node
	if e.into(&n) != nil {
		return
	}
	v := name(n.Status.NodeInfo.KubeletVersion)
	if v == "" || b.kubelets[v] == 0 && len(b.kubelets) >= maxKubelets {
		return
	}
	if b.kubelets == nil {
		b.kubelets = map[string]int{}
	}
	b.kubelets[v]++
}

// objectOf reads an object's metadata. Of an encrypted one the name is all there
// is.
func objectOf(named string, e envelope, encrypted bool) (Object, bool) {
	o := Object{Name: name(named)}
	if encrypted {
		return o, true
	}
	var m metav1.PartialObjectMetadata
	if e.into(&m) != nil {
		return o, false
	}
	o.UID, o.Created, o.Deleting = string(m.UID), m.CreationTimestamp.Time, m.DeletionTimestamp != nil
	if len(o.UID) > maxUID {
		o.UID = strings.ToValidUTF8(o.UID[:maxUID], "") + "…"
	}
	return o, true
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

// result takes the prefix under which the namespace kube-system lies.
func (f *finder) result() kube {
	var k kube
	var at *below
	for prefix, b := range f.below {
		if b.system == nil {
			continue
		}
		k.prefixes = append(k.prefixes, prefix)
		// Were there several, the one nearest to the root is Kubernetes'.
		if at == nil || len(prefix) < len(k.prefix) || len(prefix) == len(k.prefix) && prefix < k.prefix {
			at, k.prefix, k.kubeSystemUID = b, prefix, b.system.UID
		}
	}
	if at == nil {
		return kube{}
	}
	if slices.Sort(k.prefixes); len(k.prefixes) == 1 {
		k.prefixes = nil
	}
	k.namespaces = append(at.namespaces.list, *at.system)
	k.moreNamespaces = at.namespaces.n - len(at.namespaces.list)
	k.nodes, k.moreNodes = at.nodes.list, at.nodes.n-len(at.nodes.list)
	k.serviceCIDRs, k.serviceIP, k.apiServers, k.kubeadm = at.cidrs, at.ip, at.servers, at.kubeadm
	k.kubelets = at.kubelets
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
