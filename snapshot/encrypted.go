package snapshot

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"time"

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

// encryptedLimit is how long a disk may take for the first bytes of a file.
const encryptedLimit = 5 * time.Second

// Encrypted says whether a file is encrypted with age; not one that can't be read.
func Encrypted(ctx context.Context, path string) bool {
	ctx, cancel := context.WithTimeout(ctx, encryptedLimit)
	defer cancel()
	is, err := defect.Await(ctx, func() (bool, error) {
		f, _, err := openRegular(path)
		if err != nil {
			return false, err
		}
		defer f.Close()
		head := make([]byte, len(armorMagic))
		n, err := io.ReadFull(f, head)
		return isAge(head[:n]), err
	})
	return is && err == nil
}

// decrypt opens what age has encrypted. Nothing comes out of it that whoever
// encrypted it didn't put in.
func decrypt(r *bufio.Reader, ids []age.Identity) (io.Reader, error) {
	var in io.Reader = r
	if head, _ := r.Peek(len(armorMagic)); bytes.HasPrefix(head, []byte(armorMagic)) {
		in = armor.NewReader(r)
	}
	asked := len(ids) > 0
	if !asked {
		ids = []age.Identity{nobody{}}
	}
	out, err := age.Decrypt(in, ids...)
	none, refused := errors.AsType[*age.NoIdentityMatchError](err)
	switch {
	case err == nil:
		return decrypted{out}, nil
	case refused:
		what, hint := sealedFor(none)
		if asked && what == "encrypted with age" {
			what, hint = "the identity doesn't open it: it was encrypted for other recipients", "name an identity of one of its recipients"
		}
		return nil, problem.Coded(CodeEncrypted, hint, "%s", what)
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
	return problem.Coded(CodeDamagedHash, useAnother, "damaged: its encrypted data was changed: %v", err)
}
