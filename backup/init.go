package backup

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"
	"go.yaml.in/yaml/v3"

	"etcd-rewind/problem"
)

// Try proves that a location takes files, gives them back as they were, and lets
// them be deleted. That it keeps them for a while, whatever happens, is no
// error: an object lock is a good thing, and kept says so. The error is a
// *problem.Problem.
func Try(ctx context.Context, s Store) (kept bool, err error) {
	const called = "etcd-rewind-test-"
	name := called + rand.Text()
	data := []byte("A test file of etcd-rewind backup init. It can be deleted.\n")
	sum := sha256.Sum256(data)
	c := Content{Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }, Size: int64(len(data)), SHA256: hex.EncodeToString(sum[:])}
	if err := Keep(ctx, s, name, c, recordsTimeout); err != nil {
		return false, err
	}
	_ = patient(ctx, recordsTimeout, func(ctx context.Context, _ func()) error { // what such a test has left that was killed
		return s.Sweep(ctx, called, func(u Unfinished) bool { return u.Age > unfinishedFor })
	})
	about := func(err error) error {
		return problem.From(fmt.Errorf("%s: deleting what was written there: %w", s.Location(), err))
	}
	err = patient(ctx, recordsTimeout, func(ctx context.Context, _ func()) error { return s.Delete(ctx, name) })
	switch {
	case errors.Is(err, ErrLocked):
		return true, nil
	case err != nil:
		return false, about(err)
	}
	err = patient(ctx, recordsTimeout, func(ctx context.Context, _ func()) error {
		_, err := s.Stat(ctx, name)
		return err
	})
	switch {
	case err == nil:
		return false, about(errors.New("it is still there"))
	case !errors.Is(err, fs.ErrNotExist):
		return false, about(err)
	}
	return false, nil
}

// Proof says who can open the backups: each recipient of the two files once, or
// the passphrase.
type Proof struct {
	Opened []string
	// Unproven are those whose identity wasn't given: an escrow key's is elsewhere.
	Unproven []string
}

// Prove encrypts a test file as a backup would be, for each of the recipients of
// either file, and opens it with the identities, or the passphrase, that somebody
// holds. At least one recipient of each file has to be proven so: when none is,
// nobody knows whether anything ever will be opened, and the error is a
// *problem.Problem.
func (c *Config) Prove(ctx context.Context, ids []age.Identity) (*Proof, error) {
	p := &Proof{}
	opened, err := p.add(ctx, c.snapshotRecipients(), c.AgeRecipients, ids)
	switch {
	case err != nil:
		return nil, err
	case !opened:
		return nil, problem.New("give the identity that belongs to one of the recipients: the file that age-keygen made, or the SSH key", "the test file wasn't opened: backups would be lost")
	case len(c.SecretsRecipients) == 0:
		return p, nil
	}
	opened, err = p.add(ctx, c.SecretsRecipients, c.AgeSecretsRecipients, ids)
	switch {
	case err != nil:
		return nil, err
	case !opened:
		return nil, problem.New("give the identity of one of the recipients for these parts, too: --identity can be repeated",
			"the test file for what is included (%s) wasn't opened: it would be lost", strings.Join(c.Include, ", "))
	}
	return p, nil
}

// Opens says whether the identities open the snapshots, which is all that a drill
// needs. The error is a *problem.Problem.
func (c *Config) Opens(ctx context.Context, ids []age.Identity) (bool, error) {
	return new(Proof).add(ctx, c.snapshotRecipients(), c.AgeRecipients, ids)
}

// snapshotRecipients are those of the first file, by name.
func (c *Config) snapshotRecipients() []string {
	if c.PassphraseFile != "" {
		return []string{"the passphrase"}
	}
	return c.Recipients
}

func (p *Proof) add(ctx context.Context, names []string, recipients func() ([]age.Recipient, error), ids []age.Identity) (opened bool, err error) {
	all, err := recipients()
	if err != nil {
		return false, err
	}
	test := []byte(rand.Text())
	for i, r := range all {
		var file bytes.Buffer
		if _, err := Seal(ctx, &file, bytes.NewReader(test), r); err != nil {
			return false, problem.From(err)
		}
		to := &p.Unproven
		if opens(file.Bytes(), test, ids) {
			opened, to = true, &p.Opened
		}
		if name := strings.TrimSpace(names[i]); !slices.Contains(*to, name) {
			*to = append(*to, name)
		}
	}
	return opened, nil
}

// Unproven says which file has no recipient that a test file was opened for, as
// init has noted in the configuration; nil when both have. Somebody may have
// changed the recipients by hand.
func (c *Config) Unproven() *problem.Problem {
	proven := func(all []string) bool {
		return len(all) == 0 || slices.ContainsFunc(all, func(r string) bool { return slices.Contains(c.Proven, strings.TrimSpace(r)) })
	}
	what := ""
	switch {
	case !proven(c.Recipients):
		what = "the backups"
	case !proven(c.SecretsRecipients):
		what = "what is included (" + strings.Join(c.Include, ", ") + ")"
	default:
		return nil
	}
	return problem.New("try the identity, etcd-rewind backup enable --identity FILE, then add its recipient to proven in "+c.Path,
		"nobody has proven that %s can be opened: none of the recipients is in the configuration's proven", what)
}

func opens(file, want []byte, ids []age.Identity) bool {
	plain, err := age.Decrypt(bytes.NewReader(file), ids...)
	if err != nil {
		return false
	}
	z, err := zstd.NewReader(plain)
	if err != nil {
		return false
	}
	defer z.Close()
	got, err := io.ReadAll(io.LimitReader(z, int64(len(want))+1))
	return err == nil && bytes.Equal(got, want)
}

// Foreign counts the backups in the locations that were made with another key: what
// is left of a cluster that was lost with its key. A location that doesn't say is
// left out.
func (c *Config) Foreign(ctx context.Context) int {
	p, err := c.Places(ClusterID{})
	if err != nil {
		return 0
	}
	n := 0
	p.Look(ctx, func(_ Store, l *Listing, err error) {
		if err != nil {
			return
		}
		for _, e := range l.Entries {
			if errors.Is(e.Err, errNotAuthentic) {
				n++
			}
		}
	})
	return n
}

// Check says what is wrong with a configuration that wasn't read from a file.
// The error is a *problem.Problem.
func (c *Config) Check() error {
	text, err := c.Text()
	if err == nil {
		_, err = parse(text)
	}
	if l, ok := errors.AsType[*lineError](err); ok {
		return problem.New(l.hint, "%s", l.what)
	}
	if err != nil {
		return problem.From(err)
	}
	return nil
}

// Text is the configuration's file.
func (c *Config) Text() ([]byte, error) {
	var out bytes.Buffer
	out.WriteString("# Backups of this cluster's etcd. The same file, and the key beside it, on each\n# control plane. See etcd-rewind backup --help.\n")
	e := yaml.NewEncoder(&out)
	e.SetIndent(2)
	err := errors.Join(e.Encode(c), e.Close())
	return out.Bytes(), err
}

// Write writes the configuration, mode 0600, and a new key beside it, unless one
// is there: another node's, or an earlier one's. The key comes first, so that a
// configuration without one is never there. The error is a *problem.Problem.
func (c *Config) Write(path string, replace bool) error {
	text, err := c.Text()
	if err != nil {
		return problem.From(err)
	}
	if _, err := os.Lstat(path); err == nil && !replace {
		return problem.New("edit it, or overwrite it with --replace", "%s is there already", path)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return problem.From(err)
	}
	switch c.Key, err = ReadKey(KeyPath(path)); {
	case errors.Is(err, fs.ErrNotExist):
		c.Key = NewKey()
		err = c.Key.Write(KeyPath(path))
	}
	if err != nil {
		return problem.From(err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".etcd-rewind-*") // mode 0600
	if err != nil {
		return problem.From(err)
	}
	defer func() { _ = os.Remove(f.Name()) }() // renamed, or not worth keeping
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return problem.From(err)
	}
	c.Path = path
	return nil
}
