package unit

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"etcd-rewind/problem"
	"etcd-rewind/trust"
)

// Service is a unit as systemd makes it of its files.
type Service struct {
	Name  string  // "etcd.service"
	Files []*File // the main file first, then the drop-ins in their order; then environment files

	Type, User, Restart string
	WorkingDirectory    string // "/" where none is given
	// TimeoutStart is 0 where the unit leaves it to systemd's default, less than 0
	// for none.
	TimeoutStart time.Duration
	// EnvironmentFiles are those that were read, in their order.
	EnvironmentFiles []string

	exec []text // the command, before variables are put in
	env  variables
	host Host
	// confined are settings of the unit that show it other files than the host has,
	// and locked those that don't let it write everywhere.
	confined, locked []assignment
	writable, state  []string // ReadWritePaths=, StateDirectory=
	units            int      // how many of Files are the unit's own
	read             int      // bytes of Files
}

// Loaded is which files systemd has read of a unit, as it says itself: systemctl
// show -p Id,FragmentPath,DropInPaths. A running unit may still be that of
// before: NeedDaemonReload.
type Loaded struct {
	Name, Fragment string
	DropIns        []string // in the order in which systemd names them
}

// Read reads a service from its files. It fails with a *problem.Problem for what
// systemd would refuse as well, for what isn't known before the unit starts, and for
// files that others can write.
func Read(l Loaded, h Host) (*Service, error) {
	if trust.Text(l.Name) != l.Name || !strings.HasSuffix(l.Name, ".service") || strings.Contains(l.Name, "/") {
		return nil, problem.Coded(CodeSyntax, "", "%q is not the name of a service", trust.Clip(l.Name, 80))
	}
	s := &Service{Name: l.Name, host: h, env: variables{}, WorkingDirectory: "/"}
	if len(l.DropIns) >= mostFiles {
		return nil, problem.Coded(CodeSyntax, "", "%s has %d drop-ins", l.Name, len(l.DropIns))
	}
	for i, name := range append([]string{l.Fragment}, l.DropIns...) {
		what := "the unit's file"
		if i > 0 {
			what = "the drop-in"
		}
		if _, ok := clean(name); !ok {
			return nil, problem.Coded(CodeUnreadable, "check systemctl status "+trust.Quote(l.Name), "systemd has no file for the unit %s", l.Name)
		}
		if _, err := s.file(name); err != nil {
			return nil, unreadable(what, name, err)
		}
	}
	s.units = len(s.Files)
	if err := s.load(); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Service) file(name string) (*File, error) {
	for _, f := range s.Files {
		if f.Path == name {
			return f, nil
		}
	}
	if _, ok := clean(name); !ok {
		return nil, problem.Coded(CodeUnreadable, "", "its name can't be shown")
	}
	f, err := s.host.file(name)
	if err != nil {
		return nil, err
	}
	if s.read += len(f.Data); s.read > mostBytes || len(s.Files) == mostFiles {
		return nil, problem.Coded(CodeUnreadable, "", "%s is read from more than %d files, or %d KiB", s.Name, mostFiles, mostBytes>>10)
	}
	s.Files = append(s.Files, f)
	return f, nil
}

// environmentFile is one that the unit names; "-" before it lets it be absent.
type environmentFile struct {
	pattern  text
	optional bool
}

// load goes through the assignments in their order: an empty one resets a list,
// of what is no list the last one holds.
func (s *Service) load() error {
	var command text
	var environment []text
	var files []environmentFile
	var unset []string
	for _, f := range slices.Clone(s.Files) {
		all, err := f.assignments()
		if err != nil {
			return err
		}
		for _, a := range all {
			if a.section != "Service" {
				continue
			}
			empty := len(a.value) == 0
			switch a.key {
			case "ExecStart":
				if empty {
					command = nil
				} else if command != nil {
					return problem.Coded(CodeSyntax, "an empty ExecStart= before it resets the first", "%s: %s has more than one ExecStart", a.value.place(), s.Name)
				} else {
					command = a.value
				}
			case "Environment":
				if environment = append(environment, a.value); empty {
					environment = nil
				}
			case "EnvironmentFile":
				if empty {
					files = nil
					continue
				}
				e := environmentFile{pattern: a.value}
				if a.value.at(0) == '-' {
					e = environmentFile{a.value[1:], true}
				}
				files = append(files, e)
			case "UnsetEnvironment":
				unset = words(unset, a.value)
			case "Type":
				s.Type = a.value.String()
			case "Restart":
				s.Restart = a.value.String()
			case "User":
				s.User = a.value.String()
			case "WorkingDirectory":
				if s.WorkingDirectory = "/"; !empty {
					v, err := s.specifiers(a.value)
					if err != nil {
						return err
					}
					s.WorkingDirectory = strings.TrimPrefix(v.String(), "-")
				}
			case "TimeoutStartSec", "TimeoutSec":
				s.TimeoutStart = span(a.value.String())
			case "RootDirectory", "RootImage", "BindPaths", "BindReadOnlyPaths", "TemporaryFileSystem", "MountImages", "ExtensionImages", "InaccessiblePaths":
				if empty {
					s.confined = slices.DeleteFunc(s.confined, func(c assignment) bool { return c.key == a.key })
				} else {
					s.confined = append(s.confined, a)
				}
			case "ProtectSystem", "ReadOnlyPaths", "ProtectHome", "DynamicUser":
				s.locked = slices.DeleteFunc(s.locked, func(c assignment) bool { return c.key == a.key && (empty || a.key != "ReadOnlyPaths") })
				if !empty && !slices.Contains([]string{"no", "false", "0", "off"}, a.value.String()) {
					s.locked = append(s.locked, a)
				}
			case "ReadWritePaths":
				s.writable = words(s.writable, a.value)
			case "StateDirectory":
				s.state = words(s.state, a.value)
			}
		}
	}
	if command == nil {
		return problem.Coded(CodeNoEtcd, "", "the unit %s has no ExecStart", s.Name)
	}
	for _, e := range s.host.Environment {
		// What is set with systemctl set-environment, and DefaultEnvironment=.
		if name, value, ok := strings.Cut(e, "="); ok && variableName.MatchString(name) {
			s.env[name] = plain(value)
		}
	}
	if err := s.set(environment); err != nil {
		return err
	}
	if err := s.setFiles(files); err != nil {
		return err
	}
	for _, u := range unset {
		if name, value, ok := strings.Cut(u, "="); !ok || s.env[name].String() == value {
			delete(s.env, name)
		}
	}
	var err error
	s.exec, err = s.command(command)
	return err
}

// words are those of a value that is a list; an empty value resets it.
func words(list []string, value text) []string {
	if len(value) == 0 {
		return nil
	}
	all, _ := quoting{relaxed: true}.all(value)
	for _, w := range all {
		list = append(list, w.String())
	}
	return list
}

// set reads Environment= (config_parse_environ): what follows a mistake in a line
// is ignored.
func (s *Service) set(values []text) error {
	for _, value := range values {
		for {
			w, rest, ok, err := quoting{escapes: true}.word(value)
			if err != nil {
				return problem.Coded(CodeSyntax, "correct it: systemd ignores what it can't read there", "%s: Environment= has %w", value.place(), err)
			}
			if !ok {
				break
			}
			value = rest
			if w, err = s.specifiers(w); err != nil {
				return err
			}
			if name, v, ok := w.cut('='); ok && variableName.MatchString(name.String()) {
				s.env[name.String()] = v
			}
		}
	}
	return nil
}

func (s *Service) setFiles(files []environmentFile) error {
	for _, e := range files {
		pattern, err := s.specifiers(e.pattern)
		if err != nil {
			return err
		}
		name, ok := clean(pattern.String())
		if !ok {
			return problem.Coded(CodeSyntax, "", "%s: EnvironmentFile=%s is not an absolute path", e.pattern.place(), trust.Clip(trust.Text(pattern.String()), 80))
		}
		found := []string{name}
		if strings.ContainsAny(name, globbing) {
			if found, err = s.host.glob(name); err != nil {
				return problem.Coded(CodeSyntax, "name the files one by one", "%s: EnvironmentFile=%s: %w", e.pattern.place(), name, err)
			}
			slices.Sort(found)
			if len(found) == 0 && !e.optional { // systemd doesn't start the unit
				return unreadable("the environment file", name, fs.ErrNotExist)
			}
		}
		for _, name := range found {
			f, err := s.file(name)
			if err != nil {
				if e.optional && missing(err) {
					continue
				}
				return unreadable("the environment file", trust.Text(name), err)
			}
			all, err := f.environment()
			if err != nil {
				return err
			}
			s.EnvironmentFiles = append(s.EnvironmentFiles, name)
			for _, v := range all {
				s.env[v.name] = v.value
			}
		}
	}
	return nil
}

// command takes ExecStart apart (config_parse_exec).
func (s *Service) command(value text) ([]text, error) {
	bad := func(err error) error {
		return problem.Coded(CodeSyntax, "correct it: systemd doesn't load the unit", "%s: ExecStart has %w", value.place(), err)
	}
	q := quoting{escapes: true, lenient: true}
	var argv []text
	for rest := value; ; {
		if rest.at(0) == ';' && (len(rest) == 1 || blank(rest[1])) {
			return nil, problem.Coded(CodeSyntax, "", "%s: ExecStart has more than one command", value.place())
		}
		if rest.at(0) == '\\' && rest.at(1) == ';' && (len(rest) == 2 || blank(rest[2])) {
			argv, rest = append(argv, rest[:2].as(";")), rest[2:].trim(blanks)
			continue
		}
		w, next, ok, err := q.word(rest)
		if err != nil {
			return nil, bad(err)
		}
		if !ok {
			break
		}
		rest = next
		if len(argv) == 0 {
			if prefix := w[:len(w)-len(trimLeft(w, "-:+!"))]; strings.Contains(prefix.String(), ":") || w.at(len(prefix)) == '@' {
				return nil, problem.Coded(CodeSyntax, "remove the \":\" or \"@\" before the program", "%s: ExecStart has a prefix that isn't known here: %s", value.place(), trust.Clip(w.String(), 80))
			}
			w = trimLeft(w, "-:+!")
		}
		if w, err = s.specifiers(w); err != nil {
			return nil, err
		}
		argv = append(argv, w)
	}
	if len(argv) == 0 || len(argv[0]) == 0 {
		return nil, bad(errQuoting)
	}
	return argv, nil
}

func trimLeft(t text, cut string) text {
	for len(t) > 0 && strings.IndexByte(cut, t[0].b) >= 0 {
		t = t[1:]
	}
	return t
}

// Argv is the command as systemd has it before variables are put in, to be held
// against what it has loaded (systemctl show -p ExecStart).
func (s *Service) Argv() []string {
	var all []string
	for _, w := range s.exec {
		all = append(all, w.String())
	}
	return all
}

// specifiers puts in what "%n" and the others stand for (systemd.unit(5)).
func (s *Service) specifiers(t text) (text, error) {
	out := text{}
	for i := 0; i < len(t); i++ {
		if t[i].b != '%' || i+1 == len(t) || t[i+1].b != '%' && !letters(t[i+1].b) {
			out = append(out, t[i])
			continue
		}
		v, ok := s.specifier(t[i+1].b)
		if !ok {
			return nil, problem.Coded(CodeUnknown, "write the value itself", "%s: %%%c is filled in by systemd", t.place(), t[i+1].b)
		}
		if out = append(out, t[i:i+2].as(v)...); len(out) > longestWord {
			return nil, tooLong(t)
		}
		i++
	}
	return out, nil
}

func tooLong(t text) error {
	at := t.place().String()
	if at != "" {
		at += ": "
	}
	return problem.Coded(CodeSyntax, "", "%swith its variables put in, it is longer than Linux lets a program's arguments be", at)
}

func letters(b byte) bool { return b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' }

func (s *Service) specifier(letter byte) (string, bool) {
	name := strings.TrimSuffix(s.Name, ".service")
	prefix, instance, _ := strings.Cut(name, "@")
	switch letter {
	case '%':
		return "%", true
	case 'n':
		return s.Name, true
	case 'N':
		return name, true
	case 'p':
		return prefix, true
	case 'P':
		return unescapeName(prefix), true
	case 'i':
		return instance, true
	case 'I':
		return unescapeName(instance), true
	case 'j':
		return prefix[strings.LastIndexByte(prefix, '-')+1:], true
	case 'J':
		return unescapeName(prefix[strings.LastIndexByte(prefix, '-')+1:]), true
	case 'f':
		if instance == "" {
			return "/" + unescapeName(prefix), true
		}
		return "/" + unescapeName(instance), true
	case 'y':
		return s.Files[0].Path, true
	case 'Y':
		return path.Dir(s.Files[0].Path), true
	case 't':
		return "/run", true
	case 'S':
		return "/var/lib", true
	case 'C':
		return "/var/cache", true
	case 'L':
		return "/var/log", true
	case 'E':
		return "/etc", true
	case 'T':
		return "/tmp", true
	case 'V':
		return "/var/tmp", true
	case 'u', 'g':
		return "root", true // the manager's, not the unit's
	case 'U', 'G':
		return "0", true
	case 'h':
		return "/root", true
	}
	of := s.host.Specifier
	if of == nil {
		of = here
	}
	return of(letter)
}

// here is this machine's.
func here(letter byte) (string, bool) {
	host, err := os.Hostname()
	switch {
	case letter == 'H' && err == nil:
		return host, true
	case letter == 'l' && err == nil:
		short, _, _ := strings.Cut(host, ".")
		return short, true
	case letter == 'm':
		id, err := os.ReadFile("/etc/machine-id")
		return string(bytes.TrimSpace(id)), err == nil
	}
	return "", false
}

// unescapeName reverses systemd-escape.
func unescapeName(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '-':
			b.WriteByte('/')
		case s[i] == '\\' && i+3 < len(s) && s[i+1] == 'x':
			if n, err := strconv.ParseUint(s[i+2:i+4], 16, 8); err == nil && n != 0 {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
			b.WriteByte(s[i])
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String()
}

var units = []struct {
	name string
	of   time.Duration
}{
	{"usec", time.Microsecond},
	{"us", time.Microsecond},
	{"µs", time.Microsecond},
	{"msec", time.Millisecond},
	{"ms", time.Millisecond},
	{"seconds", time.Second},
	{"second", time.Second},
	{"sec", time.Second},
	{"s", time.Second},
	{"minutes", time.Minute},
	{"minute", time.Minute},
	{"min", time.Minute},
	{"m", time.Minute},
	{"hours", time.Hour},
	{"hour", time.Hour},
	{"hr", time.Hour},
	{"h", time.Hour},
	{"days", 24 * time.Hour},
	{"day", 24 * time.Hour},
	{"d", 24 * time.Hour},
}

// span is a time as systemd.time(7) has it: less than 0 for none, 0 for what can't
// be read, which systemd ignores.
func span(s string) time.Duration {
	s = strings.TrimSpace(s)
	if s == "infinity" || s == "0" {
		return -1
	}
	var all time.Duration
	for s != "" {
		digits := len(s) - len(strings.TrimLeft(s, "0123456789."))
		n, err := strconv.ParseFloat(s[:digits], 64)
		if err != nil || n > 1e9 {
			return 0
		}
		s = strings.TrimLeft(s[digits:], " ")
		of := time.Second
		word := len(s) - len(strings.TrimLeft(s, "abcdefghijklmnopqrstuvwxyzµ"))
		if word > 0 {
			i := slices.IndexFunc(units, func(u struct {
				name string
				of   time.Duration
			},
			) bool {
				return u.name == s[:word]
			})
			if i < 0 {
				return 0
			}
			of = units[i].of
		}
		all += time.Duration(n * float64(of))
		s = strings.TrimLeft(s[word:], " ")
	}
	return all
}

// Differs says how the files differ from what systemd has loaded of them, "" where
// they don't: execStart is systemctl show's property ExecStart.
func (s *Service) Differs(execStart string) string {
	_, argv, ok := strings.Cut(execStart, "argv[]=")
	if ok {
		argv, _, ok = strings.Cut(argv, " ; ignore_errors=")
	}
	if want := strings.Join(s.Argv(), " "); !ok || argv != want {
		return fmt.Sprintf("systemd has loaded another command of %s than its files have: %s, not %s", s.Name, trust.Clip(trust.Text(argv), 300), trust.Clip(trust.Text(want), 300))
	}
	return ""
}
