package manifest

import (
	"bytes"
	"encoding/json"
	"path"
	"slices"
	"strconv"
	"strings"

	"etcd-rewind/problem"
)

// Scalar is a value at the top of a YAML file, or one below that, with where it stands.
type Scalar struct {
	Under, Key string // Under is "" at the top
	Value      string // "" for one that is empty, or is no scalar
	Start, End int    // in the file's bytes, with its quotes
}

// Scalars reads the scalars at the top of a YAML or JSON file and one below that, in their order: a configuration file's.
func Scalars(data []byte) ([]Scalar, error) {
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, nil
	}
	tree, err := decodeTree(data)
	if err != nil {
		return nil, problem.Coded(CodeNotYAML, "", "not valid YAML: %w", err)
	}
	values, ok := tree.(map[string]any)
	if !ok {
		return nil, problem.Coded(CodeNotYAML, "", "it is not a map of settings")
	}
	d, err := parseDocument(data)
	if err != nil {
		return nil, err
	}
	return d.scalars(d.root, "", values)
}

func (d *document) scalars(n *node, under string, values map[string]any) (all []Scalar, err error) {
	for i, k := range n.keys {
		v := n.values[i]
		if k.kind != scalarNode || k.value == "<<" || v.kind == aliasNode {
			return nil, cannotEdit("it has an alias or a merge", "write it out in full")
		}
		if below, ok := values[k.value].(map[string]any); ok && v.kind == mappingNode && under == "" {
			more, err := d.scalars(v, k.value, below)
			if err != nil {
				return nil, err
			}
			all = append(all, more...)
			continue
		}
		s := Scalar{Under: under, Key: k.value, Start: v.start, End: v.start}
		switch is := values[k.value].(type) {
		case string:
			s.Value = is
		case json.Number:
			s.Value = is.String()
		case bool:
			s.Value = strconv.FormatBool(is)
		}
		if s.End, err = d.end(v); err != nil {
			s.End = v.start
		}
		all = append(all, s)
	}
	return all, nil
}

// SetPath changes a path at the top of a YAML or JSON file and no other byte, as [SetHostPath] does with a manifest.
func SetPath(data []byte, key, to string) ([]byte, error) {
	if !path.IsAbs(to) || !printable(to) || slices.Contains(strings.Split(to, "/"), "..") {
		return nil, problem.Coded(CodeArgument, "", "%q must be absolute, without '..' and control characters", to)
	}
	d, err := parseDocument(data)
	if err != nil {
		return nil, err
	}
	i := d.root.get(key)
	if i < 0 {
		return nil, cannotEdit(key+" is not in the file", "")
	}
	out, err := d.replace(d.root.values[i], to, true)
	if err != nil {
		return nil, err
	}
	return verifiedTree(data, out, key, to)
}
