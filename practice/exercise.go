package practice

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"time"

	"etcd-rewind/manifest"
)

// Exercise is an incident on a practice node, and what is to be reached.
type Exercise struct {
	Name, Title string
	Story, Task string // {} stands for the node's /, without the slash
	Hints       []string
	Limit       time.Duration
	// ByHand says that the wizard can't do it.
	ByHand bool
	// Wizard says how the wizard does it, or helps.
	Wizard string

	seed    string
	prepare func(ctx context.Context, n *Node, s *session) error
	broken  func(ctx context.Context, n *Node) error // nil when the incident can be seen
	demands []demand
}

func find(name string) *Exercise {
	for _, e := range exercises {
		if e.Name == name {
			return e
		}
	}
	return nil
}

// Objects that came after the first snapshot.
const (
	pathLater = "/api/v1/namespaces/after-the-snapshot"
	pathLate  = "/api/v1/namespaces/payments/secrets/late"
)

// healthy is the start state of an incident that is about objects.
func healthy(ctx context.Context, n *Node) error { return n.Ports.ready(ctx) }

// crashing is the start state of an etcd that can't live.
func crashing(_ context.Context, n *Node) error {
	n.rt.mu.Lock()
	defer n.rt.mu.Unlock()
	for _, c := range n.rt.containers {
		if c.name == "etcd" && c.state == exited {
			return nil
		}
	}
	return errors.New("etcd has not crashed yet")
}

// backup puts a built-in snapshot into the node's backups, with a time of its
// own.
func backup(n *Node, name, file string, age time.Duration) error {
	path := n.Root.Path("opt/backup", file)
	if err := n.WriteSnapshot(name, path); err != nil {
		return err
	}
	t := time.Now().Add(-age)
	return os.Chtimes(path, t, t)
}

// repoint changes the hostPath of etcd's data in a manifest's text.
func (n *Node) repoint(dir string) ([]byte, error) {
	raw, err := os.ReadFile(n.Root.Path("etc/kubernetes/manifests/etcd.yaml"))
	if err != nil {
		return nil, err
	}
	return manifest.SetHostPath(raw, "etcd-data", n.named.root.Path(dir))
}

func (n *Node) writeEtcd(raw []byte) error {
	return os.WriteFile(n.Root.Path("etc/kubernetes/manifests/etcd.yaml"), raw, 0o600)
}

// restoredAside restores a built-in snapshot beside the data that runs.
func restoredAside(ctx context.Context, n *Node, name, dir string) error {
	_, err := n.restore(ctx, n.Root.Path("opt/backup", name), n.Root.Path(dir), "by-a-colleague")
	return err
}

func fileSum(path string) (string, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:]), nil
}

// hintKubeadm is for what a restore by hand leaves out.
const hintKubeadm = "Extra points: kubeadm upgrade renders etcd.yaml again. kubectl -n kube-system get cm kubeadm-config -o yaml > FILE, " +
	"change dataDir in it to the hostPath of the volume etcd-data, kubectl replace -f FILE."

// exercises are all of them, in the order in which to learn.
var exercises = []*Exercise{
	{
		Name: "deleted-namespace", Title: "A namespace is gone", Limit: 20 * time.Minute, seed: SnapshotAfter,
		Story: "It is three in the morning. A clean-up script has deleted the namespace shop, with everything in it. " +
			"The nightly snapshot was taken before: {}/opt/backup/etcd-nightly.db.",
		Task: "Bring the cluster back to what the snapshot holds. Restore beside {}/var/lib/etcd; " +
			"the old data stays as it is, in case somebody needs it. All of the control plane runs in the end.",
		Hints: []string{
			"Nothing writes to a snapshot: restore it into a directory of its own first, while the cluster runs. etcdutl snapshot restore --help",
			"Name, peer URL and initial cluster of the member are in {}/etc/kubernetes/manifests/etcd.yaml.",
			"Stop kube-apiserver before etcd: move both manifests out of {}/etc/kubernetes/manifests, and see in crictl ps that the containers are gone.",
			"The data's place is the hostPath of the volume etcd-data. --data-dir is a path in the container and stays.",
			"Put etcd.yaml back first, see etcd answer, then kube-apiserver.yaml.",
			hintKubeadm,
		},
		Wizard: "etcd-rewind chooses the snapshot, restores it aside while the cluster runs, and does the rest in seconds.",
		prepare: func(_ context.Context, n *Node, _ *session) error {
			return backup(n, SnapshotBefore, "etcd-nightly.db", 5*time.Hour)
		},
		broken: healthy,
		demands: []demand{
			object(20, "namespace shop", pathShop), object(10, "ConfigMap payments/app", pathConfig),
			gone(10, "namespace after-the-snapshot", pathLater), gone(5, "Secret payments/late", pathLate),
			runsElsewhere(20), oldUntouched(10), kubeadmAgrees(5), apiReady(10), allRun(5), noStrays(5),
		},
	},
	{
		Name: "blank-etcd", Title: "An empty cluster", Limit: 15 * time.Minute, seed: SnapshotAfter,
		Story: "A colleague has tidied up etcd.yaml. Since then kubectl shows nothing: no namespaces, no nodes. etcd and the API server are healthy. " +
			"There is a snapshot from last night: {}/opt/backup/etcd-nightly.db.",
		Task: "Bring the cluster's data back. What was written since last night should not be lost if it can be helped. Destroy nothing.",
		Hints: []string{
			"etcdctl member list and etcdctl get / --prefix --keys-only | head: is this the etcd that you know?",
			"Look at the hostPath of the volume etcd-data, letter by letter. Its type is DirectoryOrCreate.",
			"A directory that kubelet made a moment ago is not where the data was. ls -l {}/var/lib",
		},
		Wizard: "etcd-rewind check shows that etcd serves a blank cluster, and names the intact data beside it. etcd-rewind repoint {}/var/lib/etcd points etcd back there, with nothing lost; a restore of the snapshot only brings last night back.",
		prepare: func(_ context.Context, n *Node, _ *session) error {
			if err := backup(n, SnapshotBefore, "etcd-nightly.db", 9*time.Hour); err != nil {
				return err
			}
			raw, err := n.repoint("var/lib/etdc")
			if err != nil {
				return err
			}
			return n.writeEtcd(raw)
		},
		broken: healthy,
		demands: []demand{
			object(25, "namespace payments", pathPay), object(10, "Widget payments/w1", pathWidget),
			oldUntouched(20), kubeadmAgrees(5), apiReady(10), allRun(5), noStrays(5),
			{
				points: 20, bonus: true, title: "nothing since last night is lost",
				why:   "the data was never gone: it was where etcd.yaml no longer pointed, and a restore goes back further than needed",
				check: func(ctx context.Context, l *look) string { return l.wantObject(ctx, pathLater) },
			},
		},
	},
	{
		Name: "corrupt-data", Title: "etcd crash-loops", Limit: 20 * time.Minute, seed: SnapshotAfter,
		Story: "After a power cut etcd doesn't start any more, and the API server waits for it. " +
			"There are two snapshots in {}/opt/backup, of 02:00 and of 03:00; nobody knows whether the disk was healthy while they were written.",
		Task: "Bring the cluster up from the newest snapshot that is good, in a new directory. Leave the broken directory for those who will look into it.",
		Hints: []string{
			"Why does it crash? crictl ps -a, then crictl logs of the last etcd container.",
			"etcdutl snapshot status doesn't check the hash at a snapshot's end. etcdutl snapshot restore does.",
			"One that fails with expected sha256 is damaged. --skip-hash-check would restore the damage.",
			hintKubeadm,
		},
		Wizard: "etcd-rewind reads each snapshot whole, hash first, and refuses the damaged one with its reason.",
		prepare: func(_ context.Context, n *Node, s *session) error {
			if err := backup(n, SnapshotBefore, "etcd-0200.db", 2*time.Hour); err != nil {
				return err
			}
			if err := backup(n, SnapshotAfter, "etcd-0300.db", time.Hour); err != nil {
				return err
			}
			if err := flip(n.Root.Path("opt/backup/etcd-0300.db"), 400_000); err != nil {
				return err
			}
			// Both meta pages gone: what a disk that lies about its cache leaves.
			db := n.Root.Path("var/lib/etcd/member/snap/db")
			if err := overwrite(db, make([]byte, 8192), 0); err != nil {
				return err
			}
			var err error
			s.OldSHA256, err = fileSum(db)
			return err
		},
		broken: crashing,
		demands: []demand{
			object(25, "namespace shop", pathShop), object(10, "ConfigMap payments/app", pathConfig),
			runsElsewhere(25), oldUntouched(10), kubeadmAgrees(5), apiReady(15), allRun(5), noStrays(5),
		},
	},
	{
		Name: "wrong-snapshot", Title: "Which snapshot?", Limit: 20 * time.Minute, seed: SnapshotAfter,
		Story: "The ConfigMap app in the namespace payments was deleted, nobody knows when. {}/opt/backup holds three snapshots, a.db, b.db and c.db. " +
			"They were copied there in one go: the times of the files are meaningless.",
		Task: "Bring back the ConfigMap payments/app, from the one snapshot that holds it, into a new directory beside the old one.",
		Hints: []string{
			"etcdutl snapshot status -w table: a smaller revision is an older snapshot.",
			"Restore each into a directory in {}/tmp and look into it, or: strings a.db | grep configmaps/payments - but a deleted object's old value is still in the file.",
			"An etcd of your own on a restored directory, on other ports, settles it.",
			hintKubeadm,
		},
		Wizard: "etcd-rewind inspects each snapshot and compares it with the cluster: revision, age, namespaces that would be deleted and re-created.",
		prepare: func(_ context.Context, n *Node, _ *session) error {
			for file, name := range map[string]string{"a.db": SnapshotAfter, "b.db": SnapshotBefore, "c.db": SnapshotEncrypted} {
				if err := backup(n, name, file, time.Hour); err != nil {
					return err
				}
			}
			return nil
		},
		broken: healthy,
		demands: []demand{
			object(35, "ConfigMap payments/app", pathConfig), object(10, "namespace shop", pathShop),
			gone(5, "namespace after-the-snapshot", pathLater),
			runsElsewhere(15), oldUntouched(10), kubeadmAgrees(5), apiReady(10), allRun(5), noStrays(5),
		},
	},
	{
		Name: "restored-not-repointed", Title: "Restored, and nothing changed", Limit: 15 * time.Minute, seed: SnapshotAfter, ByHand: true,
		Story: "A colleague has restored last night's snapshot into {}/var/lib/etcd-restored and gone home. The namespace shop is still missing.",
		Task:  "Have etcd run on {}/var/lib/etcd-restored. Keep {}/var/lib/etcd.",
		Hints: []string{
			"Which directory does etcd run on? Follow --data-dir in etcd.yaml through volumeMounts to volumes.",
			"Only the hostPath of the volume etcd-data must change. With --data-dir changed alone, etcd starts empty, on a path that is on no volume.",
			"An edit in place takes kubelet 10 to 15 s. Moving it out, waiting for the end of the pod and moving it in is faster. The API server may need a restart too.",
			hintKubeadm,
		},
		Wizard: "etcd-rewind repoints etcd in the same run that restores, and compares cluster ID, revision and keys before the API server may start.",
		prepare: func(ctx context.Context, n *Node, _ *session) error {
			if err := backup(n, SnapshotBefore, "etcd-nightly.db", 9*time.Hour); err != nil {
				return err
			}
			return restoredAside(ctx, n, "etcd-nightly.db", "var/lib/etcd-restored")
		},
		broken: healthy,
		demands: []demand{
			runsFrom(35, "/var/lib/etcd-restored"), object(20, "namespace shop", pathShop), gone(10, "namespace after-the-snapshot", pathLater),
			oldUntouched(10), kubeadmAgrees(5), apiReady(10), allRun(5), noStrays(5),
		},
	},
	{
		Name: "stray-backup", Title: "Edits without effect", Limit: 15 * time.Minute, seed: SnapshotAfter, ByHand: true,
		Story: "A colleague restored last night's snapshot into {}/var/lib/etcd-restored and pointed etcd.yaml there, with a copy of the old file at hand. " +
			"etcd runs on the old data all the same, and comes back to it whenever somebody edits the file.",
		Task: "Have etcd run on {}/var/lib/etcd-restored, for good. Keep {}/var/lib/etcd. Nothing in the manifest directory may define a pod twice.",
		Hints: []string{
			"ls -la {}/etc/kubernetes/manifests. Kubelet reads every file there that doesn't begin with a dot, whatever its ending.",
			"Of two files with the same pod the last one by name wins at every full list, each 20 s.",
			"Move the copy out of the directory. Kubelet then stops the pod; it reads etcd.yaml again at its next full list.",
			hintKubeadm,
		},
		Wizard: "etcd-rewind check names the file that wins, and refuses to continue while two define the same pod.",
		prepare: func(ctx context.Context, n *Node, _ *session) error {
			if err := backup(n, SnapshotBefore, "etcd-nightly.db", 9*time.Hour); err != nil {
				return err
			}
			if err := restoredAside(ctx, n, "etcd-nightly.db", "var/lib/etcd-restored"); err != nil {
				return err
			}
			old, err := os.ReadFile(n.Root.Path("etc/kubernetes/manifests/etcd.yaml"))
			if err != nil {
				return err
			}
			if err := os.WriteFile(n.Root.Path("etc/kubernetes/manifests/etcd.yaml.bak"), old, 0o600); err != nil {
				return err
			}
			raw, err := n.repoint("var/lib/etcd-restored")
			if err != nil {
				return err
			}
			return n.writeEtcd(raw)
		},
		broken: healthy,
		demands: []demand{
			runsFrom(30, "/var/lib/etcd-restored"), reached(noStrays(20)), object(15, "namespace shop", pathShop),
			gone(5, "namespace after-the-snapshot", pathLater), oldUntouched(10), kubeadmAgrees(5), apiReady(10), allRun(5),
		},
	},
	{
		Name: "exam", Title: "As in the exam", Limit: 12 * time.Minute, seed: SnapshotAfter, ByHand: true,
		Story: "A task as in certification exams. No wizard.",
		Task: "First save a snapshot of the running etcd to {}/opt/backup/etcd-now.db. " +
			"Then restore the earlier snapshot {}/opt/backup/etcd-previous.db into {}/var/lib/etcd-exam and have the control plane run on it. " +
			"A second control plane will join this cluster: the member keeps its name and its peer URL. Leave {}/var/lib/etcd as it is.",
		Hints: []string{
			"etcdctl needs --endpoints, --cacert, --cert and --key: all of them are in etcd.yaml, below {}/etc/kubernetes/pki/etcd.",
			"etcdctl --endpoints URL --cacert {}/etc/kubernetes/pki/etcd/ca.crt --cert .../server.crt --key .../server.key snapshot save FILE",
			"etcdutl snapshot restore FILE --data-dir DIR --name ... --initial-cluster ... --initial-advertise-peer-urls ..., with the values of etcd.yaml",
			"Then change the hostPath of the volume etcd-data: move both manifests out, wait for crictl ps, move etcd.yaml in, then kube-apiserver.yaml.",
			hintKubeadm,
		},
		Wizard: "etcd-rewind takes name, peer URL and initial cluster from etcd.yaml by itself, and gives the restored cluster a token of its own.",
		prepare: func(_ context.Context, n *Node, _ *session) error {
			return backup(n, SnapshotBefore, "etcd-previous.db", 26*time.Hour)
		},
		broken: healthy,
		demands: []demand{
			saved(15, "/opt/backup/etcd-now.db", "after-the-snapshot"), runsFrom(20, "/var/lib/etcd-exam"), memberAsInManifest(15),
			object(10, "namespace shop", pathShop), gone(5, "namespace after-the-snapshot", pathLater),
			oldUntouched(10), kubeadmAgrees(5), apiReady(10), allRun(5), noStrays(5),
		},
	},
}

// flip damages one byte of a file.
func flip(path string, at int64) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	b := make([]byte, 1)
	_, err = f.ReadAt(b, at)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return overwrite(path, []byte{b[0] ^ 0xff}, at)
}

// overwrite leaves the file's time alone.
func overwrite(path string, b []byte, at int64) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(b, at)
	return errors.Join(err, f.Close(), os.Chtimes(path, info.ModTime(), info.ModTime()))
}
