package steps

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// bundled unpacks a bundle.
func bundled(t *testing.T, files []BundleFile) map[string]string {
	t.Helper()
	var out bytes.Buffer
	if err := WriteBundle(&out, "report", files, time.Unix(0, 0)); err != nil {
		t.Fatal(err)
	}
	gz, err := gzip.NewReader(&out)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for in := tar.NewReader(gz); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		all[h.Name] = string(data)
	}
}

// The last words of a container are shown when it fails, and get into journal,
// events and report. They may hold anything.
func TestASecretInALogIsNotInTheBundle(t *testing.T) {
	t.Run("", inFakeTime(func(t *testing.T) {
		n := newFakeNode(t)
		p := n.plan(Choices{})
		key := base64.StdEncoding.EncodeToString([]byte("a key of thirty-two bytes, truly"))
		n.mu.Lock()
		n.log = []string{
			"-----BEGIN RSA PRIVATE KEY-----", "MIIEowIBAAKCAQEAsecretline", "-----END RSA PRIVATE KEY-----",
			"Authorization: Bearer eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJrdWJlIn0.c2lnbmF0dXJl",
			"joined with abcdef.0123456789abcdef",
			"dial postgres://app:hunter22@db/", `{"password":"correct-horse"}`, "secret: " + key, "the reason for all this",
		}
		n.mu.Unlock()
		e, _ := n.engine(func(f Failure) Choice { return Leave })
		sink := e.Sink
		e.Sink = func(ev Event) {
			sink(ev)
			if ev.Step == "start-etcd" && ev.Type == TypeStep && ev.State == Started {
				n.mu.Lock()
				n.broken["etcd-cp1"] = true
				n.mu.Unlock()
			}
		}
		if res := e.Run(t.Context(), p); res.OK {
			t.Fatal("it was to fail")
		}
		runs, err := Runs(n.stateDir())
		if err != nil || len(runs) != 1 {
			t.Fatal(runs, err)
		}
		files := bundled(t, RunFiles(runs[0]))
		all := strings.Join(slices.Collect(maps.Values(files)), "\n")
		for _, secret := range []string{
			"secretline", "eyJpc3MiOiJrdWJlIn0", "0123456789abcdef", "hunter22", "correct-horse", key,
		} {
			if strings.Contains(all, secret) {
				t.Errorf("%s is in the bundle", secret)
			}
		}
		if !strings.Contains(all, "the reason for all this") || !strings.Contains(all, removed) {
			t.Error("the log itself isn't in it")
		}
		for name, text := range files {
			if !strings.HasSuffix(name, ".jsonl") {
				continue
			}
			for line := range strings.Lines(text) {
				if !json.Valid([]byte(line)) {
					t.Errorf("%s is no JSON any more: %s", name, line)
				}
			}
		}
	}))
}

func TestTheBundleHasNoManifestsAndNothingOfOthers(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"journal.jsonl", "report.md", "report-undo.md", "kept/etcd.yaml", "new/etcd.yaml", "fleet.json", "report.md.key"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(name+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/etc/hostname", filepath.Join(dir, "events.jsonl")); err != nil {
		t.Fatal(err)
	}
	got := bundled(t, RunFiles(RunInfo{Run: "20261120-120000", Dir: dir}))
	names := slices.Sorted(maps.Keys(got))
	want := []string{"events.jsonl.unreadable.txt", "journal.jsonl", "report-undo.md", "report.md"}
	for i, name := range want {
		want[i] = "report/20261120-120000/" + name
	}
	if !slices.Equal(names, want) {
		t.Errorf("it has %q", names)
	}
	gone := bundled(t, RunFiles(RunInfo{Run: "20261120-120000", Dir: filepath.Join(dir, "gone")}))
	if text := gone["report/20261120-120000/unreadable.txt"]; !strings.Contains(text, "no such file") {
		t.Errorf("a run that is gone: %q", gone)
	}
}

func TestOfALongJournalTheBundleHasTheEnd(t *testing.T) {
	dir := t.TempDir()
	line := strings.Repeat("x", 1<<10) + "\n"
	text := "the first line\n" + strings.Repeat(line, mostBundled>>10) + "the last line\n"
	if err := os.WriteFile(filepath.Join(dir, "journal.jsonl"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	got := RunFiles(RunInfo{Run: "20261120-120000", Dir: dir})
	if len(got) != 1 || len(got[0].Data) > mostBundled || !bytes.HasSuffix(got[0].Data, []byte("the last line\n")) || !bytes.HasPrefix(got[0].Data, []byte("xxx")) {
		t.Errorf("%d files", len(got))
	}
}

func TestABundleOverwritesNothingAndLeavesNoHalf(t *testing.T) {
	path := filepath.Join(t.TempDir(), "report.tar.gz")
	bad := errors.New("the disk is full")
	if err := WriteNew(path, func(io.Writer) error { return bad }); !errors.Is(err, bad) {
		t.Error(err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Error("half a file is left")
	}
	write := func(w io.Writer) error { _, err := io.WriteString(w, "whole"); return err }
	if err := WriteNew(path, write); err != nil {
		t.Fatal(err)
	}
	if err := WriteNew(path, write); err == nil || !strings.Contains(err.Error(), "there already") {
		t.Error(err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Error(st, err)
	}
}

func TestTheNetForSecretsHasNoHoleOfThisSize(t *testing.T) {
	for _, text := range []string{
		`dial redis://:THESECRET@10.0.0.1:6379`,
		`clone https://THESECRET0123456789abcdef@git.example/repository`,
		`--password THESECRET`, `--aws-secret-access-key=THESECRET`, `--token  THESECRET`,
		`passwd = THESECRET`, `secret:   THESECRET`, `pwd=THESECRET;`, `session_key: THESECRET`,
		`{"error":"{\"password\": \"several words of THESECRET\"}"}`,
		`{"error":"\\\"password\\\":\\\"THESECRET\\\""}`,
		`AGE-SECRET-KEY-1THESECRETQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQ`,
		// A private key in base64 without padding, as kubeconfigs have it.
		`client-key-data: LS0tLS1CRUdJTiBSU0EgUFJJVkFURSBLRVktLS0tLQpNTHESECRET`,
		`LS0tLS1CRUdJTiBFQyBQUklWQVRFIEtFWS0tLS0tTHESECRET`,
	} {
		if got := string(withoutSecrets([]byte(text))); strings.Contains(got, "THESECRET") {
			t.Errorf("%s became %s", text, got)
		}
	}
	for _, text := range []string{
		`{"error":"no such token:"},{"cause":"it is gone"}`,
		`secrets "registry" not found in namespace kube-system`,
		`https://10.0.0.1:2379, https://10.0.0.2:2379 and admin@example.com`,
		`{"credentials":null,"tokens":true}`,
	} {
		if got := string(withoutSecrets([]byte(text))); got != text {
			t.Errorf("%s became %s", text, got)
		}
	}
}
