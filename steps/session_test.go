package steps

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"etcd-rewind/node"
	"etcd-rewind/snapshot"
)

// A packed snapshot is listed with the others, unpacked when it is looked into,
// and nothing of that is left in the end.
func TestAPackedSnapshotIsACandidate(t *testing.T) {
	dir := t.TempDir()
	packed := filepath.Join(dir, "nightly.db.gz")
	data, err := os.ReadFile("../snapshot/testdata/before.db.gz")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(packed, data, 0o600); err != nil {
		t.Fatal(err)
	}
	when := time.Now().Add(-26 * time.Hour).Truncate(time.Second)
	if err := os.Chtimes(packed, when, when); err != nil {
		t.Fatal(err)
	}
	s := &Session{Options: Options{Snapshots: []string{dir}}}
	list := s.Candidates(t.Context(), nil)
	if len(list) != 1 || list[0].Path != packed || list[0].Format != snapshot.Gzip || list[0].Err != nil || list[0].Inside < list[0].Size {
		t.Fatalf("found %+v", list)
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("listing it has unpacked it: %v", left)
	}
	info, err := s.Inspect(t.Context(), packed, nil)
	if err != nil {
		t.Fatal(err)
	}
	if info.Name != packed || info.Path == packed || info.Hash != snapshot.HashOK || !info.ModTime.Equal(when) {
		t.Errorf("looked into %s of %v, hash %s", info.Path, info.ModTime, info.Hash)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
}

// Whatever file a snapshot is read from in the end, people see the name that
// they gave it; only what they could run themselves names that file.
func TestASnapshotKeepsTheNameThatTheUserGave(t *testing.T) {
	const name, file = "/backup/nightly.db.gz", "/var/lib/.etcd-rewind-unpacked-1"
	n := newFakeNode(t)
	info := *snapshotOfTheTests
	info.Name, info.Path = name, file
	for _, v := range Check(t.Context(), n.facts(), &info, Choices{}) {
		if text := v.Cause + v.Hint; strings.Contains(text, "unpacked") {
			t.Errorf("check %s: %s", v.Check, text)
		}
	}
	p, err := NewRestore(n.facts(), &info, Choices{})
	if err != nil {
		t.Fatal(err)
	}
	if got := p.step("stage").Actions[0].Action.(*Stage).Request.Snapshot; got != file {
		t.Errorf("restored from %s", got)
	}
	e, events := n.engine(nil)
	res := e.Run(t.Context(), p)
	if !res.OK {
		t.Fatal(res.Error)
	}
	told := []string{p.Title}
	for _, f := range append(p.Summary, res.Summary...) {
		told = append(told, f.Value)
	}
	for _, ev := range *events {
		told = append(told, ev.Message)
	}
	runs, err := Runs(p.RunDir + "/..")
	if err != nil || len(runs) != 1 || runs[0].Snapshot != name || runs[0].file != file {
		t.Errorf("listed as %+v, %v", runs, err)
	}
	for _, f := range Standing(runs[0], time.Now()) {
		told = append(told, f.Value)
	}
	for _, text := range told {
		if strings.Contains(text, "unpacked") {
			t.Errorf("told: %s", text)
		}
	}
	report, err := os.ReadFile(filepath.Join(p.RunDir, "report.md"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(report)) {
		if strings.Contains(line, "unpacked") && !strings.Contains(line, "etcdutl snapshot restore") {
			t.Errorf("reported: %s", line)
		}
	}
	if !strings.Contains(string(report), name) {
		t.Errorf("the report doesn't name %s", name)
	}
}

// The screen that shows a log asks for it several times a second; to look for
// kubelet costs a run of its binary.
func TestLogsAreReadAgainWithoutLookingForKubelet(t *testing.T) {
	name, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	config := filepath.Join(dir, "config.yaml")
	log := filepath.Join(dir, "logs", "kube-system_etcd-"+strings.ToLower(name)+"_uid", "etcd", "0.log")
	if err := os.MkdirAll(filepath.Dir(log), 0o700); err != nil {
		t.Fatal(err)
	}
	for path, text := range map[string]string{
		config: "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nstaticPodPath: " + dir + "\n",
		log:    "2026-11-21T00:00:00.000000000Z stderr F ready to serve\n",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	options := node.Options{NoProcess: true, KubeletConfig: config, PodLogs: filepath.Join(dir, "logs")}
	s := &Session{Options: Options{Options: options}}
	for range 2 {
		if got := s.Logs(t.Context(), "etcd"); len(got) != 1 || got[0] != "ready to serve" {
			t.Errorf("read %q", got)
		}
		if err := os.RemoveAll(config); err != nil { // who looks again finds no kubelet
			t.Fatal(err)
		}
	}
}
