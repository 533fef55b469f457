package manifest

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"etcd-rewind/problem"

	"github.com/google/go-cmp/cmp"
)

func fixture(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func write(t testing.TB, path string, data []byte) string {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func readDir(t testing.TB, dir string) *Dir {
	t.Helper()
	d, err := ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// replaced changes every occurrence and fails when there is none, so a test can't go stale in silence.
func replaced(t testing.TB, data []byte, pairs ...string) []byte {
	t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		if !bytes.Contains(data, []byte(pairs[i])) {
			t.Fatalf("the manifest has no %q", pairs[i])
		}
		data = bytes.ReplaceAll(data, []byte(pairs[i]), []byte(pairs[i+1]))
	}
	return data
}

func wantProblem(t testing.TB, err error, code string, cause string) {
	t.Helper()
	why, hint := problem.Explain(err)
	if !problem.HasCode(err, code) || !strings.Contains(why+"; "+hint, cause) {
		t.Fatalf("got %v\nwant a problem %q with %q in it", err, code, cause)
	}
}

func names(files []*File) []string {
	var n []string
	for _, f := range files {
		n = append(n, f.Name())
	}
	return n
}

func TestReadDirSeesKubeadmsFourPods(t *testing.T) {
	d := readDir(t, "testdata/kubeadm-1.34")
	var keys []string
	for i := range d.Files {
		if err := d.Files[i].Err; err != nil {
			t.Errorf("%s: %v", d.Files[i].Path, err)
		}
		keys = append(keys, d.Files[i].Key())
	}
	want := []string{"kube-system/etcd", "kube-system/kube-apiserver", "kube-system/kube-controller-manager", "kube-system/kube-scheduler"}
	if diff := cmp.Diff(want, keys); diff != "" {
		t.Error(diff)
	}
	if len(d.Duplicates()) != 0 || len(d.Refused()) != 0 {
		t.Errorf("duplicates %v, refused %v", d.Duplicates(), d.Refused())
	}
}

func TestReadDirTakesWhatKubeletTakes(t *testing.T) {
	etcd := fixture(t, "kubeadm-1.34/etcd.yaml")
	asJSON := fixture(t, "etcd.json")
	tests := []struct {
		name string
		file string
		make func(t *testing.T, path string)
		// absent: not in the list at all; code: listed as refused; both empty: a pod.
		absent bool
		code   string
		cause  string
	}{
		{name: "a manifest", file: "etcd.yaml", make: content(etcd)},
		{name: "JSON", file: "etcd.json", make: content(asJSON)},
		{name: "any extension", file: "etcd.txt", make: content(etcd)},
		{name: "no extension", file: "etcd", make: content(etcd)},
		{name: "a copy", file: "etcd.yaml.bak", make: content(etcd)},
		{name: "an emacs lock file's sibling", file: "#etcd.yaml#", make: content(etcd)},
		{name: "an editor's backup", file: "etcd.yaml~", make: content(etcd)},
		{name: "a name in another alphabet", file: "копия.yaml", make: content(etcd)},
		{name: "a dot-file", file: ".etcd.yaml.swp", make: content(etcd), absent: true},
		{name: "a subdirectory", file: "old", make: func(t *testing.T, path string) {
			if err := os.Mkdir(path, 0o755); err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(path, "etcd.yaml"), etcd)
		}, absent: true},
		{name: "a symlink to a manifest", file: "etcd.yaml", make: func(t *testing.T, path string) {
			target := write(t, filepath.Join(t.TempDir(), "elsewhere.yaml"), etcd)
			if err := os.Symlink(target, path); err != nil {
				t.Fatal(err)
			}
		}},
		{name: "a symlink to a directory", file: "etcd.yaml", make: func(t *testing.T, path string) {
			if err := os.Symlink(t.TempDir(), path); err != nil {
				t.Fatal(err)
			}
		}, absent: true},
		{name: "a symlink to nowhere", file: "etcd.yaml", make: func(t *testing.T, path string) {
			if err := os.Symlink("/does/not/exist", path); err != nil {
				t.Fatal(err)
			}
		}, code: CodeUnreadable, cause: "target does not exist"},
		{name: "a symlink to itself", file: "etcd.yaml", make: func(t *testing.T, path string) {
			if err := os.Symlink(path, path); err != nil {
				t.Fatal(err)
			}
		}, code: CodeUnreadable, cause: "too many"},
		{name: "vim's probe file", file: "4913", make: content(nil), code: CodeEmpty, cause: "empty"},
		{name: "only white space", file: "x", make: content([]byte("\n \n")), code: CodeEmpty, cause: "empty"},
		{name: "only comments", file: "x", make: content([]byte("# nothing\n")), code: CodeNotAPod, cause: "Kind"},
		{name: "11 MB", file: "etcd.yaml", make: content(append(bytes.Repeat([]byte("# comment\n"), 11<<20/10), etcd...)), code: CodeTooLarge, cause: "11.0 MiB"},
		{name: "exactly 10 MiB, which kubelet refuses", file: "etcd.yaml", make: content(padded(etcd, 10<<20)), code: CodeTooLarge, cause: "too large"},
		{name: "a byte less", file: "etcd.yaml", make: content(padded(etcd, 10<<20-1))},
		{name: "a named pipe", file: "pipe", make: func(t *testing.T, path string) {
			if err := syscall.Mkfifo(path, 0o600); err != nil {
				t.Fatal(err)
			}
		}, code: CodeNotRegular, cause: "named pipe"},
		{name: "broken YAML", file: "etcd.yaml", make: content(replaced(t, etcd, "metadata:", "metadata: [")), code: CodeNotYAML, cause: "line"},
		{name: "a tab as indentation", file: "etcd.yaml", make: content(replaced(t, etcd, "  labels:", "\tlabels:")), code: CodeNotYAML, cause: "tab"},
		{name: "broken JSON", file: "etcd.json", make: content(asJSON[:len(asJSON)-20]), code: CodeNotAPod, cause: "unexpected end"},
		{name: "something after the JSON", file: "etcd.json", make: content(append(bytes.Clone(asJSON), "x"...)), code: CodeNotAPod, cause: "after top-level value"},
		{name: "a YAML flow map, which kubelet takes for JSON", file: "x", make: content([]byte("{apiVersion: v1, kind: Pod}")), code: CodeNotAPod, cause: "invalid character"},
		{name: "binary", file: "x", make: content([]byte("\x00\x01\x02")), code: CodeNotYAML},
		{name: "no kind", file: "x", make: content(replaced(t, etcd, "kind: Pod\n", "")), code: CodeNotAPod, cause: "Kind"},
		{name: "a Deployment", file: "x", make: content(replaced(t, etcd, "kind: Pod", "kind: Deployment", "apiVersion: v1", "apiVersion: apps/v1")), code: CodeNotAPod, cause: "Deployment"},
		{name: "a PodList", file: "x", make: content([]byte("apiVersion: v1\nkind: PodList\nitems: []\n")), code: CodeNotAPod, cause: "PodList"},
		{name: "a field kubelet doesn't know", file: "x", make: content(append(bytes.Clone(etcd), "more: 1\n"...))},
		{name: "the same key twice", file: "x", make: content(append(bytes.Clone(etcd), "kind: Pod\n"...))},
		{name: "a second document, which kubelet doesn't read", file: "x", make: content(append(bytes.Clone(etcd), "---\n[\n"...))},
		{name: "a number among the arguments", file: "x", make: content(replaced(t, etcd, "    - --name=cp1\n", "    - --snapshot-count\n    - 10000\n")), code: CodeNotAPod, cause: "cannot unmarshal number"},
		{name: "a key in the wrong case", file: "x", make: content(replaced(t, etcd, "  containers:", "  Containers:")), code: CodeInvalid, cause: "containers is empty"},
		{name: "no name", file: "x", make: content(replaced(t, etcd, "\n  name: etcd\n", "\n")), code: CodeInvalid, cause: "metadata.name is missing"},
		{name: "a name in capitals", file: "x", make: content(replaced(t, etcd, "\n  name: etcd\n", "\n  name: Etcd\n")), code: CodeInvalid, cause: `"Etcd"`},
		{name: "a namespace with a space", file: "x", make: content(replaced(t, etcd, "kube-system", "kube system")), code: CodeInvalid, cause: "metadata.namespace"},
		{name: "a mount of a volume that isn't there", file: "x", make: content(replaced(t, etcd, "\n    name: etcd-data", "\n    name: etcd-date")), code: CodeInvalid, cause: `"etcd-data"`},
		{name: "a mistyped hostPath type", file: "x", make: content(replaced(t, etcd, "DirectoryOrCreate", "DirectoryorCreate")), code: CodeInvalid, cause: "hostPath.type"},
		{name: "a hostPath with dots", file: "x", make: content(replaced(t, etcd, "path: /var/lib/etcd", "path: /var/lib/../etcd")), code: CodeInvalid, cause: "'..'"},
		{name: "a hostPath without a path", file: "x", make: content(replaced(t, etcd, "path: /var/lib/etcd", "path:")), code: CodeInvalid, cause: "hostPath.path is missing"},
		{name: "a container's name in capitals", file: "x", make: content(replaced(t, etcd, "\n    name: etcd\n", "\n    name: ETCD\n")), code: CodeInvalid, cause: `"ETCD"`},
		{name: "a mount given twice", file: "x", make: content(replaced(t, etcd, "mountPath: /etc/kubernetes/pki/etcd", "mountPath: /var/lib/etcd")), code: CodeInvalid, cause: "given twice"},
		{name: "no image", file: "x", make: content(replaced(t, etcd, "    image: registry", "    imaga: registry")), code: CodeInvalid, cause: "image is missing"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			tt.make(t, filepath.Join(dir, tt.file))
			var d *Dir
			done := make(chan error, 1)
			go func() {
				var err error
				d, err = ReadDir(dir)
				done <- err
			}()
			select {
			case err := <-done:
				if err != nil {
					t.Fatal(err)
				}
			case <-time.After(10 * time.Second):
				t.Fatal("ReadDir hangs")
			}
			if tt.absent {
				if len(d.Files) != 0 {
					t.Fatalf("got %d files, want none", len(d.Files))
				}
				return
			}
			if len(d.Files) != 1 || d.Files[0].Name() != tt.file {
				t.Fatalf("got files %+v, want %s", d.Files, tt.file)
			}
			f := d.Files[0]
			if (f.Pod == nil) == (f.Err == nil) {
				t.Fatalf("got pod %v and error %v, want one of them", f.Pod != nil, f.Err)
			}
			if tt.code != "" {
				wantProblem(t, f.Err, tt.code, tt.cause)
				return
			}
			if f.Err != nil {
				t.Fatal(f.Err)
			}
			if f.Key() != "kube-system/etcd" {
				t.Fatalf("got pod %q", f.Key())
			}
		})
	}
}

func content(data []byte) func(*testing.T, string) {
	return func(t *testing.T, path string) { write(t, path, data) }
}

func padded(data []byte, size int) []byte {
	return append(bytes.Clone(data), bytes.Repeat([]byte("\n"), size-len(data))...)
}

func TestAPipeThatTakesAFilesPlaceDoesNotHang(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := readRegular(path)
		done <- err
	}()
	select {
	case err := <-done:
		wantProblem(t, err, CodeNotRegular, "named pipe")
	case <-time.After(10 * time.Second):
		t.Fatal("opening the pipe hangs")
	}
}

func TestReadDirNamesTheUnreadableFile(t *testing.T) {
	// A mode of 0 doesn't stop root; /proc/self/mem is a file that root can't read from its start either.
	dir := t.TempDir()
	path := write(t, filepath.Join(dir, "etcd.yaml"), fixture(t, "kubeadm-1.34/etcd.yaml"))
	if os.Geteuid() != 0 {
		if err := os.Chmod(path, 0); err != nil {
			t.Fatal(err)
		}
	} else {
		if _, err := os.Stat("/proc/self/mem"); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("/proc/self/mem", path); err != nil {
			t.Fatal(err)
		}
	}
	d := readDir(t, dir)
	if len(d.Files) != 1 {
		t.Fatalf("got %d files", len(d.Files))
	}
	wantProblem(t, d.Files[0].Err, CodeUnreadable, "can't be read")
	if got := names(d.Refused()); !cmp.Equal(got, []string{"etcd.yaml"}) {
		t.Errorf("refused: %v", got)
	}
}

func TestReadDirSaysWhatIsWrongWithTheDirectory(t *testing.T) {
	dir := t.TempDir()
	if _, err := ReadDir(filepath.Join(dir, "missing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: got %v", err)
	}
	_, err := ReadDir(write(t, filepath.Join(dir, "etcd.yaml"), nil))
	wantProblem(t, err, CodeNotADir, "is a file")
}

func TestNamespaceDefaultsAsInKubelet(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "web.yaml"), replaced(t, fixture(t, "kubeadm-1.34/etcd.yaml"), "\n  namespace: kube-system", ""))
	if key := readDir(t, dir).Files[0].Key(); key != "default/etcd" {
		t.Errorf("got %q", key)
	}
}

func TestTheLastFileOfTheSamePodWins(t *testing.T) {
	etcd, api := fixture(t, "kubeadm-1.34/etcd.yaml"), fixture(t, "kubeadm-1.34/kube-apiserver.yaml")
	tests := []struct {
		name     string
		files    map[string][]byte
		winner   string
		shadowed []string
		rivals   []string
	}{
		{"one file", map[string][]byte{"etcd.yaml": etcd, "kube-apiserver.yaml": api}, "etcd.yaml", nil, nil},
		{"a copy beside it", map[string][]byte{"etcd.yaml": etcd, "etcd.yaml.bak": etcd}, "etcd.yaml.bak", []string{"etcd.yaml"}, nil},
		{"a backup with a date in front", map[string][]byte{"2024-etcd.yaml": etcd, "etcd.yaml": etcd, "etcd.yaml~": etcd}, "etcd.yaml~", []string{"2024-etcd.yaml", "etcd.yaml"}, nil},
		{"capitals sort first", map[string][]byte{"Etcd.yaml": etcd, "etcd.yaml": etcd}, "etcd.yaml", []string{"Etcd.yaml"}, nil},
		{"a broken copy doesn't count", map[string][]byte{"etcd.yaml": etcd, "etcd.yaml.bak": []byte("[")}, "etcd.yaml", nil, nil},
		{"a copy in another namespace is another pod", map[string][]byte{"etcd.yaml": etcd, "zz.yaml": replaced(t, etcd, "kube-system", "default")}, "etcd.yaml", nil, nil},
		{"another name, the same label", map[string][]byte{"etcd.yaml": etcd, "zz.yaml": replaced(t, etcd, "\n  name: etcd\n", "\n  name: etcd-old\n")}, "etcd.yaml", nil, []string{"zz.yaml"}},
		{"only the label shows it", map[string][]byte{"main.yaml": replaced(t, etcd, "\n  name: etcd\n", "\n  name: etcd-main\n")}, "main.yaml", nil, nil},
		{"only the name shows it", map[string][]byte{"etcd.yaml": replaced(t, etcd, "component: etcd", "app: etcd")}, "etcd.yaml", nil, nil},
		{"none", map[string][]byte{"kube-apiserver.yaml": api}, "", nil, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, data := range tt.files {
				write(t, filepath.Join(dir, name), data)
			}
			d := readDir(t, dir)
			winner, shadowed := d.Component("etcd")
			got := ""
			if winner != nil {
				got = winner.Name()
			}
			if got != tt.winner || !cmp.Equal(names(shadowed), tt.shadowed) || !cmp.Equal(names(d.Rivals("etcd")), tt.rivals) {
				t.Errorf("got %q over %v beside %v, want %q over %v beside %v", got, names(shadowed), names(d.Rivals("etcd")), tt.winner, tt.shadowed, tt.rivals)
			}
			if dup := d.Duplicates(); len(tt.shadowed) > 0 {
				want := append(append([]string{}, tt.shadowed...), tt.winner)
				if !cmp.Equal(names(dup["kube-system/etcd"]), want) {
					t.Errorf("duplicates %v, want %v", names(dup["kube-system/etcd"]), want)
				}
			} else if len(dup) != 0 {
				t.Errorf("duplicates %v, want none", dup)
			}
		})
	}
}

func TestReadFileReadsADotFileToo(t *testing.T) {
	dir := t.TempDir()
	f, err := ReadFile(write(t, filepath.Join(dir, ".etcd.yaml.new"), fixture(t, "kubeadm-1.34/etcd.yaml")))
	if err != nil || f.Key() != "kube-system/etcd" || f.Mode != 0o600 {
		t.Errorf("got %+v, %v", f, err)
	}
	if _, err := ReadFile(filepath.Join(dir, "missing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	if _, err := ReadFile(dir); err == nil {
		t.Error("a directory was read as a file")
	}
}
