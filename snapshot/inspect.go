package snapshot

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"

	"etcd-rewind/defect"
	"etcd-rewind/problem"
)

// Hash says what a file's sha256 trailer says of it.
type Hash string

// The values of Hash. A wrong trailer isn't one of them: it is a Problem.
const (
	HashOK        Hash = "ok"
	HashMissing   Hash = "missing"   // a copied data file, or the trailer was cut off: no checksum to verify the content
	HashUnchecked Hash = "unchecked" // there is one; Quick doesn't compute it
)

// Member of an etcd cluster.
type Member struct {
	ID       uint64   `json:"id"`
	Name     string   `json:"name"`
	PeerURLs []string `json:"peer_urls"`
	Learner  bool     `json:"learner,omitempty"`
}

// Object is a Kubernetes object that a cluster can be recognised by.
type Object struct {
	Name    string    `json:"name"`
	UID     string    `json:"uid,omitempty"` // "" when it can't be decoded: encrypted at rest
	Created time.Time `json:"created,omitzero"`
	// Deleting says that it was being deleted: a restored cluster continues with that.
	Deleting bool `json:"deleting,omitempty"`
}

// Info is what is known of a snapshot file. It holds names and never values, but
// for kubeadm's configuration, which has no secrets in it.
//
// All names and lists in it are bounded, whatever the file holds: a longer name
// ends with "… (N bytes)", and More counts what isn't in a list.
type Info struct {
	Name    string    `json:"path"`             // of the source, as the user gave it
	Path    string    `json:"-"`                // of the file that it is read from: a staging file may have been made
	Packed  *Staged   `json:"packed,omitempty"` // how it became that file, when it isn't the source's own
	Size    int64     `json:"size"`             // of the file, bytes
	ModTime time.Time `json:"mod_time"`
	SHA256  string    `json:"sha256"` // hex, of the content without the trailer
	Hash    Hash      `json:"hash"`
	// Doubt is what nobody can know of where it comes from: see Source.
	Doubt *problem.Problem `json:"doubt,omitempty"`

	Revision int64 `json:"revision"`
	// Keys is the number of live keys. EmptyKey says that there is also the empty
	// one that a revision bump writes: etcdutl counts it, and etcd's API never
	// returns it.
	Keys     int  `json:"keys"`
	EmptyKey bool `json:"empty_key,omitempty"`
	// TotalSize is the size of the database in bytes, as etcdutl reports it.
	TotalSize      int64    `json:"total_size"`
	StorageVersion string   `json:"storage_version,omitempty"` // "3.6.0"; "" before etcd 3.6
	Members        []Member `json:"members"`
	Alarms         []string `json:"alarms,omitempty"` // "NOSPACE", "CORRUPT"
	AuthEnabled    bool     `json:"auth_enabled"`
	// AuthUsers are those who may read and write all that is below Prefix, when
	// etcd's authentication is enabled; 1000 at most.
	AuthUsers []string `json:"auth_users,omitempty"`

	// Prefix of the API server's keys, "/registry" by default; "" when no
	// Kubernetes is in the snapshot.
	Prefix string `json:"prefix,omitempty"`
	// Prefixes are all that a namespace kube-system is under, Prefix the
	// shortest of them; nil when there is one. An API server that was moved to
	// another prefix left the old keys behind.
	Prefixes      []string `json:"prefixes,omitempty"`
	KubeSystemUID string   `json:"kube_system_uid,omitempty"` // the cluster's identity
	Namespaces    []Object `json:"namespaces,omitempty"`
	Nodes         []Object `json:"nodes,omitempty"`
	// KubeletVersions counts the nodes by what their kubelet said, "v1.34.4".
	KubeletVersions map[string]int `json:"kubelet_versions,omitempty"`
	ServiceCIDRs    []string       `json:"service_cidrs,omitempty"` // of ServiceCIDR objects; empty before Kubernetes 1.33
	ServiceIP       string         `json:"service_ip,omitempty"`    // of the service default/kubernetes
	APIServers      []string       `json:"api_servers,omitempty"`   // addresses in masterleases
	// Kubeadm is nil when kube-system/kubeadm-config isn't there.
	Kubeadm *Kubeadm `json:"kubeadm,omitempty"`
	// LastWrite is the newest time in the last objects written: the true age
	// of the snapshot, by the clocks of the cluster. Zero when unknown.
	LastWrite time.Time `json:"last_write,omitzero"`
	// Kinds are the objects in it by kind and namespace, by the kind's name.
	Kinds []Kind   `json:"kinds,omitempty"`
	CRDs  []string `json:"crds,omitempty"` // names of the CustomResourceDefinitions
	// Encryption is how many values are encrypted at rest, and with which keys.
	Encryption []Encryption `json:"encryption,omitempty"`
	// EncryptedPrefixes are provider and key name of all live values that are
	// encrypted at rest, for example "aescbc:key1", sorted.
	EncryptedPrefixes []string `json:"encrypted_prefixes,omitempty"`

	// More counts what isn't in the lists, because there is more of it than any
	// cluster has: "namespaces", "nodes", "members", "kinds", "CRDs".
	More map[string]int `json:"more,omitempty"`
	// LongKeys is the number of keys longer than 1024 bytes: no API server
	// wrote them.
	LongKeys int `json:"long_keys,omitempty"`

	// stored is how values are stored, with one of each to be tried.
	stored []storedValues
	// copied says that the file that was to be filled meanwhile has all of it.
	copied bool
}

// Taken is when the content is from: its newest write, where that could be read,
// else the file's time.
func (i *Info) Taken() time.Time {
	if !i.LastWrite.IsZero() {
		return i.LastWrite
	}
	return i.ModTime
}

type inspectRequest struct {
	Path   string `json:"path"`
	Hashed bool   `json:"hashed,omitempty"` // somebody else does that
	Copy   string `json:"copy,omitempty"`   // empty file that gets the content without the trailer
}

// inspected is a worker's answer. What is stored isn't part of Info: that is
// shown.
type inspected struct {
	Info   *Info          `json:"info"`
	Stored []storedValues `json:"stored"`
	Copied bool           `json:"copied,omitempty"`
}

// Inspect reads the whole file: hash, page structure, every record. For a bad
// file the error is a *problem.Problem; any other error says nothing about the file.
// progress may be nil; it gets bytes, from another goroutine, and is never
// called after Inspect has returned. A file without a trailer, or a bad one,
// that was touched in the last seconds is watched for up to a second: somebody
// may still be copying it. Safe to call twice and at the same time.
func Inspect(ctx context.Context, path string, progress func(done, total int64)) (*Info, error) {
	return inspectCopying(ctx, path, "", progress)
}

// InspectAndCopy is Inspect for a restore that follows at once: what is hashed is
// written into a staging file in dir at the same time, which the restore can use up
// then (Staged.Restore). No copy, and no error, is where it can't be made, where the
// file has no trailer, or where dir hasn't room for the copy, two more of its size
// and spare bytes: no other file has to do without. The caller removes it.
func InspectAndCopy(ctx context.Context, path, dir string, spare int64, progress func(done, total int64)) (*Info, *Staged, error) {
	begun := time.Now()
	quick, err := Quick(path)
	if err != nil {
		return nil, nil, err
	}
	var f *os.File
	if free, err := freeBytes(dir); err == nil && quick.Hash != HashMissing && (free-spare-keepFree)/3 >= quick.Size {
		f, _ = newUnpacked(dir)
	}
	if f == nil {
		info, err := Inspect(ctx, path, progress)
		return info, nil, err
	}
	s := &Staged{Path: f.Name(), Name: path, Format: Raw, lock: f}
	info, err := inspectCopying(ctx, path, s.Path, progress)
	if err == nil && info.copied && info.Hash == HashOK {
		info.copied = false
		if st, err := f.Stat(); err == nil {
			s.written, s.content, s.Size, s.Took = st, info.SHA256, st.Size(), time.Since(begun)
			return info, s, nil
		}
	}
	_ = s.Remove()
	return info, nil, err
}

func inspectCopying(ctx context.Context, path, to string, progress func(done, total int64)) (*Info, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	before, _ := os.Stat(abs) // an error is Quick's to explain
	info, err := inspect(ctx, inspectRequest{Path: abs, Copy: to}, progress)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if p := writtenTo(ctx, abs, before, info, err); p != nil {
		return nil, p
	}
	if err != nil {
		return nil, err
	}
	info.Name, info.Path = path, path
	return info, nil
}

func inspect(ctx context.Context, req inspectRequest, progress func(done, total int64)) (*Info, error) {
	quick, err := Quick(req.Path)
	if err != nil {
		return nil, err
	}
	var tell func(Progress)
	if progress != nil {
		tell = func(p Progress) { progress(p.Done, p.Total) }
	}
	var found inspected
	if err := call(ctx, workInspect, req, &found, tell); err != nil {
		return nil, explainCrash(ctx, err, quick)
	}
	found.Info.stored, found.Info.copied = found.Stored, found.Copied
	return found.Info, nil
}

// explainCrash looks for the reason of a crash where it can be had by plain
// reads: a hash that doesn't fit says more than a signal.
func explainCrash(ctx context.Context, err error, quick *Info) error {
	var crash *crashError
	if !errors.As(err, &crash) || crash.signal == "SIGKILL" {
		return err
	}
	f, operr := os.Open(quick.Path)
	if operr != nil {
		return openProblem(quick.Path, operr)
	}
	defer f.Close()
	if _, herr := checkHash(ctx, f, quick, nil, nil); herr != nil {
		return herr
	}
	return problem.Coded(CodeStructure, useAnother, "damaged or truncated: %v", crash)
}

const useAnother = "copy it again from where it was taken, or use another snapshot"

// Somebody may be copying the file right now. So for what could come from
// that, a file touched in the last freshFor is watched for watchFor.
const (
	freshFor = 5 * time.Second
	watchFor = time.Second
)

// writtenTo returns the Problem of a file that changed while it was read or is
// still being written, nil for one that doesn't change.
func writtenTo(ctx context.Context, path string, before os.FileInfo, info *Info, err error) *problem.Problem {
	if before == nil || !before.Mode().IsRegular() {
		return nil
	}
	suspect := info != nil && info.Hash == HashMissing
	if p := problem.Of(err); p != nil {
		switch p.Code {
		case CodeTruncated, CodeDamagedHash, CodeStructure, CodeEmpty, CodeNotBolt:
			suspect = true
		}
	}
	for end := time.Now().Add(watchFor); ; {
		if p := changedSince(path, before); p != nil {
			return p
		}
		age := time.Since(before.ModTime()).Abs()
		if !suspect || age > freshFor || time.Now().After(end) {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func changedSince(path string, before os.FileInfo) *problem.Problem {
	now, err := os.Stat(path)
	switch {
	case err != nil:
		return openProblem(path, err)
	case !os.SameFile(before, now):
		return problem.Coded(CodeGrowing, waitForIt, "it was replaced by another file while it was read")
	case now.Size() != before.Size():
		return problem.Coded(CodeGrowing, waitForIt, "still being written: it had %d bytes and now has %d", before.Size(), now.Size())
	case !now.ModTime().Equal(before.ModTime()):
		return problem.Coded(CodeGrowing, waitForIt, "still being written: it changed while it was read")
	}
	return nil
}

// workMemory is what a worker may use before its garbage collector works
// harder, besides a part of the file's size.
const workMemory = 96 << 20

// inspectFile does the work of Inspect, in the child. Hash and content are
// read at the same time; a wrong hash explains whatever the content shows. w
// may be nil.
func inspectFile(req inspectRequest, w watcher, progress func(Progress)) (*Info, error) {
	h, err := startHash(req, progress)
	if err != nil {
		return nil, err
	}
	return h.inspect(w)
}

// hashing is a file whose hash is being computed, and its structure checked.
type hashing struct {
	info *Info
	meter
	done chan struct{}
	sum  string
	err  error

	opened chan struct{}
	db     *bolt.DB
	dbErr  error
}

func startHash(req inspectRequest, progress func(Progress)) (*hashing, error) {
	info, err := Quick(req.Path)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(req.Path)
	if err != nil {
		return nil, openProblem(req.Path, err)
	}
	h := &hashing{info: info, meter: meter{total: info.content(), tell: progress}, done: make(chan struct{}), opened: make(chan struct{})}
	go defect.Do(func() {
		defer close(h.done)
		defer f.Close()
		tell := func(p Progress) { h.hashed(p.Done) }
		switch {
		case req.Hashed:
			h.alone()
		case req.Copy == "":
			h.sum, h.err = checkHash(context.Background(), f, info, nil, tell)
		default:
			h.sum, info.copied, h.err = fillFile(req.Copy, f, info, tell)
		}
	})()
	go defect.Do(func() {
		defer close(h.opened)
		h.db, h.dbErr = openChecked(req.Path)
	})()
	return h, nil
}

// fillFile fills a file that is there. That it can't is no fault of the snapshot,
// which is hashed nevertheless, once.
func fillFile(to string, src *os.File, info *Info, tell func(Progress)) (sum string, filled bool, err error) {
	dst, err := os.OpenFile(to, os.O_RDWR, 0)
	if err != nil {
		err = targetProblem(err)
	} else {
		sum, err = fill(dst, src, info, tell)
		if err != nil {
			_ = dst.Truncate(0) // others need the space
		}
		if cerr := dst.Close(); err == nil && cerr != nil {
			err = targetProblem(cerr)
		}
	}
	switch {
	case err == nil:
		return sum, true, nil
	case sum != "":
		return sum, false, nil
	case problem.HasCode(err, CodeNoSpace), problem.HasCode(err, CodeTarget): // before it was read
		sum, err = checkHash(context.Background(), src, info, nil, tell)
	}
	return sum, false, err
}

// meter reports how far hash and content are together: half of the bytes each, of
// which both have to be read.
type meter struct {
	mu             sync.Mutex
	total          int64
	hash, contents int64 // bytes
	one            bool  // it is the content alone
	tell           func(Progress)
}

func (m *meter) alone() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.one = true
}

func (m *meter) hashed(n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hash = n
	m.now()
}

// read gets the part of the content that is read, 0 to 1.
func (m *meter) read(part float64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.contents = max(m.contents, int64(max(0, min(part, 1))*float64(m.total)))
	m.now()
}

func (m *meter) now() {
	switch {
	case m.tell == nil:
	case m.one:
		m.tell(Progress{Phase: "hash", Done: m.contents, Total: m.total})
	default:
		m.tell(Progress{Phase: "hash", Done: m.hash/2 + m.contents/2 + m.hash&m.contents&1, Total: m.total})
	}
}

// inspect reads the content meanwhile, and shows it to w, which may be nil.
func (h *hashing) inspect(w watcher) (*Info, error) {
	keys := allKeys(w, h.read)
	info := h.info
	// On a busy node the collector may fall behind; then it goes first. The
	// limit is for what an index of small keys may take.
	debug.SetMemoryLimit(max(debug.SetMemoryLimit(-1)%math.MaxInt64, workMemory+info.Size/16))
	type read struct {
		c   *contents
		err error
	}
	content := make(chan read, 1)
	go defect.Do(func() {
		if <-h.opened; h.dbErr != nil {
			content <- read{nil, h.dbErr}
			return
		}
		c, err := readChecked(h.db, keys)
		content <- read{c, err}
	})()
	if <-h.done; h.err != nil {
		return nil, h.err
	}
	info.SHA256 = h.sum
	if info.Hash == HashUnchecked && h.sum != "" {
		info.Hash = HashOK
	}
	r := <-content
	if r.err != nil {
		return nil, r.err
	}
	h.read(1)
	r.c.fill(info)
	return info, nil
}

// checkHash computes the sha256 of the content and compares it with the
// trailer, if there is one. What it has hashed it gives to w, which may be nil.
func checkHash(ctx context.Context, f *os.File, info *Info, w *writing, progress func(Progress)) (string, error) {
	size := info.content()
	free := make(chan []byte, pieces)
	if w != nil {
		free = w.free
	} else {
		for range pieces {
			free <- make([]byte, 1<<20)
		}
	}
	h := sha256.New()
	r := startReading(ctx, f, info, free)
	for p := range r.full {
		h.Write(p.data)
		if w != nil {
			w.full <- p
		} else {
			free <- p.data[:cap(p.data)]
		}
		if progress != nil {
			progress(Progress{Phase: "hash", Done: p.at + int64(len(p.data)), Total: size})
		}
	}
	if r.err != nil {
		return "", r.err
	}
	sum := h.Sum(nil)
	if info.Hash == HashUnchecked {
		trailer := make([]byte, sha256.Size)
		if _, err := f.ReadAt(trailer, size); err != nil {
			return "", openProblem(info.Path, err)
		}
		if !bytes.Equal(sum, trailer) {
			return "", hashProblem(sum, trailer)
		}
	}
	return hex.EncodeToString(sum), nil
}
