package steps

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"etcd-rewind/trust"
)

// What a plan prints is pasted into root's shell. Whatever names and paths hold
// that came from a snapshot, a ticket or another node: each command stays on
// its line, and nothing in a name runs.
func TestNothingInANameRunsWhenACommandIsPasted(t *testing.T) {
	dir := t.TempDir()
	for _, evil := range []string{
		"cp1\n: >canary\n#", "cp1\r: >canary\r", "x'; : >canary; '", "$(: >canary)", "`: >canary`", `"; : >canary; "`, "x\u2028: >canary", "a\\", "%s%n%d", "'",
	} {
		for _, a := range allActions() {
			if _, own := a.(*RestartKubelet); own {
				continue // the user's own command
			}
			v := reflect.ValueOf(a).Elem()
			poison(v, evil)
			for _, phase := range Phases {
				if m, ok := a.(*WaitNodes); ok {
					m.Phase = phase
				}
				for _, line := range a.Commands() {
					if clean := trust.Text(line); clean != line {
						t.Errorf("%s prints %q, which isn't one line of text", a.Kind(), line)
					}
					ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
					// No program is there: a loop that waits for one ends with exec.
					cmd := exec.CommandContext(ctx, "/bin/sh", "-c", "sleep() { exit 1; }\n"+line+"\n")
					cmd.Dir, cmd.Env = dir, []string{"PATH=/nonexistent"}
					_ = cmd.Run()
					cancel()
					if _, err := os.Stat(filepath.Join(dir, "canary")); err == nil {
						t.Fatalf("%s: a name ran: %q", a.Kind(), line)
					}
				}
				if _, ok := a.(*WaitNodes); !ok {
					break
				}
			}
		}
	}
}

// poison sets every text in v.
func poison(v reflect.Value, evil string) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(evil)
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			v.SetBytes([]byte(evil + time.Now().String()))
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		poison(v.Index(0), evil)
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				poison(v.Field(i), evil)
			}
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		poison(v.Elem(), evil)
	case reflect.Bool:
		v.SetBool(true)
	}
}
