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
	f.pace, _ = time.ParseDuration(pace)
	f.failAt = os.Getenv("UI_FAIL")
	if os.Getenv("UI_WARN") != "" {
		f.verdicts = [][]steps.Verdict{someVerdicts()}
	}
	r, err := RunWizard(context.Background(), f, Options{Version: "v0.1.0"})
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
