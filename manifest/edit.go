package manifest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"etcd-rewind/problem"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

func cannotEdit(cause, hint string) error {
	if hint == "" {
		hint = "edit the file by hand"
	}
	return problem.Coded(CodeCannotEdit, hint, "the manifest can't be edited in place: %s", cause)
}

// SetHostPath changes the hostPath.path of a volume to an absolute path, and no other byte: comments, order, quoting and
// line ends stay. The result is read back and compared with what was meant; when they differ in anything there is an error
// and no result. Data is left alone.
func SetHostPath(data []byte, volume, to string) ([]byte, error) {
	if !path.IsAbs(to) || !printable(to) || slices.Contains(strings.Split(to, "/"), "..") {
		return nil, problem.Coded(CodeArgument, "", "%q can't be a hostPath: it must be absolute, without '..' and control characters", to)
	}
	pod, err := decodePod(data)
	if err != nil {
		return nil, err
	}
	index := -1
	for i, v := range pod.Spec.Volumes {
		if v.Name != volume {
			continue
		}
		if index >= 0 {
			return nil, cannotEdit(fmt.Sprintf("two volumes are named %q", volume), "remove one")
		}
		index = i
	}
	if index < 0 || pod.Spec.Volumes[index].HostPath == nil {
		return nil, problem.Coded(CodeNotHostPath, "", "the manifest has no hostPath volume named %q", volume)
	}
	if pod.Spec.Volumes[index].HostPath.Path == to {
		return bytes.Clone(data), nil
	}

	d, err := parseDocument(data)
	if err != nil {
		return nil, err
	}
	hostPath, err := d.volume(index)
	if err != nil {
		return nil, err
	}
	i := hostPath.get("path")
	if i < 0 {
		return nil, cannotEdit("hostPath.path is not written in place", "write it out")
	}
	out, err := d.replace(hostPath.values[i], to, true)
	if err != nil {
		return nil, err
	}
	return verified(data, out, func(p *corev1.Pod) {
		p.Spec.Volumes[index].HostPath.Path = to
	}, "spec", "volumes", index, "hostPath", "path", to)
}

func (d *document) volume(index int) (*node, error) {
	spec, err := d.root.child("spec", mappingNode)
	if err != nil {
		return nil, err
	}
	volumes, err := spec.child("volumes", sequenceNode)
	if err != nil {
		return nil, err
	}
	if index >= len(volumes.items) {
		return nil, cannotEdit("the volume can't be found in the text", "")
	}
	v := volumes.items[index]
	if v.kind != mappingNode || v.shared {
		return nil, cannotEdit("the volume is shared with another place (anchor or alias)", "write it out in full")
	}
	return v.child("hostPath", mappingNode)
}

// Annotate sets metadata.annotations[key]. It replaces the value that is there, or adds one entry, or the map with one
// entry, and changes nothing else; the result is checked as in SetHostPath. Setting what is already there changes nothing.
func Annotate(data []byte, key, value string) ([]byte, error) {
	if msgs := validation.IsQualifiedName(strings.ToLower(key)); msgs != nil {
		return nil, problem.Coded(CodeArgument, "", "%q can't be the name of an annotation: %s", key, msgs[0])
	}
	if !utf8.ValidString(value) {
		return nil, problem.Coded(CodeArgument, "", "the annotation's value is not valid UTF-8")
	}
	pod, err := decodePod(data)
	if err != nil {
		return nil, err
	}
	if old, ok := pod.Annotations[key]; ok && old == value {
		return bytes.Clone(data), nil
	}
	d, err := parseDocument(data)
	if err != nil {
		return nil, err
	}
	out, err := d.annotate(key, value)
	if err != nil {
		return nil, err
	}
	return verified(data, out, func(p *corev1.Pod) {
		if p.Annotations == nil {
			p.Annotations = map[string]string{}
		}
		p.Annotations[key] = value
	}, "metadata", "annotations", key, value)
}

func (d *document) annotate(key, value string) ([]byte, error) {
	metadata, err := d.root.child("metadata", mappingNode)
	if err != nil {
		return nil, err
	}
	const name = "annotations"
	entry := d.key(key) + ": " + quote(value)
	i := metadata.get(name)
	if i < 0 {
		if metadata.get("<<") >= 0 {
			return nil, cannotEdit("metadata has a merge (<<), which may hold annotations", "write it out in full")
		}
		if metadata.style == flowStyle {
			return d.addToFlow(metadata, d.key(name)+": {"+entry+"}")
		}
		return d.addToBlock(d.root.keys[d.root.get("metadata")], metadata, func(indent, eol string) string {
			step := "  "
			// The width the file itself uses, if it is to be seen here.
			if keyIndent, ok := d.indent(d.root.keys[0]); ok && len(indent) > len(keyIndent) {
				step = indent[len(keyIndent):]
			}
			return indent + name + ":" + eol + indent + step + entry + eol
		})
	}
	if v := metadata.values[i]; v.kind == scalarNode && v.null {
		return d.splice(v, "{"+entry+"}")
	}
	annotations, err := metadata.child(name, mappingNode)
	if err != nil {
		return nil, err
	}
	if j := annotations.get(key); j >= 0 {
		return d.replace(annotations.values[j], value, false)
	}
	if annotations.style == flowStyle {
		return d.addToFlow(annotations, entry)
	}
	return d.addToBlock(metadata.keys[i], annotations, func(indent, eol string) string {
		return indent + entry + eol
	})
}

// replace writes another string in a scalar's place, quoted as the old one was. Plain text stays plain only for what can't
// be taken for anything but a path.
func (d *document) replace(n *node, to string, isPath bool) ([]byte, error) {
	if n.shared {
		return nil, cannotEdit("the value has an anchor, and an alias elsewhere would change with it", "write both out in full")
	}
	written := quote(to)
	switch {
	case n.style == singleQuoted && printable(to):
		written = "'" + strings.ReplaceAll(to, "'", "''") + "'"
	case n.style == doubleQuoted || d.json:
	case n.style == literalBlock:
		return d.replaceBlock(n, to)
	case isPath && plainPath.MatchString(to):
		written = to
	}
	return d.splice(n, written)
}

var plainPath = regexp.MustCompile(`^/[A-Za-z0-9/._+@-]*$`)

func (d *document) splice(n *node, written string) ([]byte, error) {
	end, err := d.end(n)
	if err != nil {
		return nil, err
	}
	if end == n.start {
		written = " " + written // an absent value: right behind its colon
	}
	return d.cut(n.start, end, written), nil
}

func (d *document) cut(start, end int, written string) []byte {
	return slices.Concat(d.data[:start], []byte(written), d.data[end:])
}

// replaceBlock changes the single line of a block scalar such as "|-". With another chomping than "-" the value ends in a
// line break, which no path wants: what comes out then fails the comparison.
func (d *document) replaceBlock(n *node, to string) ([]byte, error) {
	at := n.start
	old := strings.TrimRight(n.value, "\n")
	for at < len(d.data) && breakAt(d.data, at) == 0 {
		at++
	}
	at += breakAt(d.data, at)
	for at < len(d.data) && d.data[at] == ' ' {
		at++
	}
	if old == "" || !bytes.HasPrefix(d.data[at:], []byte(old)) || !printable(to) {
		return nil, cannotEdit("the value is a block of several lines", "write it on one line")
	}
	return d.cut(at, at+len(old), to), nil
}

// addToFlow puts an entry first into { }, spaced as the entries there are.
func (d *document) addToFlow(m *node, entry string) ([]byte, error) {
	if m.start >= len(d.data) || d.data[m.start] != '{' {
		return nil, cannotEdit("the map can't be found in the text", "")
	}
	at := m.start + 1
	if len(m.keys) == 0 {
		return d.cut(at, at, entry), nil
	}
	gap := string(d.data[at:m.keys[0].start])
	if strings.Trim(gap, " \t\r\n") != "" || gap == "" && !d.json {
		// A comment, an anchor or the like before the first key.
		return d.cut(at, at, entry+", "), nil
	}
	if gap == "" {
		entry = strings.Replace(entry, `": `, `":`, 1)
	}
	at = m.keys[0].start
	return d.cut(at, at, entry+","+gap), nil
}

// addToBlock puts lines first into a map, right under the line of the key that holds it.
func (d *document) addToBlock(key, m *node, lines func(indent, eol string) string) ([]byte, error) {
	indent, ok := d.indent(m.keys[0])
	at := key.start
	for at < len(d.data) && breakAt(d.data, at) == 0 {
		at++
	}
	size := breakAt(d.data, at)
	if !ok || size == 0 || m.keys[0].start < at+size {
		return nil, cannotEdit("the map is written in an unusual way", "")
	}
	eol := string(d.data[at : at+size])
	return d.cut(at+size, at+size, lines(indent, eol)), nil
}

// indent gives the spaces before the first thing in a line.
func (d *document) indent(n *node) (string, bool) {
	start := n.start
	for start > 0 && d.data[start-1] == ' ' {
		start--
	}
	bom := start == 3 && bytes.HasPrefix(d.data, []byte("\xef\xbb\xbf"))
	if start > 0 && !bom && d.data[start-1] != '\n' && d.data[start-1] != '\r' {
		return "", false
	}
	return string(d.data[start:n.start]), true
}

var plainKey = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9.-]*/[A-Za-z][A-Za-z0-9._-]*$`)

func (d *document) key(key string) string {
	if !d.json && (plainKey.MatchString(key) || key == "annotations" || key == "dataDir") {
		return key
	}
	return quote(key)
}

// quote writes a string so that JSON and YAML both read it.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < 0x10000 && !unicode.IsPrint(r):
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

func printable(s string) bool {
	return utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0
}

// verified reads both texts as kubelet does and gives the second back if they differ in exactly what was meant: as Pods
// and, for the fields a Pod doesn't know, as plain maps. Where ends in the value that place must have.
func verified(before, after []byte, change func(*corev1.Pod), where ...any) ([]byte, error) {
	differs := func(what string) ([]byte, error) {
		return nil, cannotEdit("an edit would change more than was meant ("+what+")", "")
	}
	want, err := decodePod(before)
	if err != nil {
		return nil, err
	}
	change(want)
	got, err := decodePod(after)
	if err != nil {
		return differs("the result can't be read: " + err.Error())
	}
	if !reflect.DeepEqual(want, got) {
		return differs("the result is another pod")
	}
	return verifiedTree(before, after, where...)
}

func decodeTree(data []byte) (any, error) {
	asJSON, err := toJSON(data)
	if err != nil {
		return nil, err
	}
	var tree any
	dec := json.NewDecoder(bytes.NewReader(asJSON))
	dec.UseNumber()
	err = dec.Decode(&tree)
	return tree, err
}

// set changes one value in a tree of maps and lists, and makes the maps that aren't there.
func set(tree any, where []any, value any) error {
	for i, step := range where {
		last := i == len(where)-1
		switch at := step.(type) {
		case int:
			list, ok := tree.([]any)
			if !ok || at >= len(list) {
				return fmt.Errorf("no list at %v", where[:i])
			}
			tree = list[at]
		case string:
			m, ok := tree.(map[string]any)
			if !ok {
				return fmt.Errorf("no map at %v", where[:i])
			}
			if last {
				m[at] = value
				return nil
			}
			if m[at] == nil {
				m[at] = map[string]any{}
			}
			tree = m[at]
		}
	}
	return nil
}
