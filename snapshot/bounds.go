package snapshot

import (
	"fmt"
	"strings"
)

// Bounds of what a snapshot can bring into memory, onto the screen and into the
// plan, for each list and each name where it enters. They are above what a
// cluster has: Kubernetes is built for 5,000 nodes and 10,000 namespaces, its
// names have at most 253 bytes, and etcd takes requests of 1.5 MB by default.
// What is beyond a bound is counted (Info.More) and not kept.
const (
	maxName     = 253      // bytes of a name
	maxKey      = 1024     // bytes of a key whose parts are kept
	maxUID      = 64       // bytes
	maxObjects  = 10_000   // namespaces, and nodes
	maxFound    = 50_000   // of those, below all prefixes
	maxPrefixes = 1000     // below which something of Kubernetes is looked for
	maxDirs     = 100_000  // pairs of resource and namespace that are counted apart
	maxDirBytes = 16 << 20 // of their names
	maxKinds    = 2000     // of objects; as many CRDs
	maxPlaces   = 1000     // namespaces listed of one kind
	maxFew      = 100      // of what a cluster has a handful of: members, networks, encryption keys
	maxRecords  = 10_000   // read of a bucket other than that of the keys
	maxGroups   = 10_000   // of changes in one direction
)

// Others is the namespace, the resource or the key in which things are counted
// that are beyond a bound. It is no lawful name.
const Others = "(others)"

// name is a name as it is kept.
func name[T string | []byte](s T) string {
	if len(s) <= maxName {
		return string(s)
	}
	return strings.ToValidUTF8(string(s[:maxName]), "") + fmt.Sprintf("… (%d bytes)", len(s))
}

// few keeps the first n of a list and counts the others.
func (c *contents) few(list []string, what string, n int) []string {
	if len(list) > n {
		c.beyond(what, len(list)-n)
		list = list[:n]
	}
	for i, s := range list {
		list[i] = name(s)
	}
	return list
}

// beyond counts what isn't kept.
func (c *contents) beyond(what string, n int) {
	if n <= 0 {
		return
	}
	if c.more == nil {
		c.more = map[string]int{}
	}
	c.more[what] += n
}
