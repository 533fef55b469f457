//go:build linux

package cluster

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// Importing the images writes some 600 MB, which takes a slow disk longer than
// all the rest of Up. So what containerd has made of them is kept in the cache,
// and the next node begins with hard links to it.

// storePath names the kept copy after all that it was made from.
func (n *Node) storePath(ctx context.Context, images []string, p parts) (string, error) {
	containerd := "containerd"
	switch { // the directories' names have hashes
	case n.Systemd && p.containerd != "":
		containerd = filepath.Join(p.containerd, containerd)
	case n.Systemd:
		containerd = filepath.Join(p.host, "usr/bin", containerd)
	}
	version, err := run(exec.CommandContext(ctx, containerd, "--version"))
	if err != nil {
		return "", err
	}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return "", err
	}
	info, err := os.Stat(busybox)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(strings.Join(append([]string{
		"2", version, info.ModTime().String(), p.kubernetes, p.etcd,
	}, images...), "\n")))
	return filepath.Join(filepath.Dir(p.kubernetes), fmt.Sprintf("containerd-%x", sum[:6])), nil
}

// useStore fills containerd's directory from the kept copy. It says false when
// there is none, or none that can be linked to.
func useStore(store, dir string) (bool, error) {
	err := linkTree(store, dir)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.EXDEV) {
		return false, os.RemoveAll(dir)
	}
	return err == nil, err
}

// keepStore keeps a copy of containerd's directory. containerd must not run.
func keepStore(dir, store string) error {
	next, err := os.MkdirTemp(filepath.Dir(store), ".containerd.")
	if err != nil {
		return err
	}
	defer os.RemoveAll(next)
	err = linkTree(dir, filepath.Join(next, "store"))
	if errors.Is(err, syscall.EXDEV) {
		return nil // each node has to import its images, then
	}
	if err != nil {
		return err
	}
	err = os.Rename(filepath.Join(next, "store"), store)
	if errors.Is(err, fs.ErrExist) || errors.Is(err, syscall.ENOTEMPTY) {
		return nil // another node was faster
	}
	return err
}

// linkTree copies a directory of containerd's. What is written once only becomes
// a hard link: blobs, and the files of unpacked layers, which overlayfs only reads.
func linkTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		info, err := entry.Info()
		if err != nil {
			return err
		}
		once := strings.HasPrefix(rel, "io.containerd.content.v1.content/blobs/") ||
			strings.HasPrefix(rel, "io.containerd.snapshotter.v1.overlayfs/snapshots/")
		switch {
		case entry.IsDir():
			if err := os.MkdirAll(target, 0o700); err != nil {
				return err
			}
			return os.Chmod(target, info.Mode().Perm()|info.Mode()&os.ModeSticky)
		case once:
			return os.Link(path, target)
		case info.Mode().IsRegular():
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			return os.WriteFile(target, text, info.Mode().Perm())
		}
		return fmt.Errorf("%s is a %s", path, info.Mode().Type())
	})
}
