package manifest

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"etcd-rewind/problem"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// ProbeURLs are what kubelet asks, "" where there is no HTTP probe.
type ProbeURLs struct{ Startup, Liveness, Readiness string }

func probeURLs(c *corev1.Container, host string) ProbeURLs {
	return ProbeURLs{
		Startup:   probeURL(c, c.StartupProbe, host),
		Liveness:  probeURL(c, c.LivenessProbe, host),
		Readiness: probeURL(c, c.ReadinessProbe, host),
	}
}

// probeURL is the address kubelet asks. Without a host kubelet takes the pod's, which for these pods is the node's; the
// manifest doesn't know it, so the caller says what to take instead.
func probeURL(c *corev1.Container, p *corev1.Probe, host string) string {
	if p == nil || p.HTTPGet == nil {
		return ""
	}
	port, ok := containerPort(c, p.HTTPGet.Port)
	if !ok {
		return ""
	}
	scheme := strings.ToLower(string(p.HTTPGet.Scheme))
	if scheme == "" {
		scheme = "http"
	}
	if p.HTTPGet.Host != "" {
		host = p.HTTPGet.Host
	}
	at, query, _ := strings.Cut(p.HTTPGet.Path, "?")
	if !strings.HasPrefix(at, "/") {
		at = "/" + at
	}
	u := url.URL{Scheme: scheme, Host: net.JoinHostPort(host, strconv.Itoa(port)), Path: at, RawQuery: query}
	return u.String()
}

// containerPort finds a port by number, by name, or by a number written as a string, in kubelet's order.
func containerPort(c *corev1.Container, port intstr.IntOrString) (int, bool) {
	n := port.IntValue()
	if port.Type == intstr.String {
		for _, p := range c.Ports {
			if p.Name == port.StrVal {
				n = int(p.ContainerPort)
				break
			}
		}
	}
	return n, n > 0 && n < 65536
}

// startupBudget is how long a container may take to answer before kubelet kills it, at the least: the startup probe's
// patience or, where there is none, the liveness probe's (which waits until the startup probe has succeeded). 0 means there
// is no limit.
func startupBudget(c *corev1.Container) time.Duration {
	p := c.StartupProbe
	if p == nil {
		p = c.LivenessProbe
	}
	if p == nil {
		return 0
	}
	seconds := func(v, otherwise int32) time.Duration {
		if v == 0 {
			v = otherwise
		}
		return time.Duration(v)
	}
	// The n-th failure ends it, and the first try comes at once after the initial delay.
	return (time.Duration(p.InitialDelaySeconds) + (seconds(p.FailureThreshold, 3)-1)*seconds(p.PeriodSeconds, 10)) * time.Second
}

func gracePeriod(pod *corev1.Pod) time.Duration {
	if s := pod.Spec.TerminationGracePeriodSeconds; s != nil {
		return time.Duration(*s) * time.Second
	}
	return corev1.DefaultTerminationGracePeriodSeconds * time.Second
}

// dialable turns addresses to listen on into addresses to connect to, loopback ones first. Sockets in the file system,
// which etcd can listen on too, are left out.
func dialable(urls []string) []string {
	var loopback, others []string
	for _, raw := range urls {
		u, err := url.Parse(raw)
		if err == nil && (u.Scheme == "unix" || u.Scheme == "unixs") {
			continue
		}
		if err != nil || u.Host == "" {
			others = append(others, raw)
			continue
		}
		host := u.Hostname()
		ip := net.ParseIP(host)
		if host == "" || ip != nil && ip.IsUnspecified() {
			host = "127.0.0.1"
			if ip != nil && ip.To4() == nil {
				host = "::1"
			}
			ip = net.ParseIP(host)
			u.Host = net.JoinHostPort(host, u.Port())
		}
		if host == "localhost" || ip != nil && ip.IsLoopback() {
			loopback = append(loopback, u.String())
		} else {
			others = append(others, u.String())
		}
	}
	return slices.Concat(loopback, others)
}

// parsePort checks a port given as a flag.
func parsePort(flag, value string) (int, error) {
	n, err := strconv.Atoi(value)
	if err != nil || n < 0 || n > 65535 {
		return 0, problem.Coded(CodeArgument, "correct it in the manifest", "--%s=%s is not a port", flag, value)
	}
	return n, nil
}

func parseBool(flag, value string) (bool, error) {
	b, err := strconv.ParseBool(value)
	if err != nil {
		return false, problem.Coded(CodeArgument, "correct it in the manifest", "--%s=%s is neither true nor false", flag, value)
	}
	return b, nil
}

func httpsURL(host string, port int, at string) string {
	return fmt.Sprintf("https://%s%s", net.JoinHostPort(host, strconv.Itoa(port)), at)
}
