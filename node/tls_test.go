package node

import (
	"errors"
	"io/fs"
	"os"
	"testing"
	"time"
)

// A wait asks up to fifty times a second: as long as the files are the same,
// their certificates and keys are parsed once. Renewed ones count at once.
func TestCertificatesAreParsedOnceUntilTheirFilesChange(t *testing.T) {
	ca := newAuthority(t)
	cert, key := ca.issue(t, "client", nil, time.Now().Add(time.Hour))
	first, err := clientTLS(ca.path, cert, key)
	if err != nil {
		t.Fatal(err)
	}
	first.InsecureSkipVerify = true // the caller's own
	again, err := clientTLS(ca.path, cert, key)
	if err != nil {
		t.Fatal(err)
	}
	if again.RootCAs != first.RootCAs || again.Certificates[0].Leaf != first.Certificates[0].Leaf {
		t.Error("files that have not changed were parsed again")
	}
	if again.InsecureSkipVerify {
		t.Error("what one caller has set is set for the next")
	}

	newCert, newKey := ca.issue(t, "renewed", nil, time.Now().Add(time.Hour))
	if err := errors.Join(os.Rename(newCert, cert), os.Rename(newKey, key)); err != nil {
		t.Fatal(err)
	}
	now, err := clientTLS(ca.path, cert, key)
	if err != nil {
		t.Fatal(err)
	}
	if name := now.Certificates[0].Leaf.Subject.CommonName; name != "renewed" {
		t.Errorf("after a renewal the certificate is still that of %q", name)
	}

	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	if _, err := clientTLS(ca.path, cert, key); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without its key: %v", err)
	}
}
