package steps

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"etcd-rewind/defect"
	"etcd-rewind/manifest"
	"etcd-rewind/node"
	"etcd-rewind/problem"
	"etcd-rewind/snapshot"
	"etcd-rewind/trust"
)

// Options are the paths and commands for nodes that differ from kubeadm's
// layout; the zero value finds everything.
type Options struct {
	node.Options
	// StateDir holds a directory for each run: journal, manifests kept,
	// report. Empty means etcd-rewind beside kubelet's manifest directory, so
	// that moving a manifest there is a rename.
	StateDir string
	// Kubeconfig is how the API is asked; empty means kubeadm's admin.conf or
	// super-admin.conf.
	Kubeconfig string
	// Own says that the node is this user's own and all of it is on this
	// machine's loopback: nothing there needs root, and no other node has to
	// reach it.
	Own bool
	// Accept are the checks overridden by name, and KubeletRestart the shell
	// command that restarts kubelet, where an earlier run is taken up again.
	Accept         []string
	KubeletRestart string
	// Identities are files of age's identities and SSH keys, for snapshots that
	// are encrypted, and PassphraseFile holds a passphrase; they are read when the
	// first of them is.
	Identities     []string
	PassphraseFile string
	// Snapshots are directories in which snapshots are looked for; nil means
	// the usual places and the working directory.
	Snapshots []string
}

// Facts are what discovery read on this node. Nothing was changed to get them.
type Facts struct {
	Node     string // kubelet's name for it
	Time     time.Time
	StateDir string

	Layout  *node.Layout
	Kubelet *node.Kubelet // nil on a node without one
	Vendor  *node.Vendor  // that another program restores; nil on all others
	// Manifests is empty when it can't be read, as ManifestsErr says.
	Manifests    *manifest.Dir
	ManifestsErr error
	// Etcd and API are nil when their manifest isn't there or can't be used;
	// EtcdErr and APIErr say why.
	Etcd    *Etcd
	EtcdErr error
	// OtherEtcds are those of this node that are not kube-apiserver's.
	OtherEtcds []OtherEtcd
	clashing   []*manifest.File // etcds that can't run beside kube-apiserver's
	API        *API
	APIErr     error
	// Controllers are kube-controller-manager and kube-scheduler, those that are
	// there.
	Controllers []ProgramSource

	KubernetesVersion string // of the API server's image
	EtcdVersion       string // of the running etcd, else of its image

	APIReady bool             // /readyz answered 200
	APIState string           // in words
	Live     *node.EtcdStatus // nil when etcd doesn't answer
	LiveErr  error            // why not

	// APIServers are the addresses of those that use the cluster's etcd, by their leases in
	// it. LeasesErr says why they can't be read, where etcd answers.
	APIServers []string
	LeasesErr  error
	// LastUsers are those of an etcd here that doesn't answer, by its data; nil when
	// that can't be read.
	LastUsers *snapshot.LastUsers

	// OtherAPIServers are those of Users that answer on other nodes, where
	// kube-apiserver runs here, too.
	OtherAPIServers []string

	Nodes   []node.Object // that the API knows; nil when it can't be asked
	Kubeadm KubeadmFacts
	Mounts  []node.Mount // of the running etcd's container; nil when it isn't known

	// Older is data of another cluster beside etcd's, the newest first, that was
	// written to before the cluster was made that etcd serves: at BlankSince,
	// zero when that isn't known.
	Older      []OlderData
	BlankSince time.Time

	Runtime    string // "containerd 1.6.20"; "" when CRI doesn't answer
	RuntimeErr error
	// KubeletErr says why kubelet's healthz doesn't answer, or why Kubelet is nil.
	KubeletErr error
	Reach      Reach
	// Backups is how the backups of this node stand, nil when none were set up here;
	// BackupsErr is why that isn't known.
	Backups    *Backups
	BackupsErr error
	// BackupTimer is why their timer doesn't do what the configuration says.
	BackupTimer *problem.Problem
	Drills      Drills // on this node
	// Unfinished is the newest run that was interrupted; nil when there is none.
	Unfinished *RunInfo
	// Unreadable are runs whose journals can't be read: what they did isn't known.
	Unreadable []RunInfo
	Flags      []string // see Options.Flags
	Own        bool     // as Options has it
}

// StateDir finds where the runs of this node are kept, for commands that need
// nothing else of it.
func StateDir(ctx context.Context, opts Options) (string, error) {
	if opts.StateDir != "" {
		return filepath.Abs(opts.StateDir)
	}
	k, err := findKubelet(ctx, opts.Options)
	var none *noKubelet
	if err != nil && !errors.As(err, &none) {
		return "", err
	}
	return stateDir(opts.Found(), k), nil
}

// discoverLimit is for all of a discovery, whose questions have shorter limits
// of their own: what is left then is a disk, or a process, that hangs.
const discoverLimit = 30 * time.Second

// findKubelet is node.FindKubelet, and comes back. The kubelet is nil where there
// is none.
func findKubelet(ctx context.Context, opts node.Options) (*node.Kubelet, error) {
	return discovered(ctx, discoverLimit, func(ctx context.Context) (*node.Kubelet, error) { return kubeletHere(node.FindKubelet(ctx, opts)) })
}

func discovered[T any](ctx context.Context, limit time.Duration, find func(context.Context) (T, error)) (T, error) {
	v, err := bounded(ctx, bound{who: "this node", limit: limit}, func(ctx context.Context, _ func(func())) (T, error) { return find(ctx) })
	if errors.As(err, new(*noAnswer)) {
		err = problem.New("check dmesg, and for processes in state D: ps -eo pid,state,wchan:32,args", "this node's setup can't be read: a disk or a process hangs: %w", err)
	}
	return v, err
}

// stateDir is beside the manifests, or where the layout has it when there is no
// kubelet, which is k.
func stateDir(l *node.Layout, k *node.Kubelet) string {
	manifests := l.Manifests
	if k != nil {
		manifests = k.StaticPodPath
	}
	beside := filepath.Join(filepath.Dir(manifests), "etcd-rewind")
	if _, err := os.Stat(beside); k == nil && err != nil {
		return l.StateDir // else kubelet's configuration is lost, and runs of before are there
	}
	return beside
}

// noControlPlane is the error of a machine without a manifest directory.
type noControlPlane struct{ error }

func (e noControlPlane) Unwrap() error { return e.error }

// NoControlPlane says whether discovery failed because this machine is no
// control plane at all.
func NoControlPlane(err error) bool {
	var no noControlPlane
	return errors.As(err, &no)
}

// Discover reads what this node is and does, and changes nothing. What isn't
// there, or can't be read, is in the facts: see [Facts.ControlPlane]. The error is
// for a machine that doesn't answer.
func Discover(ctx context.Context, opts Options) (*Facts, error) {
	return discovered(ctx, discoverLimit, func(ctx context.Context) (*Facts, error) { return discover(ctx, opts) })
}

func discover(ctx context.Context, opts Options) (*Facts, error) {
	f := &Facts{Time: time.Now(), Layout: opts.Found(), StateDir: opts.StateDir, Own: opts.Own, Flags: opts.Flags(), Manifests: &manifest.Dir{}}
	var err error
	f.Kubelet, f.KubeletErr = kubeletHere(node.FindKubelet(ctx, opts.Options))
	f.Vendor = node.FindVendor(opts.Options, f.Kubelet)
	if k := f.Kubelet; k == nil {
		f.Node, err = node.Hostname()
		f.Manifests.Path = cmp.Or(opts.Manifests, f.Layout.Manifests)
	} else if dir, unread := manifest.ReadDir(k.StaticPodPath); unread != nil {
		f.Node, f.Manifests.Path, f.ManifestsErr = k.NodeName, k.StaticPodPath, unread
	} else {
		f.Node, f.Manifests = k.NodeName, dir
	}
	if err != nil {
		return nil, err
	}
	if f.StateDir == "" {
		f.StateDir = stateDir(f.Layout, f.Kubelet)
	}
	if f.StateDir, err = filepath.Abs(f.StateDir); err != nil {
		return nil, err
	}
	f.readManifests(ctx)
	if !opts.Own && !opts.NoProcess {
		f.readUnits(ctx, thisSystemd(ctx, opts.EtcdUnit))
	}
	f.Reach = f.reach()
	if opts.Kubeconfig != "" {
		f.Reach.API.Kubeconfig = opts.Kubeconfig
	}

	f.askAll(ctx, thePrograms)
	f.askOlder(ctx)
	f.Unfinished, f.Unreadable = unfinished(f.StateDir)
	backups := filepath.Join(f.StateDir, backupDir) // of a practice node; this machine's are none of its
	if !f.Own {
		if backups, err = BackupDir(ctx, opts); err != nil {
			return nil, err
		}
	}
	f.Backups, f.BackupsErr = ReadBackups(backups)
	f.Drills, _ = ReadDrills(backups) // what can't be read was no drill: the next writes it again
	return f, ctx.Err()
}

// CodeVendor is the code of a node that another program restores.
const CodeVendor = "vendor"

// noKubelet is a machine of which nothing says that it has a kubelet.
type noKubelet struct{ manifests string }

func (e *noKubelet) Error() string {
	return "no kubelet runs here, no configuration of one was found, and there is no " + e.manifests
}

// kubeletHere is a kubelet that was found; what was made of nothing but the
// layout's defaults, which aren't there either, is none.
func kubeletHere(k *node.Kubelet, err error) (*node.Kubelet, error) {
	if err != nil {
		return nil, withRoot(err)
	}
	if k.PID != 0 || k.ConfigPath != "" {
		return k, nil
	}
	if _, err := os.Stat(k.StaticPodPath); errors.Is(err, fs.ErrNotExist) {
		return nil, problem.New(strings.Join(k.Ignored, "; "), "%w", &noKubelet{k.StaticPodPath})
	}
	return k, nil
}

// ControlPlane is nil on a machine on which a part of a control plane can be
// read; else it says what is missing.
func (f *Facts) ControlPlane() error {
	const hint = "run it on a control-plane node, or name its directory with --manifests or --kubelet-config"
	var none *noKubelet
	switch v := f.Vendor; {
	case v != nil:
		return problem.Coded(CodeVendor, v.Restore+" ("+v.Docs+")",
			"this is a node of %s, whose etcd is restored by its own program; nothing was touched", v.Name)
	case f.Etcd != nil || f.API != nil:
		return nil
	case errors.As(f.KubeletErr, &none) && f.EtcdErr != nil && !f.lacksManifest(f.EtcdErr):
		return f.EtcdErr // a host of etcd's
	case errors.As(f.KubeletErr, &none):
		_, ignored := problem.Explain(f.KubeletErr)
		if ignored != "" {
			ignored += ": it was ignored; "
		}
		return problem.New(ignored+hint, "this machine has no control plane that can be read: %w", noControlPlane{none})
	case f.Kubelet == nil:
		return f.KubeletErr
	case f.ManifestsErr != nil:
		return problem.New(hint, "this machine has no control plane that can be read: %w", noControlPlane{f.ManifestsErr})
	}
	return nil
}

// withRoot names the reason of an error that somebody ran into who isn't root.
func withRoot(err error) error {
	if node.IsRoot() || !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return problem.New("run it with sudo", "not running as root: %w", err)
}

func (f *Facts) readManifests(ctx context.Context) {
	if file, _ := f.Manifests.Component(f.Layout.API); file == nil {
		f.APIErr = NotHere(f.Layout.API, f.Manifests.Path)
	} else if a, err := manifest.ReadAPIServer(file); err != nil {
		f.APIErr = err
	} else {
		f.API = APIOfPod(a)
	}
	if f.chooseEtcd(ctx); f.Etcd == nil && f.EtcdErr == nil {
		f.EtcdErr = NotHere(f.Layout.Etcd, f.Manifests.Path)
	}
	for _, name := range f.Layout.Controllers {
		if file, _ := f.Manifests.Component(name); file != nil {
			f.Controllers = append(f.Controllers, podOther{file})
		}
	}
	if f.API != nil {
		f.KubernetesVersion = f.API.Version
	}
	if f.Etcd != nil {
		f.EtcdVersion = f.Etcd.Version
	}
}

func (f *Facts) reach() Reach {
	r := Reach{Node: f.Node, Containers: map[string]string{}}
	if f.Kubelet != nil {
		r.Kubelet = *f.Kubelet
	}
	if e := f.Etcd.pod(); e != nil {
		r.Containers[f.Kubelet.PodName(e.File.Pod.Name)] = e.Container
	}
	if a := f.API.pod(); a != nil {
		r.Containers[f.Kubelet.PodName(a.File.Pod.Name)] = a.Container
	}
	if kubeconfigs := f.Layout.UsualKubeconfigs(); len(kubeconfigs) > 0 {
		r.API.Kubeconfig = kubeconfigs[0]
	}
	if e := f.Etcd; e != nil {
		r.Etcd = node.EtcdConfig{Endpoints: e.Endpoints, MetricsURLs: e.MetricsURLs, CA: e.TrustedCA, Cert: e.Cert, Key: e.Key}
		if e.pod() == nil && e.Cert != "" {
			r.Etcd.CA, r.Etcd.Cert, r.Etcd.Key = f.clientCertificate(e)
		}
		r.Peer = node.EtcdConfig{Endpoints: e.PeerURLs, CA: e.PeerTrustedCA, Cert: e.PeerCert, Key: e.PeerKey}
	}
	if a := f.API; a != nil && f.Etcd == nil {
		for _, u := range a.EtcdServers {
			if _, err := trust.URL(u); err == nil {
				r.Etcd.Endpoints = append(r.Etcd.Endpoints, u)
			}
		}
	}
	if a := f.API; a != nil {
		r.Etcd.Prefix = a.EtcdPrefix
		if a.KubeletCert != "" && a.KubeletKey != "" && r.Kubelet.MetricsURL != "" {
			r.Metrics = node.MetricsConfig{URL: r.Kubelet.MetricsURL, Cert: a.KubeletCert, Key: a.KubeletKey}
		}
		r.API.ReadyURL, r.API.CA = a.ReadyURL, caBeside(a.ServingCert, a.ClientCA)
		// What the API server itself shows etcd is a client certificate for
		// sure; etcd's own serving certificate need not be one.
		if a.EtcdCert != "" && a.EtcdKey != "" {
			r.Etcd.Cert, r.Etcd.Key = a.EtcdCert, a.EtcdKey
			if a.EtcdCA != "" {
				r.Etcd.CA = a.EtcdCA
			}
		}
		if u, err := url.Parse(a.ReadyURL); err == nil {
			r.Server = u.Scheme + "://" + u.Host
		}
	}
	return r
}

// caBeside is the CA of the serving certificate: kubeadm's is the one that
// signs client certificates too. A wrong guess is shown as an untrusted
// answer, and is an answer all the same.
func caBeside(serving, clientCA string) string {
	if clientCA != "" {
		return clientCA
	}
	if serving != "" {
		return filepath.Join(filepath.Dir(serving), "ca.crt")
	}
	return ""
}

// programs are those of a control plane, as discovery asks them; others in tests.
type programs struct {
	api  func(ctx context.Context, c node.APIConfig, limit time.Duration) node.APIAnswer
	etcd func(ctx context.Context, c node.EtcdConfig, countKeys bool) (*node.EtcdStatus, error)
	// leases and lastUsers are who uses etcd, by itself and by its data.
	leases    func(ctx context.Context, c node.EtcdConfig) ([]string, error)
	lastUsers func(ctx context.Context, dir string) (*snapshot.LastUsers, error)
	// otherAPI says whether an API server elsewhere, or anything, answers at a URL.
	otherAPI func(ctx context.Context, url string) bool
}

var thePrograms = programs{node.AskAPI, node.AskEtcd, node.AskLeases, snapshot.ReadLastUsers, apiAnswers}

// askAll asks whoever runs here, all at once.
func (f *Facts) askAll(ctx context.Context, of programs) {
	var wg sync.WaitGroup
	begun := time.Now()
	patience, enough := context.WithCancel(ctx)
	defer enough()
	for _, ask := range []func(){
		func() { f.askRuntime(ctx) },
		func() { f.askKubelet(ctx) },
		func() { f.askAPI(ctx, patience, of) },
		func() {
			f.askEtcd(ctx, of, func() { time.AfterFunc(promptly-time.Since(begun), defect.Do(enough)) })
			f.OtherAPIServers = f.otherAPIServers(ctx, of.otherAPI)
		},
	} {
		wg.Go(defect.Do(ask))
	}
	wg.Wait()
}

func (f *Facts) askRuntime(ctx context.Context) {
	if f.Kubelet == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	rt, err := node.Dial(ctx, f.Kubelet.CRIEndpoint)
	if err != nil {
		f.RuntimeErr = err
		return
	}
	defer func() { _ = rt.Close() }()
	v, err := rt.Version(ctx)
	if err != nil {
		f.RuntimeErr = err
		return
	}
	f.Runtime = v.Name + " " + v.Version
	f.askMounts(ctx, rt)
}

func (f *Facts) askKubelet(ctx context.Context) {
	if f.Kubelet != nil {
		f.KubeletErr = f.Kubelet.Healthy(ctx)
	}
}

// promptly is how long a kube-apiserver that is ready takes for an answer,
// patiently what a slow one is given.
const (
	promptly  = 300 * time.Millisecond
	patiently = promptly + 2*time.Second
)

// askAPI gives a slow kube-apiserver time, but not one whose etcd is down: it is
// ready for nobody, and while it ends again and again its port is open long before
// it answers. Patience ends when that is known.
func (f *Facts) askAPI(ctx, patience context.Context, of programs) {
	if f.API == nil {
		f.APIState = "not on this node"
		return
	}
	a := of.api(patience, f.Reach.API, patiently)
	if a.Err != nil && patience.Err() != nil {
		a.Err = context.DeadlineExceeded
	}
	f.APIReady, f.APIState = a.Ready(), a.String()
	f.askCluster(ctx)
}

// askEtcd calls refuses as soon as nobody listens at its port.
func (f *Facts) askEtcd(ctx context.Context, of programs, refuses func()) {
	if f.Etcd == nil && (len(f.Reach.Etcd.Endpoints) == 0 || !f.lacksManifest(f.EtcdErr)) {
		f.LiveErr = f.EtcdErr
		return
	}
	status, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	data, answers := context.WithCancel(ctx)
	defer answers()
	dead := make(chan struct{})
	lastUsers := f.readLastUsers(data, of, dead)
	st, err := of.etcd(status, f.Reach.Etcd, true)
	if st != nil { // also of a member whose others are stopped already: it counts no keys
		f.EtcdVersion = cmp.Or(st.Version, f.EtcdVersion)
	}
	if err != nil {
		if f.LiveErr = err; node.Refused(err) {
			refuses()
		}
		close(dead)
		f.LastUsers = <-lastUsers
		return
	}
	answers()
	f.Live = st
	// With a limit of its own: who uses etcd has to be known of a slow one, too.
	f.APIServers, f.LeasesErr = of.leases(ctx, f.Reach.Etcd)
}

// silence is after what time an etcd without an answer may be taken for dead.
const silence = time.Second

// readLastUsers reads them from the data of this node's etcd when that is dead, or
// hasn't answered for a while. It ends with ctx, and always gives an answer.
func (f *Facts) readLastUsers(ctx context.Context, of programs, dead <-chan struct{}) <-chan *snapshot.LastUsers {
	read := make(chan *snapshot.LastUsers, 1)
	if f.Etcd == nil {
		read <- nil
		return read
	}
	dir := f.Etcd.DataDir.Path
	go defect.Do(func() {
		silent := time.NewTimer(silence)
		defer silent.Stop()
		select {
		case <-dead:
		case <-silent.C:
		case <-ctx.Done():
			read <- nil
			return
		}
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		last, _ := of.lastUsers(ctx, dir)
		read <- last
	})()
	return read
}

// Users are the addresses of the API servers that have a lease in etcd; where it
// doesn't answer, those that had one when it wrote its data last.
func (f *Facts) Users() []string {
	if f.Live == nil && f.LastUsers != nil {
		return f.LastUsers.APIServers
	}
	return f.APIServers
}

// LeasesUnknown says why etcd names no API server, "" when it names some: those
// without a lease run all the same.
func (f *Facts) LeasesUnknown() string {
	switch {
	case len(f.Users()) > 0:
		return ""
	case f.Live == nil:
		return "etcd doesn't answer"
	case f.LeasesErr != nil:
		return f.LeasesErr.Error()
	}
	return "no kube-apiserver has a lease in etcd"
}
