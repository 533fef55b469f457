package trust

import (
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
)

// Host is a name or an address that may be dialled or given to ssh: a DNS name
// (RFC 1123, with underscores, which people use) or an IP address, and nothing
// that a program could take for an option. The error says what is wrong.
func Host(s string) error {
	if net.ParseIP(strings.Trim(s, "[]")) != nil {
		return nil
	}
	bad := fmt.Errorf("%q is neither a DNS name nor an IP address", Clip(Text(s), 80))
	if s == "" || len(s) > 253 {
		return bad
	}
	for label := range strings.SplitSeq(strings.TrimSuffix(s, "."), ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return bad
		}
		for _, r := range label {
			if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_' {
				return bad
			}
		}
	}
	return nil
}

// URL reads a URL that may be dialled: http or https, a Host, a port when there
// is one, and nobody's name or password in it.
func URL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err == nil && len(s) <= 2048 && (u.Scheme == "https" || u.Scheme == "http") && u.User == nil && Host(u.Hostname()) == nil && Text(s) == s {
		if _, err := strconv.ParseUint(u.Port(), 10, 16); err == nil || u.Port() == "" {
			return u, nil
		}
	}
	return nil, fmt.Errorf("%q is not a URL with the name or the address of a host", Clip(Text(s), 80))
}
