package manifest

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDiff(t *testing.T) {
	lines := func(s string) string { return strings.ReplaceAll(s, " ", "\n") + "\n" }
	tests := []struct{ name, before, after, want string }{
		{"the same", "a\n", "a\n", ""},
		{"both empty", "", "", ""},
		{
			"one line in the middle", lines("1 2 3 4 5 6 7 8 9"), lines("1 2 3 4 x 6 7 8 9"),
			"--- a\n+++ b\n@@ -2,7 +2,7 @@\n 2\n 3\n 4\n-5\n+x\n 6\n 7\n 8\n",
		},
		{
			"one line at the start", lines("1 2 3 4 5"), lines("x 2 3 4 5"),
			"--- a\n+++ b\n@@ -1,4 +1,4 @@\n-1\n+x\n 2\n 3\n 4\n",
		},
		{
			"added at the end", lines("1 2 3 4 5"), lines("1 2 3 4 5 6"),
			"--- a\n+++ b\n@@ -3,3 +3,4 @@\n 3\n 4\n 5\n+6\n",
		},
		{
			"removed", lines("1 2 3"), lines("1 3"),
			"--- a\n+++ b\n@@ -1,3 +1,2 @@\n 1\n-2\n 3\n",
		},
		{
			"six lines apart is one piece", lines("a 1 2 3 4 5 6 b"), lines("x 1 2 3 4 5 6 y"),
			"--- a\n+++ b\n@@ -1,8 +1,8 @@\n-a\n+x\n 1\n 2\n 3\n 4\n 5\n 6\n-b\n+y\n",
		},
		{
			"seven lines apart are two", lines("a 1 2 3 4 5 6 7 b"), lines("x 1 2 3 4 5 6 7 y"),
			"--- a\n+++ b\n@@ -1,4 +1,4 @@\n-a\n+x\n 1\n 2\n 3\n@@ -6,4 +6,4 @@\n 5\n 6\n 7\n-b\n+y\n",
		},
		{"a line doubled", "1\n", "1\n1\n", "--- a\n+++ b\n@@ -1 +1,2 @@\n 1\n+1\n"},
		{"a doubled line once", "1\n1\n", "1\n", "--- a\n+++ b\n@@ -1,2 +1 @@\n 1\n-1\n"},
		{"from nothing", "", "1\n2\n", "--- a\n+++ b\n@@ -0,0 +1,2 @@\n+1\n+2\n"},
		{"to nothing", "1\n", "", "--- a\n+++ b\n@@ -1 +0,0 @@\n-1\n"},
		{
			"no line break at the end", "1\n2", "1\n2\n",
			"--- a\n+++ b\n@@ -1,2 +1,2 @@\n 1\n-2\n\\ No newline at end of file\n+2\n",
		},
		{"CRLF is shown without its CR", "1\r\n2\r\n", "1\r\n3\r\n", "--- a\n+++ b\n@@ -1,2 +1,2 @@\n 1\n-2\n+3\n"},
		{"lines that moved", lines("a b c d"), lines("b c a d"), "--- a\n+++ b\n@@ -1,4 +1,4 @@\n-a\n b\n c\n+a\n d\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, Diff("a", "b", []byte(tt.before), []byte(tt.after))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestDiffOfAnEditShowsOneLine(t *testing.T) {
	before := fixture(t, "kubeadm-1.34/etcd.yaml")
	after, err := SetHostPath(before, "etcd-data", newPath)
	if err != nil {
		t.Fatal(err)
	}
	want := `--- etcd.yaml
+++ etcd.yaml (new)
@@ -88,7 +88,7 @@
       type: DirectoryOrCreate
     name: etcd-certs
   - hostPath:
-      path: /var/lib/etcd
+      path: ` + newPath + `
       type: DirectoryOrCreate
     name: etcd-data
 status: {}
`
	if diff := cmp.Diff(want, Diff("etcd.yaml", "etcd.yaml (new)", before, after)); diff != "" {
		t.Error(diff)
	}
}

func TestDiffOfLargeTextsStaysSmallInMemory(t *testing.T) {
	a, b := strings.Repeat("a\n", 5000), strings.Repeat("b\n", 5000)
	got := Diff("a", "b", []byte(a), []byte(b))
	if want := "--- a\n+++ b\n@@ -1,5000 +1,5000 @@\n" + strings.Repeat("-a\n", 5000) + strings.Repeat("+b\n", 5000); got != want {
		t.Errorf("got %d bytes, want %d", len(got), len(want))
	}
}
