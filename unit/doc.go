// Package unit reads systemd's units as systemd does: main file and drop-ins,
// environment files, specifiers, variables. It follows a service's command
// through a shell, a script or a container engine to the etcd that it starts,
// and returns etcd's settings, each with the file and line it comes from. One
// value, the data directory, can be changed in place.
//
// It doesn't start, stop or query units: the caller asks systemd which files a
// unit has (systemctl show -p FragmentPath,DropInPaths).
package unit

// Codes of problems.
const (
	CodeUnreadable = "unreadable"  // a file that can't be read, or may not be believed
	CodeSyntax     = "syntax"      // systemd would refuse the file, or read it in another way than it looks
	CodeNoEtcd     = "no-etcd"     // the unit doesn't start etcd
	CodeShell      = "shell"       // a shell does more than start it
	CodeContainer  = "container"   // a container whose settings or data can't be found
	CodeUnknown    = "unknown"     // a value that is known only when the unit starts
	CodeSandbox    = "sandbox"     // the unit sees other files than the host
	CodeCannotEdit = "cannot-edit" // the value is written in a way that can't be changed alone
	CodeConflict   = "conflict"    // a setting both as a flag and as a variable
)
