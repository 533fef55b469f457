package text

import (
	"etcd-rewind/restore"
	"etcd-rewind/steps"
)

// Choice is how an answer to a failure is asked for: the key, what it does in a
// line and in a word, and the question that is asked once more where it changes
// a node or ends the run.
type Choice struct{ Key, Label, Word, Sure string }

// ChoiceOf is a choice on one node, or on one of several.
func ChoiceOf(c steps.Choice, several bool) Choice {
	node := "the node"
	if several {
		node = "all nodes"
	}
	switch c {
	case steps.WaitOn:
		return Choice{"w", "keep waiting, as long again", "keep waiting", ""}
	case steps.Retry:
		return Choice{"r", "try it again", "retry", "Do this action again?"}
	case steps.RestartStuck:
		return Choice{"k", "restart kubelet: it ignores the removed manifests", "restart kubelet", "Restart kubelet on this node?"}
	case steps.Revert:
		return Choice{"u", "undo: revert " + node + " to the state before the run", "undo", "Revert " + node + " to the state before the run?"}
	case restore.ContinueWithout:
		return Choice{"g", "continue without this node; it stays as it is", "continue without it", "Continue without this node?"}
	default:
		stop := Choice{"x", "stop here; resume and undo work later", "stop here", "Stop here, and leave the node as it is?"}
		if several {
			stop.Label, stop.Sure = "stop on all nodes; resume and undo work later", "Stop here, and leave all nodes as they are?"
		}
		return stop
	}
}

// TheCluster and AllNodes are whom verdicts can be about besides nodes.
const (
	TheCluster = "the cluster"
	AllNodes   = "all nodes"
)
