package pane

import (
	"path/filepath"
	"strconv"
	"strings"

	tea "github.com/charmbracelet/bubbletea"

	"etcd-rewind/steps"
	"etcd-rewind/trust"
	"etcd-rewind/ui/text"
)

// Choices are what the user decides of a restore besides the snapshot, and the
// line into which one of them is typed.
type Choices struct {
	steps.Choices
	typing *Field
	bump   bool // it is the revision's; else the data directory
}

// ChangeKeys are the keys of the choices that there are.
func ChangeKeys(there bool) string {
	if there {
		return "s c b"
	}
	return "d n s c b"
}

// Key takes the key of a choice. shown is what the plan on the screen makes of
// them, nil where there is none; data that is there already is taken as it is.
// changed says that the checks and the plan are of before, and note what changed.
func (c *Choices) Key(l text.Look, name string, shown *steps.RestoreFacts, there bool) (changed bool, note string, ok bool) {
	if there && (name == "d" || name == "n") {
		return false, "", false
	}
	switch name {
	case "d":
		value := c.DataDir
		if shown != nil {
			value = shown.DataDir
		}
		if c.Swap || shown != nil && shown.Aside != "" {
			value = "swap"
		}
		c.typing, c.bump = NewField(l, value), false
	case "n":
		value := ""
		if c.Bump != nil {
			value = strconv.FormatUint(*c.Bump, 10)
		} else if shown != nil {
			value = strconv.FormatUint(shown.Bump, 10)
		}
		c.typing, c.bump = NewField(l, value), true
	case "s":
		if c.Stop == steps.StopGraceful {
			c.Stop = steps.StopNow
			return true, "kube-apiserver is stopped at once, over CRI.", true
		}
		c.Stop = steps.StopGraceful
		return true, "kube-apiserver is stopped gracefully: up to 30 s more.", true
	case "c":
		c.KeepControllers = !c.KeepControllers
		if c.KeepControllers {
			return true, "Controllers are left running.", true
		}
		return true, "Controllers are restarted.", true
	case "b":
		c.NoSave = !c.NoSave
		if c.NoSave {
			return true, "No snapshot of the current cluster; its data directory is kept in any case.", true
		}
		return true, "A snapshot of the current cluster is saved before the outage.", true
	default:
		return false, "", false
	}
	return false, "", true
}

// Type takes a key of the line; nothing in it means the default.
func (c *Choices) Type(k tea.KeyMsg) (changed bool, note string) {
	switch k.String() {
	case "esc":
		c.typing = nil
		return false, ""
	case "enter":
	default:
		c.typing.Key(k)
		return false, ""
	}
	value := strings.TrimSpace(c.typing.Value())
	switch {
	case !c.bump && value == "swap":
		c.DataDir, c.Swap = "", true
	case !c.bump && value != "" && !filepath.IsAbs(value):
		return false, "The data directory has to be an absolute path, or swap."
	case !c.bump:
		c.DataDir, c.Swap = value, false
	case value == "":
		c.Bump = nil
	default:
		n, err := strconv.ParseUint(value, 10, 62)
		if err != nil {
			return false, "The revision bump has to be a whole number; 0 turns it off, nothing means the default."
		}
		c.Bump = &n
	}
	c.typing = nil
	return true, ""
}

// Rows are the choices with the key that changes each.
func (c *Choices) Rows(l text.Look, shown *steps.RestoreFacts, there bool, w int) []string {
	dir, bump := "beside the old one", "beyond the live revision"
	if shown != nil {
		dir = trust.Text(shown.DataDir)
		if shown.Aside != "" {
			dir += ", swapped"
		}
		bump = "+" + strconv.FormatUint(shown.Bump, 10) + ", and everything before is marked as compacted"
		if shown.Bump == 0 {
			bump = "not raised: clients may trust stale caches"
		}
	}
	stop := "at once, over CRI; it keeps no state"
	if c.Stop == steps.StopGraceful {
		stop = "gracefully: kubelet's grace period, up to 30 s more"
	}
	controllers := "restarted"
	if c.KeepControllers {
		controllers = "left running"
	}
	row := func(key, name, value string) string {
		return text.Cut(" "+l.Bold.Render(key)+"  "+text.Fit(name, 15)+"  "+value, w)
	}
	before := "a snapshot is saved before the outage"
	if c.NoSave {
		before = "no snapshot: the old data directory is kept in any case"
	}
	rows := []string{row("s", "stop API server", stop), row("c", "controllers", controllers), row("b", "state before", before)}
	if there {
		return rows
	}
	return append([]string{row("d", "data directory", text.CutLeft(dir, w-21)), row("n", "revision", bump)}, rows...)
}

// View asks for what is typed.
func (c *Choices) View(l text.Look, w int) ([]string, string, []Hint) {
	title := "Data directory for the restored data, on the node:"
	about := "It must not exist yet, and must be on the same disk as the old one, because it is renamed into place. Empty means the default. " +
		"The word swap keeps the path: the old data is renamed aside, and no file is edited."
	if c.bump {
		title = "How much to add to the snapshot's revision:"
		about = "Clients remember revisions they have seen. When the restored cluster begins beyond all of them, watches list again instead of trusting stale caches. Empty means the default, 0 turns it off."
	}
	lines := append([]string{" " + l.Bold.Render(title), ""}, text.Hang("   ", about, w-2)...)
	lines = append(lines, "", "   "+c.typing.View(w-4))
	return lines, "", []Hint{{"enter", "take it"}, {"esc", "back"}}
}

// Asks says whether keys go into a value.
func (c *Choices) Asks() bool { return c.typing != nil }
