package node

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	"etcd-rewind/defect"
	"etcd-rewind/trust"
)

// newTransport makes a transport for one question: no proxy, and connections
// that end with ctx at the latest. By itself a transport continues a
// handshake after its request was given up, and a server that hangs would
// gather a connection with every poll.
func newTransport(ctx context.Context, conf *tls.Config) *http.Transport {
	return &http.Transport{
		DialContext: func(_ context.Context, network, addr string) (net.Conn, error) {
			c, err := (&net.Dialer{}).DialContext(ctx, network, addr)
			if err == nil {
				context.AfterFunc(ctx, defect.Do(func() { c.Close() }))
			}
			return c, err
		},
		TLSClientConfig: conf,
	}
}

// newKeepingTransport makes a transport for many questions to one server, whose
// connections end with ctx. A handshake has a limit of its own: by itself a
// transport continues it after its question was given up.
func newKeepingTransport(ctx context.Context, conf *tls.Config) *http.Transport {
	return &http.Transport{
		DialTLSContext: func(_ context.Context, network, addr string) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			return (&tls.Dialer{Config: conf}).DialContext(ctx, network, addr)
		},
	}
}

// get asks for an URL over a fresh connection, follows no redirect, and reads no
// more of the answer than a person would.
func get(ctx context.Context, conf *tls.Config, url string) (code int, body string, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	t := newTransport(ctx, conf)
	t.DisableKeepAlives = true
	return getOver(ctx, t, url)
}

func getOver(ctx context.Context, t *http.Transport, url string) (code int, body string, err error) {
	defer func() {
		// The connection's end may be noticed before the reason for it.
		if err != nil && ctx.Err() != nil {
			err = ctx.Err()
		}
	}()
	resp, err := ask(ctx, t, url)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return 0, "", err
	}
	return resp.StatusCode, string(data), nil
}

// askOnce asks for an URL over a connection of its own; it ends with ctx at the
// latest. The caller closes the body.
func askOnce(ctx context.Context, conf *tls.Config, url string) (*http.Response, error) {
	t := newTransport(ctx, conf)
	t.DisableKeepAlives = true
	return ask(ctx, t, url)
}

func ask(ctx context.Context, t *http.Transport, url string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	return t.RoundTrip(req)
}

// plain says a network error in a few words, without what the message around
// it says anyway. The error itself stays in the chain.
func plain(err error) error {
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err
	}
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return inWords{refused, err}
	case errors.Is(err, context.DeadlineExceeded):
		return inWords{"no answer in time", err}
	}
	return clipped(err)
}

// longestError bounds what is reported of a server's answer, in bytes:
// gRPC lets it say 16 MB, and the journal and the report keep it.
const longestError = 2048

// clipped is an error with no more words than that.
func clipped(err error) error {
	if text := err.Error(); len(text) > longestError {
		return inWords{trust.Clip(text, longestError), err}
	}
	return err
}

type inWords struct {
	text string
	err  error
}

func (w inWords) Error() string { return w.text }
func (w inWords) Unwrap() error { return w.err }

func firstLine(s string) string {
	s, _, _ = strings.Cut(strings.TrimSpace(s), "\n")
	return s
}
