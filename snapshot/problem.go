package snapshot

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"

	"etcd-rewind/problem"
)

// Codes of a problem. Neither its cause nor its hint names the path: the caller
// shows it beside. The first group is about a snapshot file or a data
// directory that is read, the second about a restore.
const (
	CodeMissing     = "missing"
	CodeSymlinkLoop = "symlink-loop"
	CodeUnreadable  = "unreadable"
	CodeDirectory   = "directory"
	CodeNotRegular  = "not-regular" // pipe, socket, device
	CodeEmpty       = "empty"
	CodeCompressed  = "compressed" // gzip, zstd, tar and the like
	CodeEncrypted   = "encrypted"  // with age: an identity is missing, or another one's
	CodeIdentity    = "identity"   // what should hold an identity doesn't
	CodeNotBolt     = "not-bolt"
	CodeNotEtcd     = "not-etcd" // a bolt database of another program
	CodeTruncated   = "truncated"
	CodeDamagedHash = "damaged-hash"
	CodeStructure   = "structure" // pages or records don't fit together
	CodeGrowing     = "growing"   // written to while it was read
	CodeStalled     = "stalled"   // an etcd that doesn't send it any more
	CodeInUse       = "in-use"    // an etcd has it open
	CodeNoData      = "no-data"   // a data directory without a database or WAL

	// CodeOther is about what a snapshot is compared with: the snapshot is good.
	CodeOther = "other-side"

	CodeRequest = "request" // name, peer URLs or cluster don't fit together
	CodeNoHash  = "no-hash" // no trailer, and SkipHashCheck isn't set
	CodeChanged = "changed" // not the file that was inspected
	CodeTarget  = "target"  // the place to restore to is taken or can't be made
	CodeNoSpace = "no-space"
	CodeRestore = "restore" // etcdutl's library refused or failed
	CodeVerify  = "verify"  // what was written isn't what was read
)

// waitForIt is the hint for a file that others still change.
const waitForIt = "wait until it stops changing, then retry"

// openProblem turns an error of stat, open or read into a Problem.
func openProblem(path string, err error) *problem.Problem {
	why := err
	var perr *fs.PathError
	if errors.As(err, &perr) {
		why = perr.Err
	}
	switch {
	case errors.Is(err, syscall.ELOOP):
		return problem.Coded(CodeSymlinkLoop, "name the file itself", "the symbolic links lead in a circle")
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		if to, lerr := os.Readlink(path); lerr == nil {
			return problem.Coded(CodeMissing, "name the file itself, or put it where the link points", "a symbolic link to %s, which doesn't exist", to)
		}
		return problem.Coded(CodeMissing, "check the path; a relative one starts at the working directory", "there is no such file")
	case errors.Is(err, fs.ErrPermission):
		return problem.Coded(CodeUnreadable, "run as root, or make it readable", "it can't be read: %v", why)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF): // it was longer when its size was asked
		return problem.Coded(CodeGrowing, waitForIt, "it was truncated while it was read")
	default:
		return problem.Coded(CodeUnreadable, "check the disk or the mount that it is on", "it can't be read: %v", why)
	}
}
