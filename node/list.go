package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

// ListObjects lists all objects of a kind through the API server, page by page,
// and gives each to each. path is the kind's, without a slash in front:
// "apis/storage.k8s.io/v1/volumeattachments"; a kind that the server doesn't
// have is [ErrNotFound]; a query may follow it, "api/v1/secrets?fieldSelector=…". T has the fields that are wanted, by their names in
// the API. Kubeconfig and server are as for [ListMeta]; the call ends with ctx.
func ListObjects[T any](ctx context.Context, kubeconfig, server, path string, each func(*T)) error {
	what, rest, _ := strings.Cut(path, "?")
	query, err := url.ParseQuery(rest)
	if err != nil {
		return err
	}
	query.Set("limit", strconv.Itoa(pageSize))
	var next string
	for range maxPages {
		query.Set("continue", next)
		raw, err := askServer(ctx, kubeconfig, server, what, apiRequest{method: http.MethodGet, path: []string{what}, most: maxAnswer, query: query})
		if err != nil {
			return err
		}
		var page struct {
			Metadata metav1.ListMeta `json:"metadata"`
			Items    []T             `json:"items"`
		}
		if err := json.Unmarshal(raw, &page); err != nil {
			return fmt.Errorf("%s: the answer can't be read: %w", what, err)
		}
		for i := range page.Items {
			each(&page.Items[i])
		}
		if next = page.Metadata.Continue; next == "" {
			return nil
		}
	}
	return fmt.Errorf("%s: the list has no end", what)
}

// CachedRevision is the revision of etcd up to which the API server's cache of
// namespaces goes. Kubeconfig and server are as for [ListMeta]; the call ends with ctx.
func CachedRevision(ctx context.Context, kubeconfig, server string) (int64, error) {
	const what = "api/v1/namespaces"
	raw, err := askServer(ctx, kubeconfig, server, what, apiRequest{
		method: http.MethodGet, path: []string{what}, most: maxAnswer, query: url.Values{"limit": {"1"}, "resourceVersion": {"0"}},
	})
	if err != nil {
		return 0, err
	}
	var list struct {
		Metadata metav1.ListMeta `json:"metadata"`
	}
	if err := json.Unmarshal(raw, &list); err != nil {
		return 0, fmt.Errorf("%s: the answer can't be read: %w", what, err)
	}
	return strconv.ParseInt(list.Metadata.ResourceVersion, 10, 64)
}

const pageSize = 500 // objects

type apiRequest struct {
	method      string
	path        []string // escaped
	query       url.Values
	contentType string
	body        []byte
	most        int64 // bytes of the answer
}

// askServer asks the API server once, and gives its answer when that is 200 or 201. What
// asking again doesn't change is a [RefusedError].
func askServer(ctx context.Context, kubeconfig, server, what string, q apiRequest) (raw []byte, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	conf, err := restConfig(kubeconfig, server)
	if err != nil {
		return nil, &RefusedError{err}
	}
	defer func() {
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		err = fmt.Errorf("%s at %s: %w", what, conf.Host, plain(err))
	}()
	client, err := httpClient(ctx, conf)
	if err != nil {
		return nil, &RefusedError{fmt.Errorf("kubeconfig %s: %w", kubeconfig, err)}
	}
	base, _, err := rest.DefaultServerUrlFor(conf)
	if err != nil {
		return nil, &RefusedError{fmt.Errorf("kubeconfig %s: %w", kubeconfig, err)}
	}
	u := base.JoinPath(q.path...)
	u.RawQuery = q.query.Encode()
	request, err := http.NewRequestWithContext(ctx, q.method, u.String(), bytes.NewReader(q.body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "application/json")
	if q.contentType != "" {
		request.Header.Set("Content-Type", q.contentType)
	}
	resp, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	raw, err = io.ReadAll(io.LimitReader(resp.Body, q.most+1))
	switch {
	case err != nil:
		return nil, err
	case int64(len(raw)) > q.most:
		return nil, errors.New("the answer is too large")
	case resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusCreated:
		return nil, refusal(resp.StatusCode, raw)
	}
	return raw, nil
}
