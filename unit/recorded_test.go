package unit

import (
	"encoding/json"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"etcd-rewind/problem"
)

// recorded is a unit, its environment file, and what systemd 252 started it with:
// testdata has what a program saw that was started so, or that none was.
type recorded struct {
	Name, Unit, Env string
	Argv            []string
	Vars            map[string]string // those that begin with V
	Failed          string
}

func recordedUnits(t testing.TB) (all []recorded) {
	data, err := os.ReadFile("testdata/systemd-252.json")
	if err == nil {
		err = json.Unmarshal(data, &all)
	}
	if err != nil || len(all) < 100 {
		t.Fatal(err, len(all))
	}
	return all
}

// Units are read as systemd reads them: what it ran a program with is what comes
// out, and nothing else. A refusal is allowed where people don't write such things.
func TestUnitsAreReadAsSystemdReadsThem(t *testing.T) {
	read := 0
	for _, c := range recordedUnits(t) {
		host := disk(map[string]string{"/etc/systemd/system/" + c.Name + ".service": c.Unit, "/rec/env": c.Env})
		host.Specifier = func(letter byte) (string, bool) { return "h1", letter == 'H' }
		s, err := Read(Loaded{Name: c.Name + ".service", Fragment: "/etc/systemd/system/" + c.Name + ".service"}, host)
		if err != nil {
			if p := problem.Of(err); c.Failed == "" && (p == nil || p.Code != CodeSyntax && p.Code != CodeUnknown) {
				t.Errorf("%s is refused, and systemd runs it: %v\n%q\n%q", c.Name, err, c.Unit, c.Env)
			}
			continue
		}
		if c.Failed != "" {
			t.Errorf("%s is read, and systemd doesn't run it (%s)\n%q", c.Name, c.Failed, c.Unit)
			continue
		}
		read++
		var argv []string
		for i, w := range s.exec {
			if i == 0 {
				argv = append(argv, w.String())
				continue
			}
			words, err := s.env.argument(w)
			if err != nil {
				t.Fatal(err)
			}
			for _, a := range words {
				argv = append(argv, a.String())
			}
		}
		if !slices.Equal(argv, c.Argv) {
			t.Errorf("%s\n%q\n got %q\nwant %q", c.Name, c.Unit, argv, c.Argv)
		}
		vars := map[string]string{}
		for k, v := range s.env {
			if strings.HasPrefix(k, "V") {
				vars[k] = v.String()
			}
		}
		if !maps.Equal(vars, c.Vars) {
			t.Errorf("%s\n%q\n%q\n got %q\nwant %q", c.Name, c.Unit, c.Env, vars, c.Vars)
		}
	}
	if read < 150 {
		t.Errorf("only %d were read", read)
	}
}
