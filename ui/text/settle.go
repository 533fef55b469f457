package text

import (
	"fmt"
	"strings"

	"etcd-rewind/settle"
	"etcd-rewind/trust"
)

// Owed is all that a cluster owes after a restore, for text that is printed.
func Owed(found *settle.Found, w int) []string {
	var lines []string
	offered := 0
	for _, d := range found.Debts {
		if d.Offered {
			offered++
		}
		lines = append(lines, HangWhole(SymWarn+" ", trust.Text(strings.TrimSpace(d.Kind+"  "+d.Object)), w)...)
		lines = append(lines, HangWhole("    ", trust.Text(d.Is), w)...)
		lines = append(lines, HangWhole("  → ", trust.Text(d.Means), w)...)
		for _, c := range d.Commands {
			lines = append(lines, "    $ "+trust.Text(c)) // on one line, to be pasted
		}
		lines = append(lines, "")
	}
	for _, u := range found.Unread {
		lines = append(lines, HangWhole(SymBad+" ", UnreadName(u)+": couldn't be looked at: "+trust.Text(u.Cause), w)...)
		if u.Hint != "" {
			lines = append(lines, HangWhole("  → ", trust.Text(u.Hint), w)...)
		}
	}
	switch {
	case len(found.Debts) > 0:
		lines = append(lines, fmt.Sprintf("%d found; %d can be settled here, one by one. Nothing was changed yet.", len(found.Debts), offered))
	case len(found.Unread) == 0:
		lines = append(lines, SymDone+" Nothing is owed, as far as was looked at.")
	}
	return append(lines, HangWhole("", Asked(found, "etcd-rewind settle --fleet asks them over ssh"), w)...)
}

// UnreadName is what couldn't be looked at, by its kind and node.
func UnreadName(u settle.Unread) string {
	return trust.Text(strings.TrimSpace(u.Kind + " " + u.Node))
}

// Asked says whose kubelets were asked, whose weren't, and what asks those.
func Asked(f *settle.Found, how string) string {
	say := "No kubelet was asked."
	if len(f.Asked) > 0 {
		say = "Kubelets asked: " + some(f.Asked) + "."
	}
	if len(f.Others) > 0 {
		say += " Not asked: " + some(f.Others) + "; " + how + "."
	}
	return say
}

// some are the first names of a list, and how many more there are.
func some(names []string) string {
	const most = 5
	if rest := len(names) - most; rest > 0 {
		return strings.Join(trust.Lines(names[:most]), ", ") + " and " + Number(int64(rest)) + " more"
	}
	return Listed(names)
}

// debtLessons say what a kind of debt is, for somebody who meets it for the first
// time: why a restore causes it, and what settles it.
var debtLessons = map[string][2]string{
	"kubeadm-config": {
		"kubeadm would start the old data",
		"kubeadm writes etcd's manifest from the ConfigMap kubeadm-config. The ConfigMap comes from the snapshot and names the directory of that time. The next kubeadm upgrade would write that one into etcd.yaml, and etcd would start on the old data, with all that was undone.",
	},
	"node-missing": {
		"A node isn't in the API",
		"A node that joined after the snapshot isn't among the restored objects. Its kubelet registers the node when it starts, and never again: it goes on with the pods it has and gets no new ones until it is restarted.",
	},
	"node-gone": {
		"A deleted node is back",
		"The node was deleted after the snapshot, and the snapshot still has it. Nobody answers for it: its pods count as running until they are evicted, and volumes stay attached to it. Delete the Node once you know that the machine is gone.",
	},
	"kubelet-pods": {
		"A kubelet runs other pods than the API has",
		"Kubelets watch the API and remember what they have seen. After a restore one can hold on to pods that no longer exist, or not begin those that do. When it starts, it reads all pods again and ends those that it shouldn't run. Containers keep running while it restarts.",
	},
	"token": {
		"Tokens that the API server refuses",
		"Pods ask the API with a token that is bound to the pod and its service account by UID, and signed with a key of the control plane. If one of them is another now, every request is refused, and the program stands still without ending. A rollout gives its pods new tokens.",
	},
	"masterlease": {
		"An API server that is gone",
		"Each API server has an entry in etcd that the service kubernetes leads to. The snapshot has those of its time. One that nobody refreshes sends a part of all clients in the cluster to an address where nobody answers.",
	},
	"volume-attachment": {
		"Attachments that don't fit",
		"A VolumeAttachment says that a volume is attached to a node. The storage knows what is really attached; only its own tools tell. It is never changed from here: attached twice, a volume can be destroyed.",
	},
	"volume": {
		"Volumes and claims that don't fit",
		"The data on volumes isn't in etcd. A volume that was provisioned after the snapshot lies on the storage and nothing names it; one that was deleted is named and may be gone. Nothing of volumes is ever deleted from here.",
	},
	"webhook": {
		"A webhook that nobody answers",
		"With failurePolicy: Fail, the API server refuses what a webhook has to agree to while it doesn't answer. That can hold up the very pods that would answer. Delete the configuration if its program is gone; else bring that up first.",
	},
	"api-service": {
		"An API that isn't available",
		"An APIService leads a part of the API to a program in the cluster. While that isn't up, kubectl and controllers that list all kinds fail or are slow, and namespaces can't be deleted.",
	},
	"csr": {
		"Requests for certificates that wait",
		"A request that was approved or denied after the snapshot waits again. Whoever approves it gives its sender a certificate: approve only what you expect. None is approved from here.",
	},
	"job": {
		"Jobs that run again",
		"A Job that was done after the snapshot isn't done in the restored state, and runs again. A CronJob that was due since the snapshot may start at once. Suspend what mustn't run twice.",
	},
}

// DebtTitle says in a few words what a kind of debt is.
func DebtTitle(kind string) string {
	if l, ok := debtLessons[kind]; ok {
		return l[0]
	}
	return trust.Text(kind)
}

// DebtLesson explains a kind of debt.
func DebtLesson(kind string) string { return debtLessons[kind][1] }
