package cli

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestTheBinaryForNodes runs testdata/node with the program as make build makes
// it, which the other scripts don't.
func TestTheBinaryForNodes(t *testing.T) {
	t.Parallel()
	bin := t.TempDir()
	build := exec.Command("go", "build", "-tags", "nopractice,grpcnotrace", "-o", filepath.Join(bin, "etcd-rewind"), "etcd-rewind")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/node",
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", bin+string(os.PathListSeparator)+env.Getenv("PATH"))
			return unpack("../snapshot/testdata/before.db.gz", env.WorkDir+"/before.db")
		},
	})
}
