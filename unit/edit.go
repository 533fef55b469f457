package unit

import (
	"cmp"
	"maps"
	"path"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"etcd-rewind/manifest"
	"etcd-rewind/problem"
	"etcd-rewind/trust"
)

// Edit is a file with one or two of its values changed, and no other byte.
type Edit struct {
	Path     string
	Old, New []byte
	Places   []Place // of the values
	// Reload says that systemd has to read it again: it is the unit's own file.
	Reload bool
}

// simple is a path that means itself in all of these files, within quotes and
// without.
var simple = regexp.MustCompile(`^/[A-Za-z0-9/._+@-]+$`)

// hintSwap is what helps when no value can be changed.
const hintSwap = "let the restored data take the old directory's path: --swap"

func cannotEdit(s Setting, cause string) error {
	at := s.Place.String()
	if at != "" {
		at += ": "
	}
	return problem.Coded(CodeCannotEdit, hintSwap, "%sthe value of %s can't be changed alone: %s", at, s.As, cause)
}

// SetDirs changes where directories are: by the Volume of their Locations, DataDir
// or WALDir, to an absolute path for their HostPath. The result is read again and
// held against what was meant; when they differ in anything, there is an error and
// no edit. What can't be edited can still be swapped (see [Etcd.Editable]).
func (e *Etcd) SetDirs(dirs map[string]string) ([]Edit, error) {
	changed := map[*File][]splice{}
	var excuse error
	for _, name := range slices.Sorted(maps.Keys(dirs)) {
		to := dirs[name]
		l := e.location(name)
		if l == nil {
			return nil, problem.Coded(manifest.CodeArgument, "", "the unit %s has no %s of its own", e.Service.Name, name)
		}
		if path.Clean(to) != to || !simple.MatchString(to) {
			return nil, problem.Coded(manifest.CodeArgument, "choose a path of letters, digits and ._+@-, or "+hintSwap, "%s can't be written into the files of %s as it is", trust.Quote(trust.Clip(trust.Text(to), 200)), e.Service.Name)
		}
		if l.HostPath == to {
			continue
		}
		if why := e.Service.readOnly(to); why != "" && e.Container == nil {
			return nil, problem.Coded(CodeSandbox, "choose a directory that the unit lets it write, or "+hintSwap, "etcd could not write to %s: %s", to, why)
		}
		s, err := e.editable(name)
		if err != nil { // unless it follows from another
			excuse = cmp.Or(excuse, err)
			continue
		}
		f, from, to1, _ := e.moves[name].span()
		changed[f] = append(changed[f], splice{from, to1, s, to})
	}
	var edits []Edit
	for _, f := range e.Service.Files {
		if len(changed[f]) == 0 {
			continue
		}
		edit, err := e.edit(f, changed[f])
		if err != nil {
			return nil, err
		}
		edits = append(edits, edit)
	}
	if len(edits) == 0 {
		return nil, excuse
	}
	if err := e.verify(edits, dirs); err != nil {
		return nil, cmp.Or(excuse, err)
	}
	return edits, nil
}

type splice struct {
	from, to int
	s        Setting
	with     string
}

func (e *Etcd) edit(f *File, all []splice) (Edit, error) {
	out := Edit{Path: f.Path, Old: f.Data, New: f.Data, Reload: e.Service.own(f)}
	slices.SortFunc(all, func(a, b splice) int { return b.from - a.from })
	for i, s := range all {
		out.Places = append(out.Places, f.place(s.from))
		if f.Path == e.ConfigFile && e.Container == nil {
			var err error
			if out.New, err = manifest.SetPath(out.New, s.s.Name, s.with); err != nil {
				return out, err
			}
			continue
		}
		if i > 0 && all[i-1].from < s.to {
			return out, cannotEdit(s.s, "it is part of a value that names another directory, too")
		}
		out.New = slices.Concat(out.New[:s.from], []byte(s.with), out.New[s.to:])
	}
	return out, nil
}

// own says whether a file is the unit's, and none that its settings are in.
func (s *Service) own(f *File) bool {
	i := slices.Index(s.Files, f)
	return i >= 0 && i < s.units
}

func (e *Etcd) location(name string) *manifest.Location {
	switch {
	case e.DataDir.Volume == name:
		return &e.DataDir
	case e.WALDir != nil && e.WALDir.Volume == name:
		return e.WALDir
	}
	return nil
}

// Editable is nil when a directory's path can be changed where it stands; else it
// says why not.
func (e *Etcd) Editable(name string) error {
	_, err := e.editable(name)
	return err
}

func (e *Etcd) editable(name string) (Setting, error) {
	s, _ := e.Get(name)
	if s.Name == "" {
		return s, problem.Coded(CodeCannotEdit, hintSwap, "the unit %s names no %s: it is etcd's default", e.Service.Name, name)
	}
	if p := e.moves[name].place(); p.File != "" {
		s.Place = p // of a container its mount
	}
	f, _, _, ok := e.moves[name].span()
	if !ok {
		return s, cannotEdit(s, "it is made of several")
	}
	if why := e.Service.shared(f); why != "" {
		return s, cannotEdit(s, why)
	}
	return s, nil
}

// shared says why a file isn't for one unit's settings alone.
func (s *Service) shared(f *File) string {
	base := path.Base(f.Path)
	switch {
	case s.own(f) && strings.Contains(s.Name, "@") && (strings.HasSuffix(base, "@.service") || strings.HasSuffix(path.Dir(f.Path), "@.service.d")):
		return "the file is for all instances of the template " + base
	case trust.Within("/usr/lib", f.Path), trust.Within("/lib", f.Path):
		return "the file is a package's, and the next version replaces it"
	case trust.Within("/run", f.Path):
		return "the file is re-created at every boot"
	}
	return ""
}

// readOnly says why the unit doesn't let its process write below a directory, ""
// when it does.
func (s *Service) readOnly(dir string) string {
	within := func(dirs ...string) bool {
		return slices.ContainsFunc(dirs, func(d string) bool { return path.IsAbs(d) && trust.Within(path.Clean(d), dir) })
	}
	var open []string
	for _, p := range s.writable {
		open = append(open, strings.TrimLeft(p, "-+"))
	}
	for _, p := range s.state {
		name, _, _ := strings.Cut(p, ":")
		open = append(open, path.Join("/var/lib", name), path.Join("/var/lib/private", name))
	}
	if within(open...) {
		return ""
	}
	for _, a := range s.locked {
		value, shut := a.value.String(), false
		switch a.key {
		case "ProtectSystem":
			shut = value == "strict" && !within("/dev", "/proc", "/sys") || within("/usr", "/boot", "/efi") || value == "full" && within("/etc")
		case "DynamicUser":
			shut = true
		case "ProtectHome":
			shut = within("/home", "/root", "/run/user")
		case "ReadOnlyPaths":
			for _, p := range words(nil, a.value) {
				shut = shut || within(strings.TrimLeft(p, "-+"))
			}
		}
		if shut {
			return a.value.place().String() + " has " + a.key + "=" + trust.Clip(trust.Text(value), 80)
		}
	}
	return ""
}

// verify reads everything again with the edits in place, and finds the same but for
// what was meant.
func (e *Etcd) verify(edits []Edit, dirs map[string]string) error {
	host := e.Service.host
	was := host.Read
	if was == nil {
		was = readDisk
	}
	host.Read = func(name string) ([]byte, error) {
		for _, edit := range edits {
			if edit.Path == name {
				return edit.New, nil
			}
		}
		for _, f := range e.Service.Files {
			if f.Path == name {
				return f.Data, nil
			}
		}
		return was(name)
	}
	loaded := Loaded{Name: e.Service.Name, Fragment: e.Service.Files[0].Path}
	for _, f := range e.Service.Files[1:e.Service.units] {
		loaded.DropIns = append(loaded.DropIns, f.Path)
	}
	more := func(what string) error {
		return problem.Coded(CodeCannotEdit, hintSwap, "the path of the data can't be changed alone in %s: %s", edits[0].Path, what)
	}
	s, err := Read(loaded, host)
	if err != nil {
		return more(err.Error())
	}
	now, err := ReadEtcd(s)
	if err != nil {
		return more(err.Error())
	}
	for name, to := range dirs {
		if l := now.location(name); l == nil || l.HostPath != to {
			return more("another value applies")
		}
	}
	return e.same(now, dirs, more)
}

func (e *Etcd) same(now *Etcd, dirs map[string]string, more func(string) error) error {
	value := func(of *Etcd, s Setting) string {
		if _, moved := dirs[s.Name]; moved && of.Container == nil {
			return ""
		}
		return s.Value
	}
	if len(e.Settings) != len(now.Settings) || len(e.Twice) != len(now.Twice) {
		return more("it would change other settings, too")
	}
	for i, s := range e.Settings {
		n := now.Settings[i]
		if s.Name != n.Name || s.As != n.As || value(e, s) != value(now, n) {
			return more("it would change " + s.As + ", too")
		}
	}
	a, b := e.EtcdSettings, now.EtcdSettings
	a.DataDir, b.DataDir, a.WALDir, b.WALDir = manifest.Location{}, manifest.Location{}, nil, nil
	a.OnDataVolume, b.OnDataVolume = nil, nil
	if !reflect.DeepEqual(a, b) {
		return more("it would change other settings, too")
	}
	if _, moved := dirs[DataDir]; !moved && !reflect.DeepEqual(e.DataDir, now.DataDir) {
		return more("it would change the data directory, too")
	}
	if _, moved := dirs[WALDir]; !moved && e.WALDir != nil && e.WALDir.Volume != DataDir && !reflect.DeepEqual(e.WALDir, now.WALDir) {
		return more("it would change the WAL's directory, too")
	}
	for name := range e.moves {
		if _, moved := dirs[name]; !moved && e.moves[name].String() != now.moves[name].String() {
			return more("it would change " + name + ", too")
		}
	}
	// What else the unit starts etcd with: its variables.
	for name, v := range e.Service.env {
		if n, ok := now.Service.env[name]; !ok || n.String() != v.String() && !strings.Contains(v.String(), e.DataDir.Flag) && (e.WALDir == nil || !strings.Contains(v.String(), e.WALDir.Flag)) {
			return more("it would change the variable " + name + ", too")
		}
	}
	return nil
}
