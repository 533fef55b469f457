package unit

import (
	"bytes"
	"maps"
	"path"
	"slices"
	"strings"

	"etcd-rewind/manifest"
	"etcd-rewind/problem"
	"etcd-rewind/trust"
)

// Setting is one of etcd's settings that somebody has given.
type Setting struct {
	Name  string `json:"name"` // of its flag, without dashes: "data-dir"
	Value string `json:"value"`
	As    string `json:"as"` // as it is written there: "--data-dir", "ETCD_DATA_DIR", "data-dir:"
	Place `json:"place"`

	text text
}

// Twice is a setting both as a flag and as a variable: etcd since 3.4 doesn't
// start with it, before the flag held.
type Twice struct{ Flag, Variable Setting }

func (t Twice) String() string {
	return t.Flag.As + " (" + t.Flag.Place.String() + ") and " + t.Variable.As + " (" + t.Variable.Place.String() + ")"
}

// Etcd is what a unit says about its etcd.
type Etcd struct {
	manifest.EtcdSettings
	Service *Service
	// Settings are all that etcd is told and listens to, by name; those that this
	// program doesn't know, too.
	Settings []Setting
	Twice    []Twice
	// ConfigFile is etcd's own configuration file, on this host; "" without one. With
	// one etcd ignores flags and variables.
	ConfigFile string
	// Container is what etcd runs in; nil when it runs on the host itself.
	Container *Container
	// Binary is what is started, "" in a container.
	Binary string

	moves map[string]text // of each of the directories: where its path stands
}

// What the directories are called that can be moved: the Volume of their
// Locations.
const (
	DataDir = "data-dir"
	WALDir  = "wal-dir"
)

// Get gives the setting of a flag's name.
func (e *Etcd) Get(name string) (Setting, bool) {
	i := slices.IndexFunc(e.Settings, func(s Setting) bool { return s.Name == name })
	if i < 0 {
		return Setting{}, false
	}
	return e.Settings[i], true
}

// follower goes from ExecStart to etcd.
type follower struct {
	*Service
	argv      []text
	env       variables
	dir       string
	want      string // the program that it goes to, "etcd"
	container *Container
	binary    string
	depth     int
}

// ReadEtcd follows a service's command to etcd, and reads its settings. It fails
// with a *problem.Problem where something isn't understood, which says what was
// read. A setting that is given twice is no error here.
func ReadEtcd(s *Service) (*Etcd, error) {
	f, err := s.to("etcd")
	if err != nil {
		return nil, err
	}
	return f.read()
}

// to follows a service's command to a program.
func (s *Service) to(want string) (*follower, error) {
	if len(s.confined) > 0 {
		c := s.confined[0]
		return nil, problem.Coded(CodeSandbox, "remove it from the unit", "%s: with %s= the file system of %s differs from this host's", c.value.place(), c.key, want)
	}
	f := &follower{Service: s, env: s.env, dir: s.WorkingDirectory, want: want}
	all := 0
	for i, w := range s.exec {
		if i == 0 {
			f.argv = append(f.argv, w)
			continue
		}
		words, err := s.env.argument(w)
		if err != nil {
			return nil, err
		}
		f.argv = append(f.argv, words...)
		for _, w := range words {
			all += len(w) + 1
		}
		if all > mostWords {
			return nil, tooLong(w)
		}
	}
	return f, f.follow()
}

// starters start another program with the arguments that follow.
var starters = []string{"nice", "ionice", "chrt", "taskset", "numactl", "nohup", "stdbuf", "tini", "dumb-init", "catatonit", "setpriv", "setarch"}

var shells = []string{"sh", "bash", "dash", "ash", "busybox"}

func (f *follower) follow() error {
	for ; ; f.depth++ {
		if f.depth > 6 || len(f.argv) == 0 {
			return f.none(f.exec[0], "nothing that is supported here")
		}
		program := f.argv[0]
		if why := program.unknown(); why != "" {
			return f.none(program, "what isn't known before it starts ("+why+")")
		}
		name := program.String()
		base := path.Base(name)
		switch {
		case slices.Contains(shells, base):
			if base == "busybox" {
				if f.argv = f.argv[1:]; len(f.argv) == 0 || !slices.Contains(shells, f.argv[0].String()) {
					return f.none(program, "busybox")
				}
			}
			if err := f.shell(); err != nil {
				return err
			}
		case base == "env":
			if err := f.withEnv(); err != nil {
				return err
			}
		case slices.Contains(starters, base):
			i := slices.IndexFunc(f.argv[1:], func(w text) bool {
				return path.Base(w.String()) == f.want || slices.Contains(shells, path.Base(w.String()))
			})
			if i < 0 {
				return f.none(program, "no "+f.want)
			}
			f.argv = f.argv[1+i:]
		case engines[base] && f.container == nil:
			c, err := f.run(f.argv)
			if err != nil {
				return err
			}
			f.container, f.argv, f.env, f.dir = c, c.argv, c.env, c.dir
			if image, _, _ := strings.Cut(path.Base(c.Image), ":"); len(c.argv) == 0 || c.argv[0].at(0) == '-' {
				if image != f.want {
					return f.none(program, "the image "+c.Image+", whose program is unknown")
				}
				return nil
			}
		case f.container != nil && base == f.want:
			f.argv = f.argv[1:]
			return f.server(program)
		case f.container == nil:
			done, err := f.program(program)
			if done || err != nil {
				return err
			}
		default:
			return f.none(program, name)
		}
	}
}

func (f *follower) none(t text, what string) error {
	at := t.place().String()
	if at != "" {
		at += ": "
	}
	return problem.Coded(CodeNoEtcd, f.want+"'s settings are read where a unit starts it: itself, by a shell, a script, or docker, podman or nerdctl run",
		"%sthe unit %s starts %s, and no %s that can be read", at, f.Name, trust.Clip(trust.Text(what), 200), f.want)
}

// server leaves out an etcd that is started as one of the other programs it is.
func (f *follower) server(program text) error {
	if len(f.argv) > 0 && f.want == "etcd" {
		if first := f.argv[0].String(); first == "grpc-proxy" || first == "gateway" {
			return f.none(program, "etcd as "+first+", which contains no data")
		}
	}
	return nil
}

// program looks whether one is a script; done is true for etcd itself.
func (f *follower) program(program text) (done bool, err error) {
	name, ok := clean(program.String())
	if !ok {
		if program.String() != f.want {
			return false, f.none(program, program.String())
		}
		f.argv, f.binary = f.argv[1:], f.want // in a shell, which searches for it
		return true, f.server(program)
	}
	script, err := f.script(name)
	if err != nil {
		return false, err
	}
	if script == nil {
		if base := path.Base(name); base != f.want && !strings.HasPrefix(base, f.want+"-") && !strings.HasPrefix(base, f.want+"_") {
			return false, f.none(program, name)
		}
		f.argv, f.binary = f.argv[1:], name
		return true, f.server(program)
	}
	return false, f.runScript(script, f.argv[1:])
}

// script is a file with a shell's commands, nil for what is none.
func (f *follower) script(name string) (*File, error) {
	head := f.host.Head
	if head == nil {
		head = readHead
	}
	begin, err := head(name)
	if err != nil {
		return nil, unreadable("the program", name, err)
	}
	if !bytes.HasPrefix(begin, []byte("#!")) {
		return nil, nil
	}
	file, err := f.file(name)
	if err != nil {
		return nil, unreadable("the script", name, err)
	}
	line, _, _ := bytes.Cut(file.Data[2:], []byte("\n"))
	words := strings.Fields(string(line))
	if len(words) > 1 && path.Base(words[0]) == "env" {
		words = words[1:]
	}
	if len(words) == 0 || !slices.Contains(shells, path.Base(words[0])) {
		return nil, problem.Coded(CodeShell, "start "+f.want+" by ExecStart itself", "%s is a script, and not of a shell: %s", name, trust.Clip(trust.Text(string(line)), 80))
	}
	return file, nil
}

func (f *follower) runScript(file *File, args []text) error {
	return f.commands(file.text(0, len(file.Data)), args, file.Path)
}

func (f *follower) commands(t text, args []text, source string) error {
	vars, exported := maps.Clone(f.env), map[string]bool{}
	if vars == nil {
		vars = variables{}
	}
	for name := range vars {
		exported[name] = true
	}
	s := &shell{want: f.want, file: f.file, vars: vars, exported: exported, args: args, source: source, depth: f.depth, dir: f.dir, inside: f.container != nil}
	started, err := s.run(t)
	if err != nil {
		return err
	}
	if started == nil {
		return f.none(t, "a script that starts nothing")
	}
	f.argv, f.env, f.dir = started, s.environment(), s.dir
	return nil
}

// shell reads "sh -c TEXT" and "sh FILE".
func (f *follower) shell() error {
	argv := f.argv[1:]
	for ; len(argv) > 0 && (argv[0].at(0) == '-' || argv[0].at(0) == '+'); argv = argv[1:] {
		o := argv[0].String()
		if strings.Trim(o[1:], "euxcop") != "" {
			return f.none(argv[0], "a shell with "+trust.Clip(o, 40))
		}
		if strings.Contains(o, "c") && o[0] == '-' {
			if argv = argv[1:]; len(argv) == 0 {
				return f.none(f.argv[0], "a shell without a command")
			}
			var args []text
			if len(argv) > 2 {
				args = argv[2:]
			}
			return f.commands(argv[0], args, f.Name)
		}
		if strings.HasSuffix(o, "o") && len(argv) > 1 {
			argv = argv[1:]
		}
	}
	if len(argv) == 0 || f.container != nil {
		return f.none(f.argv[0], "a shell")
	}
	name, ok := clean(argv[0].String())
	if !ok {
		return f.none(argv[0], argv[0].String())
	}
	file, err := f.file(name)
	if err != nil {
		return unreadable("the script", name, err)
	}
	return f.runScript(file, argv[1:])
}

// withEnv reads "env NAME=value PROGRAM".
func (f *follower) withEnv() error {
	env := maps.Clone(f.env)
	argv := f.argv[1:]
	for ; len(argv) > 0; argv = argv[1:] {
		name, value, ok := argv[0].cut('=')
		if argv[0].at(0) == '-' {
			return f.none(argv[0], "env with "+trust.Clip(argv[0].String(), 40))
		}
		if !ok {
			break
		}
		env[name.String()] = value
	}
	f.argv, f.env = argv, env
	return nil
}

// flags takes etcd's arguments apart. Neither does etcd start with one that isn't a
// flag, so a word after a flag without "=" is its value, unless it looks like the
// next flag.
func (f *follower) flags() (all []Setting, err error) {
	for i := 0; i < len(f.argv); i++ {
		w := f.argv[i]
		if why := w.unknown(); why != "" && (w.at(0) != '-' || !strings.Contains(w.String(), "=")) {
			return nil, problem.Coded(CodeUnknown, "write the arguments themselves", "%s: etcd's argument is known only when it starts: %s", w.place(), trust.Clip(trust.Text(why), 80))
		}
		name, value, ok := w.cut('=')
		flag := strings.TrimPrefix(strings.TrimPrefix(name.String(), "-"), "-")
		if w.at(0) != '-' || flag == "" || flag[0] == '-' {
			return nil, problem.Coded(manifest.CodeArgument, "remove it, or join it to its flag", "%s: etcd does not start with the argument %q, which is not a flag", w.place(), trust.Clip(trust.Text(w.String()), 80))
		}
		if !ok {
			value = name.as("true")
			if i+1 < len(f.argv) && (f.argv[i+1].at(0) != '-' || strings.Trim(f.argv[i+1].String(), "-0123456789.") == "") {
				i++
				value = f.argv[i]
			}
		}
		as := strings.Repeat("-", len(name)-len(flag)) + trust.Clip(trust.Text(flag), 80)
		all = append(all, Setting{Name: flag, Value: value.String(), As: as, Place: value.placeOr(name), text: value})
	}
	return all, nil
}

func (t text) placeOr(other text) Place {
	if p := t.place(); p.File != "" {
		return p
	}
	return other.place()
}

func (f *follower) read() (*Etcd, error) {
	e := &Etcd{Service: f.Service, Container: f.container, Binary: f.binary, moves: map[string]text{}}
	flags, err := f.flags()
	if err != nil {
		return nil, err
	}
	by := map[string]Setting{}
	for _, s := range flags { // the last one holds
		by[s.Name] = s
	}
	config, ok := by["config-file"]
	if v := f.env["ETCD_CONFIG_FILE"]; (!ok || config.Value == "") && len(v) > 0 {
		config = Setting{Name: "config-file", Value: v.String(), As: "ETCD_CONFIG_FILE", Place: v.place(), text: v}
	}
	if config.Value != "" {
		if by, err = f.configFile(e, config); err != nil {
			return nil, err
		}
	} else {
		for variable, v := range f.env {
			name, ok := strings.CutPrefix(variable, "ETCD_")
			if !ok {
				continue
			}
			name = strings.ToLower(strings.ReplaceAll(name, "_", "-"))
			s := Setting{Name: name, Value: v.String(), As: variable, Place: v.place(), text: v}
			if flag, given := by[name]; given {
				e.Twice = append(e.Twice, Twice{flag, s})
			} else if len(v) > 0 { // an empty variable counts as none
				by[name] = s
			}
		}
		slices.SortFunc(e.Twice, func(a, b Twice) int { return strings.Compare(a.Flag.Name, b.Flag.Name) })
	}
	for _, name := range slices.Sorted(maps.Keys(by)) {
		e.Settings = append(e.Settings, by[name])
	}
	return e, f.settle(e)
}

// settle makes of what is given what etcd makes of it.
func (f *follower) settle(e *Etcd) error {
	where := f.Name
	if e.ConfigFile != "" {
		where = e.ConfigFile
	}
	for _, name := range manifest.SettingsRead {
		if s, ok := e.Get(name); ok {
			if why := s.text.unknown(); why != "" {
				return problem.Coded(CodeUnknown, "write the value itself", "%s: %s is known only when etcd starts: %s", s.Place, s.As, trust.Clip(trust.Text(why), 80))
			}
		}
	}
	get := func(name string) (string, bool) {
		s, ok := e.Get(name)
		return s.Value, ok
	}
	var err error
	if e.EtcdSettings, err = manifest.ReadSettings(get, where); err != nil {
		return err
	}
	if c := f.container; c != nil {
		e.Image, e.Version = c.Image, manifest.ImageVersion(c.Image)
	}
	data, ok := e.Get(DataDir)
	if !ok || data.Value == "" {
		data = Setting{Name: DataDir, Value: e.Name + ".etcd", As: "etcd's default"}
	}
	if e.DataDir, err = f.locate(e, data); err != nil {
		return err
	}
	if wal, ok := e.Get(WALDir); ok && wal.Value != "" {
		l, err := f.locate(e, wal)
		if err != nil {
			return err
		}
		e.WALDir = &l
	}
	for name, to := range e.Files() {
		s, ok := e.Get(name)
		if !ok || s.Value == "" {
			continue
		}
		l, err := f.locate(nil, s)
		if err != nil {
			return err
		}
		*to = l.Path
		if f.container != nil && below(e.DataDir.HostPath, l.Path) { // its mount would go
			e.OnDataVolume = append(e.OnDataVolume, name)
		}
	}
	return nil
}

func below(dir, p string) bool { return trust.Within(path.Clean(dir), p) }

// locate says where a path of etcd's lies on the host; with e it is one of the
// directories that can be moved.
func (f *follower) locate(e *Etcd, s Setting) (manifest.Location, error) {
	bad := func(code, hint, cause string) error {
		at := s.Place.String()
		if at != "" {
			at += ": "
		}
		return problem.Coded(code, hint, "%s%s is %s, %s", at, s.As, trust.Clip(trust.Text(s.Value), 200), cause)
	}
	p := s.Value
	if !path.IsAbs(p) && path.IsAbs(f.dir) {
		p = path.Join(f.dir, p)
	}
	full, ok := clean(p)
	if !ok {
		return manifest.Location{}, bad(manifest.CodeArgument, "write an absolute path", "which is no path that can be used")
	}
	l := manifest.Location{Flag: s.Value, Volume: s.Name, MountPath: full, HostPath: full, Path: full}
	stands := s.text
	if c := f.container; c != nil {
		m, rest, ok := c.onHost(full)
		switch {
		case !ok:
			return l, bad(CodeContainer, "mount a directory of the host there", "which is in the container, and no directory of the host is mounted there")
		case m.volume:
			return l, bad(CodeContainer, "mount a directory of the host there", "which is on a volume of "+c.Engine+"'s")
		case m.source.unknown() != "":
			return l, bad(CodeUnknown, "write the path itself", "on a mount that is known only when the container starts")
		}
		source, ok := clean(m.source.String())
		if !ok {
			return l, bad(CodeContainer, "write an absolute path", "on a mount whose source is no path that can be used")
		}
		l.MountPath, l.HostPath, l.Inside = m.target.String(), source, rest
		l.Path = l.Under(source)
		stands = m.source
		if e != nil && s.Name == WALDir && e.DataDir.MountPath == l.MountPath {
			l.Volume = DataDir
			e.OnDataVolume = append(e.OnDataVolume, WALDir)
		}
	}
	if e != nil {
		e.moves[l.Volume] = stands
	}
	return l, nil
}
