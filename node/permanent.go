package node

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Permanent says whether asking etcd or the API server again can't help:
// certificates that don't fit or can't be read, a user without permission, a
// question that isn't understood, corrupt data. A wait ends with such an error
// at once, and shows it. What comes and goes while a server starts is none:
// refused and broken connections, no leader, no answer in time.
//
// The API server's 401 and 403 are none either: it answers so until its
// authenticators and authorizers have read etcd.
func Permanent(err error) bool {
	if err == nil {
		return false
	}
	for e := err; e != nil; e = errors.Unwrap(e) {
		if many, ok := e.(interface{ Unwrap() []error }); ok {
			for _, one := range many.Unwrap() {
				if !Permanent(one) {
					return false // another endpoint may answer yet
				}
			}
			return true
		}
	}
	var (
		file   *fs.PathError
		setup  *setupError
		verify *tls.CertificateVerificationError
		record tls.RecordHeaderError
		alert  tls.AlertError
		author x509.UnknownAuthorityError
		host   x509.HostnameError
		cert   x509.CertificateInvalidError
	)
	for _, kind := range []any{&file, &setup, &verify, &record, &alert, &author, &host, &cert} {
		if errors.As(err, kind) {
			return true
		}
	}
	s, ok := status.FromError(err)
	if !ok {
		return false
	}
	switch s.Code() {
	case codes.PermissionDenied, codes.Unauthenticated, codes.Unimplemented, codes.DataLoss:
		return true
	case codes.InvalidArgument:
		return s.Message() != status.Convert(rpctypes.ErrGRPCAuthOldRevision).Message() // users are being changed
	case codes.Unavailable:
		// gRPC reports on a handshake in words alone.
		for _, words := range []string{"tls: ", "x509: "} {
			if strings.Contains(s.Message(), words) {
				return true
			}
		}
	}
	return false
}

// Denied says whether etcd answered that this user may not.
func Denied(err error) bool {
	s, ok := status.FromError(err)
	if !ok {
		return false
	}
	switch s.Code() {
	case codes.PermissionDenied, codes.Unauthenticated:
		return true
	}
	return s.Message() == status.Convert(rpctypes.ErrGRPCUserEmpty).Message()
}

// setupError is one of what a question is asked with: files, addresses.
type setupError struct {
	error
	ofAll bool // it is the same for every endpoint
}

func (e *setupError) Unwrap() error { return e.error }
