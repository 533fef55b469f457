package manifest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"

	"etcd-rewind/problem"

	"go.yaml.in/yaml/v3"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
)

// A document is a manifest's text with a tree over it that knows at which byte each value begins.
type document struct {
	data []byte
	json bool // what kubelet reads as JSON, so everything written must be JSON
	root *node
}

type nodeKind int

const (
	scalarNode nodeKind = iota
	mappingNode
	sequenceNode
	aliasNode
)

type nodeStyle int

const (
	plainStyle nodeStyle = iota
	doubleQuoted
	singleQuoted
	literalBlock // | and >
	flowStyle    // { } and [ ]
	blockStyle
)

type node struct {
	kind   nodeKind
	style  nodeStyle
	start  int    // first byte of the value, after an anchor or a tag
	value  string // of a scalar; of an alias its name
	null   bool
	shared bool  // has an anchor that an alias refers to
	target *node // of an alias
	keys   []*node
	values []*node
	items  []*node
}

func parseDocument(data []byte) (*document, error) {
	d := &document{data: data}
	if bytes.HasPrefix(data, []byte{0xfe, 0xff}) || bytes.HasPrefix(data, []byte{0xff, 0xfe}) {
		return nil, cannotEdit("the file is UTF-16", "save it as UTF-8")
	}
	if utilyaml.IsJSONBuffer(data) {
		d.json = true
		w := jsonWalker{data: data, dec: json.NewDecoder(bytes.NewReader(data))}
		var err error
		if d.root, err = w.node(); err != nil {
			return nil, fmt.Errorf("read the manifest as JSON: %w", err)
		}
		return d, nil
	}
	var y yaml.Node
	if err := yaml.Unmarshal(data, &y); err != nil {
		return nil, fmt.Errorf("read the manifest as YAML: %w", err)
	}
	if y.Kind != yaml.DocumentNode || len(y.Content) != 1 {
		return nil, problem.Coded(CodeEmpty, "", "the file is empty")
	}
	w := yamlWalker{text: newText(data), seen: map[*yaml.Node]*node{}}
	root, err := w.node(y.Content[0])
	if err != nil {
		return nil, err
	}
	d.root = root
	return d, nil
}

// yamlWalker turns the parser's lines and columns, which count characters, into bytes.
type yamlWalker struct {
	text text
	seen map[*yaml.Node]*node
}

func (w *yamlWalker) node(y *yaml.Node) (*node, error) {
	n := &node{value: y.Value}
	w.seen[y] = n
	offset, err := w.text.offset(y.Line, y.Column)
	if err != nil {
		return nil, err
	}
	n.start = offset
	if y.Anchor != "" || y.Style&yaml.TaggedStyle != 0 {
		n.start = w.text.skipProperties(n.start)
	}
	switch y.Kind {
	case yaml.AliasNode:
		n.kind = aliasNode
		if n.target = w.seen[y.Alias]; n.target != nil {
			n.target.shared = true
		}
	case yaml.ScalarNode:
		n.kind = scalarNode
		n.null = y.Tag == "!!null"
		switch {
		case y.Style&yaml.DoubleQuotedStyle != 0:
			n.style = doubleQuoted
		case y.Style&yaml.SingleQuotedStyle != 0:
			n.style = singleQuoted
		case y.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0:
			n.style = literalBlock
		}
	case yaml.MappingNode, yaml.SequenceNode:
		n.style = blockStyle
		if y.Style&yaml.FlowStyle != 0 {
			n.style = flowStyle
		}
		n.kind = sequenceNode
		if y.Kind == yaml.MappingNode {
			n.kind = mappingNode
		}
		for i, child := range y.Content {
			c, err := w.node(child)
			if err != nil {
				return nil, err
			}
			switch {
			case n.kind == sequenceNode:
				n.items = append(n.items, c)
			case i%2 == 0:
				n.keys = append(n.keys, c)
			default:
				n.values = append(n.values, c)
			}
		}
	}
	return n, nil
}

type text struct {
	data  []byte
	lines []int // where each line begins
}

func newText(data []byte) text {
	t := text{data: data, lines: []int{0}}
	if bytes.HasPrefix(data, []byte("\xef\xbb\xbf")) {
		t.lines[0] = 3
	}
	for i := t.lines[0]; i < len(data); {
		if n := breakAt(data, i); n > 0 {
			i += n
			t.lines = append(t.lines, i)
		} else {
			i++
		}
	}
	return t
}

// breakAt gives the length of the line break at i, 0 when there is none. The parser takes more for one than "\n".
func breakAt(data []byte, i int) int {
	switch {
	case i >= len(data):
		return 0
	case data[i] == '\r' && i+1 < len(data) && data[i+1] == '\n':
		return 2
	case data[i] == '\r' || data[i] == '\n':
		return 1
	case bytes.HasPrefix(data[i:], []byte("\u0085")):
		return 2
	case bytes.HasPrefix(data[i:], []byte("\u2028")), bytes.HasPrefix(data[i:], []byte("\u2029")):
		return 3
	}
	return 0
}

// offset finds the byte at a line and a column, both counted from 1, the column in characters.
func (t text) offset(line, column int) (int, error) {
	if line < 1 || line > len(t.lines) {
		return 0, cannotEdit(fmt.Sprintf("line %d isn't in the file", line), "")
	}
	at := t.lines[line-1]
	for ; column > 1; column-- {
		if at >= len(t.data) {
			return 0, cannotEdit(fmt.Sprintf("line %d is shorter than expected", line), "")
		}
		_, size := utf8.DecodeRune(t.data[at:])
		at += size
	}
	return at, nil
}

// skipProperties goes past an anchor and a tag to the value itself.
func (t text) skipProperties(at int) int {
	for at < len(t.data) {
		switch c := t.data[at]; {
		case c == '&' || c == '!':
			for at < len(t.data) && !strings.ContainsRune(" \t\r\n", rune(t.data[at])) {
				at++
			}
		case strings.ContainsRune(" \t\r\n", rune(c)):
			at++
		default:
			return at
		}
	}
	return at
}

type jsonWalker struct {
	data []byte
	dec  *json.Decoder
}

func (w *jsonWalker) node() (*node, error) {
	start := int(w.dec.InputOffset())
	for start < len(w.data) && strings.ContainsRune(" \t\r\n:,", rune(w.data[start])) {
		start++
	}
	token, err := w.dec.Token()
	if err != nil {
		return nil, err
	}
	n := &node{start: start, kind: scalarNode}
	switch v := token.(type) {
	case json.Delim:
		n.style, n.kind = flowStyle, sequenceNode
		if v == '{' {
			n.kind = mappingNode
		}
		for w.dec.More() {
			child, err := w.node()
			if err != nil {
				return nil, err
			}
			if n.kind == sequenceNode {
				n.items = append(n.items, child)
				continue
			}
			value, err := w.node()
			if err != nil {
				return nil, err
			}
			n.keys, n.values = append(n.keys, child), append(n.values, value)
		}
		_, err := w.dec.Token()
		return n, err
	case string:
		n.style, n.value = doubleQuoted, v
	default:
		n.null = v == nil
		n.value = string(w.data[start:w.dec.InputOffset()])
	}
	return n, nil
}

// get gives a mapping's entry. Of the same key twice the last counts, as for kubelet. The index is -1 when there is none.
func (n *node) get(key string) int {
	for i := len(n.keys) - 1; i >= 0; i-- {
		k := n.keys[i]
		if k.kind == aliasNode && k.target != nil {
			k = k.target
		}
		if k.kind == scalarNode && k.value == key {
			return i
		}
	}
	return -1
}

// child follows a key whose value must be of a kind and written in place.
func (n *node) child(key string, kind nodeKind) (*node, error) {
	i := n.get(key)
	if i < 0 {
		if n.get("<<") >= 0 {
			return nil, cannotEdit(key+" comes from a merge (<<)", "write it out in full")
		}
		return nil, cannotEdit(key+" is not in the file", "")
	}
	v := n.values[i]
	if v.kind == aliasNode {
		return nil, cannotEdit(fmt.Sprintf("%s is an alias (*%s)", key, v.value), "write it out in full")
	}
	if v.kind != kind {
		return nil, cannotEdit(key+" is not written as expected", "")
	}
	if v.shared {
		return nil, cannotEdit(key+" has an anchor, and an alias elsewhere would change with it", "write both out in full")
	}
	return v, nil
}

// end gives the byte after a scalar that is written on the spot, not as a block.
func (d *document) end(n *node) (int, error) {
	lost := func() (int, error) {
		return 0, cannotEdit("the value can't be found in the text", "write it on one line")
	}
	rest := d.data[n.start:]
	switch {
	case n.kind == aliasNode:
		if !bytes.HasPrefix(rest, []byte("*"+n.value)) {
			return lost()
		}
		return n.start + 1 + len(n.value), nil
	case n.kind != scalarNode:
		return lost()
	case n.style == doubleQuoted:
		if len(rest) == 0 || rest[0] != '"' {
			return lost()
		}
		for i := 1; i < len(rest); i++ {
			switch rest[i] {
			case '\\':
				i++
			case '"':
				return n.start + i + 1, nil
			}
		}
		return lost()
	case n.style == singleQuoted:
		if len(rest) == 0 || rest[0] != '\'' {
			return lost()
		}
		for i := 1; i < len(rest); i++ {
			if rest[i] != '\'' {
				continue
			}
			if i+1 < len(rest) && rest[i+1] == '\'' {
				i++
				continue
			}
			return n.start + i + 1, nil
		}
		return lost()
	case n.style == literalBlock:
		return lost()
	case n.value == "":
		// Nothing is written; it can only be filled in right behind the colon.
		if n.start == 0 || d.data[n.start-1] != ':' {
			return lost()
		}
		return n.start, nil
	case !bytes.HasPrefix(rest, []byte(n.value)):
		return lost()
	}
	return n.start + len(n.value), nil
}
