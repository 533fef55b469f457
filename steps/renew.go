package steps

import "etcd-rewind/node"

// renewStep is the last step of a run that may take etcd's revision back.
const renewStep = "renew-kubelet"

// renewKubelet adds what there is to do when etcd's revision may go back: a kubelet,
// or another client, that has watched the cluster waits for what comes after the last
// revision it has seen, and misses what happens before (measured: docs/after.md).
// This node's kubelet, nil or empty where there is none, is restarted when all else is
// done, which is not worth failing a run for. What is left is said.
func (p *Plan) renewKubelet(id string, kubelet *node.Kubelet, restart string, fleet bool) {
	on := "on each node"
	if kubelet != nil && (kubelet.StaticPodPath != "" || kubelet.PID != 0) {
		p.Steps = append(p.Steps, Step{
			ID: id, Title: "Restart kubelet",
			Why: "etcd's revision goes back. Kubelet waits for changes after the last one it has seen, and misses those before.",
			More: "A client that watches the API asks for what comes after a revision, and waits until the API gets there. After an undo, a pod that was created wasn't started " +
				"for two minutes, and at once when kubelet was restarted. Containers run on. If the restart fails, the run says so, and is done all the same.",
			Actions: []Planned{{Action: &RestartKubelet{Command: restart, Optional: true}}},
		})
		if on = "on each other node"; fleet {
			on = "on nodes that are not part of this run"
		}
	}
	p.Afterwards = "etcd's revision goes back, and a kubelet may miss changes until it is restarted: " + on + ", " + defaultKubeletRestart +
		" (or here, " + Command("settle --fleet", "", p.Flags) + "); other clients that watch the API may, too"
	p.Summary = append(p.Summary, Fact{"afterwards", p.Afterwards})
}
