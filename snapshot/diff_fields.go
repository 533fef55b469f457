package snapshot

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	networkingv1 "k8s.io/api/networking/v1"
	nodev1 "k8s.io/api/node/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/runtime"
	kschema "k8s.io/apimachinery/pkg/runtime/schema"
)

// knownTypes are the built-in kinds whose fields can be told.
var knownTypes = sync.OnceValue(func() *runtime.Scheme {
	s := runtime.NewScheme()
	b := runtime.NewSchemeBuilder(
		admissionregistrationv1.AddToScheme, appsv1.AddToScheme, autoscalingv1.AddToScheme, autoscalingv2.AddToScheme,
		batchv1.AddToScheme, certificatesv1.AddToScheme, coordinationv1.AddToScheme, corev1.AddToScheme,
		discoveryv1.AddToScheme, flowcontrolv1.AddToScheme, networkingv1.AddToScheme, nodev1.AddToScheme,
		policyv1.AddToScheme, rbacv1.AddToScheme, schedulingv1.AddToScheme, storagev1.AddToScheme,
	)
	if err := b.AddToScheme(s); err != nil {
		panic(err)
	}
	return s
})

// fieldsOf decodes an object into maps, without what the API server and the
// controllers keep in it. It fails for Secrets, for what is encrypted and for
// kinds it doesn't know.
func fieldsOf(types *runtime.Scheme, value []byte) (map[string]any, bool) {
	e, ok := open(value)
	if !ok || e.kind == "Secret" {
		return nil, false
	}
	var all map[string]any
	if e.proto {
		s, ok := skim(value, true)
		if !ok {
			return nil, false
		}
		obj, err := types.New(kschema.FromAPIVersionAndKind(s.apiVersion, s.kind))
		if err != nil {
			return nil, false
		}
		m, ok := obj.(interface{ Unmarshal([]byte) error })
		if !ok || m.Unmarshal(e.raw) != nil {
			return nil, false
		}
		if all, err = runtime.DefaultUnstructuredConverter.ToUnstructured(obj); err != nil {
			return nil, false
		}
	} else if json.Unmarshal(e.raw, &all) != nil {
		return nil, false
	}
	delete(all, "status")
	if meta, ok := all["metadata"].(map[string]any); ok {
		for _, k := range []string{"managedFields", "resourceVersion", "generation", "uid", "creationTimestamp", "selfLink"} {
			delete(meta, k)
		}
		if notes, ok := meta["annotations"].(map[string]any); ok {
			delete(notes, "kubectl.kubernetes.io/last-applied-configuration")
			if len(notes) == 0 {
				delete(meta, "annotations")
			}
		}
	}
	return all, true
}

// fieldDifferences compares two objects. ok is false when one of them can't be
// decoded.
func fieldDifferences(then, now []byte) (fields []Field, ok bool) {
	types := knownTypes()
	a, okA := fieldsOf(types, then)
	b, okB := fieldsOf(types, now)
	if !okA || !okB {
		return nil, false
	}
	var d differences
	d.compare("", a, b)
	return d.fields, true
}

// maxFields is how many fields of one object are told.
const maxFields = 50

type differences struct{ fields []Field }

func (d *differences) compare(path string, then, now any) {
	if len(d.fields) >= maxFields || reflect.DeepEqual(then, now) {
		return
	}
	a, aMap := then.(map[string]any)
	b, bMap := now.(map[string]any)
	if aMap && bMap || aMap && now == nil || bMap && then == nil {
		for _, k := range keysOf(a, b) {
			d.compare(join(path, k), a[k], b[k])
		}
		return
	}
	x, aList := then.([]any)
	y, bList := now.([]any)
	if aList && bList || aList && now == nil || bList && then == nil {
		p, q := byName(x), byName(y)
		for _, k := range keysOf(p, q) {
			d.compare(path+"["+k+"]", p[k], q[k])
		}
		return
	}
	f := Field{Path: path, Then: scalar(then), Now: scalar(now)}
	if !mayBeTold(path, then) || !mayBeTold(path, now) {
		f.Then, f.Now, f.Hidden = "", "", true
	}
	d.fields = append(d.fields, f)
}

func join(path, key string) string {
	switch {
	case path == "":
		return key
	case strings.ContainsAny(key, "./"):
		return path + "[" + key + "]"
	}
	return path + "." + key
}

func keysOf(a, b map[string]any) []string {
	all := map[string]bool{}
	for k := range a {
		all[k] = true
	}
	for k := range b {
		all[k] = true
	}
	return slices.Sorted(maps.Keys(all))
}

// byName makes a list comparable that may have got longer in the middle.
func byName(list []any) map[string]any {
	out := map[string]any{}
	for i, v := range list {
		key := fmt.Sprint(i)
		if m, ok := v.(map[string]any); ok {
			if name, ok := m["name"].(string); ok && name != "" {
				key = name
			}
		}
		if _, taken := out[key]; taken {
			key = fmt.Sprint(i)
		}
		out[key] = v
	}
	return out
}

func scalar(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64) // of JSON
	}
	return shorten(fmt.Sprint(v), 120)
}

// tellable are the fields whose strings tell what was changed and can't be
// secret. Whatever else is a string may be a password: it is said to differ.
var tellable = map[string]bool{
	"image": true, "imagePullPolicy": true, "type": true, "kind": true, "apiGroup": true, "restartPolicy": true,
	"storageClassName": true, "accessModes": true, "nodeName": true, "serviceAccountName": true, "schedule": true,
	"clusterIP": true, "protocol": true, "targetPort": true, "phase": true, "effect": true, "concurrencyPolicy": true,
	"priorityClassName": true, "storage": true, "cpu": true, "memory": true, "minAvailable": true, "maxUnavailable": true,
	"maxSurge": true, "deletionTimestamp": true, "podManagementPolicy": true, "volumeName": true, "ingressClassName": true,
	"unschedulable": true, "finalizers": true, "deployment.kubernetes.io/desired-replicas": true,
	"deployment.kubernetes.io/max-replicas": true, "deployment.kubernetes.io/revision": true,
}

func mayBeTold(path string, v any) bool {
	if strings.HasPrefix(path, "data") || strings.HasPrefix(path, "stringData") || strings.HasPrefix(path, "binaryData") {
		return false
	}
	switch v.(type) {
	case nil, bool, int64, int32, int, float64:
		return true
	case string:
		last := path
		if end, ok := strings.CutSuffix(path, "]"); ok {
			// An annotation, or an entry of a list.
			i := strings.LastIndexByte(end, '[')
			last = end[i+1:]
			if !tellable[last] {
				last = end[:i]
				last = last[strings.LastIndexByte(last, '.')+1:]
			}
			return tellable[last]
		}
		return tellable[last[strings.LastIndexByte(last, '.')+1:]]
	}
	return false
}
