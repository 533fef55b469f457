//go:build tools

// Package etcd pins etcd's programs. The imports keep them and what they need
// in go.mod; the package itself is never built.
package etcd

import (
	_ "go.etcd.io/etcd/etcdctl/v3"
	_ "go.etcd.io/etcd/etcdutl/v3"
	_ "go.etcd.io/etcd/server/v3"
)
