//go:build e2e && linux

package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"etcd-rewind/e2e/cluster"
)

// What a restore by hand leaves, and what the world does meanwhile, is seen by
// settle; it settles what is safe, once, and leaves the rest to people.
func TestWhatARestoreLeavesIsSettled(t *testing.T) {
	begin(t)
	unfinished := fmt.Sprintf("job/unfinished-%d", stories)
	apply(t, fmt.Sprintf(`apiVersion: batch/v1
kind: Job
metadata: {name: unfinished-%d}
spec: {template: {spec: {restartPolicy: Never, nodeSelector: {no: where}, containers: [{name: job, image: example.com/job}]}}}
`, stories))
	s := aStory(t)
	worker := joinSince(t)
	pod := podOn(t, worker, "since")
	result := restore(t, s.snapshot, "--accept", "snapshot-nodes")
	s.isThen(t)

	// A restore that did it all leaves what is on other nodes: the worker that joined
	// since, with its pod. Its kubelet knows both only when it starts. And a Job that
	// isn't done in the restored state.
	eventually(t, "the cluster to owe the worker and the Job only", func() bool {
		return slices.Equal(debts(t), []string{"node-missing " + worker.Hostname, "job "})
	})
	kubectl(t, "delete", unfinished, "--wait=false")
	if err := worker.RestartKubelet(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the worker to be a node again, and its pod to end", func() bool {
		left, err := worker.Containers(pod)
		if err != nil {
			t.Fatal(err)
		}
		_, err = node.Kubectl(t.Context(), "get", "node", worker.Hostname)
		return err == nil && left == 0
	})
	if owed := debts(t); len(owed) > 0 {
		t.Errorf("the cluster still owes %v", owed)
	}

	// As after a restore by hand: kubeadm-config is the snapshot's.
	setKubeadm(t, result.DataDir, "/var/lib/etcd")
	// A control plane that is gone, and this node, which joined after the snapshot.
	if _, err := node.Etcdctl(t.Context(), "put", "/registry/masterleases/10.255.255.9", "stale"); err != nil {
		t.Fatal(err)
	}
	kubectl(t, "delete", "node", node.Hostname)
	// And what is for people.
	apply(t, fmt.Sprintf(`---
apiVersion: storage.k8s.io/v1
kind: VolumeAttachment
metadata: {name: lost-%[1]d}
spec: {attacher: csi.example.com, nodeName: gone-%[1]d, source: {persistentVolumeName: pv-%[1]d}}
---
apiVersion: v1
kind: PersistentVolume
metadata: {name: pv-%[1]d}
spec:
  capacity: {storage: 1Gi}
  accessModes: [ReadWriteOnce]
  persistentVolumeReclaimPolicy: Retain
  hostPath: {path: /nowhere}
  claimRef: {namespace: default, name: gone-%[1]d, uid: 11111111-2222-3333-4444-555555555555}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: guard-%[1]d}
webhooks:
- name: guard.example.com
  failurePolicy: Fail
  sideEffects: None
  admissionReviewVersions: [v1]
  clientConfig: {service: {namespace: default, name: gone-%[1]d}}
  rules: [{apiGroups: [example.com], apiVersions: [v1], operations: [CREATE], resources: [nothings]}]
`, stories))
	t.Cleanup(func() {
		for _, object := range []string{"volumeattachment/lost-%d", "validatingwebhookconfiguration/guard-%d", "persistentvolume/pv-%d"} {
			if _, err := node.Kubectl(afterwards(t), "delete", fmt.Sprintf(object, stories), "--wait=false"); err != nil {
				t.Error(err)
			}
		}
	})

	want := []string{
		"kubeadm-config kube-system/kubeadm-config", "node-missing " + node.Hostname, "masterlease 10.255.255.9",
		fmt.Sprintf("volume-attachment lost-%d", stories), fmt.Sprintf("volume pv-%d", stories), fmt.Sprintf("webhook guard-%d", stories),
	}
	if owed := debts(t); !slices.Equal(owed, want) {
		t.Fatalf("the cluster owes\n%s\nwant\n%s", strings.Join(owed, "\n"), strings.Join(want, "\n"))
	}
	settled := run(t, restarts("settle", "--only", "kubeadm-config,node-missing,masterlease", "--output", "json")...)
	if settled.code != 0 || strings.Count(settled.stdout, `"type":"settled"`) != 3 {
		t.Fatalf("exit status %d\n%s\n%s", settled.code, settled.stdout, settled.stderr)
	}
	// kubelet registers its node as soon as it has started.
	eventually(t, "the node to be back", func() bool {
		_, err := node.Kubectl(t.Context(), "get", "node", node.Hostname)
		return err == nil
	})
	if owed := debts(t); !slices.Equal(owed, want[3:]) {
		t.Errorf("what is for people is gone, or something else is left: %v", owed)
	}
	isNamed(t)
	restored := etcdNow(t).ClusterID
	movesHome(t, s)
	// As kubeadm upgrade does it.
	etcdPhase(t)
	if now := etcdNow(t).ClusterID; now != restored {
		t.Errorf("kubeadm has started etcd on another cluster's data: %x, not %x", now, restored)
	}
	s.isThen(t)
}

// isNamed has what is only named named: an API service without a server, a request
// for a certificate that nobody has answered, a certificate that has expired.
func isNamed(t *testing.T) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	of := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(-24 * time.Hour)}
	expired, cerr := x509.CreateCertificate(rand.Reader, of, of, &key.PublicKey, key)
	request, rerr := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "somebody"}}, key)
	secret, kerr := x509.MarshalPKCS8PrivateKey(key)
	if err := errors.Join(cerr, rerr, kerr); err != nil {
		t.Fatal(err)
	}
	text := func(kind string, der []byte) string {
		return base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	apply(t, fmt.Sprintf(`---
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {name: v1.down.example.com}
spec: {group: down.example.com, version: v1, groupPriorityMinimum: 100, versionPriority: 100, insecureSkipTLSVerify: true, service: {namespace: default, name: nobody}}
---
apiVersion: certificates.k8s.io/v1
kind: CertificateSigningRequest
metadata: {name: somebody}
spec: {signerName: example.com/nobody, usages: [client auth], request: %s}
---
apiVersion: v1
kind: Secret
type: kubernetes.io/tls
metadata: {name: expired, namespace: default}
data: {tls.crt: %s, tls.key: %s}
`, text("CERTIFICATE REQUEST", request), text("CERTIFICATE", expired), text("PRIVATE KEY", secret)))
	defer kubectl(t, "delete", "apiservice/v1.down.example.com", "csr/somebody", "secret/expired")
	eventually(t, "what is only named", func() bool {
		o := run(t, "settle", "--output", "json")
		for _, want := range []string{
			`"kind":"api-service","object":"v1.down.example.com"`, `"kind":"csr","object":"somebody"`, `"kind":"certificate","object":"default/expired"`,
		} {
			if !strings.Contains(o.stdout, want) {
				return false
			}
		}
		return true
	})
}

// movesHome has the data moved to where kubeadm-config says that it is, in place of
// an update of that, and back.
func movesHome(t *testing.T, s story) {
	t.Helper()
	restored, from, knew := etcdNow(t).ClusterID, dataDir(t), kubeadmDataDir(t)
	setKubeadm(t, knew, "/var/lib/etcd")
	before := pictureOf(t, manifests)
	result := run(t, restarts("settle", "--swap", "--yes", "--output", "json")...).succeeded(t)
	t.Logf("the API was down for %.1f s", result.Outage)
	s.isThen(t)
	if now := etcdNow(t).ClusterID; now != restored || dataDir(t) != "/var/lib/etcd" {
		t.Errorf("etcd runs on cluster %x in %s, not on %x", now, dataDir(t), restored)
	}
	if owed := debts(t); slices.ContainsFunc(owed, func(name string) bool {
		return strings.HasPrefix(name, "kubeadm-config") || strings.HasPrefix(name, "history")
	}) {
		t.Errorf("after the move the cluster owes %v", owed)
	}
	undo(t)
	s.isThen(t)
	if now := etcdNow(t).ClusterID; now != restored || dataDir(t) != from {
		t.Errorf("etcd runs on cluster %x in %s, not on %x in %s", now, dataDir(t), restored, from)
	}
	same(t, "the node is not reverted byte for byte", before, pictureOf(t, manifests))
	setKubeadm(t, "/var/lib/etcd", knew)
}

// setKubeadm has kubeadm-config name another directory of etcd's data.
func setKubeadm(t *testing.T, from, to string) {
	t.Helper()
	text := kubectl(t, "get", "configmap", "kubeadm-config", "--namespace=kube-system", "--output=jsonpath={.data.ClusterConfiguration}")
	patch, err := json.Marshal(map[string]any{"data": map[string]string{"ClusterConfiguration": strings.Replace(text, "dataDir: "+from+"\n", "dataDir: "+to+"\n", 1)}})
	if err != nil {
		t.Fatal(err)
	}
	kubectl(t, "patch", "configmap", "kubeadm-config", "--namespace=kube-system", "--type=merge", "--patch", string(patch))
}

// joinSince is a worker that joins the cluster of the node that tests work on.
func joinSince(t *testing.T) *cluster.Node {
	t.Helper()
	e, err := sharedEntry()
	if err != nil {
		t.Fatal(err)
	}
	config := configOf(e)
	config.Name, config.Hostname, config.Dir = node.Name+"-w1", "w1", filepath.Join(node.Dir, "w1")
	worker, err := node.Join(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx := afterwards(t)
		_, err := node.Kubectl(ctx, "delete", "node", worker.Hostname, "--ignore-not-found", "--wait=false")
		if err = errors.Join(err, worker.Down(ctx)); err != nil {
			t.Error(err)
		}
	})
	return worker
}

// imageOn is an image that a node has: busybox, that runs until it is told to end.
func imageOn(t *testing.T, n *cluster.Node) string {
	t.Helper()
	images, err := n.Command(t.Context(), "ctr", "--namespace=k8s.io", "images", "list", "--quiet").Output()
	if err != nil {
		t.Fatal(err)
	}
	return regexp.MustCompile(`\S+/pause:\S+`).FindString(string(images))
}

// podOn makes a pod that runs on a worker, and returns its UID.
func podOn(t *testing.T, worker *cluster.Node, name string) (uid string) {
	t.Helper()
	apply(t, fmt.Sprintf(`{apiVersion: v1, kind: Pod, metadata: {name: %s, namespace: default}, spec: {hostNetwork: true, nodeName: %s,
  terminationGracePeriodSeconds: 1, tolerations: [{operator: Exists}], containers: [{name: c, image: %q}]}}`, name, worker.Hostname, imageOn(t, worker)))
	uid = kubectl(t, "get", "pod", name, "--namespace=default", "--output=jsonpath={.metadata.uid}")
	eventually(t, "the pod to run", func() bool {
		running, err := worker.Containers(uid)
		if err != nil {
			t.Fatal(err)
		}
		return running == 2
	})
	return uid
}

// debts are kind and object of what settle finds; but this cluster's requests for
// certificates, which nobody decides on. It must see everything.
func debts(t *testing.T) []string {
	t.Helper()
	o := run(t, "settle", "--output", "json")
	if o.code != 0 {
		t.Fatalf("exit status %d\n%s\n%s", o.code, o.stdout, o.stderr)
	}
	var out []string
	for line := range strings.Lines(o.stdout) {
		var d struct{ Type, Kind, Object string }
		if err := json.Unmarshal([]byte(line), &d); err != nil {
			t.Fatal(err)
		}
		if d.Type == "debt" && d.Kind != "csr" {
			out = append(out, d.Kind+" "+d.Object)
		}
	}
	return out
}
