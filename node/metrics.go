package node

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// MetricsConfig says where kubelet's metrics are, and with what client
// certificate they are asked for: the API server's own for kubelets.
type MetricsConfig struct {
	URL       string // https://host:port/metrics
	Cert, Key string // paths
	// Within is how long an answer may take; a second when 0.
	Within time.Duration `json:"-"`
}

// RelistsMetric counts how often kubelet has listed the containers of its
// runtime since it started (pkg/kubelet/metrics, PLEGRelistDurationKey).
const RelistsMetric = "kubelet_pleg_relist_duration_seconds_count"

// AskRelists reads RelistsMetric: once a second kubelet lists its containers,
// and this counts them. An answer takes 10 ms; one that isn't there within cfg.Within is
// an error.
//
// Kubelet asks the API server whether the certificate's owner may read its
// metrics, so there is no answer while the API is down. Its serving certificate
// is its own, signed by nobody, and isn't checked, as kubeadm's API server
// doesn't: nothing is sent but a question.
func AskRelists(ctx context.Context, cfg MetricsConfig) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(cfg.Within, time.Second))
	defer cancel()
	conf, err := clientTLS("", cfg.Cert, cfg.Key)
	if err != nil {
		return 0, err
	}
	conf.InsecureSkipVerify = true
	n, err := askCounter(ctx, conf, cfg.URL, RelistsMetric)
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	if err != nil {
		return 0, fmt.Errorf("kubelet's metrics at %s: %w", cfg.URL, plain(err))
	}
	return n, nil
}

// askCounter reads no further than to the counter: kubelet's metrics have 180 KB.
func askCounter(ctx context.Context, conf *tls.Config, url, name string) (int, error) {
	resp, err := askOnce(ctx, conf, url)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return 0, errors.New(resp.Status)
	}
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		if v, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			return strconv.Atoi(v)
		}
	}
	if err := lines.Err(); err != nil {
		return 0, err
	}
	return 0, fmt.Errorf("they have no %s", name)
}
