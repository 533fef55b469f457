package restore

import (
	"etcd-rewind/manifest"
	"etcd-rewind/steps"
)

// Record says with which nodes a run is made, so that any of them can take all
// of them up again.
type Record struct {
	Run     string            `json:"run"`
	Me      string            `json:"me"`            // the node that the record is on: in the middle of a run no etcd.yaml names it
	Rsh     []string          `json:"rsh,omitempty"` // nil for ssh
	Paths   Paths             `json:"paths"`
	Members []manifest.Member `json:"members"` // of the restored cluster
	Before  int               `json:"before"`  // members of the cluster as it was
	Nodes   []NodeHosts       `json:"nodes"`
}

// NodeHosts is a node and how it is reached.
type NodeHosts struct {
	Name string   `json:"name"` // of the etcd member
	Try  []string `json:"try"`  // hosts for ssh, in this order
}

// RunUnreachable is the state of a run on a node that can't be reached.
const RunUnreachable steps.RunState = "unreachable"
