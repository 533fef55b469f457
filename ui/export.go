package ui

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	tea "github.com/charmbracelet/bubbletea"

	"etcd-rewind/trust"
)

// exportWidth is what text in a file is wrapped at.
const exportWidth = 120

type exportedMsg struct {
	path string
	err  error
}

// export writes lines to a new file: in the run's directory once there is one,
// before that in the working directory.
func (m *model) export(what string, lines []string) tea.Cmd {
	runDir, name := m.run.RunDir(), "etcd-rewind-"+what+"-"+m.now().UTC().Format("20060102-150405")
	return func() tea.Msg {
		dir := runDir
		if st, err := os.Lstat(dir); dir == "" || err != nil || !st.IsDir() {
			wd, err := os.Getwd()
			if err != nil {
				return exportedMsg{err: err}
			}
			dir = wd
		}
		path, err := writeNew(dir, name, lines)
		return exportedMsg{path, err}
	}
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

func (m *model) exported(msg exportedMsg) {
	if m.note = "Written to " + trust.Text(msg.path); msg.err != nil {
		m.note = "Not written: " + trust.Text(msg.err.Error())
	}
}
