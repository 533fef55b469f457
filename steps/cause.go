package steps

import (
	"cmp"
	"slices"
	"strings"
)

// known are the words of etcd and the API server for failures that are
// understood. An unknown failure claims nothing: its log is shown.
var known = []struct{ words, cause, hint string }{
	{
		"etcdserver: permission denied", "etcd has authentication enabled, and kube-apiserver's certificate has no user with access to its keys",
		"undo; then disable authentication where the snapshot is from (etcdctl auth disable) and take another",
	},
	{"etcdserver: user name is empty", "etcd has authentication enabled, but doesn't request client certificates", "undo; then disable authentication where the snapshot is from (etcdctl auth disable) and take another"},
	{"flocked by another process", "another etcd still holds the data directory", "see which container runs (crictl ps), stop it, then retry"},
	{"bind: address already in use", "another process still listens on its port", "find it (ss -ltnp), stop it, then retry"},
	{"permission denied", "etcd may not read its data directory", "compare the owner of the data directory with runAsUser in etcd.yaml"},
	{"is not supported", "the snapshot is newer than this etcd", "use the etcd image of the cluster that the snapshot was taken from"},
	{"no space left on device", "the disk is full", "free space, then retry"},
	{"read-only file system", "the file system is read-only", "check dmesg, remount it, then retry"},
	{"database space exceeded", "the database is over etcd's quota", "raise --quota-backend-bytes in etcd.yaml, or defragment and disarm the alarm"},
	{"cluster ID mismatch", "a member of another cluster connects to this etcd", "restore all members from the same snapshot"},
	{"x509: certificate has expired", "a certificate has expired", "kubeadm certs check-expiration, kubeadm certs renew all"},
	{"x509:", "a certificate is rejected", "check the certificate named in the log"},
	{"unable to transform key", "an encryption key of the snapshot is not in this API server's EncryptionConfiguration", "put the key that wrote the snapshot into the configuration"},
	{"data from the storage is not transformable", "an encryption key of the snapshot is not in this API server's EncryptionConfiguration", "put the key that wrote the snapshot into the configuration"}, // 1.37
	{"error creating storage factory: context deadline exceeded", "the API server can't reach etcd", "compare --etcd-servers with etcd's --listen-client-urls"},
	{"failed to find database snapshot file", "the data directory is incomplete", "restore the snapshot again"},
	{"member unknown", "the WAL or the database is another cluster's, or an old tool restored it", "restore the snapshot again with etcd-rewind"},
	{"file size too small", "the database is truncated", "restore the snapshot again"},
	{"flag provided but not defined", "this etcd has no such flag as its manifest sets", "compare the flags with the image's version"},
	{"no such file or directory", "a file that its flags name is missing", "find the path in the log, and check the volumes of the manifest"},
	{"walpb: crc mismatch", "the WAL is damaged, or doesn't match the database", "check whether --wal-dir points to another cluster's WAL; if not, restore the snapshot again"},
}

// lastWords are the last lines of a log before the stack that Go prints when a
// program panics: etcd does so for much that has a plain reason.
func lastWords(log []string, n int) []string {
	for i, line := range log {
		if strings.HasPrefix(line, "goroutine ") && i > 0 {
			log = log[:i]
			break
		}
	}
	return log[max(0, len(log)-n):]
}

// hintFor is what to do about an error, "" when it isn't understood.
func hintFor(words string) string {
	_, hint := likelyCause([]string{words})
	return hint
}

// ofUnits is what is said instead where systemd runs the program: it has no
// manifest, no image and no runAsUser.
var ofUnits = map[string]struct{ cause, hint string }{
	"flocked by another process":    {hint: "see which process has it (fuser -v on the database), stop it, then retry"},
	"permission denied":             {hint: "compare the owner of the data directory with User= of the unit"},
	"is not supported":              {hint: "use the etcd of the cluster that the snapshot was taken from"},
	"database space exceeded":       {hint: "raise quota-backend-bytes in etcd's settings, or defragment and disarm the alarm"},
	"x509: certificate has expired": {hint: "renew it the way it was made, then retry"},
	"flag provided but not defined": {"this etcd has no such flag as its unit sets", "compare the flags with the program's version"},
	"no such file or directory":     {hint: "find the path in the log: put that file back, or correct the path in the unit's settings, then retry"},
}

// likelyCauseOfUnit is likelyCause of a service.
func likelyCauseOfUnit(log []string) (cause, hint string) {
	for _, line := range slices.Backward(log) {
		for _, k := range known {
			if !strings.Contains(line, k.words) {
				continue
			}
			of := ofUnits[k.words]
			return cmp.Or(of.cause, k.cause), cmp.Or(of.hint, k.hint)
		}
	}
	return "", ""
}

// likelyCause finds the newest line of a log that is understood.
func likelyCause(log []string) (cause, hint string) {
	for _, line := range slices.Backward(log) {
		for _, k := range known {
			if strings.Contains(line, k.words) {
				return k.cause, k.hint
			}
		}
	}
	return "", ""
}
