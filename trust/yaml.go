package trust

import (
	"bytes"
	"fmt"

	"go.yaml.in/yaml/v3"
)

// maxYAML is what a YAML text may say with its aliases followed, in bytes. It
// is above what any manifest or configuration has, kubelet's own limit for a
// manifest (10 MiB).
const maxYAML = 10 << 20

// YAML is an error when a text would become too large as soon as its aliases
// are followed: 50 kB can say 300 MB. The decoders limit how many nodes that
// makes, not how long they are. Call it before any of them.
func YAML(text []byte) error {
	if len(text) > maxYAML {
		return fmt.Errorf("it has %d bytes, more than the %d that are read", len(text), maxYAML)
	}
	if !bytes.ContainsRune(text, '*') {
		return nil // no alias
	}
	var root yaml.Node
	if yaml.Unmarshal(text, &root) != nil {
		return nil // the decoder says what is wrong
	}
	if (yamlSizes{}).of(&root) > maxYAML {
		return fmt.Errorf("with its aliases (*) followed it has more than %d bytes", maxYAML)
	}
	return nil
}

// yamlSizes has each node's size with its aliases followed; of one that is being
// measured more than is allowed, as it would hold itself.
type yamlSizes map[*yaml.Node]int

func (s yamlSizes) of(n *yaml.Node) int {
	if n == nil {
		return 0
	}
	if size, known := s[n]; known {
		return size
	}
	s[n] = maxYAML + 1
	size := 1 + len(n.Value)
	if n.Kind == yaml.AliasNode {
		size = s.of(n.Alias)
	}
	for _, c := range n.Content {
		if size += s.of(c); size > maxYAML {
			break
		}
	}
	s[n] = min(size, maxYAML+1)
	return s[n]
}
