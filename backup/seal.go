package backup

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"

	"filippo.io/age"

	"etcd-rewind/problem"
)

// Sealed is what a sealed file is, and what is in it.
type Sealed struct {
	PlainSize   int64  `json:"plain_size"` // bytes
	PlainSHA256 string `json:"plain_sha256"`
	Size        int64  `json:"size"` // bytes, of the file
	SHA256      string `json:"sha256"`
}

// Seal compresses a file with zstd and encrypts it with age for all of the
// recipients, each of whom can open it alone: what `zstd | age` makes, and
// `age -d | zstd -d` opens. It is one pass, of which nothing is kept in memory
// but a few buffers; ctx ends it. Nothing is ever written that isn't encrypted:
// without recipients it is refused.
func Seal(ctx context.Context, to io.Writer, from io.Reader, recipients ...age.Recipient) (*Sealed, error) {
	if len(recipients) == 0 {
		return nil, problem.New("name the recipients who can open it: age1…, as age-keygen prints it", "a backup without recipients wouldn't be encrypted")
	}
	out := &digest{Writer: to, hash: sha256.New()}
	plain := from
	known, ok := from.(interface{ PlainSHA256() string }) // who reads it has hashed it
	if !ok {
		in := &summed{from, sha256.New()}
		plain, known = in, in
	}
	enc, err := age.Encrypt(out, recipients...)
	if err != nil {
		return nil, fmt.Errorf("encrypt: %w", err)
	}
	n, err := compress(enc, &bounded{ctx, plain})
	if err != nil {
		return nil, err // without its end the stream doesn't open
	}
	if err := enc.Close(); err != nil {
		return nil, err
	}
	return &Sealed{PlainSize: n, PlainSHA256: known.PlainSHA256(), Size: out.n, SHA256: hex.EncodeToString(out.hash.Sum(nil))}, nil
}

// digest counts and hashes what is written.
type digest struct {
	io.Writer
	hash hash.Hash
	n    int64
}

func (d *digest) Write(p []byte) (int, error) {
	n, err := d.Writer.Write(p)
	_, _ = d.hash.Write(p[:n])
	d.n += int64(n)
	return n, err
}

// summed hashes what is read.
type summed struct {
	io.Reader
	h hash.Hash
}

func (s *summed) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	_, _ = s.h.Write(p[:n])
	return n, err
}

// PlainSHA256 is of what was read, in hex.
func (s *summed) PlainSHA256() string { return hex.EncodeToString(s.h.Sum(nil)) }
