package backup

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"etcd-rewind/node"
	"etcd-rewind/problem"
	"etcd-rewind/snapshot"
	"etcd-rewind/steps"
	"etcd-rewind/trust"
)

// Node is a node of the control plane, whose etcd is backed up.
type Node struct {
	Name    string
	Etcd    snapshot.Etcd
	DataDir string // etcd's, on whose disk plain text may lie
	Size    int64  // of its database, bytes; 0 when it isn't known

	// UID asks for kube-system's UID, by which a cluster is known.
	UID        func(context.Context) (string, error)
	CA         string // path of the cluster CA's certificate, "" when it isn't known
	Kubernetes string // version, as in a Record
	EtcdServer string
	// Parts are files and directories by the part of Config.Include that they
	// belong to.
	Parts map[string][]string
}

// Of is the node that was discovered. The error is a *problem.Problem.
func Of(f *steps.Facts) (*Node, error) {
	if f.Etcd == nil {
		return nil, problem.From(f.EtcdErr)
	}
	if !nodeName.MatchString(f.Node) {
		return nil, problem.New("", "a node can't be called %.100q in a backup's name", f.Node)
	}
	n := &Node{
		Name: f.Node, Etcd: f.SnapshotEtcd(), DataDir: f.Etcd.DataDir.Path,
		Kubernetes: f.KubernetesVersion, EtcdServer: f.EtcdVersion, Parts: map[string][]string{},
	}
	if f.Live != nil {
		n.Size = f.Live.DBSize
	}
	prefix := "/registry"
	if a := f.API; a != nil {
		prefix, n.CA = strings.TrimSuffix(a.EtcdPrefix, "/"), a.ClientCA
		if a.EncryptionConfig != "" {
			n.Parts[IncludeEncryption] = []string{a.EncryptionConfig}
		}
	}
	n.UID = func(ctx context.Context) (string, error) { return clusterUID(ctx, f, n.Etcd, prefix) }
	n.Parts[IncludePKI] = pkiDirs(filepath.Join(f.Layout.Config, "pki"), n.CA, n.Etcd.CA)
	if k := f.Kubelet; k != nil {
		n.Parts[IncludeManifests] = []string{k.StaticPodPath}
		files := []string{k.ConfigPath}
		for _, env := range f.Layout.KubeletEnv {
			if !filepath.IsAbs(env) {
				env = filepath.Join(k.RootDir, env)
			}
			files = append(files, env)
		}
		for _, file := range files {
			if _, err := os.Stat(file); file != "" && err == nil {
				n.Parts[IncludeManifests] = append(n.Parts[IncludeManifests], file)
			}
		}
	}
	return n, nil
}

// pkiDirs are the directories of certificates: kubeadm's own, and where files of
// the control plane's lie that aren't there. One that calls kubeadm may have them
// elsewhere altogether, as minikube does.
func pkiDirs(own string, files ...string) []string {
	dirs := []string{own}
	for _, file := range files {
		dir := filepath.Dir(file)
		if file != "" && !slices.ContainsFunc(dirs, func(d string) bool { return trust.Within(d, dir) }) {
			dirs = append(dirs, dir)
		}
	}
	if _, err := os.Stat(own); errors.Is(err, fs.ErrNotExist) && len(dirs) > 1 {
		dirs = dirs[1:]
	}
	return dirs
}

// BootLimit is how long the turn of a schedule waits for etcd: a timer that
// catches up after a boot is earlier than kubelet.
const BootLimit = 5 * time.Minute

// Await looks at the node until its etcd answers, not longer than limit, and
// returns what was found last. What no waiting mends isn't waited for. late is
// called once with why it waits.
func Await(ctx context.Context, limit time.Duration, discover func(context.Context) (*steps.Facts, error), late func(why error)) (*steps.Facts, error) {
	until := time.Now().Add(limit)
	for first := true; ; first = false {
		f, err := discover(ctx)
		if err != nil || f.Etcd == nil || f.Live != nil || node.Permanent(f.LiveErr) || time.Now().After(until) {
			return f, err
		}
		if first {
			late(f.LiveErr)
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(min(2*time.Second, limit/10)):
		}
	}
}

// clusterUID asks etcd, and the API server where namespaces are encrypted at
// rest.
func clusterUID(ctx context.Context, f *steps.Facts, e snapshot.Etcd, prefix string) (string, error) {
	c, err := snapshot.AskCluster(ctx, e, prefix)
	switch {
	case err != nil:
		return "", err
	case c.None:
		return "", problem.New("is it Kubernetes' etcd?", "there is no namespace kube-system in this etcd, below %s", prefix)
	case c.KubeSystemUID != "":
		return c.KubeSystemUID, nil
	}
	all, err := node.ListMeta(ctx, f.Reach.API.Kubeconfig, f.Reach.Server, "namespaces")
	if err != nil {
		return "", problem.New("start kube-apiserver, or check its log", "the namespace kube-system is encrypted at rest, and its UID can't be read from kube-apiserver: %w", err)
	}
	for _, o := range all {
		if o.Name == metav1.NamespaceSystem {
			return o.UID, nil
		}
	}
	return "", problem.New("", "kube-apiserver has no namespace kube-system")
}

// caSHA256 is that of the first certificate in a file, "" when there is none.
func caSHA256(file string) string {
	data, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "CERTIFICATE" {
		return ""
	}
	sum := sha256.Sum256(block.Bytes)
	return hex.EncodeToString(sum[:])
}

// Bounds of what goes into the second file.
const (
	maxIncludedFile  = 4 << 20 // bytes of one file
	maxIncludedFiles = 2000
	maxIncluded      = 64 << 20
)

// archive writes the parts of a node as a tar, and says which files they were,
// without the slash before them. What can't be read is an error: it would be
// missed when it is needed.
func (n *Node) archive(ctx context.Context, to io.Writer, parts []string) (names []string, err error) {
	var files []string
	for _, part := range parts {
		for _, path := range n.Parts[part] {
			err := filepath.WalkDir(path, func(path string, e fs.DirEntry, err error) error {
				if err != nil {
					return err
				}
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				if st, err := os.Stat(path); err != nil || !st.Mode().IsRegular() { // links are followed
					return err
				}
				if len(files) > maxIncludedFiles {
					return problem.New("check what is there", "%s: more than %d files to include", part, maxIncludedFiles)
				}
				files = append(files, path)
				return nil
			})
			if err != nil {
				return nil, fmt.Errorf("include %s: %w", part, err)
			}
		}
	}
	slices.Sort(files)
	t := tar.NewWriter(to)
	size := int64(0)
	for _, file := range slices.Compact(files) {
		n, err := addTo(t, file)
		if err != nil {
			return nil, fmt.Errorf("include %s: %w", file, err)
		}
		if size += n; size > maxIncluded {
			return nil, problem.New("check what is beside it", "include %s: more than %d MB to include", file, maxIncluded>>20)
		}
		names = append(names, strings.TrimPrefix(file, "/"))
	}
	return names, t.Close()
}

func addTo(t *tar.Writer, file string) (int64, error) {
	f, err := os.Open(file)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if !st.Mode().IsRegular() {
		return 0, notAFile(file)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxIncludedFile+1))
	if err == nil && len(data) > maxIncludedFile {
		err = fmt.Errorf("it is larger than %d MB", maxIncludedFile>>20)
	}
	if err != nil {
		return 0, err
	}
	h, err := tar.FileInfoHeader(st, "")
	if err != nil {
		return 0, err
	}
	h.Name, h.Size = strings.TrimPrefix(file, "/"), int64(len(data))
	if err := t.WriteHeader(h); err != nil {
		return 0, err
	}
	n, err := t.Write(data)
	return int64(n), err
}
