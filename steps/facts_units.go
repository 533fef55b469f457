package steps

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"etcd-rewind/manifest"
	"etcd-rewind/node"
	"etcd-rewind/problem"
	"etcd-rewind/trust"
	"etcd-rewind/unit"
)

// systemd is what discovery asks of it; another in tests.
type systemd struct {
	services func(ctx context.Context, called string) ([]string, error)
	commands func(ctx context.Context) ([]node.ServiceCommand, error) // of all services
	ask      func(ctx context.Context, name string) (*node.Unit, error)
	states   func(ctx context.Context, names []string) map[string]string
	host     unit.Host
	etcd     string // the service that the person names as etcd's, "" for none
}

// thisSystemd is nil where systemd doesn't run this machine.
func thisSystemd(ctx context.Context, etcd string) *systemd {
	if !node.Systemd() {
		return nil
	}
	var all []string
	names := func(ctx context.Context) ([]string, error) { // once for all programs
		if all != nil {
			return all, nil
		}
		var err error
		all, err = node.Services(ctx)
		return all, err
	}
	return &systemd{
		services: func(ctx context.Context, called string) ([]string, error) {
			all, err := names(ctx)
			if err != nil {
				return nil, err
			}
			return node.ServicesOf(all, called)
		},
		commands: func(ctx context.Context) ([]node.ServiceCommand, error) {
			all, err := names(ctx)
			if err != nil {
				return nil, err
			}
			return node.ServiceCommands(ctx, all)
		},
		ask: node.AskUnit, states: node.UnitStates, host: unit.Host{Environment: node.SystemdEnvironment(ctx)}, etcd: etcd,
	}
}

// unitsLimit is for all that systemd is asked in a discovery, commandsLimit of that
// for the commands of all services, filesLimit for the files of one unit.
const (
	unitsLimit    = 5 * time.Second
	commandsLimit = 2 * time.Second
	filesLimit    = 3 * time.Second
)

// unitEtcd is an etcd that systemd runs.
type unitEtcd struct {
	*unit.Etcd
	unit *node.Unit
}

func (e unitEtcd) Name() string {
	if s, ok := e.Get(unit.DataDir); ok && s.File != "" {
		return filepath.Base(s.File)
	}
	return e.unit.Name
}

func (e unitEtcd) Path() string {
	if s, ok := e.Get(unit.DataDir); ok && s.File != "" {
		return s.File
	}
	return e.unit.Fragment
}

func (e unitEtcd) process(b *builder, p *Plan) (process, error) {
	u := &systemdUnit{unit: e.unit, role: RoleEtcd, ready: b.etcdBefore(p, e.unit.TimeoutStart)}
	if b.lay.swap {
		return u, nil
	}
	dirs := map[string]string{}
	for _, v := range b.lay.volumes {
		dirs[v.volume] = v.new
	}
	edits, err := e.SetDirs(dirs)
	if err != nil {
		return nil, err
	}
	for i, edit := range edits {
		name := fmt.Sprintf("%d-%s", i+1, filepath.Base(edit.Path))
		f := Prepared{
			Manifest: edit.Path, Settings: true, Kept: filepath.Join(b.dir, "kept", name), New: filepath.Join(b.dir, "new", name), Old: edit.Old, Data: edit.New,
		}
		p.Diffs = append(p.Diffs, Diff{Path: edit.Path, Text: manifest.Diff(edit.Path, edit.Path, edit.Old, edit.New)})
		u.files = append(u.files, f)
		u.edit = append(u.edit, &ReplaceFile{
			File: edit.Path, From: f.New, SHA256: sum(edit.New), Original: sum(edit.Old), Kept: f.Kept,
			Undone: filepath.Join(b.dir, "undone", name), Reload: edit.Reload,
		})
	}
	return u, nil
}

// managed: where an edit wouldn't last, the data keeps its path.
func (e unitEtcd) managed() string {
	if line, at := e.Managed(); line != "" {
		return fmt.Sprintf("%s is marked as generated: %s", at, line)
	}
	if slices.Contains(e.Service.EnvironmentFiles, node.KubesprayEtcdEnv) && strings.HasPrefix(e.TrustedCA, node.KubesprayEtcdCerts) {
		return "kubespray rewrites " + node.KubesprayEtcdEnv + " each time it runs"
	}
	if err := e.Editable(unit.DataDir); err != nil {
		return problem.Line(err)
	}
	return ""
}

// EtcdUnit is the service that etcd runs as on this node, and the program that it
// starts, "" in a container; nil when it isn't one of systemd's.
func (f *Facts) EtcdUnit() (*node.Unit, string) {
	if f.Etcd == nil {
		return nil, ""
	}
	e, ok := f.Etcd.Source.(unitEtcd)
	if !ok {
		return nil, ""
	}
	return e.unit, e.Binary
}

// readUnits finds what of the control plane is a service of systemd's, where it
// is no pod: the API server first, which says which etcd is its.
func (f *Facts) readUnits(ctx context.Context, s *systemd) {
	if s == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, unitsLimit)
	defer cancel()
	f.readAPIUnit(ctx, s)
	f.readEtcdUnit(ctx, s)
	f.readControllerUnits(ctx, s)
}

func (f *Facts) readEtcdUnit(ctx context.Context, s *systemd) {
	isPod := f.Etcd != nil || !f.lacksManifest(f.EtcdErr)
	names, err := s.services(ctx, f.Layout.Etcd)
	if err != nil {
		if !isPod {
			f.EtcdErr = problem.New("systemctl status shows why", "systemd can't be asked whether etcd is one of its services: %w", err)
		}
		return
	}
	if s.etcd != "" {
		names = append(names, s.etcd)
	}
	var found []unitEtcd
	var unread error
	named, asked := s.etcd, map[string]bool{}
	usual := func(e unitEtcd) bool { return e.unit.Name == f.Layout.Etcd+".service" && inUse(e.unit) }
	for i, searched := 0, isPod; ; i++ {
		if i == len(names) && !searched && !slices.ContainsFunc(found, usual) { // one that is called otherwise, and doesn't run
			searched = true
			names = append(names, s.run(ctx, f.Layout.Etcd)...)
		}
		if i >= len(names) {
			break
		}
		name := names[i]
		if asked[name] {
			continue
		}
		asked[name] = true
		e, u, err := s.readEtcd(ctx, name)
		if u != nil && u.Name != name { // an alias
			if name == s.etcd {
				named = u.Name
			}
			if asked[u.Name] {
				continue
			}
			asked[u.Name] = true
		}
		switch {
		case e != nil:
			found = append(found, *e)
		case err != nil && unread == nil && f.mayBeEtcd(s, name, u, err):
			unread = err
		}
	}
	if isPod {
		// What systemd runs beside kubelet's is another.
		if f.Etcd != nil {
			f.besideEtcd(ctx, found, f.Etcd)
		}
		if s.etcd != "" {
			f.Etcd, f.EtcdErr = nil, problem.New("leave out --etcd-unit", "etcd runs as a static pod here, not as %s", trust.Text(s.etcd))
		}
		return
	}
	e, err := f.chooseUnit(ctx, named, found)
	switch {
	case e != nil:
		s.others(ctx, e.unit)
		f.Etcd, f.EtcdErr, f.EtcdVersion = &Etcd{e.EtcdSettings, *e}, nil, e.Version
		f.besideEtcd(ctx, found, f.Etcd)
	case unread != nil:
		f.EtcdErr = unread
	case err != nil:
		f.EtcdErr = err
	default:
		f.EtcdErr = &absent{what: f.Layout.Etcd, where: f.Manifests.Path, services: true, named: trust.Text(named)}
		f.besideEtcd(ctx, found, nil)
	}
}

// run are the services whose command names a program. Where systemd is too slow for
// that, there is none.
func (s *systemd) run(ctx context.Context, program string) (names []string) {
	ctx, cancel := context.WithTimeout(ctx, commandsLimit)
	defer cancel()
	all, err := s.commands(ctx)
	if err != nil {
		return nil
	}
	for _, c := range all {
		if c.Names(program) {
			names = append(names, c.Name)
		}
	}
	return names
}

// readEtcd asks for a service, and reads the etcd that it starts. Both are nil,
// without an error, for one that isn't loaded.
func (s *systemd) readEtcd(ctx context.Context, name string) (*unitEtcd, *node.Unit, error) {
	u, err := s.ask(ctx, name)
	switch {
	case err != nil:
		return nil, nil, problem.New("systemctl show "+trust.Quote(name)+" shows what it says", "systemd doesn't say what %s is: %w", trust.Text(name), err)
	case u.Load == "masked":
		return nil, u, masked(u)
	case u.Load != "loaded":
		return nil, u, nil
	}
	e, err := readUnit(ctx, u, s.host)
	if err != nil {
		return nil, u, err
	}
	return &unitEtcd{e, u}, u, nil
}

// mayBeEtcd says of a service that can't be read whether it may be this node's etcd
// all the same. Many a node has a backup of etcd's that is called so, or runs etcd's
// programs.
func (f *Facts) mayBeEtcd(s *systemd, name string, u *node.Unit, err error) bool {
	plain := f.Layout.Etcd + ".service"
	switch {
	case s.etcd != "":
		return name == s.etcd
	case problem.HasCode(err, unit.CodeNoEtcd):
		return false
	case u == nil: // systemd doesn't say
		return strings.HasPrefix(name, f.Layout.Etcd)
	case name == plain || u.Load == "masked":
		return name == plain
	}
	return u.Type != "oneshot" && (strings.HasPrefix(name, f.Layout.Etcd) || inUse(u))
}

func masked(u *node.Unit) error {
	return problem.New("systemctl unmask "+trust.Quote(u.Name)+", then try again", "%s is masked: systemd refuses to start it", u.Name)
}

// others asks for the states of the units that a service belongs to.
func (s *systemd) others(ctx context.Context, u *node.Unit) {
	if s.states != nil {
		u.States = s.states(ctx, u.Others())
	}
}

// inUse says of a service whether it is part of this node: one that is stopped and
// isn't started with the machine came with a package.
func inUse(u *node.Unit) bool {
	return u.Load == "loaded" && (u.Active != "inactive" || strings.HasPrefix(u.FileState, "enabled"))
}

// unitAPI is an API server that systemd runs.
type unitAPI struct {
	*unit.APIServer
	unit *node.Unit
}

func (a unitAPI) Name() string { return a.unit.Name }
func (a unitAPI) Path() string { return a.unit.Fragment }

func (a unitAPI) process(b *builder, _ *Plan) (process, error) {
	return &systemdUnit{unit: a.unit, role: RoleAPI, ready: b.apiBefore(a.unit.TimeoutStart)}, nil
}

// readAPIUnit finds the API server that is a service, where none is a pod.
func (f *Facts) readAPIUnit(ctx context.Context, s *systemd) {
	if f.API != nil || !f.lacksManifest(f.APIErr) {
		return
	}
	names, err := s.services(ctx, f.Layout.API)
	if err != nil {
		return // as is said of etcd
	}
	var all []unitAPI
	for _, name := range names {
		u, err := s.ask(ctx, name)
		if err != nil || !inUse(u) || slices.ContainsFunc(all, func(a unitAPI) bool { return a.unit.Name == u.Name }) {
			continue
		}
		switch a, err := readFiles(ctx, u, s.host, unit.ReadAPIServer); {
		case err == nil:
			all = append(all, unitAPI{a, u})
		case !problem.HasCode(err, unit.CodeNoEtcd):
			f.APIErr = err
		case u.Name == f.Layout.API+".service":
			f.APIErr = err // what it starts isn't understood
		}
	}
	switch i := slices.IndexFunc(all, func(a unitAPI) bool { return a.unit.Name == f.Layout.API+".service" }); {
	case len(all) == 1:
		i = 0
		fallthrough
	case i >= 0:
		s.others(ctx, all[i].unit)
		f.API, f.APIErr, f.KubernetesVersion = &API{all[i].APISettings, all[i]}, nil, all[i].Version
	case len(all) == 0 && f.lacksManifest(f.APIErr):
		f.APIErr = &absent{what: f.Layout.API, where: f.Manifests.Path, services: true}
	case len(all) > 1:
		f.APIErr = problem.New("stop and disable those that aren't this cluster's", "several API servers run here as services: %s and %s", all[0].unit.Name, all[1].unit.Name)
	}
}

// unitOther is a service of which nothing has to be known but that it runs.
type unitOther struct{ unit *node.Unit }

func (o unitOther) Name() string { return o.unit.Name }
func (o unitOther) Path() string { return o.unit.Fragment }

func (o unitOther) process(*builder, *Plan) (process, error) {
	return &systemdUnit{unit: o.unit, role: RoleControllers}, nil
}

// readControllerUnits finds those that are services, where they are no pods.
func (f *Facts) readControllerUnits(ctx context.Context, s *systemd) {
	for _, name := range f.Layout.Controllers {
		if file, _ := f.Manifests.Component(name); file != nil {
			continue
		}
		if u, err := s.ask(ctx, name+".service"); err == nil && inUse(u) {
			s.others(ctx, u)
			f.Controllers = append(f.Controllers, unitOther{u})
		}
	}
}

// units are the services that a restore stops and starts here.
func (f *Facts) units() (all []*node.Unit) {
	if e, is := f.Etcd.unit(); is {
		all = append(all, e.unit)
	}
	if f.API != nil {
		if a, is := f.API.Source.(unitAPI); is {
			all = append(all, a.unit)
		}
	}
	for _, c := range f.Controllers {
		if o, is := c.(unitOther); is {
			all = append(all, o.unit)
		}
	}
	return all
}

func readUnit(ctx context.Context, u *node.Unit, h unit.Host) (*unit.Etcd, error) {
	return readFiles(ctx, u, h, unit.ReadEtcd)
}

// readFiles reads a unit's files, and what they make of a program. The disk that
// they are on may be one of the network.
func readFiles[T any](ctx context.Context, u *node.Unit, h unit.Host, as func(*unit.Service) (T, error)) (T, error) {
	v, err := bounded(ctx, bound{who: "the disk with the files of " + u.Name, limit: filesLimit}, func(context.Context, func(func())) (T, error) {
		service, err := unit.Read(unit.Loaded{Name: u.Name, Fragment: u.Fragment, DropIns: u.DropIns}, h)
		if err != nil {
			var none T
			return none, err
		}
		return as(service)
	})
	if errors.Is(err, context.DeadlineExceeded) {
		err = problem.New("see which of its files can't be read: systemctl cat "+trust.Quote(u.Name), "the files of %s can't be read: %w", u.Name, err)
	}
	return v, err
}

// lacksManifest says of an error that no manifest is there, and nothing else is
// wrong.
func (f *Facts) lacksManifest(err error) bool {
	var no *absent
	return errors.As(err, &no)
}

// chooseUnit finds which of several services is kube-apiserver's etcd: the one
// that the person has named, else that its --etcd-servers names. Of several that is
// one that is in use, and has the plain name.
func (f *Facts) chooseUnit(ctx context.Context, named string, all []unitEtcd) (*unitEtcd, error) {
	list := func() string {
		var names []string
		for i := range all {
			names = append(names, all[i].unit.Name)
		}
		return trust.Text(strings.Join(names, ", "))
	}
	fit := func(ok func(e *unitEtcd) bool) {
		var some []unitEtcd
		for i := range all {
			if ok(&all[i]) {
				some = append(some, all[i])
			}
		}
		if len(some) > 0 {
			all = some
		}
	}
	if named != "" {
		for i := range all {
			if all[i].unit.Name == named {
				return &all[i], nil
			}
		}
		if len(all) == 0 {
			return nil, nil // of several nodes, this is one without
		}
		return nil, problem.New("these services run etcd: "+list(), "systemd has no unit %s here", trust.Text(named))
	}
	if f.API != nil {
		all = slices.DeleteFunc(slices.Clone(all), func(e unitEtcd) bool {
			return !slices.ContainsFunc(f.API.EtcdServers, func(s string) bool { return f.leadsTo(ctx, s, &e.EtcdSettings) })
		})
	}
	for _, better := range []func(e *unitEtcd) bool{
		func(e *unitEtcd) bool { return inUse(e.unit) },
		// Only of those on one address: a dead etcd is what is restored.
		func(e *unitEtcd) bool { return f.API != nil && e.unit.Active == "active" },
		func(e *unitEtcd) bool { return e.unit.Name == f.Layout.Etcd+".service" },
	} {
		if len(all) > 1 {
			fit(better)
		}
	}
	switch len(all) {
	case 0:
		return nil, nil
	case 1:
		return &all[0], nil
	}
	return nil, problem.New("name it: --etcd-unit "+trust.Shell("%s", all[0].unit.Name), "several etcds run here as services, and which is kube-apiserver's isn't known: %s", list())
}

// besideEtcd notes the services beside the chosen etcd that run another. Own is nil
// where none was chosen.
func (f *Facts) besideEtcd(ctx context.Context, found []unitEtcd, own *Etcd) {
	for _, u := range found {
		e := &Etcd{u.EtcdSettings, u}
		if mine, is := own.unit(); is && mine.unit.Name == u.unit.Name || !inUse(u.unit) {
			continue
		}
		other := OtherEtcd{Etcd: e, Holds: f.keptIn(ctx, &e.EtcdSettings)}
		if own != nil {
			other.SameData, other.SameAddress = sameData(e, own), sameAddress(e, own)
		}
		f.OtherEtcds = append(f.OtherEtcds, other)
	}
}

// clientCertificate is what etcd is asked with, where no API server's is here:
// what the layouts have for that, else etcd's own.
func (f *Facts) clientCertificate(e *Etcd) (ca, cert, key string) {
	return clientOf(e, f.Layout.EtcdClients(f.Node))
}

func clientOf(e *Etcd, places []node.EtcdClient) (ca, cert, key string) {
	for _, c := range places {
		if there(c.CA) && there(c.Cert) && there(c.Key) && (e.TrustedCA == "" || samePath(c.CA, e.TrustedCA)) {
			return c.CA, c.Cert, c.Key
		}
	}
	return e.TrustedCA, e.Cert, e.Key
}

func there(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
