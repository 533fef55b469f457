package fleet

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"etcd-rewind/manifest"
	"etcd-rewind/node"
	"etcd-rewind/problem"
	"etcd-rewind/restore"
	"etcd-rewind/snapshot"
	"etcd-rewind/steps"
	"etcd-rewind/trust"
)

// Ticket is what nodes that don't reach each other by a remote shell have to
// have in common. It is carried to each of them by hand, and holds no secret.
type Ticket struct {
	V        int                `json:"v"`
	Run      string             `json:"run"`
	Token    string             `json:"token"`
	Bump     uint64             `json:"bump"`
	Snapshot string             `json:"snapshot_sha256"` // of the content, as inspect shows it
	Members  []manifest.Member  `json:"members"`
	Nodes    []steps.RemoteNode `json:"nodes"` // where each is seen over the network
	// ClusterID is that of etcd now; 0 when it isn't known.
	ClusterID uint64 `json:"cluster_id,omitempty"`
}

const ticketVersion = 1

// NewTicket makes a ticket from what this node knows: the members by its etcd,
// its etcd.yaml and the snapshot, without those left out. The other nodes' API
// servers are taken to listen on this one's port, or on 6443. Where they are apart
// from etcd, the leases in etcd say where they are. The verdicts say what is odd
// about the members, and which API servers aren't there.
func NewTicket(ctx context.Context, f *steps.Facts, info *snapshot.Info, ch steps.Choices, without []string, now time.Time) (*Ticket, []steps.Verdict, error) {
	lists := named{}
	switch {
	case f.Etcd != nil:
		lists[restore.InManifest] = append(slices.Clone(f.Etcd.InitialCluster), manifest.Member{Name: f.Etcd.Name, PeerURLs: f.Etcd.AdvertisePeerURLs})
	case !f.Apart():
		return nil, nil, f.EtcdErr
	case f.Live == nil:
		return nil, nil, problem.New("write the ticket on one of etcd's nodes", "etcd runs on other nodes, and doesn't answer: %w", f.LiveErr)
	}
	if f.Live != nil {
		for _, m := range f.Live.Members {
			lists[restore.InEtcd] = append(lists[restore.InEtcd], manifest.Member{Name: m.Name, PeerURLs: m.PeerURLs})
		}
	} else if f.LastUsers != nil {
		lists[restore.InEtcd] = known(f.LastUsers.Members)
	}
	for _, m := range info.Members {
		lists[restore.InSnapshot] = append(lists[restore.InSnapshot], manifest.Member{Name: m.Name, PeerURLs: m.PeerURLs})
	}
	ready, err := url.Parse(cmp.Or(f.Reach.API.ReadyURL, "https://localhost:6443/readyz"))
	if err != nil {
		return nil, nil, err
	}
	readyAt := func(host string) string {
		at := *ready
		at.Host = net.JoinHostPort(host, ready.Port())
		return at.String()
	}
	t := &Ticket{V: ticketVersion, Run: steps.NextRunName(now, steps.NewestRunName(f.StateDir)), Bump: *f.Settle(info, ch).Bump, Snapshot: info.SHA256}
	t.Token = "etcd-rewind-" + t.Run
	t.ClusterID, _ = cluster(ctx, f) // of an etcd that is down, from its data
	all := union(lists)
	answers := map[string]bool{}
	c := &Conductor{}
	for i := range all {
		m := &all[i]
		// One etcd.yaml names the members that were there when its node joined.
		m.Missing = slices.DeleteFunc(m.Missing, func(s restore.Source) bool { return s == restore.InManifest })
		if m.Out = slices.Contains(without, m.Name); m.Out {
			answers[m.Name] = !m.OnlySnapshot() && slices.ContainsFunc(m.PeerURLs, func(u string) bool { return c.answers(ctx, u) })
			continue
		}
		m.Facts = &restore.NodeFacts{EtcdVersion: f.EtcdVersion, KubernetesVersion: f.KubernetesVersion} // nobody has asked the others
		t.Members = append(t.Members, manifest.Member{Name: m.Name, PeerURLs: m.PeerURLs})
		n := steps.RemoteNode{Name: m.Name}
		if host := peerHost(m.PeerURLs); !f.Apart() || slices.ContainsFunc(f.Users(), func(ip string) bool { return sameHost(ip, host) }) {
			n.ReadyURL = readyAt(host)
		}
		if len(m.PeerURLs) > 0 {
			n.PeerURL = m.PeerURLs[0]
		}
		t.Nodes = append(t.Nodes, n)
	}
	verdicts := slices.DeleteFunc(judge(all, answers), func(v steps.Verdict) bool { return v.Check == "fleet-hosts" })
	if f.Apart() {
		verdicts = append(verdicts, t.addAPIServers(ctx, c, f, info, readyAt))
	} else if beside := t.beside(f, info, all); len(beside) > 0 {
		verdicts = append(verdicts, steps.Verdict{
			Check: steps.CheckAPIServers, Title: "API servers", Level: steps.Error, Overridable: true,
			Cause: "the ticket is for etcd's nodes, and kube-apiserver is at these addresses, too: " + strings.Join(beside, ", "),
			Hint:  "fine if they are other addresses of the same nodes, or of one that was removed; otherwise stop kube-apiserver there until etcd is restored, and override " + steps.CheckAPIServers,
		})
	}
	return t, verdicts, nil
}

// beside are the API servers that no member's node is known to have: by their
// leases in etcd, and where those can't be read, in the snapshot.
func (t *Ticket) beside(f *steps.Facts, info *snapshot.Info, members []restore.Member) []string {
	servers := f.Users()
	if f.LeasesUnknown() != "" {
		servers = leased(info)
	}
	return slices.DeleteFunc(slices.Clone(servers), func(ip string) bool {
		return f.API != nil && sameHost(f.API.AdvertiseAddress, ip) ||
			slices.ContainsFunc(members, func(m restore.Member) bool { return sameHost(peerHost(m.PeerURLs), ip) })
	})
}

// addAPIServers adds the nodes that have an API server and no etcd. Each has to
// answer where it is looked for: a port that nobody ever had is no API server that
// is down.
func (t *Ticket) addAPIServers(ctx context.Context, c *Conductor, f *steps.Facts, info *snapshot.Info, readyAt func(host string) string) steps.Verdict {
	v := steps.Verdict{Check: steps.CheckAPIServers, Title: "API servers", Level: steps.Pass}
	var silent []string
	for _, ip := range f.Users() {
		url := readyAt(ip)
		if !c.answers(ctx, url) {
			silent = append(silent, url)
		}
		if !slices.ContainsFunc(t.Nodes, func(n steps.RemoteNode) bool { return n.ReadyURL == url }) {
			t.Nodes = append(t.Nodes, steps.RemoteNode{Name: ip, RemoteConfig: node.RemoteConfig{ReadyURL: url}})
		}
	}
	v.Cause = "all that have a lease in etcd are on the ticket: " + strings.Join(f.Users(), ", ")
	stop := "stop kube-apiserver on each node until etcd is restored, and override " + steps.CheckAPIServers
	switch {
	case len(f.Users()) == 0:
		v.Level, v.Overridable = steps.Error, true
		v.Cause = f.LeasesUnknown() + ", so the ticket names no kube-apiserver: those that use this etcd must not run while its data is replaced"
		if since := leased(info); len(since) > 0 {
			v.Cause += " (the snapshot has " + strings.Join(since, ", ") + ")"
		}
		v.Hint = stop
	case len(silent) > 0:
		v.Level, v.Overridable = steps.Error, true
		v.Cause = "nothing answers at " + strings.Join(silent, ", ") + ", the address expected for kube-apiserver"
		v.Hint = "if it has another port, write the ticket on a control plane; if it is down, " + stop
	}
	return v
}

// Write writes the ticket to a new file.
func (t *Ticket) Write(path string) error {
	data, err := json.MarshalIndent(t, "", "  ")
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(data, '\n'))
	return errors.Join(err, f.Close())
}

// ReadTicket reads what Write wrote.
func ReadTicket(path string) (*Ticket, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular() || info.Size() > longestTicket:
		return nil, fmt.Errorf("%s is not a ticket", path)
	case info.Mode().Perm()&0o022 != 0:
		return nil, problem.New(trust.Shell("chmod go-w %s", path)+", once you know what is in it", "others can write to the ticket %s", path)
	}
	data, err := io.ReadAll(io.LimitReader(f, longestTicket))
	if err != nil {
		return nil, err
	}
	t, err := parseTicket(data)
	if err != nil {
		return nil, problem.New("use the file that etcd-rewind ticket wrote, unchanged, and the same version on all nodes", "%s is not a ticket: %s", path, err)
	}
	return t, nil
}

// longestTicket is in bytes.
const longestTicket = 1 << 20

func parseTicket(data []byte) (*Ticket, error) {
	var t Ticket
	if err := decode(data, &t); err != nil {
		return nil, err
	}
	if t.V != ticketVersion {
		return nil, fmt.Errorf("it has format %d, this version supports %d", t.V, ticketVersion)
	}
	if !validSum(t.Snapshot) || len(t.Members) == 0 || len(t.Nodes) == 0 {
		return nil, errors.New("it is incomplete")
	}
	// What it says becomes names of directories, a cluster's members, and hosts
	// that are dialled.
	if err := validFleet(&steps.Fleet{Run: t.Run, Token: t.Token, Members: t.Members, Others: t.Nodes}); err != nil {
		return nil, err
	}
	return &t, nil
}

// names says which of the ticket's nodes this one is: by its member's name, or
// without etcd by its API server's address.
func (t *Ticket) names(here *steps.Facts) (name, what string) {
	if here.Etcd != nil {
		return here.Etcd.Name, "member " + here.Etcd.Name
	}
	var own []string
	if here.API != nil {
		own = append(own, here.API.AdvertiseAddress)
	}
	if all, err := net.InterfaceAddrs(); err == nil {
		for _, a := range all {
			if ip, _, err := net.ParseCIDR(a.String()); err == nil && !ip.IsLoopback() {
				own = append(own, ip.String())
			}
		}
	}
	for _, n := range t.Nodes {
		if u, err := url.Parse(n.ReadyURL); err == nil && n.PeerURL == "" && slices.Contains(own, u.Hostname()) {
			return n.Name, ""
		}
	}
	return "", "kube-apiserver at " + strings.Join(own, ", ")
}

// Choices are what the ticket decides on this node, for this snapshot.
func (t *Ticket) Choices(ch steps.Choices, here *steps.Facts, info *snapshot.Info) (steps.Choices, error) {
	name, what := t.names(here)
	if info.SHA256 != t.Snapshot {
		return ch, problem.New("copy the same snapshot to all nodes", "the ticket is for another snapshot: sha256 %.12s…, this one has %.12s…", t.Snapshot, info.SHA256)
	}
	f := &steps.Fleet{Run: t.Run, Token: t.Token, Members: t.Members, ClusterID: t.ClusterID}
	for _, n := range t.Nodes {
		if n.Name != name {
			f.Others = append(f.Others, n)
		}
	}
	if len(f.Others) == len(t.Nodes) {
		return ch, problem.New("use it on the nodes that it names", "the ticket doesn't name this node's %s", what)
	}
	bump := t.Bump
	ch.Bump, ch.Fleet = &bump, f
	return ch, nil
}
