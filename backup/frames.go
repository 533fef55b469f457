package backup

import (
	"errors"
	"io"

	"github.com/klauspost/compress/zstd"

	"etcd-rewind/defect"
)

const (
	frameSize   = 4 << 20 // bytes: 1 % more is stored than in one frame
	compressors = 2       // of the node's processors: etcd needs them too
)

// frame is some of what is compressed.
type frame struct {
	in, out []byte
	ready   chan struct{} // has a value when out is in, compressed
}

// compress writes what it reads as frames of zstd, each of which stands alone, so
// that several are compressed at once: `zstd -d` makes one file of them. (The
// library's stream, given two processors, works at one frame with both, for half as
// much CPU time again: docs/benchmarks.md.) It returns how many bytes it has read.
// Nothing reads or writes any more when it has returned.
func compress(to io.Writer, from io.Reader) (int64, error) {
	z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(compressors), zstd.WithEncoderCRC(true), zstd.WithZeroFrames(true))
	if err != nil {
		return 0, err
	}
	const all = compressors + 2 // one is read, one is written
	free, order := make(chan *frame, all), make(chan *frame, all)
	for range all {
		free <- &frame{in: make([]byte, 0, frameSize), ready: make(chan struct{}, 1)}
	}
	failed, written := make(chan struct{}), make(chan error, 1)
	go defect.Do(func() {
		var err error
		for f := range order {
			<-f.ready
			if err == nil {
				if _, err = to.Write(f.out); err != nil {
					close(failed)
				}
			}
			free <- f
		}
		written <- err
	})()
	var n int64
	for err == nil {
		select {
		case <-failed:
			err = io.EOF // the writer knows why
		case f := <-free:
			err = f.fill(from)
			if (err == nil || errors.Is(err, io.EOF)) && (len(f.in) > 0 || n == 0) { // nothing at all is a frame, too
				order <- f
				go defect.Do(func() {
					f.out = z.EncodeAll(f.in, f.out[:0])
					f.ready <- struct{}{}
				})()
			}
			n += int64(len(f.in))
		}
	}
	close(order)
	werr := <-written
	if errors.Is(err, io.EOF) {
		err = werr
	}
	return n, err
}

// fill reads until the frame is full, or the error, which may be io.EOF. (From
// io.ReadFull a reader's own io.ErrUnexpectedEOF couldn't be told apart.)
func (f *frame) fill(from io.Reader) error {
	f.in = f.in[:0]
	for len(f.in) < frameSize {
		n, err := from.Read(f.in[len(f.in):frameSize])
		f.in = f.in[:len(f.in)+n]
		if err != nil {
			return err
		}
	}
	return nil
}
