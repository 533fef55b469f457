package practice

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// probe is pkg/kubelet/prober for what ends containers: the startup probe, and
// once it has passed the liveness probe. It ends with the container.
func (k *kubelet) probe(w *worker, c *container, spec *corev1.Container) {
	for _, p := range []*corev1.Probe{spec.StartupProbe, spec.LivenessProbe} {
		url := k.probeURL(spec, p)
		if url == "" {
			continue
		}
		startup := p == spec.StartupProbe
		if !k.pause(c, time.Duration(p.InitialDelaySeconds)*time.Second) {
			return
		}
		for failed := int32(0); ; {
			ok := k.answers(url, time.Duration(max(p.TimeoutSeconds, 1))*time.Second)
			if ok {
				failed = 0
				if startup {
					break
				}
			} else {
				failed++
			}
			limit := p.FailureThreshold
			if limit == 0 {
				limit = 3
			}
			if failed >= limit {
				k.log.Printf("container %s of %s failed %s probe, will be restarted", c.name, w.pod.key, map[bool]string{true: "startup", false: "liveness"}[startup])
				go k.rt.stopContainer(c, w.pod.grace())
				return
			}
			period := time.Duration(p.PeriodSeconds) * time.Second
			if period == 0 {
				period = 10 * time.Second
			}
			if !k.pause(c, period) {
				return
			}
		}
	}
}

// pause says no when the container or kubelet has ended.
func (k *kubelet) pause(c *container, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-c.ended:
	case <-k.ctx.Done():
	}
	return false
}

func (k *kubelet) probeURL(spec *corev1.Container, p *corev1.Probe) string {
	if p == nil || p.HTTPGet == nil {
		return ""
	}
	port := p.HTTPGet.Port.IntValue()
	for _, named := range spec.Ports {
		if named.Name == p.HTTPGet.Port.StrVal {
			port = int(named.ContainerPort)
		}
	}
	port = k.rt.port(port)
	scheme := "http"
	if p.HTTPGet.Scheme == corev1.URISchemeHTTPS {
		scheme = "https"
	}
	return scheme + "://" + net.JoinHostPort(p.HTTPGet.Host, strconv.Itoa(port)) + p.HTTPGet.Path
}

func (k *kubelet) answers(url string, timeout time.Duration) bool {
	ctx, cancel := context.WithTimeout(k.ctx, timeout)
	defer cancel()
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	// As kubelet's own: no proxy, no trust asked for.
	t := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: t}).Do(q)
	if err != nil {
		return false
	}
	_ = resp.Body.Close()
	return resp.StatusCode >= 200 && resp.StatusCode < 400
}
