//go:build !linux

package snapshot

import "errors"

func setLabel(string, string) error {
	return errors.New("SELinux is only on Linux")
}
