package unit

import (
	"path"
	"slices"
	"strings"

	"etcd-rewind/problem"
	"etcd-rewind/trust"
)

// Container is what a unit runs etcd in.
type Container struct {
	Engine string // "docker"
	Name   string // "" where the engine makes one up
	Image  string
	mounts []mount
	env    variables
	dir    string
	argv   []text // the image's entrypoint decides when it is empty
}

type mount struct {
	source, target text
	volume         bool // of the engine's, not a directory of the host
}

var engines = map[string]bool{"docker": true, "podman": true, "nerdctl": true}

// single are the options of "run" that take no value of their own.
var single = []string{
	"d", "detach", "rm", "privileged", "i", "t", "it", "ti", "dit", "itd", "tty", "interactive", "init", "read-only", "no-healthcheck",
	"oom-kill-disable", "replace", "P", "publish-all", "sig-proxy", "disable-content-trust", "no-hosts", "no-hostname", "tls-verify", "q", "quiet",
	"http-proxy", "rootfs", "env-host", "systemd", "passwd",
}

func (s *follower) run(argv []text) (*Container, error) {
	engine := path.Base(argv[0].String())
	bad := func(t text, cause string) error {
		return problem.Coded(CodeContainer, "name what the container needs in the command that runs it: a bind mount of each of its directories, its settings as flags, variables or --env-file", "%s: %s is run by %s: %s", t.place(), s.want, engine, cause)
	}
	c := &Container{Engine: engine, env: variables{}, dir: "/"}
	i := 1
	for i < len(argv) && argv[i].at(0) == '-' { // the engine's own, each of one word
		if !strings.Contains(argv[i].String(), "=") && !slices.Contains([]string{"--tls", "--debug", "-D"}, argv[i].String()) {
			i++
		}
		i++
	}
	if i+1 < len(argv) && argv[i].String() == "container" {
		i++
	}
	if i >= len(argv) || argv[i].String() != "run" {
		return nil, bad(argv[0], "not by \"run\", so what it was made with isn't in the unit")
	}
	entrypoint := text(nil)
	for i++; i < len(argv) && argv[i].at(0) == '-'; i++ {
		w := argv[i]
		if w.unknown() != "" && w.at(0) == '?' {
			return nil, bad(w, "an option that isn't known before it starts")
		}
		name, value, has := w.cut('=')
		option := strings.TrimLeft(name.String(), "-")
		short := w.at(1) != '-'
		if short && !has && len(option) > 1 && !slices.Contains(single, option) { // -v/a:/b
			value, option, has = w[2:], string(w.at(1)), true
		} else if short && has && len(option) > 1 && !slices.Contains(single, option) { // -eNAME=value
			value, option = w[2:], string(w.at(1))
		}
		if !has && !slices.Contains(single, option) {
			if i++; i >= len(argv) {
				return nil, bad(w, "the option "+trust.Clip(trust.Text(w.String()), 80)+" has no value")
			}
			value = argv[i]
		}
		if err := s.option(c, option, value, bad, &entrypoint); err != nil {
			return nil, err
		}
	}
	if i >= len(argv) {
		return nil, bad(argv[0], "it names no image")
	}
	c.Image = argv[i].String()
	if why := argv[i].unknown(); why != "" {
		c.Image = ""
	}
	c.argv = argv[i+1:]
	if len(entrypoint) > 0 {
		c.argv = slices.Concat([]text{entrypoint}, c.argv)
	}
	return c, nil
}

func (s *follower) option(c *Container, option string, value text, bad func(text, string) error, entrypoint *text) error {
	switch option {
	case "v", "volume":
		source, rest, ok := value.cut(':')
		target, _, _ := rest.cut(':')
		if !ok {
			return nil // a volume without a name
		}
		c.mounts = append(c.mounts, mount{source, target, source.at(0) != '/'})
	case "mount":
		var m mount
		bind := false
		for rest := value; len(rest) > 0; {
			var field text
			field, rest, _ = rest.cut(',')
			k, v, _ := field.cut('=')
			switch k.String() {
			case "type":
				bind = v.String() == "bind"
			case "source", "src":
				m.source = v
			case "target", "destination", "dst":
				m.target = v
			}
		}
		m.volume = !bind
		c.mounts = append(c.mounts, m)
	case "e", "env":
		name, v, ok := value.cut('=')
		if !ok {
			v, ok = s.env[name.String()]
		}
		if ok {
			c.env[name.String()] = v
		}
	case "env-file":
		if value.unknown() != "" {
			return bad(value, "an --env-file that isn't known before it starts")
		}
		name, ok := clean(value.String())
		if !ok {
			return bad(value, "an --env-file that isn't an absolute path")
		}
		f, err := s.file(name)
		if err != nil {
			return unreadable("the environment file", name, err)
		}
		for _, v := range f.raw() {
			if _, given := c.env[v.name]; !given { // -e wins
				c.env[v.name] = v.value
			}
		}
	case "name":
		c.Name = trust.Clip(trust.Text(value.String()), 100)
	case "w", "workdir":
		c.dir = value.String()
	case "entrypoint":
		*entrypoint = value
	case "rootfs", "env-host", "pod-id-file", "volumes-from":
		return bad(value, "with --"+option)
	}
	return nil
}

// raw reads a file as engines read an --env-file: what follows "=" is the value,
// with quotes and blanks as they are.
func (f *File) raw() []variable {
	var all []variable
	for begin := 0; begin < len(f.Data); {
		end := begin
		for end < len(f.Data) && f.Data[end] != '\n' {
			end++
		}
		line := f.text(begin, end)
		begin = end + 1
		if n := len(line); n > 0 && line[n-1].b == '\r' {
			line = line[:n-1]
		}
		line = trimLeft(line, " \t\v\f")
		if len(line) == 0 || line[0].b == '#' {
			continue
		}
		if name, value, ok := line.cut('='); ok {
			all = append(all, variable{name.String(), value})
		}
	}
	return all
}

// hosts finds where a path in the container lies on the host.
func (c *Container) onHost(p string) (m mount, rest string, ok bool) {
	longest := -1
	for _, one := range c.mounts {
		at := path.Clean("/" + one.target.String())
		if trust.Within(at, p) && len(at) >= longest {
			m, longest, ok = one, len(at), true
			rest = strings.TrimPrefix(strings.TrimPrefix(p, at), "/")
		}
	}
	return m, rest, ok
}
