// Package deaf serves gRPC badly, in every way a server can: for tests of the
// clients of a container runtime, an etcd or a KMS plugin. The program itself
// doesn't use it.
package deaf

import (
	"encoding/binary"
	"net"
	"net/http"
	"time"

	"etcd-rewind/defect"
)

// Way is how a server fails those who ask it.
type Way string

// The ways.
const (
	Accepts Way = "accepts the connection and says nothing"
	Answers Way = "takes the call and never answers"
	Headers Way = "answers with headers and stalls"
	Drips   Way = "sends one answer, a byte at a time, and never ends"
	Streams Way = "sends answers without end"
)

// Ways are all of them.
var Ways = []Way{Accepts, Answers, Headers, Drips, Streams}

// Serve serves until stop is called. An answer is a message of the method that
// is asked, for Streams.
func Serve(l net.Listener, way Way, answer []byte) (stop func()) {
	if way == Accepts {
		// The kernel takes the connection.
		return func() { _ = l.Close() }
	}
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	srv := &http.Server{Protocols: &protocols, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/grpc")
		flush := func() error { return http.NewResponseController(w).Flush() }
		frame := func(size int) []byte { return binary.BigEndian.AppendUint32([]byte{0}, uint32(size)) }
		switch way {
		case Headers:
			_ = flush()
		case Drips:
			_, err := w.Write(frame(1 << 20))
			for err == nil {
				select {
				case <-r.Context().Done():
					return
				case <-time.After(5 * time.Millisecond):
				}
				if _, err = w.Write([]byte{0}); err == nil {
					err = flush()
				}
			}
		case Streams:
			for message := append(frame(len(answer)), answer...); r.Context().Err() == nil; {
				if _, err := w.Write(message); err != nil || flush() != nil {
					return
				}
			}
		}
		<-r.Context().Done()
	})}
	done := make(chan struct{})
	go defect.Do(func() {
		defer close(done)
		_ = srv.Serve(l)
	})()
	return func() {
		_ = srv.Close()
		<-done
	}
}
