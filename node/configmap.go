package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
)

// ConfigMap is an object of that kind, and the state of it that was read.
type ConfigMap struct {
	UID, ResourceVersion string
	Data                 map[string]string
}

// ErrConflict says that an object has changed since it was read.
var ErrConflict = errors.New("it was changed by somebody else in the meantime")

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

// Get reads it. An object that isn't there is [fs.ErrNotExist].
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

func (c ConfigMapClient) call(ctx context.Context, method, contentType string, body []byte) (m *ConfigMap, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	conf, err := restConfig(c.Kubeconfig, c.Server)
	if err != nil {
		return nil, &RefusedError{err}
	}
	where := fmt.Sprintf("ConfigMap %s/%s at %s", c.Namespace, c.Name, conf.Host)
	defer func() {
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		err = fmt.Errorf("%s: %w", where, plain(err))
	}()
	client, err := httpClient(ctx, conf)
	if err != nil {
		return nil, &RefusedError{fmt.Errorf("kubeconfig %s: %w", c.Kubeconfig, err)}
	}
	base, _, err := rest.DefaultServerUrlFor(conf)
	if err != nil {
		return nil, &RefusedError{fmt.Errorf("kubeconfig %s: %w", c.Kubeconfig, err)}
	}
	u := base.JoinPath("api/v1/namespaces", url.PathEscape(c.Namespace), "configmaps", url.PathEscape(c.Name))
	q, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	q.Header.Set("Accept", "application/json")
	if contentType != "" {
		q.Header.Set("Content-Type", contentType)
	}
	resp, err := client.Do(q)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxObject))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, refusal(resp.StatusCode, raw)
	}
	var o corev1.ConfigMap
	if err := json.Unmarshal(raw, &o); err != nil {
		return nil, fmt.Errorf("the answer can't be read: %w", err)
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
		return &RefusedError{fmt.Errorf("%w (%w)", fs.ErrNotExist, said)}
	case code >= 500, code == http.StatusTooManyRequests, code == http.StatusRequestTimeout:
		return said
	}
	return &RefusedError{said}
}
