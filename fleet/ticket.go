package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"slices"
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
}

const ticketVersion = 1

// NewTicket makes a ticket from what this node knows: the members by its etcd,
// its etcd.yaml and the snapshot, without those left out. The other nodes' API
// servers are taken to listen on this one's port. The verdicts say what is odd
// about the members.
func NewTicket(ctx context.Context, f *steps.Facts, info *snapshot.Info, ch steps.Choices, without []string, now time.Time) (*Ticket, []steps.Verdict, error) {
	if f.Etcd == nil {
		return nil, nil, f.EtcdErr
	}
	lists := named{restore.InManifest: append(slices.Clone(f.Etcd.InitialCluster), manifest.Member{Name: f.Etcd.Name, PeerURLs: f.Etcd.AdvertisePeerURLs})}
	if f.Live != nil {
		for _, m := range f.Live.Members {
			lists[restore.InEtcd] = append(lists[restore.InEtcd], manifest.Member{Name: m.Name, PeerURLs: m.PeerURLs})
		}
	}
	for _, m := range info.Members {
		lists[restore.InSnapshot] = append(lists[restore.InSnapshot], manifest.Member{Name: m.Name, PeerURLs: m.PeerURLs})
	}
	ready, err := url.Parse(f.Reach.API.ReadyURL)
	if err != nil {
		return nil, nil, err
	}
	t := &Ticket{V: ticketVersion, Run: steps.NextRunName(now, steps.NewestRunName(f.StateDir)), Bump: *f.Settle(info, ch).Bump, Snapshot: info.SHA256}
	t.Token = "etcd-rewind-" + t.Run
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
		at := *ready
		at.Host = net.JoinHostPort(peerHost(m.PeerURLs), ready.Port())
		n := steps.RemoteNode{Name: m.Name, RemoteConfig: node.RemoteConfig{ReadyURL: at.String()}}
		if len(m.PeerURLs) > 0 {
			n.PeerURL = m.PeerURLs[0]
		}
		t.Nodes = append(t.Nodes, n)
	}
	return t, slices.DeleteFunc(judge(all, answers), func(v steps.Verdict) bool { return v.Check == "fleet-hosts" }), nil
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
		return nil, problem.New(trust.Shell("chmod go-w %s", path)+", once you know what is in it", "others may write to the ticket %s", path)
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
		return nil, fmt.Errorf("it has format %d, this version knows %d", t.V, ticketVersion)
	}
	if !validSum(t.Snapshot) || len(t.Members) == 0 || len(t.Nodes) == 0 {
		return nil, errors.New("it isn't whole")
	}
	// What it says becomes names of directories, a cluster's members, and hosts
	// that are dialled.
	if err := validFleet(&steps.Fleet{Run: t.Run, Token: t.Token, Members: t.Members, Others: t.Nodes}); err != nil {
		return nil, err
	}
	return &t, nil
}

// Choices are what the ticket decides on the node whose etcd has this name, for
// this snapshot.
func (t *Ticket) Choices(ch steps.Choices, member string, info *snapshot.Info) (steps.Choices, error) {
	if info.SHA256 != t.Snapshot {
		return ch, problem.New("carry the same snapshot to all nodes", "the ticket is for another snapshot: sha256 %.12s…, this one has %.12s…", t.Snapshot, info.SHA256)
	}
	f := &steps.Fleet{Run: t.Run, Token: t.Token, Members: t.Members}
	for _, n := range t.Nodes {
		if n.Name != member {
			f.Others = append(f.Others, n)
		}
	}
	if len(f.Others) == len(t.Nodes) {
		return ch, problem.New("use it on the nodes that it names", "the ticket doesn't name this node's member %s", member)
	}
	bump := t.Bump
	ch.Bump, ch.Fleet = &bump, f
	return ch, nil
}
