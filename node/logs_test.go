package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const stamp = "2026-01-02T15:04:05.123456789Z "

func TestParseLog(t *testing.T) {
	for name, c := range map[string]struct {
		in   string
		want []string
	}{
		"full lines":                    {stamp + "stderr F one\n" + stamp + "stdout F two\n", []string{"one", "two"}},
		"parts are joined":              {stamp + "stdout P on\n" + stamp + "stdout P e li\n" + stamp + "stdout F ne\n", []string{"one line"}},
		"parts of two streams":          {stamp + "stdout P a\n" + stamp + "stderr P b\n" + stamp + "stdout F A\n" + stamp + "stderr F B\n", []string{"aA", "bB"}},
		"the last part isn't ended yet": {stamp + "stdout F a\n" + stamp + "stdout P b\n", []string{"a", "b"}},
		"an empty line is a line":       {stamp + "stdout F \n" + stamp + "stdout F x\n", []string{"", "x"}},
		"tags behind the first":         {stamp + "stdout P:x a\n" + stamp + "stdout F:y b\n", []string{"ab"}},
		"spaces in it are kept":         {stamp + "stdout F  {\"a\":  1}\n", []string{` {"a":  1}`}},
		"another zone":                  {"2026-01-02T15:04:05.1+02:00 stdout F x\n", []string{"x"}},
		"docker's format":               {`{"log":"one\n","stream":"stderr","time":"x"}` + "\n" + `{"log":"tw","stream":"stdout"}` + "\n" + `{"log":"o\n","stream":"stdout"}` + "\n", []string{"one", "two"}},
		"no format at all":              {"exec format error\n{\"a\":1}\n", []string{"exec format error", `{"a":1}`}},
		"colours and cursor moves":      {stamp + "stdout F \x1b[31mred\x1b[0m\x1b[2J\r\x07 end\tx\n", []string{"red end\tx"}},
		"bytes that are no text":        {stamp + "stdout F a\xff\xfeb\n", []string{"a\uFFFDb"}},
		"nothing":                       {"", nil},
	} {
		t.Run(name, func(t *testing.T) {
			if d := cmp.Diff(c.want, parseLog([]byte(c.in))); d != "" {
				t.Errorf("want -, got +\n%s", d)
			}
		})
	}
}

func TestLogTail(t *testing.T) {
	root := t.TempDir()
	old := filepath.Join(root, "kube-system_etcd-cp1_6f3c", "etcd")
	now := filepath.Join(root, "kube-system_etcd-cp1_91ab", "etcd")
	write(t, filepath.Join(old, "0.log"), stamp+"stderr F from the old pod\n")
	write(t, filepath.Join(now, "9.log"), stamp+"stderr F run 9\n")
	write(t, filepath.Join(now, "10.log"), stamp+"stderr F a\n"+stamp+"stderr F b\n"+stamp+"stderr F c\n")
	write(t, filepath.Join(now, "9.log.20260102-150405.gz"), "rotated")
	write(t, filepath.Join(root, "kube-system_etcd-cp11_1", "etcd", "0.log"), stamp+"stderr F of another pod\n")
	past := time.Now().Add(-time.Hour)
	for _, p := range []string{filepath.Join(old, "0.log"), filepath.Join(now, "9.log")} {
		if err := os.Chtimes(p, past, past); err != nil {
			t.Fatal(err)
		}
	}
	tail := func(uid string, n int) (string, string) {
		t.Helper()
		lines, path, err := LogTail(root, "kube-system", "etcd-cp1", uid, "etcd", n)
		if err != nil {
			t.Fatal(err)
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(lines, "|"), rel
	}
	for _, c := range []struct {
		what, uid, want, file string
		n                     int
	}{
		{"the last lines of the newest run", "91ab", "b|c", "kube-system_etcd-cp1_91ab/etcd/10.log", 2},
		{"more than there are", "91ab", "a|b|c", "kube-system_etcd-cp1_91ab/etcd/10.log", 50},
		{"without a UID the pod that wrote last", "", "c", "kube-system_etcd-cp1_91ab/etcd/10.log", 1},
		{"of a pod that is gone", "6f3c", "from the old pod", "kube-system_etcd-cp1_6f3c/etcd/0.log", 5},
	} {
		got, file := tail(c.uid, c.n)
		if got != c.want || file != c.file {
			t.Errorf("%s: got %q from %s, want %q from %s", c.what, got, file, c.want, c.file)
		}
	}

	write(t, filepath.Join(now, "11.log"), "")
	if got, file := tail("91ab", 1); got != "c" || !strings.HasSuffix(file, "10.log") {
		t.Errorf("the newest run has written nothing: got %q from %s, want the run before", got, file)
	}
	write(t, filepath.Join(root, "kube-system_etcd-cp1_00", "etcd", "0.log"), "")
	if got, file := tail("00", 1); got != "" || !strings.HasSuffix(file, "0.log") {
		t.Errorf("nothing written at all: got %q from %s", got, file)
	}
	if _, _, err := LogTail(root, "kube-system", "etcd-cp1", "nope", "etcd", 1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no such pod: %v", err)
	}
	if _, _, err := LogTail(filepath.Join(root, "nope"), "kube-system", "etcd-cp1", "", "etcd", 1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no such directory: %v", err)
	}
}

func TestLogTailReadsOnlyTheEndOfALongLog(t *testing.T) {
	root := t.TempDir()
	var b strings.Builder
	for i := range 40000 {
		fmt.Fprintf(&b, "%sstderr F line %d %s\n", stamp, i, strings.Repeat("x", 100))
	}
	write(t, filepath.Join(root, "ns_p_u", "c", "0.log"), b.String())
	for _, n := range []int{1, 30, 2000} {
		lines, _, err := LogTail(root, "ns", "p", "u", "c", n)
		if err != nil || len(lines) != n {
			t.Fatalf("%d lines asked for, got %d, %v", n, len(lines), err)
		}
		if !strings.HasPrefix(lines[0], fmt.Sprintf("line %d ", 40000-n)) || !strings.HasPrefix(lines[n-1], "line 39999 ") {
			t.Errorf("of %d: first %q, last %q", n, lines[0], lines[n-1])
		}
	}
	lines, _, err := LogTail(root, "ns", "p", "u", "c", 100000)
	if err != nil || len(lines) < 5000 || len(lines) > 10000 {
		t.Errorf("asked for all of 5 MB: %d lines, %v", len(lines), err)
	}
}
