package snapshot

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"hash"

	"etcd-rewind/problem"
)

// trailed hashes a snapshot as it comes: all but its last bytes, which are the
// hash of the others.
type trailed struct {
	content hash.Hash
	end     []byte
}

func (t *trailed) Write(p []byte) (int, error) {
	n := len(p)
	if n >= sha256.Size {
		t.content.Write(t.end)
		t.content.Write(p[:n-sha256.Size])
		t.end, p = t.end[:0], p[n-sha256.Size:]
	}
	t.end = append(t.end, p...)
	if more := len(t.end) - sha256.Size; more > 0 {
		t.content.Write(t.end[:more])
		t.end = append(t.end[:0], t.end[more:]...)
	}
	return n, nil
}

func newTrailed() *trailed { return &trailed{content: sha256.New()} }

// fits says whether what came is as its last bytes say.
func (t *trailed) fits() bool { return bytes.Equal(t.content.Sum(nil), t.end) }

// whole is the sha256 of all that came, in hex.
func (t *trailed) whole() string {
	all, err := t.content.(hash.Cloner).Clone()
	if err != nil {
		panic(err) // Go's own sha256 has no state that it can't copy
	}
	_, _ = all.Write(t.end)
	return hex.EncodeToString(all.Sum(nil))
}

// prove says of a file, which has what came, that its trailer fits, where it has
// one, and what its content's sha256 is.
func (t *trailed) prove(info *Info) error {
	if info.Hash == HashMissing {
		info.SHA256 = t.whole()
		return nil
	}
	sum := t.content.Sum(nil)
	if !t.fits() {
		return hashProblem(sum, t.end)
	}
	info.Hash, info.SHA256 = HashOK, hex.EncodeToString(sum)
	return nil
}

func hashProblem(sum, trailer []byte) error {
	return problem.Coded(CodeDamagedHash, useAnother, "damaged: its sha256 is %x…, its trailer says %x…", sum[:min(6, len(sum))], trailer[:min(6, len(trailer))])
}
