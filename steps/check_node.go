package steps

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"etcd-rewind/node"
	"etcd-rewind/problem"
)

func (k *checks) root() Verdict {
	if k.f.Own {
		return ok("not needed: this node is your own")
	}
	if node.IsRoot() {
		return ok("running as root")
	}
	return bad("run it with sudo", "not running as root: manifests and etcd's data belong to root")
}

func (k *checks) lock() Verdict {
	// The directory may not be there yet, and a check changes nothing: no
	// directory means that nobody holds a lock in it.
	if _, err := os.Stat(k.f.StateDir); err != nil {
		return ok("no other run on this node")
	}
	release, err := node.Lock(filepath.Join(k.f.StateDir, lockName))
	var held *node.LockedError
	switch {
	case errors.As(err, &held):
		k.locked = true
		return bad("wait for it, or stop it", "another run is under way: %s", held.Holder)
	case err != nil:
		return bad("", "%s", err)
	default:
		_ = release()
		return ok("no other run on this node")
	}
}

func (k *checks) earlierRun() Verdict {
	if k.locked {
		return none // that run is the one that isn't finished
	}
	if u := k.f.Unfinished; u != nil {
		hint := u.Command("resume") + " continues it, " + u.Command("undo") + " reverts it"
		if u.Fleet {
			hint += ", on all nodes"
		}
		return wrong(hint,
			"run %s is unfinished (%s): the node may be half restored", u.Run, u.State)
	}
	return ok("none is unfinished")
}

// unreadable is the verdict on a run whose journal can't be read: it may have
// been interrupted, and only its name overrides it.
func unreadable(r RunInfo) Verdict {
	v := wrong(r.hint, "run %s can't be read, so its effects are unknown: %s", r.Run, r.Err)
	if r.Run == "" {
		v = bad(r.hint, "%s", r.Err)
	}
	v.Check, v.Title = strings.TrimSuffix(checkUnreadable+":"+r.Run, ":"), "Earlier run"
	return v
}

func (k *checks) kubelet() Verdict {
	switch {
	case !k.f.onPods():
		return none // what a restore stops and starts here isn't kubelet's
	case k.f.Kubelet == nil:
		return bad("run it on a control-plane node, or name kubelet's configuration with --kubelet-config", "%s", k.f.KubeletErr)
	case k.f.KubeletErr != nil:
		return wrong("start it ("+k.f.Layout.StartKubelet()+"); without it no manifest has any effect", "kubelet's healthz doesn't answer: %s", k.f.KubeletErr)
	default:
		return ok("healthy%s", since(k.f.Kubelet.Started))
	}
}

// impostors names the processes that call themselves kubelet and aren't taken
// for it. Beside a kubelet that was found they block nothing: any user could
// hold up a restore with one.
func (k *checks) impostors() Verdict {
	kubelet := k.f.Kubelet
	if len(kubelet.Ignored) == 0 {
		return none
	}
	ignored := strings.Join(kubelet.Ignored, "; ") + ": ignored"
	if kubelet.PID != 0 {
		return ok("process %d; %s", kubelet.PID, ignored)
	}
	return warn("if it is this node's kubelet, its program must belong to root and must not be writable by others; otherwise stop it. Until then kubelet's settings are read from its unit",
		"%s", ignored)
}

func since(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return ", running for " + time.Since(t).Round(time.Second).String()
}

func (k *checks) runtime() Verdict {
	if k.f.RuntimeErr != nil {
		return bad("start it (systemctl start containerd), or name its socket with --cri",
			"the container runtime at %s doesn't answer: %s", k.f.Kubelet.CRIEndpoint, k.f.RuntimeErr)
	}
	return ok("%s", k.f.Runtime)
}

// Row 7.
func (k *checks) manifestDir() Verdict {
	d := k.f.Manifests
	if err := k.f.ManifestsErr; err != nil {
		return bad("run it on a control-plane node, or name its directory with --manifests", "%s", err)
	}
	return ok("%s, %d files (from %s)", d.Path, len(d.Files), k.f.Kubelet.Sources["staticPodPath"])
}

// Rows 1 and 2.
func (k *checks) strays() Verdict {
	var strays []string
	for key, files := range k.f.Manifests.Duplicates() {
		var names []string
		for _, f := range files {
			names = append(names, f.Name())
		}
		strays = append(strays, fmt.Sprintf("%s define the same pod %s, and %s wins", strings.Join(names, " and "), key, names[len(names)-1]))
	}
	own := k.f.Etcd.pod()
	for _, c := range []string{k.f.Layout.Etcd, k.f.Layout.API} {
		for _, f := range k.f.Manifests.Rivals(c) {
			if k.f.lawful(f) || own != nil && f.Key() == own.File.Key() {
				continue
			}
			if !slices.Contains(k.f.Manifests.Running(c), f) {
				continue // a proxy, or an exporter with the same label
			}
			strays = append(strays, fmt.Sprintf("%s is a second %s", f.Name(), c))
		}
	}
	for _, e := range k.f.clashing {
		strays = append(strays, fmt.Sprintf("%s is a second etcd", e.Name()))
	}
	slices.Sort(strays)
	strays = slices.Compact(strays)
	if len(strays) > 0 {
		return bad("move the copies out of "+k.f.Manifests.Path+": kubelet reads every file there that doesn't begin with a dot", "%s", strings.Join(strays, "; "))
	}
	if refused := k.f.Manifests.Refused(); len(refused) > 0 {
		return warn("move it out of "+k.f.Manifests.Path+" if it doesn't belong there", "kubelet can't use %s: %s", refused[0].Name(), problem.Line(refused[0].Err))
	}
	return ok("every pod is defined once")
}

// Row 34.
func (k *checks) certificates() Verdict {
	var paths []string
	if e := k.f.Etcd; e != nil {
		paths = append(paths, e.Cert, e.PeerCert, e.TrustedCA)
	}
	if a := k.f.API; a != nil {
		paths = append(paths, a.ServingCert, a.EtcdCert, a.ClientCA)
	}
	now := time.Now()
	var soonest time.Time
	var expired []string
	unread := map[string][]string{} // by why
	count := 0
	for _, p := range paths {
		if p == "" {
			continue
		}
		count++
		c := node.ReadCertificate(p)
		switch {
		case errors.Is(c.Err, fs.ErrNotExist):
			unread["missing"] = append(unread["missing"], p)
		case errors.Is(c.Err, fs.ErrPermission):
			unread["permission denied"] = append(unread["permission denied"], p)
		case c.Err != nil:
			why := strings.TrimPrefix(c.Err.Error(), p+": ")
			unread[why] = append(unread[why], p)
		case now.After(c.NotAfter):
			expired = append(expired, fmt.Sprintf("%s expired on %s", p, c.NotAfter.Format(time.DateOnly)))
		case now.Before(c.NotBefore):
			expired = append(expired, fmt.Sprintf("%s is valid only from %s: is the clock right?", p, Moment(c.NotBefore)))
		case soonest.IsZero() || c.NotAfter.Before(soonest):
			soonest = c.NotAfter
		}
	}
	switch {
	case len(expired) > 0:
		hint := "kubeadm certs check-expiration, then kubeadm certs renew all"
		if !k.f.onPods() {
			hint = "renew them the way they were made"
		}
		return wrong(hint, "%s", strings.Join(expired, "; "))
	case len(unread) > 0:
		hint := "restore the file from a backup of " + k.f.Layout.Config
		if !k.f.onPods() {
			hint = "restore the file from a backup"
		} else if len(unread["missing"]) > 0 {
			hint += "; kubeadm init phase certs all creates the missing ones if the CA's key exists"
		}
		return wrong(hint, "%s", sayUnread(unread, count))
	case soonest.IsZero():
		return ok("none are used")
	}
	return ok("all valid, the first expires on %s", soonest.Format(time.DateOnly))
}

// sayUnread names a few files of each reason, once, and how many there are.
func sayUnread(unread map[string][]string, count int) string {
	var parts []string
	for _, why := range slices.Sorted(maps.Keys(unread)) {
		files := unread[why]
		named := strings.Join(files[:min(len(files), 2)], ", ")
		if more := len(files) - 2; more > 0 {
			named += fmt.Sprintf(" and %d more", more)
		}
		parts = append(parts, fmt.Sprintf("%d of %d %s: %s", len(files), count, why, named))
	}
	return strings.Join(parts, "; ")
}
