package snapshot

// For tests outside of the package, which look at what is shown of a snapshot:
// what the workers do, without a process for each.
var (
	InspectHere = func(path string) (*Info, error) { return inspectFile(inspectRequest{Path: path}, nil, nil) }
	CompareHere = func(a, b string) (*Comparison, error) {
		return compare(compareRequest{Snapshot: a, Other: Other{Snapshot: b}, Options: CompareOptions{Noise: true}}, func(Progress) {})
	}
)
