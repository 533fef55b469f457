//go:build e2e && linux

package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"golang.org/x/crypto/nacl/secretbox"
	"google.golang.org/protobuf/proto"
)

// drilled is what drill --output json prints.
type drilled struct {
	Type    string   `json:"type"`
	Proven  bool     `json:"proven"`
	LeftOut []string `json:"left_out"`
	Fault   *struct{ Cause, Hint string }
	Parts   []struct {
		Part    string
		Seconds float64
	}
	Total    float64 `json:"total_seconds"`
	Programs []struct{ Name, From, Image string }
	Objects  int
	Kinds    []struct {
		Resource        string
		Objects, Listed int
		Encrypted       []string
	}
}

func (o outcome) drilled(t *testing.T) drilled {
	t.Helper()
	var d drilled
	if err := json.Unmarshal([]byte(o.stdout), &d); err != nil || d.Type != "drill" {
		t.Fatalf("exit status %d, %v:\n%s%s", o.code, err, o.stdout, o.stderr)
	}
	return d
}

// drillIn is where a drill on the node has its files.
const drillIn = "/var/lib/.etcd-rewind-drill"

// nothingOfADrill is left: no file, no process, no cgroup, no container but those
// that ran before, and kubelet's, which starts some when it likes.
func nothingOfADrill(t *testing.T, running []string) {
	t.Helper()
	if _, err := os.Lstat(node.HostPath(drillIn)); !os.IsNotExist(err) {
		t.Errorf("%s is left: %v", drillIn, err)
	}
	if p := drillProcesses(t); p != "" {
		t.Errorf("processes are left: %s", p)
	}
	for _, now := range tasks(t) {
		if !slices.Contains(running, now) && !kubelets(t, now) {
			t.Errorf("the container %s runs, and didn't before", now)
		}
	}
	groups := "/sys/fs/cgroup"
	if node.Systemd { // a root of its own in each hierarchy
		groups = node.HostPath(groups)
	}
	for _, pattern := range []string{groups + "/etcd-rewind.drill-*", groups + "/*/etcd-rewind.drill-*"} {
		left, _ := filepath.Glob(pattern)
		for _, dir := range left {
			// On this machine's root there may be one of another node's drill, which runs.
			_, pid, _ := strings.Cut(filepath.Base(dir), "drill-")
			if _, err := os.Stat("/proc/" + pid); node.Systemd || err != nil {
				t.Errorf("%s is left", dir)
			}
		}
	}
}

// kubelets says whether a container is of a pod that kubelet has taken up, or has
// ended meanwhile.
func kubelets(t *testing.T, id string) bool {
	t.Helper()
	of := labels(t, id)
	if of == nil {
		return true
	}
	pod := of["io.kubernetes.pod.uid"]
	_, err := os.Stat(node.HostPath("/var/lib/kubelet/pods/" + pod))
	return pod != "" && err == nil
}

// drillProcesses are those of a drill's programs on this node, which have its paths
// in their flags. Other nodes of the machine may be drilled meanwhile.
func drillProcesses(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("pgrep", "-af", "--", "/certificates/server.crt").Output()
	if exit := (*exec.ExitError)(nil); err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) {
		t.Fatal(err)
	}
	var here strings.Builder
	for line := range strings.Lines(string(out)) {
		var pid int
		if _, err := fmt.Sscan(line, &pid); err != nil {
			t.Fatal(err)
		}
		if node.Has(pid) {
			here.WriteString(line)
		}
	}
	return here.String()
}

// A drill proves a snapshot of the running cluster, and nobody notices: every
// request of its clients is answered meanwhile, and nothing is left.
func TestADrillProvesABackupWhileTheClusterIsUsed(t *testing.T) {
	begin(t)
	s := aStory(t)
	shop := "shop-" + s.number()
	kubectl(t, "create", "configmap", "used", "--namespace="+shop)
	file := filepath.Join(t.TempDir(), "drilled.db")
	if err := node.Save(t.Context(), file); err != nil {
		t.Fatal(err)
	}
	running, before := tasks(t), readManifests(t)

	requests := startRequests(t, shop)
	o := run(t, "drill", file, "--output", "json")
	answered := requests()
	d := o.drilled(t)
	if o.code != 0 || !d.Proven || d.Fault != nil || len(d.LeftOut) > 0 {
		t.Fatalf("exit status %d: %s%s", o.code, o.stdout, o.stderr)
	}
	for _, p := range d.Programs {
		if !strings.HasPrefix(p.From, "the running container ") || p.Image == "" {
			t.Errorf("%s is from %s, %s", p.Name, p.From, p.Image)
		}
	}
	listed := map[string]int{}
	for _, k := range d.Kinds {
		listed[k.Resource] = k.Listed
	}
	if len(d.Programs) != 2 || listed["namespaces"] < 5 || listed["configmaps"] == 0 {
		t.Errorf("%+v", d)
	}
	if answered.of < 20 || len(answered.lost) > 0 {
		t.Errorf("of %d requests meanwhile these were lost: %v", answered.of, answered.lost)
	}
	// By design others go first where they want the CPU.
	limit := 15 * busyness()
	if t.Logf("the drill took %.1f s (limit %.1f): %+v; %d requests meanwhile, the slowest %.2f s", d.Total, limit, d.Parts, answered.of, answered.slowest); d.Total > limit {
		t.Errorf("the drill took %.1f s", d.Total)
	}
	nothingOfADrill(t, running)
	if after := readManifests(t); len(after) != len(before) {
		t.Error("the manifests changed")
	}

	// The same as text, of the newest snapshot that there is.
	if o := run(t, "drill", file); o.code != 0 || !strings.Contains(strings.Join(strings.Fields(o.stdout), " "), "is proven: etcd and kube-apiserver started") || !strings.Contains(o.stdout, "time to recovery") {
		t.Errorf("exit status %d\n%s%s", o.code, o.stdout, o.stderr)
	}
}

// requested is what became of the requests that a cluster's clients made.
type requested struct {
	of      int
	lost    []string
	slowest float64
}

// startRequests reads and writes through the API again and again, until the
// function that it returns is called.
func startRequests(t *testing.T, namespace string) (stop func() requested) {
	t.Helper()
	const pki = "/etc/kubernetes/pki/apiserver-kubelet-client"
	pair, err := tls.LoadX509KeyPair(node.HostPath(pki+".crt"), node.HostPath(pki+".key"))
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{
		DialContext:     node.DialContext,
		TLSClientConfig: &tls.Config{Certificates: []tls.Certificate{pair}, InsecureSkipVerify: true},
	}}
	url := "https://127.0.0.1:6443/api/v1/namespaces/" + namespace
	ctx, end := context.WithCancel(t.Context())
	done := make(chan requested, 1)
	go func() {
		var r requested
		ask := func(method, url, body string) {
			began := time.Now()
			err := request(client, method, url, body)
			if err != nil {
				r.lost = append(r.lost, err.Error())
			}
			r.of, r.slowest = r.of+1, max(r.slowest, time.Since(began).Seconds())
		}
		pace := time.NewTicker(50 * time.Millisecond)
		defer pace.Stop()
		for n := 0; ctx.Err() == nil; n++ {
			ask(http.MethodGet, url, "")
			ask(http.MethodPatch, url+"/configmaps/used", fmt.Sprintf(`{"data":{"n":"%d"}}`, n))
			<-pace.C
		}
		done <- r
	}()
	t.Cleanup(end)
	return func() requested {
		end()
		client.CloseIdleConnections()
		return <-done
	}
}

// request makes one of the API, on a connection of its own, and reads the answer.
func request(client *http.Client, method, url, body string) error {
	r, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		return err
	}
	r.Close = true
	r.Header.Set("Content-Type", "application/merge-patch+json")
	answer, err := client.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		return errors.New(answer.Status)
	}
	return nil
}

// Without its encryption key a backup isn't one, and the drill says which key;
// with it every Secret is decrypted, and none is shown.
func TestADrillOfABackupWithoutItsEncryptionKeyNamesTheKey(t *testing.T) {
	begin(t)
	const secret = "correct-horse-drill"
	kubectl(t, "create", "secret", "generic", "drilled", "--from-literal=password="+secret)
	t.Cleanup(func() {
		_, _ = node.Kubectl(afterwards(t), "delete", "secret", "drilled", "--ignore-not-found")
	})
	dir := t.TempDir()
	file, config := filepath.Join(dir, "drilled.db"), filepath.Join(dir, "encryption.yaml")
	if err := node.Save(t.Context(), file); err != nil {
		t.Fatal(err)
	}
	var key [32]byte
	if _, err := rand.Read(key[:]); err != nil {
		t.Fatal(err)
	}
	encryptIn(t, node.HostPath(file), "/registry/secrets/default/drilled", &key)
	running := tasks(t)

	o := run(t, "drill", file, "--output", "json")
	d := o.drilled(t)
	if o.code != 1 || d.Proven || d.Fault == nil || !strings.Contains(d.Fault.Cause, "secretbox:k1") || !strings.Contains(d.Fault.Cause, "secrets") || d.Fault.Hint == "" {
		t.Errorf("exit status %d: %+v", o.code, d.Fault)
	}
	nothingOfADrill(t, running)

	text := "kind: EncryptionConfiguration\napiVersion: apiserver.config.k8s.io/v1\nresources:\n- resources: [secrets]\n  providers:\n  - secretbox: {keys: [{name: k1, secret: " +
		base64.StdEncoding.EncodeToString(key[:]) + "}]}\n  - identity: {}\n"
	if err := os.WriteFile(node.HostPath(config), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	with := run(t, "drill", file, "--encryption-config", config, "--output", "json")
	d = with.drilled(t)
	if with.code != 0 || !d.Proven || !slices.ContainsFunc(d.Kinds, func(k struct {
		Resource        string
		Objects, Listed int
		Encrypted       []string
	},
	) bool {
		return k.Resource == "secrets" && slices.Equal(k.Encrypted, []string{"secretbox:k1"}) && k.Listed == k.Objects
	}) {
		t.Errorf("exit status %d: %s%s", with.code, with.stdout, with.stderr)
	}
	for _, told := range []string{o.stdout + o.stderr, with.stdout + with.stderr} {
		if strings.Contains(told, secret) || strings.Contains(told, base64.StdEncoding.EncodeToString([]byte(secret))[:20]) || strings.Contains(told, base64.StdEncoding.EncodeToString(key[:])) {
			t.Error("a Secret or a key came out")
		}
	}
	nothingOfADrill(t, running)
}

// encryptIn encrypts an object in a snapshot as kube-apiserver would have; the
// snapshot loses its checksum by that.
func encryptIn(t *testing.T, file, object string, key *[32]byte) {
	t.Helper()
	st, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, st.Size()-st.Size()%512); err != nil {
		t.Fatal(err)
	}
	db, err := bolt.Open(file, 0o600, &bolt.Options{Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	err = db.Update(func(tx *bolt.Tx) error {
		b := tx.Bucket([]byte("key"))
		var at []byte
		kv := &mvccpb.KeyValue{}
		if err := b.ForEach(func(k, v []byte) error {
			this := &mvccpb.KeyValue{}
			if err := proto.Unmarshal(v, this); err != nil {
				return err
			}
			if string(this.Key) == object {
				at, kv = bytes.Clone(k), this
			}
			return nil
		}); err != nil {
			return err
		}
		if at == nil {
			return fmt.Errorf("no %s", object)
		}
		var nonce [24]byte
		if _, err := rand.Read(nonce[:]); err != nil {
			return err
		}
		sealed := append([]byte("k8s:enc:secretbox:v1:k1:"), nonce[:]...)
		kv.Value = secretbox.Seal(sealed, bytes.Clone(kv.Value), &nonce, key)
		value, err := proto.Marshal(kv)
		if err != nil {
			return err
		}
		return b.Put(at, value)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Killed in the middle, a drill takes its etcd and kube-apiserver along at once,
// and the next one removes the files. That one runs on a node whose control plane
// is down: its programs are the images'.
func TestADrillThatIsKilledIsClearedByTheNextOneAlsoWithTheControlPlaneDown(t *testing.T) {
	begin(t)
	file := filepath.Join(t.TempDir(), "drilled.db")
	if err := node.Save(t.Context(), file); err != nil {
		t.Fatal(err)
	}
	cmd := node.Command(t.Context(), tool, "drill", file)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the drill's kube-apiserver", func() bool { return strings.Contains(drillProcesses(t), "kube-apiserver") })
	if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	within(t, "the end of its programs", time.Duration(busyness()*float64(5*time.Second)), func() bool { return drillProcesses(t) == "" })
	if _, err := os.Stat(node.HostPath(drillIn)); err != nil {
		t.Errorf("it was killed too late: %v", err)
	}

	if err := node.StopKubelet(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx := afterwards(t)
		if err := node.StartKubelet(ctx); err != nil {
			t.Error(err)
		}
		if err := node.Ready(ctx); err != nil {
			t.Error(err)
		}
	})
	for _, id := range tasks(t) {
		_ = node.Command(t.Context(), "ctr", "--namespace=k8s.io", "tasks", "kill", "--signal=KILL", id).Run()
	}
	eventually(t, "the end of all containers", func() bool { return len(tasks(t)) == 0 })
	o := run(t, "drill", file, "--output", "json")
	d := o.drilled(t)
	if o.code != 0 || !d.Proven || len(d.Programs) != 2 {
		t.Fatalf("exit status %d: %s%s", o.code, o.stdout, o.stderr)
	}
	for _, p := range d.Programs {
		if !strings.HasPrefix(p.From, "the image ") {
			t.Errorf("%s is from %s", p.Name, p.From)
		}
	}
	nothingOfADrill(t, nil)
	out, err := node.Command(t.Context(), "ctr", "--namespace=k8s.io", "containers", "list").Output()
	if err != nil || strings.Contains(string(out), "hold") {
		t.Errorf("%v\n%s", err, out)
	}
}
