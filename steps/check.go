package steps

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"etcd-rewind/manifest"
	"etcd-rewind/node"
	"etcd-rewind/snapshot"
)

// Check looks at everything that can be known to go wrong before anything is
// touched. info is nil when no snapshot was chosen: then what depends on it is
// left out. The numbers in the code are rows of docs/failures.md.
func Check(ctx context.Context, f *Facts, info *snapshot.Info, c Choices) []Verdict {
	k := &checks{ctx: ctx, f: f, info: info, c: f.Settle(info, c)}
	all := []func(){
		k.root, k.lock, k.earlierRun, k.kubelet, k.runtime, k.manifestDir, k.strays,
		k.etcdManifest, k.apiManifest,
	}
	if f.Etcd != nil {
		all = append(all, k.topology, k.member, k.data, k.onDataVolume, k.wal, k.owner, k.target, k.renames)
	}
	if f.API != nil && f.Etcd != nil {
		all = append(all, k.etcdServers)
	}
	all = append(all, k.certificates)
	if info != nil && f.Etcd != nil {
		all = append(all, k.space, k.hash, k.version, k.alarms, k.members, k.nodeInSnapshot, k.sameServices, k.encryption)
	}
	for _, check := range all {
		if ctx.Err() != nil {
			break
		}
		check()
	}
	Accept(k.out, c.Accept)
	return k.out
}

// SnapshotVerdict is the verdict on a file that can't be used at all.
func SnapshotVerdict(path string, err error) Verdict {
	v := Verdict{Check: "snapshot", Title: "Snapshot", Level: Error, Cause: filepath.Base(path) + ": " + err.Error()}
	var p *snapshot.Problem
	if errors.As(err, &p) {
		v.Hint = p.Hint
	}
	return v
}

type checks struct {
	ctx  context.Context
	f    *Facts
	info *snapshot.Info
	c    Choices
	out  []Verdict

	locked bool // another run is under way
}

func (k *checks) add(v Verdict) { k.out = append(k.out, v) }

func (k *checks) ok(check, title, format string, args ...any) {
	k.add(Verdict{Check: check, Title: title, Level: Pass, Cause: fmt.Sprintf(format, args...)})
}

func (k *checks) warn(check, title, hint, format string, args ...any) {
	k.add(Verdict{Check: check, Title: title, Level: Warn, Cause: fmt.Sprintf(format, args...), Hint: hint})
}

// bad is an error that nobody can know better about; wrong is one that an
// engineer may override by name.
func (k *checks) bad(check, title, hint, format string, args ...any) {
	k.add(Verdict{Check: check, Title: title, Level: Error, Cause: fmt.Sprintf(format, args...), Hint: hint})
}

func (k *checks) wrong(check, title, hint, format string, args ...any) {
	k.add(Verdict{Check: check, Title: title, Level: Error, Cause: fmt.Sprintf(format, args...), Hint: hint, Overridable: true})
}

func (k *checks) root() {
	if k.f.Own {
		k.ok("root", "Root", "not needed: this node is your own")
		return
	}
	if node.IsRoot() {
		k.ok("root", "Root", "running as root")
		return
	}
	k.bad("root", "Root", "run it with sudo", "not running as root: manifests and etcd's data belong to root")
}

func (k *checks) lock() {
	// The directory may not be there yet, and a check changes nothing: no
	// directory means that nobody holds a lock in it.
	if _, err := os.Stat(k.f.StateDir); err != nil {
		k.ok("lock", "Other runs", "no other run on this node")
		return
	}
	release, err := node.Lock(filepath.Join(k.f.StateDir, lockName))
	var held *node.LockedError
	switch {
	case errors.As(err, &held):
		k.locked = true
		k.bad("lock", "Other runs", "wait for it, or end it", "another run is under way: %s", held.Holder)
	case err != nil:
		k.bad("lock", "Other runs", "", "%s", err)
	default:
		_ = release()
		k.ok("lock", "Other runs", "no other run on this node")
	}
}

func (k *checks) earlierRun() {
	if k.locked {
		return // that run is the one that isn't finished
	}
	if u := k.f.Unfinished; u != nil {
		hint := "etcd-rewind resume goes on with it, etcd-rewind undo puts it back"
		if u.Fleet {
			hint = "etcd-rewind resume --fleet goes on with it on all nodes, etcd-rewind undo --fleet puts them back"
		}
		k.wrong("earlier-run", "Earlier run", hint,
			"run %s did not come to its end (%s): the node may be half-way", u.Run, u.State)
		return
	}
	k.ok("earlier-run", "Earlier run", "none is unfinished")
}

func (k *checks) kubelet() {
	switch {
	case k.f.KubeletErr != nil:
		k.wrong("kubelet", "kubelet", "start it (systemctl start kubelet); without it no manifest has any effect", "kubelet's healthz doesn't answer: %s", k.f.KubeletErr)
	default:
		k.ok("kubelet", "kubelet", "healthy%s", since(k.f.Kubelet.Started))
	}
}

func since(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return ", runs for " + time.Since(t).Round(time.Second).String()
}

func (k *checks) runtime() {
	if k.f.RuntimeErr != nil {
		k.bad("container-runtime", "Container runtime", "start it (systemctl start containerd), or name its socket with --cri",
			"the container runtime at %s doesn't answer: %s", k.f.Kubelet.CRIEndpoint, k.f.RuntimeErr)
		return
	}
	k.ok("container-runtime", "Container runtime", "%s", k.f.Runtime)
}

// Row 7.
func (k *checks) manifestDir() {
	d := k.f.Manifests
	k.ok("manifest-directory", "Manifest directory", "%s, %d files (from %s)", d.Path, len(d.Files), k.f.Kubelet.Sources["staticPodPath"])
}

// Rows 1 and 2.
func (k *checks) strays() {
	const check, title = "stray-manifests", "Stray manifests"
	var strays []string
	for key, files := range k.f.Manifests.Duplicates() {
		var names []string
		for _, f := range files {
			names = append(names, f.Name())
		}
		strays = append(strays, fmt.Sprintf("%s define the same pod %s, and %s wins", strings.Join(names, " and "), key, names[len(names)-1]))
	}
	for _, c := range []string{"etcd", "kube-apiserver"} {
		for _, f := range k.f.Manifests.Rivals(c) {
			strays = append(strays, fmt.Sprintf("%s is a second %s", f.Name(), c))
		}
	}
	slices.Sort(strays)
	if len(strays) > 0 {
		k.bad(check, title, "move the copies out of "+k.f.Manifests.Path+": kubelet reads every file there that doesn't begin with a dot", "%s", strings.Join(strays, "; "))
		return
	}
	if refused := k.f.Manifests.Refused(); len(refused) > 0 {
		k.warn(check, title, "move it out of "+k.f.Manifests.Path+" if it doesn't belong there", "kubelet can't use %s: %s", refused[0].Name(), refused[0].Err)
		return
	}
	k.ok(check, title, "every pod is defined once")
}

// Row 8.
func (k *checks) etcdManifest() {
	const check, title = "etcd-manifest", "etcd's manifest"
	if k.f.EtcdErr != nil {
		hint := hintOf(k.f.EtcdErr)
		if k.f.Etcd == nil && hint == "" {
			hint = "an etcd outside the cluster's pods, or on other nodes, can't be restored by this version"
			if k.f.API != nil {
				hint += "; this API server uses " + strings.Join(k.f.API.EtcdServers, ", ")
			}
		}
		k.bad(check, title, hint, "%s", k.f.EtcdErr)
		return
	}
	d := k.f.Etcd.DataDir
	k.ok(check, title, "--data-dir %s → volume %s → %s", d.Flag, d.Volume, d.HostPath)
}

func (k *checks) apiManifest() {
	const check, title = "api-manifest", "kube-apiserver's manifest"
	if k.f.APIErr != nil {
		k.bad(check, title, hintOf(k.f.APIErr), "%s", k.f.APIErr)
		return
	}
	a := k.f.API
	if !a.AnonymousAuth && k.f.Reach.API.Kubeconfig == "" {
		k.wrong(check, title, "put a kubeconfig at /etc/kubernetes/admin.conf", "--anonymous-auth=false and no kubeconfig: its readiness can't be asked (row 37)")
		return
	}
	k.ok(check, title, "%s, now: %s", a.Image, k.f.APIState)
}

func hintOf(err error) string {
	var p *manifest.Problem
	if errors.As(err, &p) {
		return p.Hint
	}
	return ""
}

// Row 27, this node's part.
func (k *checks) topology() {
	const check, title = "topology", "Members"
	e := k.f.Etcd
	if fleet := k.c.Fleet; fleet != nil {
		k.fleet(check, title)
		return
	}
	several := "restored alone, one of several members becomes a cluster of one. " +
		"Restore all of them as one: etcd-rewind restore --fleet"
	if k.f.Live != nil && len(k.f.Live.Members) > 1 {
		k.bad(check, title, several, "the running etcd has %d members: %s", len(k.f.Live.Members), liveNames(k.f.Live.Members))
		return
	}
	if len(e.InitialCluster) > 1 {
		var names []string
		for _, m := range e.InitialCluster {
			names = append(names, m.Name)
		}
		if k.f.Live != nil {
			k.warn(check, title, "fine when the other members were removed for good", "--initial-cluster names %s, the running etcd has one member", strings.Join(names, ", "))
			return
		}
		k.bad(check, title, several, "--initial-cluster in %s names %d members: %s", e.File.Name(), len(names), strings.Join(names, ", "))
		return
	}
	if e.InitialClusterState == "existing" && k.f.Live == nil {
		k.wrong(check, title, several, "--initial-cluster-state=existing: this etcd joined a cluster, and it can't be asked how many members that has")
		return
	}
	k.ok(check, title, "one member on this node")
}

// fleet compares who the members are by etcd.yaml, by the running etcd and by
// the plan. Kubeadm doesn't rewrite --initial-cluster when members join later,
// so a name that is missing there means nothing.
func (k *checks) fleet(check, title string) {
	fleet, e := k.c.Fleet, k.f.Etcd
	if fleet.member(e.Name) == nil {
		k.bad(check, title, "name all members", "the member %s of this node is not among those to be restored: %s", e.Name, fleet.initialCluster())
		return
	}
	known := map[string]bool{}
	for _, m := range e.InitialCluster {
		known[m.Name] = true
	}
	if k.f.Live != nil {
		known = map[string]bool{}
		for _, m := range k.f.Live.Members {
			known[m.Name] = true
		}
	}
	var left []string
	for name := range known {
		if name != "" && fleet.member(name) == nil {
			left = append(left, name)
		}
	}
	if len(left) > 0 {
		slices.Sort(left)
		k.warn(check, title, "right when these nodes are lost: they join anew later (kubeadm reset, kubeadm join --control-plane)",
			"left out of the restored cluster: %s", strings.Join(left, ", "))
		return
	}
	k.ok(check, title, "%d members, restored as one: %s", len(fleet.Members), fleet.initialCluster())
}

func liveNames(all []node.EtcdMember) string {
	var names []string
	for _, m := range all {
		names = append(names, m.Name)
	}
	return strings.Join(names, ", ")
}

// Row 26.
func (k *checks) member() {
	const check, title = "member-name", "Member"
	e := k.f.Etcd
	peers := strings.Join(e.AdvertisePeerURLs, ", ")
	for _, p := range e.AdvertisePeerURLs {
		if u, err := url.Parse(p); err == nil && !k.f.Own && (u.Hostname() == "localhost" || u.Hostname() == "127.0.0.1") {
			k.warn(check, title, "works alone; kubeadm join --control-plane fails later", "the member %s has the peer URL %s, which no other node can reach", e.Name, p)
			return
		}
	}
	k.ok(check, title, "%s at %s, as in %s", e.Name, peers, e.File.Name())
}

// Row 9.
func (k *checks) data() {
	const check, title = "old-data", "Old data"
	d := k.f.Etcd.DataDir
	db := filepath.Join(d.Path, "member", "snap", "db")
	if _, err := os.Stat(db); err != nil {
		if errors.Is(err, fs.ErrPermission) {
			k.bad(check, title, "run it as root", "%s can't be read", d.Path)
			return
		}
		k.warn(check, title, "a typo in the hostPath of etcd.yaml makes a blank cluster boot without a word; the restore itself needs nothing from there",
			"%s holds no etcd data now", d.Path)
		return
	}
	k.ok(check, title, "%s stays as it is", d.Path)
}

func (k *checks) onDataVolume() {
	const check, title = "data-volume", "Data volume"
	if flags := k.f.Etcd.OnDataVolume; len(flags) > 0 {
		flags = slices.DeleteFunc(slices.Clone(flags), func(f string) bool { return f == "wal-dir" || f == "--wal-dir" })
		if len(flags) > 0 {
			k.bad(check, title, "move those files to a volume of their own first", "the data volume also holds the files of %s: a new hostPath would lose them", strings.Join(flags, ", "))
			return
		}
	}
	k.ok(check, title, "only data lies on the volume %s", k.f.Etcd.DataDir.Volume)
}

// Row 14.
func (k *checks) wal() {
	const check, title = "wal-dir", "WAL directory"
	w := k.f.Etcd.WALDir
	switch {
	case w == nil:
		k.ok(check, title, "inside the data directory")
	default:
		k.ok(check, title, "--wal-dir %s is restored too, its volume %s gets a new hostPath", w.Flag, w.Volume)
	}
}

// Row 11.
func (k *checks) owner() {
	const check, title = "owner", "Owner of the data"
	e := k.f.Etcd
	uid, _, mode, label, err := node.Owner(e.DataDir.Path)
	if err != nil {
		k.warn(check, title, "", "the owner of %s can't be read: %s", e.DataDir.Path, err)
		return
	}
	if label != "" {
		label = ", " + label
	}
	if e.RunAsUser != nil && int(*e.RunAsUser) != uid {
		k.wrong(check, title, fmt.Sprintf("chown -R %d %s, or correct runAsUser", *e.RunAsUser, e.DataDir.Path),
			"etcd runs as user %d, but %s belongs to user %d: the restored data would too", *e.RunAsUser, e.DataDir.Path, uid)
		return
	}
	k.ok(check, title, "user %d, mode %04o%s; the new directory gets the same", uid, mode.Perm(), label)
}

// Row 13.
func (k *checks) target() {
	const check, title = "target", "New data directory"
	for _, v := range layOut(k.f.Etcd, k.c.DataDir, k.f.runName(k.c)).volumes {
		if !filepath.IsAbs(v.new) {
			k.bad(check, title, "name it with its whole path", "%s is not an absolute path", v.new)
			return
		}
		if within(v.new, v.old) {
			k.bad(check, title, "choose a directory beside the old one", "%s is, or contains, the old data directory, which stays untouched", v.new)
			return
		}
		if _, err := os.Lstat(v.new); err == nil {
			k.bad(check, title, "choose a name that isn't taken; on a mount of its own choose a directory below its root (lost+found is there)", "%s exists already", v.new)
			return
		} else if !errors.Is(err, fs.ErrNotExist) {
			k.bad(check, title, "", "%s: %s", v.new, err)
			return
		}
		if parent, err := os.Stat(filepath.Dir(v.new)); err != nil || !parent.IsDir() {
			k.bad(check, title, "make it, or choose another place", "%s is not a directory", filepath.Dir(v.new))
			return
		}
		if d, err := node.DiskOf(filepath.Dir(v.new)); err == nil && d.NetworkFS {
			k.warn(check, title, "etcd needs a local disk", "%s is on a network file system (%s)", v.new, d.FSType)
			return
		}
	}
	k.ok(check, title, "%s", k.c.DataDir)
}

func (k *checks) renames() {
	const check, title = "same-file-system", "Renames"
	man, err := node.DiskOf(k.f.Manifests.Path)
	if err != nil {
		k.bad(check, title, "", "%s", err)
		return
	}
	state, err := node.DiskOf(k.f.StateDir)
	if err != nil {
		k.bad(check, title, "", "%s", err)
		return
	}
	if !man.SameFileSystem(state) {
		k.bad(check, title, "name a directory on the same file system with --state-dir", "%s and %s are on different file systems: a manifest can't be moved by a rename", k.f.Manifests.Path, k.f.StateDir)
		return
	}
	if man.ReadOnly || state.ReadOnly {
		k.bad(check, title, "remount it read-write; dmesg tells why the kernel made it read-only", "%s is on a read-only file system", k.f.Manifests.Path)
		return
	}
	k.ok(check, title, "each is on one file system")
}

// Row 36.
func (k *checks) etcdServers() {
	const check, title = "etcd-servers", "API server → etcd"
	reach := map[string]bool{}
	for _, l := range slices.Concat(k.f.Etcd.ListenClientURLs, k.f.Etcd.AdvertiseClientURLs) {
		if u, err := url.Parse(l); err == nil {
			reach[u.Port()] = true
			reach[u.Host] = true
			if ip := net.ParseIP(u.Hostname()); ip != nil && ip.IsUnspecified() {
				reach["any:"+u.Port()] = true
			}
		}
	}
	for _, s := range k.f.API.EtcdServers {
		u, err := url.Parse(s)
		if err != nil {
			continue
		}
		local := u.Hostname() == "localhost" && reach["127.0.0.1:"+u.Port()]
		if reach[u.Host] || local || reach["any:"+u.Port()] {
			k.ok(check, title, "--etcd-servers %s is this etcd", s)
			return
		}
	}
	k.wrong(check, title, "correct --etcd-servers in "+k.f.API.File.Name(), "--etcd-servers %s is none of this etcd's client URLs: %s",
		strings.Join(k.f.API.EtcdServers, ","), strings.Join(k.f.Etcd.ListenClientURLs, ","))
}

// Row 34.
func (k *checks) certificates() {
	const check, title = "certificates", "Certificates"
	var paths []string
	if e := k.f.Etcd; e != nil {
		paths = append(paths, e.Cert, e.PeerCert, e.TrustedCA)
	}
	if a := k.f.API; a != nil {
		paths = append(paths, a.ServingCert, a.EtcdCert, a.ClientCA)
	}
	now := time.Now()
	var soonest time.Time
	var expired, unread []string
	for _, p := range paths {
		if p == "" {
			continue
		}
		c := node.ReadCertificate(p)
		switch {
		case c.Err != nil:
			unread = append(unread, fmt.Sprintf("%s: %s", p, c.Err))
		case now.After(c.NotAfter):
			expired = append(expired, fmt.Sprintf("%s expired on %s", p, c.NotAfter.Format(time.DateOnly)))
		case now.Before(c.NotBefore):
			expired = append(expired, fmt.Sprintf("%s is valid only from %s: is the clock right?", p, c.NotBefore.Format(time.DateTime)))
		case soonest.IsZero() || c.NotAfter.Before(soonest):
			soonest = c.NotAfter
		}
	}
	switch {
	case len(expired) > 0:
		k.wrong(check, title, "kubeadm certs check-expiration, then kubeadm certs renew all", "%s", strings.Join(expired, "; "))
	case len(unread) > 0:
		k.wrong(check, title, "", "%s", strings.Join(unread, "; "))
	case soonest.IsZero():
		k.ok(check, title, "none are used")
	default:
		k.ok(check, title, "all valid, the first expires on %s", soonest.Format(time.DateOnly))
	}
}

// Row 15.
func (k *checks) space() {
	const check, title = "disk-space", "Disk space"
	d, err := node.DiskOf(filepath.Dir(k.c.DataDir))
	if err != nil {
		k.bad(check, title, "", "%s", err)
		return
	}
	if d.ReadOnly {
		k.bad(check, title, "remount it read-write", "%s is mounted read-only", d.MountPoint)
		return
	}
	need := uint64(k.info.Size) + walBytes
	if k.f.Live != nil {
		need += uint64(k.f.Live.DBSize) // for the snapshot of the state that is left
	}
	if d.FreeBytes < need {
		k.bad(check, title, "free space, or choose a directory on another disk with --data-dir", "%s needs %s for the restored data and its WAL, %s has %s left",
			k.c.DataDir, Bytes(int64(need)), d.MountPoint, Bytes(int64(d.FreeBytes)))
		return
	}
	if d.FreeInodes < 64 {
		k.bad(check, title, "remove files", "%s has no inodes left", d.MountPoint)
		return
	}
	k.ok(check, title, "%s needed, %s free on %s", Bytes(int64(need)), Bytes(int64(d.FreeBytes)), d.MountPoint)
}

// walBytes is what a fresh WAL and the raft snapshot take: etcd preallocates
// segments of 64 MB (SegmentSizeBytes, server/storage/wal), two of them while
// it runs.
const walBytes = 128 << 20

// Rows 16, 17, 18: a wrong hash or a torn file never gets this far.
func (k *checks) hash() {
	const check, title = "snapshot-hash", "Snapshot"
	if k.info.Hash == snapshot.HashMissing {
		k.warn(check, title, "fine for a copy of member/snap/db that was taken while etcd was stopped; a copy of a running etcd's may be torn",
			"%s has no sha256 trailer: its pages fit together, but nothing vouches for the content", filepath.Base(k.info.Path))
		return
	}
	k.ok(check, title, "%s is whole: sha256, pages and records", filepath.Base(k.info.Path))
}

// Row 20.
func (k *checks) version() {
	const check, title = "snapshot-version", "Snapshot's version"
	snap, server := minor(k.info.StorageVersion), minor(k.f.EtcdVersion)
	switch {
	case snap == "" && server == "":
		k.warn(check, title, "", "neither the snapshot nor the image tells its version")
	case server == "":
		k.warn(check, title, "an older etcd refuses a newer snapshot", "the snapshot is from etcd %s, the version of %s isn't known", snap, k.f.Etcd.Image)
	case snap != "" && newer(snap, server):
		k.wrong(check, title, "use an etcd image of "+snap+" or newer", "the snapshot was written by etcd %s, this node runs %s, which refuses it (\"version ... is not supported\")", snap, server)
	case snap == "":
		k.ok(check, title, "from before etcd 3.6; this node runs %s", k.f.EtcdVersion)
	default:
		k.ok(check, title, "etcd %s, this node runs %s", snap, k.f.EtcdVersion)
	}
}

func minor(v string) string {
	parts := strings.SplitN(strings.TrimPrefix(v, "v"), ".", 3)
	if len(parts) < 2 {
		return ""
	}
	return parts[0] + "." + parts[1]
}

func newer(a, b string) bool {
	var a1, a2, b1, b2 int
	_, errA := fmt.Sscanf(a, "%d.%d", &a1, &a2)
	_, errB := fmt.Sscanf(b, "%d.%d", &b1, &b2)
	return errA == nil && errB == nil && (a1 > b1 || a1 == b1 && a2 > b2)
}

// Row 22.
func (k *checks) alarms() {
	const check, title = "snapshot-alarms", "Alarms and quota"
	quota := k.f.Etcd.QuotaBytes
	if quota == 0 {
		quota = 2 << 30
	}
	switch {
	case len(k.info.Alarms) > 0:
		k.warn(check, title, "after the restore: etcdctl alarm disarm, once the cause is gone", "the snapshot carries the alarm %s", strings.Join(k.info.Alarms, ", "))
	case k.info.TotalSize > quota:
		k.wrong(check, title, "raise --quota-backend-bytes in etcd.yaml first", "the database has %s, etcd's quota is %s: it would refuse writes", Bytes(k.info.TotalSize), Bytes(quota))
	default:
		k.ok(check, title, "no alarm, %s of %s", Bytes(k.info.TotalSize), Bytes(quota))
	}
}

// Rows 27 and 30, the snapshot's part.
func (k *checks) members() {
	const check, title = "snapshot-members", "Members in the snapshot"
	if fleet := k.c.Fleet; fleet != nil {
		k.ok(check, title, "replaced by the %d of the fleet", len(fleet.Members))
		return
	}
	if n := len(k.info.Members); n > 1 {
		var names []string
		for _, m := range k.info.Members {
			names = append(names, m.Name)
		}
		k.wrong(check, title, "go on only if this node is all that is left: it becomes the only member, and others join anew",
			"the snapshot is from a cluster of %d members (%s), the restore makes one of it", n, strings.Join(names, ", "))
		return
	}
	k.ok(check, title, "replaced by the one of this node")
}

// Row 25, the node's part.
func (k *checks) nodeInSnapshot() {
	const check, title = "snapshot-node", "This node in the snapshot"
	if k.info.Prefix == "" {
		k.wrong(check, title, "is it the right file?", "the snapshot holds no Kubernetes objects")
		return
	}
	for _, n := range k.info.Nodes {
		if n.Name == k.f.Node {
			k.ok(check, title, "%s is among its %d nodes", k.f.Node, len(k.info.Nodes))
			return
		}
	}
	var names []string
	for _, n := range k.info.Nodes {
		names = append(names, n.Name)
	}
	k.wrong(check, title, "is it this cluster's snapshot?", "the snapshot doesn't know the node %s, only: %s", k.f.Node, strings.Join(names, ", "))
}

// Bytes says a size as people do, in powers of 1000.
func Bytes(n int64) string {
	const unit = 1000
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	f, i := float64(n)/unit, 0
	for f >= unit && i < 4 {
		f, i = f/unit, i+1
	}
	return fmt.Sprintf("%.1f %cB", f, "kMGTP"[i])
}
