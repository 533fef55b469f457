package fleet

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"

	"etcd-rewind/defect"
	"etcd-rewind/problem"
)

// outgoing is a snapshot on its way to several nodes at once. What is compressed
// for one of them is not compressed again for the others.
type outgoing struct {
	file io.ReaderAt
	size int64
	zip  *zstd.Encoder

	mu   sync.Mutex
	kept map[int64]*packed // by where it belongs
	line []int64           // those in kept, oldest first
}

// packed is a piece that was compressed.
type packed struct {
	once sync.Once
	data []byte // nil when that saves nothing
}

// mostKept is how far apart nodes may be that share what was compressed.
const mostKept = 32

func newOutgoing(file io.ReaderAt, size int64) (*outgoing, error) {
	// Base64, of which etcd has much, never repeats and is a quarter too long.
	zip, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithAllLitEntropyCompression(true), zstd.WithEncoderCRC(false), zstd.WithWindowSize(pieceSize))
	return &outgoing{file: file, size: size, zip: zip, kept: map[int64]*packed{}}, err
}

// pack compresses the piece at at; nil when that saves nothing.
func (o *outgoing) pack(at int64, plain []byte) []byte {
	o.mu.Lock()
	p := o.kept[at]
	if p == nil {
		p = &packed{}
		o.kept[at], o.line = p, append(o.line, at)
		if len(o.line) > mostKept {
			delete(o.kept, o.line[0])
			o.line = o.line[1:]
		}
	}
	o.mu.Unlock()
	p.once.Do(func() {
		if data := o.zip.EncodeAll(plain, nil); len(data) < len(plain)/16*15 {
			p.data = data
		}
	})
	return p.data
}

// piece is one on its way.
type piece struct {
	line request
	data []byte
}

// ahead is how many pieces lie ready for a connection.
const ahead = 4

// send sends what a node wants. A piece is compressed when others wait to be
// sent, so that the connection is the slower of the two, and goes as it is when
// the connection would wait for that.
func (o *outgoing) send(ctx context.Context, l *link, w wanted) error {
	if w.From > o.size {
		return l.wrong(doPut, fmt.Errorf("%d bytes of %d are there", w.From, o.size))
	}
	if w.From > 0 {
		switch is, err := o.prefix(ctx, w.From); {
		case err != nil:
			return err
		case is != w.SHA256:
			w.From = 0
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	queue := make(chan piece, ahead)
	read := make(chan error, 1)
	go defect.Do(func() {
		defer close(queue)
		read <- o.pieces(ctx, w.From, queue)
	})()
	var err error
	for p := range queue {
		if err == nil {
			if err = l.piece(p); err != nil {
				cancel()
			}
		}
	}
	cancel()
	return cmp.Or(err, <-read)
}

func (o *outgoing) pieces(ctx context.Context, at int64, queue chan<- piece) error {
	for at < o.size {
		data := make([]byte, min(o.size-at, pieceSize))
		if n, err := o.file.ReadAt(data, at); n < len(data) {
			return fmt.Errorf("read the snapshot: %w", err)
		}
		p := piece{request{Do: doPiece, At: at, Bytes: len(data)}, data}
		at += int64(len(data))
		if len(queue) >= ahead/2 {
			if less := o.pack(p.line.At, data); less != nil {
				p.line.Bytes, p.line.Plain, p.data = len(less), len(data), less
			}
		}
		select {
		case queue <- p:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// prefix is the sha256 of the first bytes.
func (o *outgoing) prefix(ctx context.Context, n int64) (string, error) {
	sum := sha256.New()
	if _, err := io.Copy(sum, &untilDone{ctx, io.NewSectionReader(o.file, 0, n)}); err != nil {
		return "", fmt.Errorf("read the snapshot: %w", err)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

func (l *link) piece(p piece) error {
	line, err := json.Marshal(p.line)
	if err != nil {
		return err
	}
	_, err = (writer{l}).Write(append(append(line, '\n'), p.data...))
	return err
}

// bring sends the snapshot to a node, over as many connections as that takes:
// each continues where the one before was cut off. A node that none of it
// reaches any more is given up after Pace.Reconnect.
func (c *Conductor) bring(ctx context.Context, n *fleetNode, from *outgoing, progress func(done, total int64)) error {
	var mu sync.Mutex
	most, moved := int64(0), time.Now()
	see := func(done, total int64) {
		mu.Lock()
		if done > most {
			most, moved = done, time.Now()
		}
		mu.Unlock()
		progress(done, total)
	}
	for {
		path, err := n.link.put(ctx, from, c.put, see)
		var gone *errGone
		if !errors.As(err, &gone) || ctx.Err() != nil {
			n.path = path
			return err
		}
		mu.Lock()
		until := moved.Add(c.pace().Reconnect)
		mu.Unlock()
		if why := c.rejoin(ctx, n, until); why != nil {
			return err
		}
	}
}

// rejoin connects to a node whose connection was cut before a run has begun.
func (c *Conductor) rejoin(ctx context.Context, n *fleetNode, until time.Time) error {
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	for pause := c.pace().Pause; ; pause = min(2*pause, 8*time.Second) {
		if !sleep(ctx, pause) {
			return ctx.Err()
		}
		was, again := n.facts, &fleetNode{name: n.name, local: n.local, try: n.try}
		if err := c.contact(ctx, again); err != nil {
			continue
		}
		if again.facts.Name() != was.Name() || again.facts.Node != was.Node {
			again.link.bye()
			return problem.New("", "%s is another node now", n.name)
		}
		n.link, n.facts = again.link, again.facts
		return nil
	}
}
