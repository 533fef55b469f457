package ui

import (
	"context"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	tea "github.com/charmbracelet/bubbletea"
	"github.com/charmbracelet/x/ansi"
	"github.com/google/go-cmp/cmp"

	"etcd-rewind/restore"
	"etcd-rewind/steps"
	"etcd-rewind/ui/pane"
	"etcd-rewind/ui/print"
	"etcd-rewind/ui/text"
)

// env is an environment of its own for a look.
func env(pairs ...string) func(string) string {
	return func(name string) string {
		for _, p := range pairs {
			if v, ok := strings.CutPrefix(p, name+"="); ok {
				return v
			}
		}
		return ""
	}
}

// driver plays the wizard without a terminal: keys go in, commands are run to
// their end, and the clock stands still.
type driver struct {
	t    testing.TB
	m    *model
	f    *fake
	quit bool
}

func drive(t testing.TB, f *fake, o Options) *driver {
	t.Helper()
	o.standing, o.skipDiff = f.stand, true
	// The tests of one node are played by a wizard that could lead several.
	o.Nodes = func(rsh []string) restore.Nodes { return f.fleet.conductor(rsh) }
	o.Record = func(dir string) (*restore.Record, error) {
		if f.fleet == nil {
			return nil, fs.ErrNotExist
		}
		return f.fleet.record(dir)
	}
	m := newModel(t.Context(), f, o)
	m.now = func() time.Time { return noon }
	m.look = text.NewLook(env("TERM=xterm-256color", "LANG=C.UTF-8"))
	m.ticking = true // no ticks
	d := &driver{t: t, m: m, f: f}
	d.size(80, 24)
	t.Cleanup(func() {
		m.runner.leave(io.Discard)
		m.runner.stop()
		m.runner.wait()
		m.nodes.close()
		m.nodes.closing.Wait()
		m.box.close()
	})
	return d
}

func (d *driver) size(w, h int) { d.update(tea.WindowSizeMsg{Width: w, Height: h}) }

func (d *driver) update(msg tea.Msg) {
	_, cmd := d.m.Update(msg)
	d.do(cmd)
}

// do runs a command and what follows from it.
func (d *driver) do(cmd tea.Cmd) {
	if cmd == nil {
		return
	}
	switch msg := cmd().(type) {
	case nil:
	case tea.BatchMsg:
		for _, c := range msg {
			d.do(c)
		}
	case tea.QuitMsg:
		d.quit = true
	default:
		d.update(msg)
	}
	d.mail()
}

// mail brings what the engine has reported.
func (d *driver) mail() {
	d.m.box.mu.Lock()
	mail := d.m.box.mail
	d.m.box.mail = nil
	d.m.box.mu.Unlock()
	for _, msg := range mail {
		d.do(d.m.handle(msg))
	}
}

var keyTypes = map[string]tea.KeyType{
	"enter": tea.KeyEnter, "esc": tea.KeyEsc, "up": tea.KeyUp, "down": tea.KeyDown, "tab": tea.KeyTab, "ctrl+c": tea.KeyCtrlC,
	"backspace": tea.KeyBackspace, "ctrl+u": tea.KeyCtrlU, "pgdown": tea.KeyPgDown, "end": tea.KeyEnd, "home": tea.KeyHome, "pgup": tea.KeyPgUp, "ctrl+z": tea.KeyCtrlZ, "space": tea.KeySpace,
}

// read looks at a question for long enough to answer it.
func (d *driver) read() {
	if d.view(); d.m.asking() != nil {
		d.m.askedAt = d.m.now().Add(-print.QuestionPause)
	}
}

// key presses keys by their names, each after a look at the screen; what isn't
// a name is typed.
func (d *driver) key(keys ...string) {
	for _, k := range keys {
		d.read()
		if _, ok := keyTypes[k]; ok {
			d.update(keyMsg(k))
			continue
		}
		for _, r := range k {
			d.update(keyMsg(string(r)))
		}
	}
}

// keyMsg is a key by its name, or a character.
func keyMsg(name string) tea.KeyMsg {
	if kt, ok := keyTypes[name]; ok {
		msg := tea.KeyMsg{Type: kt}
		if name == "space" {
			msg.Runes = []rune{' '}
		}
		return msg
	}
	return tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune(name)}
}

func (d *driver) view() string { return ansi.Strip(d.m.View()) }

// see fails the test unless the screen shows all of these.
func (d *driver) see(texts ...string) {
	d.t.Helper()
	for _, text := range texts {
		if !strings.Contains(d.view(), text) {
			d.t.Fatalf("the screen doesn't show %q:\n%s", text, d.view())
		}
	}
}

func (d *driver) dontSee(text string) {
	d.t.Helper()
	if strings.Contains(d.view(), text) {
		d.t.Fatalf("the screen shows %q:\n%s", text, d.view())
	}
}

// until waiting for the engine until the screen shows the text.
func (d *driver) until(text string) {
	d.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		d.mail()
		if strings.Contains(d.view(), text) {
			return
		}
		select {
		case <-d.m.box.filled:
		case <-time.After(20 * time.Millisecond):
		}
	}
	d.see(text)
}

// to goes to a screen by its keys.
func (d *driver) to(s screen) {
	d.t.Helper()
	d.do(d.m.discover())
	if s >= chooseScreen {
		d.key("enter")
	}
	if s >= membersScreen && d.m.several() || s >= checkScreen && !d.m.several() {
		d.key("enter")
	}
	if s >= checkScreen && d.m.several() {
		d.key("enter")
	}
	if s >= planScreen {
		d.key("enter")
	}
	if s >= confirmScreen {
		d.key("enter")
	}
	if s == runScreen {
		d.key("cp1", "enter")
	}
	if s < runScreen && d.m.screen != s {
		d.t.Fatalf("not on the screen asked for:\n%s", d.view())
	}
}

// record plays a whole run without a screen.
func record(f *fake, p *steps.Plan, ask steps.Asker) []steps.Event {
	var events []steps.Event
	_, _ = f.Run(context.Background(), p, func(ev steps.Event) { events = append(events, ev) }, ask)
	return events
}

// during shows a run as it is after the first event that fits; the clock
// stands at that event.
func (d *driver) during(events []steps.Event, fits func(steps.Event) bool) {
	d.t.Helper()
	d.m.info = someInfo("/var/backups/before.db")
	d.m.here.Facts = d.f.facts
	d.m.plan.Plan = events[0].Plan
	d.m.run = pane.NewRun(events[0].Plan, nil, nil, nil)
	d.m.screen = runScreen
	for _, ev := range events {
		d.do(d.m.handle(restore.NodeEvent{Event: ev}))
		at := ev.Time
		d.m.now = func() time.Time { return at }
		if fits(ev) {
			return
		}
	}
	d.t.Fatal("no such event")
}

func action(id string, s steps.State, n int) func(steps.Event) bool {
	return func(ev steps.Event) bool {
		if ev.Action == id && ev.State == s {
			n--
		}
		return n < 0
	}
}

// golden compares text with a file in testdata; with -update it writes it.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("%s differs (-want +got); go test ./ui -update rewrites it:\n%s", path, diff)
	}
}
