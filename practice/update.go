package practice

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strconv"

	clientv3 "go.etcd.io/etcd/client/v3"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	invalid "k8s.io/apimachinery/pkg/util/validation/field"
)

// maxBody is what kube-apiserver reads of a request.
const maxBody = 3 << 20

var (
	configMaps    = schema.GroupResource{Resource: "configmaps"}
	configMapKind = schema.GroupKind{Kind: "ConfigMap"}
)

// change answers the PUT or PATCH of a ConfigMap as kube-apiserver does
// (apiserver/pkg/registry/generic/registry/store.go).
func (s *apiServer) change(ctx context.Context, w http.ResponseWriter, q *http.Request, k *kind, namespace, name string) {
	body, err := io.ReadAll(http.MaxBytesReader(w, q.Body, maxBody))
	if err != nil {
		refuse(w, apierrors.NewRequestEntityTooLargeError(err.Error()))
		return
	}
	// Both kinds of merge patch mean the same for a ConfigMap.
	known := []string{"application/json"}
	if q.Method == http.MethodPatch {
		known = []string{string(types.MergePatchType), string(types.StrategicMergePatchType)}
	}
	if media, _, _ := mime.ParseMediaType(q.Header.Get("Content-Type")); !slices.Contains(known, media) {
		refuse(w, apierrors.NewGenericServerResponse(http.StatusUnsupportedMediaType, q.Method, configMaps, name, fmt.Sprintf("the body has the type %q", media), 0, false))
		return
	}
	for {
		m, again, err := s.changeOnce(ctx, k.key(s.prefix, namespace)+name, q, namespace, name, body)
		switch {
		case err != nil:
			refuse(w, err)
		case again:
			continue // another change came first: the same questions again
		default:
			answer(w, m)
		}
		return
	}
}

func (s *apiServer) changeOnce(ctx context.Context, key string, q *http.Request, namespace, name string, body []byte) (m *corev1.ConfigMap, again bool, err error) {
	resp, err := s.etcd.Get(ctx, key)
	if err != nil {
		return nil, false, etcdError(err)
	}
	if len(resp.Kvs) == 0 {
		return nil, false, apierrors.NewNotFound(configMaps, name)
	}
	kv := resp.Kvs[0]
	stored, err := decode(key, kv.Value)
	if err != nil {
		return nil, false, err
	}
	old, ok := stored.(*corev1.ConfigMap)
	if !ok {
		return nil, false, fmt.Errorf("%s holds a %T", key, stored)
	}
	old.ResourceVersion = strconv.FormatInt(kv.ModRevision, 10)
	if q.Method == http.MethodPatch {
		m, err = patched(old, body)
	} else {
		m, err = replaced(old, body)
	}
	if err == nil {
		err = mayReplace(old, m, namespace, name)
	}
	if err != nil {
		return nil, false, err
	}
	if equality.Semantic.DeepEqual(old, m) || q.URL.Query().Get("dryRun") != "" {
		return m, false, nil
	}
	m.ResourceVersion = "" // it isn't stored: it is etcd's
	value, err := encode(m)
	if err != nil {
		return nil, false, err
	}
	txn, err := s.etcd.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", kv.ModRevision)).Then(clientv3.OpPut(key, string(value))).Commit()
	if err != nil {
		return nil, false, etcdError(err)
	}
	m.ResourceVersion = strconv.FormatInt(txn.Header.Revision, 10)
	return m, !txn.Succeeded, nil
}

// replaced is what a PUT asks for. What it doesn't say of the object's identity
// stays.
func replaced(old *corev1.ConfigMap, body []byte) (*corev1.ConfigMap, error) {
	m := &corev1.ConfigMap{}
	if err := json.Unmarshal(body, m); err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	if m.UID != "" && m.UID != old.UID {
		//lint:ignore ST1005 the API server's words
		return nil, apierrors.NewConflict(configMaps, old.Name, fmt.Errorf("Precondition failed: UID in precondition: %s, UID in object meta: %s", m.UID, old.UID))
	}
	if m.Namespace == "" {
		m.Namespace = old.Namespace
	}
	if m.ResourceVersion == "" {
		m.ResourceVersion = old.ResourceVersion
	}
	m.UID, m.CreationTimestamp = old.UID, old.CreationTimestamp
	if m.ManagedFields == nil {
		m.ManagedFields = old.ManagedFields
	}
	return m, nil
}

func patched(old *corev1.ConfigMap, body []byte) (*corev1.ConfigMap, error) {
	var patch map[string]any
	if err := json.Unmarshal(body, &patch); err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	raw, err := json.Marshal(old)
	if err != nil {
		return nil, err
	}
	var o map[string]any
	if err := json.Unmarshal(raw, &o); err != nil {
		return nil, err
	}
	if raw, err = json.Marshal(merge(o, patch)); err != nil {
		return nil, err
	}
	m := &corev1.ConfigMap{}
	if err := json.Unmarshal(raw, m); err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	return m, nil
}

// merge is RFC 7386.
func merge(o, patch map[string]any) map[string]any {
	if o == nil {
		o = map[string]any{}
	}
	for name, to := range patch {
		switch to := to.(type) {
		case nil:
			delete(o, name)
		case map[string]any:
			was, _ := o[name].(map[string]any)
			o[name] = merge(was, to)
		default:
			o[name] = to
		}
	}
	return o
}

// mayReplace is what the API server asks before it takes one for the other.
func mayReplace(old, m *corev1.ConfigMap, namespace, name string) error {
	switch {
	case m.Kind != "" && m.Kind != "ConfigMap" || m.APIVersion != "" && m.APIVersion != "v1":
		return apierrors.NewBadRequest(fmt.Sprintf("the object provided is unrecognized: %s %s", m.APIVersion, m.Kind))
	case m.Name != name:
		return apierrors.NewBadRequest(fmt.Sprintf("the name of the object (%s) does not match the name on the URL (%s)", m.Name, name))
	case m.Namespace != namespace:
		return apierrors.NewBadRequest("the namespace of the provided object does not match the namespace sent on the request")
	case m.ResourceVersion != old.ResourceVersion:
		return apierrors.NewConflict(configMaps, name, errors.New("the object has been modified; please apply your changes to the latest version and try again"))
	case m.UID != old.UID:
		return apierrors.NewInvalid(configMapKind, name, invalid.ErrorList{invalid.Invalid(invalid.NewPath("metadata", "uid"), m.UID, "field is immutable")})
	}
	m.TypeMeta = old.TypeMeta
	return nil
}
