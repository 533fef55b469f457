package steps

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"etcd-rewind/trust"
)

// mostBundled is how many bytes of a file go into a bundle, its end: a journal
// has as many as its run had records.
const mostBundled = 16 << 20

// BundleFile is one file of a bundle.
type BundleFile struct {
	Name string // a path with slashes
	Data []byte
}

// RunFiles are what a run left that shows what happened: journal, events and
// reports. Copies of manifests are not among them. What can't be read is said
// in place of the file.
func RunFiles(r RunInfo) []BundleFile {
	entries, err := os.ReadDir(r.Dir)
	if err == nil {
		err = notTrusted(trust.Dir(r.Dir))
	}
	if err != nil {
		return []BundleFile{{r.Run + "/unreadable.txt", []byte(err.Error() + "\n")}}
	}
	var files []BundleFile
	for _, e := range entries {
		name := e.Name()
		if name != journalName && name != eventsName && !reportFile.MatchString(name) {
			continue
		}
		data, err := fileEnd(filepath.Join(r.Dir, name))
		if err != nil {
			name, data = name+".unreadable.txt", []byte(err.Error()+"\n")
		}
		files = append(files, BundleFile{r.Run + "/" + name, data})
	}
	return files
}

var reportFile = regexp.MustCompile(`^report(-[a-z]+)?\.md$`)

// fileEnd reads a file of root's, or the last lines of a long one.
func fileEnd(path string) ([]byte, error) {
	if err := trust.File(path); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	st, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case !st.Mode().IsRegular():
		return nil, errors.New(path + " is not a file")
	}
	cut := st.Size() - mostBundled
	if cut <= 0 {
		return io.ReadAll(io.LimitReader(f, mostBundled))
	}
	if _, err := f.Seek(cut, io.SeekStart); err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, mostBundled))
	if _, rest, ok := strings.Cut(string(data), "\n"); ok {
		data = []byte(rest)
	}
	return data, err
}

// WriteBundle writes files as a tar.gz below one directory, without what looks
// like a secret: what is chosen holds none, but a container's last words may.
func WriteBundle(w io.Writer, dir string, files []BundleFile, at time.Time) error {
	gz := gzip.NewWriter(w)
	out := tar.NewWriter(gz)
	for _, f := range files {
		data := withoutSecrets(f.Data)
		if err := out.WriteHeader(&tar.Header{
			Name: dir + "/" + f.Name, Mode: 0o600, Size: int64(len(data)), ModTime: at, Format: tar.FormatPAX,
		}); err != nil {
			return err
		}
		if _, err := out.Write(data); err != nil {
			return err
		}
	}
	return errors.Join(out.Close(), gz.Close())
}

// removed is written where a secret was. It needs no quoting in JSON.
const removed = "[removed]"

const (
	secretName = `(?:password|passwd|passphrase|pwd|secret|token|credential|(?:api|access|private|session|auth)[_-]?key)s?`
	plainValue = `[^\s"'\\,;&}\])]{4,}`
)

// What looks like a secret: what is kept of it, and what goes.
var secretLike = []struct {
	what *regexp.Regexp
	with string
}{
	// Keys in PEM, also with the line breaks of a JSON string.
	{regexp.MustCompile(`(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|$)`), removed},
	// PEM in base64, as kubeconfigs have it: "-----BEGIN".
	{regexp.MustCompile(`LS0tLS1CRUdJTi[\w+/-]*={0,2}`), removed},
	{regexp.MustCompile(`(?i)\bAGE-SECRET-KEY-[A-Z0-9-]+`), removed},
	// JSON web tokens, as service accounts have them.
	{regexp.MustCompile(`\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*`), removed},
	// kubeadm's bootstrap tokens.
	{regexp.MustCompile(`\b[a-z0-9]{6}\.[a-z0-9]{16}\b`), removed},
	// Passwords in URLs, and tokens instead of a user.
	{regexp.MustCompile(`(://)(?:[^/\s:@"]*:[^/\s@"]+|[^/\s:@"]{16,})@`), "${1}" + removed + "@"},
	// Headers.
	{regexp.MustCompile(`(?i)\b(bearer|basic) +[\w.~+/=-]{8,}`), "${1} " + removed},
	// Named ones: "token":"...", whose quotes may have been quoted in turn;
	// password=..., secret: ...; --password ....
	{regexp.MustCompile(`(?i)(` + secretName + `(?:\\*["'])? *[=:] *\\*["'])[^"'\\,}\]:\s][^"'\\\n]{3,}`), "${1}" + removed},
	{regexp.MustCompile(`(?i)(` + secretName + ` *[=:] *)` + plainValue), "${1}" + removed},
	{regexp.MustCompile(`(?i)(--[\w-]*` + secretName + ` +)` + plainValue), "${1}" + removed},
	// Padded base64 of 16 bytes and more: keys of an EncryptionConfiguration.
	{regexp.MustCompile(`[A-Za-z0-9+/_-]{20,}={1,2}`), removed},
}

func withoutSecrets(data []byte) []byte {
	for _, s := range secretLike {
		data = s.what.ReplaceAll(data, []byte(s.with))
	}
	return data
}

// ChooseRuns are the runs that a bundle is about: the one named, or the newest
// ones.
func ChooseRuns(runs []RunInfo, named string, most int) ([]RunInfo, error) {
	if named == "" {
		return runs[:min(most, len(runs))], nil
	}
	i := slices.IndexFunc(runs, func(r RunInfo) bool { return r.Run == named })
	if i < 0 {
		return nil, &Failure{Cause: fmt.Sprintf("there is no run %s on this node", trust.Text(named)), Hint: "etcd-rewind runs lists them"}
	}
	return runs[i : i+1], nil
}

// WriteNew writes a file that isn't there yet, for its owner alone. What could
// not be written whole is removed again.
func WriteNew(path string, write func(io.Writer) error) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return &Failure{Cause: trust.Text(path) + " is there already", Hint: "no file is overwritten: name another"}
	}
	if err != nil {
		return err
	}
	err = write(f)
	if err = errors.Join(err, f.Close()); err != nil {
		_ = os.Remove(path)
	}
	return err
}
