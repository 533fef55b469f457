package cli

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/rogpeppe/go-internal/testscript"

	"etcd-rewind/backup"
	"etcd-rewind/drill"
	"etcd-rewind/node/nodetest"
	"etcd-rewind/snapshot"
)

func TestMain(m *testing.M) {
	snapshot.Worker()
	drill.Worker()
	practiceWorker()
	if os.Getenv("ETCD_REWIND_PRACTICE_ROOT") != "" {
		Main("") // called by the tools of a practice node, which are this program
	}
	testscript.Main(m, map[string]func(){
		"etcd-rewind": func() { Main("") },
		// On a node whose processes and marks are those below $NODE, and nothing else's.
		"etcd-rewind-there": func() {
			a := &app{in: os.Stdin, out: os.Stdout, err: os.Stderr}
			a.session.Options.Root = os.Getenv("NODE")
			a.session.Options.Proc = filepath.Join(os.Getenv("NODE"), "proc")
			os.Exit(a.run(os.Args[1:]))
		},
	})
}

// TestCommandLine runs testdata/script. In a script, "exits N command..." wants
// an exit status, and leaves stdout and stderr for the lines that follow.
func TestCommandLine(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			env.Setenv("COLUMNS", "10000") // where a line breaks depends on how long the path of $WORK is
			for _, name := range []string{"before", "after", "encrypted"} {
				if err := unpack("../snapshot/testdata/"+name+".db.gz", env.WorkDir+"/"+name+".db"); err != nil {
					return err
				}
			}
			return os.CopyFS(env.WorkDir+"/manifests", os.DirFS("../steps/testdata/manifests"))
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": func(ts *testscript.TestScript, _ bool, args []string) {
				want, err := strconv.Atoi(args[0])
				ts.Check(err)
				err = ts.Exec(args[1], args[2:]...)
				got := 0
				var exit *exec.ExitError
				if errors.As(err, &exit) {
					got = exit.ExitCode()
				} else {
					ts.Check(err)
				}
				if got != want {
					ts.Fatalf("exit status %d, want %d", got, want)
				}
			},
			"pack": func(ts *testscript.TestScript, _ bool, args []string) {
				data, err := os.ReadFile(ts.MkAbs(args[0]))
				ts.Check(err)
				var packed bytes.Buffer
				z := gzip.NewWriter(&packed)
				_, err = z.Write(data)
				ts.Check(err)
				ts.Check(z.Close())
				ts.Check(os.WriteFile(ts.MkAbs(args[1]), packed.Bytes(), 0o600))
			},
			"encrypt": func(ts *testscript.TestScript, _ bool, args []string) { // from, to, a new identity
				data, err := os.ReadFile(ts.MkAbs(args[0]))
				ts.Check(err)
				id, err := age.GenerateX25519Identity()
				ts.Check(err)
				ts.Check(os.WriteFile(ts.MkAbs(args[2]), []byte(id.String()+"\n"), 0o600))
				var out bytes.Buffer
				w, err := age.Encrypt(&out, id.Recipient())
				ts.Check(err)
				_, err = w.Write(data)
				ts.Check(errors.Join(err, w.Close()))
				ts.Check(os.WriteFile(ts.MkAbs(args[1]), out.Bytes(), 0o600))
			},
			"recipient": func(ts *testscript.TestScript, _ bool, args []string) { // of an identity, also in $RECIPIENT
				data, err := os.ReadFile(ts.MkAbs(args[0]))
				ts.Check(err)
				id, err := age.ParseX25519Identity(strings.TrimSpace(string(data)))
				ts.Check(err)
				ts.Setenv("RECIPIENT", id.Recipient().String())
			},
			"stored": func(ts *testscript.TestScript, _ bool, args []string) { // a snapshot, in a directory, for an identity, by a key
				id, err := age.ParseX25519Identity(strings.TrimSpace(ts.ReadFile(args[2])))
				ts.Check(err)
				key, err := backup.ReadKey(ts.MkAbs(args[3]))
				if errors.Is(err, fs.ErrNotExist) {
					key = backup.NewKey()
					err = errors.Join(os.MkdirAll(filepath.Dir(ts.MkAbs(args[3])), 0o700), key.Write(ts.MkAbs(args[3])))
				}
				ts.Check(err)
				in, err := os.Open(ts.MkAbs(args[0]))
				ts.Check(err)
				defer in.Close()
				var file bytes.Buffer
				sealed, err := backup.Seal(context.Background(), &file, in, id.Recipient())
				ts.Check(err)
				now := time.Now().UTC().Truncate(time.Second)
				r := &backup.Record{
					Format: backup.RecordFormat, Cluster: backup.ClusterID{KubeSystemUID: "11111111-2222-3333-4444-555555555555"}, Node: "cp1", Round: backup.RoundAt(now), Taken: now,
					Revision: 4711, Keys: 1, SnapshotSHA256: sealed.PlainSHA256, File: backup.File{Name: "cp1.db.zst.age", Sealed: *sealed},
				}
				record, err := r.Seal(key)
				ts.Check(err)
				dir := filepath.Join(ts.MkAbs(args[1]), filepath.Dir(r.Name()))
				ts.Check(errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(filepath.Join(dir, r.File.Name), file.Bytes(), 0o600), os.WriteFile(filepath.Join(dir, "cp1.json"), record, 0o600)))
				ts.Setenv("STORED", "file://"+filepath.Join(dir, r.File.Name))
				ts.Setenv("RECORD", filepath.Join(dir, "cp1.json"))
			},
			"append": func(ts *testscript.TestScript, _ bool, args []string) { // a line to a file
				f, err := os.OpenFile(ts.MkAbs(args[0]), os.O_WRONLY|os.O_APPEND, 0)
				ts.Check(err)
				_, err = f.WriteString(args[1] + "\n")
				ts.Check(errors.Join(err, f.Close()))
			},
			"kubelet": func(ts *testscript.TestScript, _ bool, args []string) { // below a directory, with flags
				ts.Check(os.RemoveAll(ts.MkAbs(args[0] + "/proc")))
				ts.Check(nodetest.Proc(ts.MkAbs(args[0]+"/proc"), args[1:]...))
			},
			"picture": func(ts *testscript.TestScript, _ bool, args []string) { // of a directory, into a file
				var all strings.Builder
				ts.Check(filepath.WalkDir(ts.MkAbs(args[0]), func(path string, d os.DirEntry, err error) error {
					if err != nil {
						return err
					}
					info, err := d.Info()
					if err == nil {
						fmt.Fprintf(&all, "%s %s %d %s\n", path, info.Mode(), info.Size(), info.ModTime().Format(time.RFC3339Nano))
					}
					return err
				}))
				ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(all.String()), 0o600))
			},
			"empty": func(ts *testscript.TestScript, _ bool, args []string) {
				left, err := filepath.Glob(ts.MkAbs(args[0]))
				ts.Check(err)
				if len(left) > 0 {
					ts.Fatalf("left behind: %v", left)
				}
			},
			"truncate": func(ts *testscript.TestScript, _ bool, args []string) {
				size, err := strconv.ParseInt(args[1], 10, 64)
				ts.Check(err)
				ts.Check(os.Truncate(ts.MkAbs(args[0]), size))
			},
			"flip": func(ts *testscript.TestScript, _ bool, args []string) {
				at, err := strconv.ParseInt(args[1], 10, 64)
				ts.Check(err)
				data, err := os.ReadFile(ts.MkAbs(args[0]))
				ts.Check(err)
				data[at] ^= 1
				ts.Check(os.WriteFile(ts.MkAbs(args[0]), data, 0o600))
			},
		},
	})
}

func unpack(from, to string) error {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return err
	}
	data, err := io.ReadAll(z)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o600)
}
