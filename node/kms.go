//lint:file-ignore SA1019 kube-apiserver still asks version 1 plugins, and so does this.

package node

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protowire"
	kmsv1 "k8s.io/kms/apis/v1beta1"
	kmsv2 "k8s.io/kms/apis/v2"
)

// KMS is a key management plugin on this node, as kube-apiserver reaches it.
type KMS struct {
	APIVersion string // "v1" or "v2"
	Socket     string // a path on this node; "@name" is in no directory
	Timeout    time.Duration
}

// kmsLimit is the longest that one question may take, whatever is configured.
const kmsLimit = 5 * time.Second

// ask calls the plugin; nobody listening is an answer.
func (k KMS) ask(ctx context.Context, call func(ctx context.Context, conn *grpc.ClientConn) error) error {
	ctx, cancel := context.WithTimeout(ctx, min(k.Timeout, kmsLimit))
	defer cancel()
	conn, err := grpc.NewClient("passthrough:///kms", grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority("localhost"),
		grpc.WithNoProxy(), grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", k.Socket)
		}))
	if err != nil {
		return err
	}
	defer conn.Close()
	return call(ctx, conn)
}

// Healthy asks the plugin what kube-apiserver asks it at its start.
func (k KMS) Healthy(ctx context.Context) error {
	return k.ask(ctx, func(ctx context.Context, conn *grpc.ClientConn) error {
		if k.APIVersion == "v1" {
			v, err := kmsv1.NewKeyManagementServiceClient(conn).Version(ctx, &kmsv1.VersionRequest{Version: "v1beta1"})
			if err != nil {
				return etcdError("version", err)
			}
			if v.GetVersion() != "v1beta1" {
				return fmt.Errorf("its version is %q, not v1beta1", printable(v.GetVersion()))
			}
			return nil
		}
		s, err := kmsv2.NewKeyManagementServiceClient(conn).Status(ctx, &kmsv2.StatusRequest{})
		switch {
		case err != nil:
			return etcdError("status", err)
		case s.GetHealthz() != "ok":
			return fmt.Errorf("it reports: %s", printable(s.GetHealthz()))
		case s.GetVersion() != "v2" && s.GetVersion() != "v2beta1":
			return fmt.Errorf("its version is %q, not v2", printable(s.GetVersion()))
		case s.GetKeyId() == "" || len(s.GetKeyId()) > 1024:
			return errors.New("it names no key")
		}
		return nil
	})
}

// CanDecrypt asks the plugin for the key of a value, which is what is stored
// behind the plugin's prefix. The answer is thrown away.
func (k KMS) CanDecrypt(ctx context.Context, value []byte) error {
	return k.ask(ctx, func(ctx context.Context, conn *grpc.ClientConn) error {
		if k.APIVersion == "v1" {
			// Two bytes of length, the encrypted key, the data (envelope.go).
			if len(value) < 2 || len(value) < 2+int(binary.BigEndian.Uint16(value)) {
				return errors.New("the value is too short")
			}
			sealed := value[2 : 2+int(binary.BigEndian.Uint16(value))]
			plain, err := kmsv1.NewKeyManagementServiceClient(conn).Decrypt(ctx, &kmsv1.DecryptRequest{Version: "v1beta1", Cipher: sealed})
			clear(plain.GetPlain())
			return etcdErrorOrNil("decrypt", err)
		}
		r, err := sealedKey(value)
		if err != nil {
			return err
		}
		plain, err := kmsv2.NewKeyManagementServiceClient(conn).Decrypt(ctx, r)
		clear(plain.GetPlaintext())
		return etcdErrorOrNil("decrypt", err)
	})
}

func etcdErrorOrNil(doing string, err error) error {
	if err == nil {
		return nil
	}
	return etcdError(doing, err)
}

// sealedKey reads the encrypted key out of an EncryptedObject (envelope/kmsv2/v2/api.proto).
func sealedKey(value []byte) (*kmsv2.DecryptRequest, error) {
	r := &kmsv2.DecryptRequest{Uid: "etcd-rewind", Annotations: map[string][]byte{}}
	damaged := errors.New("the value is no EncryptedObject")
	err := fields(value, func(num protowire.Number, v []byte) error {
		switch num {
		case 2:
			r.KeyId = string(v)
		case 3:
			r.Ciphertext = v
		case 4:
			var name string
			var content []byte
			err := fields(v, func(num protowire.Number, v []byte) error {
				if num == 1 {
					name = string(v)
				} else {
					content = v
				}
				return nil
			})
			if err != nil {
				return err
			}
			r.Annotations[name] = content
		}
		return nil
	})
	if err != nil || len(r.Ciphertext) == 0 {
		return nil, damaged
	}
	return r, nil
}

// fields visits the fields of a message that are bytes.
func fields(b []byte, visit func(num protowire.Number, v []byte) error) error {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		if typ != protowire.BytesType {
			if n = protowire.ConsumeFieldValue(num, typ, b); n < 0 {
				return protowire.ParseError(n)
			}
			b = b[n:]
			continue
		}
		v, n := protowire.ConsumeBytes(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		if err := visit(num, v); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}
