//go:build tools

// Package containerd pins the programs of a container runtime. The imports keep
// them and what they need in go.mod; the package itself is never built.
package containerd

import (
	_ "github.com/containerd/containerd/v2/cmd/containerd"
	_ "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2"
	_ "github.com/containerd/containerd/v2/cmd/ctr"
)
