package fleet

import (
	"etcd-rewind/steps"
)

// index of a phase in their order; -1 for none.
func index(p steps.Phase) int {
	for i, q := range steps.Phases {
		if p == q {
			return i
		}
	}
	return -1
}

// phaseWords say what all nodes have come to.
var phaseWords = map[steps.Phase]string{
	steps.PhaseStaged:    "the restore is staged",
	steps.PhaseAPIGone:   "no kube-apiserver runs",
	steps.PhaseEtcdOut:   "no etcd runs",
	steps.PhasePlaced:    "the restored data is in place",
	steps.PhaseEtcdReady: "etcd is ready, with one cluster ID and every member",
	steps.PhaseAPIReady:  "kube-apiserver is ready",
	steps.PhaseVerified:  "the API shows what the snapshot holds",
}
