package ui

import (
	"etcd-rewind/restore"
	"etcd-rewind/steps"
)

// choice is how an answer to a failure is asked for: the key, what it does in a
// line and in a word, and the question that is asked once more where it changes
// a node or ends the run.
type choice struct{ key, label, word, sure string }

// choiceOf is a choice on one node, or on one of several.
func choiceOf(c steps.Choice, several bool) choice {
	node := "the node"
	if several {
		node = "all nodes"
	}
	switch c {
	case steps.WaitOn:
		return choice{"w", "keep waiting, as long again", "keep waiting", ""}
	case steps.Retry:
		return choice{"r", "try it again", "retry", "Do this action again?"}
	case steps.LetGo:
		return choice{"k", "restart kubelet: it ignores the removed manifests", "restart kubelet", "Restart kubelet on this node?"}
	case steps.PutBack:
		return choice{"u", "undo: revert " + node + " to the state before the run", "undo", "Revert " + node + " to the state before the run?"}
	case restore.ContinueWithout:
		return choice{"g", "continue without this node; it stays as it is", "continue without it", "Continue without this node?"}
	default:
		stop := choice{"x", "stop here; resume and undo work later", "stop here", "Stop here, and leave the node as it is?"}
		if several {
			stop.label, stop.sure = "stop on all nodes; resume and undo work later", "Stop here, and leave all nodes as they are?"
		}
		return stop
	}
}
