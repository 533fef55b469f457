// Package manifest finds, reads and edits the static pod manifests of a control-plane node, and puts them where kubelet
// looks for them. It reads as kubelet does and changes single values in place.
package manifest

// Codes of problems. They are part of what this package promises; the wording of causes and hints isn't.
const (
	CodeEmpty        = "empty"         // the file holds nothing
	CodeTooLarge     = "too-large"     // 10 MiB or more
	CodeNotRegular   = "not-regular"   // a named pipe, socket or device
	CodeUnreadable   = "unreadable"    // can't be opened, or a symlink to nowhere
	CodeNotYAML      = "not-yaml"      // can't be parsed
	CodeNotAPod      = "not-a-pod"     // parses, but isn't a v1 Pod
	CodeInvalid      = "invalid"       // a Pod that kubelet's validation refuses
	CodeNoContainer  = "no-container"  // no container of the pod runs the binary
	CodeProxy        = "proxy"         // a container runs etcd as a proxy, which holds no data
	CodeShell        = "shell"         // the binary is started by a shell or a script
	CodeConfigFile   = "config-file"   // etcd reads its settings from a file and ignores the flags
	CodeArgument     = "argument"      // an argument that isn't a flag, or a flag's value that can't be read
	CodeUnknownValue = "unknown-value" // a value kubelet fills in only when it starts the pod
	CodeNotHostPath  = "not-host-path" // a path in the container that isn't on the node's disk
	CodeCannotEdit   = "cannot-edit"   // the value is written in a way that can't be changed alone
	CodeExists       = "exists"        // the target is there already
	CodeOtherDisk    = "other-disk"    // a rename across file systems
	CodeNotADir      = "not-a-directory"
)
