package snapshot

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"filippo.io/age"
	"filippo.io/age/agessh"
	"filippo.io/age/armor"
	"golang.org/x/crypto/ssh"

	"etcd-rewind/defect"
	"etcd-rewind/problem"
)

// Ask asks a person for a passphrase; what says of what, in a few words. Its
// error for nobody to ask is a *problem.Problem.
type Ask func(what string) (string, error)

// maxIdentities bounds a file of identities, in bytes.
const maxIdentities = 64 << 10

const identityHint = "an identity is what age-keygen writes, or an SSH key (ed25519, rsa); name that file with --identity"

// ReadIdentities reads a file of age's identities or an SSH private key, or a
// pipe that somebody writes them into; ctx ends the wait for that. It is read
// once, to its end. A key or a file that is encrypted itself is opened when it is
// needed, with a passphrase that ask gets; ask may be nil. The error for a bad one
// is a *problem.Problem, and holds nothing of the content.
func ReadIdentities(ctx context.Context, path string, ask Ask) ([]age.Identity, error) {
	text, err := readBounded(ctx, path)
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil:
		p := openProblem(path, err)
		return nil, problem.Coded(CodeIdentity, p.Hint, "the identity in %s: %s", path, p.Cause)
	case len(text) > maxIdentities:
		return nil, problem.Coded(CodeIdentity, identityHint, "%s contains no identity: it has more than %d kB", path, maxIdentities>>10)
	case isAge(text):
		return []age.Identity{&sealedIdentities{path: path, text: text, ask: ask}}, nil
	case bytes.HasPrefix(text, []byte("-----BEGIN ")):
		id, err := sshIdentity(path, text, ask)
		if err != nil {
			return nil, err
		}
		return []age.Identity{id}, nil
	}
	ids, err := age.ParseIdentities(bytes.NewReader(text))
	if err != nil { // age's error may quote the line
		return nil, noIdentity(path)
	}
	return ids, nil
}

func noIdentity(path string) error {
	return problem.Coded(CodeIdentity, identityHint, "%s contains no age identity and no SSH key", path)
}

func readBounded(ctx context.Context, path string) ([]byte, error) {
	return defect.Await(ctx, func() ([]byte, error) {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		return io.ReadAll(io.LimitReader(f, maxIdentities+1))
	})
}

// ReadPassphrase reads a file that holds a passphrase in one line. The error is a
// *problem.Problem, and holds nothing of the content.
func ReadPassphrase(ctx context.Context, path string) (string, error) {
	text, err := readBounded(ctx, path)
	if err != nil && ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	if err != nil {
		p := openProblem(path, err)
		return "", problem.Coded(CodeIdentity, p.Hint, "the passphrase in %s: %s", path, p.Cause)
	}
	line := strings.TrimRight(string(text), "\r\n")
	if line == "" || strings.ContainsAny(line, "\r\n") || len(text) > maxIdentities {
		return "", problem.Coded(CodeIdentity, "the file holds the passphrase, in one line", "%s contains no passphrase", path)
	}
	return line, nil
}

// sshIdentity reads an SSH private key.
func sshIdentity(path string, text []byte, ask Ask) (age.Identity, error) {
	id, err := agessh.ParseIdentity(text)
	locked, isLocked := errors.AsType[*ssh.PassphraseMissingError](err)
	switch {
	case err == nil:
		return id, nil
	case !isLocked:
		return nil, noIdentity(path)
	}
	public := locked.PublicKey
	if public == nil { // an older format says it only in the file beside
		line, rerr := os.ReadFile(path + ".pub")
		if rerr == nil {
			public, _, _, _, rerr = ssh.ParseAuthorizedKey(line)
		}
		if rerr != nil {
			return nil, problem.Coded(CodeIdentity, "put its public key beside it, or convert it: ssh-keygen -p -f FILE", "the SSH key in %s is encrypted, and there is no %s.pub", path, filepath.Base(path))
		}
	}
	o := &openedBy{what: "the SSH key in " + path}
	o.Identity, err = agessh.NewEncryptedSSHIdentity(public, text, func() ([]byte, error) {
		var pass string
		pass, o.refused = asked(ask, "the SSH key "+path)
		return []byte(pass), o.refused
	})
	if err != nil {
		return nil, problem.Coded(CodeIdentity, identityHint, "age doesn't support the SSH key in %s, only ed25519 and rsa", path)
	}
	return o, nil
}

// openedBy is an SSH key that a passphrase opens.
type openedBy struct {
	age.Identity
	what    string
	refused error // why there was no passphrase: age doesn't pass it on
	mu      sync.Mutex
}

func (o *openedBy) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.refused = nil
	key, err := o.Identity.Unwrap(stanzas)
	switch {
	case err == nil || errors.Is(err, age.ErrIncorrectIdentity):
		return key, err
	case o.refused != nil:
		return nil, o.refused
	}
	return nil, problem.Coded(CodeIdentity, "try again", "the passphrase doesn't open %s", o.what)
}

func asked(ask Ask, what string) (string, error) {
	if ask == nil {
		return "", problem.Coded(CodeIdentity, "run it on a terminal, or name an identity without one", "%s needs a passphrase, and there is no terminal to ask on", what)
	}
	return ask(what)
}

// sealedIdentities is a file of identities that is encrypted with a passphrase,
// as age takes it.
type sealedIdentities struct {
	path string
	text []byte
	ask  Ask

	mu  sync.Mutex
	ids []age.Identity
}

func (s *sealedIdentities) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ids == nil {
		var in io.Reader = bytes.NewReader(s.text)
		if bytes.HasPrefix(s.text, []byte(armorMagic)) {
			in = armor.NewReader(in)
		}
		out, err := age.Decrypt(in, NewPassphrase(func() (string, error) { return asked(s.ask, "the identity in "+s.path) }))
		var ids []age.Identity
		if err == nil {
			ids, err = age.ParseIdentities(io.LimitReader(out, maxIdentities))
		}
		if err != nil {
			if problem.Of(err) != nil || errors.Is(err, context.Canceled) {
				return nil, err
			}
			if _, others := errors.AsType[*age.NoIdentityMatchError](err); others {
				return nil, problem.Coded(CodeIdentity, "decrypt it first: age -d", "the identity in %s is encrypted itself, and not with a passphrase", s.path)
			}
			return nil, problem.Coded(CodeIdentity, "try again, or decrypt it first: age -d", "the passphrase doesn't open the identity in %s", s.path)
		}
		s.ids = ids
	}
	for _, id := range s.ids {
		if key, err := id.Unwrap(stanzas); !errors.Is(err, age.ErrIncorrectIdentity) {
			return key, err
		}
	}
	return nil, age.ErrIncorrectIdentity
}

// Passphrase is the identity of what is encrypted with a passphrase, which is
// asked for when it is needed, and once.
type Passphrase struct {
	ask func() (string, error)

	mu   sync.Mutex
	said string
}

// NewPassphrase makes one.
func NewPassphrase(ask func() (string, error)) *Passphrase { return &Passphrase{ask: ask} }

// Unwrap opens what is encrypted with the passphrase, and asks for it.
func (p *Passphrase) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	if len(stanzas) != 1 || stanzas[0].Type != "scrypt" {
		return nil, age.ErrIncorrectIdentity
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.said == "" {
		said, err := p.ask()
		if err != nil {
			return nil, err
		}
		if said == "" {
			return nil, problem.Coded(CodeEncrypted, "the one that it was encrypted with", "no passphrase was given")
		}
		p.said = said
	}
	id, err := age.NewScryptIdentity(p.said)
	if err != nil {
		return nil, err
	}
	key, err := id.Unwrap(stanzas)
	if errors.Is(err, age.ErrIncorrectIdentity) {
		p.said = "" // to be asked again
		return nil, problem.Coded(CodeEncrypted, "try again; it is the one that it was encrypted with", "the passphrase doesn't open it")
	}
	return key, err
}

// nobody is an identity that opens nothing: with it age says for whom something
// was encrypted.
type nobody struct{}

func (nobody) Unwrap([]*age.Stanza) ([]byte, error) { return nil, age.ErrIncorrectIdentity }

// sealedFor says for what kind of recipient something was encrypted.
func sealedFor(none *age.NoIdentityMatchError) (what, hint string) {
	types := strings.Join(none.StanzaTypes, " ")
	switch {
	case strings.Contains(types, "scrypt"):
		return "encrypted with a passphrase", "name a file with it: --passphrase-file FILE; on a terminal you are asked for it"
	case strings.Contains(types, "ssh-") && !strings.Contains(types, "X25519"):
		return "encrypted for an SSH key", "name the file of the private key: --identity FILE"
	}
	return "encrypted with age", "name the file with the identity: --identity FILE"
}
