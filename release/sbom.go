package main

import (
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
)

// A bill of materials in CycloneDX 1.5, of the fields that are filled in.
type (
	bom struct {
		Format     string      `json:"bomFormat"` // CycloneDX
		Spec       string      `json:"specVersion"`
		Version    int         `json:"version"`
		Metadata   metadata    `json:"metadata"`
		Components []component `json:"components"`
	}
	metadata struct {
		Component component `json:"component"`
	}
	component struct {
		Type     string     `json:"type"` // application, library
		Name     string     `json:"name"`
		Version  string     `json:"version"`
		PURL     string     `json:"purl,omitempty"`
		Hashes   []hash     `json:"hashes,omitempty"`
		Licences []licensed `json:"licenses,omitempty"`
	}
	hash struct {
		Alg     string `json:"alg"`
		Content string `json:"content"` // hexadecimal
	}
	licensed struct {
		License struct {
			ID string `json:"id"`
		} `json:"license"`
	}
)

// writeSBOM writes what a binary says that it is made of, with the licences of
// the modules given. The version is not in the binary for all to read: -trimpath
// leaves the linker's flags out.
func writeSBOM(w io.Writer, binary, version string, modules []*module) error {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return err
	}
	data, err := os.ReadFile(binary)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(data)
	b := bom{Format: "CycloneDX", Spec: "1.5", Version: 1, Metadata: metadata{component{
		Type: "application", Name: "etcd-rewind", Version: version,
		Hashes:   []hash{{"SHA-256", hex.EncodeToString(sum[:])}},
		Licences: licensedUnder([]string{"Apache-2.0"}),
	}}}
	b.Components = append(b.Components, component{
		Type: "library", Name: "std", Version: strings.TrimPrefix(info.GoVersion, "go"),
		PURL: "pkg:golang/std@" + strings.TrimPrefix(info.GoVersion, "go"), Licences: licensedUnder([]string{"BSD-3-Clause"}),
	})
	ids := map[string][]string{}
	for _, m := range modules {
		if ids[m.path], err = m.spdx(); err != nil {
			return err
		}
	}
	for _, dep := range info.Deps {
		if ids[dep.Path] == nil {
			return fmt.Errorf("%s is in %s, and not among the modules given", dep.Path, binary)
		}
		b.Components = append(b.Components, component{
			Type: "library", Name: dep.Path, Version: dep.Version,
			PURL: "pkg:golang/" + dep.Path + "@" + dep.Version, Licences: licensedUnder(ids[dep.Path]),
		})
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(b)
}

func licensedUnder(ids []string) []licensed {
	var all []licensed
	for _, id := range ids {
		var l licensed
		l.License.ID = id
		all = append(all, l)
	}
	return all
}
