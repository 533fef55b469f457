package drill

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"

	"etcd-rewind/node"
	"etcd-rewind/problem"
	"etcd-rewind/trust"
)

// wanted is a kind that the snapshot has objects of.
type wanted struct {
	Kind    string `json:"kind"`
	Group   string `json:"group,omitempty"`
	Version string `json:"version,omitempty"` // as its objects are stored; "" when that isn't known
	// Resource is its name in the API.
	Resource string `json:"resource"`
	Stored   string `json:"stored"` // its name in the keys
	Objects  int    `json:"objects"`
	Custom   bool   `json:"custom,omitempty"` // of a CustomResourceDefinition
	// Encrypted is by how many keys its objects are encrypted.
	Encrypted []string `json:"encrypted,omitempty"`
}

// Kind says how many objects of a kind the snapshot has, and how many the API
// server listed at the snapshot's revision.
type Kind struct {
	Kind     string `json:"kind"`
	Resource string `json:"resource"` // as in the snapshot's keys
	Objects  int    `json:"objects"`  // in the snapshot
	Listed   int    `json:"listed"`   // through the API; each was read, and decrypted
	// Encrypted are the providers and keys that its objects are encrypted with.
	Encrypted []string `json:"encrypted,omitempty"`
	// NotListed says why the API server was not asked for them: it doesn't serve
	// the kind, or would have had to call a webhook.
	NotListed string `json:"not_listed,omitempty"`
}

// reader lists what an API server has, without values: an object is read and
// decrypted by the API server, and only its metadata comes out.
type reader struct {
	url      string
	client   *http.Client
	lister   metadata.Interface
	revision int64
	wait     time.Duration // for a kind that the API server is still learning of
	largest  int64         // bytes of one answer
	served   map[string]*metav1.APIResourceList
	groups   map[string][]string // versions of each group, the preferred one first
	asked    time.Time           // for these
}

// Bounds of what one answer may have and take.
const (
	pageObjects = 500
	maxAnswer   = 64 << 20 // bytes
	pageLimit   = time.Minute
)

func newReader(url, ca, cert, key string, revision int64) (*reader, error) {
	conf := &rest.Config{
		Host: url, QPS: -1, WarningHandlerWithContext: rest.NoWarnings{},
		TLSClientConfig: rest.TLSClientConfig{CAFile: ca, CertFile: cert, KeyFile: key},
	}
	client, err := rest.HTTPClientFor(conf)
	if err != nil {
		return nil, err
	}
	r := &reader{url: url, client: client, revision: revision, wait: 10 * time.Second, largest: maxAnswer}
	client.Transport = bounded{client.Transport, &r.largest}
	r.lister, err = metadata.NewForConfigAndClient(conf, client)
	return r, err
}

func (r *reader) close() { r.client.CloseIdleConnections() }

// bounded ends an answer that is too large to be taken into memory.
type bounded struct {
	http.RoundTripper
	largest *int64
}

func (b bounded) RoundTrip(q *http.Request) (*http.Response, error) {
	resp, err := b.RoundTripper.RoundTrip(q)
	if err == nil {
		resp.Body = http.MaxBytesReader(nil, resp.Body, *b.largest)
	}
	return resp, err
}

// get reads an answer in JSON; found is false for one that isn't served.
func (r *reader) get(ctx context.Context, path string, into any) (found bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, pageLimit)
	defer cancel()
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url+path, nil)
	if err != nil {
		return false, err
	}
	q.Header.Set("Accept", "application/json")
	resp, err := r.client.Do(q)
	if err != nil {
		return false, fmt.Errorf("GET %s: %w", path, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return false, fmt.Errorf("GET %s: %w", path, err)
	case resp.StatusCode == http.StatusNotFound, resp.StatusCode == http.StatusServiceUnavailable:
		return false, nil
	case resp.StatusCode != http.StatusOK:
		return false, fmt.Errorf("GET %s: %s: %s", path, resp.Status, trust.Clip(trust.Text(string(body)), 300))
	}
	if err := json.Unmarshal(body, into); err != nil {
		return false, fmt.Errorf("GET %s: %w", path, err)
	}
	return true, nil
}

// version is the API server's own, "v1.34.4".
func (r *reader) version(ctx context.Context) (string, error) {
	var v struct {
		GitVersion string `json:"gitVersion"`
	}
	_, err := r.get(ctx, "/version", &v)
	return v.GitVersion, err
}

// all lists every kind. The error is about what can't be read; what differs is
// in the kinds.
func (r *reader) all(ctx context.Context, kinds []wanted, say func(string)) ([]Kind, error) {
	var out []Kind
	until := time.Now().Add(r.wait)
	for _, w := range kinds {
		k := Kind{Kind: w.Kind, Resource: w.Stored, Objects: w.Objects, Encrypted: w.Encrypted}
		at, err := r.find(ctx, w, until)
		if err != nil {
			return nil, err
		}
		if at.Empty() {
			k.NotListed = "this kube-apiserver doesn't serve it"
			out = append(out, k)
			continue
		}
		say(fmt.Sprintf("listing %s", at.Resource))
		k.Listed, err = r.count(ctx, at)
		switch {
		case err == nil:
		case w.Custom && strings.Contains(err.Error(), "conversion webhook"):
			k.Listed, k.NotListed = 0, "its conversion webhook isn't called in a drill"
		default:
			return nil, problem.New("", "kube-apiserver can't read %s: %w", w.name(), err)
		}
		out = append(out, k)
	}
	return out, nil
}

func (w wanted) name() string {
	if w.Group == "" {
		return trust.Text(w.Resource)
	}
	return trust.Text(w.Resource + "." + w.Group)
}

// find is where the API has a kind: in the version that its objects are stored
// in, which needs no conversion, else in the group's preferred one. Empty when
// it isn't served. An API server learns of its CustomResourceDefinitions after it
// is ready; that it doesn't serve one is never taken from what it said before until.
func (r *reader) find(ctx context.Context, w wanted, until time.Time) (schema.GroupVersionResource, error) {
	for {
		at, err := r.lookUp(ctx, w)
		if err != nil || !at.Empty() || !w.Custom || r.asked.After(until) {
			return at, err
		}
		r.served, r.groups = nil, nil
		select {
		case <-ctx.Done():
			return at, context.Cause(ctx)
		case <-time.After(min(200*time.Millisecond, time.Until(until))):
		}
	}
}

func (r *reader) lookUp(ctx context.Context, w wanted) (schema.GroupVersionResource, error) {
	if r.groups == nil {
		r.asked = time.Now()
		var all metav1.APIGroupList
		if _, err := r.get(ctx, "/apis", &all); err != nil {
			return schema.GroupVersionResource{}, err
		}
		r.groups, r.served = map[string][]string{"": {"v1"}}, map[string]*metav1.APIResourceList{}
		for _, g := range all.Groups {
			versions := []string{g.PreferredVersion.Version}
			for _, v := range g.Versions {
				versions = append(versions, v.Version)
			}
			r.groups[g.Name] = versions
		}
	}
	versions := r.groups[w.Group]
	if slices.Contains(versions, w.Version) {
		versions = append([]string{w.Version}, versions...)
	}
	for i, v := range versions {
		if slices.Contains(versions[:i], v) {
			continue
		}
		path := "/apis/" + w.Group + "/" + v
		if w.Group == "" {
			path = "/api/" + v
		}
		list := r.served[path]
		if list == nil {
			list = &metav1.APIResourceList{}
			if _, err := r.get(ctx, path, list); err != nil {
				return schema.GroupVersionResource{}, err
			}
			r.served[path] = list
		}
		if slices.ContainsFunc(list.APIResources, func(a metav1.APIResource) bool {
			return a.Name == w.Resource && slices.Contains(a.Verbs, "list")
		}) {
			return schema.GroupVersionResource{Group: w.Group, Version: v, Resource: w.Resource}, nil
		}
	}
	return schema.GroupVersionResource{}, nil
}

// count lists all objects as they were at the snapshot's revision: what the API
// server itself has written since doesn't count.
func (r *reader) count(ctx context.Context, at schema.GroupVersionResource) (int, error) {
	n := 0
	opts := metav1.ListOptions{
		Limit: pageObjects, ResourceVersion: fmt.Sprint(r.revision), ResourceVersionMatch: metav1.ResourceVersionMatchExact,
	}
	for {
		page, err := r.page(ctx, at, opts)
		var large *http.MaxBytesError
		if errors.As(err, &large) && opts.Limit > 1 {
			opts.Limit = max(1, opts.Limit/5)
			continue
		}
		if err != nil {
			return n, inWords(err)
		}
		n += len(page.Items)
		if page.Continue == "" {
			return n, nil
		}
		if len(page.Items) == 0 {
			return n, errors.New("a page without objects, and more to come")
		}
		opts.Continue, opts.ResourceVersion, opts.ResourceVersionMatch = page.Continue, "", ""
	}
}

func (r *reader) page(ctx context.Context, at schema.GroupVersionResource, opts metav1.ListOptions) (*metav1.PartialObjectMetadataList, error) {
	ctx, cancel := context.WithTimeout(ctx, pageLimit)
	defer cancel()
	return r.lister.Resource(at).List(ctx, opts)
}

// doubts are kinds that an API server may be unable to read. One that can't is
// never ready, and says nothing of why in /readyz.
type doubts struct {
	kinds []wanted
	next  time.Duration // after it first answered
	since time.Time
}

// doubtAfter is how long an API server may take to be ready after its first
// answer before it is asked for what it may not be able to read.
const doubtAfter = 2 * time.Second

// confirmed is why a kind can't be read; nil when they can be, or weren't tried
// now. A list that fails in another way says nothing yet.
func (d *doubts) confirmed(ctx context.Context, r *reader, now time.Time) error {
	if d.since.IsZero() {
		d.since = now
	}
	if len(d.kinds) == 0 || now.Sub(d.since) < d.next {
		return nil
	}
	d.next = 8 * d.next
	for _, w := range d.kinds {
		at, err := r.lookUp(ctx, w)
		if err != nil || at.Empty() {
			continue
		}
		if _, err := r.count(ctx, at); err != nil && node.Untransformable(err.Error()) {
			return fmt.Errorf("it can't read %s: %w", w.name(), err)
		}
	}
	r.served, r.groups = nil, nil // it is still learning of some
	return nil
}

// inWords is the API server's own message, clean and bounded.
func inWords(err error) error {
	var s *apierrors.StatusError
	if errors.As(err, &s) {
		return errors.New(trust.Clip(trust.Text(s.ErrStatus.Message), 500))
	}
	return errors.New(trust.Clip(trust.Text(err.Error()), 500))
}
