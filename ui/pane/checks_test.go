package pane

import (
	"strings"
	"testing"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"etcd-rewind/restore"
	"etcd-rewind/steps"
	"etcd-rewind/ui/text"
)

// An advisory warning is shown with its hint, asks for nothing and blocks nothing: on
// the screen and in lines of text.
func TestAnAdvisoryWarningBlocksNothing(t *testing.T) {
	verdicts := []steps.Verdict{
		{Check: "snapshot-record", Title: "Backup's record", Level: steps.Warn, Cause: "nobody knows who made it", Hint: "copy backup.key", Advisory: true},
		{Check: "snapshot-hash", Title: "Snapshot", Level: steps.Pass, Cause: "intact"},
	}
	var c Checks
	c.Accepted = map[string]steps.Verdict{}
	c.Set([]restore.Checked{{Verdicts: verdicts}}, nil)
	look := text.Look{}
	for range 2 {
		lines, _, _ := c.View(look, time.Time{}, "c", 80, 20)
		for _, all := range []string{strings.Join(lines, "\n"), strings.Join(text.Verdicts(verdicts, false, 80), "\n")} {
			if !strings.Contains(all, "nobody knows who made it") || !strings.Contains(all, "copy backup.key") || strings.Contains(all, "overrid") || strings.Contains(all, "blocked") {
				t.Errorf("it says\n%s", all)
			}
		}
		if _, note := c.Press(look, tea.KeyMsg{Type: tea.KeySpace}); note != "" || len(c.Names()) > 0 {
			t.Errorf("space overrides it: %s %v", note, c.Names())
		}
	}
	if w, note := c.Press(look, tea.KeyMsg{Type: tea.KeyEnter}); w != On || note != "" {
		t.Errorf("enter leads to %v: %s", w, note)
	}
}
