package snapshot

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What kube-apiserver 1.34 made of a Secret at /registry/secrets/shop/s, with
// the key key1 below.
var encrypted = map[string]string{
	"aescbc":    "azhzOmVuYzphZXNjYmM6djE6a2V5MTrsjKp139yIE6ZpEQp3+b8lsmRRh4JDIVwCQWhe7I/H8Y9lN27Cg5JJ90IujxkUZcDzxQwdzVlvDaXSNCC9XG6Dzejt6W+fr0Qukuved9x0mg==",
	"aesgcm":    "azhzOmVuYzphZXNnY206djE6a2V5MTo6O+XGQ4E1TezjjnQhhxi+s5MbtbiuK6MLOyh/vzJhgDZpqcxJLwAaC0O4RwcIn91G2VbQEmnfAGylY/qbV7GL1O5Mfz6xQs3pLzDg2uK+ywyy21/ndWg=",
	"secretbox": "azhzOmVuYzpzZWNyZXRib3g6djE6a2V5MTp8RgbRMxIwL7trcdejZJEjysFnWEJMF1SsV+UBRBe8ltO5OZECzQYxhqBP+5xDjHTMGq9BSwlRt0SICxy5Lev7GpRB4ByYcA1IFjh4Wv5jTllf9a6yTZiD7mBd9zhYbW3MUxw=",
}

const (
	rightKey = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
	wrongKey = "ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA="
)

func encryptedValue(t *testing.T, provider string) string {
	t.Helper()
	v, err := base64.StdEncoding.DecodeString(encrypted[provider])
	if err != nil {
		t.Fatal(err)
	}
	return string(v)
}

// clusterWith is a snapshot of a cluster with these values.
func clusterWith(t *testing.T, prefix string, values map[string]string) *Info {
	t.Helper()
	data := makeSnapshot(t, func(db *database) {
		db.put(prefix+"/namespaces/kube-system", `{"kind":"Namespace","apiVersion":"v1","metadata":{"name":"kube-system","uid":"k"}}`)
		for key, value := range values {
			db.put(prefix+key, value)
		}
	})
	info, err := Inspect(t.Context(), file(t, "made.db", data), nil)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func parseConfig(t *testing.T, resources, providers string) *EncryptionConfig {
	t.Helper()
	c, err := parseEncryptionConfig([]byte(configOf(resources, providers)))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func configOf(resources, providers string) string {
	return "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- {resources: [" + resources + "], providers: [" + providers + "]}\n"
}

func withKeys(provider string, namesAndSecrets ...string) string {
	var keys []string
	for i := 0; i < len(namesAndSecrets); i += 2 {
		keys = append(keys, fmt.Sprintf("{name: %s, secret: %s}", namesAndSecrets[i], namesAndSecrets[i+1]))
	}
	return provider + ": {keys: [" + strings.Join(keys, ", ") + "]}"
}

// Each value is read as the API server with that configuration reads it.
func TestEncryptionConfigurationAgainstASnapshot(t *testing.T) {
	const plain = `{"kind":"Secret","apiVersion":"v1","metadata":{"name":"p"}}`
	for _, c := range []struct {
		name       string
		providers  string   // of secrets
		unreadable []string // resource, with what, why
	}{
		{"the key is there, and identity for the rest", "{aescbc}, {identity: {}}", nil},
		{"identity is missing", "{aescbc}", []string{"secrets  no matching prefix found"}},
		{"the same name has another secret", "{aescbc-wrong}, {identity: {}}", []string{"secrets aescbc:key1 *"}},
		{"the key was rotated away", "{aescbc-key2}, {identity: {}}", []string{"secrets aescbc:key1 no matching key was found"}},
		{"a key of that name, but of another provider", "{secretbox}, {identity: {}}", []string{"secrets aescbc:key1 no matching prefix found"}},
		{"the first provider fails, a later one of the same kind fits", "{aescbc-wrong}, {identity: {}}, {aescbc}", nil},
		{"identity comes first", "{identity: {}}, {aescbc}", nil},
		{"nothing is encrypted any more", "{identity: {}}", []string{"secrets aescbc:key1 no matching prefix found"}},
	} {
		for _, provider := range []string{"aescbc", "aesgcm", "secretbox"} {
			t.Run(c.name+": "+provider, func(t *testing.T) {
				other := "secretbox"
				if provider == other {
					other = "aescbc"
				}
				providers := c.providers
				for from, to := range map[string]string{
					"{aescbc}":       "{" + withKeys(provider, "key2", wrongKey, "key1", rightKey) + "}",
					"{aescbc-wrong}": "{" + withKeys(provider, "key1", wrongKey) + "}",
					"{aescbc-key2}":  "{" + withKeys(provider, "key2", rightKey) + "}",
					"{secretbox}":    "{" + withKeys(other, "key1", rightKey) + "}",
				} {
					providers = strings.ReplaceAll(providers, from, to)
				}
				info := clusterWith(t, "/registry", map[string]string{
					"/secrets/shop/s": encryptedValue(t, provider), "/secrets/shop/plain": plain, "/configmaps/shop/c": plain,
				})
				got := parseConfig(t, "secrets", providers).Unreadable(info, nil)
				var words []string
				for i, u := range got {
					why := u.Err.Error()
					if i < len(c.unreadable) && strings.HasSuffix(c.unreadable[i], "*") {
						why = "*"
					}
					words = append(words, u.Resource+" "+strings.Replace(u.With, provider, "aescbc", 1)+" "+why)
				}
				if diff := cmp.Diff(c.unreadable, words); diff != "" {
					t.Errorf("want -, got +\n%s", diff)
				}
			})
		}
	}
}

// GCM binds a value to its key in etcd, with the prefix.
func TestAValueOfAnotherPrefixIsNotDecrypted(t *testing.T) {
	config := parseConfig(t, "secrets", "{"+withKeys("aesgcm", "key1", rightKey)+"}")
	if bad := config.Unreadable(clusterWith(t, "/kubernetes.io", map[string]string{"/secrets/shop/s": encryptedValue(t, "aesgcm")}), nil); len(bad) != 1 {
		t.Errorf("got %+v", bad)
	}
}

func TestWhichEntryOfAnEncryptionConfigurationCounts(t *testing.T) {
	deployment := `{"kind":"Deployment","apiVersion":"apps/v1","metadata":{"name":"d"}}`
	widget := `{"kind":"Widget","apiVersion":"example.com/v1","metadata":{"name":"w"}}`
	info := clusterWith(t, "/registry", map[string]string{
		"/secrets/shop/s": encryptedValue(t, "secretbox"), "/deployments/shop/d": deployment,
		"/example.com/widgets/shop/w": widget, "/minions/cp1": `{"kind":"Node","apiVersion":"v1","metadata":{"name":"cp1"}}`,
	})
	box := "{" + withKeys("secretbox", "key1", rightKey) + "}"
	for resources, want := range map[string]string{
		"secrets":                      "",
		`"*."`:                         "minions namespaces", // the core group, whose plain text nothing reads
		"secrets, deployments.apps":    "deployments",
		`secrets, "*.apps"`:            "deployments",
		"secrets, widgets.example.com": "widgets.example.com",
		`secrets, "*.example.com"`:     "widgets.example.com",
		`"*.*"`:                        "deployments minions namespaces widgets.example.com",
		"secrets, deployments":         "", // a resource of the core group that there isn't
		"secrets, nodes":               "minions",
		"deployments.apps, configmaps": "deployments secrets",
	} {
		var got []string
		for _, u := range parseConfig(t, resources, box).Unreadable(info, nil) {
			got = append(got, u.Resource)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %s can't be read, want %s", resources, got, want)
		}
	}
	var none *EncryptionConfig
	if bad := none.Unreadable(info, nil); len(bad) != 1 || bad[0].Resource != "secrets" {
		t.Errorf("without a configuration: %+v", bad)
	}
}

func TestAValueOfAKMSPluginIsAskedOfThePlugin(t *testing.T) {
	info := clusterWith(t, "/registry", map[string]string{"/secrets/shop/s": "k8s:enc:kms:v2:vault:sealed"})
	config := parseConfig(t, "secrets", "{kms: {apiVersion: v2, name: vault, endpoint: unix:///run/kms/vault.sock}}")
	if diff := cmp.Diff([]KMSPlugin{{Name: "vault", APIVersion: "v2", Socket: "/run/kms/vault.sock", Timeout: 3e9}}, config.KMS()); diff != "" {
		t.Error(diff)
	}
	asked := ""
	ask := func(answer error) []Unreadable {
		return config.Unreadable(info, func(p KMSPlugin, rest []byte) error { asked = p.Name + " " + string(rest); return answer })
	}
	if bad := ask(nil); len(bad) != 0 || asked != "vault sealed" {
		t.Errorf("asked %q, got %+v", asked, bad)
	}
	if bad := ask(errors.New("the key was destroyed")); len(bad) != 1 || bad[0].With != "kms:vault" {
		t.Errorf("got %+v", bad)
	}
}

// A file that kube-apiserver refuses is refused, and none is quoted.
func TestAnEncryptionConfigurationThatCannotBeUsed(t *testing.T) {
	good := "{" + withKeys("aescbc", "key1", rightKey) + "}"
	for name, text := range map[string]string{
		"another kind":        "kind: Pod\n",
		"no YAML":             "kind: [" + rightKey + "\n",
		"empty":               "",
		"no resources":        "kind: EncryptionConfiguration\n",
		"no providers":        configOf("secrets", ""),
		"an unknown field":    configOf("secrets", good) + "secrets: " + rightKey + "\n",
		"an unknown provider": configOf("secrets", "{aesxyz: {keys: [{name: a, secret: "+rightKey+"}]}}"),
		"two in one element":  configOf("secrets", "{identity: {}, "+withKeys("aescbc", "key1", rightKey)+"}"),
		"a short key":         configOf("secrets", "{"+withKeys("aescbc", "key1", "aGVsbG8=")+"}"),
		"no base64":           configOf("secrets", "{"+withKeys("aescbc", "key1", "'"+rightKey+"!'")+"}"),
		"secretbox of 16":     configOf("secrets", "{"+withKeys("secretbox", "key1", "MDEyMzQ1Njc4OWFiY2RlZg==")+"}"),
		"a key without name":  configOf("secrets", "{aescbc: {keys: [{secret: "+rightKey+"}]}}"),
		"no keys":             configOf("secrets", "{aescbc: {keys: []}}"),
		"masked":              configOf(`"*.*"`, good) + "- {resources: [secrets], providers: [" + good + "]}\n",
		"kms over TCP":        configOf("secrets", "{kms: {name: a, apiVersion: v2, endpoint: 'tcp://1.2.3.4:5'}}"),
		"kms v3":              configOf("secrets", "{kms: {name: a, apiVersion: v3, endpoint: 'unix:///a'}}"),
	} {
		_, err := parseEncryptionConfig([]byte(text))
		if err == nil {
			t.Errorf("%s: taken", name)
		} else if strings.Contains(err.Error(), rightKey) || strings.Contains(err.Error(), "aGVsbG8") {
			t.Errorf("%s: a key is in the error: %v", name, err)
		}
	}
	if _, err := ReadEncryptionConfig(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// FuzzEncryptionConfig: whatever the file is, it is taken or refused, without a
// word of its keys, and values are read with it or not.
func FuzzEncryptionConfig(f *testing.F) {
	for _, provider := range []string{"aescbc", "aesgcm", "secretbox"} {
		f.Add([]byte(configOf("secrets", "{"+withKeys(provider, "key1", rightKey)+"}, {identity: {}}")), []byte(encrypted[provider]))
	}
	f.Add([]byte(configOf(`"*.*"`, "{kms: {apiVersion: v2, name: vault, endpoint: unix:///run/kms/vault.sock, timeout: 1s}}")), []byte("k8s:enc:kms:v2:vault:x"))
	f.Add([]byte("kind: EncryptionConfig\nresources: [{resources: ['*.'], providers: [{identity: {}}]}]"), []byte("k8s:enc:"))
	f.Add([]byte(`{"kind":"EncryptionConfiguration","resources":[{"resources":["a.b"],"providers":[{"aesgcm":{"keys":[{"name":"","secret":""}]}}]}]}`), []byte("k8s:enc:aesgcm:v1::"))
	f.Fuzz(func(t *testing.T, text, value []byte) {
		const secret = "TUFHSUMtU0VDUkVULU1BR0lD"
		c, err := parseEncryptionConfig(bytes.ReplaceAll(text, []byte(rightKey), []byte(secret)))
		if err != nil {
			if strings.Contains(err.Error(), secret) {
				t.Errorf("a key is in the error: %v", err)
			}
			c, err = parseEncryptionConfig(text)
		}
		if err != nil {
			return
		}
		if raw, err := base64.StdEncoding.DecodeString(string(value)); err == nil {
			value = raw
		}
		s := storedValues{Resource: "secrets", Key: []byte("/registry/secrets/shop/s"), Value: value, Objects: 1}
		if bytes.HasPrefix(value, []byte(encryptedMark)) {
			s.With = "something " + encryptedWith(value)
		}
		c.Unreadable(&Info{stored: []storedValues{s}}, func(KMSPlugin, []byte) error { return nil })
	})
}
