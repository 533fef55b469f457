package steps

import (
	"slices"
	"strings"
)

// text is what a person reads of a step: the name an engineer would give it,
// why it is done, and more for a learner.
type text struct {
	title, why, more string
	outage           bool
}

const (
	stuckKubeletStep = "let-go"
	controllersStep  = "restart-controllers"
	kubeadmStep      = "update-kubeadm-config"
	controllersBack  = "stop-controllers" // a step of undo only, whose other half is controllersStep's
)

var restoreTexts = map[string]text{
	"prepare": {
		title: "Keep a way back",
		why:   "The manifests are copied and the new ones written, while the cluster still runs.",
		more: "Kubelet reads every file in its manifest directory whose name doesn't begin with a dot, so a backup must never be put there: " +
			"etcd.yaml.bak is another definition of the same pod, and the last one wins. The copies go to a directory of this run beside it. " +
			"It is on the same file system, so that a manifest moves by one rename: kubelet sees one event and never half a file.",
	},
	"adopt": {
		title: "Read the data that is there",
		why:   "Cluster ID, members and revision are read from the files, to verify later that etcd runs on this data. The cluster still runs.",
		more: "The directory is only read. The running etcd is compared with them before kube-apiserver starts: " +
			"a typo in a hostPath boots a blank cluster, which has another ID.",
	},
	"stage": {
		title: "Stage the restore",
		why:   "etcdutl restores the snapshot beside the new data directory. The cluster still runs.",
		more: "A restore writes a new database, a new WAL and a new member list: the old member and cluster IDs in the snapshot are replaced. " +
			"An initial cluster token of its own gives the result a cluster ID that no other etcd has, so that it can be distinguished from an empty or an old one later. " +
			"The revision is raised and everything before it is marked as compacted: controllers that watch must list again instead of trusting caches from a future that no longer exists. " +
			"At the same time a snapshot of the current cluster is saved: the old data directory is kept in any case and is what an undo uses, " +
			"but a snapshot can be compared, copied and restored elsewhere. With a large database it takes as long as the staging or longer; --no-save-before leaves it out. " +
			"The last thing before the outage is a wait of at most 1.5 s: kubelet lists its containers once a second and finishes with a pod on a list, " +
			"so the outage is shortest when etcd exits just before the next one.",
	},
	"stop-kube-apiserver": {
		title: "Stop kube-apiserver", outage: true,
		why: "Nothing may write to etcd while its data is swapped. kubelet stops a static pod when its manifest leaves the directory.",
		more: "Kubelet watches the directory and begins at once. It would give the API server 30 s to finish, and with clients connected all of them pass. " +
			"The API server keeps no state, so its sandbox is stopped over CRI. But only after kubelet has begun: before that, kubelet would see a dead container and start it once more. " +
			"The sign is that /readyz no longer answers 200.",
	},
	stuckKubeletStep: {
		title: "Restart the stuck kubelet", outage: true,
		why: "kubelet ignores that the manifests are gone. With the manifests out, a restarted kubelet no longer knows these pods.",
		more: "A kubelet that was started while the API was down has not yet read all its sources of pods, and until it has, it deletes none " +
			"(\"skipping delete because sources aren't ready yet\", logged only at -v=2). Its containers keep running and are restarted when they exit. " +
			"Restarting kubelet cures that, but only after the manifests are moved out.",
	},
	"stop-etcd": {
		title: "Stop etcd", outage: true,
		why: "etcd exits 0.1 s after kubelet's signal. A new pod of the same name starts at once only when kubelet has finished with the old one.",
		more: "Kubelet detects exited containers by listing them once a second, and finishes with the pod on the next list: 0.1 to 1.1 s after the exit. " +
			"The last thing it does is to remove the pod's cgroup, but its housekeeping may have done so before. So etcd.yaml goes in when the cgroup is gone. " +
			"A manifest that is moved in too early is refused and tried again 10 to 15 s later; 17 ms too early were enough to lose 11 s. " +
			"What kubelet accepts gets a directory within 10 ms. Without one, another annotation makes a pod that kubelet tries at once. " +
			"Editing etcd.yaml in place under a running etcd costs the 10 to 15 s, too.",
	},
	"start-etcd": {
		title: "Start etcd", outage: true,
		why: "The staged directory is renamed into place, etcd.yaml with the new hostPath is moved in. Then etcd is asked whether it has opened what was restored.",
		more: "The volume's type is DirectoryOrCreate: a typo in the path would give a blank cluster that boots silently. " +
			"So /readyz is not enough. Every restore gets a cluster ID that no other etcd has, and etcd announces it to its peers as soon as it has opened its data, before it has elected itself.",
	},
	"start-kube-apiserver": {
		title: "Start kube-apiserver", outage: true,
		why: "Its manifest is moved back with one annotation changed: a new pod without a crash history starts at once.",
		more: "Kubelet's crash back-off (10 s doubling to 300 s) belongs to the pod's UID, and the UID of a static pod is a hash of its definition. " +
			"With the same bytes after it was killed, kubelet may wait: 0.5, 40, 88 and 158 s on four restores in a row. " +
			"On a single node it goes in when etcd has opened the restored data: until kubelet has started the API server, 0.5 s, etcd elects itself, and then its revision, number of keys and members are compared. On several nodes it goes in when every etcd is ready. " +
			"Moved in before etcd's, an API server would find no etcd, exit, and back off.",
	},
	controllersStep: {
		title: "Restart controllers",
		why:   "kube-controller-manager and kube-scheduler start with empty caches. The API is already back.",
		more: "They hold what they have seen in memory, and that is no longer what etcd holds. The raised revision makes watches fail and list again; " +
			"a restart makes sure of it, and releases leases taken after the snapshot. They have been stopped while the API was down: " +
			"one that is still there when it comes back acts on the restored data with what it remembers.",
	},
	kubeadmStep: {
		title: "Update kubeadm-config",
		why:   "kubeadm upgrade renders etcd.yaml from the ConfigMap kube-system/kubeadm-config. The snapshot's copy names the old data directory.",
		more: "kubeadm upgrade, kubeadm join --control-plane and kubeadm init phase etcd local don't read the existing etcd.yaml: they rewrite it, with " +
			"etcd.local.dataDir as hostPath. With the old directory in it, the next upgrade would start etcd on the old data, silently: the API server continues " +
			"serving the restored objects from its cache for a while. The same value is for all control-plane nodes. If it can't be written, the run doesn't fail: " +
			"the summary has the command.",
	},
	"verify": {
		title: "Verify",
		why:   "The API is asked for its namespaces and nodes: the same names and UIDs as in the snapshot.",
		more: "Everything so far was checked in etcd. This is what a user of the cluster sees: objects of the snapshot are back with their old UIDs, " +
			"and what was created after the snapshot is gone.",
	},
}

// swapTexts are those of the steps that a swap does in another way.
var swapTexts = map[string]text{
	"start-etcd": {
		title: "Start etcd", outage: true,
		why: "The old data is renamed aside, the staged directory gets its path, and etcd starts with the settings that it had. Then it is asked whether it has opened what was restored.",
		more: "No path is edited anywhere: whatever renders etcd's settings again, kubeadm or configuration management, names the directory that holds the restored data. " +
			"Both renames stay on one file system, and the old data is not touched: undo is the same two renames in reverse. " +
			"/readyz is not enough to know which data etcd has: every restore gets a cluster ID that no other etcd has, and etcd announces it to its peers as soon as it has opened its data.",
	},
}

// moveTexts are those of the steps that a move of etcd's data does in another way.
var moveTexts = map[string]text{
	"start-etcd": {
		title: "Move the data, start etcd", outage: true,
		why: "What lies at the usual path is renamed aside, etcd's data takes its place, and etcd.yaml names that path again. Then etcd is asked whether it runs on the data that it had.",
		more: "Both are renames on one file system, or one exchange of the two directories: it takes as long for 8 GB as for 8 kB, and undo is the same in reverse. " +
			"etcd continues where it stopped: its cluster ID and its revision stay, so clients and controllers notice a short outage and nothing else.",
	},
}

var undoTexts = map[string]text{
	kubeadmStep: {
		title: "Compare kubeadm-config",
		why:   "The ConfigMap is in etcd: the old data has the one from before the run. Nothing is written.",
		more:  restoreTexts[kubeadmStep].more,
	},
	"verify": {},
	controllersStep: {
		title: "Stop controllers",
		why:   "kube-controller-manager and kube-scheduler must not act on the old cluster with what they saw in the restored one.",
		more: "They hold what they have seen in memory, and the old data has another history. Their leases are in the restored data, too: " +
			"one that finds its lease held by another exits, and kubelet starts it again after a back-off.",
	},
	controllersBack: {
		title: "Start controllers",
		why:   "kube-controller-manager and kube-scheduler get the manifests they had before, byte for byte, and start with empty caches.",
		more:  "They come last, when the API answers from the old data.",
	},
	"start-kube-apiserver": {
		title: "Stop kube-apiserver",
		why:   "Nothing may write while etcd is pointed at the old data again.",
		more:  restoreTexts["stop-kube-apiserver"].more,
	},
	"start-etcd": {
		title: "Stop etcd",
		why:   "The restored data is renamed back to where it was staged. Nothing is deleted.",
		more:  restoreTexts["stop-etcd"].more,
	},
	"stop-etcd": {
		title: "Start the old etcd",
		why:   "The manifest is restored byte for byte, and with it the data directory, which nothing has written to since.",
		more:  "The old data directory was never touched. etcd continues where it stopped; what was written to the restored cluster since is in the restored data only.",
	},
	"stop-kube-apiserver": {
		title: "Start kube-apiserver",
		why:   "Its manifest is restored byte for byte. What is left of its exited containers is removed first, so that kubelet doesn't back off.",
		more:  "Kubelet counts its crash back-off from the pod's last exited container. The manifest must not change, so neither can the UID; the exited container is removed instead.",
	},
	stuckKubeletStep: {
		title: "Move manifests back",
		why:   "They are restored byte for byte.",
	},
}

// unitTexts are for steps on what systemd runs.
var unitTexts = map[string]text{
	"prepare": {
		why:  "The files that change are copied and the new ones written, while the cluster still runs.",
		more: "The copies go to a directory of this run. A file with settings is replaced by one rename: systemd reads the one or the other, and never half a file.",
	},
	"stop-kube-apiserver": {
		why:  "Nothing may write to etcd while its data is swapped. systemd stops the service; Restart= doesn't apply to one that is stopped so.",
		more: "systemctl stop is given without waiting, and the unit's states are shown: deactivating, then inactive. systemd kills what has not ended after TimeoutStopSec.",
	},
	"stop-etcd": {
		why: "systemd stops the service. Restart= doesn't apply to one that is stopped so.",
		more: "systemctl stop is given without waiting, and the unit's states are shown: deactivating, then inactive. etcd waits for the requests that are under way: " +
			"with API servers connected that takes 15 s, without them 0.1 s.",
	},
	"start-etcd": {
		why: "The restored data is moved to where etcd looks for it, and the service is started. Then etcd is asked what it has opened.",
		more: "etcd makes a data directory that isn't there, and boots a blank cluster silently: so being active is not enough. Every restore gets a cluster ID that no other etcd has. " +
			"A service of Type=notify stays \"activating\" until etcd serves, and the first of several members serves only when there is a quorum: " +
			"so systemctl start is given without waiting.",
	},
	"start-kube-apiserver": {
		why:  "The service is started once etcd has opened the restored data.",
		more: "Started before etcd, an API server would find none, exit, and count against the unit's StartLimitBurst.",
	},
}

var unitUndoTexts = map[string]text{
	"start-kube-apiserver": {why: "Nothing may write while etcd is pointed at the old data again.", more: unitTexts["stop-kube-apiserver"].more},
	"start-etcd":           {why: "The restored data is renamed back to where it was staged. Nothing is deleted.", more: unitTexts["stop-etcd"].more},
	"stop-etcd": {
		why:  "The service is started on the data that it had before, which nothing has written to since.",
		more: "The old data was never touched. etcd continues where it stopped; what was written to the restored cluster since is in the restored data only.",
	},
	"stop-kube-apiserver": {why: "The service is started as it was.", more: unitTexts["start-kube-apiserver"].more},
}

// explainUnits gives the steps on what systemd runs their own words.
func explainUnits(steps []Step, prefix string, texts map[string]text) {
	for i := range steps {
		s := &steps[i]
		t, ok := texts[strings.TrimPrefix(s.ID, prefix)]
		if ok && slices.ContainsFunc(s.Actions, func(a Planned) bool { return onUnit(a.Action) }) {
			s.Why, s.More = t.why, t.more
		}
	}
}

// onUnit says whether an action is on a service, or on a file with its settings.
func onUnit(a Action) bool {
	switch t := a.(type) {
	case *StopUnit, *StartUnit, *WaitUnitStopped, *ReplaceFile, *RestoreFile:
		return true
	case *Prepare:
		return slices.ContainsFunc(t.Files, func(f Prepared) bool { return f.Settings })
	}
	return false
}

func stuckKubeletTemplate() Step {
	t := restoreTexts[stuckKubeletStep]
	return Step{ID: stuckKubeletStep, Title: t.title, Why: t.why, More: t.more, Outage: t.outage}.only(kubeletIgnores)
}
