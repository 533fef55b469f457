package steps

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"etcd-rewind/manifest"
	"etcd-rewind/node"
	"etcd-rewind/problem"
)

// findsUnit is discovery on a node whose services were changed: which it takes for
// etcd's, or why none.
func findsUnit(n *fakeNode, named string, change func(s *systemd)) (*Facts, string) {
	f := n.discovered()
	s := n.systemd.found()
	s.etcd = named
	if change != nil {
		change(s)
	}
	f.API, f.Etcd, f.Controllers, f.OtherEtcds, f.EtcdErr, f.APIErr = nil, nil, nil, nil, nil, nil
	f.readManifests(n.t.Context())
	f.readUnits(n.t.Context(), s)
	u, _ := f.EtcdUnit()
	if u == nil {
		return f, ""
	}
	return f, u.Name
}

// hosts are those without an API server.
var onlyEtcd = []string{inSystemd, "kube-apiserver", "kube-controller-manager", "kube-scheduler"}

// Which of several services is kube-apiserver's etcd: --etcd-servers says so where
// there is one; elsewhere the person, where names don't.
func TestWhichServiceIsKubeAPIServersEtcd(t *testing.T) {
	rename := func(n *fakeNode, from, to string) {
		u := n.systemd.units[from]
		delete(n.systemd.units, from)
		u.name = to
		n.systemd.units[to] = u
	}
	for _, c := range []struct {
		name    string
		without []string
		make    func(n *fakeNode)
		named   string
		want    string
		says    string // the error or its hint
	}{
		{"one for events beside it, on an etcd host", onlyEtcd, func(n *fakeNode) { n.systemd.beside("etcd-events", "lib/etcd-events", "43") }, "", "etcd.service", ""},
		{"which is dead, while that for events runs", onlyEtcd, func(n *fakeNode) {
			n.systemd.beside("etcd-events", "lib/etcd-events", "43").become("active", "running")
			n.systemd.become("failed", "failed")
		}, "", "etcd.service", ""},
		{"--etcd-servers names the other", []string{allInSystemd}, func(n *fakeNode) {
			n.systemd.beside("etcd-a", "lib/etcd-a", "43")
			n.mustReplace("etc/systemd/system/kube-apiserver.service", "127.0.0.1:2379", "127.0.0.1:4379")
		}, "", "etcd-a.service", ""},
		{"--etcd-servers of a static pod does", []string{inSystemd}, func(n *fakeNode) {
			n.systemd.beside("etcd-a", "lib/etcd-a", "43")
			n.mustReplace("manifests/kube-apiserver.yaml", "--etcd-servers=https://127.0.0.1:2379", "--etcd-servers=https://127.0.0.1:4379")
		}, "", "etcd-a.service", ""},
		{"--etcd-servers leads to another host", []string{inSystemd}, func(n *fakeNode) {
			n.mustReplace("manifests/kube-apiserver.yaml", "--etcd-servers=https://127.0.0.1:2379", "--etcd-servers=https://10.77.0.99:2379")
		}, "", "", "there is no manifest of etcd"},
		{"a package's, which isn't used", onlyEtcd, func(n *fakeNode) {
			rename(n, "etcd.service", "etcd-main.service")
			u := n.systemd.beside("etcd", "lib/etcd-package", "23")
			u.is.FileState = "disabled"
		}, "", "etcd-main.service", ""},
		{"two on one address, of which one runs", []string{allInSystemd}, func(n *fakeNode) {
			u := n.systemd.beside("etcd-new", "lib/etcd-new", "23")
			u.become("active", "running")
			n.systemd.become("failed", "failed")
		}, "", "etcd-new.service", ""},
		{"several, and nobody knows", onlyEtcd, func(n *fakeNode) {
			rename(n, "etcd.service", "etcd-a.service")
			n.systemd.beside("etcd-b", "lib/etcd-b", "43")
		}, "", "", "--etcd-unit etcd-a.service|etcd-a.service, etcd-b.service"},
		{"several, and one is named", onlyEtcd, func(n *fakeNode) {
			rename(n, "etcd.service", "etcd-a.service")
			n.systemd.beside("etcd-b", "lib/etcd-b", "43")
		}, "etcd-b.service", "etcd-b.service", ""},
		{"one is named that isn't there", onlyEtcd, func(*fakeNode) {}, "etcd-c.service", "", "no unit etcd-c.service|these services run etcd: etcd.service"},
		{"one is named on a node without etcd", []string{inSystemd}, func(n *fakeNode) { delete(n.systemd.units, "etcd.service") }, "etcd-c.service", "", "there is no manifest of etcd|systemd has no unit etcd-c.service"},
		{"one is named that isn't etcd", onlyEtcd, func(n *fakeNode) {
			n.write("etc/systemd/system/sshd.service", []byte("[Service]\nExecStart=/usr/sbin/sshd -D\n"))
			n.systemd.add("sshd.service", "sshd.service")
		}, "sshd.service", "", "the unit sshd.service starts /usr/sbin/sshd"},
		{"one is named, and etcd is a pod", nil, func(n *fakeNode) {
			n.systemd = noServices(n)
			n.systemd.beside("etcd-b", "lib/etcd-b", "43")
		}, "etcd-b.service", "", "static pod here"},
		{"a failed one with another name", onlyEtcd, func(n *fakeNode) {
			rename(n, "etcd.service", "kv.service")
			n.systemd.become("failed", "failed")
		}, "", "kv.service", ""},
		{"a stopped one with another name that isn't enabled", onlyEtcd, func(n *fakeNode) {
			rename(n, "etcd.service", "kv.service")
			n.systemd.become("inactive", "dead")
			n.systemd.is.FileState = "disabled"
		}, "", "kv.service", ""},
		{"a template's instance", []string{ofTemplate}, func(*fakeNode) {}, "", "etcd@cp1.service", ""},
		{"a backup of it that can't be read", onlyEtcd, func(n *fakeNode) {
			n.write("etc/systemd/system/etcd-backup.service", []byte("[Service]\nType=oneshot\nExecStart=/bin/sh -c \"for x in a b; do etcdctl snapshot save /$x; done\"\n"))
			n.systemd.add("etcd-backup.service", "etcd-backup.service").is.Type = "oneshot"
		}, "", "etcd.service", ""},
		{"a backup alone is no etcd", []string{inSystemd}, func(n *fakeNode) {
			delete(n.systemd.units, "etcd.service")
			n.write("etc/systemd/system/etcd-backup.service", []byte("[Service]\nType=oneshot\nExecStart=/bin/sh -c \"for x in a b; do etcdctl snapshot save /$x; done\"\n"))
			n.systemd.add("etcd-backup.service", "etcd-backup.service").is.Type = "oneshot"
		}, "", "", "there is no manifest of etcd"},
		{"one with another name that can't be read", onlyEtcd, func(n *fakeNode) {
			delete(n.systemd.units, "etcd.service")
			n.write("etc/systemd/system/kv.service", []byte("[Service]\nExecStart=/bin/sh -c \"while :; do /usr/bin/etcd --name=a; done\"\n"))
			n.systemd.add("kv.service", "kv.service")
		}, "", "", "kv.service"},
	} {
		t.Run(c.name, inFakeTime(func(t *testing.T) {
			n := newFakeNode(t, c.without...)
			c.make(n)
			f, got := findsUnit(n, c.named, nil)
			if got != c.want {
				t.Errorf("it is %q, want %q: %v", got, c.want, f.EtcdErr)
			}
			if none := strings.HasPrefix(c.says, "there is no manifest"); none == f.Runs(RoleEtcd) {
				t.Errorf("its roles are %v", f.Roles())
			}
			if c.says == "" {
				return
			}
			err := f.EtcdErr
			if f.API == nil && f.Runs(RoleEtcd) { // a host of etcd's shows why, too
				f.Kubelet, f.KubeletErr = nil, &noKubelet{n.root}
				err = f.ControlPlane()
			}
			cause, hint := problem.Explain(err)
			for says := range strings.SplitSeq(c.says, "|") {
				if !strings.Contains(cause+" "+hint, says) {
					t.Errorf("it says %q (%q), not %q", cause, hint, says)
				}
			}
		}))
	}
}

// A service that is asked for by several of its names is one.
func TestAnAliasIsNoSecondEtcd(t *testing.T) {
	inFakeTime(func(t *testing.T) {
		n := newFakeNode(t, onlyEtcd...)
		alias := func(s *systemd) {
			services, ask := s.services, s.ask
			s.services = func(ctx context.Context, called string) ([]string, error) {
				names, err := services(ctx, called)
				return append(names, "etcd2.service"), err
			}
			s.ask = func(ctx context.Context, name string) (*node.Unit, error) {
				return ask(ctx, strings.Replace(name, "etcd2", "etcd", 1))
			}
		}
		for _, named := range []string{"", "etcd2.service"} {
			if f, got := findsUnit(n, named, alias); got != "etcd.service" || len(f.OtherEtcds) > 0 {
				t.Errorf("%q: %q, %v, %v", named, got, f.OtherEtcds, f.EtcdErr)
			}
		}
	})(t)
}

// Where systemd doesn't give the commands of all services, those that are called
// etcd are found all the same.
func TestEtcdIsFoundWithoutTheCommands(t *testing.T) {
	inFakeTime(func(t *testing.T) {
		n := newFakeNode(t, onlyEtcd...)
		if f, got := findsUnit(n, "", func(s *systemd) {
			s.commands = func(ctx context.Context) ([]node.ServiceCommand, error) {
				<-ctx.Done()
				return nil, errors.New("killed")
			}
		}); got != "etcd.service" {
			t.Errorf("%q, %v", got, f.EtcdErr)
		}
	})(t)
}

// The other etcds of a node are named, whatever runs them, and what can't run beside
// the chosen one is refused.
func TestOtherEtcdsAreNamed(t *testing.T) {
	for _, c := range []struct {
		name    string
		without []string
		make    func(n *fakeNode)
		level   Level
		says    string
	}{
		{"none", []string{inSystemd}, func(*fakeNode) {}, "", ""},
		{"one for events, on an etcd host", onlyEtcd, func(n *fakeNode) { n.systemd.beside("etcd-events", "lib/etcd-events", "43") }, Pass, "etcd-events.service is another etcd (ROOT/lib/etcd-events; what it holds is unknown here) and is left alone"},
		{"one for events, of an API server here", []string{allInSystemd}, func(n *fakeNode) {
			n.systemd.beside("etcd-events", "lib/etcd-events", "43")
			n.mustReplace("etc/systemd/system/kube-apiserver.service", "--etcd-servers=", "--etcd-servers-overrides=/events#https://127.0.0.1:4379 --etcd-servers=")
		}, Pass, "etcd-events.service is another etcd (ROOT/lib/etcd-events; it holds events) and is left alone"},
		{"one of another program's", []string{inSystemd}, func(n *fakeNode) { n.systemd.beside("etcd-patroni", "lib/patroni", "53") }, Pass, "etcd-patroni.service is another etcd (ROOT/lib/patroni; not kube-apiserver's)"},
		{"one beside a static pod", nil, func(n *fakeNode) {
			n.systemd = noServices(n)
			n.systemd.beside("etcd-events", "lib/etcd-events", "43")
		}, Pass, "etcd-events.service is another etcd"},
		{"one that isn't used", onlyEtcd, func(n *fakeNode) {
			n.systemd.beside("etcd-events", "lib/etcd-events", "43").is.FileState = "disabled"
		}, "", ""},
		{"one on the same data", onlyEtcd, func(n *fakeNode) { n.systemd.beside("etcd-old", "lib/etcd", "43") }, Error, "etcd-old.service is another etcd with the same data directory"},
		{"one on the same address", onlyEtcd, func(n *fakeNode) { n.systemd.beside("etcd-old", "lib/etcd-old", "23") }, Warn, "etcd-old.service is another etcd with an address of this one"},
	} {
		t.Run(c.name, inFakeTime(func(t *testing.T) {
			n := newFakeNode(t, c.without...)
			c.make(n)
			for _, v := range Check(t.Context(), n.discovered(), snapshotOfTheTests, Choices{}) {
				if v.Check != "other-etcds" {
					continue
				}
				if v.Level != c.level || !strings.Contains(v.Cause, strings.Replace(c.says, "ROOT", n.root, 1)) || v.Overridable {
					t.Errorf("%+v", v)
				}
				return
			}
			if c.level != "" {
				t.Error("it isn't checked")
			}
		}))
	}
}

// A template's file is of all its instances: it isn't edited, the data keeps its
// path, and the instance is stopped and started.
func TestAnInstanceOfATemplateIsRestored(t *testing.T) {
	inFakeTime(func(t *testing.T) {
		n := newFakeNode(t, ofTemplate)
		f := n.facts()
		if why := f.SwapBecause(); !strings.Contains(why, "etcd@.service") {
			t.Errorf("swapped because %q", why)
		}
		before, file := n.picture(), n.systemd.envNow()
		e, _ := n.engine(nil)
		if res := e.Run(t.Context(), n.plan(Choices{Swap: true})); !res.OK {
			t.Fatal(res.Error)
		}
		if err := n.works(0xbbbb); err != nil {
			t.Fatalf("not restored: %v", err)
		}
		if n.systemd.envNow() != file || !slices.Contains(n.systemd.told, "stop etcd@cp1.service") || len(n.systemd.left) > 0 {
			t.Errorf("told %v, %v; the file is now\n%s", n.systemd.told, n.systemd.left, n.systemd.envNow())
		}
		if res := e.Run(t.Context(), n.undo()); !res.OK {
			t.Fatal(res.Error)
		}
		if diff := cmp.Diff(before, n.picture()); diff != "" {
			t.Errorf("undone, the node differs:\n%s", diff)
		}
		p, err := NewRestore(f, snapshotOfTheTests, Choices{DataDir: n.oldData() + "-2"})
		if err == nil || !strings.Contains(err.Error(), "etcd@.service") {
			t.Errorf("its file would be edited: %v, %v", p, err)
		}
	})(t)
}

// etcd on a host of its own is asked with an administrator's certificate, of the CA
// that it trusts; where none is there, with its own.
func TestEtcdIsAskedWithWhatItsSetupHas(t *testing.T) {
	const kubespray, kubeadm, etcdadm = "/etc/ssl/etcd/ssl/", "/etc/kubernetes/pki/", "/etc/etcd/pki/"
	for _, c := range []struct {
		name  string
		files string // that are there
		own   string // CA, certificate and key of etcd itself
		want  string // the certificate
	}{
		{"kubespray", kubespray + "{ca.pem admin-node1.pem admin-node1-key.pem member-node1.pem member-node1-key.pem}", kubespray + "{ca.pem member-node1.pem member-node1-key.pem}", kubespray + "admin-node1.pem"},
		{"kubespray, without the administrator's", kubespray + "{ca.pem member-node1.pem member-node1-key.pem}", kubespray + "{ca.pem member-node1.pem member-node1-key.pem}", kubespray + "member-node1.pem"},
		{"kubespray, without its key", kubespray + "{ca.pem admin-node1.pem member-node1.pem member-node1-key.pem}", kubespray + "{ca.pem member-node1.pem member-node1-key.pem}", kubespray + "member-node1.pem"},
		{"kubespray, another host's", kubespray + "{ca.pem admin-node2.pem admin-node2-key.pem}", kubespray + "{ca.pem server.pem server-key.pem}", kubespray + "server.pem"},
		{"kubekey", kubespray + "{ca.crt server.crt server.key}", kubespray + "{ca.crt server.crt server.key}", kubespray + "server.crt"},
		{"etcdadm", etcdadm + "{ca.crt server.crt server.key etcdctl-etcd-client.crt etcdctl-etcd-client.key}", etcdadm + "{ca.crt server.crt server.key}", etcdadm + "etcdctl-etcd-client.crt"},
		{"kubeadm's, before etcdadm's", etcdadm + "{ca.crt etcdctl-etcd-client.crt etcdctl-etcd-client.key} " + kubeadm + "{etcd/ca.crt etcd/healthcheck-client.crt etcd/healthcheck-client.key}", kubeadm + "{etcd/ca.crt etcd/server.crt etcd/server.key}", kubeadm + "etcd/healthcheck-client.crt"},
		{"kubeadm's, of the API server", kubeadm + "{etcd/ca.crt apiserver-etcd-client.crt apiserver-etcd-client.key}", kubeadm + "{etcd/ca.crt etcd/server.crt etcd/server.key}", kubeadm + "apiserver-etcd-client.crt"},
		{"kubeadm's, of another cluster: etcd trusts another CA", kubeadm + "{etcd/ca.crt etcd/healthcheck-client.crt etcd/healthcheck-client.key}", "/etc/etcd/{ca.pem server.pem server-key.pem}", "/etc/etcd/server.pem"},
		{"by hand", "/etc/etcd/{ca.pem kubernetes.pem kubernetes-key.pem}", "/etc/etcd/{ca.pem kubernetes.pem kubernetes-key.pem}", "/etc/etcd/kubernetes.pem"},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := t.TempDir()
			expand := func(s string) (all []string) {
				for dir, rest, ok := strings.Cut(s, "{"); ok; dir, rest, ok = strings.Cut(rest, "{") {
					var names string
					names, rest, _ = strings.Cut(rest, "}")
					for _, name := range strings.Fields(names) {
						all = append(all, filepath.Join(root, strings.TrimSpace(dir), name))
					}
				}
				return all
			}
			for _, path := range slices.Concat(expand(c.files), expand(c.own)) {
				if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, nil, 0o600)); err != nil {
					t.Fatal(err)
				}
			}
			own := expand(c.own)
			e := &Etcd{EtcdSettings: manifest.EtcdSettings{TrustedCA: own[0], Cert: own[1], Key: own[2]}}
			places := node.Kubeadm.EtcdClients("node1")
			for i := range places {
				for _, path := range []*string{&places[i].CA, &places[i].Cert, &places[i].Key} {
					*path = filepath.Join(root, *path)
				}
			}
			ca, cert, key := clientOf(e, places)
			if cert != filepath.Join(root, c.want) || ca != own[0] {
				t.Errorf("it is asked with %s of %s", cert, ca)
			}
			if !slices.Contains(expand(c.files), key) && key != own[2] {
				t.Errorf("with the key %s", key)
			}
		})
	}
}
