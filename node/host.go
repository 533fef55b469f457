package node

import (
	"fmt"
	"os"
	"strings"
)

// Hostname is this machine's name as kubelet uses it for the node's name:
// trimmed and in lower case (k8s.io/component-helpers/node/util, GetHostname).
func Hostname() (string, error) {
	name, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("cannot read the host's name: %w", err)
	}
	name = strings.ToLower(strings.TrimSpace(name))
	if name == "" {
		return "", fmt.Errorf("the host's name is empty")
	}
	return name, nil
}

// IsRoot reports whether this process has root's rights.
func IsRoot() bool { return os.Geteuid() == 0 }
