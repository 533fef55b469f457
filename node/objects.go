package node

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
)

// Object is an object of the API by name and identity.
type Object struct {
	Name, UID string
	Created   time.Time
}

// ListMeta lists the names and identities of all "namespaces" or "nodes",
// through the API server. With server ("https://host:port") that one is asked
// in place of the kubeconfig's, which may name a load balancer that leads
// elsewhere; its certificate must still be good for the kubeconfig's.
func ListMeta(ctx context.Context, kubeconfig, server, resource string) ([]Object, error) {
	if resource != "namespaces" && resource != "nodes" {
		return nil, fmt.Errorf("cannot list %q: only namespaces and nodes", resource)
	}
	conf, err := restConfig(kubeconfig, server)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	client, err := httpClient(ctx, conf)
	if err != nil {
		return nil, fmt.Errorf("kubeconfig %s: %w", kubeconfig, err)
	}
	lister, err := metadata.NewForConfigAndClient(conf, client)
	if err != nil {
		return nil, fmt.Errorf("kubeconfig %s: %w", kubeconfig, err)
	}
	var out []Object
	opts := metav1.ListOptions{Limit: 500}
	for range maxPages {
		page, err := lister.Resource(schema.GroupVersionResource{Version: "v1", Resource: resource}).List(ctx, opts)
		if err != nil {
			if ctx.Err() != nil {
				err = ctx.Err()
			}
			return nil, fmt.Errorf("cannot list %s at %s: %w", resource, conf.Host, plain(err))
		}
		for _, m := range page.Items {
			out = append(out, Object{m.Name, string(m.UID), m.CreationTimestamp.Time})
		}
		if opts.Continue = page.Continue; opts.Continue == "" {
			return out, nil
		}
	}
	return nil, fmt.Errorf("cannot list %s at %s: the list has no end", resource, conf.Host)
}

// Bounds of what is read of an API server. A page has 500 objects, whose
// annotations may have 256 kB each, and mostly have 1.
const (
	maxPages  = 1000
	maxAnswer = 64 << 20 // bytes
)

// boundedAnswers ends an answer that has no end. Its reader would take it into
// memory.
type boundedAnswers struct{ http.RoundTripper }

func (b boundedAnswers) RoundTrip(q *http.Request) (*http.Response, error) {
	resp, err := b.RoundTripper.RoundTrip(q)
	if err == nil {
		resp.Body = http.MaxBytesReader(nil, resp.Body, maxAnswer)
	}
	return resp, err
}

func restConfig(kubeconfig, server string) (*rest.Config, error) {
	if kubeconfig == "" {
		return nil, errors.New("no kubeconfig for the API server")
	}
	loaded, err := loadKubeconfig(kubeconfig)
	if err != nil {
		return nil, err
	}
	conf, err := clientcmd.NewDefaultClientConfig(*loaded, &clientcmd.ConfigOverrides{}).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("kubeconfig %s: %w", kubeconfig, err)
	}
	// A plugin may ask questions on a terminal that isn't its own.
	if conf.ExecProvider != nil || conf.AuthProvider != nil {
		return nil, fmt.Errorf("kubeconfig %s gets its credentials from a plugin; use one with a client certificate, such as %s", kubeconfig, Kubeadm.Admin())
	}
	if server != "" {
		if conf.ServerName == "" {
			if u, err := url.Parse(conf.Host); err == nil {
				conf.ServerName = u.Hostname()
			}
		}
		conf.Host = server
	}
	conf.QPS = -1 // a handful of calls; no throttling
	conf.WarningHandlerWithContext = rest.NoWarnings{}
	return conf, nil
}

// Authority is the certificate authority that a kubeconfig trusts, as PEM; nil for one
// that names none.
func Authority(kubeconfig string) ([]byte, error) {
	conf, err := restConfig(kubeconfig, "")
	if err != nil {
		return nil, err
	}
	if len(conf.CAData) > 0 || conf.CAFile == "" {
		return conf.CAData, nil
	}
	return os.ReadFile(conf.CAFile)
}

// loadKubeconfig reads one kubeconfig, its relative paths resolved.
func loadKubeconfig(path string) (*api.Config, error) {
	conf, err := clientcmd.LoadFromFile(path)
	if err == nil {
		err = clientcmd.ResolveLocalPaths(conf)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read kubeconfig %s: %w", path, err)
	}
	return conf, nil
}

// httpClient makes a client whose connections end with ctx. client-go would keep
// its transports, and their connections, for the life of the process. It goes
// nowhere else than it was sent, and takes no answer without end.
func httpClient(ctx context.Context, conf *rest.Config) (*http.Client, error) {
	t, err := rest.TLSConfigFor(conf)
	if err != nil {
		return nil, err
	}
	wrapped, err := rest.HTTPWrappersForConfig(conf, newTransport(ctx, t))
	if err != nil {
		return nil, err
	}
	return &http.Client{
		Transport:     boundedAnswers{wrapped},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

// UsualKubeconfigs lists the kubeconfigs that exist in the usual places, best
// first.
func (l *Layout) UsualKubeconfigs() []string {
	return existing(slices.Concat(l.Kubeconfigs, filepath.SplitList(os.Getenv("KUBECONFIG")), []string{clientcmd.RecommendedHomeFile}))
}

func existing(paths []string) []string {
	var out []string
	for _, p := range paths {
		if st, err := os.Stat(p); err == nil && st.Mode().IsRegular() && !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out
}
