package steps

import (
	"bytes"
	"fmt"
	"strings"
)

// quote makes s one word for a POSIX shell.
func quote(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_-./:=,@%+", r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

func mv(from, to string) string { return fmt.Sprintf("mv -nT %s %s", quote(from), quote(to)) }

// sedFor is a GNU sed command that turns old into new in file: the lines
// between the first and the last that differ are replaced. It is "" when there
// is nothing to change.
func sedFor(old, new []byte, file string) string {
	a, b := bytes.SplitAfter(old, []byte("\n")), bytes.SplitAfter(new, []byte("\n"))
	head := 0
	for head < len(a) && head < len(b) && bytes.Equal(a[head], b[head]) {
		head++
	}
	tail := 0
	for tail < len(a)-head && tail < len(b)-head && bytes.Equal(a[len(a)-1-tail], b[len(b)-1-tail]) {
		tail++
	}
	gone, come := a[head:len(a)-tail], b[head:len(b)-tail]
	if len(gone) == 0 && len(come) == 0 {
		return ""
	}
	var text []string
	for _, line := range come {
		l := strings.TrimSuffix(string(line), "\n")
		text = append(text, strings.ReplaceAll(l, `\`, `\\`))
	}
	body := strings.Join(text, "\\\n")
	var script string
	switch {
	case len(come) == 0:
		script = fmt.Sprintf("%d,%dd", head+1, head+len(gone))
	case len(gone) == 0 && head == 0:
		script = `1i\` + body
	case len(gone) == 0:
		script = fmt.Sprintf(`%da\%s`, head, body)
	default:
		script = fmt.Sprintf(`%d,%dc\%s`, head+1, head+len(gone), body)
		if len(gone) == 1 {
			script = fmt.Sprintf(`%dc\%s`, head+1, body)
		}
	}
	return fmt.Sprintf("sed -i %s %s", quote(script), quote(file))
}
