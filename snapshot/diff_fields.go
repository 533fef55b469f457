package snapshot

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"regexp"
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

// knownTypes are the built-in kinds whose fields can be shown.
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
// controllers keep in it. kind is "apps Deployment", "" for one whose fields
// aren't known. It fails for Secrets and for what is encrypted or damaged.
func fieldsOf(types *runtime.Scheme, value []byte) (all map[string]any, kind string, ok bool) {
	e, ok := open(value)
	s, skimmed := skim(value, true)
	if !ok || !skimmed || e.kind == "Secret" {
		return nil, "", false
	}
	gvk := kschema.FromAPIVersionAndKind(s.apiVersion, s.kind)
	obj, err := types.New(gvk)
	m, known := obj.(interface{ Unmarshal([]byte) error })
	switch {
	case err == nil && known:
		if e.into(m) != nil {
			return nil, "", false
		}
		kind = strings.TrimSpace(gvk.Group + " " + gvk.Kind)
		if all, err = runtime.DefaultUnstructuredConverter.ToUnstructured(obj); err != nil {
			return nil, "", false
		}
	case e.proto || json.Unmarshal(e.raw, &all) != nil:
		return nil, "", false
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
	return all, kind, true
}

// fieldDifferences compares two objects. ok is false when one of them can't be
// decoded. What is shown is decided by disclosed alone.
func fieldDifferences(then, now []byte) (fields []Field, ok bool) {
	types := knownTypes()
	a, kind, okA := fieldsOf(types, then)
	b, kindNow, okB := fieldsOf(types, now)
	if !okA || !okB {
		return nil, false
	}
	may := disclosed()[kind]
	if may == nil || kind != kindNow {
		may = disclosed()[""]
	}
	var d differences
	d.compare("", may, a, b)
	return d.fields, true
}

// maxFields is how many fields of one object are shown.
const maxFields = 50

type differences struct{ fields []Field }

// compare goes down as far as the paths are known. Where they end, it is said
// that something differs, and nothing of what.
func (d *differences) compare(path string, may *disclosure, then, now any) {
	if len(d.fields) >= maxFields || reflect.DeepEqual(then, now) {
		return
	}
	a, aMap := then.(map[string]any)
	b, bMap := now.(map[string]any)
	x, aList := then.([]any)
	y, bList := now.([]any)
	switch {
	case may.each != nil && (aList || then == nil) && (bList || now == nil):
		p, q := byName(x), byName(y)
		for _, k := range keysOf(p, q) {
			d.compare(path+"["+k+"]", may.each, p[k], q[k])
		}
	case len(may.fields) > 0 && (aMap || then == nil) && (bMap || now == nil):
		for _, k := range keysOf(a, b) {
			if field := may.fields[k]; field != nil {
				d.compare(join(path, k), field, a[k], b[k])
			} else if !reflect.DeepEqual(a[k], b[k]) {
				d.hide(path)
			}
		}
	case may.allows(then) && may.allows(now):
		d.fields = append(d.fields, Field{Path: path, Then: scalar(then), Now: scalar(now)})
	default:
		d.hide(path)
	}
}

// hide says that something below path differs, once.
func (d *differences) hide(path string) {
	if path == "" {
		path = "content"
	}
	if f := (Field{Path: path, Hidden: true}); !slices.Contains(d.fields, f) {
		d.fields = append(d.fields, f)
	}
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

// label is a name as containers have it (RFC 1123).
var label = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

// byName makes a list of containers comparable that may have got longer in the
// middle.
func byName(list []any) map[string]any {
	out := map[string]any{}
	for i, v := range list {
		key := fmt.Sprint(i)
		if m, ok := v.(map[string]any); ok {
			if name, ok := m["name"].(string); ok && label.MatchString(name) {
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
	return fmt.Sprint(v)
}
