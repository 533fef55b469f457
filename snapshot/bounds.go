package snapshot

// Bounds of what a snapshot can bring into memory, onto the screen and into the
// plan. The API server allows less: names of 253 bytes (namespaces 63), keys of
// not much more than twice that; etcd requests of 1.5 MB by default.
const (
	maxName = 253 // bytes of a name that is kept; a longer one is clipped
)
