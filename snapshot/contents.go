package snapshot

import (
	"bytes"
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"etcd-rewind/defect"
)

// Kind counts the objects of one kind in a snapshot.
type Kind struct {
	Kind       string `json:"kind"`                  // "Deployment"; the resource when every one is encrypted
	APIVersion string `json:"api_version,omitempty"` // as stored: "apps/v1"
	Resource   string `json:"resource"`              // as in the keys: "deployments", "widgets.example.com"
	Count
	// Namespaces is empty for a kind that is in none. Of more than 1000 it has
	// those with the most objects, and one called Others for the rest.
	Namespaces []Namespace `json:"namespaces,omitempty"`
}

// GroupResource is the kind's resource in the API: "apps", "deployments".
func (k Kind) GroupResource() schema.GroupResource { return groupResource(k.Resource, k.APIVersion) }

// Namespace counts the objects of one kind in one namespace.
type Namespace struct {
	Namespace string `json:"namespace"`
	Count
}

// Count says how many objects there are, and how young. The times are zero
// when they can't be decoded: encrypted at rest.
type Count struct {
	Objects int       `json:"objects"`
	Created time.Time `json:"newest_created,omitzero"`
	Changed time.Time `json:"newest_change,omitzero"` // by managedFields; never before Created
}

func (c *Count) add(o Count) {
	c.Objects += o.Objects
	c.newest(o)
}

func (c *Count) newest(o Count) {
	if o.Created.After(c.Created) {
		c.Created = o.Created
	}
	if o.Changed.After(c.Changed) {
		c.Changed = o.Changed
	}
}

// tally counts live values while they go by. They are counted by the part of
// the key before the name: which part of that is the prefix is known only at
// the end. Metadata is decoded on a goroutine of its own, since that takes as
// long as all the rest.
type tally struct {
	dirs  map[string]*dirCount
	batch []decoding
	queue chan []decoding
	done  chan error
	left  int             // samples that may still be kept
	with  map[string]bool // the encryptions seen, of all dirs
	moved int             // objects that were counted nowhere
	bytes int             // of the paths in dirs
	named int             // CRDs whose names were kept
}

type dirCount struct {
	Count
	encrypted        map[string]int // by provider and key name
	marked           int            // of Objects: begin like an encrypted value
	samples          sampleSet
	kind, apiVersion string
	names            []string // of CRDs alone
	unnamed          int      // CRDs that aren't in it
}

const crdDir = "/apiextensions.k8s.io/customresourcedefinitions"

// decoding is the metadata of one object, still in the memory map.
type decoding struct {
	dir   *dirCount
	meta  []byte
	proto bool
}

const batchSize = 512

func newTally() *tally {
	t := &tally{dirs: map[string]*dirCount{}, with: map[string]bool{}, left: maxSamples, queue: make(chan []decoding, 4), done: make(chan error, 1)}
	go defect.Do(func() {
		err := guard(func() error {
			for batch := range t.queue {
				for _, d := range batch {
					d.decode()
				}
			}
			return nil
		})
		for range t.queue { // after a fault
		}
		t.done <- err
	})()
	return t
}

func (t *tally) put(key, value []byte) {
	i := bytes.LastIndexByte(key, '/')
	if i <= 0 {
		return
	}
	d := t.dir(key[:i])
	if d == nil {
		t.moved++
		return
	}
	d.Objects++
	if bytes.HasSuffix(key[:i], []byte(crdDir)) {
		if t.named < maxKinds {
			t.named++
			d.names = append(d.names, name(key[i+1:]))
		} else {
			d.unnamed++
		}
	}
	if bytes.HasPrefix(value, []byte(encryptedMark)) {
		with := encryptedWith(value)
		d.marked++
		d.samples.put(&t.left, cmp.Or(with, "an unknown provider"), key, value)
		if with != "" {
			if !t.with[with] && len(t.with) >= maxFew {
				with = Others + ":" + Others
			}
			t.with[with] = true
			if d.encrypted == nil {
				d.encrypted = map[string]int{}
			}
			d.encrypted[with]++
		}
		return
	}
	s, ok := skim(value, d.kind == "")
	if !ok {
		return
	}
	if d.kind == "" {
		d.kind, d.apiVersion = name(s.kind), name(s.apiVersion)
	}
	if t.batch = append(t.batch, decoding{dir: d, meta: s.meta, proto: s.proto}); len(t.batch) == batchSize {
		t.queue <- t.batch
		t.batch = make([]decoding, 0, batchSize)
	}
}

// dir is where the objects below a path are counted: when there are too many
// paths, with those of other namespaces; nil when there are too many of these,
// too, or the path is too long.
func (t *tally) dir(path []byte) *dirCount {
	if d := t.dirs[string(path)]; d != nil {
		return d
	}
	if len(path) > maxKey {
		return nil
	}
	if len(t.dirs) >= maxDirs || t.bytes > maxDirBytes {
		above := bytes.LastIndexByte(path, '/')
		path = append(bytes.Clone(path[:above+1]), Others...)
		if d := t.dirs[string(path)]; d != nil || len(t.dirs) >= maxDirs+maxKinds || t.bytes > maxDirBytes+maxKinds*maxKey {
			return d
		}
	}
	d := &dirCount{}
	t.dirs[string(path)] = d
	t.bytes += len(path)
	return d
}

// wait returns when all is decoded.
func (t *tally) wait() error {
	t.queue <- t.batch
	close(t.queue)
	return <-t.done
}

func (d decoding) decode() {
	var c Count
	if d.proto {
		c.Created, c.Changed = timesOf(d.meta)
	} else if m, err := decodeMeta(d.meta, false); err == nil {
		c.Created, c.Changed = m.CreationTimestamp.Time, m.CreationTimestamp.Time
		for _, f := range m.ManagedFields {
			if f.Time != nil && f.Time.After(c.Changed) {
				c.Changed = f.Time.Time
			}
		}
	}
	d.dir.newest(c) // and not Objects, which put counts meanwhile
}

// The fields of an ObjectMeta that hold its times, and of an entry of
// managedFields (k8s.io/apimachinery, meta/v1/generated.proto).
const (
	creationTimestampField = 8
	managedFieldsField     = 17
	managedTimeField       = 4
)

// timesOf reads from an ObjectMeta in protobuf when the object was made, and
// the newest time that managedFields know. To decode all of the metadata of
// all objects would take half of an inspection.
func timesOf(meta []byte) (created, changed time.Time) {
	for len(meta) > 0 {
		num, typ, n := protowire.ConsumeTag(meta)
		if n < 0 {
			return created, changed
		}
		meta = meta[n:]
		if typ != protowire.BytesType || num != creationTimestampField && num != managedFieldsField {
			if n = protowire.ConsumeFieldValue(num, typ, meta); n < 0 {
				return created, changed
			}
			meta = meta[n:]
			continue
		}
		v, n := protowire.ConsumeBytes(meta)
		if n < 0 {
			return created, changed
		}
		meta = meta[n:]
		if num == managedFieldsField {
			if v, _ = firstField(v, managedTimeField); v == nil {
				continue
			}
		}
		var t metav1.Time
		if t.Unmarshal(v) != nil {
			continue
		}
		if num == creationTimestampField {
			created = t.Time
		}
		if t.After(changed) {
			changed = t.Time
		}
	}
	return created, changed
}

// decodeMeta decodes an ObjectMeta in protobuf, or a whole object in JSON.
func decodeMeta(data []byte, isProto bool) (*metav1.ObjectMeta, error) {
	if isProto {
		var m metav1.ObjectMeta
		return &m, m.Unmarshal(data)
	}
	var m metav1.PartialObjectMetadata
	return &m.ObjectMeta, json.Unmarshal(data, &m)
}

// skimmed is an object of which only the frame was looked at.
type skimmed struct {
	kind, apiVersion string
	meta             []byte // see decodeMeta
	proto            bool
}

// skim finds an object's metadata, without a copy and without looking at what
// comes after: metadata is the first field of every kind. It fails for what is
// encrypted or isn't a Kubernetes object.
func skim(value []byte, wantKind bool) (skimmed, bool) {
	rest, ok := bytes.CutPrefix(value, []byte("k8s\x00"))
	if !ok {
		return skimJSON(value, wantKind)
	}
	s := skimmed{proto: true}
	// A runtime.Unknown: 1 is its TypeMeta, 2 the object.
	frame, ok := firstField(rest, 1)
	if !ok {
		return s, false
	}
	if wantKind {
		var t runtime.TypeMeta
		if t.Unmarshal(frame) != nil {
			return s, false
		}
		s.kind, s.apiVersion = t.Kind, t.APIVersion
	}
	raw, ok := firstField(rest, 2)
	if !ok {
		return s, false
	}
	s.meta, ok = firstField(raw, 1)
	return s, ok
}

func skimJSON(value []byte, wantKind bool) (skimmed, bool) {
	s := skimmed{meta: value}
	if !bytes.HasPrefix(value, []byte("{")) {
		return s, false
	}
	if wantKind {
		var t metav1.TypeMeta
		if json.Unmarshal(value, &t) != nil || t.Kind == "" {
			return s, false
		}
		s.kind, s.apiVersion = t.Kind, t.APIVersion
	}
	return s, true
}

// firstField is the first field of a message with that number, which is a
// message too.
func firstField(b []byte, want protowire.Number) ([]byte, bool) {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return nil, false
		}
		b = b[n:]
		if num == want && typ == protowire.BytesType {
			v, n := protowire.ConsumeBytes(b)
			return v, n >= 0
		}
		if n = protowire.ConsumeFieldValue(num, typ, b); n < 0 {
			return nil, false
		}
		b = b[n:]
	}
	return nil, false
}

// atRest is how the values below the prefix of the API server's keys are
// stored.
func (t *tally) atRest(prefix string) []storedValues {
	return atRest(t.dirs, func(dir string) (string, bool) {
		rest, ok := strings.CutPrefix(dir, prefix+"/")
		if !ok || prefix == "" {
			return "", false
		}
		name, ok := splitKey(rest + "/x")
		return name.Resource, ok
	})
}

// result puts into c what was counted below the prefix of the API server's keys.
func (t *tally) result(c *contents) {
	byResource := map[string]*Kind{}
	byKey := map[string]*Encryption{}
	for dir, d := range t.dirs {
		o := ObjectName{Resource: name(dir)} // an etcd without Kubernetes may encrypt as well
		if c.kube.prefix != "" {
			rest, ok := strings.CutPrefix(dir, c.kube.prefix+"/")
			if !ok {
				continue
			}
			if o, ok = splitKey(rest + "/x"); !ok {
				continue
			}
			k := byResource[o.Resource]
			if k == nil {
				k = &Kind{Resource: o.Resource}
				byResource[o.Resource] = k
			}
			k.add(d.Count)
			c.crds = append(c.crds, d.names...)
			c.beyond("CRDs", d.unnamed)
			if d.kind != "" {
				k.Kind, k.APIVersion = d.kind, d.apiVersion
			}
			if o.Namespace != "" {
				k.Namespaces = append(k.Namespaces, Namespace{Namespace: o.Namespace, Count: d.Count})
			}
		}
		for with, n := range d.encrypted {
			e := byKey[with]
			if e == nil {
				provider, key, _ := strings.Cut(with, ":")
				e = &Encryption{Provider: name(provider), Key: name(key)}
				byKey[with] = e
			}
			e.Objects += n
			if !slices.Contains(e.Resources, o.Resource) && len(e.Resources) < maxFew {
				e.Resources = append(e.Resources, o.Resource)
			}
		}
	}
	c.beyond("objects", t.moved)
	for _, k := range mostKinds(c, byResource) {
		if k.Kind == "" {
			k.Kind = kindOf(k.Resource)
		}
		k.Namespaces = mostOf(k.Namespaces)
		c.kinds = append(c.kinds, *k)
	}
	slices.SortFunc(c.kinds, func(a, b Kind) int {
		return strings.Compare(a.Kind+" "+a.Resource, b.Kind+" "+b.Resource)
	})
	for _, e := range byKey {
		slices.Sort(e.Resources)
		c.encryption = append(c.encryption, *e)
	}
	slices.SortFunc(c.encryption, func(a, b Encryption) int { return strings.Compare(a.String(), b.String()) })
	slices.Sort(c.crds)
}

// mostKinds are at most maxKinds of the kinds, those with the most objects, and
// the others as one.
func mostKinds(c *contents, all map[string]*Kind) []*Kind {
	kinds := slices.SortedFunc(maps.Values(all), func(a, b *Kind) int {
		if a.Objects != b.Objects {
			return b.Objects - a.Objects
		}
		return strings.Compare(a.Resource, b.Resource)
	})
	if len(kinds) <= maxKinds {
		return kinds
	}
	rest := &Kind{Resource: Others}
	for _, k := range kinds[maxKinds:] {
		rest.add(k.Count)
	}
	c.beyond("kinds", len(kinds)-maxKinds)
	return append(kinds[:maxKinds], rest)
}

// mostOf is at most maxPlaces of the namespaces of one kind, by name: those with
// the most objects, and the others as one.
func mostOf(all []Namespace) []Namespace {
	slices.SortFunc(all, func(a, b Namespace) int {
		if a.Objects != b.Objects {
			return b.Objects - a.Objects
		}
		return strings.Compare(a.Namespace, b.Namespace)
	})
	if len(all) > maxPlaces {
		rest := Namespace{Namespace: Others}
		for _, n := range all[maxPlaces-1:] {
			rest.add(n.Count)
		}
		all = append(slices.Clone(all[:maxPlaces-1]), rest)
	}
	slices.SortFunc(all, func(a, b Namespace) int { return strings.Compare(a.Namespace, b.Namespace) })
	return all
}

// ObjectName is what a key says of the object in it.
type ObjectName struct {
	Resource  string `json:"resource"` // "pods", "widgets.example.com"
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
}

// splitKey reads a key without the prefix. Built-in resources lie at
// <resource>[/<namespace>]/<name>, services and endpoints one deeper, and
// what has an API group of its own at <group>/<resource>[/<namespace>]/<name>
// (k8s.io/apiserver, registry/generic/registry/storage_factory.go).
func splitKey(key string) (ObjectName, bool) {
	first, rest, ok := strings.Cut(key, "/")
	if !ok {
		return ObjectName{}, false
	}
	o := ObjectName{Resource: first}
	switch {
	case first == "services":
		var what string
		if what, rest, ok = strings.Cut(rest, "/"); !ok {
			return o, false
		}
		if what == "endpoints" {
			o.Resource = what
		}
	case strings.Contains(first, "."):
		var resource string
		if resource, rest, ok = strings.Cut(rest, "/"); !ok {
			return o, false
		}
		o.Resource = resource + "." + first
	}
	if ns, name, ok := strings.Cut(rest, "/"); ok {
		o.Namespace, o.Name = ns, name
	} else {
		o.Name = rest
	}
	return o, o.Name != ""
}

// kindOf is the kind of a resource none of whose values could be decoded: what
// people encrypt.
func kindOf(resource string) string {
	switch resource {
	case "secrets":
		return "Secret"
	case "configmaps":
		return "ConfigMap"
	case "keys":
		return "Key"
	}
	return resource
}
