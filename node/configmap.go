package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// ConfigMap is an object of that kind, and the state of it that was read.
type ConfigMap struct {
	UID, ResourceVersion string
	Data                 map[string]string
}

// ErrConflict says that an object has changed since it was read.
var ErrConflict = errors.New("it was changed by somebody else in the meantime")

// ErrNotFound says that the API server doesn't have an object, or a kind. A
// kubeconfig that isn't there is another error.
var ErrNotFound = errors.New("it isn't in the API")

// A RefusedError is an answer of the API server that asking again doesn't
// change: no permission, no such object, not valid.
type RefusedError struct{ Err error }

func (e *RefusedError) Error() string { return e.Err.Error() }
func (e *RefusedError) Unwrap() error { return e.Err }

// ConfigMapClient reads and changes one ConfigMap. Each call ends with its
// context.
type ConfigMapClient struct {
	// Kubeconfig and Server are as for [ListMeta].
	Kubeconfig, Server string
	Namespace, Name    string
}

// Get reads it. An object that isn't there is [ErrNotFound].
func (c ConfigMapClient) Get(ctx context.Context) (*ConfigMap, error) {
	return c.call(ctx, http.MethodGet, "", nil)
}

// Set changes one key of its data if it is as it was read; else the error is
// [ErrConflict].
func (c ConfigMapClient) Set(ctx context.Context, read *ConfigMap, key, value string) error {
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]string{"uid": read.UID, "resourceVersion": read.ResourceVersion},
		"data":     map[string]string{key: value},
	})
	if err != nil {
		return err
	}
	_, err = c.call(ctx, http.MethodPatch, string(types.MergePatchType), patch)
	return err
}

// maxObject is more than etcd takes for one object (1.5 MiB by default).
const maxObject = 4 << 20

func (c ConfigMapClient) call(ctx context.Context, method, contentType string, body []byte) (*ConfigMap, error) {
	raw, err := askServer(ctx, c.Kubeconfig, c.Server, fmt.Sprintf("ConfigMap %s/%s", c.Namespace, c.Name), apiRequest{
		method: method, path: []string{"api/v1/namespaces", url.PathEscape(c.Namespace), "configmaps", url.PathEscape(c.Name)},
		contentType: contentType, body: body, most: maxObject,
	})
	if err != nil {
		return nil, err
	}
	var o corev1.ConfigMap
	if err := json.Unmarshal(raw, &o); err != nil {
		return nil, fmt.Errorf("ConfigMap %s/%s: the answer can't be read: %w", c.Namespace, c.Name, err)
	}
	return &ConfigMap{UID: string(o.UID), ResourceVersion: o.ResourceVersion, Data: o.Data}, nil
}

// refusal is what the API server says when it doesn't do what it is asked.
func refusal(code int, body []byte) error {
	var s metav1.Status
	said := fmt.Errorf("%d %s", code, http.StatusText(code))
	if json.Unmarshal(body, &s) == nil && s.Message != "" {
		said = fmt.Errorf("%d: %.300s", code, s.Message)
	}
	switch {
	case code == http.StatusConflict:
		return fmt.Errorf("%w (%w)", ErrConflict, said)
	case code == http.StatusNotFound:
		return &RefusedError{fmt.Errorf("%w (%w)", ErrNotFound, said)}
	case code >= 500, code == http.StatusTooManyRequests, code == http.StatusRequestTimeout:
		return said
	}
	return &RefusedError{said}
}
