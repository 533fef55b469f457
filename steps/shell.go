package steps

import (
	"bytes"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"etcd-rewind/trust"
)

// Flags are the options that the person gave to reach this node, as arguments:
// a command that is printed for later needs them, too.
func (o Options) Flags() []string {
	var flags []string
	for _, f := range []struct {
		name, value string
		path        bool
	}{
		{"--kubelet-config", o.KubeletConfig, true},
		{"--manifests", o.Manifests, true},
		{"--cri", o.CRI, false},
		{"--state-dir", o.StateDir, true},
	} {
		if f.value == "" {
			continue
		}
		if abs, err := filepath.Abs(f.value); err == nil && f.path {
			f.value = abs
		}
		flags = append(flags, f.name, f.value)
	}
	return flags
}

// Command is the command that does something with a run of this node, "undo"
// or "resume --fleet". run is "" where none is named; flags are those that
// reach the node.
func Command(verb, run string, flags []string) string {
	words := strings.Fields(verb)
	if run != "" {
		words = append(words, run)
	}
	return trust.Shell("etcd-rewind %s", append(words, flags...))
}

func (t Terms) command(verb, run string) string { return Command(verb, run, t.Flags) }

// Command is the command that does something with this plan's run. A command
// that restarts kubelet, other than the default, is given again: a journal's
// word alone is not enough to run it.
func (p *Plan) Command(verb string) string {
	flags := p.Flags
	if r := p.Restore; r != nil && r.KubeletRestart != "" && r.KubeletRestart != defaultKubeletRestart {
		flags = append(slices.Clip(flags), "--kubelet-restart-command", r.KubeletRestart)
	}
	return Command(verb, p.Run, flags)
}

// Command is the command that does something with this run, on all nodes that
// it was made on.
func (r RunInfo) Command(verb string) string {
	if r.Fleet {
		verb += " --fleet"
	}
	return Command(verb, r.Run, r.flags)
}

func mv(from, to string) string { return trust.Shell("mv -nT %s %s", from, to) }

// sedFor is a GNU sed command, on one line, that turns old into new in file:
// the lines between the first and the last that differ are replaced. It is ""
// when there is nothing to change.
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
	cmd := "sed -i"
	for part := range strings.SplitSeq(script, "\n") {
		cmd = trust.Shell("%s -e %s", trust.Raw(cmd), part)
	}
	return trust.Shell("%s %s", trust.Raw(cmd), file)
}
