package unit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"syscall"
	"unicode/utf8"

	"etcd-rewind/problem"
	"etcd-rewind/trust"
)

// Place is where something is written.
type Place struct {
	File string `json:"file"`
	Line int    `json:"line"` // from 1
}

func (p Place) String() string {
	if p.File == "" {
		return ""
	}
	return fmt.Sprintf("%s:%d", p.File, p.Line)
}

// File is a file that a unit's settings were read from.
type File struct {
	Path string
	Data []byte

	lines []int // where each begins
}

func newFile(path string, data []byte) *File {
	f := &File{Path: path, Data: data, lines: []int{0}}
	for i, b := range data {
		if b == '\n' {
			f.lines = append(f.lines, i+1)
		}
	}
	return f
}

func (f *File) place(offset int) Place {
	return Place{f.Path, sort.SearchInts(f.lines, offset+1)}
}

// What a unit's files may have, and what may come out when variables are put in.
// All of it is more than people write, and as much as Linux lets a program be
// started with: a longer word is E2BIG (MAX_ARG_STRLEN).
const (
	largest      = 256 << 10 // bytes of a file
	mostBytes    = 1 << 20   // of all files of a unit
	mostFiles    = 200
	mostSettings = 5000 // assignments in the unit's own files
	longestWord  = 128 << 10
	mostWords    = 1 << 20 // bytes of a command
	mostLooked   = 10_000  // files and directories, to find those that a pattern stands for
)

// Host is the machine that a unit is read on. The zero value is this one.
type Host struct {
	// Read reads a file; nil reads the disk, and believes only what nobody but
	// root, or this user, can write.
	Read func(path string) ([]byte, error)
	// Head reads the first bytes of a program; nil asks the disk.
	Head func(path string) ([]byte, error)
	// Glob lists the files that a pattern stands for; nil asks the disk.
	Glob func(pattern string) ([]string, error)
	// Specifier gives what "%H" and the others that don't depend on the unit stand
	// for, by their letter; nil asks this machine.
	Specifier func(letter byte) (string, bool)
	// Environment is the manager's own: systemctl show-environment.
	Environment []string
}

func (h Host) file(path string) (*File, error) {
	read := h.Read
	if read == nil {
		read = readDisk
	}
	data, err := read(path)
	switch {
	case err != nil:
		return nil, err
	case len(data) > largest:
		return nil, problem.Coded(CodeUnreadable, "", "%s has more than %d KiB", path, largest>>10)
	case bytes.IndexByte(data, 0) >= 0:
		return nil, problem.Coded(CodeSyntax, "", "%s has a byte that is zero: it isn't text", path)
	}
	return newFile(path, data), nil
}

// trusted says whether what a name leads to may be read: a file that only root
// can change, and none that the kernel makes while it is read. /proc/kmsg calls
// itself a regular file, waits for ever, and takes what it gives from others.
func trusted(name string) error {
	if err := trust.File(name); err != nil {
		return err
	}
	real, err := filepath.EvalSymlinks(name)
	if err != nil {
		return err
	}
	for _, dir := range []string{"/proc", "/sys", "/dev"} {
		if trust.Within(dir, real) {
			return problem.Coded(CodeUnreadable, "", "%s is not a file of a disk", name)
		}
	}
	return nil
}

func readDisk(name string) ([]byte, error) {
	if err := trusted(name); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(err, problem.Coded(CodeUnreadable, "", "%s is not a regular file", name))
	}
	return io.ReadAll(io.LimitReader(f, largest+1))
}

// readHead reads what tells a script from a program. Nobody but root may be able to
// change either.
func readHead(name string) ([]byte, error) {
	if err := trusted(name); err != nil {
		return nil, err
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	head := make([]byte, 2)
	n, err := io.ReadFull(f, head)
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		err = nil
	}
	return head[:n], err
}

func (h Host) glob(pattern string) ([]string, error) {
	if h.Glob != nil {
		return h.Glob(pattern)
	}
	return globDisk(pattern)
}

// globDisk is glob(3), as systemd calls it: "*" stands for no dot at the beginning
// of a name, "[!" is a class that doesn't have what follows. It looks at so many
// files and no more.
func globDisk(pattern string) ([]string, error) {
	found, looked := []string{"/"}, 0
	for part := range strings.SplitSeq(strings.Trim(path.Clean(pattern), "/"), "/") {
		var next []string
		if !strings.ContainsAny(part, globbing) {
			for _, dir := range found {
				next = append(next, path.Join(dir, part))
			}
			found = next
			continue
		}
		part = strings.ReplaceAll(part, "[!", "[^")
		for _, dir := range found {
			names, err := namesIn(dir, mostLooked-looked)
			if err != nil {
				return nil, err
			}
			looked += len(names)
			for _, name := range names {
				ok, err := path.Match(part, name)
				if err != nil {
					return nil, err
				}
				if ok && (name[0] != '.' || part[0] == '.') {
					next = append(next, path.Join(dir, name))
				}
			}
		}
		found = next
	}
	found = slices.DeleteFunc(found, func(name string) bool {
		_, err := os.Lstat(name)
		return err != nil
	})
	slices.Sort(found)
	return found, nil
}

// globbing are the characters of patterns; a backslash takes the meaning from one.
const globbing = "*?[\\"

// namesIn are the names in a directory, and none where there is no such directory.
func namesIn(dir string, most int) ([]string, error) {
	f, err := os.OpenFile(dir, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil //nolint:nilerr // what can't be looked into has nothing that the pattern stands for
	}
	defer func() { _ = f.Close() }()
	names, err := f.Readdirnames(most + 1)
	if len(names) > most {
		return nil, errors.New("it stands for too many files")
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return names, err
}

// unreadable is the error of a file that a unit names.
func unreadable(what, name string, err error) error {
	if p := problem.Of(err); p != nil {
		return p.About(what + " " + name)
	}
	return problem.Coded(CodeUnreadable, "", "%s %s: %w", what, name, err)
}

const (
	blanks   = " \t\n\r"
	newlines = "\n\r"
	comments = "#;"
)

// assignment is a "Key=value" of a unit's file.
type assignment struct {
	section, key string
	value        text
}

// assignments reads a unit's file as config_parse in systemd's
// src/shared/conf-parser.c does.
func (f *File) assignments() ([]assignment, error) {
	if !utf8.Valid(f.Data) {
		return nil, problem.Coded(CodeSyntax, "save it as UTF-8", "%s is not UTF-8, and systemd ignores lines that aren't", f.Path)
	}
	var all []assignment
	section := ""
	begin := 0
	if bytes.HasPrefix(f.Data, []byte("\xef\xbb\xbf")) {
		begin = 3
	}
	var line text // the line so far, when it goes on
	take := func() error {
		whole := line.trim(blanks)
		line = nil
		if len(whole) == 0 {
			return nil
		}
		if whole[0].b == '[' {
			if whole[len(whole)-1].b != ']' {
				return problem.Coded(CodeSyntax, "correct it: systemd doesn't load the unit", "%s: the section %q has no end", whole.place(), trust.Clip(whole.String(), 80))
			}
			section = whole[1 : len(whole)-1].String()
			return nil
		}
		// Else systemd warns, and ignores it.
		if len(all) == mostSettings {
			return problem.Coded(CodeSyntax, "", "%s: a unit's file with more than %d settings", whole.place(), mostSettings)
		}
		if key, value, ok := whole.cut('='); ok && section != "" {
			all = append(all, assignment{section, key.trim(blanks).String(), value.trim(blanks)})
		}
		return nil
	}
	for begin < len(f.Data) {
		end := begin
		for end < len(f.Data) && strings.IndexByte(newlines, f.Data[end]) < 0 {
			end++
		}
		next := end
		// One line end is a "\n", a "\r", or both.
		if next < len(f.Data) {
			next++
			if next < len(f.Data) && f.Data[next] != f.Data[next-1] && strings.IndexByte(newlines, f.Data[next]) >= 0 {
				next++
			}
		}
		here := f.text(begin, end)
		begin = next
		if t := here.trim(" \t"); len(t) > 0 && strings.IndexByte(comments, t[0].b) >= 0 {
			continue // also between lines that belong together
		}
		escaped := false
		for _, c := range here {
			escaped = c.b == '\\' && !escaped
		}
		if line = append(line, here...); escaped {
			last := &line[len(line)-1]
			last.b, last.to = ' ', next
			continue
		}
		if err := take(); err != nil {
			return nil, err
		}
	}
	if err := take(); err != nil {
		return nil, err
	}
	return all, nil
}

// clean is an absolute path that can be used and shown.
func clean(s string) (string, bool) {
	if !path.IsAbs(s) || !utf8.ValidString(s) || trust.Text(s) != s {
		return "", false
	}
	return path.Clean(s), true
}

func missing(err error) bool { return errors.Is(err, fs.ErrNotExist) }
