//lint:file-ignore SA1019 kube-apiserver still asks version 1 plugins, and so does this.

package node

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	kmsv1 "k8s.io/kms/apis/v1beta1"
	kmsv2 "k8s.io/kms/apis/v2"
)

// fakeKMS answers as a plugin does.
type fakeKMS struct {
	kmsv1.UnimplementedKeyManagementServiceServer
	status kmsv2.StatusResponse
}

func (*fakeKMS) Version(context.Context, *kmsv1.VersionRequest) (*kmsv1.VersionResponse, error) {
	return &kmsv1.VersionResponse{Version: "v1beta1"}, nil
}

func (*fakeKMS) Decrypt(_ context.Context, r *kmsv1.DecryptRequest) (*kmsv1.DecryptResponse, error) {
	if string(r.Cipher) != "sealed" {
		return nil, status.Error(codes.InvalidArgument, "the key was destroyed")
	}
	return &kmsv1.DecryptResponse{Plain: []byte("key")}, nil
}

type fakeKMSv2 struct {
	kmsv2.UnimplementedKeyManagementServiceServer
	*fakeKMS
}

func (f fakeKMSv2) Status(context.Context, *kmsv2.StatusRequest) (*kmsv2.StatusResponse, error) {
	return &f.status, nil
}

func (f fakeKMSv2) Decrypt(_ context.Context, r *kmsv2.DecryptRequest) (*kmsv2.DecryptResponse, error) {
	if string(r.Ciphertext) != "sealed" || r.KeyId != "1" || string(r.Annotations["a.example"]) != "b" {
		return nil, status.Errorf(codes.InvalidArgument, "the key was destroyed: %v", r)
	}
	return &kmsv2.DecryptResponse{Plaintext: []byte("key")}, nil
}

func startKMS(t *testing.T, f *fakeKMS) string {
	t.Helper()
	l, socket := listenUnix(t)
	srv := grpc.NewServer()
	kmsv1.RegisterKeyManagementServiceServer(srv, f)
	kmsv2.RegisterKeyManagementServiceServer(srv, fakeKMSv2{fakeKMS: f})
	go srv.Serve(l)
	t.Cleanup(srv.Stop)
	return socket
}

func TestAKMSPluginIsAskedAsKubeAPIServerAsksIt(t *testing.T) {
	f := &fakeKMS{status: kmsv2.StatusResponse{Version: "v2", Healthz: "ok", KeyId: "1"}}
	v2 := KMS{APIVersion: "v2", Socket: startKMS(t, f), Timeout: 3 * time.Second}
	v1 := v2
	v1.APIVersion = "v1"
	for _, k := range []KMS{v1, v2} {
		if err := k.Healthy(t.Context()); err != nil {
			t.Errorf("%s: %v", k.APIVersion, err)
		}
	}
	sealed := func(key string) []byte {
		var b []byte
		for num, v := range map[protowire.Number]string{1: "data", 2: "1", 3: key, 4: "\x0a\x09a.example\x12\x01b"} {
			b = protowire.AppendBytes(protowire.AppendTag(b, num, protowire.BytesType), []byte(v))
		}
		return protowire.AppendVarint(protowire.AppendTag(b, 5, protowire.VarintType), 1)
	}
	for name, c := range map[string]struct {
		kms   KMS
		value []byte
		says  string
	}{
		"v1": {v1, []byte("\x00\x06sealed and data"), ""}, "v2": {v2, sealed("sealed"), ""},
		"v1 without the key": {v1, []byte("\x00\x05other and data"), "destroyed"}, "v2 without the key": {v2, sealed("other"), "destroyed"},
		"v1, cut off": {v1, []byte("\xff\xffx"), "too short"}, "v2, damaged": {v2, []byte("\xff\xff"), "EncryptedObject"},
	} {
		err := c.kms.CanDecrypt(t.Context(), c.value)
		if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %v", name, err)
		}
	}

	for name, s := range map[string]*kmsv2.StatusResponse{
		"names no key": {Version: "v2", Healthz: "ok"}, "sealed": {Version: "v2", Healthz: "sealed", KeyId: "1"},
		"version is \"v9\"": {Version: "v9", Healthz: "ok", KeyId: "1"},
	} {
		f.status.Version, f.status.Healthz, f.status.KeyId = s.Version, s.Healthz, s.KeyId
		if err := v2.Healthy(t.Context()); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAKMSPluginThatDoesNotAnswer(t *testing.T) {
	_, silent := listenUnix(t)
	missing := KMS{APIVersion: "v2", Socket: silent + "-none", Timeout: time.Minute}
	if err := missing.Healthy(t.Context()); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Error(err)
	}
	start := time.Now()
	hangs := KMS{APIVersion: "v1", Socket: silent, Timeout: 300 * time.Millisecond}
	if err := hangs.Healthy(t.Context()); err == nil {
		t.Error("it answered")
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
}
