//go:build linux

// Seeds makes the snapshots that practice nodes begin with, on a real control
// plane: the same cluster at three times. Their objects have new UIDs and times
// each time; the UIDs that practice asks for are written beside them.
//
//	go run ./e2e/seeds [-to practice/files]
//
// It needs root, and the programs that e2e/install.sh installs.
package main

import (
	"bytes"
	"compress/gzip"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"etcd-rewind/e2e/cluster"
	"etcd-rewind/practice"
)

// before is what the first snapshot holds beside the cluster's own objects.
//
//go:embed before.yaml
var before string

//go:embed encryption.yaml
var encryption string

func main() {
	to := flag.String("to", "practice/files", "directory to write the snapshots and uids.json to")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := seeds(ctx, *to); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func seeds(ctx context.Context, to string) (err error) {
	dir, err := os.MkdirTemp("", "etcd-rewind-seeds-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	n, err := cluster.Up(ctx, cluster.Config{Name: "seeds", Hostname: "cp1", Address: "10.77.0.11", Dir: dir, Progress: os.Stderr})
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		err = errors.Join(err, n.Down(ctx))
	}()
	s := &seed{Node: n, to: to}
	s.create(ctx, before)
	s.kubectl(ctx, "rollout status deployment/api --namespace payments --timeout 2m")
	s.kubectl(ctx, "rollout status deployment/web --namespace shop --timeout 2m")
	s.uids(ctx)
	s.save(ctx, practice.SnapshotBefore)

	s.kubectl(ctx, "delete namespace shop --timeout 2m")
	s.kubectl(ctx, "delete configmap app --namespace payments")
	s.kubectl(ctx, "scale deployment/api --replicas 5 --namespace payments")
	s.kubectl(ctx, "rollout status deployment/api --namespace payments --timeout 2m")
	s.kubectl(ctx, "create namespace after-the-snapshot")
	s.kubectl(ctx, "create secret generic late --from-literal token=late --namespace payments")
	s.save(ctx, practice.SnapshotAfter)

	s.encrypt(ctx)
	s.kubectl(ctx, "create secret generic sealed --from-literal token=sealed --namespace payments")
	s.save(ctx, practice.SnapshotEncrypted)
	return s.err
}

// seed does one thing after the other; after an error it does nothing.
type seed struct {
	*cluster.Node
	to  string
	err error
}

func (s *seed) do(what string, do func() error) {
	if s.err != nil {
		return
	}
	fmt.Fprintln(os.Stderr, what)
	if err := do(); err != nil {
		s.err = fmt.Errorf("%s: %w", what, err)
	}
}

func (s *seed) kubectl(ctx context.Context, words string) {
	s.do("kubectl "+words, func() error {
		_, err := s.Kubectl(ctx, strings.Fields(words)...)
		return err
	})
}

func (s *seed) create(ctx context.Context, text string) {
	s.do("create the objects", func() error {
		images, err := s.Command(ctx, "ctr", "--namespace=k8s.io", "images", "list", "--quiet").Output()
		if err != nil {
			return err
		}
		for image := range strings.FieldsSeq(string(images)) {
			if strings.Contains(image, "/pause:") {
				text = strings.ReplaceAll(text, "PAUSE", image)
			}
		}
		// A custom resource is known a moment after its definition.
		for end := time.Now().Add(time.Minute); ; time.Sleep(time.Second) {
			c := s.Command(ctx, "kubectl", "--kubeconfig="+s.Kubeconfig, "apply", "-f", "-")
			c.Stdin = strings.NewReader(text)
			out, err := c.CombinedOutput()
			if err == nil {
				return nil
			}
			if time.Now().After(end) {
				return fmt.Errorf("%w: %s", err, bytes.TrimSpace(out))
			}
		}
	})
}

// uids writes down what the grader tells restored objects from new ones by.
func (s *seed) uids(ctx context.Context) {
	s.do("write uids.json", func() error {
		uids := map[string]string{}
		for _, path := range practice.SeedObjects() {
			raw, err := s.Kubectl(ctx, "get", "--raw", path)
			if err != nil {
				return err
			}
			var o struct{ Metadata struct{ UID string } }
			if err := json.Unmarshal([]byte(raw), &o); err != nil {
				return err
			}
			uids[path] = o.Metadata.UID
		}
		raw, err := json.MarshalIndent(uids, "", "\t")
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(s.to, "uids.json"), append(raw, '\n'), 0o644)
	})
}

// save takes a snapshot and compresses it.
func (s *seed) save(ctx context.Context, name string) {
	s.do("save "+name, func() error {
		file := filepath.Join(s.Dir, name+".db")
		if err := s.Save(ctx, file); err != nil {
			return err
		}
		raw, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		var packed bytes.Buffer
		z, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
		if err != nil {
			return err
		}
		_, err = z.Write(raw)
		if err := errors.Join(err, z.Close()); err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(s.to, name+".db.gz"), packed.Bytes(), 0o644)
	})
}

// encrypt has the API server encrypt Secrets from now on.
func (s *seed) encrypt(ctx context.Context) {
	s.do("encrypt Secrets at rest", func() error {
		const conf = "/etc/kubernetes/pki/encryption.yaml"
		if err := os.WriteFile(s.HostPath(conf), []byte(encryption), 0o600); err != nil {
			return err
		}
		path := s.HostPath("/etc/kubernetes/manifests/kube-apiserver.yaml")
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		text := strings.Replace(string(raw), "    - kube-apiserver\n", "    - kube-apiserver\n    - --encryption-provider-config="+conf+"\n", 1)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return err
		}
		// The old API server answers until kubelet has ended it.
		for end := time.Now().Add(2 * time.Minute); ; time.Sleep(time.Second) {
			out, err := s.Kubectl(ctx, "get", "pods", "--namespace=kube-system", "--selector=component=kube-apiserver", "--output=yaml")
			if err == nil && strings.Contains(out, "--encryption-provider-config") {
				if _, err = s.Kubectl(ctx, "get", "--raw", "/readyz"); err == nil {
					return nil
				}
			}
			if time.Now().After(end) {
				return errors.New("kube-apiserver doesn't come back with --encryption-provider-config")
			}
		}
	})
}
