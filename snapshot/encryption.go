package snapshot

import (
	"bytes"
	"slices"
	"strings"
)

// Encryption counts the values that are encrypted at rest with one key. They
// are recognised by what the API server writes before them,
// k8s:enc:<provider>:<version>:<key name>: (k8s.io/apiserver,
// storage/value/encrypt).
type Encryption struct {
	Provider  string   `json:"provider"` // "aescbc", "aesgcm", "secretbox", "kms"
	Key       string   `json:"key"`      // its name; of kms the plugin's
	Objects   int      `json:"objects"`
	Resources []string `json:"resources"`
}

// String is provider and key name, "aescbc:key1".
func (e Encryption) String() string { return e.Provider + ":" + e.Key }

const encryptedMark = "k8s:enc:"

// encryptedWith is "<provider>:<key name>" of an encrypted value, "" when it
// only begins like one.
func encryptedWith(value []byte) string {
	// So far a name can reach; behind it there may be a colon by chance.
	rest := value[len(encryptedMark):min(len(value), 512)]
	provider, rest, ok1 := bytes.Cut(rest, []byte(":"))
	_, rest, ok2 := bytes.Cut(rest, []byte(":"))
	name, _, ok3 := bytes.Cut(rest, []byte(":"))
	if !ok1 || !ok2 || !ok3 {
		return ""
	}
	return string(provider) + ":" + string(name)
}

// storedValues are the values of one resource that are stored alike: with one
// provider and key, or in plain text. It never leaves the memory of this
// program and its worker.
type storedValues struct {
	Resource   string `json:"resource"` // as in Kind
	APIVersion string `json:"api_version,omitempty"`
	With       string `json:"with,omitempty"` // "aescbc:key1"; "" is plain text
	Objects    int    `json:"objects"`
	// One of them, to be tried; nil for plain text, and where all are too large.
	Key   []byte `json:"key,omitempty"`
	Value []byte `json:"value,omitempty"`
}

// Bounds of what is kept to be tried.
const (
	maxSample  = 2 << 20 // bytes of a value; etcd takes 1.5 MB by default
	goodSample = 4 << 10 // one that isn't exchanged for a smaller one
	maxSamples = 256
)

// sampleSet are the samples of one directory of keys, by what their values begin
// with.
type sampleSet map[string]*storedValues

func (s *sampleSet) put(left *int, with string, key, value []byte) {
	had := (*s)[with]
	if had == nil {
		if *left == 0 {
			return
		}
		*left--
		if *s == nil {
			*s = sampleSet{}
		}
		had = &storedValues{With: with}
		(*s)[with] = had
	}
	had.Objects++
	if len(value) > maxSample || len(key) > maxKey || had.Value != nil && (len(had.Value) <= goodSample || len(value) >= len(had.Value)) {
		return
	}
	had.Key, had.Value = bytes.Clone(key), bytes.Clone(value)
}

// atRest is how the values are stored, by resource, of what was counted in
// directories of keys.
func atRest(dirs map[string]*dirCount, resource func(dir string) (string, bool)) []storedValues {
	byBoth := map[string]*storedValues{}
	add := func(s storedValues) {
		if had := byBoth[s.Resource+" "+s.With]; had != nil {
			had.Objects += s.Objects
			if had.Value == nil {
				had.Key, had.Value = s.Key, s.Value
			}
			had.APIVersion = max(had.APIVersion, s.APIVersion)
			return
		}
		byBoth[s.Resource+" "+s.With] = &s
	}
	for dir, c := range dirs {
		name, ok := resource(dir)
		if !ok {
			continue
		}
		for _, s := range c.samples {
			s.Resource, s.APIVersion = name, c.apiVersion
			add(*s)
		}
		if plain := c.Objects - c.marked; plain > 0 {
			add(storedValues{Resource: name, APIVersion: c.apiVersion, Objects: plain})
		}
	}
	all := make([]storedValues, 0, len(byBoth))
	for _, s := range byBoth {
		all = append(all, *s)
	}
	slices.SortFunc(all, func(a, b storedValues) int { return strings.Compare(a.Resource+" "+a.With, b.Resource+" "+b.With) })
	return all
}
