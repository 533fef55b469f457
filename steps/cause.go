package steps

import (
	"cmp"
	"slices"
	"strings"

	"etcd-rewind/node"
)

// meaning is what a line of a log means that has its words, or is such a one.
type meaning struct {
	words       string
	is          func(line string) bool // where it is said in several ways
	cause, hint string
}

func (k *meaning) in(line string) bool {
	if k.is != nil {
		return k.is(line)
	}
	return strings.Contains(line, k.words)
}

// known are the words of etcd and the API server for failures that are
// understood. An unknown failure claims nothing: its log is shown.
var known = []meaning{
	{
		words: "etcdserver: permission denied", cause: "etcd has authentication enabled, and kube-apiserver's certificate has no user with access to its keys",
		hint: "undo; then disable authentication where the snapshot is from (etcdctl auth disable) and take another",
	},
	{words: "etcdserver: user name is empty", cause: "etcd has authentication enabled, but doesn't request client certificates", hint: "undo; then disable authentication where the snapshot is from (etcdctl auth disable) and take another"},
	{words: "flocked by another process", cause: "another etcd still holds the data directory", hint: "see which container runs (crictl ps), stop it, then retry"},
	{words: "bind: address already in use", cause: "another process still listens on its port", hint: "find it (ss -ltnp), stop it, then retry"},
	{words: "permission denied", cause: "etcd may not read its data directory", hint: "compare the owner of the data directory with runAsUser in etcd.yaml"},
	{words: "is not supported", cause: "the snapshot is newer than this etcd", hint: "use the etcd image of the cluster that the snapshot was taken from"},
	{words: "no space left on device", cause: "the disk is full", hint: "free space, then retry"},
	{words: "read-only file system", cause: "the file system is read-only", hint: "check dmesg, remount it, then retry"},
	{words: "database space exceeded", cause: "the database is over etcd's quota", hint: "raise --quota-backend-bytes in etcd.yaml, or defragment and disarm the alarm"},
	{words: "cluster ID mismatch", cause: "a member of another cluster connects to this etcd", hint: "restore all members from the same snapshot"},
	{words: "x509: certificate has expired", cause: "a certificate has expired", hint: "kubeadm certs check-expiration, kubeadm certs renew all"},
	{words: "x509:", cause: "a certificate is rejected", hint: "check the certificate named in the log"},
	{is: node.Untransformable, cause: "an encryption key of the snapshot is not in this API server's EncryptionConfiguration", hint: "put the key that wrote the snapshot into the configuration"},
	{words: "error creating storage factory: context deadline exceeded", cause: "the API server can't reach etcd", hint: "compare --etcd-servers with etcd's --listen-client-urls"},
	{words: "failed to find database snapshot file", cause: "the data directory is incomplete", hint: "restore the snapshot again"},
	{words: "member unknown", cause: "the WAL or the database is another cluster's, or an old tool restored it", hint: "restore the snapshot again with etcd-rewind"},
	{words: "file size too small", cause: "the database is truncated", hint: "restore the snapshot again"},
	{words: "flag provided but not defined", cause: "this etcd has no such flag as its manifest sets", hint: "compare the flags with the image's version"},
	{words: "no such file or directory", cause: "a file that its flags name is missing", hint: "find the path in the log, and check the volumes of the manifest"},
	{words: "walpb: crc mismatch", cause: "the WAL is damaged, or doesn't match the database", hint: "check whether --wal-dir points to another cluster's WAL; if not, restore the snapshot again"},
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
			if !k.in(line) {
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
			if k.in(line) {
				return k.cause, k.hint
			}
		}
	}
	return "", ""
}
