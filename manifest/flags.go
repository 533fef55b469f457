package manifest

import (
	"path"
	"regexp"
	"slices"
	"strings"

	"etcd-rewind/problem"

	corev1 "k8s.io/api/core/v1"
)

// Flags are the flags one container's binary is started with, from command and args, and for etcd from ETCD_* variables.
type Flags struct {
	binary string
	given  []flagValue
	env    environment
}

type flagValue struct{ name, value string }

// Get gives a flag's value as the binary sees it: the last one given, else for etcd the one in the environment. A flag
// without a value is "true".
func (f Flags) Get(name string) (string, bool) {
	for _, g := range slices.Backward(f.given) {
		if g.name == name {
			return f.env.expand(g.value), true
		}
	}
	if v, _ := f.fromEnv(name); v != "" {
		return v, true
	}
	return "", false
}

// List gives a comma-separated flag's elements. Kubernetes' components add up a list given several times, etcd takes the
// last one.
func (f Flags) List(name string) []string {
	var values []string
	if f.binary != etcdBinary {
		for _, g := range f.given {
			if g.name == name {
				values = append(values, f.env.expand(g.value))
			}
		}
	} else if v, ok := f.Get(name); ok {
		values = []string{v}
	}
	var list []string
	for _, v := range values {
		for _, e := range strings.Split(v, ",") {
			if e = strings.TrimSpace(e); e != "" {
				list = append(list, e)
			}
		}
	}
	return list
}

// fromEnv gives etcd's value for a flag that isn't on the command line. An empty variable counts as none
// (SetFlagsFromEnv in go.etcd.io/etcd/pkg/v3/flags). The variable is named even when its value isn't known.
func (f Flags) fromEnv(name string) (value, variable string) {
	if f.binary != etcdBinary {
		return "", ""
	}
	variable = "ETCD_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
	return f.env.values[variable], variable
}

// known gives an error when a flag's value is filled in by kubelet only when the pod starts.
func (f Flags) known(names ...string) error {
	for _, name := range names {
		onLine := false
		for _, g := range f.given {
			if g.name != name {
				continue
			}
			onLine = true
			if v, from := f.env.unknownIn(g.value); v != "" {
				return problem.Coded(CodeUnknownValue, "write the value itself into the manifest",
					"--%s is %q, and $(%s) is filled in by kubelet (%s)", name, g.value, v, from)
			}
		}
		if _, variable := f.fromEnv(name); !onLine && f.env.unknown[variable] != "" {
			return problem.Coded(CodeUnknownValue, "write the value itself into the manifest",
				"--%s comes from the variable %s, which is filled in by kubelet (%s)", name, variable, f.env.unknown[variable])
		}
	}
	return nil
}

// ReadFlags finds the container of the pod that runs binary ("etcd", "kube-apiserver", ...) and its flags, in all spellings:
// --flag=value, --flag value, -flag for etcd, in command or in args.
func ReadFlags(f *File, binary string) (*corev1.Container, Flags, error) {
	if f.Pod == nil {
		return nil, Flags{}, f.Err
	}
	var excuse error
	for i := range f.Pod.Spec.Containers {
		c := &f.Pod.Spec.Containers[i]
		words, ok, err := arguments(c, binary)
		if err != nil {
			excuse = err
			continue
		}
		if !ok {
			continue
		}
		flags := Flags{binary: binary, env: readEnv(c)}
		if flags.given, err = parseFlags(words, binary); err != nil {
			return nil, Flags{}, err
		}
		return c, flags, nil
	}
	if excuse != nil {
		return nil, Flags{}, excuse
	}
	return nil, Flags{}, problem.Coded(CodeNoContainer, "look at the container's command in "+f.Path,
		"no container of the pod %s runs %s", f.Key(), binary)
}

// FlagsOf are those in the arguments of a program that is started as it is, without a pod.
func FlagsOf(binary string, words []string) (Flags, error) {
	f := Flags{binary: binary}
	var err error
	f.given, err = parseFlags(words, binary)
	return f, err
}

// Programs that start another one with the arguments that follow, and change nothing about them.
var starters = map[string]bool{
	"go-runner": true, "tini": true, "tini-static": true, "dumb-init": true, "catatonit": true,
	"nice": true, "ionice": true, "chrt": true, "taskset": true, "numactl": true,
}

var shells = map[string]bool{
	"sh": true, "bash": true, "ash": true, "dash": true, "zsh": true, "ksh": true, "busybox": true, "env": true, "timeout": true,
}

// arguments gives what the container hands to binary, or false when it runs something else.
func arguments(c *corev1.Container, binary string) ([]string, bool, error) {
	words := slices.Concat(c.Command, c.Args)
	if len(c.Command) == 0 && (len(words) == 0 || strings.HasPrefix(words[0], "-")) {
		// The image's entrypoint decides; its name is all there is to go by.
		return words, imageName(c.Image) == binary, nil
	}
	first := path.Base(words[0])
	switch {
	case first == binary:
		return server(c, binary, words[1:])
	case starters[first]:
		for i, w := range words {
			if path.Base(w) == binary {
				return server(c, binary, words[i+1:])
			}
		}
	case shells[first] || strings.HasSuffix(first, ".sh"):
		whole := strings.Join(words, " ")
		if c.Name == binary || mentions(whole, binary) {
			return nil, false, problem.Coded(CodeShell,
				"write the command as a list that begins with "+binary+" and its flags, then try again",
				"container %q starts %s through %s, so its flags can't be read reliably from the manifest", c.Name, binary, words[0])
		}
	}
	return nil, false, nil
}

// server leaves out an etcd that is started as one of the other programs it is (etcdmain/main.go): they hold no data.
func server(c *corev1.Container, binary string, words []string) ([]string, bool, error) {
	if binary == etcdBinary && len(words) > 0 && (words[0] == "grpc-proxy" || words[0] == "gateway") {
		return nil, false, problem.Coded(CodeProxy, "name the node on which etcd itself runs",
			"container %q runs etcd as %q, which contains no data", c.Name, words[0])
	}
	return words, true, nil
}

func mentions(text, binary string) bool {
	return slices.ContainsFunc(strings.FieldsFunc(text, func(r rune) bool {
		return strings.ContainsRune(" \t\r\n;&|()'\"`", r)
	}), func(w string) bool { return path.Base(w) == binary })
}

var negativeNumber = regexp.MustCompile(`^-[0-9.]*$`)

// parseFlags needs no list of boolean flags: neither etcd nor Kubernetes' components start with an argument that isn't a
// flag, so a word after a flag without '=' is its value, unless it looks like the next flag.
func parseFlags(words []string, binary string) ([]flagValue, error) {
	var flags []flagValue
	for i := 0; i < len(words); i++ {
		w := words[i]
		if w == "--" && i == len(words)-1 {
			break
		}
		name, isFlag := strings.CutPrefix(w, "-")
		name, long := strings.CutPrefix(name, "-")
		if !isFlag || name == "" || strings.HasPrefix(name, "-") || strings.HasPrefix(name, "=") {
			return nil, problem.Coded(CodeArgument, "remove it, or join it to its flag",
				"%s does not start with the argument %q, which is not a flag", binary, w)
		}
		name, value, ok := strings.Cut(name, "=")
		if !long && binary != etcdBinary && len(name) > 1 {
			// Kubernetes' components know -v=2 and -v2, but no long flags with one dash.
			name, value, ok = name[:1], name[1:], true
		}
		if binary != etcdBinary {
			name = strings.ReplaceAll(name, "_", "-")
		}
		if !ok {
			value = "true"
			if i+1 < len(words) && (!strings.HasPrefix(words[i+1], "-") || negativeNumber.MatchString(words[i+1])) {
				i++
				value = words[i]
			}
		}
		flags = append(flags, flagValue{name, value})
	}
	return flags, nil
}

// environment is what a container's env says, with the variables whose value kubelet fills in kept apart.
type environment struct {
	values  map[string]string
	unknown map[string]string // variable -> where its value comes from
}

func readEnv(c *corev1.Container) environment {
	e := environment{values: map[string]string{}, unknown: map[string]string{}}
	for _, v := range c.Env {
		delete(e.values, v.Name)
		delete(e.unknown, v.Name)
		if v.ValueFrom != nil {
			e.unknown[v.Name] = envSource(v.ValueFrom)
			continue
		}
		if name, from := e.unknownIn(v.Value); name != "" {
			e.unknown[v.Name] = from
			continue
		}
		e.values[v.Name] = e.expand(v.Value)
	}
	return e
}

func envSource(s *corev1.EnvVarSource) string {
	switch {
	case s.FieldRef != nil:
		return "fieldRef " + s.FieldRef.FieldPath
	case s.ResourceFieldRef != nil:
		return "resourceFieldRef " + s.ResourceFieldRef.Resource
	case s.ConfigMapKeyRef != nil:
		return "configMap " + s.ConfigMapKeyRef.Name
	case s.SecretKeyRef != nil:
		return "secret " + s.SecretKeyRef.Name
	}
	return "valueFrom"
}

// "$$" stands for one "$", "$(NAME)" for a variable.
var reference = regexp.MustCompile(`\$\$|\$\([^)]*\)`)

// expand puts variables in as kubelet does in command, args and env: those it doesn't know stay as they are.
func (e environment) expand(s string) string {
	return reference.ReplaceAllStringFunc(s, func(r string) string {
		if r == "$$" {
			return "$"
		}
		if v, ok := e.values[r[2:len(r)-1]]; ok {
			return v
		}
		return r
	})
}

// unknownIn names the first variable in s whose value isn't in the manifest.
func (e environment) unknownIn(s string) (name, from string) {
	for _, r := range reference.FindAllString(s, -1) {
		if r == "$$" {
			continue
		}
		name := r[2 : len(r)-1]
		if from := e.unknown[name]; from != "" {
			return name, from
		}
	}
	return "", ""
}
