package ui

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"etcd-rewind/steps"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// TestMain also is the wizard on a played node, for the tests that need a real
// terminal; and to look at it: UI_PLAY=100ms ./ui.test
func TestMain(m *testing.M) {
	if pace := os.Getenv("UI_PLAY"); pace != "" {
		os.Exit(play(pace))
	}
	time.Local = time.UTC
	goleak.VerifyTestMain(m)
}

func play(pace string) int {
	noon = time.Now()
	f := newFake()
	pause, _ := time.ParseDuration(pace)
	f.failAt = os.Getenv("UI_FAIL")
	if os.Getenv("UI_WARN") != "" {
		f.verdicts = [][]steps.Verdict{someVerdicts()}
	}
	switch os.Getenv("UI_EARLIER") {
	case "broke-off":
		f.brokeOff()
	case "live", "dies":
		f.told = record(f, restorePlan(), steps.Unattended)
		f.ran, f.chosen, f.runs = nil, nil, nil
		f.live = &steps.RunInfo{Run: "20261120-120000"}
		if f.dies = os.Getenv("UI_EARLIER") == "dies"; f.dies {
			f.brokeOff()
			f.told = f.told[:len(f.told)/2]
		}
	}
	f.since, f.trace = os.Getenv("UI_SINCE"), os.Getenv("UI_RAN")
	f.pace = pause
	o := Options{Version: "v0.1.0", standing: f.stand, skipDiff: true}
	left := map[string]any{}
	if names := os.Getenv("UI_FLEET"); names != "" {
		all := several(f, strings.Split(names, ",")...)
		all.pace, all.failAt, all.dropAt = pause, os.Getenv("UI_FAIL"), os.Getenv("UI_DROP")
		if why := os.Getenv("UI_AWAY"); why != "" {
			all.away, all.host = map[string]string{all.names[len(all.names)-1]: why}, map[string]string{all.names[len(all.names)-1]: "there"}
		}
		o.Nodes, o.Record = all.conductor, all.record
	}
	r, err := RunWizard(context.Background(), f, o)
	if path := os.Getenv("UI_RESULT"); path != "" {
		left["result"], left["ran"], left["chosen"] = r, f.ran, f.chosen
		if f.fleet != nil {
			left["ran"], left["chosen"], left["open"] = f.fleet.ran, f.fleet.chosen, f.fleet.made-f.fleet.closed
		}
		data, _ := json.Marshal(left)
		_ = os.WriteFile(path, data, 0o600)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	if r == nil {
		return 0
	}
	return r.ExitCode()
}
