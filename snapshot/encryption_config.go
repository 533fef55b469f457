package snapshot

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/nacl/secretbox"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"etcd-rewind/trust"
)

// EncryptionConfig is an API server's --encryption-provider-config, read as the
// API server reads it (k8s.io/apiserver, server/options/encryptionconfig). It
// holds keys: it is never printed or stored. nil is an API server without one.
type EncryptionConfig struct {
	byResource map[schema.GroupResource][]provider
	kms        []KMSPlugin
	names      []string
}

// KMSPlugin is one that the configuration names.
type KMSPlugin struct {
	Name       string
	APIVersion string        // "v1" or "v2"
	Socket     string        // a path as kube-apiserver sees it; "@name" is in no directory
	Timeout    time.Duration // of one call
}

// provider is one of a resource, in the order of the file.
type provider struct {
	prefix string // what its values begin with; "" is identity
	keys   []key
	plugin *KMSPlugin
}

type key struct {
	name string
	open func(data, etcdKey []byte) ([]byte, error)
}

// maxEncryptionConfig is far more than any has.
const maxEncryptionConfig = 1 << 20

// ReadEncryptionConfig reads a configuration and makes its keys ready. What is
// wrong is reported without what is in the file.
func ReadEncryptionConfig(path string) (*EncryptionConfig, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxEncryptionConfig+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxEncryptionConfig {
		return nil, fmt.Errorf("%s is larger than 1 MiB", path)
	}
	c, err := parseEncryptionConfig(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

type configKey struct {
	Name   string `json:"name"`
	Secret string `json:"secret"`
}

type configKeys struct {
	Keys []configKey `json:"keys"`
}

type configKMS struct {
	APIVersion string           `json:"apiVersion"`
	Name       string           `json:"name"`
	CacheSize  *int32           `json:"cachesize,omitempty"`
	Endpoint   string           `json:"endpoint"`
	Timeout    *metav1.Duration `json:"timeout,omitempty"`
}

type configProvider struct {
	AESGCM    *configKeys `json:"aesgcm,omitempty"`
	AESCBC    *configKeys `json:"aescbc,omitempty"`
	Secretbox *configKeys `json:"secretbox,omitempty"`
	Identity  *struct{}   `json:"identity,omitempty"`
	KMS       *configKMS  `json:"kms,omitempty"`
}

type configFile struct {
	metav1.TypeMeta `json:",inline"`
	Resources       []struct {
		Resources []string         `json:"resources"`
		Providers []configProvider `json:"providers"`
	} `json:"resources"`
}

func parseEncryptionConfig(data []byte) (*EncryptionConfig, error) {
	var file configFile
	// The parser's errors may quote the line they are about.
	if err := trust.YAML(data); err != nil {
		return nil, err
	}
	if err := yaml.Unmarshal(data, &file); err != nil {
		return nil, errors.New("it isn't valid YAML of an EncryptionConfiguration")
	}
	if file.Kind != "EncryptionConfiguration" && file.Kind != "EncryptionConfig" {
		return nil, fmt.Errorf("it holds a %q, not an EncryptionConfiguration", clip(file.Kind, 80))
	}
	if yaml.UnmarshalStrict(data, new(configFile)) != nil {
		return nil, errors.New("it has an unknown field, or one twice: kube-apiserver refuses to start with it")
	}
	if len(file.Resources) == 0 {
		return nil, errors.New("it names no resources")
	}
	c := &EncryptionConfig{byResource: map[schema.GroupResource][]provider{}}
	for i, r := range file.Resources {
		if len(r.Resources) == 0 || len(r.Providers) == 0 {
			return nil, fmt.Errorf("entry %d names no resources or no providers", i+1)
		}
		var providers []provider
		for _, p := range r.Providers {
			made, err := c.provider(p)
			if err != nil {
				return nil, fmt.Errorf("entry %d: %w", i+1, err)
			}
			providers = append(providers, made)
		}
		for _, name := range r.Resources {
			gr := schema.ParseGroupResource(name)
			for _, wider := range []schema.GroupResource{{Group: gr.Group, Resource: "*"}, {Group: "*", Resource: "*"}} {
				if _, masked := c.byResource[wider]; masked {
					return nil, fmt.Errorf("entry %d: the resource %q is in an earlier entry with a wildcard: kube-apiserver refuses to start with it", i+1, clip(name, 80))
				}
			}
			c.byResource[gr] = append(c.byResource[gr], providers...)
		}
	}
	return c, nil
}

func (c *EncryptionConfig) provider(p configProvider) (provider, error) {
	found := 0
	for _, there := range []bool{p.AESGCM != nil, p.AESCBC != nil, p.Secretbox != nil, p.Identity != nil, p.KMS != nil} {
		if there {
			found++
		}
	}
	if found != 1 {
		return provider{}, errors.New("an element of providers has not one provider")
	}
	switch {
	case p.Identity != nil:
		c.name("identity")
		return provider{}, nil
	case p.KMS != nil:
		return c.kmsProvider(p.KMS)
	case p.AESGCM != nil:
		return c.keyed("aesgcm", p.AESGCM, newGCM, 16, 24, 32)
	case p.AESCBC != nil:
		return c.keyed("aescbc", p.AESCBC, newCBC, 16, 24, 32)
	}
	return c.keyed("secretbox", p.Secretbox, newSecretbox, 32)
}

func (c *EncryptionConfig) name(s string) {
	if !slices.Contains(c.names, s) {
		c.names = append(c.names, s)
	}
}

func (c *EncryptionConfig) keyed(what string, from *configKeys, open func([]byte) (opener, error), sizes ...int) (provider, error) {
	made := provider{prefix: encryptedMark + what + ":v1:"}
	if len(from.Keys) == 0 {
		return made, fmt.Errorf("%s has no keys", what)
	}
	for _, k := range from.Keys {
		secret, err := base64.StdEncoding.DecodeString(k.Secret)
		switch {
		case k.Name == "":
			return made, fmt.Errorf("a key of %s has no name", what)
		case err != nil || len(secret) == 0:
			return made, fmt.Errorf("the secret of the key %s:%s isn't base64", what, clip(k.Name, 80))
		case !slices.Contains(sizes, len(secret)):
			return made, fmt.Errorf("the secret of the key %s:%s has %d bytes, not %s", what, clip(k.Name, 80), len(secret), strings.Trim(fmt.Sprint(sizes), "[]"))
		}
		o, err := open(secret)
		if err != nil {
			return made, fmt.Errorf("the secret of the key %s:%s can't be used", what, clip(k.Name, 80))
		}
		made.keys = append(made.keys, key{name: k.Name, open: o})
		c.name(what + ":" + k.Name)
	}
	return made, nil
}

func (c *EncryptionConfig) kmsProvider(from *configKMS) (provider, error) {
	k := KMSPlugin{Name: from.Name, APIVersion: from.APIVersion, Timeout: 3 * time.Second}
	if k.APIVersion == "" {
		k.APIVersion = "v1"
	}
	if from.Timeout != nil {
		k.Timeout = from.Timeout.Duration
	}
	u, err := url.Parse(from.Endpoint)
	switch {
	case k.APIVersion != "v1" && k.APIVersion != "v2":
		return provider{}, fmt.Errorf("kms has the apiVersion %q, not v1 or v2", clip(k.APIVersion, 80))
	case k.Name == "" || k.APIVersion == "v2" && strings.Contains(k.Name, ":"):
		return provider{}, errors.New("kms has no usable name")
	case k.Timeout <= 0:
		return provider{}, errors.New("kms has a timeout that isn't positive")
	case err != nil || u.Scheme != "unix" || u.Path == "":
		return provider{}, errors.New("kms has an endpoint that isn't like unix:///path/of/a.sock")
	}
	if k.Socket = u.Path; strings.HasPrefix(u.Path, "/@") {
		k.Socket = u.Path[1:]
	}
	if !slices.Contains(c.kms, k) {
		c.kms = append(c.kms, k)
	}
	c.name("kms:" + k.Name)
	return provider{prefix: encryptedMark + "kms:" + k.APIVersion + ":" + k.Name + ":", plugin: &k}, nil
}

// KMS are the plugins that the configuration names.
func (c *EncryptionConfig) KMS() []KMSPlugin {
	if c == nil {
		return nil
	}
	return c.kms
}

// Names are the providers with their keys' names, in the order of the file.
func (c *EncryptionConfig) Names() []string {
	if c == nil {
		return nil
	}
	return c.names
}

// of gives the providers of a resource as kube-apiserver looks for them
// (transformerFromOverrides): by name, by *.group, by *.*, else none but plain
// text.
func (c *EncryptionConfig) of(gr schema.GroupResource) []provider {
	if c != nil {
		for _, k := range []schema.GroupResource{gr, {Group: gr.Group, Resource: "*"}, {Group: "*", Resource: "*"}} {
			if p := c.byResource[k]; p != nil {
				return p
			}
		}
	}
	return []provider{{}}
}

// Unreadable are values of one resource that an API server can't read.
type Unreadable struct {
	Resource string
	With     string // "aescbc:key1", "" for plain text
	Objects  int
	Err      error
}

// Unreadable tries to read one value of each resource, provider and key in the
// snapshot as an API server with this configuration would. kms asks a plugin to
// decrypt; the rest behind its prefix is a value's. What was read is thrown
// away.
func (c *EncryptionConfig) Unreadable(info *Info, kms func(plugin KMSPlugin, rest []byte) error) []Unreadable {
	var bad []Unreadable
	for _, s := range info.stored {
		if err := s.read(c.of(groupResource(s.Resource, s.APIVersion)), kms); err != nil {
			bad = append(bad, Unreadable{Resource: s.Resource, With: s.With, Objects: s.Objects, Err: err})
		}
	}
	return bad
}

// Errors of kube-apiserver, in its words: they are what its log shows.
var (
	errNoPrefix = errors.New("no matching prefix found")
	errNoKey    = errors.New("no matching key was found")
)

// read does as storagevalue.prefixTransformers: each provider whose prefix
// fits is tried, in order.
func (s *storedValues) read(providers []provider, kms func(KMSPlugin, []byte) error) error {
	value := s.Value
	if s.With == "" {
		value = []byte("k8s\x00") // plain text is taken by identity alone, whatever it is
	} else if value == nil {
		return nil // too large to be tried
	}
	var first error
	for _, p := range providers {
		rest, ok := bytes.CutPrefix(value, []byte(p.prefix))
		if !ok {
			continue
		}
		var err error
		switch {
		case p.prefix == "":
			if !bytes.HasPrefix(value, []byte(encryptedMark)) {
				return nil
			}
			continue // identity leaves what is encrypted to the next
		case p.plugin != nil:
			err = kms(*p.plugin, rest)
		default:
			err = openWith(p.keys, rest, s.Key)
		}
		if err == nil {
			return nil
		}
		if first == nil {
			first = err
		}
	}
	if first != nil {
		return first
	}
	return errNoPrefix
}

func openWith(keys []key, rest, etcdKey []byte) error {
	var first error
	for _, k := range keys {
		data, ok := bytes.CutPrefix(rest, []byte(k.name+":"))
		if !ok {
			continue
		}
		plain, err := k.open(data, etcdKey)
		if err == nil && !bytes.HasPrefix(plain, []byte("k8s\x00")) && !bytes.HasPrefix(bytes.TrimSpace(plain), []byte("{")) {
			err = errors.New("what is decrypted is no object") // the padding of CBC may fit by chance
		}
		clear(plain)
		if err == nil {
			return nil
		}
		if first == nil {
			first = err
		}
	}
	if first == nil {
		first = errNoKey
	}
	return first
}

// opener decrypts what is behind the prefix and the key's name.
type opener = func(data, etcdKey []byte) ([]byte, error)

var errShort = errors.New("the stored data was shorter than the required size")

func newGCM(secret []byte) (opener, error) {
	block, err := aes.NewCipher(secret)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	return func(data, etcdKey []byte) ([]byte, error) {
		n := aead.NonceSize()
		if len(data) < n {
			return nil, errShort
		}
		return aead.Open(nil, data[:n], data[n:], etcdKey)
	}, nil
}

func newCBC(secret []byte) (opener, error) {
	block, err := aes.NewCipher(secret)
	if err != nil {
		return nil, err
	}
	return func(data, _ []byte) ([]byte, error) {
		if len(data) < 2*aes.BlockSize {
			return nil, errShort
		}
		iv, plain := data[:aes.BlockSize], bytes.Clone(data[aes.BlockSize:])
		if len(plain)%aes.BlockSize != 0 {
			return nil, errors.New("the stored data is not a multiple of the block size")
		}
		cipher.NewCBCDecrypter(block, iv).CryptBlocks(plain, plain)
		pad := int(plain[len(plain)-1])
		if pad == 0 || pad > len(plain) {
			return nil, errors.New("invalid PKCS7 data (empty or not padded)")
		}
		for _, b := range plain[len(plain)-pad:] {
			if int(b) != pad {
				return nil, errors.New("invalid padding on input")
			}
		}
		return plain[:len(plain)-pad], nil
	}, nil
}

func newSecretbox(secret []byte) (opener, error) {
	return func(data, _ []byte) ([]byte, error) {
		if len(data) < 24+secretbox.Overhead {
			return nil, errShort
		}
		plain, ok := secretbox.Open(nil, data[24:], (*[24]byte)(data[:24]), (*[32]byte)(secret))
		if !ok {
			return nil, errors.New("the key doesn't match")
		}
		return plain, nil
	}, nil
}

// groupResource is the resource of the API that is stored under a name. Built-in
// ones lie under their name alone, or an older one (SpecialDefaultResourcePrefixes
// in pkg/kubeapiserver); the rest have their group in it.
func groupResource(stored, apiVersion string) schema.GroupResource {
	if strings.Contains(stored, ".") {
		return schema.ParseGroupResource(stored)
	}
	switch stored {
	case "minions":
		stored = "nodes"
	case "controllers":
		stored = "replicationcontrollers"
	case "ingress":
		stored = "ingresses"
	case "podsecuritypolicy":
		stored = "podsecuritypolicies"
	}
	for group, resources := range builtIn {
		if slices.Contains(resources, stored) {
			return schema.GroupResource{Group: group, Resource: stored}
		}
	}
	group := ""
	if i := strings.Index(apiVersion, "/"); i > 0 {
		group = apiVersion[:i]
	}
	return schema.GroupResource{Group: group, Resource: stored}
}

// builtIn are Kubernetes' own resources that are in a group, for values whose
// apiVersion can't be read. What isn't here is in none, or in an object's
// apiVersion.
var builtIn = map[string][]string{
	"": {"events", "endpoints"}, // stored so, whatever their apiVersion says
	"admissionregistration.k8s.io": {
		"mutatingadmissionpolicies", "mutatingadmissionpolicybindings", "mutatingwebhookconfigurations",
		"validatingadmissionpolicies", "validatingadmissionpolicybindings", "validatingwebhookconfigurations",
	},
	"apps":                         {"controllerrevisions", "daemonsets", "deployments", "replicasets", "statefulsets"},
	"autoscaling":                  {"horizontalpodautoscalers"},
	"batch":                        {"cronjobs", "jobs"},
	"certificates.k8s.io":          {"certificatesigningrequests", "clustertrustbundles", "podcertificaterequests"},
	"coordination.k8s.io":          {"leasecandidates", "leases"},
	"discovery.k8s.io":             {"endpointslices"},
	"flowcontrol.apiserver.k8s.io": {"flowschemas", "prioritylevelconfigurations"},
	"networking.k8s.io":            {"ingressclasses", "ingresses", "ipaddresses", "networkpolicies", "servicecidrs"},
	"node.k8s.io":                  {"runtimeclasses"},
	"policy":                       {"poddisruptionbudgets", "podsecuritypolicies"},
	"rbac.authorization.k8s.io":    {"clusterrolebindings", "clusterroles", "rolebindings", "roles"},
	"resource.k8s.io":              {"deviceclasses", "resourceclaims", "resourceclaimtemplates", "resourceslices"},
	"scheduling.k8s.io":            {"priorityclasses"},
	"storage.k8s.io":               {"csidrivers", "csinodes", "csistoragecapacities", "storageclasses", "volumeattachments", "volumeattributesclasses"},
}

func clip(s string, n int) string {
	if len(s) > n {
		return s[:n] + "…"
	}
	return s
}
