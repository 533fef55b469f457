package unit

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"etcd-rewind/problem"
	"etcd-rewind/trust"
)

// Whatever a unit's files are made to become, it takes a moment and little memory
// to say no.
func TestFilesThatGrowWhenTheyAreReadAreRefused(t *testing.T) {
	begun := time.Now()
	big := strings.Repeat("x", 100<<10)
	doubled := "#!/bin/sh\nA=" + strings.Repeat("y", 1000) + "\n" + strings.Repeat("A=$A$A\n", 40) + "exec etcd --name=$A\n"
	many := map[string]string{}
	var dropIns, envs []string
	for i := range 300 {
		dropIns = append(dropIns, fmt.Sprintf("/etc/systemd/system/etcd.service.d/%d.conf", i))
		many[dropIns[i]] = "[Service]\nNice=1\n"
		envs = append(envs, fmt.Sprintf("EnvironmentFile=/etc/env/%d", i))
		many[fmt.Sprintf("/etc/env/%d", i)] = big
	}
	for _, c := range []struct {
		name, unit string
		files      map[string]string
		dropIns    []string
	}{
		{"a variable in a command, again and again", "Environment=A=" + big + "\nExecStart=/usr/bin/etcd " + strings.Repeat("${A}", 20_000), nil, nil},
		{"the same, in words", "Environment=A=" + big + "\nExecStart=/usr/bin/etcd" + strings.Repeat(" $A", 20_000), nil, nil},
		{"a specifier, again and again", "ExecStart=/usr/bin/etcd --name=" + strings.Repeat("%n", 60_000), nil, nil},
		{"a shell's variable that doubles", "ExecStart=/usr/local/bin/start", map[string]string{"/usr/local/bin/start": doubled}, nil},
		{"a script that starts itself", "ExecStart=/usr/local/bin/start", map[string]string{"/usr/local/bin/start": "#!/bin/sh\nexec /usr/local/bin/start\n"}, nil},
		{"a script that reads itself", "ExecStart=/usr/local/bin/start", map[string]string{"/usr/local/bin/start": "#!/bin/sh\n. /usr/local/bin/start\nexec etcd\n"}, nil},
		{"many drop-ins", "ExecStart=/usr/bin/etcd", many, dropIns},
		{"many environment files", strings.Join(envs, "\n") + "\nExecStart=/usr/bin/etcd", many, nil},
		{"many settings", strings.Repeat("BindPaths=/x\n", 15_000) + strings.Repeat("BindPaths=\n", 5_000) + "ExecStart=/usr/bin/etcd", nil, nil},
		{"a huge file", "EnvironmentFile=/etc/big\nExecStart=/usr/bin/etcd", map[string]string{"/etc/big": strings.Repeat(big, 3)}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			files := map[string]string{fragment: "[Service]\n" + c.unit + "\n"}
			for name, data := range c.files {
				files[name] = data
			}
			s, err := Read(Loaded{Name: "etcd.service", Fragment: fragment, DropIns: c.dropIns}, disk(files))
			if err == nil {
				_, err = ReadEtcd(s)
			}
			if p := problem.Of(err); p == nil || len(p.Cause) > 1000 {
				t.Errorf("%.300v", err)
			}
		})
	}
	// What nobody refuses may not take its time either.
	files := map[string]string{fragment: "[Service]\nExecStart=/usr/bin/etcd --name=" + strings.Repeat("${", 60_000) + ":\n"}
	if s, err := Read(Loaded{Name: "etcd.service", Fragment: fragment}, disk(files)); err == nil {
		_, _ = ReadEtcd(s)
	}
	if took := time.Since(begun); took > 20*time.Second { // seconds at most; it was minutes, and the machine's memory
		t.Errorf("it took %s", took)
	}
}

// A pattern stands for what glob(3) makes of it, as systemd calls it.
func TestAPatternStandsForTheFilesThatSystemdReads(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a.env", "b.env", ".swap.env", "c.env.d/x.env", "c.env.d/.y.env", "with space.env"} {
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for pattern, want := range map[string]string{
		"*.env":             "a.env b.env with space.env",
		".*.env":            ".swap.env",
		"[!a].env":          "b.env",
		"*.d/*.env":         "c.env.d/x.env",
		`with\ space.env`:   "with space.env",
		"absent/*":          "",
		"a.env/*":           "",
		"?.env":             "a.env b.env",
		"*/../a.env":        "a.env", // systemd's path_simplify leaves it; glob(3) finds the same file
		"nothing*/deeper/*": "",
	} {
		found, err := globDisk(dir + "/" + pattern)
		for i := range found {
			found[i] = strings.TrimPrefix(found[i], dir+"/")
		}
		slices.Sort(found)
		if err != nil || strings.Join(found, " ") != want {
			t.Errorf("%s: %q, want %q (%v)", pattern, found, want, err)
		}
	}
	if _, err := globDisk(dir + "/[a"); err == nil {
		t.Error("half a class is taken")
	}
	for i := range mostLooked/100 + 1 {
		if err := os.WriteFile(filepath.Join(dir, "c.env.d", fmt.Sprint(i)), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 100 {
		if err := os.Symlink("c.env.d", filepath.Join(dir, fmt.Sprintf("l%d", i))); err != nil {
			t.Fatal(err)
		}
	}
	if found, err := globDisk(dir + "/*/*"); err == nil {
		t.Errorf("%d files are taken", len(found))
	}
}

// The disk is read as root: what isn't a file of root's own isn't read, whatever
// leads to it.
func TestWhatIsNoFileIsNotRead(t *testing.T) {
	dir := t.TempDir()
	for name, to := range map[string]string{"zero": "/dev/zero", "kmsg": "/proc/kmsg", "dir": dir, "loop": "loop", "absent": "nothing"} {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"zero", "kmsg", "dir", "loop", "absent", "fifo"} {
		if data, err := readDisk(filepath.Join(dir, name)); err == nil {
			t.Errorf("%s is read: %d bytes", name, len(data))
		}
		if _, err := readHead(filepath.Join(dir, name)); err == nil {
			t.Errorf("%s is taken for a program", name)
		}
	}
}

// An environment file that has to be there, and a pattern that stands for none,
// keep systemd from starting the unit.
func TestAPatternThatStandsForNothingIsSeen(t *testing.T) {
	files := map[string]string{fragment: "[Service]\nEnvironmentFile=/etc/etcd.d/*.env\nExecStart=/usr/bin/etcd\n"}
	if _, err := Read(Loaded{Name: "etcd.service", Fragment: fragment}, disk(files)); !problem.HasCode(err, CodeUnreadable) {
		t.Errorf("%v", err)
	}
	files[fragment] = strings.Replace(files[fragment], "=/etc/etcd.d", "=-/etc/etcd.d", 1)
	if _, err := Read(Loaded{Name: "etcd.service", Fragment: fragment}, disk(files)); err != nil {
		t.Error(err)
	}
}

// Values end up on a screen and in commands: none has a line of its own there, or
// the terminal.
func TestNothingInAUnitReachesTheScreenAsItIs(t *testing.T) {
	const evil = "\x1b]0;owned\a\x1b[2J\u202e\nMainPID=1"
	for _, line := range []string{
		"ExecStart=/usr/bin/etcd --%s=x --data-dir=/var/lib/etcd",
		"ExecStart=/usr/bin/etcd --data-dir=/%s",
		"ExecStart=/usr/bin/etcd %s",
		"ExecStart=/usr/bin/%s",
		"ExecStart=%s",
		"ExecStart=/bin/sh -%s 'etcd'",
		"ExecStart=/bin/sh -c 'etcd; %s'",
		"ExecStart=/bin/sh -c 'export %s=1; etcd'",
		"ExecStart=/bin/sh -c 'etcd --data-dir=$(%s)'",
		"ExecStart=/usr/bin/env %s etcd",
		"ExecStart=/usr/bin/docker --%s run etcd",
		"ExecStart=/usr/bin/docker run --%s x etcd",
		"ExecStart=/usr/bin/docker run --name %s -v /%s:/d image-%s etcd --data-dir=/d/x",
		"ExecStart=/usr/bin/docker run image-%s",
		"EnvironmentFile=%s\nExecStart=/usr/bin/etcd",
		"EnvironmentFile=/etc/%s\nExecStart=/usr/bin/etcd",
		"WorkingDirectory=/%s\nExecStart=/usr/bin/etcd --data-dir=x",
		"User=%s\nType=%s\nRestart=%s\nExecStart=/usr/bin/etcd --quota-backend-bytes=%s",
		"ReadOnlyPaths=/var%s\nExecStart=/usr/bin/etcd --data-dir=/var/lib/etcd",
		"RootDirectory=%s\nExecStart=/usr/bin/etcd",
		"[%s\nExecStart=/usr/bin/etcd",
		"ExecStart=/usr/bin/etcd --name=%s --initial-cluster=%s --listen-client-urls=%s",
		"ExecStart=/usr/bin/etcd --config-file=/etc/etcd.yaml",
		"ExecStart=/usr/bin/etcd --config-file=/etc/%s",
	} {
		for _, as := range []string{strings.ReplaceAll(evil, "\n", " "), strings.NewReplacer("\x1b", `\x1b`, "\a", `\a`, "\n", `\n`).Replace(evil), "%"} {
			n := strings.Count(line, "%s")
			args := slices.Repeat([]any{as}, n)
			files := map[string]string{
				fragment:         "[Service]\n" + fmt.Sprintf(line, args...) + "\n",
				"/etc/etcd.yaml": "\"x\\e]0;\\a\": 1\ndata-dir: \"/var/lib/etcd\\e\"\nname: \"a\\nb\"\n",
			}
			shows := func(what string, texts ...string) {
				t.Helper()
				for _, s := range texts {
					if trust.Text(s) != s {
						t.Errorf("%s: %s shows %q", line, what, s)
					}
				}
			}
			s, err := Read(Loaded{Name: "etcd.service", Fragment: fragment}, disk(files))
			if err != nil {
				shows("its error", problem.Line(err))
				continue
			}
			if _, err := ReadAPIServer(s); err != nil {
				shows("the API server's error", problem.Line(err))
			}
			shows("another command", s.Differs("argv[]="+as+" ; ignore_errors="))
			e, err := ReadEtcd(s)
			if err != nil {
				shows("its error", problem.Line(err))
				continue
			}
			for _, set := range e.Settings {
				shows("a setting", set.As, set.Place.String())
			}
			for _, twice := range e.Twice {
				shows("twice", twice.String())
			}
			shows("etcd", e.Name, e.Binary, e.ConfigFile, e.DataDir.Path, e.DataDir.HostPath)
			if c := e.Container; c != nil {
				shows("the container", c.Engine, c.Name, c.Image)
			}
			if _, err := e.SetDirs(map[string]string{DataDir: "/var/lib/new"}); err != nil {
				shows("the edit's error", problem.Line(err))
			}
		}
	}
}
