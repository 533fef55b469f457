package node

import (
	"cmp"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"sigs.k8s.io/yaml"

	"etcd-rewind/problem"
	"etcd-rewind/trust"
)

// facts are the fields of a kubelet's configuration that matter here, by the
// names they have in kubelet.config.k8s.io/v1beta1.
type facts map[string]fact

type fact struct{ value, source string }

// Fields that hold a path that may be relative.
var configPaths = map[string]bool{"staticPodPath": true, "podLogsDir": true}

var configFields = []string{
	"staticPodPath", "containerRuntimeEndpoint", "podLogsDir", "cgroupRoot",
	"healthzBindAddress", "healthzPort", "address", "port", "fileCheckFrequency",
}

// merge lays the configuration file at path over f, as a JSON merge patch does:
// what the file names wins, null takes a value away. Relative paths are resolved
// against base; "" leaves them alone.
func (f facts) merge(path, base string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return problem.New("run it as root, or name the file with --kubelet-config", "cannot read kubelet's configuration: %w", err)
	}
	// A map and not a struct: kubelet's decoder is strict about upper and lower
	// case, and a null differs from an absent field.
	var doc map[string]any
	if err = trust.YAML(data); err == nil {
		err = yaml.Unmarshal(data, &doc)
	}
	if err != nil {
		return fmt.Errorf("cannot decode kubelet's configuration %s: %w", path, err)
	}
	if kind, _ := doc["kind"].(string); kind != "KubeletConfiguration" {
		return fmt.Errorf("%s is not a kubelet configuration: its kind is %q, not KubeletConfiguration", path, kind)
	}
	if v, _ := doc["apiVersion"].(string); v != "kubelet.config.k8s.io/v1beta1" {
		return fmt.Errorf("%s has apiVersion %q; only kubelet.config.k8s.io/v1beta1 is known", path, v)
	}
	for _, name := range configFields {
		raw, there := doc[name]
		if !there {
			continue
		}
		if raw == nil {
			delete(f, name)
			continue
		}
		value, err := scalar(raw)
		if err != nil {
			return fmt.Errorf("kubelet's configuration %s: %s: %w", path, name, err)
		}
		if configPaths[name] && value != "" && base != "" {
			value = absolute(value, base)
		}
		f[name] = fact{value, path}
	}
	return nil
}

// mergeDir merges the *.conf files below dir in the order in which kubelet
// walks them (cmd/kubelet/app/server.go, mergeKubeletConfigurations).
func (f facts) mergeDir(dir string) error {
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() || filepath.Ext(d.Name()) != ".conf" {
			return nil
		}
		return f.merge(path, "")
	})
	if err != nil {
		return fmt.Errorf("kubelet's drop-in directory: %w", err)
	}
	return nil
}

func scalar(v any) (string, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), nil
	case int64:
		return strconv.FormatInt(v, 10), nil
	case bool:
		return strconv.FormatBool(v), nil
	}
	return "", fmt.Errorf("a %T where a plain value is expected", v)
}

// pick chooses the value that counts, first wins: what a person gave, the
// flag, the field of the configuration, the default. It notes the source.
func (f facts) pick(k *Kubelet, name, def, field string, flag, given flagged) string {
	switch c := f[field]; {
	case given.value != "":
		k.Sources[name] = given.source
		return given.value
	case flag.value != "":
		k.Sources[name] = flag.source
		return flag.value
	case c.value != "":
		k.Sources[name] = c.source
		return c.value
	}
	if def != "" && k.Sources[name] == "" {
		k.Sources[name] = "default"
	}
	return def
}

// flagged is one command-line flag and where it stands.
type flagged struct{ name, value, source string }

func given(v string) flagged { return flagged{value: v, source: "given"} }

func lastFlag(flags []flagged, name string) flagged {
	for i := len(flags) - 1; i >= 0; i-- {
		if flags[i].name == name {
			return flags[i]
		}
	}
	return flagged{}
}

// readFlags takes --name=value and --name value from args. Kubelet takes an
// underscore for a dash in a flag's name.
func readFlags(args []string, where string) []flagged {
	var out []flagged
	for i, a := range args {
		if a == "--" {
			break
		}
		name, ok := strings.CutPrefix(a, "--")
		if !ok {
			continue
		}
		name, value, eq := strings.Cut(name, "=")
		if !eq && i+1 < len(args) && !strings.HasPrefix(args[i+1], "-") {
			value = args[i+1]
		}
		name = strings.ReplaceAll(name, "_", "-")
		out = append(out, flagged{name, value, "flag --" + name + " " + where})
	}
	return out
}

// storedFlags are the flags that kubeadm's systemd unit would start the kubelet
// with, in the order of its command line.
func storedFlags(opts Options) []flagged {
	files := opts.envFiles
	if files == nil {
		usual := opts.Found()
		files = usual.envFiles(cmp.Or(opts.KubeletRoot, usual.KubeletRoot))
		if opts.NoProcess {
			files = files[:min(len(files), 1)] // the others are this machine's
		}
	}
	var out []flagged
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(data)) {
			name, value, ok := strings.Cut(strings.TrimSpace(line), "=")
			if !ok || (name != "KUBELET_KUBEADM_ARGS" && name != "KUBELET_EXTRA_ARGS") {
				continue
			}
			value = strings.Trim(value, `"'`)
			out = append(out, readFlags(strings.Fields(value), "in "+file)...)
		}
	}
	return out
}
