package steps

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"etcd-rewind/node"
	"etcd-rewind/snapshot"
	"etcd-rewind/trust"
)

// Expect says what has to be ready after a manifest is in.
type Expect struct {
	API       bool   `json:"api,omitempty"`
	Etcd      bool   `json:"etcd,omitempty"`
	ClusterID uint64 `json:"cluster_id,omitempty"` // etcd's, where it is known
	URL       string `json:"url,omitempty"`        // where readiness is asked for
	// Budget is how long its startup probe lets it take.
	Budget time.Duration `json:"budget,omitempty"`
}

// wait is for what the process is, whose manifest stays as it is.
func (e *Expect) wait(p processRef) Action {
	if e.API {
		return &WaitAPI{Pod: p.pod, Unit: p.unit, URL: e.URL, Budget: e.Budget}
	}
	return &WaitEtcd{Pod: p.pod, Unit: p.unit, ClusterID: e.ClusterID, URL: e.URL, Budget: e.Budget}
}

// WaitData waits until etcd has opened its data, and compares the ID of its
// cluster with the one that was staged. A blank etcd (a typo in a hostPath makes
// kubelet create an empty directory) and the old data have another one, because
// every restore gets an initial cluster token of its own.
//
// That is known 0.1 to 1.0 s before etcd is ready: alone it first waits for an
// election timeout (raft, at random), which is nothing that an API server, whose
// container kubelet has still to start, has to wait for.
type WaitData struct {
	Pod  string `json:"pod,omitempty"`
	Unit string `json:"unit,omitempty"` // of systemd's, in place of a pod
	// Peer is where etcd answers already, and how; see [node.EtcdCluster]. Where
	// it doesn't, this waits until etcd is ready.
	Peer node.EtcdConfig `json:"peer"`
	File string          `json:"file"` // its manifest, which may get a fresh annotation
	// Budget is how long its startup probe lets it take; 0 when that isn't known.
	Budget time.Duration `json:"budget,omitempty"`
	// ClusterID is that of the old data, in an undo; 0 compares with what this run
	// has staged.
	ClusterID uint64 `json:"cluster_id,omitempty"`
}

func (*WaitData) Kind() string { return "wait-data" }

func (a *WaitData) Title() string {
	if a.ClusterID != 0 {
		return "Wait until etcd has opened the old data"
	}
	return "Wait until etcd has opened the restored data"
}

func (a *WaitData) Commands() []string {
	if len(a.Peer.Endpoints) == 0 {
		return nil
	}
	curl := "curl -sf --http1.1 -o /dev/null -D -" // over HTTP/2 a peer answers nothing (3.6)
	for _, f := range [][2]string{{"--cacert", a.Peer.CA}, {"--cert", a.Peer.Cert}, {"--key", a.Peer.Key}} {
		if f[1] != "" {
			curl = trust.Shell("%s %s %s", trust.Raw(curl), f[0], f[1])
		}
	}
	is := "as staged?"
	if a.ClusterID != 0 {
		is = strconv.FormatUint(a.ClusterID, 16)
	}
	return []string{trust.Shell("until %s %s | grep -i x-etcd-cluster-id; do sleep 0.1; done   %s", trust.Raw(curl), a.Peer.Endpoints[0]+"/members", trust.Raw(trust.Comment(is)))}
}

func (a *WaitData) limit(p pace) time.Duration { return p.start(p.etcd, a.Budget) }

func (a *WaitData) ref() processRef {
	return processRef{pod: a.Pod, file: a.File, unit: a.Unit, budget: a.Budget}
}

func (a *WaitData) do(ctx context.Context, r *run) (State, error) {
	etcd := r.watch(a.ref(), 2, a.limit(r.pace))
	if err := etcd.retry(ctx); err != nil {
		return Failed, err
	}
	return r.poll(ctx, a.limit(r.pace), r.pace.lookCRI, func(ctx context.Context) (sight, error) {
		s := sight{seen: []Sighting{{What: a.ref().what(), Is: "not running"}, {What: "data", Is: "not open yet"}}}
		up, err := etcd.look(ctx, "", &s)
		if err != nil || !up {
			return s, err
		}
		id := r.world.EtcdCluster(ctx)
		if id == 0 {
			if _, err := r.world.EtcdReady(ctx); err != nil {
				return s, forGood("etcd", err)
			}
			status, err := r.world.Etcd(ctx, false)
			if err != nil {
				s.seen[1].Is = err.Error()
				return s, forGood("etcd", err)
			}
			id = status.ClusterID
		}
		s.seen[1].Is = fmt.Sprintf("cluster %x", id)
		if err := a.right(r.mem.Staged, id); err != nil {
			return s, err
		}
		s.ok, s.seen[1].OK = true, true
		return s, nil
	}, func(sight) error {
		return etcd.late("etcd has not opened its data")
	})
}

// right fails when etcd has opened other data than it should.
func (a *WaitData) right(staged *snapshot.Restored, have uint64) error {
	switch {
	case a.ClusterID == 0:
		return rightCluster(staged, have)
	case a.ClusterID != have:
		return wrongCluster(a.ClusterID, have)
	}
	return nil
}

func (a *WaitData) places(v *vetter) {
	v.process(a.ref())
}

func (*WaitData) undo() []Action { return nil }

// WaitEtcd waits until etcd is ready, and then asks whether it holds the right
// data.
type WaitEtcd struct {
	Pod  string `json:"pod,omitempty"`
	Unit string `json:"unit,omitempty"` // of systemd's, in place of a pod
	URL  string `json:"url"`
	// Restored compares with what this run staged; else ClusterID is
	// compared, where it isn't 0.
	Restored  bool   `json:"restored,omitempty"`
	ClusterID uint64 `json:"cluster_id,omitempty"`
	// File is its manifest, when that may get a fresh annotation.
	File   string        `json:"file,omitempty"`
	Budget time.Duration `json:"budget,omitempty"` // as in [WaitData]
}

func (*WaitEtcd) Kind() string { return "wait-etcd" }

func (a *WaitEtcd) Title() string {
	if a.Restored {
		return "Wait until etcd is ready with the restored data"
	}
	return "Wait until etcd is ready"
}

func (a *WaitEtcd) Commands() []string {
	cmds := []string{trust.Shell("until curl -sf -o /dev/null %s; do sleep 0.1; done", a.URL)}
	if a.Restored {
		cmds = append(cmds, "etcdctl endpoint status -w json   # cluster ID and revision as staged?")
	}
	return cmds
}

func (a *WaitEtcd) limit(p pace) time.Duration { return p.start(p.etcd, a.Budget) }

func (a *WaitEtcd) ref() processRef {
	return processRef{pod: a.Pod, file: a.File, unit: a.Unit, budget: a.Budget}
}

func (a *WaitEtcd) do(ctx context.Context, r *run) (State, error) {
	etcd := r.watch(a.ref(), 2, a.limit(r.pace))
	if err := etcd.retry(ctx); err != nil {
		return Failed, err
	}
	serves := false
	return r.poll(ctx, a.limit(r.pace), r.pace.lookCRI, func(ctx context.Context) (sight, error) {
		s := sight{seen: []Sighting{{What: a.ref().what(), Is: "not running"}, {What: "/readyz", Is: "not asked yet"}, {What: "data", Is: "not asked yet"}}}
		up, err := etcd.look(ctx, "", &s)
		if err != nil || !up {
			return s, err
		}
		if !serves && r.engine.Barrier != nil && r.world.EtcdCluster(ctx) != 0 {
			// The others wait for it. /readyz would keep this question for half a
			// second, until there is a quorum.
			serves, s.etcd = true, EtcdServes
			return s, nil
		}
		answer, err := r.world.EtcdReady(ctx)
		serves = serves || err == nil || errors.As(err, new(*node.NotReadyError))
		if serves {
			s.etcd = EtcdServes
		}
		if err != nil {
			s.seen[1].Is = err.Error()
			return s, forGood("etcd", err)
		}
		s.seen[1] = Sighting{What: "/readyz", Is: answer, OK: true}
		ask, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		status, err := r.world.Etcd(ask, a.Restored)
		if err != nil {
			s.seen[2].Is = err.Error()
			return s, forGood("etcd", err)
		}
		if a.Restored && status.Denied != nil {
			s.seen[2].Is = status.Denied.Error()
			return s, denied(status.Denied)
		}
		s.seen[2].Is = fmt.Sprintf("cluster %x, revision %d", status.ClusterID, status.Revision)
		if err := a.compare(r.mem.Staged, status); err != nil {
			return s, err
		}
		s.ok, s.seen[2].OK = true, true
		r.mem.Revision = status.Revision
		r.mem.Proven = a.Restored
		return s, nil
	}, func(s sight) error {
		return etcd.late("etcd is not ready")
	})
}

// forGood turns an error that no waiting mends into one that ends a wait; it is
// nil for others.
func forGood(who string, err error) error {
	if !node.Permanent(err) {
		return nil
	}
	return stuck(hintFor(err.Error()), "can't query %s: %w", who, err)
}

// denied is an etcd that has authentication enabled. kube-apiserver shows the
// same certificate, so it doesn't get to its objects either.
func denied(err error) error {
	return stuck("undo; then disable authentication where the snapshot is from (etcdctl auth disable) and take another, "+
		"or give the certificate's common name a user with a role for the API server's keys", "etcd runs with authentication enabled, and rejects kube-apiserver's certificate: %w", err)
}

// wrongData is an etcd that runs on something else than it should.
func wrongData(what string, want, have any) error {
	return stuck("it may run on an empty or an old directory; undo, and check the data directory in its settings", "etcd runs, but not on the right data: its %s is %v, not %v", what, have, want)
}

func wrongCluster(want, have uint64) error {
	return wrongData("cluster ID", fmt.Sprintf("%x", want), fmt.Sprintf("%x", have))
}

// rightCluster fails when that isn't the cluster which was staged.
func rightCluster(want *snapshot.Restored, have uint64) error {
	switch {
	case want == nil:
		return stuck("undo the run", "the journal doesn't record what was staged")
	case have != want.ClusterID:
		return wrongCluster(want.ClusterID, have)
	}
	return nil
}

// compare holds a running etcd against what was staged. The end of a lease, or
// an API server that is quick, may have written since.
func (a *WaitEtcd) compare(want *snapshot.Restored, have *node.EtcdStatus) error {
	if !a.Restored {
		if have.ClusterID != a.ClusterID { // what isn't known is no match
			return wrongCluster(a.ClusterID, have.ClusterID)
		}
		return nil
	}
	if err := rightCluster(want, have.ClusterID); err != nil {
		return err
	}
	if have.Revision < want.Revision {
		return wrongData("revision", want.Revision, have.Revision)
	}
	since := have.Revision - want.Revision
	if diff := have.Keys - int64(want.Keys); have.Keys >= 0 && max(diff, -diff) > since {
		return wrongData("number of keys", want.Keys, have.Keys)
	}
	var names, wantNames []string
	for _, m := range have.Members {
		names = append(names, fmt.Sprintf("%x %s", m.ID, m.Name))
	}
	for _, m := range want.Members {
		wantNames = append(wantNames, fmt.Sprintf("%x %s", m.ID, m.Name))
	}
	slices.Sort(names)
	slices.Sort(wantNames)
	if !slices.Equal(names, wantNames) {
		return wrongData("member list", wantNames, names)
	}
	return nil
}

func (a *WaitEtcd) places(v *vetter) {
	v.process(a.ref())
}

func (*WaitEtcd) undo() []Action { return nil }

// WaitAPI waits until the API server's /readyz answers 200.
type WaitAPI struct {
	Pod  string `json:"pod,omitempty"`
	Unit string `json:"unit,omitempty"` // of systemd's, in place of a pod
	URL  string `json:"url"`
	// File is its manifest, when that may get a fresh annotation.
	File   string        `json:"file,omitempty"`
	Budget time.Duration `json:"budget,omitempty"` // as in [WaitData]
}

func (*WaitAPI) Kind() string { return "wait-api" }

func (*WaitAPI) Title() string { return "Wait until kube-apiserver is ready" }

func (a *WaitAPI) Commands() []string {
	return []string{trust.Shell("until curl -skf -m 1 -o /dev/null %s; do sleep 0.1; done", a.URL)}
}

func (a *WaitAPI) limit(p pace) time.Duration { return p.start(p.api, a.Budget) }

func (a *WaitAPI) ref() processRef {
	return processRef{pod: a.Pod, file: a.File, unit: a.Unit, budget: a.Budget}
}

func (a *WaitAPI) do(ctx context.Context, r *run) (State, error) {
	api := r.watch(a.ref(), 4, a.limit(r.pace))
	if err := api.retry(ctx); err != nil {
		return Failed, err
	}
	state, err := r.poll(ctx, a.limit(r.pace), r.pace.lookAPI, func(ctx context.Context) (sight, error) {
		answer := r.world.API(ctx, time.Second)
		s := sight{seen: []Sighting{
			{What: "container", Is: "not created yet"},
			{What: "/readyz", Is: sayAPI(answer), OK: answer.Code == http.StatusOK},
		}}
		up, err := api.look(ctx, sayAPI(answer), &s)
		s.ok = up && answer.Code == http.StatusOK
		return s, err
	}, func(s sight) error {
		return api.late("kube-apiserver is not ready")
	})
	if err == nil {
		r.apiIsBack()
	}
	return state, err
}

func (a *WaitAPI) places(v *vetter) {
	v.process(a.ref())
}

func (*WaitAPI) undo() []Action { return nil }

// Verify asks the API for what the snapshot holds.
type Verify struct {
	Node string `json:"node"`
	// Namespaces and Nodes are the first maxCompared of the snapshot: the plan
	// goes into the journal and to every reader of events, and a snapshot may
	// hold any number of them.
	Namespaces []snapshot.Object `json:"namespaces"`
	Nodes      []snapshot.Object `json:"nodes"`
	// NamespacesTotal and NodesTotal are how many the snapshot has; 0 where all
	// are listed.
	NamespacesTotal int    `json:"namespaces_total,omitempty"`
	NodesTotal      int    `json:"nodes_total,omitempty"`
	Server          string `json:"server,omitempty"`
	// Later are nodes that joined after the snapshot, the first maxLater of them.
	Later []string `json:"joined_later,omitempty"`
}

const (
	maxLater    = 100
	maxCompared = 500
)

func newVerify(f *Facts, info *snapshot.Info) *Verify {
	v := &Verify{Node: f.Node, Server: f.Reach.Server}
	v.Namespaces, v.NamespacesTotal = firstOf(info.Namespaces, info.More["namespaces"])
	v.Nodes, v.NodesTotal = firstOf(info.Nodes, info.More["nodes"])
	return v
}

// firstOf are the first objects, and how many there are with those that the
// snapshot's list lacks, 0 when that is all.
func firstOf(all []snapshot.Object, more int) ([]snapshot.Object, int) {
	if len(all) <= maxCompared && more == 0 {
		return all, 0
	}
	return all[:min(len(all), maxCompared)], len(all) + more
}

func (*Verify) Kind() string { return "verify" }

func (*Verify) Title() string { return "Compare the API's namespaces and nodes with the snapshot" }

func (a *Verify) Commands() []string {
	return []string{"kubectl get namespaces,nodes -o custom-columns=KIND:.kind,NAME:.metadata.name,UID:.metadata.uid"}
}

func (*Verify) limit(p pace) time.Duration { return p.verify }

func (a *Verify) do(ctx context.Context, r *run) (State, error) {
	var last error
	var later []string
	state, err := r.poll(ctx, a.limit(r.pace), 250*time.Millisecond, func(ctx context.Context) (sight, error) {
		s := sight{ok: true}
		last = nil
		for _, kind := range []struct {
			resource string
			want     []snapshot.Object
			total    int
		}{{"namespaces", a.Namespaces, a.NamespacesTotal}, {"nodes", a.Nodes, a.NodesTotal}} {
			ask, cancel := context.WithTimeout(ctx, 5*time.Second)
			have, err := r.world.Objects(ask, kind.resource)
			cancel()
			if err != nil {
				last = err
				s.ok = false
				s.seen = append(s.seen, Sighting{What: kind.resource, Is: err.Error()})
				if err := forGood("the API", err); err != nil {
					return s, err
				}
				continue
			}
			if kind.resource == "nodes" {
				later = a.unregistered(have)
			}
			is, ok, more := a.compare(kind.want, kind.total, have)
			if s.ok = s.ok && ok; ok && len(more) > 0 {
				r.note(kind.resource+" not in the snapshot", "%s: created since the API is up again, or registered again", someNames(more))
			}
			s.seen = append(s.seen, Sighting{What: kind.resource, Is: is, OK: ok})
		}
		return s, nil
	}, func(s sight) error {
		t := stuck("the API server is ready and etcd has the restored data: check with kubectl before you decide", "the API doesn't show what the snapshot holds")
		if last != nil {
			return stuck(t.Hint, "the API can't be read: %w", last)
		}
		return t
	})
	if err == nil && len(later) > 0 {
		r.note("nodes that joined after the snapshot", "%s: run %s on each, kubelet registers its node only when it starts", someNames(later), defaultKubeletRestart)
	}
	return state, err
}

// unregistered are the nodes of Later that the API doesn't know now.
func (a *Verify) unregistered(have []node.Object) (names []string) {
	for _, name := range a.Later {
		if !slices.ContainsFunc(have, func(o node.Object) bool { return o.Name == name }) {
			names = append(names, name)
		}
	}
	return names
}

// system are namespaces every API server creates when they are missing
// (kube-apiserver's systemnamespaces controller); a node registers itself.
var system = []string{metav1.NamespaceDefault, metav1.NamespaceSystem, metav1.NamespacePublic, corev1.NamespaceNodeLease}

// compare says what is missing or is another object of that name. What is more
// is no fault: GitOps and operators make namespaces within seconds of the API's
// return, and nodes register again.
func (a *Verify) compare(want []snapshot.Object, total int, have []node.Object) (is string, ok bool, more []string) {
	uids := map[string]string{}
	for _, o := range have {
		uids[o.Name] = o.UID
	}
	var missing, other []string
	for _, o := range want {
		uid, there := uids[o.Name]
		switch {
		case !there && o.Deleting:
			// The controllers have ended what was under way when the snapshot was taken.
		case !there:
			missing = append(missing, o.Name)
		case o.UID != "" && uid != o.UID:
			other = append(other, o.Name)
		}
		delete(uids, o.Name)
	}
	for name := range uids {
		if name != a.Node && !slices.Contains(system, name) {
			more = append(more, name)
		}
	}
	slices.Sort(more)
	var say []string
	for _, l := range []struct {
		what  string
		names []string
	}{{"missing", missing}, {"with another UID", other}} {
		if len(l.names) > 0 {
			say = append(say, l.what+": "+someNames(l.names))
		}
	}
	if len(say) > 0 {
		return strings.Join(say, "; "), false, more
	}
	if total > len(want) {
		return fmt.Sprintf("%d of the snapshot's %d compared, same UIDs; the API has %d", len(want), total, len(have)), true, nil
	}
	is = fmt.Sprintf("all %d of the snapshot, same UIDs", len(want))
	if len(more) > 0 {
		is += fmt.Sprintf("; %d more", len(more))
	}
	return is, true, more
}

func (*Verify) places(*vetter) {}

func (*Verify) undo() []Action { return nil }
