package snapshot

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"

	"filippo.io/age"
	"filippo.io/age/armor"

	"etcd-rewind/defect"
	"etcd-rewind/problem"
)

// What a file begins with that age has encrypted (age-encryption.org/v1).
const (
	ageMagic   = "age-encryption.org/v1\n"
	armorMagic = "-----BEGIN AGE ENCRYPTED FILE-----"
)

func isAge(head []byte) bool {
	return bytes.HasPrefix(head, []byte(ageMagic)) || bytes.HasPrefix(head, []byte(armorMagic))
}

// decrypt opens what age has encrypted. Nothing comes out of it that whoever
// encrypted it didn't put in.
func decrypt(r *bufio.Reader, ids []age.Identity) (io.Reader, error) {
	var in io.Reader = r
	if head, _ := r.Peek(len(armorMagic)); bytes.HasPrefix(head, []byte(armorMagic)) {
		in = armor.NewReader(r)
	}
	if len(ids) == 0 {
		return nil, problem.Coded(CodeEncrypted, "name the file that holds the identity: --identity FILE", "encrypted with age")
	}
	out, err := age.Decrypt(in, ids...)
	none, refused := errors.AsType[*age.NoIdentityMatchError](err)
	switch {
	case err == nil:
		return decrypted{out}, nil
	case refused:
		const by = "decrypt it first, with age -d -o FILE; identities here are age's own, AGE-SECRET-KEY-…"
		switch types := strings.Join(none.StanzaTypes, " "); {
		case strings.Contains(types, "scrypt"):
			return nil, problem.Coded(CodeEncrypted, by, "encrypted with a passphrase")
		case strings.Contains(types, "ssh-") && !strings.Contains(types, "X25519"):
			return nil, problem.Coded(CodeEncrypted, by, "encrypted for an SSH key")
		}
		return nil, problem.Coded(CodeEncrypted, "name the identity of one of those it was encrypted for", "the identity doesn't open it: it was encrypted for others")
	}
	return nil, ageProblem(err)
}

type decrypted struct{ r io.Reader }

func (d decrypted) Read(p []byte) (int, error) {
	n, err := d.r.Read(p)
	if err == nil || errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return n, err
	}
	return n, ageProblem(err)
}

func ageProblem(err error) error {
	switch {
	case problem.Of(err) != nil, errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return problem.Coded(CodeTruncated, useAnother, "truncated: its encrypted data ends in the middle")
	}
	return problem.Coded(CodeDamagedHash, useAnother, "damaged: its encrypted data isn't what was written: %v", err)
}

// maxIdentities bounds a file of identities, in bytes.
const maxIdentities = 64 << 10

// ReadIdentities reads a file of age's identities, or a pipe that somebody
// writes them into; ctx ends the wait for that. It is read once, to its end. The
// error for a bad one is a *problem.Problem, and holds nothing of the content.
func ReadIdentities(ctx context.Context, path string) ([]age.Identity, error) {
	text, err := defect.Await(ctx, func() ([]byte, error) {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		return io.ReadAll(io.LimitReader(f, maxIdentities+1))
	})
	if err != nil && ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	const hint = "an identity is what age-keygen writes; name that file with --identity"
	switch {
	case err != nil:
		p := openProblem(path, err)
		return nil, problem.Coded(CodeIdentity, p.Hint, "the identity in %s: %s", path, p.Cause)
	case len(text) > maxIdentities:
		return nil, problem.Coded(CodeIdentity, hint, "%s holds no identity: it has more than %d kB", path, maxIdentities>>10)
	case isAge(text):
		return nil, problem.Coded(CodeIdentity, "decrypt it first: age -d", "the identity in %s is encrypted itself", path)
	}
	ids, err := age.ParseIdentities(bytes.NewReader(text))
	if err != nil { // age's error may quote the line
		return nil, problem.Coded(CodeIdentity, hint, "%s holds no identity of age", path)
	}
	return ids, nil
}
