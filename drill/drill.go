package drill

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"etcd-rewind/node"
	"etcd-rewind/problem"
	"etcd-rewind/snapshot"
	"etcd-rewind/steps"
	"etcd-rewind/trust"
)

// Codes of a problem that keeps a drill from running.
const (
	CodeBusy     = "drill-under-way"
	CodeRoom     = "drill-no-room"    // disk or memory
	CodePrograms = "drill-no-program" // there is no etcd here to start
)

// The parts of a drill, in their order. Up to PartAPI they are what a restore
// takes, too.
const (
	PartFetch   = "fetch"   // downloaded, decrypted, decompressed
	PartVerify  = "verify"  // checksum, structure, every record
	PartRestore = "restore" // into a new data directory
	PartEtcd    = "etcd"    // from its start until it answers
	PartAPI     = "api"     // kube-apiserver, from its start until it is ready
	PartRead    = "read"    // every object through the API
	PartRemove  = "remove"
)

// Part is how long a part of a drill took.
type Part struct {
	Part    string  `json:"part"`
	Seconds float64 `json:"seconds"`
}

// Options say what is tried, and where.
type Options struct {
	// Facts are those of this node; nil, or without etcd and API server, on any
	// other machine.
	Facts *steps.Facts
	// Dir is where the drill has its directory; "" is the disk of etcd's data, else
	// where temporary files are.
	Dir string
	// Etcd and APIServer are programs to be used in place of the node's, and
	// EncryptionConfig a file in place of its API server's; "" for none.
	Etcd, APIServer, EncryptionConfig string
	// BuiltIn is the environment in which this binary is etcd; nil when it can't be.
	BuiltIn []string
	// Tell hears what begins, "" at the end, and how long each part took; it may be
	// nil.
	Tell func(begun string, took *Part)
}

// Report is what a drill found.
type Report struct {
	Snapshot string    `json:"snapshot"` // as the user named it
	Taken    time.Time `json:"taken,omitzero"`
	SHA256   string    `json:"sha256,omitempty"`
	Revision int64     `json:"revision,omitempty"`
	Keys     int       `json:"keys,omitempty"`
	Size     int64     `json:"size,omitempty"` // of the database, bytes

	// Proven says that all that could be tried here worked; LeftOut is what
	// couldn't.
	Proven  bool             `json:"proven"`
	Doubt   *problem.Problem `json:"doubt,omitempty"` // as in snapshot.Info: a drill proves that it starts, not who made it
	LeftOut []string         `json:"left_out,omitempty"`
	Fault   *problem.Problem `json:"fault,omitempty"` // of the backup, when it isn't proven

	Parts    []Part    `json:"parts"`
	Recovery float64   `json:"recovery_seconds"` // until the API was ready: fetch to api
	Total    float64   `json:"total_seconds"`
	Programs []Program `json:"programs,omitempty"`
	Etcd     string    `json:"etcd_version,omitempty"`
	API      string    `json:"kubernetes_version,omitempty"`
	Objects  int       `json:"objects"` // listed through the API
	Kinds    []Kind    `json:"kinds,omitempty"`
}

// drill is one under way.
type drill struct {
	Options
	report *Report
	place  *place
	info   *snapshot.Info
	groups groups
}

// Run tries a snapshot that stage makes readable, which may be called once. All
// that it starts and writes is removed when it returns, also when ctx ends; after
// a crash the next one removes it. The error is for a drill that couldn't run: it
// says nothing about the backup. A report with a Fault says what is wrong with
// that.
func Run(ctx context.Context, name string, stage func(context.Context) (*snapshot.Staged, error), o Options) (*Report, error) {
	if o.Tell == nil {
		o.Tell = func(string, *Part) {}
	}
	d := &drill{Options: o, report: &Report{Snapshot: name}}
	begun := time.Now()
	err := d.run(ctx, stage)
	removed := time.Now()
	o.Tell(PartRemove, nil)
	if rerr := d.clean(); err == nil && rerr != nil {
		err = rerr
	}
	if d.place != nil {
		d.took(PartRemove, removed)
	}
	o.Tell("", nil)
	var bad *badBackup
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case errors.As(err, &bad):
		d.report.Fault = bad.p
	case err != nil:
		return nil, err
	default:
		d.report.Proven = true
	}
	d.report.Total = time.Since(begun).Seconds()
	for _, p := range d.report.Parts {
		if p.Part != PartRead && p.Part != PartRemove {
			d.report.Recovery += p.Seconds
		}
	}
	return d.report, nil
}

// badBackup is what is wrong with the backup, and not with the drill.
type badBackup struct{ p *problem.Problem }

func (b *badBackup) Error() string { return b.p.Cause }

func bad(err error) error { return &badBackup{problem.From(err)} }

func (d *drill) took(part string, since time.Time) {
	p := Part{part, time.Since(since).Seconds()}
	d.report.Parts = append(d.report.Parts, p)
	d.Tell("", &p)
}

// part does a part and says how long it took.
func (d *drill) part(name string, do func() error) error {
	begun := time.Now()
	d.Tell(name, nil)
	if err := do(); err != nil {
		return err
	}
	d.took(name, begun)
	return nil
}

func (d *drill) clean() error {
	if d.place == nil {
		return nil
	}
	d.groups.remove()
	return d.place.remove()
}

// blameless are the codes of what says nothing about the snapshot.
var blameless = []string{
	snapshot.CodeMissing, snapshot.CodeSymlinkLoop, snapshot.CodeUnreadable, snapshot.CodeDirectory, snapshot.CodeNotRegular,
	snapshot.CodeEncrypted, snapshot.CodeIdentity, snapshot.CodeGrowing, snapshot.CodeStalled, snapshot.CodeTarget, snapshot.CodeNoSpace,
	snapshot.CodeRequest, snapshot.CodeChanged, snapshot.CodeOther,
}

// judged is an error of reading a snapshot: of the snapshot, where it says so.
func judged(err error) error {
	if p := problem.Of(err); p != nil && p.Code != "" && !slices.Contains(blameless, p.Code) {
		return bad(err)
	}
	return err
}

func (d *drill) run(ctx context.Context, stage func(context.Context) (*snapshot.Staged, error)) error {
	p, err := claim(d.where())
	if err != nil {
		return err
	}
	d.place, d.groups = p, makeGroups()
	etcd, api, err := d.programs(ctx)
	defer etcd.close()
	defer api.close()
	if err != nil {
		return err
	}

	var file *snapshot.Staged
	if err := d.part(PartFetch, func() (err error) {
		file, err = stage(ctx)
		return judged(err)
	}); err != nil {
		return err
	}
	d.report.Doubt = file.Doubt
	// It may have been fetched before, to be looked at; a restore has to fetch it.
	if fetch := &d.report.Parts[0]; file.Took.Seconds() > fetch.Seconds {
		fetch.Seconds = file.Took.Seconds()
	}
	if err := d.part(PartVerify, func() (err error) {
		d.info, err = file.Inspect(ctx, nil)
		return judged(err)
	}); err != nil {
		return err
	}
	i, r := d.info, d.report
	r.Snapshot = i.Name // of latest, which one that is
	r.Taken, r.SHA256, r.Revision, r.Keys, r.Size = i.Taken(), i.SHA256, i.Revision, i.Keys, i.TotalSize
	if err := fits(p.dir, i.TotalSize); err != nil {
		return err
	}
	var restored *snapshot.Restored
	if err := d.part(PartRestore, func() (err error) {
		restored, err = d.restore(ctx)
		return judged(err)
	}); err != nil {
		return err
	}
	return d.boot(ctx, etcd, api, restored)
}

func (d *drill) where() string {
	switch {
	case d.Dir != "":
		if abs, err := filepath.Abs(d.Dir); err == nil {
			return abs
		}
		return d.Dir
	case d.Facts != nil && d.Facts.Own: // inside a practice node / belongs to nobody
		return filepath.Dir(d.Facts.StateDir)
	case d.Facts != nil && d.Facts.Etcd != nil:
		return d.Facts.BesideData()
	}
	return os.TempDir()
}

// programs finds etcd, without which there is no drill, and the API server.
func (d *drill) programs(ctx context.Context) (etcd, api *Program, err error) {
	f := &finder{facts: d.Facts, proc: "/proc", builtIn: d.BuiltIn, scratch: d.place.dir, runtime: d.dial, trusted: trust.File}
	if etcd, err = f.find(ctx, etcdName, d.Etcd); etcd == nil {
		if err == nil {
			err = errors.New("this machine has none")
		}
		if d.Etcd != "" || ctx.Err() != nil {
			return nil, nil, err
		}
		return nil, nil, noEtcd(err)
	}
	if api, err = f.find(ctx, apiName, d.APIServer); api == nil {
		if d.APIServer != "" || ctx.Err() != nil {
			return etcd, nil, err
		}
		why := "this machine has none"
		if err != nil {
			why = problem.From(err).Cause
		}
		d.report.LeftOut = append(d.report.LeftOut, "kube-apiserver was not started, and no object read: "+trust.Text(why))
	} else if !api.static {
		err = problem.New("use a statically linked program", "%s isn't linked statically", api.From)
		return etcd, api, err
	}
	d.report.Programs = append(d.report.Programs, *etcd)
	if api != nil {
		d.report.Programs = append(d.report.Programs, *api)
	}
	return etcd, api, nil
}

// noEtcd is why there is no etcd to start, and what helps.
func noEtcd(err error) *problem.Problem {
	hint := "name one: --etcd FILE; or run it on a control-plane node"
	switch {
	case errors.Is(err, node.ErrNoRuntime):
		hint = "start the container runtime (systemctl status containerd crio), or name a program: --etcd FILE"
	case errors.Is(err, syscall.ENOSPC) || strings.Contains(err.Error(), syscall.ENOSPC.Error()): // of a runtime it is a text
		hint = "free space where the runtime has its images and containers (df -h /var/lib/containerd; crictl rmi --prune), or name a program: --etcd FILE"
	}
	return problem.Coded(CodePrograms, hint, "there is no etcd here to start: %w", err)
}

func (d *drill) dial(ctx context.Context) (containers, error) {
	return node.Dial(ctx, d.Facts.Kubelet.CRIEndpoint)
}

func (d *drill) restore(ctx context.Context) (*snapshot.Restored, error) {
	root := filepath.Join(d.place.dir, "root")
	if err := os.Mkdir(root, 0o700); err != nil {
		return nil, err
	}
	return snapshot.Restore(ctx, snapshot.RestoreRequest{
		Snapshot: d.info.Path, DataDir: filepath.Join(root, dataDir), Name: member, PeerURLs: []string{peerURL}, Token: "etcd-rewind-drill",
		ExpectSHA256: d.info.SHA256, SkipHashCheck: d.info.Hash == snapshot.HashMissing,
	}, nil)
}

// boot starts the programs and reads through them.
func (d *drill) boot(ctx context.Context, etcd, api *Program, restored *snapshot.Restored) error {
	o := order{
		Dir: d.place.dir, Groups: d.groups.files(), EtcdUser: etcdUser(d.Facts),
		Etcd: launch{etcd.static, etcd.env}, Revision: restored.Revision, Keys: restored.Keys,
	}
	if d.Facts != nil && d.Facts.Etcd != nil {
		o.Quota = d.Facts.Etcd.QuotaBytes
	}
	files := []*os.File{d.place.lock, d.place.life, etcd.file}
	if api != nil {
		o.API = &launch{Static: api.static}
		files = append(files, api.file)
		if err := d.orderAPI(&o); err != nil {
			return err
		}
	}
	var said *told
	err := enter(ctx, o, files, func(t told) {
		switch {
		case t.Part != nil:
			d.report.Parts = append(d.report.Parts, *t.Part)
			d.Tell("", t.Part)
		case t.Begun != "":
			d.Tell(t.Begun, nil)
		case t.Say != "":
			d.Tell(t.Say, nil)
		}
		d.report.Etcd, d.report.API = cmp.Or(t.Etcd, d.report.Etcd), cmp.Or(t.API, d.report.API)
		if t.End || t.Fault != nil || t.Error != nil {
			said = &t
		}
	})
	switch {
	case err != nil:
		return err
	case said.Error != nil:
		return said.Error
	case said.Fault != nil:
		return &badBackup{d.explained(ctx, said.Fault)}
	}
	return d.compare(said.Kinds)
}

// orderAPI says what the API server is started with, and which kinds it is asked
// for.
func (d *drill) orderAPI(o *order) error {
	var err error
	facts := d.Facts
	if facts == nil {
		facts = &steps.Facts{}
	}
	if facts.API != nil {
		o.Flags = clusterFlags(facts.API.APISettings, facts.APIPod())
	} else if d.info.Prefix != "" {
		o.Flags = []string{"--etcd-prefix=" + d.info.Prefix}
	}
	if !slices.ContainsFunc(o.Flags, func(f string) bool { return strings.HasPrefix(f, "--service-cluster-ip-range=") }) && len(d.info.ServiceCIDRs) > 0 {
		o.Flags = append(o.Flags, "--service-cluster-ip-range="+strings.Join(d.info.ServiceCIDRs, ","))
	}
	if o.Encryption, o.Files, err = encryption(facts.API, facts.APIPod(), d.EncryptionConfig); err != nil {
		return bad(problem.New("kube-apiserver doesn't start with it: correct the file", "%w", err))
	}
	with := map[string][]string{}
	for _, e := range d.info.Encryption {
		for _, r := range e.Resources {
			with[r] = append(with[r], e.String())
		}
	}
	if facts.API == nil && o.Encryption == "" && len(with) > 0 {
		d.report.LeftOut = append(d.report.LeftOut, "encrypted objects were not decrypted: name the cluster's EncryptionConfiguration with --encryption-config")
	}
	for _, k := range d.info.Kinds {
		if slices.Contains(records, k.Resource) || facts.API == nil && o.Encryption == "" && len(with[k.Resource]) > 0 {
			continue
		}
		w := want(k, d.info.CRDs, with[k.Resource])
		o.Kinds = append(o.Kinds, w)
		if o.Encryption != "" || len(w.Encrypted) > 0 {
			o.Doubtful = append(o.Doubtful, w)
		}
	}
	return nil
}

// records are what isn't asked for: API servers' own notes, which the API doesn't
// have, and what a snapshot's index has no name for.
var records = []string{"masterleases", "peerserverleases", "ranges", snapshot.Others}

func want(k snapshot.Kind, crds, encrypted []string) wanted {
	r := k.GroupResource()
	w := wanted{
		Kind: k.Kind, Group: r.Group, Resource: r.Resource, Stored: k.Resource, Objects: k.Objects,
		Custom: slices.Contains(crds, k.Resource), Encrypted: encrypted,
	}
	if gv, err := schema.ParseGroupVersion(k.APIVersion); err == nil && gv.Group == r.Group {
		w.Version = gv.Version
	}
	return w
}

// explained adds what is known of why: kube-apiserver says which value it can't
// read, and not which key is missing.
func (d *drill) explained(ctx context.Context, p *problem.Problem) *problem.Problem {
	if d.Facts == nil || d.Facts.API == nil || len(d.info.Encryption) == 0 || d.EncryptionConfig != "" {
		return p
	}
	for _, v := range steps.CheckSnapshot(ctx, d.Facts, d.info, steps.Choices{}) {
		if v.Check == "snapshot-encryption" && v.Blocks() {
			return &problem.Problem{Cause: trust.Text(v.Cause) + ". " + p.Cause, Hint: v.Hint}
		}
	}
	return p
}

// compare holds what the API listed against what the snapshot has.
func (d *drill) compare(kinds []Kind) error {
	r := d.report
	r.Kinds = kinds
	var differ, unserved []string
	for _, k := range kinds {
		r.Objects += k.Listed
		switch {
		case k.NotListed != "":
			unserved = append(unserved, fmt.Sprintf("%s (%d): %s", trust.Text(k.Resource), k.Objects, k.NotListed))
		case k.Listed != k.Objects:
			differ = append(differ, fmt.Sprintf("%s: %d in the snapshot, %d through the API", trust.Text(k.Resource), k.Objects, k.Listed))
		}
	}
	for _, u := range unserved {
		r.LeftOut = append(r.LeftOut, "not listed: "+u)
	}
	if len(differ) > 0 {
		return bad(problem.New("", "kube-apiserver's lists differ from the snapshot: %s", strings.Join(differ, "; ")))
	}
	return nil
}
