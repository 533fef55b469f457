package practice

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"etcd-rewind/manifest"
	"etcd-rewind/node"
	"etcd-rewind/snapshot"
)

// demand is one thing the grader asks of the outcome.
type demand struct {
	points int
	bonus  bool   // worth points, but not needed to pass
	kept   bool   // met by doing nothing: counts only beside what was reached
	title  string // as what is to be: "namespace shop is back"
	why    string // why it matters, when it is missed
	check  func(ctx context.Context, l *look) (missed string)
}

// look is what the grader sees of a node: the outcome, never the commands.
type look struct {
	s       *session
	api     *apiClient
	apiErr  error
	ready   node.APIAnswer
	seeded  bool // the cluster holds the namespace that all of the exercises' data does
	dir     *manifest.Dir
	etcd    *node.EtcdStatus
	etcdErr error
	dataDir string            // that the running etcd really has, on this machine; "" when none runs
	running map[string]string // component to the state of its newest container
}

func (s *session) look(ctx context.Context) *look {
	l := &look{s: s, running: map[string]string{}}
	seen := s.seen()
	if l.api, l.apiErr = newAPIClient(s.Root.Kubeconfig()); l.apiErr == nil {
		l.api.server = seen.ports.apiURL()
	}
	l.ready = seen.ports.askAPI(ctx)
	l.dir, _ = manifest.ReadDir(s.Root.Manifests())
	ask, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	pki := s.Root.Path("etc/kubernetes/pki")
	l.etcd, l.etcdErr = node.AskEtcd(ask, node.EtcdConfig{
		Endpoints: []string{seen.ports.etcdURL()}, CA: filepath.Join(pki, "etcd/ca.crt"),
		Cert: filepath.Join(pki, "apiserver-etcd-client.crt"), Key: filepath.Join(pki, "apiserver-etcd-client.key"),
	}, false)
	l.containers(ctx)
	l.seeded = l.wantObject(ctx, pathPay) == ""
	return l
}

func (l *look) containers(ctx context.Context) {
	rt, hangUp, err := dialCRI(l.s.Socket)
	if err != nil {
		return
	}
	defer hangUp()
	resp, err := rt.ListContainers(ctx, &cri.ListContainersRequest{})
	if err != nil {
		return
	}
	slices.SortFunc(resp.Containers, func(a, b *cri.Container) int { return int(a.CreatedAt - b.CreatedAt) })
	for _, c := range resp.Containers {
		l.running[c.Metadata.Name] = strings.ToLower(strings.TrimPrefix(c.State.String(), "CONTAINER_"))
		if c.Metadata.Name != "etcd" || c.State != cri.ContainerState_CONTAINER_RUNNING {
			continue
		}
		st, err := rt.ContainerStatus(ctx, &cri.ContainerStatusRequest{ContainerId: c.Id, Verbose: true})
		if err != nil {
			continue
		}
		var info containerInfo
		_ = json.Unmarshal([]byte(st.Info["info"]), &info)
		k := container{rootfs: "the container's own files"}
		for _, m := range st.Status.Mounts {
			k.mounts = append(k.mounts, mount{container: m.ContainerPath, host: l.s.Root.locate(m.HostPath)})
		}
		if args := info.RuntimeSpec.Process.Args; len(args) > 0 {
			l.dataDir = k.hostPath(cmp.Or(parseFlags(args[1:])["data-dir"], "/default.etcd"))
		}
	}
}

// wantObject says what is missing of an object. One of the first snapshot's
// must be the same one, not another of its name.
func (l *look) wantObject(ctx context.Context, path string) string {
	if l.apiErr != nil {
		return l.apiErr.Error()
	}
	var o struct{ Metadata struct{ UID string } }
	err := l.api.get(ctx, path, "", &o)
	var status *statusError
	switch {
	case errors.As(err, &status) && status.code == http.StatusNotFound:
		return "it is not there"
	case err != nil:
		return "the API server can't be reached"
	case seedUIDs()[path] != "" && o.Metadata.UID != seedUIDs()[path]:
		return fmt.Sprintf("it has another UID (%s): it was re-created, not restored, and references to the old object are broken", o.Metadata.UID)
	}
	return ""
}

func object(points int, what, path string) demand {
	return demand{
		points: points, title: what + " is back",
		check: func(ctx context.Context, l *look) string { return l.wantObject(ctx, path) },
	}
}

func gone(points int, what, path string) demand {
	return demand{
		points: points, title: what + " is gone",
		why: "it was made after the snapshot: while it is there, etcd doesn't run on the snapshot's data",
		check: func(ctx context.Context, l *look) string {
			switch missed := l.wantObject(ctx, path); missed {
			case "it is not there":
				return l.empty()
			case "":
				return "it is still there"
			default:
				return missed
			}
		},
	}
}

// empty says that the cluster is a blank one, in which everything is gone.
func (l *look) empty() string {
	if !l.seeded {
		return "the cluster is not the snapshot's: the namespace payments is not in it"
	}
	return ""
}

// reached makes a demand one that nobody meets by doing nothing.
func reached(d demand) demand { d.kept = false; return d }

func apiReady(points int) demand {
	return demand{
		points: points, kept: true, title: "the API server is ready", why: "without it the cluster can't be used",
		check: func(_ context.Context, l *look) string {
			if !l.ready.Ready() {
				return l.ready.String()
			}
			return ""
		},
	}
}

func allRun(points int) demand {
	return demand{
		points: points, kept: true, title: "all four components run", why: "a manifest that was moved aside has to come back",
		check: func(_ context.Context, l *look) string {
			for _, c := range components {
				if l.running[c] != "running" {
					return c + ": " + cmp.Or(l.running[c], "no container")
				}
			}
			return ""
		},
	}
}

func noStrays(points int) demand {
	return demand{
		points: points, kept: true, title: "no strays in the manifest directory",
		why: "kubelet reads every file there that doesn't begin with a dot; of two with the same pod the last by name wins",
		check: func(_ context.Context, l *look) string {
			if l.dir == nil {
				return "it can't be read"
			}
			var names []string
			for _, f := range l.dir.Files {
				if !slices.Contains(components, strings.TrimSuffix(f.Name(), ".yaml")) {
					names = append(names, f.Name())
				}
			}
			if len(names) > 0 {
				return strings.Join(names, ", ")
			}
			return ""
		},
	}
}

func runsFrom(points int, dir string) demand {
	return demand{
		points: points, title: "etcd runs from " + dir,
		why: "what counts is the hostPath of the volume that --data-dir is on: --data-dir alone leads to a path that goes with the container",
		check: func(_ context.Context, l *look) string {
			switch l.dataDir {
			case "":
				return "no etcd runs"
			case l.s.Root.Path(dir):
				if l.etcdErr != nil {
					return "it doesn't answer"
				}
				return l.empty()
			}
			return "it runs from " + strings.TrimPrefix(l.dataDir, string(l.s.Root))
		},
	}
}

func runsElsewhere(points int) demand {
	return demand{
		points: points, title: "etcd runs on restored data, beside the old",
		why: "restoring over the old data leaves no way back",
		check: func(ctx context.Context, l *look) string {
			old := l.s.Root.Path(l.s.OldDir)
			switch l.dataDir {
			case "":
				return "no etcd runs"
			case old:
				// The old directory may have been moved aside for it.
				if at := l.oldData(ctx); at == "" || at == old {
					return "it runs from " + l.s.OldDir
				}
			}
			if !strings.HasPrefix(l.dataDir, string(l.s.Root)) {
				return "it runs from a path that is on no volume"
			}
			if l.etcdErr != nil {
				return "it doesn't answer"
			}
			return l.empty()
		},
	}
}

// oldData is where the data lies that the node began with, on this machine:
// where it was, or moved aside as a whole. It is "" when it is nowhere.
func (l *look) oldData(ctx context.Context) string {
	old := l.s.Root.Path(l.s.OldDir)
	if l.isOld(ctx, old) == "" {
		return old
	}
	for _, depth := range []string{"*", "*/*", "*/*/*"} {
		found, _ := filepath.Glob(l.s.Root.Path(depth, "member/snap/db"))
		for _, db := range found {
			if dir := strings.TrimSuffix(db, "/member/snap/db"); dir != old && l.isOld(ctx, dir) == "" {
				return dir
			}
		}
	}
	return ""
}

// isOld says what is wrong with a directory as the data that the node began
// with.
func (l *look) isOld(ctx context.Context, dir string) string {
	if l.s.OldSHA256 != "" {
		sum, err := fileSum(filepath.Join(dir, "member/snap/db"))
		if err != nil || sum != l.s.OldSHA256 {
			return "its database is another, or gone"
		}
		return ""
	}
	if l.dataDir == dir && l.etcd != nil {
		if l.etcd.ClusterID != l.s.ClusterID || l.etcd.Revision < l.s.StartRevision {
			return "other data is there now"
		}
		return ""
	}
	have, err := snapshot.ReadDataDir(ctx, dir, "")
	switch {
	case err != nil:
		return "it can't be read: " + err.Error()
	case have.ClusterID != l.s.ClusterID || have.Revision < l.s.StartRevision:
		return "other data is there now"
	}
	return ""
}

func oldUntouched(points int) demand {
	return demand{
		points: points, kept: true, title: "the old data is still there",
		why: "until the restore is known to be right, the old directory is the only way back",
		check: func(ctx context.Context, l *look) string {
			if l.oldData(ctx) != "" {
				return ""
			}
			return l.isOld(ctx, l.s.Root.Path(l.s.OldDir))
		},
	}
}

// kubeadmAgrees is worth something beside a restore only: at the start it is so.
func kubeadmAgrees(points int) demand {
	return demand{
		points: points, bonus: true, kept: true, title: "kubeadm-config names the directory that etcd runs from",
		why: "kubeadm upgrade renders etcd.yaml from this ConfigMap: it would start etcd on the old data again",
		check: func(ctx context.Context, l *look) string {
			if missed := l.wantObject(ctx, pathKubeadm); missed != "" {
				return missed
			}
			var m corev1.ConfigMap
			if err := l.api.get(ctx, pathKubeadm, "", &m); err != nil {
				return err.Error()
			}
			have, err := manifest.ReadKubeadmEtcd([]byte(m.Data["ClusterConfiguration"]))
			switch {
			case err != nil:
				return err.Error()
			case l.s.Root.locate(have.DataDir) != l.dataDir:
				return "it names " + strings.TrimPrefix(have.DataDir, string(l.s.Root))
			}
			return ""
		},
	}
}

func memberAsInManifest(points int) demand {
	return demand{
		points: points, kept: true, title: "the member has the name and peer URL of etcd.yaml",
		why: "etcdutl's defaults work alone: with the peer URL http://localhost:2380 the next kubeadm join --control-plane fails",
		check: func(_ context.Context, l *look) string {
			if l.etcd == nil {
				return "etcd doesn't answer"
			}
			if len(l.etcd.Members) != 1 {
				return fmt.Sprintf("it has %d members", len(l.etcd.Members))
			}
			if missed := l.empty(); missed != "" {
				return missed
			}
			m := l.etcd.Members[0]
			if peer := l.s.named().ports.peerURL(); m.Name != nodeName || !slices.Contains(m.PeerURLs, peer) {
				return fmt.Sprintf("it is %q at %s, not %q at %s", m.Name, strings.Join(m.PeerURLs, ","), nodeName, peer)
			}
			return ""
		},
	}
}

func saved(points int, path, namespace string) demand {
	return demand{
		points: points, title: "a good snapshot of the cluster as it was is at " + path,
		why: "a snapshot that was taken after the restore, or by cp, doesn't hold what was asked for",
		check: func(ctx context.Context, l *look) string {
			file := l.s.Root.Path(path)
			if _, err := os.Stat(file); err != nil {
				return "it is not there"
			}
			info, err := snapshot.Inspect(ctx, file, nil)
			switch {
			case err != nil:
				return err.Error()
			case info.Hash != snapshot.HashOK:
				return "it has no hash: it is a copy of a data file, not a snapshot"
			case info.Revision < l.s.StartRevision || !slices.ContainsFunc(info.Namespaces, func(o snapshot.Object) bool { return o.Name == namespace }):
				return "it holds another state than the cluster had"
			}
			return ""
		},
	}
}

// Mark is one demand as it was met.
type Mark struct {
	Title  string `json:"title"`
	Points int    `json:"points"`
	Bonus  bool   `json:"bonus,omitempty"`
	Missed string `json:"missed,omitempty"` // "" when it is met
	Idle   bool   `json:"idle,omitempty"`   // met, and worth nothing while nothing else was reached
	Why    string `json:"why,omitempty"`
}

// Grade is the outcome of a try.
type Grade struct {
	Exercise string        `json:"exercise"`
	Marks    []Mark        `json:"marks"`
	Points   int           `json:"points"` // of 100
	Passed   bool          `json:"passed"`
	Took     time.Duration `json:"-"` // see Seconds
	Seconds  float64       `json:"seconds"`
	Late     bool          `json:"late"`
	Hints    int           `json:"hints"`
}

// grade looks at the node and judges the outcome.
func (s *session) grade(ctx context.Context) Grade {
	e := s.exercise()
	g := Grade{Exercise: e.Name, Passed: true, Took: time.Since(s.Started), Hints: s.Hints}
	g.Late, g.Seconds = g.Took > e.Limit, g.Took.Seconds()
	l := s.look(ctx)
	done := false
	for _, d := range e.demands {
		m := Mark{Title: d.title, Points: d.points, Bonus: d.bonus, Missed: d.check(ctx, l)}
		if m.Missed == "" {
			done = done || !d.kept
		} else {
			m.Why = d.why
			g.Passed = g.Passed && d.bonus
		}
		g.Marks = append(g.Marks, m)
	}
	for i, d := range e.demands {
		if m := &g.Marks[i]; m.Missed == "" {
			if m.Idle = d.kept && !done; !m.Idle {
				g.Points += d.points
			}
		}
	}
	return g
}

func (s *session) result(g Grade) Result {
	return Result{
		ID: s.ID, Exercise: s.Exercise, Started: s.Started, Seconds: g.Took.Seconds(), Points: g.Points,
		Passed: g.Passed, Late: g.Late, ByHand: s.ByHand, Hints: s.Hints,
	}
}
