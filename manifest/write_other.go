//go:build !linux

package manifest

func renameNoReplace(from, to string) error { return renameOrLink(from, to) }

func renameExchange(_, _ string) error { return ErrNoExchange }

func keepAttribute(_, _, _ string) error { return nil }
