package settle

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

// A cluster that says too much, says odd things, refuses some kinds and never answers
// for others: what can be read is read, what can't is named, and nothing of it is
// without an end.
func TestAHostileClusterIsReadWithinBounds(t *testing.T) {
	t.Parallel() // it waits for the limit
	long := strings.Repeat("x", 1<<20)
	var pods strings.Builder
	for i := range 3000 {
		fmt.Fprintf(&pods, `,{"metadata":{"namespace":"shop","name":"web-%d","uid":"u%d"},"spec":{"nodeName":"cp1"},"status":{"phase":"Running"}}`, i, i)
	}
	hung := make(chan struct{})
	at := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		switch path := strings.TrimPrefix(q.URL.Path, "/"); path {
		case nodes:
			_, _ = fmt.Fprint(w, `{"items":[{"metadata":{"name":"cp1"}}]}`)
		case "api/v1/pods":
			_, _ = fmt.Fprintf(w, `{"items":[%s]}`, pods.String()[1:])
		case secrets:
			w.WriteHeader(http.StatusForbidden)
			_, _ = fmt.Fprint(w, `{"message":"secrets is forbidden: User \"x\" cannot list\u001b[2J"}`)
		case elections:
			<-q.Context().Done()
			close(hung)
		case pvs:
			_, _ = fmt.Fprint(w, `{"items":[{"metadata":{"name":"odd"},"spec":{"capacity":{"storage":[]}}}]}`)
		case "apis/certificates.k8s.io/v1/certificatesigningrequests":
			_, _ = fmt.Fprintf(w, `{"items":[{"metadata":{"name":"%s"},"spec":{"username":"%s"}},{"metadata":{"name":"\u001b]0;x\u0007"},"spec":{"username":"\u202eroot\u001b[31m"}}]}`, long, long)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	defer at.Close()
	c := (&server{}).cluster(t)
	c.Facts.Reach.API.Kubeconfig, c.wait, c.limit = kubeconfigOf(t, at.URL), time.Millisecond, 10*time.Second // for 3000 pods on a busy machine, too
	began := time.Now()
	found := Find(t.Context(), c, nil)
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("it took %s", took)
	}
	<-hung
	unread := map[string]string{}
	for _, u := range found.Unread {
		unread[u.Kind] = u.Cause
	}
	for kind, cause := range map[string]string{"certificate": "forbidden", "lease": "no answer in time", "volume": "can't be read", "volume-attachment": "can't be read"} {
		if !strings.Contains(unread[kind], cause) {
			t.Errorf("%s: %q, want %q", kind, unread[kind], cause)
		}
	}
	if len(unread) != 4 {
		t.Errorf("unread: %q", unread)
	}
	var kinds []string
	for _, d := range found.Debts {
		kinds = append(kinds, d.Kind)
		if n := len(d.Is) + len(d.Means) + len(d.Object) + len(strings.Join(d.Commands, "")); n > 16<<10 {
			t.Errorf("%s has %d bytes", d.Kind, n)
		}
	}
	if want := []string{"kubelet-pods", "csr", "csr"}; !slices.Equal(kinds, want) {
		t.Errorf("it owes %v", kinds)
	}
	if len(found.Debts) > 0 && !strings.Contains(found.Debts[0].Is, "(3000): shop/web-0, shop/web-1, shop/web-10, shop/web-100, shop/web-1000 and 2995 more") {
		t.Errorf("%s", found.Debts[0].Is)
	}
}

// settlesForever is the directory in which the test's own program settles something
// that never ends.
const settlesForever = "ETCD_REWIND_TEST_SETTLES_FOREVER"

// A process that is killed in the middle leaves a line that says so; the next one
// settles it, and again is no harm.
func TestAKillInTheMiddleIsSeenAndSettledByTheNext(t *testing.T) {
	debt := func(settle func(context.Context) (string, error)) Debt {
		return Debt{Kind: "masterlease", Object: "10.0.0.9", Offered: true, settle: settle}
	}
	if dir := os.Getenv(settlesForever); dir != "" {
		_, _ = Do(t.Context(), dir, debt(func(ctx context.Context) (string, error) {
			fmt.Println("begun")
			<-ctx.Done()
			return "", ctx.Err()
		}))
		return
	}
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestAKillInTheMiddleIsSeenAndSettledByTheNext$", "-test.v")
	cmd.Env = append(os.Environ(), settlesForever+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	begun := false
	for lines := bufio.NewScanner(out); !begun && lines.Scan(); {
		begun = strings.Contains(lines.Text(), "begun")
	}
	if err := cmd.Process.Kill(); err != nil { // SIGKILL
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil || !begun {
		t.Fatalf("it wasn't killed in the middle: %v", err)
	}
	if all, err := Read(dir); err != nil || len(all) != 1 || all[0].Done || all[0].Error != "" {
		t.Fatalf("%+v, %v", all, err)
	}
	for range 2 {
		if _, err := Do(t.Context(), dir, debt(func(context.Context) (string, error) { return "its entry is deleted", nil })); err != nil {
			t.Fatal(err)
		}
	}
	all, err := Read(dir)
	if err != nil || len(all) != 2 || !all[0].Done || !all[1].Done {
		t.Errorf("%+v, %v", all, err)
	}
}
