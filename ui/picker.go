package ui

import (
	"context"
	"os"
	"path/filepath"
	"strings"

	"etcd-rewind/snapshot"
	"etcd-rewind/ui/pane"
)

// picker is the list of snapshots, and the inspection that is under way.
type picker struct {
	pane.Picker
	cancel context.CancelFunc // nil for none
	path   string             // what it looks at
}

type (
	candidatesMsg   []snapshot.Candidate
	elsewhereMsg    []snapshot.Candidate
	askingMsg       string
	askedMsg        struct{} // all places have answered
	unlockedMsg     struct{ err error }
	lookProgressMsg struct {
		path        string
		done, total int64
	}
	lookedMsg struct {
		path string
		info *snapshot.Info
		err  error
	}
	completedMsg struct {
		typed, longest string
		matches        []string
	}
)

func (msg lookProgressMsg) Replaces(older any) (yes, further bool) {
	last, ok := older.(lookProgressMsg)
	return ok && msg.path == last.path, false
}

func newPicker(preselected string) picker {
	if preselected != "" {
		preselected = absolute(preselected)
	}
	return picker{Picker: pane.NewPicker(preselected)}
}

// looked takes what is in a snapshot; it says whether the user waits for it to be
// chosen.
func (p *picker) looked(msg lookedMsg) bool {
	if p.cancel != nil && msg.path == p.path {
		p.cancel()
		p.cancel = nil
	}
	return p.Looked(msg.path, msg.info, msg.err)
}

func (p *picker) busy() bool { return p.Searching || p.cancel != nil }

// pause breaks the inspection off; it begins again when the screen comes back.
func (p *picker) pause() {
	if p.cancel != nil {
		p.cancel()
	}
	p.Wait()
}

// absolute is a path in any working directory; what lies elsewhere has a URL.
func absolute(path string) string {
	if strings.Contains(path, "://") || path == "latest" {
		return path
	}
	if rest, ok := strings.CutPrefix(path, "~/"); ok {
		if home, err := os.UserHomeDir(); err == nil {
			path = filepath.Join(home, rest)
		}
	}
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

// complete finds what a typed path may go on with: the longest common start,
// and the names when there is more than one.
func complete(typed string) completedMsg {
	msg := completedMsg{typed: typed, longest: typed}
	dir, start := filepath.Split(typed)
	look := dir
	if look == "" {
		look = "."
	}
	items, err := os.ReadDir(absolute(look))
	if err != nil {
		return msg
	}
	for _, it := range items {
		name := it.Name()
		if !strings.HasPrefix(name, start) || (start == "" && strings.HasPrefix(name, ".")) {
			continue
		}
		if st, err := os.Stat(filepath.Join(absolute(look), name)); err == nil && st.IsDir() {
			name += "/"
		}
		msg.matches = append(msg.matches, name)
	}
	if len(msg.matches) == 0 {
		return msg
	}
	common := msg.matches[0]
	for _, n := range msg.matches[1:] {
		for !strings.HasPrefix(n, common) {
			common = common[:len(common)-1]
		}
	}
	msg.longest = dir + strings.ToValidUTF8(common, "")
	if len(msg.matches) == 1 {
		msg.matches = nil
	}
	return msg
}
