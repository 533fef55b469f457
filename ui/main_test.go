package ui

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"etcd-rewind/steps"
)

var update = flag.Bool("update", false, "write the golden files anew")

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
		f.told = record(f, restorePlan(), Unattended)
		f.ran, f.chosen, f.runs = nil, nil, nil
		f.live = &steps.RunInfo{Run: "20261120-120000"}
		if f.dies = os.Getenv("UI_EARLIER") == "dies"; f.dies {
			f.brokeOff()
			f.told = f.told[:len(f.told)/2]
		}
	}
	f.since = os.Getenv("UI_SINCE")
	f.pace = pause
	r, err := RunWizard(context.Background(), f, Options{Version: "v0.1.0", standing: f.stand})
	if path := os.Getenv("UI_RESULT"); path != "" {
		data, _ := json.Marshal(map[string]any{"result": r, "ran": f.ran, "chosen": f.chosen})
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
