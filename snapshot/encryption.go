package snapshot

import (
	"bytes"
	"fmt"
	"os"
	"slices"

	"sigs.k8s.io/yaml"
)

// Encryption counts the values that are encrypted at rest with one key. They
// are recognised by what the API server writes before them,
// k8s:enc:<provider>:<version>:<key name>: (k8s.io/apiserver,
// storage/value/encrypt).
type Encryption struct {
	Provider  string   `json:"provider"` // "aescbc", "aesgcm", "secretbox", "kms"
	Key       string   `json:"key"`      // its name; of kms the plugin's
	Objects   int      `json:"objects"`
	Resources []string `json:"resources"`
}

// String is provider and key name, "aescbc:key1".
func (e Encryption) String() string { return e.Provider + ":" + e.Key }

const encryptedMark = "k8s:enc:"

// encryptedWith is "<provider>:<key name>" of an encrypted value, "" when it
// only begins like one.
func encryptedWith(value []byte) string {
	// So far a name can reach; behind it there may be a colon by chance.
	rest := value[len(encryptedMark):min(len(value), 512)]
	provider, rest, ok1 := bytes.Cut(rest, []byte(":"))
	_, rest, ok2 := bytes.Cut(rest, []byte(":"))
	name, _, ok3 := bytes.Cut(rest, []byte(":"))
	if !ok1 || !ok2 || !ok3 {
		return ""
	}
	return string(provider) + ":" + string(name)
}

// EncryptionKeys are the providers and key names of an EncryptionConfiguration
// file, in their order, without the keys themselves.
type EncryptionKeys []string

// ReadEncryptionConfig reads what an API server's --encryption-provider-config
// names. The keys' secrets are never decoded.
func ReadEncryptionConfig(path string) (EncryptionKeys, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	type named struct {
		Name string `json:"name"`
	}
	type keys struct {
		Keys []named `json:"keys"`
	}
	var c struct {
		Kind      string `json:"kind"`
		Resources []struct {
			Providers []struct {
				AESCBC    *keys  `json:"aescbc"`
				AESGCM    *keys  `json:"aesgcm"`
				Secretbox *keys  `json:"secretbox"`
				KMS       *named `json:"kms"`
			} `json:"providers"`
		} `json:"resources"`
	}
	if err := yaml.Unmarshal(data, &c); err != nil {
		// The error may quote the line it is about.
		return nil, fmt.Errorf("%s isn't valid YAML", path)
	}
	if c.Kind != "EncryptionConfiguration" && c.Kind != "EncryptionConfig" {
		return nil, fmt.Errorf("%s holds a %q, not an EncryptionConfiguration", path, c.Kind)
	}
	var all EncryptionKeys
	add := func(provider, name string) {
		if s := provider + ":" + name; !slices.Contains(all, s) {
			all = append(all, s)
		}
	}
	for _, r := range c.Resources {
		for _, p := range r.Providers {
			for provider, k := range map[string]*keys{"aescbc": p.AESCBC, "aesgcm": p.AESGCM, "secretbox": p.Secretbox} {
				if k == nil {
					continue
				}
				for _, key := range k.Keys {
					add(provider, key.Name)
				}
			}
			if p.KMS != nil {
				add("kms", p.KMS.Name)
			}
		}
	}
	return all, nil
}

// Missing are those of a snapshot's encryptions that an API server with these
// keys can't read.
func (k EncryptionKeys) Missing(all []Encryption) []Encryption {
	var missing []Encryption
	for _, e := range all {
		if !slices.Contains(k, e.String()) {
			missing = append(missing, e)
		}
	}
	return missing
}
