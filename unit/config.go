package unit

import (
	"slices"
	"strings"

	"etcd-rewind/manifest"
	"etcd-rewind/problem"
	"etcd-rewind/trust"
)

// transport are the sections of etcd's configuration file whose keys have flags
// with another name.
var transport = map[string]string{"client-transport-security": "", "peer-transport-security": "peer-"}

// configFile reads etcd's own configuration file (embed.ConfigFromFile in
// go.etcd.io/etcd/server/v3): flags and variables are ignored then.
func (f *follower) configFile(e *Etcd, at Setting) (map[string]Setting, error) {
	if why := at.text.unknown(); why != "" {
		return nil, problem.Coded(CodeUnknown, "write the value itself", "%s: %s is known only when etcd starts: %s", at.Place, at.As, trust.Clip(trust.Text(why), 80))
	}
	l, err := f.locate(nil, at)
	if err != nil {
		return nil, err
	}
	e.ConfigFile = l.Path
	file, err := f.file(l.Path)
	if err != nil {
		return nil, unreadable("etcd's configuration file", l.Path, err)
	}
	values, err := manifest.Scalars(file.Data)
	if err != nil {
		return nil, unreadable("etcd's configuration file", l.Path, err)
	}
	by := map[string]Setting{}
	for _, v := range values {
		name := v.Key
		if v.Under != "" {
			prefix, ok := transport[v.Under]
			if !ok {
				continue
			}
			name = prefix + v.Key
		}
		if lower := strings.ToLower(name); lower != name && slices.Contains(manifest.SettingsRead, lower) {
			return nil, problem.Coded(CodeSyntax, "write it in lower case", "%s: the key %s is written in another case than etcd's own", file.place(v.Start), trust.Clip(trust.Text(v.Key), 80))
		}
		if _, twice := by[name]; twice {
			return nil, problem.Coded(CodeSyntax, "remove one", "%s: the key %s is there twice", file.place(v.Start), trust.Clip(trust.Text(v.Key), 80))
		}
		stands := file.text(v.Start, v.End)
		by[name] = Setting{Name: name, Value: v.Value, As: trust.Clip(trust.Text(v.Key), 80) + ":", Place: file.place(v.Start), text: stands.as(v.Value)}
	}
	return by, nil
}
