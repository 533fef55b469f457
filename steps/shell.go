package steps

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"etcd-rewind/manifest"
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
		{"--etcd-unit", o.EtcdUnit, false},
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

// sedFor is a GNU sed command, on one line, that turns old into new in file. It
// is "" when there is nothing to change.
func sedFor(old, new []byte, file string) string {
	var parts []string // each is an -e; those of one command end in \ but for the last
	for _, c := range manifest.Changes(old, new) {
		first, last := c.After+1, c.After+c.Gone
		var text []string
		for _, line := range c.Come {
			text = append(text, strings.ReplaceAll(strings.TrimSuffix(line, "\n"), `\`, `\\`))
		}
		switch {
		case len(text) == 0:
			parts = append(parts, fmt.Sprintf("%d,%dd", first, last))
			continue
		case c.Gone == 0 && c.After == 0:
			parts = append(parts, `1i\`)
		case c.Gone == 0:
			parts = append(parts, fmt.Sprintf(`%da\`, c.After))
		case c.Gone == 1:
			parts = append(parts, fmt.Sprintf(`%dc\`, last))
		default:
			parts = append(parts, fmt.Sprintf(`%d,%dc\`, first, last))
		}
		parts = append(parts, strings.Split(strings.Join(text, "\\\n"), "\n")...)
	}
	if len(parts) == 0 {
		return ""
	}
	cmd := "sed -i"
	for _, part := range parts {
		cmd = trust.Shell("%s -e %s", trust.Raw(cmd), part)
	}
	return trust.Shell("%s %s", trust.Raw(cmd), file)
}
