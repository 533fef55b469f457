package manifest

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"etcd-rewind/problem"
	"etcd-rewind/trust"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// maxSize is the number of bytes at which kubelet gives up on a file (maxConfigLength in pkg/kubelet/config/common.go; a
// file of exactly this size is refused too).
const maxSize = 10 << 20

// SystemNamespace is where the control plane's static pods live.
const SystemNamespace = metav1.NamespaceSystem

// Dir is the static pod directory as kubelet would read it at one moment.
type Dir struct {
	Path  string
	Files []File // sorted by name
}

// File is one file that kubelet looks at. Either Pod or Err is set.
type File struct {
	Path string
	Data []byte
	Mode os.FileMode // of the file itself, not of a symlink to it; 0 when unknown
	// Pod is what kubelet would run, namespace defaulted, nothing else: the name has no node name appended yet.
	Pod *corev1.Pod
	// Err says why kubelet refuses the file. Nearly always a *problem.Problem.
	Err error
}

// Name is the file's base name.
func (f *File) Name() string { return filepath.Base(f.Path) }

// Key is the pod's "namespace/name", or "" when the file holds no pod.
func (f *File) Key() string {
	if f.Pod == nil {
		return ""
	}
	return f.Pod.Namespace + "/" + f.Pod.Name
}

// ReadDir reads dir as kubelet does: every entry whose name doesn't begin with a dot, whatever its extension, symlinks
// followed, subdirectories left out (pkg/kubelet/config/file.go). Files that kubelet would refuse are in the result with
// their Err. The error is for the directory itself.
func ReadDir(dir string) (*Dir, error) {
	entries, err := os.ReadDir(dir) // sorted by name, which is kubelet's order
	if err != nil {
		if errors.Is(err, syscall.ENOTDIR) {
			return nil, problem.Coded(CodeNotADir, "kubelet's staticPodPath must be a directory for a control plane",
				"the manifest directory %s is a file: %w", dir, err)
		}
		return nil, fmt.Errorf("read the manifest directory: %w", err)
	}
	d := &Dir{Path: dir}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		f, ok := readEntry(filepath.Join(dir, e.Name()))
		if ok {
			d.Files = append(d.Files, f)
		}
	}
	return d, nil
}

// ReadFile reads a single manifest as kubelet would, wherever it lies. A file kubelet would refuse is no error here but in
// File.Err, as in ReadDir.
func ReadFile(path string) (*File, error) {
	f, ok := readEntry(path)
	if !ok {
		if f.Err != nil {
			return nil, f.Err
		}
		return nil, fmt.Errorf("read %s: is a directory", path)
	}
	if errors.Is(f.Err, fs.ErrNotExist) {
		return nil, f.Err
	}
	return &f, nil
}

// readEntry says false for what isn't a file to kubelet: a directory, or an entry that went away in the meantime.
func readEntry(path string) (File, bool) {
	f := File{Path: path}
	info, err := os.Stat(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			if _, lerr := os.Lstat(path); lerr != nil {
				f.Err = fmt.Errorf("read the manifest: %w", err)
				return f, false
			}
			f.Err = problem.Coded(CodeUnreadable, "kubelet ignores it; remove the symlink or put its target back",
				"%s is a symlink whose target does not exist: %w", path, err)
			return f, true
		}
		f.Err = problem.Coded(CodeUnreadable, "", "kubelet can't read it: %w", err)
		return f, true
	}
	f.Mode = info.Mode()
	if info.IsDir() {
		return f, false
	}
	if !info.Mode().IsRegular() {
		f.Err = notRegular(path, info.Mode())
		return f, true
	}
	f.Data, err = readRegular(path)
	if err != nil {
		f.Err = err
		return f, true
	}
	f.Pod, f.Err = readPod(f.Data)
	return f, true
}

// Parse reads a manifest from memory as ReadFile does from path.
func Parse(path string, data []byte) (*File, error) {
	pod, err := readPod(data)
	if err != nil {
		return nil, err
	}
	return &File{Path: path, Data: data, Pod: pod}, nil
}

func readPod(data []byte) (*corev1.Pod, error) {
	pod, err := decodePod(data)
	if err == nil {
		err = validate(pod)
	}
	if err != nil {
		return nil, err
	}
	if pod.Namespace == "" {
		pod.Namespace = corev1.NamespaceDefault
	}
	return pod, nil
}

func notRegular(path string, mode os.FileMode) error {
	return problem.Coded(CodeNotRegular, "kubelet ignores it; move it out of the manifest directory", "%s is %s, not a regular file", path, trust.Kind(mode))
}

func readRegular(path string) ([]byte, error) {
	// Not blocking, in case a pipe takes the file's place between the stat and now.
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, problem.Coded(CodeUnreadable, "", "can't be read: %w", err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, problem.Coded(CodeUnreadable, "", "can't be read: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, notRegular(path, info.Mode())
	}
	data, err := io.ReadAll(io.LimitReader(file, maxSize))
	if err != nil {
		return nil, problem.Coded(CodeUnreadable, "", "can't be read: %w", err)
	}
	if len(data) >= maxSize {
		return nil, problem.Coded(CodeTooLarge, "kubelet reads at most 10 MiB and ignores it; move it out of the manifest directory",
			"%s is too large for a manifest (%.1f MiB)", path, float64(info.Size())/(1<<20))
	}
	return data, nil
}

// Find gives the file that defines the pod and the ones it hides. Kubelet goes through the files in the order of their
// names, and the last definition of a namespace/name wins, so etcd.yaml.bak beats etcd.yaml.
func (d *Dir) Find(namespace, name string) (winner *File, shadowed []*File) {
	files := d.files(func(f *File) bool { return f.Key() == namespace+"/"+name })
	if len(files) == 0 {
		return nil, nil
	}
	last := len(files) - 1
	return files[last], files[:last]
}

// Component gives the file that defines a control-plane component, such as "etcd", and the ones it hides: the pod in
// kube-system of that name or, when there is none, the one that carries the label component=name.
func (d *Dir) Component(name string) (winner *File, shadowed []*File) {
	if winner, shadowed = d.Find(SystemNamespace, name); winner != nil {
		return winner, shadowed
	}
	labelled := d.files(func(f *File) bool { return isComponent(f, name) })
	if len(labelled) == 0 {
		return nil, nil
	}
	return d.Find(SystemNamespace, labelled[len(labelled)-1].Pod.Name)
}

// Running gives the files whose pod runs a program, or tries to, whatever their name and label; of several that define the
// same pod the one that kubelet runs.
func (d *Dir) Running(program string) []*File {
	return d.files(func(f *File) bool {
		if winner, _ := d.Find(f.Pod.Namespace, f.Pod.Name); winner != f {
			return false
		}
		for i := range f.Pod.Spec.Containers {
			if _, runs, err := arguments(&f.Pod.Spec.Containers[i], program); runs || err != nil && !problem.HasCode(err, CodeProxy) {
				return true
			}
		}
		return false
	})
}

// Rivals gives the files that define a second pod of the same component under another name, such as a copy of etcd.yaml
// with its name changed. Kubelet runs both, and they fight for ports and data.
func (d *Dir) Rivals(name string) []*File {
	winner, _ := d.Component(name)
	if winner == nil {
		return nil
	}
	return d.files(func(f *File) bool { return isComponent(f, name) && f.Key() != winner.Key() })
}

// Duplicates gives the pods that more than one file defines, by "namespace/name"; the last file of each is the one kubelet
// runs.
func (d *Dir) Duplicates() map[string][]*File {
	byKey := map[string][]*File{}
	for _, f := range d.files(func(*File) bool { return true }) {
		byKey[f.Key()] = append(byKey[f.Key()], f)
	}
	for key, files := range byKey {
		if len(files) < 2 {
			delete(byKey, key)
		}
	}
	return byKey
}

// Refused gives the files kubelet can't use.
func (d *Dir) Refused() []*File {
	var files []*File
	for i := range d.Files {
		if d.Files[i].Err != nil {
			files = append(files, &d.Files[i])
		}
	}
	return files
}

func isComponent(f *File, name string) bool {
	return f.Pod.Namespace == SystemNamespace && (f.Pod.Labels["component"] == name || f.Pod.Name == name)
}

func (d *Dir) files(want func(*File) bool) []*File {
	var files []*File
	for i := range d.Files {
		if f := &d.Files[i]; f.Pod != nil && want(f) {
			files = append(files, f)
		}
	}
	return files
}
