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
		lines = append(lines, HangWhole(SymBad+" ", UnreadName(u)+": couldn't be checked: "+trust.Text(u.Cause), w)...)
		if u.Hint != "" {
			lines = append(lines, HangWhole("  → ", trust.Text(u.Hint), w)...)
		}
	}
	switch {
	case len(found.Debts) > 0:
		lines = append(lines, fmt.Sprintf("%d found; %d can be settled here, one by one. Nothing was changed yet.", len(found.Debts), offered))
	case len(found.Unread) == 0:
		lines = append(lines, SymDone+" The cluster owes nothing, as far as could be checked.")
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
	"history": {
		"etcd's and the API server's histories differ",
		"If a kubeadm upgrade starts etcd on the data that a restore replaced, the running API server keeps what it has cached of the restored data, and writes into the old. Restart the API server first, so that it shows what etcd holds. Then decide which data is to be kept, and point etcd at it.",
	},
	"kubeadm-config": {
		"kubeadm would start the old data",
		"kubeadm writes etcd's manifest from the ConfigMap kubeadm-config. The ConfigMap comes from the snapshot and names the directory of that time. The next kubeadm upgrade would write that one into etcd.yaml, and etcd would start on the data that the restore replaced.",
	},
	"node-missing": {
		"A node isn't in the API",
		"A node that joined after the snapshot isn't among the restored objects. Its kubelet registers the node when it starts, and never again: until it is restarted, it keeps running the pods it has and gets no new ones.",
	},
	"node-gone": {
		"A deleted node is back",
		"The node was deleted after the snapshot, and the snapshot still has it. If the machine is gone, its pods still count as running until they are evicted, and volumes stay attached to it. Delete the Node once you know that the machine is gone.",
	},
	"kubelet-pods": {
		"A kubelet doesn't follow the API",
		"Kubelets watch the API and remember what they have seen. After a restore or an undo, a kubelet may keep pods that no longer exist, or fail to start those that do. When kubelet starts, it lists all pods again and stops those that it shouldn't run. Containers keep running while it restarts.",
	},
	"token": {
		"Tokens that the API server rejects",
		"Pods call the API with a token that is bound to the pod and its service account by UID, and signed with a key of the control plane. If any of these has changed, every request is rejected, and the program hangs without exiting. A rollout gives its pods new tokens.",
	},
	"masterlease": {
		"An API server that is gone",
		"Each API server has an entry in etcd, from which the service kubernetes gets its endpoints. The snapshot has the entries of its time. A stale one sends some of the cluster's clients to an address where nothing answers.",
	},
	"volume-attachment": {
		"Attachments that don't match",
		"A VolumeAttachment records that a volume is attached to a node. Only the storage's own tools show what is really attached. etcd-rewind never changes it: attached twice, a volume can be destroyed.",
	},
	"volume": {
		"Volumes and claims that don't match",
		"The data on volumes isn't in etcd. A volume that was provisioned after the snapshot is still on the storage, but no object names it; one that was deleted has its objects back, but its data may be gone. etcd-rewind never deletes volumes.",
	},
	"lease": {
		"A leader that is gone",
		"Controllers elect a leader by a Lease in the API. The snapshot's Lease names the leader of its time. Others take it when it has expired, usually within 15 s; one that nobody takes belongs to a program that doesn't run, or can't reach the API.",
	},
	"webhook": {
		"A webhook that doesn't answer",
		"With failurePolicy: Fail, the API server rejects every request that the webhook would have to admit. That can block the very pods that serve it. Delete the configuration if its program is gone; otherwise start that first.",
	},
	"api-service": {
		"An API that isn't available",
		"An APIService routes a part of the API to a program in the cluster. While that is down, kubectl and controllers that list all kinds fail or are slow, and namespaces can't be deleted.",
	},
	"csr": {
		"Certificate requests that wait for approval",
		"A request that was approved or denied after the snapshot waits again. Approving it gives its sender a certificate: approve only what you expect. etcd-rewind approves none.",
	},
	"certificate": {
		"Certificates of the snapshot",
		"Certificates in Secrets are those of the snapshot again. One that was renewed since is the earlier one, perhaps expired; its issuer (cert-manager, for example) renews it again when asked. The certificates that kubeadm keeps in files aren't in etcd, and a restore doesn't change them.",
	},
	"job": {
		"Jobs that run again",
		"A Job that completed after the snapshot is incomplete in the restored state, and runs again. A CronJob that was due since the snapshot may start at once. Suspend what must not run twice.",
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
