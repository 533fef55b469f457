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
	ask      func(ctx context.Context, name string) (*node.Unit, error)
	host     unit.Host
}

// thisSystemd is nil where systemd doesn't run this machine.
func thisSystemd(ctx context.Context) *systemd {
	if !node.Systemd() {
		return nil
	}
	return &systemd{services: node.EtcdServices, ask: node.AskUnit, host: unit.Host{Environment: node.SystemdEnvironment(ctx)}}
}

// unitsLimit is for all that systemd is asked in a discovery.
const unitsLimit = 5 * time.Second

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
		return fmt.Sprintf("%s says that a program writes it: %s", at, line)
	}
	if slices.Contains(e.Service.EnvironmentFiles, node.KubesprayEtcdEnv) && strings.HasPrefix(e.TrustedCA, node.KubesprayEtcdCerts) {
		return "kubespray writes " + node.KubesprayEtcdEnv + " anew when it runs"
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

// readUnits finds the etcd that is a service of systemd's, where none is a pod.
func (f *Facts) readUnits(ctx context.Context, s *systemd) {
	if s == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, unitsLimit)
	defer cancel()
	names, err := s.services(ctx, f.Layout.Etcd)
	if err != nil {
		if f.Etcd == nil && f.lacksManifest(f.EtcdErr) {
			f.EtcdErr = problem.New("systemctl status shows why", "systemd doesn't say whether etcd is one of its services: %w", err)
		}
		return
	}
	var found []unitEtcd
	var unread error
	for _, name := range names {
		u, err := s.ask(ctx, name)
		if err != nil || u.Load != "loaded" {
			continue
		}
		e, err := readUnit(u, s.host)
		switch {
		case err == nil:
			found = append(found, unitEtcd{e, u})
		case problem.HasCode(err, unit.CodeNoEtcd):
			// A service that is called so, and runs something else: a backup.
		default:
			unread = err
		}
	}
	if f.Etcd != nil || !f.lacksManifest(f.EtcdErr) {
		return // kubelet runs it; what systemd runs beside it is another
	}
	e, err := f.chooseUnit(ctx, found)
	switch {
	case e != nil:
		f.Etcd, f.EtcdErr, f.EtcdVersion = &Etcd{e.EtcdSettings, *e}, nil, e.Version
	case err != nil:
		f.EtcdErr = err
	case unread != nil:
		f.EtcdErr = unread
	}
}

func readUnit(u *node.Unit, h unit.Host) (*unit.Etcd, error) {
	service, err := unit.Read(unit.Loaded{Name: u.Name, Fragment: u.Fragment, DropIns: u.DropIns}, h)
	if err != nil {
		return nil, err
	}
	return unit.ReadEtcd(service)
}

// lacksManifest says of an error that no manifest is there, and nothing else is
// wrong.
func (f *Facts) lacksManifest(err error) bool {
	var no *absent
	return errors.As(err, &no)
}

// chooseUnit finds which of several services is kube-apiserver's etcd: the one
// that its --etcd-servers names; on a host without an API server the one with
// the plain name, or the only one.
func (f *Facts) chooseUnit(ctx context.Context, all []unitEtcd) (*unitEtcd, error) {
	if f.API != nil {
		for i := range all {
			if slices.ContainsFunc(f.API.EtcdServers, func(s string) bool { return f.leadsTo(ctx, s, &all[i].EtcdSettings) }) {
				return &all[i], nil
			}
		}
		return nil, nil
	}
	if len(all) == 1 {
		return &all[0], nil
	}
	var names []string
	for i := range all {
		if all[i].unit.Name == f.Layout.Etcd+".service" {
			return &all[i], nil
		}
		names = append(names, all[i].unit.Name)
	}
	if len(all) == 0 {
		return nil, nil
	}
	return nil, problem.New("stop and disable those that aren't", "several etcds run here as services, and which is kube-apiserver's isn't known: %s", trust.Text(strings.Join(names, ", ")))
}

// clientCertificate is what etcd is asked with, where no API server's is here:
// what the layouts have for that, else etcd's own.
func (f *Facts) clientCertificate(e *Etcd) (ca, cert, key string) {
	for _, c := range f.Layout.EtcdClients(f.Node) {
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
