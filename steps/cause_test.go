package steps

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The logs are what etcd 3.6.10 and kube-apiserver 1.34.4 wrote when they were
// brought into these states.
func TestRealLogsOfFailuresAreUnderstood(t *testing.T) {
	want := map[string]string{
		"etcd-port.log":              "another process still listens",
		"etcd-permission.log":        "may not read its data directory",
		"etcd-full.log":              "the disk is full",
		"etcd-readonly.log":          "read-only",
		"etcd-foreignwal.log":        "another cluster's",
		"etcd-truncated.log":         "truncated",
		"etcd-walcrc.log":            "the WAL is damaged",
		"etcd-badflag.log":           "has no such flag",
		"etcd-flock.log":             "another etcd still holds the data directory",
		"kube-apiserver-no-etcd.log": "can't reach etcd",
		// Without any key, with one of another provider, with another of the same.
		"kube-apiserver-encrypted-none.log":   "an encryption key of the snapshot is not in",
		"kube-apiserver-encrypted-prefix.log": "an encryption key of the snapshot is not in",
		"kube-apiserver-encrypted-key.log":    "an encryption key of the snapshot is not in",
		"kube-apiserver-no-ca.log":            "a file that its flags name is missing",
	}
	files, err := filepath.Glob("testdata/logs/*.log")
	if err != nil || len(files) != len(want) {
		t.Fatalf("%d logs, %d expectations (%v)", len(files), len(want), err)
	}
	for _, path := range files {
		t.Run(filepath.Base(path), func(t *testing.T) {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			lines := strings.Split(strings.TrimSpace(string(data)), "\n")
			cause, hint := likelyCause(lines)
			if !strings.Contains(cause, want[filepath.Base(path)]) || hint == "" {
				t.Errorf("%q, hint %q", cause, hint)
			}
			shown := lastWords(lines, 12)
			if again, _ := likelyCause(shown); again != cause {
				t.Errorf("the lines that are shown say %q:\n%s", again, strings.Join(shown, "\n"))
			}
		})
	}
}

// Kubernetes 1.37 says in other words that a key is missing. It is the same for a
// service.
func TestAMissingKeyIsUnderstoodInTheWordsOf137(t *testing.T) {
	log := []string{`E1126 20:01:11.102 1 reflector.go:204] "Failed to watch" err="failed to read one or more secrets from the storage: StorageError: corrupt object, Code: 7, ` +
		`Key: /registry/secrets/default/sealed, AdditionalErrorMsg: data from the storage is not transformable revision=0: no matching key was found"`}
	for _, of := range []func([]string) (string, string){likelyCause, likelyCauseOfUnit} {
		if cause, hint := of(log); !strings.Contains(cause, "an encryption key of the snapshot is not in") || hint == "" {
			t.Errorf("%q, hint %q", cause, hint)
		}
	}
}

func TestAnUnknownFailureClaimsNothing(t *testing.T) {
	log := []string{`{"level":"info","msg":"starting"}`, `{"level":"fatal","msg":"the moon is in the wrong phase"}`}
	if cause, hint := likelyCause(log); cause != "" || hint != "" {
		t.Errorf("%q %q", cause, hint)
	}
	// And as the user meets it.
	n := newFakeNode(t)
	n.mu.Lock()
	n.log = log
	n.mu.Unlock()
	var got Failure
	e, _ := n.engine(func(f Failure) Choice {
		got = f
		n.mu.Lock()
		n.broken = map[string]bool{}
		n.mu.Unlock()
		return f.Choices[0]
	})
	sink := e.Sink
	e.Sink = func(ev Event) {
		sink(ev)
		if ev.Step == "start-etcd" && ev.Type == TypeStep && ev.State == Started {
			n.mu.Lock()
			n.broken["etcd-cp1"] = true
			n.mu.Unlock()
		}
	}
	if res := e.Run(t.Context(), n.plan(Choices{})); res.OK || !res.Reverted {
		t.Errorf("%+v %v", res, res.Error)
	}
	if got.Cause != "etcd-cp1 starts and ends again" || got.Hint != "" || !slices.Equal(got.Log, log) {
		t.Errorf("%+v", got)
	}
}
