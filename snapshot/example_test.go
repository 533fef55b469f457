package snapshot_test

import (
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"etcd-rewind/snapshot"
)

// A snapshot is verified whole: its hash, its pages, its records.
func ExampleInspect() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		panic(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	info, err := snapshot.Inspect(context.Background(), expand("testdata/before.db.gz", dir), nil)
	if err != nil {
		fmt.Println(err) // a *snapshot.Problem: what is wrong with the file
		return
	}
	fmt.Printf("%s: revision %d, %d keys of %s\n", info.Hash, info.Revision, info.Keys, info.Members[0].Name)
	// Output:
	// ok: revision 1000000675, 327 keys of cp1
}

func expand(packed, dir string) string {
	in, err := os.Open(packed)
	if err != nil {
		panic(err)
	}
	defer func() { _ = in.Close() }()
	gz, err := gzip.NewReader(in)
	if err != nil {
		panic(err)
	}
	data, err := io.ReadAll(gz)
	if err != nil {
		panic(err)
	}
	path := filepath.Join(dir, "before.db")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		panic(err)
	}
	return path
}
