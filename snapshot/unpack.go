package snapshot

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"strings"

	"etcd-rewind/problem"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"
)

// Format is how a snapshot file is packed, by its content.
type Format string

// The formats that Stage knows.
const (
	Raw     Format = "raw" // as etcdctl writes it
	Gzip    Format = "gzip"
	Zstd    Format = "zstd"
	Tar     Format = "tar"
	TarGzip Format = "tar.gz"
	TarZstd Format = "tar.zst"
	Age     Format = "age" // encrypted; what is inside isn't known without the identity
)

// maxRatio is how far a file may expand: gzip can't do more than 1032 to 1, and
// no database that etcd wrote needs as much.
const maxRatio = 2000

// packed is an opened file.
type packed struct {
	format Format      // inside the encryption, if there is any
	age    bool        // it is encrypted
	r      io.Reader   // what is inside the compression
	tar    *tar.Reader // the same, when that is an archive
	close  func()
	inside *bounded // below r, of what is compressed
}

// bounded counts what comes out of a decompressor, and ends it: a few bytes can
// be made to expand without end.
type bounded struct {
	r           io.Reader
	read, limit int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.read >= b.limit {
		return 0, problem.Coded(CodeStructure, useAnother, "not a snapshot: its content expands to more than %d MB", b.limit/1e6)
	}
	n, err := b.r.Read(p[:min(int64(len(p)), b.limit-b.read)])
	b.read += int64(n)
	return n, err
}

// maxWindow is what zstd --ultra and --long=27 ask for at most.
const maxWindow = 128 << 20

// unwrap opens a file that may be encrypted and compressed. No more than limit
// bytes come out of it; workers is for zstd.
func unwrap(r *bufio.Reader, limit int64, workers int, ids []age.Identity) (*packed, error) {
	p := &packed{format: Raw, r: r, close: func() {}}
	magic, err := r.Peek(len(armorMagic))
	if isAge(magic) {
		plain, err := decrypt(r, ids)
		if err != nil {
			return nil, err
		}
		in := bufio.NewReaderSize(plain, 64<<10)
		if head, _ := in.Peek(len(armorMagic)); isAge(head) {
			return nil, problem.Coded(CodeEncrypted, "decrypt it first, with age -d -o FILE", "encrypted twice")
		}
		if p, err = unwrap(in, limit, workers, nil); err == nil {
			p.age = true
		}
		return p, err
	}
	switch {
	case err == nil, errors.Is(err, io.EOF):
	case problem.Of(err) != nil:
		return nil, err
	default:
		return nil, openProblem("", err)
	}
	switch {
	case bytes.HasPrefix(magic, []byte("\x1f\x8b")):
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, unpackProblem(Gzip, err)
		}
		p.format, p.inside = Gzip, &bounded{r: z, limit: limit}
	case bytes.HasPrefix(magic, []byte("\x28\xb5\x2f\xfd")):
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(workers), zstd.WithDecoderLowmem(workers == 1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, unpackProblem(Zstd, err)
		}
		p.format, p.inside, p.close = Zstd, &bounded{r: z, limit: limit}, z.Close
	}
	if p.inside != nil {
		p.r = p.inside
	}
	in, ok := p.r.(*bufio.Reader)
	if !ok {
		in = bufio.NewReaderSize(p.r, 64<<10)
		p.r = in
	}
	head, err := in.Peek(512)
	if err != nil && !errors.Is(err, io.EOF) {
		p.close()
		return nil, unpackProblem(p.format, err)
	}
	if len(head) == 512 && string(head[257:262]) == "ustar" {
		p.format = map[Format]Format{Raw: Tar, Gzip: TarGzip, Zstd: TarZstd}[p.format]
		p.tar = tar.NewReader(in)
	}
	return p, nil
}

func unpackProblem(format Format, err error) error {
	if err == nil || problem.Of(err) != nil {
		return err
	}
	name, _, _ := strings.Cut(string(format), ".")
	if name == "tar" {
		name = string(format)
	}
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return problem.Coded(CodeTruncated, useAnother, "truncated: its %s data ends in the middle", name)
	case errors.Is(err, gzip.ErrChecksum), errors.Is(err, zstd.ErrCRCMismatch):
		return problem.Coded(CodeDamagedHash, useAnother, "damaged: the checksum of its %s data doesn't match", name)
	case errors.Is(err, zstd.ErrWindowSizeExceeded), errors.Is(err, zstd.ErrDecoderSizeExceeded):
		return problem.Coded(CodeCompressed, "decompress it first: zstd -d --long=31 FILE", "compressed with a window of more than %d MB", maxWindow>>20)
	}
	return problem.Coded(CodeStructure, useAnother, "damaged: its %s data can't be read: %v", name, err)
}

// QuickPacked is Quick for a file that may be packed: it decompresses the first
// pages only. Size is that of the file, TotalSize what the pages inside say; 0
// for one that is encrypted, of which nothing is read.
func QuickPacked(path string) (*Info, Format, error) {
	info, err := Quick(path)
	if p := problem.Of(err); p == nil || p.Code != CodeCompressed && p.Code != CodeEncrypted {
		return info, Raw, err
	}
	f, st, oerr := openRegular(path)
	if oerr != nil {
		return nil, Raw, oerr
	}
	defer f.Close()
	if problem.HasCode(err, CodeEncrypted) {
		return &Info{Name: path, Path: path, Size: st.Size(), ModTime: st.ModTime(), Hash: HashUnchecked}, Age, nil
	}
	p, uerr := unwrap(bufio.NewReaderSize(io.LimitReader(f, maxPeek), 64<<10), maxInside, 1, nil)
	if uerr != nil {
		return nil, Gzip, uerr // or zstd: packed, whatever it is
	}
	defer p.close()
	if p.format == Raw {
		return nil, Raw, err // xz and others: see Quick's hint
	}
	in := p.r
	if p.tar != nil {
		if in = firstSnapshot(p.tar); in == nil {
			return nil, p.format, problem.Coded(CodeNotBolt, "name the file that contains the snapshot", "no snapshot is at the beginning of the archive")
		}
	}
	head := make([]byte, headSize)
	n, rerr := io.ReadFull(in, head)
	metas, _ := readMetas(bytes.NewReader(head[:n]))
	if len(metas) == 0 {
		if rerr != nil && !errors.Is(rerr, io.EOF) && !errors.Is(rerr, io.ErrUnexpectedEOF) {
			return nil, p.format, unpackProblem(p.format, rerr)
		}
		return nil, p.format, problem.Coded(CodeNotBolt, "a snapshot is what etcdctl snapshot save writes", "its content isn't a snapshot")
	}
	info = &Info{Name: path, Path: path, Size: st.Size(), ModTime: st.ModTime(), Hash: HashUnchecked}
	for _, m := range metas {
		info.TotalSize = max(info.TotalSize, m.size())
	}
	return info, p.format, nil
}

// QuickPacked reads at most maxPeek of a packed file, and maxInside of what is
// in it: an archive may have a few small files before the snapshot.
const (
	maxPeek   = 1 << 20
	maxInside = 16 << 20
)

func firstSnapshot(t *tar.Reader) io.Reader {
	for {
		h, err := t.Next()
		if err != nil {
			return nil
		}
		if h.Typeflag == tar.TypeReg && h.Size > sha256.Size {
			in := bufio.NewReaderSize(t, headSize)
			head, _ := in.Peek(headSize)
			if metas, _ := readMetas(bytes.NewReader(head)); len(metas) > 0 {
				return in
			}
		}
	}
}
