//go:build tools

// Package versitygw pins a server that speaks S3. The imports keep it and what
// it needs in go.mod; the package itself is never built.
package versitygw

import (
	_ "github.com/versity/versitygw/cmd/versitygw"
)
