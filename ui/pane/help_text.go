package pane

import "etcd-rewind/ui/text"

// Help is a text about a screen: a title, and paragraphs.
type Help struct {
	Title      string
	Body       []string // laid out, before the paragraphs
	Paragraphs []string
}

// Lines lay it out in w cells.
func (h Help) Lines(w int) []string {
	body := h.Body
	for _, p := range h.Paragraphs {
		if p != "" {
			body = append(append(body, text.Wrap(p, w)...), "")
		}
	}
	return body
}

// Help is about an interrupted run.
func (*Earlier) Help() Help {
	return Help{Title: "An interrupted run", Paragraphs: []string{
		"etcd-rewind was killed, the machine was restarted, or a step failed and the run was not undone. The journal in the run's directory records what was done and what was under way.",
		"g resumes: what is done is not done again, and what was under way is done once more; every action is safe to do twice. An interrupted undo is resumed as an undo.",
		"u undoes: everything the run did is undone in reverse order, and every file it changed is restored byte for byte.",
		"d redoes: after an undo that was interrupted, etcd runs on the restored data again.",
		"All show their plan first and ask for the node's name, and can be interrupted again. The commands are etcd-rewind resume, undo and redo.",
		"A new restore on top of an interrupted one is hardly ever what you want: n shows the node, and the check earlier-run blocks it.",
	}}
}

// Help is about the runs of the node.
func (*Runs) Help() Help {
	return Help{Title: "The runs of this node", Paragraphs: []string{
		"Each restore is a run with a name, a journal and copies of the files it changed, in a directory of its own. An undo or redo belongs to its run.",
		"u undoes: the node is reverted to the state before the run, byte for byte. d redoes what was undone: etcd runs on the restored data again. g resumes a run that was interrupted.",
		"A run on several nodes is undone and redone on all of them. All show their plan first and ask for the node's name.",
		"untouched: the run ended before it changed anything. unreadable: its journal can't be read; etcd-rewind runs shows why.",
	}}
}

// Help is about the node.
func (n *Node) Help() Help {
	needs := "The restore needs etcd on this node, as a static pod or a systemd service, and as the only member. Several members, and an etcd that runs elsewhere, are recognised and refused."
	if n.Led {
		needs = "The restore needs etcd as a static pod or a systemd service, on this node or on hosts of its own. Several members are restored in one run, from here: restored alone, one would become a cluster of its own beside the others."
	}
	h := Help{Title: "The node", Paragraphs: []string{
		"A kubeadm control plane runs etcd and kube-apiserver as static pods: kubelet reads their manifests from a directory and runs what it finds there. Move a manifest out, and kubelet stops the pod; put one in, and kubelet starts it. That is how this restore stops and starts them, since the API is down meanwhile.",
		needs,
	}}
	if n.CanRepoint() {
		h.Paragraphs = append(h.Paragraphs, "p points etcd at the intact data beside its own, without restoring anything: checked, planned, confirmed and undone as a restore is. The command is etcd-rewind repoint.")
	}
	return h
}

// Help is about the members, and what reaches their nodes.
func (*Members) Help(reachedBy string) Help {
	return Help{Title: "The members", Paragraphs: []string{
		"Members are known from etcd.yaml's --initial-cluster, from the running etcd and from the snapshot. kubeadm doesn't rewrite etcd.yaml when members join later, and the snapshot lists the members at the time it was taken; so you decide about members that only some of these name.",
		"The others are reached over " + reachedBy + ", with the hosts, users and keys of its own configuration; --rsh COMMAND names another one, --host NAME=HOST another host, and h does the same here. There it has to be root, or to become it by sudo without a password.",
		"o excludes a member: the restored cluster has only the others, and the node is rejoined later. Its etcd must not run again on the data it has.",
		"enter sends the snapshot to all of them, compares its sha256 there, and checks every node. Nothing else is changed by that.",
	}}
}

// Help is about the snapshots.
func (*Picker) Help() Help {
	return Help{Title: "The snapshot", Paragraphs: []string{
		"Each file is inspected in a process of its own, one after the other: revision, keys, and whether its SHA-256 is right. `etcdctl snapshot save` puts that sum at the end of the file; a copied data file has none, so damage in it can't be detected.",
		"The age is that of the newest write in the snapshot, where there is one with a time, and the file's otherwise.",
		"Everything written to the cluster after the snapshot will be gone from it. The old data directory is kept.",
	}}
}

// Help is about the comparison.
func (*Diff) Help() Help {
	return Help{Title: "What the restore would change", Paragraphs: []string{
		"The snapshot is compared with the cluster as it is now: with etcd when it answers, else with its data directory. Both are only read.",
		"+ is re-created: it is in the snapshot and not in the cluster. - is deleted: it was created since. ~ is reverted to what it was.",
		"space expands the marked line, f shows which fields differ, / searches, e writes all of it to a file. Values that might be secret are not shown.",
		"Events, leases and changes of status only are counted at the end: they change all the time.",
	}}
}

// Help is about the checks.
func (*Checks) Help() Help {
	return Help{Title: "The checks", Paragraphs: []string{
		"d, n, s and c change what a check may fail on: the data directory, the revision, how kube-apiserver is stopped, the controllers. The checks run again then.",
		"An error blocks the restore. So does a warning, until you have read it and override it with space. Some errors can be overridden: space, then the name of the check.",
		"r runs all checks again, for example after you have moved a file away. An override stays as long as the check's result stays the same.",
		"t tests the snapshot first: this cluster's own etcd and kube-apiserver are started on it, apart from the running ones and without a network. The cluster isn't touched; esc stops the drill.",
	}}
}

// Help is about the plan.
func (*Plans) Help() Help {
	return Help{Title: "The plan", Paragraphs: []string{
		"This is everything that will be done, in this order, with the shell commands that do the same by hand. Nothing else is done.",
		"d: the restored data goes into a new directory beside the old one, on the same disk.",
		"n: the restored cluster begins at a revision beyond any that a client has seen, and everything before it is marked as compacted. So watches list again instead of trusting stale caches.",
		"s: the API server keeps no state. At once takes 0.2 s; gracefully, kubelet waits for clients, up to 30 s.",
		"c: kube-controller-manager and kube-scheduler keep what they have seen in memory; after a restart they read what is in etcd now.",
	}}
}

// Help is about the confirmation.
func (*Confirm) Help() Help {
	return Help{Title: "The confirmation", Paragraphs: []string{
		"Nothing was changed so far. The node's name starts the run; esc returns to the plan.",
	}}
}

// Help is about what comes after a run.
func (*Summary) Help() Help {
	return Help{Title: "Afterwards", Paragraphs: []string{
		"The old data directory and the replaced files are kept; delete them when you are sure. Until then undo reverts the node, by renames.",
		"Pods that were started after the snapshot may still run without being known to the API; kubelets stop them once they list again.",
	}}
}
