package snapshot

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"errors"
	"strings"
	"testing"

	"filippo.io/age"
	"filippo.io/age/agessh"
	"golang.org/x/crypto/ssh"

	"etcd-rewind/problem"
)

// sshKeys makes a key pair as ssh-keygen does; pass encrypts the private one.
func sshKeys(t *testing.T, kind, pass string) (private []byte, to age.Recipient) {
	t.Helper()
	var key any
	var err error
	if kind == "rsa" {
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	} else {
		_, key, err = ed25519.GenerateKey(rand.Reader)
	}
	if err != nil {
		t.Fatal(err)
	}
	var block *pem.Block
	if pass == "" {
		block, err = ssh.MarshalPrivateKey(key, "")
	} else {
		block, err = ssh.MarshalPrivateKeyWithPassphrase(key, "", []byte(pass))
	}
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	to, err = agessh.ParseRecipient(string(ssh.MarshalAuthorizedKey(signer.PublicKey())))
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(block), to
}

// What age opens is opened: an SSH key, also one that a passphrase opens, a
// passphrase alone, a file of identities that is encrypted itself. Each asks for
// what it needs, once, and says whose passphrase it is.
func TestEachKindOfIdentityOpensASnapshot(t *testing.T) {
	raw := fixture(t, "before")
	plain, toPlain := sshKeys(t, "ed25519", "")
	rsaKey, toRSA := sshKeys(t, "rsa", "")
	locked, toLocked := sshKeys(t, "ed25519", "hunter2")
	native := newIdentity(t)
	byPassphrase, err := age.NewScryptRecipient("hunter2")
	if err != nil {
		t.Fatal(err)
	}
	byPassphrase.SetWorkFactor(10)
	for name, c := range map[string]struct {
		identity []byte // nil for a passphrase alone
		to       age.Recipient
		asks     string
	}{
		"an SSH key":                      {plain, toPlain, ""},
		"an RSA key":                      {rsaKey, toRSA, ""},
		"an SSH key with a passphrase":    {locked, toLocked, "the SSH key"},
		"an encrypted file of identities": {ageFile(t, []byte(native.String()+"\n"), byPassphrase), native.Recipient(), "the identity in"},
		"a passphrase":                    {nil, byPassphrase, "the snapshot"},
	} {
		t.Run(name, func(t *testing.T) {
			sealed := file(t, "x.db.age", ageFile(t, raw, c.to))
			for said, want := range map[string]string{"hunter2": "", "hunter3": "doesn't open"} {
				if c.asks == "" && want != "" {
					continue
				}
				asked := 0
				ask := func(what string) (string, error) {
					if asked++; c.asks == "" || !strings.Contains(what, c.asks) {
						t.Errorf("asked for %q", what)
					}
					return said, nil
				}
				ids := []age.Identity{NewPassphrase(func() (string, error) { return ask("the snapshot") })}
				if c.identity != nil {
					read, err := ReadIdentities(t.Context(), file(t, "key", c.identity), ask)
					if err != nil {
						t.Fatal(err)
					}
					ids = append(read, ids...)
				}
				if asked > 0 {
					t.Error("asked before it is needed")
				}
				src := File(sealed)
				src.Identities = ids
				for range 2 {
					got, err := Stage(t.Context(), src, t.TempDir(), nil)
					if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
						t.Fatalf("%v, want %q", err, want)
					}
					if p := problem.Of(err); err != nil && (p == nil || p.Hint == "" || strings.Contains(p.Cause+p.Hint, said)) {
						t.Errorf("%v", err)
					}
					_ = got.Remove()
				}
				if want == "" && c.asks != "" && asked != 1 {
					t.Errorf("asked %d times", asked)
				}
			}
		})
	}
}

func TestAPassphraseThatNobodyCanBeAskedFor(t *testing.T) {
	locked, to := sshKeys(t, "ed25519", "hunter2")
	ids, err := ReadIdentities(t.Context(), file(t, "id_ed25519", locked), nil)
	if err != nil {
		t.Fatal(err)
	}
	src := File(file(t, "x.db.age", ageFile(t, fixture(t, "before"), to)))
	src.Identities = ids
	if _, err := Stage(t.Context(), src, t.TempDir(), nil); !problem.HasCode(err, CodeIdentity) || !strings.Contains(err.Error(), "no terminal to ask") {
		t.Errorf("%v", err)
	}
	// An interrupted question is no wrong answer.
	gone := errors.New("interrupted")
	src.Identities, _ = ReadIdentities(t.Context(), file(t, "id_ed25519", locked), func(string) (string, error) {
		return "", problem.Coded(CodeIdentity, "again", "%w", gone)
	})
	if _, err := Stage(t.Context(), src, t.TempDir(), nil); !errors.Is(err, gone) {
		t.Errorf("%v", err)
	}
	if _, err := ReadPassphrase(t.Context(), file(t, "pass", []byte("a\nb\n"))); !problem.HasCode(err, CodeIdentity) {
		t.Errorf("%v", err)
	}
	if got, err := ReadPassphrase(t.Context(), file(t, "pass", []byte("correct horse \n"))); err != nil || got != "correct horse " {
		t.Errorf("%q %v", got, err)
	}
	if _, err := ReadIdentities(t.Context(), file(t, "cert", bytes.ReplaceAll(locked, []byte("OPENSSH PRIVATE KEY"), []byte("CERTIFICATE"))), nil); !problem.HasCode(err, CodeIdentity) {
		t.Errorf("%v", err)
	}
}
