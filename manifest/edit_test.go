package manifest

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

const (
	newPath = "/var/lib/etcd-20251120-2126"
	annKey  = "kubectl.kubernetes.io/restartedAt"
	annVal  = "2025-11-20T21:26:00Z"
)

// wantEdit checks that an edit replaced one piece of the text and kept all the rest.
func wantEdit(t *testing.T, before, after []byte, err error, old, written string) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(before, []byte(old)); n != 1 {
		t.Fatalf("the test's own manifest has %q %d times", old, n)
	}
	want := strings.Replace(string(before), old, written, 1)
	if diff := cmp.Diff(want, string(after)); diff != "" {
		t.Error(diff)
	}
}

const head = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: etcd\n  namespace: kube-system\n"

func withVolumes(volumes string) string {
	return head + "spec:\n  containers:\n  - name: etcd\n    image: etcd:3.6.10-0\n" + volumes
}

func TestSetHostPathInTheShapesOfRealLife(t *testing.T) {
	kubeadm := string(fixture(t, "kubeadm-1.34/etcd.yaml"))
	byHand := string(fixture(t, "by-hand.yaml"))
	rke2 := string(fixture(t, "rke2-etcd.yaml"))
	asJSON := string(fixture(t, "etcd.json"))
	compact := `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"etcd"},"spec":{"containers":[],"volumes":[{"name":"etcd-data","hostPath":{"path":"/var/lib/etcd","type":""}}]}}`
	volumes := func(s string) string { return withVolumes("  volumes:\n" + s) }

	tests := []struct {
		name string
		data string
		vol  string
		old  string
		want string
	}{
		{"kubeadm", kubeadm, "etcd-data", "path: /var/lib/etcd\n", "path: " + newPath + "\n"},
		{"kubeadm, the other volume", kubeadm, "etcd-certs", "path: /etc/kubernetes/pki/etcd\n", "path: " + newPath + "\n"},
		{"edited by hand: comments, tabs, four spaces, type before path", byHand, "etcd-data", "path: /mnt/ssd/etcd\t", "path: " + newPath + "\t"},
		{"edited by hand: a flow map, single quotes", byHand, "pki", "path: '/etc/kubernetes/pki/etcd'", "path: '" + newPath + "'"},
		{"RKE2", rke2, "dir0", "path: /var/lib/rancher/rke2/server/db/etcd\n", "path: " + newPath + "\n"},
		{"JSON", asJSON, "etcd-data", `"path": "/var/lib/etcd"`, `"path": "` + newPath + `"`},
		{"compact JSON", compact, "etcd-data", `"path":"/var/lib/etcd"`, `"path":"` + newPath + `"`},
		{"JSON with escapes YAML doesn't have", strings.Replace(compact, `"/var/lib/etcd"`, `"\/var\/lib\/\ud83d\ude00"`, 1), "etcd-data", `"\/var\/lib\/\ud83d\ude00"`, `"` + newPath + `"`},
		{"JSON with tabs and CRLF", strings.NewReplacer(",", ",\r\n\t").Replace(compact), "etcd-data", `"path":"/var/lib/etcd"`, `"path":"` + newPath + `"`},
		{"JSON behind white space", "\n  " + compact + "\n", "etcd-data", `"path":"/var/lib/etcd"`, `"path":"` + newPath + `"`},
		{"CRLF", strings.ReplaceAll(kubeadm, "\n", "\r\n"), "etcd-data", "path: /var/lib/etcd\r\n", "path: " + newPath + "\r\n"},
		{"CR alone", strings.ReplaceAll(kubeadm, "\n", "\r"), "etcd-data", "path: /var/lib/etcd\r", "path: " + newPath + "\r"},
		{"a byte order mark", "\ufeff" + kubeadm, "etcd-data", "path: /var/lib/etcd\n", "path: " + newPath + "\n"},
		{"a byte order mark and JSON-like text, which kubelet reads as YAML then", "\ufeff" + compact, "etcd-data", `"path":"/var/lib/etcd"`, `"path":"` + newPath + `"`},
		{"no line break at the end", volumes("  - name: etcd-data\n    hostPath:\n      path: /var/lib/etcd"), "etcd-data", "path: /var/lib/etcd", "path: " + newPath},
		{"the name before the hostPath", volumes("  - name: etcd-data\n    hostPath:\n      path: /var/lib/etcd\n"), "etcd-data", "path: /var/lib/etcd", "path: " + newPath},
		{"the name after the hostPath", volumes("  - hostPath:\n      path: /var/lib/etcd\n    name: etcd-data\n"), "etcd-data", "path: /var/lib/etcd", "path: " + newPath},
		{"the list indented", volumes("    - name: etcd-data\n      hostPath:\n        path: /var/lib/etcd\n"), "etcd-data", "path: /var/lib/etcd", "path: " + newPath},
		{"a dash on a line of its own", volumes("  -\n    name: etcd-data\n    hostPath:\n      path: /var/lib/etcd\n"), "etcd-data", "path: /var/lib/etcd", "path: " + newPath},
		{"trailing spaces", volumes("  - name: etcd-data   \n    hostPath:   \n      path: /var/lib/etcd   \n"), "etcd-data", "path: /var/lib/etcd   ", "path: " + newPath + "   "},
		{"many spaces after the colon", volumes("  - name: etcd-data\n    hostPath:\n      path:      /var/lib/etcd\n"), "etcd-data", "/var/lib/etcd", newPath},
		{"a tab after the colon", volumes("  - name: etcd-data\n    hostPath:\n      path:\t/var/lib/etcd\n"), "etcd-data", "/var/lib/etcd", newPath},
		{"the value on the next line", volumes("  - name: etcd-data\n    hostPath:\n      path:\n        /var/lib/etcd\n"), "etcd-data", "/var/lib/etcd", newPath},
		{"a comment behind the value", volumes("  - name: etcd-data\n    hostPath:\n      path: /var/lib/etcd # was /old\n"), "etcd-data", "/var/lib/etcd #", newPath + " #"},
		{"characters of several bytes before it on the line", volumes("  - {\"名前\": \"データ\", name: etcd-data, hostPath: {path: /var/lib/etcd}}\n"), "etcd-data", "/var/lib/etcd", newPath},
		{"characters of several bytes in comments above", volumes("  # données – größer ✓\n  - name: etcd-data # ✓✓\n    hostPath:\n      path: /var/lib/etcd\n"), "etcd-data", "/var/lib/etcd", newPath},
		{"a line separator inside a comment", volumes("  # a\u2028  # b\u0085  - name: etcd-data\n    hostPath:\n      path: /var/lib/etcd\n"), "etcd-data", "/var/lib/etcd", newPath},
		{"double quotes", volumes("  - name: etcd-data\n    hostPath:\n      path: \"/var/lib/etcd\"\n"), "etcd-data", `"/var/lib/etcd"`, `"` + newPath + `"`},
		{"double quotes with escapes", volumes("  - name: etcd-data\n    hostPath:\n      path: \"/var/\\\"lib\\\\\\x41\"\n"), "etcd-data", `"/var/\"lib\\\x41"`, `"` + newPath + `"`},
		{"double quotes over two lines", volumes("  - name: etcd-data\n    hostPath:\n      path: \"/var/lib/\\\n        etcd\"\n"), "etcd-data", "\"/var/lib/\\\n        etcd\"", `"` + newPath + `"`},
		{"single quotes with a quote inside", volumes("  - name: etcd-data\n    hostPath:\n      path: '/var/it''s'\n"), "etcd-data", "'/var/it''s'", "'" + newPath + "'"},
		{"a flow map", volumes("  - {name: etcd-data, hostPath: {path: /var/lib/etcd, type: \"\"}}\n"), "etcd-data", "path: /var/lib/etcd,", "path: " + newPath + ","},
		{"a flow map without spaces", volumes("  - {\"name\":\"etcd-data\",\"hostPath\":{\"path\":\"/var/lib/etcd\"}}\n"), "etcd-data", `"path":"/var/lib/etcd"`, `"path":"` + newPath + `"`},
		{"a flow map over several lines with comments", withVolumes("  volumes: [\n    { # first\n      name: etcd-data, # n\n      hostPath: {\n        path: /var/lib/etcd # p\n      }\n    },\n  ]\n"), "etcd-data", "path: /var/lib/etcd #", "path: " + newPath + " #"},
		{"quoted keys", volumes("  - 'name': etcd-data\n    \"hostPath\":\n      'path': /var/lib/etcd\n"), "etcd-data", "/var/lib/etcd", newPath},
		{"explicit keys", volumes("  - name: etcd-data\n    ? hostPath\n    : ? path\n      : /var/lib/etcd\n"), "etcd-data", "/var/lib/etcd", newPath},
		{"the same key twice: the last counts", volumes("  - name: etcd-data\n    hostPath:\n      path: /old\n      path: /var/lib/etcd\n"), "etcd-data", "/var/lib/etcd", newPath},
		{"a literal block", volumes("  - name: etcd-data\n    hostPath:\n      path: |-\n        /var/lib/etcd\n      type: \"\"\n"), "etcd-data", "/var/lib/etcd", newPath},
		{"a folded block with a comment on its head", volumes("  - name: etcd-data\n    hostPath:\n      path: >- # here\n        /var/lib/etcd\n\n      type: \"\"\n"), "etcd-data", "/var/lib/etcd", newPath},
		{"an anchor nobody uses", volumes("  - name: etcd-data\n    hostPath: &h\n      path: &p /var/lib/etcd\n"), "etcd-data", "&p /var/lib/etcd", "&p " + newPath},
		{"a tag", volumes("  - name: etcd-data\n    hostPath:\n      path: !!str /var/lib/etcd\n"), "etcd-data", "!!str /var/lib/etcd", "!!str " + newPath},
		{"an alias in the value's place", volumes("  - name: &d etcd-data\n    hostPath:\n      path: &x /other\n  - name: b\n    hostPath:\n      path: *x\n"), "b", "*x", newPath},
		{"other documents before and behind it", "%YAML 1.1\n---\n" + kubeadm + "---\nkind: Pod\nspec:\n  volumes:\n  - name: etcd-data\n    hostPath:\n      path: /second\n...\n", "etcd-data", "path: /var/lib/etcd\n", "path: " + newPath + "\n"},
		{"a document on its marker's line", "--- # first\n" + kubeadm, "etcd-data", "path: /var/lib/etcd\n", "path: " + newPath + "\n"},
		{"the same path elsewhere in the text", kubeadm + "# path: /var/lib/etcd2\n", "etcd-data", "path: /var/lib/etcd\n", "path: " + newPath + "\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before := []byte(tt.data)
			kept := bytes.Clone(before)
			after, err := SetHostPath(before, tt.vol, newPath)
			wantEdit(t, kept, after, err, tt.old, tt.want)
			if !bytes.Equal(before, kept) {
				t.Error("the argument was changed")
			}
			again, err := SetHostPath(after, tt.vol, newPath)
			if err != nil || !bytes.Equal(again, after) {
				t.Errorf("a second time: %v\n%s", err, Diff("once", "twice", after, again))
			}
		})
	}
}

func TestSetHostPathThereAndBackIsByteForByte(t *testing.T) {
	for _, name := range []string{"kubeadm-1.34/etcd.yaml", "etcd.json", "by-hand.yaml", "rke2-etcd.yaml"} {
		before := fixture(t, name)
		pod, err := decodePod(before)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range pod.Spec.Volumes {
			there, err := SetHostPath(before, v.Name, newPath)
			if err != nil {
				t.Fatal(err)
			}
			back, err := SetHostPath(there, v.Name, v.HostPath.Path)
			if err != nil || !bytes.Equal(back, before) {
				t.Errorf("%s, %s: %v\n%s", name, v.Name, err, Diff("before", "back", before, back))
			}
		}
	}
}

func TestSetHostPathWritesUnusualPathsSafely(t *testing.T) {
	block := withVolumes("  volumes:\n  - name: v\n    hostPath:\n      path: /old\n")
	for _, style := range []struct{ name, data string }{
		{"plain", block},
		{"double", strings.Replace(block, "/old", `"/old"`, 1)},
		{"single", strings.Replace(block, "/old", "'/old'", 1)},
		{"literal", strings.Replace(block, "/old", "|-\n        /old", 1)},
		{"flow", withVolumes("  volumes: [{name: v, hostPath: {path: /old}}]\n")},
		{"JSON", `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"x"},"spec":{"containers":[],"volumes":[{"name":"v","hostPath":{"path":"/old"}}]}}`},
	} {
		for _, to := range []string{"/", "/a b", "/a, b]}", "/a: b #c", `/a"b\c`, "/it's", "/größe ✓", "/😀", "/ ", "/a ", "/$(X)", "/%s", "/-", "/<a&b>"} {
			after, err := SetHostPath([]byte(style.data), "v", to)
			if err != nil {
				t.Errorf("%s %q: %v", style.name, to, err)
				continue
			}
			pod, err := decodePod(after)
			if err != nil || pod.Spec.Volumes[0].HostPath.Path != to {
				t.Errorf("%s %q: %v\n%s", style.name, to, err, after)
			}
		}
	}
}

func TestSetHostPathRefuses(t *testing.T) {
	volumes := func(s string) string { return withVolumes("  volumes:\n" + s) }
	plain := volumes("  - name: v\n    hostPath:\n      path: /old\n  - name: e\n    emptyDir: {}\n")
	tests := []struct {
		name  string
		data  string
		vol   string
		to    string
		code  string
		cause string
	}{
		{"a relative path", plain, "v", "new", CodeArgument, "absolute"},
		{"an empty path", plain, "v", "", CodeArgument, "absolute"},
		{"dots", plain, "v", "/a/../b", CodeArgument, "'..'"},
		{"a line break", plain, "v", "/a\nb", CodeArgument, "control"},
		{"bytes that are no text", plain, "v", "/a\xff", CodeArgument, "control"},
		{"a volume that isn't there", plain, "w", "/new", CodeNotHostPath, `"w"`},
		{"a volume of another kind", plain, "e", "/new", CodeNotHostPath, `"e"`},
		{"no pod", "a: b", "v", "/new", CodeNotAPod, ""},
		{"nothing", "", "v", "/new", CodeEmpty, ""},
		{"two volumes of that name", volumes("  - name: v\n    hostPath: {path: /a}\n  - name: v\n    hostPath: {path: /b}\n"), "v", "/new", CodeCannotEdit, "two volumes"},
		{"an anchor that is used elsewhere", volumes("  - name: v\n    hostPath:\n      path: &p /old\n  - name: w\n    hostPath:\n      path: *p\n"), "v", "/new", CodeCannotEdit, "anchor"},
		{"an anchored hostPath that is used elsewhere", volumes("  - name: v\n    hostPath: &h\n      path: /old\n  - name: w\n    hostPath: *h\n"), "v", "/new", CodeCannotEdit, "anchor"},
		{"a hostPath that is an alias", volumes("  - name: v\n    hostPath: &h\n      path: /old\n  - name: w\n    hostPath: *h\n"), "w", "/new", CodeCannotEdit, "*h"},
		{"a volume that is an alias in part", volumes("  - &v\n    name: v\n    hostPath:\n      path: /old\n  - <<: *v\n    name: w\n"), "w", "/new", CodeCannotEdit, "merge"},
		{"a volume that is merged elsewhere", volumes("  - &v\n    name: v\n    hostPath:\n      path: /old\n  - <<: *v\n    name: w\n"), "v", "/new", CodeCannotEdit, "shared"},
		{"a path that is merged", volumes("  - name: v\n    hostPath:\n      <<: &m {path: /old}\n      type: ''\n"), "v", "/new", CodeCannotEdit, "hostPath.path"},
		{"a path over two lines", volumes("  - name: v\n    hostPath:\n      path: /old\n        dir\n"), "v", "/new", CodeCannotEdit, "one line"},
		{"a block that ends in a line break", volumes("  - name: v\n    hostPath:\n      path: |\n        /old\n"), "v", "/new", CodeCannotEdit, "more than was meant"},
		{"a block of two lines", volumes("  - name: v\n    hostPath:\n      path: |-\n        /old\n        dir\n"), "v", "/new", CodeCannotEdit, ""},
		{"no path", volumes("  - name: v\n    hostPath: {type: ''}\n"), "v", "/new", CodeCannotEdit, "hostPath.path"},
		{"UTF-16", utf16(plain), "v", "/new", CodeCannotEdit, "UTF-16"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out, err := SetHostPath([]byte(tt.data), tt.vol, tt.to)
			wantProblem(t, err, tt.code, tt.cause)
			if out != nil {
				t.Error("there is an error and output")
			}
		})
	}
}

// utf16 is for ASCII.
func utf16(s string) string {
	out := []byte{0xff, 0xfe}
	for i := range len(s) {
		out = append(out, s[i], 0)
	}
	return string(out)
}

func TestAnnotateInTheShapesOfRealLife(t *testing.T) {
	kubeadm := string(fixture(t, "kubeadm-1.34/etcd.yaml"))
	scheduler := string(fixture(t, "kubeadm-1.34/kube-scheduler.yaml"))
	byHand := string(fixture(t, "by-hand.yaml"))
	asJSON := string(fixture(t, "etcd.json"))
	entry := annKey + `: "` + annVal + `"`
	quoted := `"` + annKey + `": "` + annVal + `"`
	meta := func(s string) string {
		return "apiVersion: v1\nkind: Pod\nmetadata:\n" + s + "spec:\n  containers: []\n"
	}
	tests := []struct {
		name string
		data string
		old  string
		want string
	}{
		{"kubeadm", kubeadm, "  annotations:\n", "  annotations:\n    " + entry + "\n"},
		{"kubeadm, no annotations yet", scheduler, "metadata:\n", "metadata:\n  annotations:\n    " + entry + "\n"},
		{"edited by hand, four spaces, no annotations yet", byHand, "metadata:\n", "metadata:\n    annotations:\n        " + entry + "\n"},
		{"CRLF", strings.ReplaceAll(kubeadm, "\n", "\r\n"), "  annotations:\r\n", "  annotations:\r\n    " + entry + "\r\n"},
		{"CRLF, no annotations yet", strings.ReplaceAll(scheduler, "\n", "\r\n"), "metadata:\r\n", "metadata:\r\n  annotations:\r\n    " + entry + "\r\n"},
		{"a byte order mark, metadata first", "\ufeffmetadata:\n  name: x\nkind: Pod\napiVersion: v1\n", "metadata:\n", "metadata:\n  annotations:\n    " + entry + "\n"},
		{"JSON", asJSON, "\"annotations\": {\n            ", "\"annotations\": {\n            " + quoted + ",\n            "},
		{"compact JSON", `{"apiVersion":"v1","kind":"Pod","metadata":{"annotations":{"a":"b"},"name":"x"}}`, `{"a":"b"}`, `{"` + annKey + `":"` + annVal + `","a":"b"}`},
		{"JSON, no annotations yet", `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"x"}}`, `{"name":"x"}`, `{"annotations":{` + quoted + `},"name":"x"}`},
		{"JSON, annotations empty", `{"apiVersion":"v1","kind":"Pod","metadata":{"annotations": {}}}`, "{}", "{" + quoted + "}"},
		{"JSON, annotations null", `{"apiVersion":"v1","kind":"Pod","metadata":{"annotations": null}}`, "null", "{" + quoted + "}"},
		{"JSON, replaced", `{"apiVersion":"v1","kind":"Pod","metadata":{"annotations": {"` + annKey + `" : "x"}}}`, `"x"`, `"` + annVal + `"`},
		{"annotations: {}", meta("  annotations: {}\n  name: x\n"), "{}", "{" + entry + "}"},
		{"annotations: { }", meta("  annotations: { }\n  name: x\n"), "{ }", "{" + entry + " }"},
		{"annotations: null", meta("  annotations: null\n  name: x\n"), "null", "{" + entry + "}"},
		{"annotations: ~", meta("  annotations: ~ # none\n  name: x\n"), "~ #", "{" + entry + "} #"},
		{"annotations: with nothing", meta("  annotations:\n  name: x\n"), "annotations:", "annotations: {" + entry + "}"},
		{"annotations: with a comment", meta("  annotations: # none yet\n  name: x\n"), "annotations: #", "annotations: {" + entry + "} #"},
		{"a flow map", meta("  annotations: {a: b}\n"), "{a: b}", "{" + entry + ", a: b}"},
		{"a flow map with room", meta("  annotations: { a: b }\n"), "{ a: b }", "{ " + entry + ", a: b }"},
		{"a flow map over lines", meta("  annotations: {\n    a: b,\n  }\n"), "{\n    a: b", "{\n    " + entry + ",\n    a: b"},
		{"a flow map with a comment first", meta("  annotations: { # first\n    a: b }\n"), "{ # first", "{" + entry + ",  # first"},
		{"metadata as a flow map", "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\n", "{name: x}", "{annotations: {" + entry + "}, name: x}"},
		{"comments around", meta("  annotations: # head\n    # about a\n    a: b # a\n  name: x\n"), "# head\n", "# head\n    " + entry + "\n"},
		{"a blank line first", meta("  annotations:\n\n    a: b\n"), "annotations:\n", "annotations:\n    " + entry + "\n"},
		{"annotations last, with a block value", meta("  name: x\n  annotations:\n    a: |\n      b\n\n      c\n"), "annotations:\n", "annotations:\n    " + entry + "\n"},
		{"an anchor and a tag", meta("  annotations: &a !!map\n    a: b\n"), "!!map\n", "!!map\n    " + entry + "\n"},
		{"a quoted key", meta("  \"annotations\":\n    a: b\n"), "\"annotations\":\n", "\"annotations\":\n    " + entry + "\n"},
		{"replaced, plain", meta("  annotations:\n    " + annKey + ": yesterday # why\n    a: b\n"), "yesterday #", `"` + annVal + `" #`},
		{"replaced, double quotes", meta("  annotations:\n    " + annKey + ": \"yesterday\"\n"), `"yesterday"`, `"` + annVal + `"`},
		{"replaced, single quotes", meta("  annotations:\n    '" + annKey + "': 'it''s'\n"), "'it''s'", "'" + annVal + "'"},
		{"replaced, empty", meta("  annotations:\n    " + annKey + ":\n    a: b\n"), annKey + ":\n", annKey + `: "` + annVal + "\"\n"},
		{"replaced, an alias", meta("  annotations:\n    a: &a b\n    " + annKey + ": *a\n"), "*a", `"` + annVal + `"`},
		{"replaced, in a block", meta("  annotations:\n    " + annKey + ": |-\n      yesterday\n"), "yesterday", annVal},
		{"replaced, given twice", meta("  annotations:\n    " + annKey + ": one\n    " + annKey + ": two\n"), "two", `"` + annVal + `"`},
		{"the RKE2 annotation in quotes stays", string(fixture(t, "rke2-etcd.yaml")), "  annotations:\n", "  annotations:\n    " + entry + "\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before := []byte(tt.data)
			kept := bytes.Clone(before)
			after, err := Annotate(before, annKey, annVal)
			wantEdit(t, kept, after, err, tt.old, tt.want)
			if !bytes.Equal(before, kept) {
				t.Error("the argument was changed")
			}
			again, err := Annotate(after, annKey, annVal)
			if err != nil || !bytes.Equal(again, after) {
				t.Errorf("a second time: %v", err)
			}
			if _, err := Annotate(after, annKey, "later"); err != nil {
				t.Errorf("another value: %v", err)
			}
		})
	}
}

func TestAnnotateTakesAnyValueAndKey(t *testing.T) {
	for _, data := range []string{head, `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"x"}}`, "apiVersion: v1\nkind: Pod\nmetadata: {name: x, annotations: {a: 'b', \"c\": d}}\n"} {
		for _, key := range []string{annKey, "a", "true", "1", "x.y/1", "null", "a.b"} {
			for _, value := range []string{"", " ", "true", "1", "null", "~", "a: b", "# x", `"`, "'", `\`, "a\nb\r\n\tc", "\x00\x1b\x7f\u0085\u2028\ufeff\ufffe", "✓ 😀", "{}", "*a", "!!x"} {
				after, err := Annotate([]byte(data), key, value)
				if err != nil {
					t.Errorf("%q=%q: %v", key, value, err)
					continue
				}
				pod, err := decodePod(after)
				if err != nil || pod.Annotations[key] != value {
					t.Errorf("%q=%q: got %q, %v", key, value, pod.Annotations[key], err)
				}
			}
		}
	}
}

func TestAnnotateRefuses(t *testing.T) {
	meta := func(s string) string { return "apiVersion: v1\nkind: Pod\n" + s }
	tests := []struct {
		name  string
		data  string
		key   string
		value string
		code  string
		cause string
	}{
		{"a key with a space", head, "a b", "", CodeArgument, "annotation"},
		{"a value that is no text", head, "a", "\xff", CodeArgument, "UTF-8"},
		{"no pod", "a: b", "a", "b", CodeNotAPod, ""},
		{"no metadata", meta("spec: {}\n"), "a", "b", CodeCannotEdit, "metadata"},
		{"annotations that are an alias", meta("metadata:\n  labels: &l {a: b}\n  annotations: *l\n"), "c", "d", CodeCannotEdit, "*l"},
		{"annotations that are used elsewhere", meta("metadata:\n  annotations: &l\n    a: b\n  labels: *l\n"), "c", "d", CodeCannotEdit, "anchor"},
		{"a merge in metadata", meta("x: &x {annotations: {a: b}}\nmetadata:\n  <<: *x\n  name: x\n"), "c", "d", CodeCannotEdit, "merge"},
		{"explicit keys", meta("metadata:\n  ? annotations\n  : a: b\n"), "c", "d", CodeCannotEdit, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out, err := Annotate([]byte(tt.data), tt.key, tt.value)
			wantProblem(t, err, tt.code, tt.cause)
			if out != nil {
				t.Error("there is an error and output")
			}
		})
	}
}

func TestAnEditThatWentWrongIsNotHandedOut(t *testing.T) {
	const before = `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"x"},"metadata":{"labels":{"a":"b"}},"new":1,"spec":{"volumes":[{"name":"v","hostPath":{"path":"/old"}}]}}`
	for _, tt := range []struct{ name, old, written, cause string }{
		{"as meant", `"/old"`, `"/new"`, ""},
		{"nothing changed", "", "", "another pod"},
		{"another value", `"/old"`, `"/newer"`, "another pod"},
		{"a value more", `"b"}},"new":1,"spec":{"volumes":[{"name":"v","hostPath":{"path":"/old"`, `"c"}},"new":1,"spec":{"volumes":[{"name":"v","hostPath":{"path":"/new"`, "another pod"},
		{"a value that a later one hides from a plain reader", `"x"},"metadata":{"labels":{"a":"b"}},"new":1,"spec":{"volumes":[{"name":"v","hostPath":{"path":"/old"`, `"y"},"metadata":{"labels":{"a":"b"}},"new":1,"spec":{"volumes":[{"name":"v","hostPath":{"path":"/new"`, "another pod"},
		{"a field that Pods don't have", `1,"spec":{"volumes":[{"name":"v","hostPath":{"path":"/old"`, `2,"spec":{"volumes":[{"name":"v","hostPath":{"path":"/new"`, "other fields"},
		{"broken", `"/old"`, `"/new`, "can't be read"},
	} {
		after := strings.Replace(before, tt.old, tt.written, 1)
		out, err := verified([]byte(before), []byte(after), func(p *corev1.Pod) {
			p.Spec.Volumes[0].HostPath.Path = "/new"
		}, "spec", "volumes", 0, "hostPath", "path", "/new")
		if tt.cause == "" {
			if err != nil || string(out) != after {
				t.Errorf("%s: %v", tt.name, err)
			}
			continue
		}
		wantProblem(t, err, CodeCannotEdit, tt.cause)
		if out != nil {
			t.Errorf("%s: an error and output", tt.name)
		}
	}
}

// Every way of writing the pieces with every other: all of them must be editable.
func TestEditsInAllCombinations(t *testing.T) {
	pieces := [][]string{
		{"/var/lib/etcd", `"/var/lib/etcd"`, "'/var/lib/etcd'"},
		{"", " # ✓ /var/lib/etcd", "\t# x  "}, // behind the value
		{
			"hostPath:\n{i}{i}path: {v}{b}\n{i}{i}type: ''\n{i}name: etcd-data\n",
			"name: etcd-data\n{i}hostPath:\n{i}{i}type: ''\n{i}{i}path: {v}{b}\n",
			"name: etcd-data\n{i}hostPath: {type: '', path: {v}}{b}\n",
		},
		{"", "{i}annotations: {}\n", "{i}annotations:\n", "{i}annotations:\n{i}{i}a: b\n{i}{i}c: |\n{i}{i}{i}d\n", "{i}annotations: {a: b}\n"},
		{"  |", "    |    "}, // one level of indentation, and that of a list
		{"\n|", "\r\n|\ufeff", "\n|---\n", "\r\n|# größe\n\n"}, // line end, and how the file begins
	}
	linesAdded := []int{2, 0, 0, 1, 0} // by Annotate, for each of the annotations above

	picked := make([]int, len(pieces))
	for done := false; !done; {
		pick := func(i int) string { return pieces[i][picked[i]] }
		indent, listIndent, _ := strings.Cut(pick(4), "|")
		eol, start, _ := strings.Cut(pick(5), "|")
		at := indent + listIndent
		fill := strings.NewReplacer("{v}", pick(0), "{b}", pick(1), "{i}", indent)
		item := at + "-" + indent[1:] + strings.ReplaceAll(strings.TrimSuffix(fill.Replace(pick(2)), "\n"), "\n", "\n"+at) + "\n"
		text := start + "apiVersion: v1\nkind: Pod\nmetadata:\n" + fill.Replace(pick(3)) + indent + "name: etcd\n" +
			"spec:\n" + indent + "volumes:\n" + item + indent + "containers: []\n"
		text = strings.ReplaceAll(text, "\n", eol)

		after, err := SetHostPath([]byte(text), "etcd-data", newPath)
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if want := strings.Replace(text, "/var/lib/etcd", newPath, 1); string(after) != want {
			t.Fatal(Diff("want", "got", []byte(want), after))
		}
		annotated, err := Annotate(after, annKey, annVal)
		if err != nil {
			t.Fatalf("%v\n%s", err, after)
		}
		if n, want := bytes.Count(annotated, []byte(eol))-bytes.Count(after, []byte(eol)), linesAdded[picked[3]]; n != want {
			t.Fatalf("%d lines added, want %d\n%s", n, want, annotated)
		}

		// On to the next combination, as an odometer counts.
		done = true
		for i := range picked {
			if picked[i]++; picked[i] < len(pieces[i]) {
				done = false
				break
			}
			picked[i] = 0
		}
	}
}
