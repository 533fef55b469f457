package backup

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"etcd-rewind/problem"
	"etcd-rewind/trust"
)

// RecordFormat is the format of a record that this version writes. A record of a
// later one is not guessed at.
const RecordFormat = 1

// Record describes one backup: one snapshot of one cluster in one round. It is
// written last of all, so that what has none is no backup. Field names are a
// format: they stay.
type Record struct {
	Format  int       `json:"format"`
	Tool    string    `json:"tool"` // version of this program
	Cluster ClusterID `json:"cluster"`
	Node    string    `json:"node"`  // that took it
	Round   Round     `json:"round"` // that it belongs to
	Taken   time.Time `json:"taken"` // by the node's clock

	Revision int64 `json:"revision"`
	Keys     int   `json:"keys"` // live ones
	// SnapshotSHA256 is snapshot.Info's: of the content without its trailer.
	SnapshotSHA256 string `json:"snapshot_sha256"`
	File           File   `json:"file"`
	// Secrets is the second file, with what a snapshot can't bring back; nil when
	// it wasn't asked for.
	Secrets *File `json:"secrets,omitempty"`

	Kubernetes string `json:"kubernetes,omitempty"` // "v1.34.2", of the API server's image
	Etcd       string `json:"etcd,omitempty"`       // "3.6.5", of the running etcd
	// Encryption are provider and key name of the values that are encrypted at
	// rest, "aescbc:key1": who restores needs those keys.
	Encryption []string `json:"encryption,omitempty"`
}

// ClusterID is which cluster a backup is of.
type ClusterID struct {
	KubeSystemUID string `json:"kube_system_uid"`
	CASHA256      string `json:"ca_sha256,omitempty"` // of the cluster CA's certificate, DER
}

// File is one file of a backup, beside its record.
type File struct {
	Name string `json:"name"` // without directories
	Sealed
	// Content are what is in a file of several.
	Content []string `json:"content,omitempty"`
}

// Round is the time that the backups of one round share, in whole seconds: of a
// schedule its turn, of one that was asked for the moment.
type Round struct{ time.Time }

const roundFormat = "20060102T150405Z"

// RoundAt is the round of a moment.
func RoundAt(t time.Time) Round { return Round{t.UTC().Truncate(time.Second)} }

// ParseRound reads what String writes.
func ParseRound(s string) (Round, error) {
	t, err := time.Parse(roundFormat, s)
	if err != nil || t.Format(roundFormat) != s {
		return Round{}, fmt.Errorf("%.40q is not a round", s)
	}
	return Round{t}, nil
}

func (r Round) String() string { return r.UTC().Format(roundFormat) }

// A backup's objects lie in a store as CLUSTER/ROUND/NODE and one of these.
const (
	recordSuffix   = ".json"
	snapshotSuffix = ".db.zst.age"
	secretsSuffix  = ".secrets.tar.zst.age"
)

// dir is where a round of a cluster lies in a store.
func (r *Record) dir() string { return path.Join(r.Cluster.KubeSystemUID, r.Round.String()) }

// Name is the record's own name in a store.
func (r *Record) Name() string { return path.Join(r.dir(), r.Node+recordSuffix) }

// SnapshotName is the name of the snapshot in a store.
func (r *Record) SnapshotName() string { return path.Join(r.dir(), r.File.Name) }

// SecretsName is the name of the second file in a store, "" when there is none.
func (r *Record) SecretsName() string {
	if r.Secrets == nil {
		return ""
	}
	return path.Join(r.dir(), r.Secrets.Name)
}

var (
	uid      = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
	hexSHA   = regexp.MustCompile(`^[0-9a-f]{64}$`)
	nodeName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,170}$`)
)

// check says what is wrong with a record, whoever wrote it: nothing in it leads
// out of its round, or is longer than it has to be.
func (r *Record) check() error {
	bad := func(what string) error { return fmt.Errorf("its %s is invalid", what) }
	switch {
	case !uid.MatchString(r.Cluster.KubeSystemUID):
		return bad("cluster")
	case r.Cluster.CASHA256 != "" && !hexSHA.MatchString(r.Cluster.CASHA256):
		return bad("CA")
	case !nodeName.MatchString(r.Node):
		return bad("node")
	case r.Round.IsZero() || r.Round.Year() < 2000 || r.Taken.IsZero():
		return bad("time")
	case r.Revision < 1 || r.Keys < 0:
		return bad("revision")
	case !hexSHA.MatchString(r.SnapshotSHA256):
		return bad("snapshot's sha256")
	case r.File.Name != r.Node+snapshotSuffix || !r.File.sound():
		return bad("file")
	case r.Secrets != nil && (r.Secrets.Name != r.Node+secretsSuffix || !r.Secrets.sound()):
		return bad("second file")
	case len(r.Tool) > 100 || len(r.Kubernetes) > 100 || len(r.Etcd) > 100 || len(r.Encryption) > 1000:
		return bad("length")
	}
	return CheckName(r.Name())
}

func (f *File) sound() bool {
	return f.PlainSize > 0 && f.Size > 0 && hexSHA.MatchString(f.PlainSHA256) && hexSHA.MatchString(f.SHA256) && len(f.Content) <= 1000
}

// clean makes what is only shown fit for that.
func (r *Record) clean() {
	r.Tool, r.Kubernetes, r.Etcd = trust.Text(r.Tool), trust.Text(r.Kubernetes), trust.Text(r.Etcd)
	r.Encryption = trust.Lines(r.Encryption)
	if r.Secrets != nil {
		r.Secrets.Content = trust.Lines(r.Secrets.Content)
	}
}

// Key is the secret that a cluster's nodes authenticate records with: who can
// write to a store, and knows the recipients, can put other files there, but no
// record for them.
//
// It is one secret of keySize bytes after the other. The first authenticates what
// is written, and what was written with any of them is believed: so a new one
// takes the place of another.
type Key []byte

const (
	keySize = 32
	maxKeys = 16
)

// NewKey makes one.
func NewKey() Key {
	k := make(Key, keySize)
	_, _ = rand.Read(k) // it never fails (crypto/rand)
	return k
}

// String doesn't show it.
func (Key) String() string { return "(a key)" }

// ReadKey reads the file of a key, which is this user's and nobody else's: a line
// for each secret, the newest first. The error is a *problem.Problem, and holds
// nothing of the content.
func ReadKey(path string) (Key, error) {
	data, err := readPrivate(path, 4096)
	if err != nil {
		return nil, err
	}
	var k Key
	for line := range strings.Lines(string(data)) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		one, err := hex.DecodeString(line)
		if err != nil || len(one) != keySize {
			k = nil
			break
		}
		k = append(k, one...)
	}
	if len(k) == 0 || len(k) > maxKeys*keySize {
		return nil, problem.New("copy it from another node of the cluster: without it backups can't be distinguished from forged ones",
			"%s contains no key: it has to have 64 hexadecimal digits, and a line of its own for each former key", path)
	}
	return k, nil
}

// each has the secrets, the one that is in use first.
func (k Key) each() iter.Seq[[]byte] { return slices.Chunk([]byte(k), keySize) }

// Write writes the file of a key, mode 0600. One that is there stays.
func (k Key) Write(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	for one := range k.each() {
		_, werr := io.WriteString(f, hex.EncodeToString(one)+"\n")
		err = errors.Join(err, werr)
	}
	return errors.Join(err, f.Sync(), f.Close())
}

// authenticated is a record, or a claim, as it lies in a store. The MAC is of its
// bytes without white space: what a later version adds is in it, too.
type authenticated struct {
	Record json.RawMessage `json:"record"`
	HMAC   string          `json:"hmac_sha256"` // hex
}

// What is authenticated: the one is never taken for the other.
const (
	ofRecord = "etcd-rewind backup record\n"
	ofClaim  = "etcd-rewind backup claim\n"
)

func mac(secret []byte, kind string, raw []byte) []byte {
	h := hmac.New(sha256.New, secret)
	h.Write([]byte(kind))
	h.Write(raw)
	return h.Sum(nil)
}

// authenticate makes what is stored of a record or claim.
func (k Key) authenticate(kind string, raw []byte) ([]byte, error) {
	if len(k) < keySize {
		return nil, errors.New("a record needs a key")
	}
	all, err := json.MarshalIndent(authenticated{raw, hex.EncodeToString(mac(k[:keySize], kind, raw))}, "", "  ")
	return append(all, '\n'), err
}

// open is the record or claim in what was stored. Without a key nobody knows who
// wrote it.
func (k Key) open(kind string, data []byte) (json.RawMessage, error) {
	var a authenticated
	if err := json.Unmarshal(data, &a); err != nil || len(a.Record) == 0 {
		return nil, errNoRecord
	}
	if k != nil {
		var raw bytes.Buffer
		said, err := hex.DecodeString(a.HMAC)
		if err != nil || json.Compact(&raw, a.Record) != nil {
			return nil, errNotAuthentic
		}
		authentic := false
		for one := range k.each() {
			authentic = authentic || hmac.Equal(said, mac(one, kind, raw.Bytes()))
		}
		if !authentic {
			return nil, errNotAuthentic
		}
	}
	return a.Record, nil
}

// Seal is the record as it is stored, authenticated with a key.
func (r *Record) Seal(k Key) ([]byte, error) {
	if err := r.check(); err != nil {
		return nil, fmt.Errorf("the record of the backup: %w", err)
	}
	raw, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	return k.authenticate(ofRecord, raw)
}

// maxRecord bounds a record: one of this program has 2 kB.
const maxRecord = 256 << 10

var (
	errNoRecord     = errors.New("it is not the record of a backup")
	errNotAuthentic = errors.New("it was not written with this cluster's key, or was changed afterwards")
	errLater        = errors.New("it was written by a later version of etcd-rewind")
)

// openRecord reads a record that lies at name. With a key it is authenticated;
// without one nobody knows who wrote it, and it is only well-formed.
func openRecord(name string, data []byte, k Key) (*Record, error) {
	raw, err := k.open(ofRecord, data)
	if err != nil {
		return nil, err
	}
	var format struct{ Format int }
	if err := json.Unmarshal(raw, &format); err != nil || format.Format < 1 {
		return nil, errNoRecord
	}
	if format.Format > RecordFormat {
		return nil, errLater
	}
	var r Record
	if err := json.Unmarshal(raw, &r); err != nil {
		return nil, errNoRecord
	}
	if err := r.check(); err != nil {
		return nil, err
	}
	if r.Name() != name { // an old one, put in the place of a newer one
		return nil, errors.New("it is the record of another backup")
	}
	r.clean()
	return &r, nil
}
