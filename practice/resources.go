package practice

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sort"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/apimachinery/pkg/util/duration"
)

// kind is one resource that can be read, and where it lies in etcd.
type kind struct {
	group, version, plural, kind string
	namespaced                   bool
	stored                       string // below the prefix, without slashes at the ends
	short                        []string
	columns                      []column
}

// column of the table that kubectl prints.
type column struct {
	name string
	cell func(object map[string]any) any
}

func (k *kind) groupVersion() string {
	if k.group == "" {
		return k.version
	}
	return k.group + "/" + k.version
}

// field follows names into an object; "" when there is nothing.
func field(o map[string]any, path ...string) any {
	var v any = o
	for _, p := range path {
		m, ok := v.(map[string]any)
		if !ok {
			return ""
		}
		if v, ok = m[p]; !ok {
			return ""
		}
	}
	return v
}

func col(name string, path ...string) column {
	return column{name, func(o map[string]any) any { return fmt.Sprint(field(o, path...)) }}
}

func number(o map[string]any, path ...string) int {
	if f, ok := field(o, path...).(float64); ok {
		return int(f)
	}
	return 0
}

func size(name, path string) column {
	return column{name, func(o map[string]any) any {
		m, _ := o[path].(map[string]any)
		return len(m)
	}}
}

var builtin = []kind{
	{"", "v1", "namespaces", "Namespace", false, "namespaces", []string{"ns"}, []column{col("Status", "status", "phase")}},
	{"", "v1", "nodes", "Node", false, "minions", []string{"no"}, []column{col("Version", "status", "nodeInfo", "kubeletVersion")}},
	{"", "v1", "configmaps", "ConfigMap", true, "configmaps", []string{"cm"}, []column{size("Data", "data")}},
	{"", "v1", "secrets", "Secret", true, "secrets", nil, []column{col("Type", "type"), size("Data", "data")}},
	{"", "v1", "pods", "Pod", true, "pods", []string{"po"}, []column{col("Status", "status", "phase"), col("Node", "spec", "nodeName")}},
	{"", "v1", "services", "Service", true, "services/specs", []string{"svc"}, []column{col("Type", "spec", "type"), col("Cluster-IP", "spec", "clusterIP")}},
	{"", "v1", "endpoints", "Endpoints", true, "services/endpoints", []string{"ep"}, nil},
	{"", "v1", "events", "Event", true, "events", []string{"ev"}, []column{col("Reason", "reason"), col("Message", "message")}},
	{"", "v1", "serviceaccounts", "ServiceAccount", true, "serviceaccounts", []string{"sa"}, nil},
	{"", "v1", "persistentvolumes", "PersistentVolume", false, "persistentvolumes", []string{"pv"}, []column{col("Status", "status", "phase")}},
	{"", "v1", "persistentvolumeclaims", "PersistentVolumeClaim", true, "persistentvolumeclaims", []string{"pvc"}, []column{col("Status", "status", "phase")}},
	{"apps", "v1", "deployments", "Deployment", true, "deployments", []string{"deploy"}, []column{
		{"Ready", func(o map[string]any) any {
			return fmt.Sprintf("%d/%d", number(o, "status", "readyReplicas"), number(o, "spec", "replicas"))
		}},
		{"Up-to-date", func(o map[string]any) any { return number(o, "status", "updatedReplicas") }},
		{"Available", func(o map[string]any) any { return number(o, "status", "availableReplicas") }},
	}},
	{"apps", "v1", "replicasets", "ReplicaSet", true, "replicasets", []string{"rs"}, []column{
		{"Desired", func(o map[string]any) any { return number(o, "spec", "replicas") }},
		{"Current", func(o map[string]any) any { return number(o, "status", "replicas") }},
	}},
	{"apps", "v1", "daemonsets", "DaemonSet", true, "daemonsets", []string{"ds"}, nil},
	{"apps", "v1", "statefulsets", "StatefulSet", true, "statefulsets", []string{"sts"}, nil},
	{"batch", "v1", "jobs", "Job", true, "jobs", nil, nil},
	{"batch", "v1", "cronjobs", "CronJob", true, "cronjobs", []string{"cj"}, nil},
	{"coordination.k8s.io", "v1", "leases", "Lease", true, "leases", nil, []column{col("Holder", "spec", "holderIdentity")}},
	{"rbac.authorization.k8s.io", "v1", "roles", "Role", true, "roles", nil, nil},
	{"rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding", true, "rolebindings", nil, nil},
	{"rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole", false, "clusterroles", nil, nil},
	{"rbac.authorization.k8s.io", "v1", "clusterrolebindings", "ClusterRoleBinding", false, "clusterrolebindings", nil, nil},
	{"apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", false, "apiextensions.k8s.io/customresourcedefinitions", []string{"crd"}, nil},
}

// storage decodes what kube-apiserver writes: a protobuf envelope for its own
// kinds, JSON for custom resources.
var storage = func() *protobuf.Serializer {
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		corev1.AddToScheme, appsv1.AddToScheme, batchv1.AddToScheme, coordinationv1.AddToScheme, rbacv1.AddToScheme,
	} {
		if err := add(s); err != nil {
			panic(err)
		}
	}
	return protobuf.NewSerializer(s, s)
}()

var protobufMagic = []byte("k8s\x00")

// decode gives an object as it lies in etcd: one of the API's own types, else
// what its JSON says.
func decode(key string, value []byte) (any, error) {
	switch {
	case bytes.HasPrefix(value, []byte("k8s:enc:")):
		return nil, fmt.Errorf("internal error occurred: unable to transform key %q: no matching prefix found", key)
	case bytes.HasPrefix(value, protobufMagic):
		obj, gvk, err := storage.Decode(value, nil, nil)
		if err != nil {
			return nil, fmt.Errorf("decode %s: %w", key, err)
		}
		obj.GetObjectKind().SetGroupVersionKind(*gvk)
		return obj, nil
	}
	return json.RawMessage(value), nil
}

// encode is the opposite, for the API's own types.
func encode(o runtime.Object) ([]byte, error) {
	var b bytes.Buffer
	err := storage.Encode(o, &b)
	return b.Bytes(), err
}

// decodeJSON gives an object of a revision as the API does.
func decodeJSON(key string, value []byte, revision int64) (map[string]any, error) {
	stored, err := decode(key, value)
	if err != nil {
		return nil, err
	}
	raw, err := json.Marshal(stored)
	var o map[string]any
	if err == nil {
		err = json.Unmarshal(raw, &o)
	}
	if err != nil {
		return nil, fmt.Errorf("decode %s: %w", key, err)
	}
	meta, _ := o["metadata"].(map[string]any)
	if meta == nil {
		return nil, fmt.Errorf("decode %s: no metadata", key)
	}
	meta["resourceVersion"] = fmt.Sprint(revision) // not stored: it is etcd's
	return o, nil
}

// kinds are the built-in ones and those that custom resource definitions make.
func (s *apiServer) kinds(ctx context.Context) []kind {
	all := append([]kind(nil), builtin...)
	resp, err := s.etcd.Get(ctx, s.prefix+"/apiextensions.k8s.io/customresourcedefinitions/", clientv3.WithPrefix())
	if err != nil {
		return all
	}
	for _, kv := range resp.Kvs {
		var crd struct {
			Spec struct {
				Group, Scope string
				Names        struct {
					Plural, Kind string
					ShortNames   []string
				}
				Versions []struct {
					Name    string
					Served  bool
					Storage bool
				}
			}
		}
		if json.Unmarshal(kv.Value, &crd) != nil {
			continue
		}
		for _, v := range crd.Spec.Versions {
			if v.Storage {
				all = append(all, kind{
					group: crd.Spec.Group, version: v.Name, plural: crd.Spec.Names.Plural, kind: crd.Spec.Names.Kind,
					namespaced: crd.Spec.Scope == "Namespaced", stored: crd.Spec.Group + "/" + crd.Spec.Names.Plural, short: crd.Spec.Names.ShortNames,
				})
			}
		}
	}
	return all
}

// key is where objects of a kind lie in etcd, with a slash at the end.
func (k *kind) key(prefix, namespace string) string {
	key := prefix + "/" + k.stored + "/"
	if namespace != "" {
		key += namespace + "/"
	}
	return key
}

// changeable says whether the practice API server writes objects of a kind.
func (k *kind) changeable() bool { return k.group == "" && k.plural == "configmaps" }

// serve answers discovery, lists, gets, and changes of ConfigMaps.
func (s *apiServer) serve(w http.ResponseWriter, q *http.Request, path string) {
	ctx, cancel := context.WithTimeout(q.Context(), 10*time.Second)
	defer cancel()
	all := s.kinds(ctx)
	parts := strings.Split(strings.Trim(path, "/"), "/")
	group, version, rest := "", "", []string(nil)
	switch {
	case path == "/api":
		answer(w, metav1.APIVersions{TypeMeta: metav1.TypeMeta{Kind: "APIVersions"}, Versions: []string{"v1"}})
		return
	case path == "/apis":
		answer(w, groups(all))
		return
	case parts[0] == "api" && len(parts) >= 2:
		version, rest = parts[1], parts[2:]
	case parts[0] == "apis" && len(parts) >= 3:
		group, version, rest = parts[1], parts[2], parts[3:]
	default:
		notThere(w)
		return
	}
	if len(rest) == 0 {
		if list := resources(all, group, version); len(list.APIResources) > 0 {
			answer(w, list)
			return
		}
		notThere(w)
		return
	}
	namespace := ""
	if rest[0] == "namespaces" && len(rest) > 2 {
		namespace, rest = rest[1], rest[2:]
	}
	for i := range all {
		k := &all[i]
		if k.group != group || k.version != version || k.plural != rest[0] || len(rest) > 2 || namespace != "" && !k.namespaced {
			continue
		}
		switch change := q.Method == http.MethodPut || q.Method == http.MethodPatch; {
		case change && len(rest) == 2 && k.changeable():
			s.change(ctx, w, q, k, namespace, rest[1])
		case q.Method != http.MethodGet:
			failure(w, http.StatusMethodNotAllowed, metav1.StatusReasonMethodNotAllowed, "the practice API server only changes ConfigMaps that are there")
		case len(rest) == 2:
			s.get(ctx, w, q, k, namespace, rest[1])
		default:
			s.list(ctx, w, q, k, namespace)
		}
		return
	}
	notThere(w)
}

func notThere(w http.ResponseWriter) {
	failure(w, http.StatusNotFound, metav1.StatusReasonNotFound, "the server could not find the requested resource")
}

func groups(all []kind) metav1.APIGroupList {
	out := metav1.APIGroupList{TypeMeta: metav1.TypeMeta{Kind: "APIGroupList", APIVersion: "v1"}}
	seen := map[string]bool{"": true}
	for _, k := range all {
		if seen[k.group] {
			continue
		}
		seen[k.group] = true
		v := metav1.GroupVersionForDiscovery{GroupVersion: k.groupVersion(), Version: k.version}
		out.Groups = append(out.Groups, metav1.APIGroup{Name: k.group, Versions: []metav1.GroupVersionForDiscovery{v}, PreferredVersion: v})
	}
	return out
}

func resources(all []kind, group, version string) metav1.APIResourceList {
	out := metav1.APIResourceList{TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}}
	for _, k := range all {
		if k.group == group && k.version == version {
			out.GroupVersion = k.groupVersion()
			verbs := metav1.Verbs{"get", "list"}
			if k.changeable() {
				verbs = append(verbs, "patch", "update")
			}
			out.APIResources = append(out.APIResources, metav1.APIResource{
				Name: k.plural, SingularName: strings.ToLower(k.kind), Namespaced: k.namespaced, Kind: k.kind,
				Verbs: verbs, ShortNames: k.short,
			})
		}
	}
	return out
}

func (s *apiServer) get(ctx context.Context, w http.ResponseWriter, q *http.Request, k *kind, namespace, name string) {
	key := k.key(s.prefix, namespace) + name
	resp, err := s.etcd.Get(ctx, key)
	if err != nil {
		refuse(w, etcdError(err))
		return
	}
	if len(resp.Kvs) == 0 {
		refuse(w, apierrors.NewNotFound(schema.GroupResource{Group: k.group, Resource: k.plural}, name))
		return
	}
	o, err := decodeJSON(key, resp.Kvs[0].Value, resp.Kvs[0].ModRevision)
	if err != nil {
		refuse(w, err)
		return
	}
	switch as := wanted(q); {
	case strings.HasPrefix(as, "PartialObjectMetadata"):
		answer(w, partial(o))
	case as == "Table":
		answer(w, table(k, []map[string]any{o}, resp.Header.Revision))
	default:
		answer(w, o)
	}
}

func (s *apiServer) list(ctx context.Context, w http.ResponseWriter, q *http.Request, k *kind, namespace string) {
	if q.URL.Query().Get("watch") == "true" || q.URL.Query().Get("watch") == "1" {
		failure(w, http.StatusMethodNotAllowed, metav1.StatusReasonMethodNotAllowed, "the practice API server does not watch")
		return
	}
	selector, err := labels.Parse(q.URL.Query().Get("labelSelector"))
	if err != nil {
		refuse(w, apierrors.NewBadRequest(err.Error()))
		return
	}
	resp, err := s.etcd.Get(ctx, k.key(s.prefix, namespace), clientv3.WithPrefix())
	if err != nil {
		refuse(w, etcdError(err))
		return
	}
	objects := []map[string]any{}
	for _, kv := range resp.Kvs {
		o, err := decodeJSON(string(kv.Key), kv.Value, kv.ModRevision)
		if err != nil {
			refuse(w, err)
			return
		}
		if chosen(o, selector, q.URL.Query().Get("fieldSelector")) {
			objects = append(objects, o)
		}
	}
	sort.SliceStable(objects, func(i, j int) bool {
		return fmt.Sprint(field(objects[i], "metadata", "namespace")) < fmt.Sprint(field(objects[j], "metadata", "namespace"))
	})
	kindName, version, items := k.kind+"List", k.groupVersion(), objects
	switch as := wanted(q); {
	case as == "Table":
		answer(w, table(k, objects, resp.Header.Revision))
		return
	case strings.HasPrefix(as, "PartialObjectMetadata"):
		kindName, version, items = "PartialObjectMetadataList", "meta.k8s.io/v1", []map[string]any{}
		for _, o := range objects {
			items = append(items, partial(o))
		}
	}
	answer(w, map[string]any{
		"kind": kindName, "apiVersion": version,
		"metadata": map[string]any{"resourceVersion": fmt.Sprint(resp.Header.Revision)}, "items": items,
	})
}

func etcdError(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return apierrors.NewTimeoutError("etcd did not answer in time", 0)
	}
	return fmt.Errorf("etcdserver: %w", err)
}

// chosen applies selectors; of fields those of the metadata only.
func chosen(o map[string]any, selector labels.Selector, fields string) bool {
	set := labels.Set{}
	if m, ok := field(o, "metadata", "labels").(map[string]any); ok {
		for k, v := range m {
			set[k] = fmt.Sprint(v)
		}
	}
	if !selector.Matches(set) {
		return false
	}
	for f := range strings.SplitSeq(fields, ",") {
		name, value, ok := strings.Cut(f, "=")
		if ok && fmt.Sprint(field(o, strings.Split(name, ".")...)) != strings.TrimPrefix(value, "=") {
			return false
		}
	}
	return true
}

// wanted is what the client asks objects to be turned into: "Table",
// "PartialObjectMetadata", "PartialObjectMetadataList" or "".
func wanted(q *http.Request) string {
	accept := q.Header.Get("Accept")
	for part := range strings.SplitSeq(accept, ",") {
		if !strings.HasPrefix(strings.TrimSpace(part), "application/json") {
			continue
		}
		for p := range strings.SplitSeq(part, ";") {
			if as, ok := strings.CutPrefix(strings.TrimSpace(p), "as="); ok {
				return as
			}
		}
		return ""
	}
	return ""
}

func partial(o map[string]any) map[string]any {
	return map[string]any{"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": o["metadata"]}
}

func table(k *kind, objects []map[string]any, revision int64) map[string]any {
	defs := []map[string]any{{"name": "Name", "type": "string", "format": "name", "description": "", "priority": 0}}
	for _, c := range k.columns {
		defs = append(defs, map[string]any{"name": c.name, "type": "string", "format": "", "description": "", "priority": 0})
	}
	defs = append(defs, map[string]any{"name": "Age", "type": "string", "format": "", "description": "", "priority": 0})
	rows := []map[string]any{}
	for _, o := range objects {
		cells := []any{field(o, "metadata", "name")}
		for _, c := range k.columns {
			cells = append(cells, c.cell(o))
		}
		age := "<unknown>"
		if t, err := time.Parse(time.RFC3339, fmt.Sprint(field(o, "metadata", "creationTimestamp"))); err == nil {
			age = duration.HumanDuration(time.Since(t))
		}
		rows = append(rows, map[string]any{"cells": append(cells, age), "object": partial(o)})
	}
	return map[string]any{
		"kind": "Table", "apiVersion": "meta.k8s.io/v1",
		"metadata":          map[string]any{"resourceVersion": fmt.Sprint(revision)},
		"columnDefinitions": defs, "rows": rows,
	}
}
