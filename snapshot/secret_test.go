package snapshot

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"etcd-rewind/trust"
)

// eachRecord visits all records that a fixture holds, also the old ones.
func eachRecord(t *testing.T, name string, visit func(record)) error {
	t.Helper()
	db, err := bolt.Open(file(t, "db", withoutTrailer(fixture(t, name))), 0o600, &bolt.Options{ReadOnly: true})
	if err != nil {
		return err
	}
	defer db.Close()
	return db.View(func(tx *bolt.Tx) error {
		return tx.Bucket([]byte("key")).ForEach(func(_, v []byte) error {
			var r record
			if err := r.split(v); err != nil {
				return err
			}
			visit(r)
			return nil
		})
	})
}

// secretsIn are the values of all Secrets that a snapshot ever held, as they
// are and in base64.
func secretsIn(t *testing.T, name string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := eachRecord(t, name, func(r record) {
		e, ok := open(r.value)
		if ok && e.kind == "Secret" {
			var s corev1.Secret
			if err := e.into(&s); err != nil {
				t.Error(err)
			}
			for k, v := range s.Data {
				found[fmt.Sprintf("%s %s", r.key, k)] = string(v)
				found[fmt.Sprintf("%s %s in base64", r.key, k)] = base64.StdEncoding.EncodeToString(v)
			}
		}
		if strings.HasPrefix(string(r.value), encryptedMark) {
			found[string(r.key)+" encrypted"] = string(r.value[40:60])
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// telltale is part of every value that must not come out.
const telltale = "hunter2"

// confidential is a snapshot full of things that somebody may want to hide. Of
// each another value is in every generation.
func confidential(t *testing.T, generation string) []byte {
	t.Helper()
	const hidden = telltale + "-aVeryLongPasswordIndeed"
	value := hidden + generation
	meta := func(ns, name string) metav1.ObjectMeta {
		return metav1.ObjectMeta{
			Namespace: ns, Name: name, UID: types.UID(ns + name), CreationTimestamp: metav1.Now(),
			Annotations: map[string]string{
				"kubectl.kubernetes.io/last-applied-configuration": value, "note": value, "password/" + value: "1",
				"deployment.kubernetes.io/desired-replicas": value,
			},
			Labels:     map[string]string{"l": value, value: "1"},
			Finalizers: []string{value},
		}
	}
	proto := func(apiVersion, kind string, o interface{ Marshal() ([]byte, error) }) string {
		raw, err := o.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		u := runtime.Unknown{TypeMeta: runtime.TypeMeta{APIVersion: apiVersion, Kind: kind}, Raw: raw}
		b, err := u.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		return "k8s\x00" + string(b)
	}
	replicas := int32(len(generation))
	return makeSnapshot(t, func(db *database) {
		db.put("/registry/namespaces/kube-system", proto("v1", "Namespace", &corev1.Namespace{ObjectMeta: meta("", "kube-system")}))
		db.put("/registry/secrets/a/one", proto("v1", "Secret", &corev1.Secret{
			ObjectMeta: meta("a", "one"), Data: map[string][]byte{"token": []byte(value)},
		}))
		db.put("/registry/secrets/kube-system/bootstrap-token-abcdef", proto("v1", "Secret", &corev1.Secret{
			ObjectMeta: meta("kube-system", "bootstrap-token-abcdef"), StringData: map[string]string{"token-secret": value},
		}))
		db.put("/registry/secrets/a/json", `{"apiVersion":"v1","kind":"Secret","metadata":{"name":"json","namespace":"a"},"data":{"x":"`+value+`"}}`)
		db.put("/registry/secrets/a/enc", "k8s:enc:aescbc:v1:key1:"+value)
		db.put("/registry/configmaps/a/app", proto("v1", "ConfigMap", &corev1.ConfigMap{
			ObjectMeta: meta("a", "app"), Data: map[string]string{"image": value, "type": value, value: "1", "dsn": "postgres://app:" + value + "@db/app"},
			BinaryData: map[string][]byte{"image": []byte(value)},
		}))
		d := &appsv1.Deployment{ObjectMeta: meta("a", "d")}
		d.Spec.Replicas = &replicas
		dsn := "postgres://app:" + value + "@db/app"
		d.Spec.Template.Annotations, d.Spec.Template.Labels = map[string]string{value: value}, map[string]string{value: value}
		d.Spec.Template.Spec.NodeSelector = map[string]string{value: value}
		d.Spec.Template.Spec.Volumes = []corev1.Volume{{Name: value, VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: value}}}}
		d.Spec.Template.Spec.Containers = []corev1.Container{{
			Name: "c", Image: "image:" + generation, Args: []string{"--password=" + value}, Command: []string{value}, WorkingDir: value,
			Env: []corev1.EnvVar{{Name: "TOKEN", Value: value}, {Name: "image", Value: value}, {Name: value, Value: dsn}, {Name: "DSN", Value: dsn}},
			LivenessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{
				Path: "/" + value, HTTPHeaders: []corev1.HTTPHeader{{Name: "Authorization", Value: value}},
			}}},
			VolumeMounts: []corev1.VolumeMount{{Name: value, MountPath: value}},
			Ports:        []corev1.ContainerPort{{Name: value}},
			Resources:    corev1.ResourceRequirements{Limits: corev1.ResourceList{corev1.ResourceName(value): resource.MustParse("1")}},
		}, {Name: value + "_", Image: "app:" + value + "@registry.example.com/app"}}
		db.put("/registry/deployments/a/d", proto("apps/v1", "Deployment", d))
		db.put("/registry/example.com/widgets/a/w", `{"apiVersion":"example.com/v1","kind":"Widget","metadata":{"name":"w","namespace":"a"},"spec":{"password":"`+
			value+`","image":"`+value+`","replicas":"`+value+`","`+value+`":1,"type":{"`+value+`":"x"},"rows":[{"name":"`+value+`"}],"size":`+fmt.Sprint(replicas)+`,"list":["`+value+`"],"deep":{"`+"key"+`":"`+value+`"}}}`)
		db.put("/registry/example.com/flat/a/f", `{"apiVersion":"example.com/v1","kind":"Flat","metadata":{"name":"f","namespace":"a"},"pin":`+fmt.Sprint(417_300+replicas)+`,"`+value+`":"`+value+`"}`)
		db.put("/registry/deployments/a/json", `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"json","namespace":"a"},"spec":{"replicas":`+
			fmt.Sprint(replicas)+`,"`+value+`":"`+value+`","serviceName":"`+value+` x"}}`)
		db.put("/registry/example.com/secretthings/a/s", `{"apiVersion":"example.com/v1","kind":"Secret","metadata":{"name":"s","namespace":"a"},"spec":{"image":"`+value+`"}}`)
		db.put("compact_rev_key", value)
	})
}

func TestNoSecretComesOut(t *testing.T) {
	secrets := map[string]string{"a made one": telltale, "a made one in base64": "aHVudGVyMi", "a number": "41730"}
	for _, name := range fixtureNames {
		for what, s := range secretsIn(t, name) {
			if len(s) >= 8 { // shorter ones are everywhere
				secrets[what] = s
			}
		}
	}
	if len(secrets) < 3 {
		t.Fatalf("the fixtures hold only %d secret values", len(secrets))
	}
	data := map[string][]byte{"confidential": confidential(t, "v1"), "and changed": confidential(t, "v22")}
	for _, name := range fixtureNames {
		data[name] = fixture(t, name)
	}
	look := func(from string, text []byte) {
		t.Helper()
		if len(text) < 300 {
			t.Errorf("%s: only %q", from, text)
		}
		for what, s := range secrets {
			if strings.Contains(string(text), s) {
				t.Errorf("%s: the value of %s came out", from, what)
			}
		}
	}
	for a, da := range data {
		look("inspect "+a, said(t, workInspect, inspectRequest{Path: file(t, "a.db", da)}))
		for b, db := range data {
			req := compareRequest{Snapshot: file(t, "a.db", da), Options: CompareOptions{Noise: true}}
			req.Other.Snapshot = file(t, "b.db", db)
			out := said(t, workCompare, req)
			look("diff "+a+" "+b, out)
			if a == "confidential" && b == "and changed" {
				for _, want := range []string{
					`"spec.replicas","then":"2","now":"3"`, "image:v22",
					`"path":"spec","hidden":true`, `"path":"data","hidden":true`, `"path":"metadata.annotations","hidden":true`,
					`"path":"spec.template.spec.containers[c].env","hidden":true`, `"path":"spec.template.spec.containers[1].image","hidden":true`,
				} {
					if !strings.Contains(string(out), want) {
						t.Errorf("the difference lacks %s: %s", want, out)
					}
				}
			}
		}
	}
}

// said is all that a worker writes.
func said(t *testing.T, kind string, request any) []byte {
	t.Helper()
	exe, err := trust.SelfPath()
	if err != nil {
		t.Fatal(err)
	}
	line, err := json.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(context.Background(), exe)
	cmd.Env = append(os.Environ(), workerEnv+"="+kind)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = stdin.Write(append(line, '\n')) }()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return out
}
