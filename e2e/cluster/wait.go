//go:build linux

package cluster

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

// patience is longer than anything takes that works, on a busy machine too.
const patience = 4 * time.Minute

// final is an error that waiting longer would not cure.
type final struct{ error }

// poll asks until ask returns nil, says final, or limit is over. what names what
// is waited for; the error has the last answer. It rests as long as an answer takes,
// and at least every: on a busy machine those who wait leave half of it to the others.
func poll(ctx context.Context, what string, limit, every time.Duration, ask func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	started := time.Now()
	var last error
	for {
		asked := time.Now()
		err := ask(ctx)
		if err == nil {
			return nil
		}
		if end := (final{}); errors.As(err, &end) {
			return fmt.Errorf("wait for %s: %w", what, end.error)
		}
		// What ctx itself cut short says nothing about the thing waited for.
		if ctx.Err() == nil || last == nil {
			last = err
		}
		select {
		case <-time.After(max(every, time.Since(asked))):
		case <-ctx.Done():
			return fmt.Errorf("waited %.1f s for %s: %w: %w", time.Since(started).Seconds(), what, ctx.Err(), last)
		}
	}
}

// insecureClient asks servers inside the node, that are only known by their
// address. What is read through it decides nothing but when to stop waiting.
func (n *Node) insecureClient() *http.Client {
	return &http.Client{
		Timeout: 10 * time.Second,
		Transport: &http.Transport{
			DialContext:     n.DialContext,
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		},
	}
}

func get(ctx context.Context, client *http.Client, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	answer, err := client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(answer.Body, 4096))
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", answer.Status, strings.TrimSpace(string(body)))
	}
	return nil
}

// tail returns the last lines of a file, nothing when it cannot be read.
func tail(path string, lines int) string {
	file, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer file.Close()
	const most = 32 << 10
	if info, err := file.Stat(); err == nil && info.Size() > most {
		_, _ = file.Seek(-most, io.SeekEnd)
	}
	text, _ := io.ReadAll(file)
	all := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
