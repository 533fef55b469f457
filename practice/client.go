package practice

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// apiClient asks an API server with a kubeconfig.
type apiClient struct {
	http   *http.Client
	server string
}

func newAPIClient(kubeconfig string) (*apiClient, error) {
	conf, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, err
	}
	t, err := rest.TLSConfigFor(conf)
	if err != nil {
		return nil, err
	}
	return &apiClient{
		http:   &http.Client{Transport: &http.Transport{TLSClientConfig: t, DisableKeepAlives: true}, Timeout: 5 * time.Second},
		server: strings.TrimSuffix(conf.Host, "/"),
	}, nil
}

// statusError is an answer of the API server other than 200.
type statusError struct {
	code    int
	message string
}

func (e *statusError) Error() string { return e.message }

// get reads a path into v. accept may be "".
func (c *apiClient) get(ctx context.Context, path, accept string, v any) error {
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, c.server+path, nil)
	if err != nil {
		return err
	}
	q.Header.Set("Accept", cmp.Or(accept, "application/json"))
	return c.do(q, v)
}

// put replaces the object at a path.
func (c *apiClient) put(ctx context.Context, path string, object []byte) error {
	q, err := http.NewRequestWithContext(ctx, http.MethodPut, c.server+path, bytes.NewReader(object))
	if err != nil {
		return err
	}
	q.Header.Set("Content-Type", "application/json")
	var answer any
	return c.do(q, &answer)
}

// do decodes the answer into v.
func (c *apiClient) do(q *http.Request, v any) error {
	resp, err := c.http.Do(q)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		var s metav1.Status
		if json.Unmarshal(body, &s) != nil || s.Message == "" {
			s.Message = fmt.Sprintf("%s: %s", resp.Status, strings.TrimSpace(string(body)))
		}
		return &statusError{resp.StatusCode, s.Message}
	}
	return json.Unmarshal(body, v)
}
