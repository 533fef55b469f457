package ui

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"etcd-rewind/ui/text"

	tea "github.com/charmbracelet/bubbletea"
)

// exportWidth is what text in a file is wrapped at.
const exportWidth = 120

type exportedMsg struct {
	path string
	err  error
}

// export writes what is on the screen to a file, whole; nil where there is
// nothing to export.
func (m *model) export() tea.Cmd {
	what, lines := "", []string(nil)
	switch {
	case m.over != nil && m.over.kind == logsOverlay:
		what, lines = m.over.Name()+"-log", m.over.Lines
	case m.over != nil && m.over.kind == commandsOverlay:
		what, lines = "commands", append([]string{commandsTitle(m.now()), ""}, m.run.CommandLog()...)
	case m.over != nil || m.typing():
		return nil
	case m.screen == diffScreen && m.diff.Result != nil:
		what, lines = "diff", text.Comparison(m.diff.Result, text.DiffOptions{Fields: true, List: true}, m.now(), exportWidth)
	case m.screen == owedScreen && m.owed.Found() != nil:
		what, lines = "settle", text.Owed(m.owed.Found(), exportWidth)
	case m.screen == planScreen && m.plan.Plan != nil:
		what = "plan"
		for _, p := range m.plan.All {
			lines = append(append(lines, text.PlanWhole(p, exportWidth)...), "")
		}
	default:
		return nil
	}
	dir, name := m.run.RunDir(), "etcd-rewind-"+what+"-"+m.now().UTC().Format("20060102-150405")
	return func() tea.Msg {
		path, err := write(dir, name, lines)
		return exportedMsg{path, err}
	}
}

// commandsTitle is that of the commands so far.
func commandsTitle(now time.Time) string {
	return "Done so far, and how to do it by hand (times in " + now.Local().Format("MST") + ")"
}

// write writes lines to a new file: in the run's directory once there is one,
// before that in the working directory.
func write(dir, name string, lines []string) (path string, err error) {
	if st, err := os.Lstat(dir); dir == "" || err != nil || !st.IsDir() {
		if dir, err = os.Getwd(); err != nil {
			return "", err
		}
	}
	return writeNew(dir, name, lines)
}

// writeNew writes a file that isn't there yet, readable by this user alone. No
// file is overwritten and no link followed, wherever the directory is.
func writeNew(dir, name string, lines []string) (path string, err error) {
	for n := 1; n < 100; n++ {
		path = filepath.Join(dir, name+".txt")
		if n > 1 {
			path = filepath.Join(dir, fmt.Sprintf("%s-%d.txt", name, n))
		}
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, 0o600)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return "", err
		}
		_, err = f.WriteString(strings.Join(lines, "\n") + "\n")
		return path, errors.Join(err, f.Close())
	}
	return "", fmt.Errorf("%s: there are 99 such files already", path)
}
