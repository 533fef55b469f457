package ui

import (
	"testing"
	"time"

	"etcd-rewind/steps"
	"etcd-rewind/ui/print"
)

// clock lets the time of a driver go on.
func (d *driver) clock() func(by time.Duration) {
	at := noon
	d.m.now = func() time.Time { return at }
	return func(by time.Duration) { at = at.Add(by) }
}

// press presses a key without a look at the screen before.
func (d *driver) press(name string) {
	d.view()
	d.do(d.m.key(keyMsg(name)))
}

// Every question, on one node and on several, and how it comes up.
var questions = []struct {
	name   string
	many   bool
	comes  func(d *driver)
	shows  string
	key    string
	waited string // the screen after the key
}{
	{"a failure", false, func(d *driver) { d.until("permission denied") }, "(recommended)", "u", "Revert the node to the state before the run?"},
	{"a failure of one of several", true, func(d *driver) { d.until("permission denied") }, "(recommended)", "u", "Revert all nodes to the state before the run?"},
	{"once more", false, func(d *driver) { d.until("permission denied"); d.key("r") }, "Do this action again?", "n", "(recommended)"},
	{"once more on several", true, func(d *driver) { d.until("permission denied"); d.key("x") }, "leave all nodes as they are?", "n", "(recommended)"},
	{"stop", false, func(d *driver) { d.until("▸ "); d.press("ctrl+c") }, "Stop the run?", "n", "Stop kube-apiserver"},
	{"stop several", true, func(d *driver) { d.until("▸ "); d.press("ctrl+c") }, "Stop the run?", "n", "etcd down"},
	{"undo", false, func(d *driver) { d.until("▸ "); d.press("u") }, "Stop the run and undo it?", "n", "Stop kube-apiserver"},
	{"undo several", true, func(d *driver) { d.until("▸ "); d.press("u") }, "Stop the run and undo it?", "n", "etcd down"},
}

func TestAQuestionTakesNoKeyBeforeItCouldBeRead(t *testing.T) {
	for _, q := range questions {
		t.Run(q.name, func(t *testing.T) {
			f := newFake()
			var d *driver
			if q.many {
				all := several(f, threeNames...)
				d = drive(t, f, Options{})
				if q.key == "u" || q.name == "once more on several" {
					all.failAt = "cp2/start-etcd.4"
				} else {
					all.holdAt, all.hold = "cp2/stop-etcd.2", make(chan struct{})
				}
			} else {
				d = drive(t, f, Options{})
				f.failAt = "start-etcd.4"
				if q.key != "u" && q.name != "once more" {
					f.holdAt, f.hold = "stop-etcd.1", make(chan struct{})
				}
			}
			goOn := d.clock()
			d.to(runScreen)
			q.comes(d)
			d.see(q.shows)
			goOn(print.QuestionPause - time.Millisecond)
			for _, key := range []string{"u", "k", "r", "w", "s", "y", "n", "g", "x", "q", "esc", "enter"} {
				d.press(key) // meant for what was there before
			}
			d.see(q.shows)
			goOn(2 * time.Millisecond)
			d.press(q.key)
			d.see(q.waited)
			if len(f.chosen) > 0 {
				t.Errorf("chosen %v", f.chosen)
			}
		})
	}
}

// k moves up everywhere else.
func TestNoKeyOfAFailureChangesTheNodeByItself(t *testing.T) {
	f := newFake()
	f.failAt = "start-etcd.4"
	d := drive(t, f, Options{})
	d.to(runScreen)
	d.until("permission denied")
	d.m.run.Failure().Choices = []steps.Choice{steps.RestartStuck, steps.Revert, steps.Retry, steps.Leave}
	for key, asks := range map[string]string{"k": "Restart kubelet on this node?", "u": "Revert the node", "r": "Do this action again?", "x": "leave the node as it is?"} {
		d.key(key)
		d.see(asks)
		d.key(key) // the same key again is no yes
		d.see(asks)
		d.key("n")
		d.see("(recommended)")
	}
	if len(f.chosen) > 0 {
		t.Errorf("chosen %v", f.chosen)
	}
}

func TestTheOutageCountsOnAfterARunThatWasStopped(t *testing.T) {
	f := newFake()
	f.hold, f.holdAt = make(chan struct{}), "stop-etcd.1"
	d := drive(t, f, Options{})
	goOn := d.clock()
	d.to(runScreen)
	d.until("▸ Move etcd.yaml aside")
	d.key("ctrl+c", "s")
	d.until("you stopped the run")
	since := d.m.run.DownSince()
	if since == nil {
		t.Fatalf("the result says %+v", d.m.run.Result)
	}
	goOn(since.Sub(d.m.now()) + 63*time.Second)
	d.see("API down since "+steps.Clock(*since)+", 63.0 s", "etcd-rewind resume 20261120-120000", "etcd-rewind undo 20261120-120000")
	goOn(time.Second)
	d.see(", 64.0 s")
	if !d.m.moves() {
		t.Error("nothing redraws the time")
	}

	// Leaving now leaves the cluster without its API.
	for _, key := range []string{"q", "ctrl+c"} {
		d.key(key)
		d.see("Quit while the API is down?", "etcd-rewind resume 20261120-120000", "etcd-rewind undo 20261120-120000", ", 64.0 s")
		d.key("n")
		d.see("g resume")
	}
	if d.quit {
		t.Fatal("it quit")
	}
	d.key("q", "y")
	if !d.quit {
		t.Error("y doesn't quit")
	}
}

func TestATerminalThatDoesNotKnowItsSizeHas80Columns(t *testing.T) {
	d := drive(t, newFake(), Options{})
	for _, size := range [][2]int{{0, 0}, {0, 24}, {80, 0}} {
		d.size(size[0], size[1])
		d.do(d.m.discover())
		d.see("A control plane with one etcd member", "80×24 assumed")
	}
	d.size(100, 30)
	d.dontSee("assumed")
}

// A question is answered on a terminal that holds it and nothing else.
func TestAQuestionOnATinyTerminal(t *testing.T) {
	f := newFake()
	f.hold, f.holdAt = make(chan struct{}), "stop-etcd.1"
	d := drive(t, f, Options{})
	d.to(runScreen)
	d.until("▸ Move etcd.yaml aside")
	d.size(20, 5)
	d.see("needs 60×20")
	d.key("ctrl+c")
	d.see("Stop the run?", "s stop", "n don't stop")
	d.key("s")
	d.size(80, 24)
	d.until("you stopped the run")
}
