package fleet

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"etcd-rewind/manifest"
	"etcd-rewind/node"
	"etcd-rewind/snapshot"
	"etcd-rewind/steps"
)

func TestATicketSaysTheSameOnAllNodes(t *testing.T) {
	member := func(name, ip string) node.EtcdMember {
		return node.EtcdMember{Name: name, PeerURLs: []string{"https://" + ip + ":2380"}}
	}
	f := &steps.Facts{
		Etcd: &steps.Etcd{EtcdSettings: manifest.EtcdSettings{Name: "cp1", AdvertisePeerURLs: []string{"https://10.0.0.1:2380"}}},
		Live: &node.EtcdStatus{Revision: 5000, Members: []node.EtcdMember{member("cp1", "10.0.0.1"), member("cp2", "10.0.0.2"), member("cp3", "10.0.0.3")}},
	}
	f.Reach.API.ReadyURL = "https://10.0.0.1:6443/readyz"
	info := &snapshot.Info{SHA256: strings.Repeat("ab", 32), Revision: 700}
	for _, name := range []string{"cp1", "cp2", "cp3"} {
		info.Members = append(info.Members, snapshot.Member{Name: name})
	}
	made, verdicts, err := NewTicket(t.Context(), f, info, steps.Choices{}, nil, time.Date(2026, 11, 21, 3, 0, 0, 0, time.UTC))
	if err != nil || len(steps.Blocking(verdicts)) > 0 {
		t.Fatal(err, verdicts)
	}
	path := filepath.Join(t.TempDir(), "ticket.json")
	if err := made.Write(path); err != nil {
		t.Fatal(err)
	}
	if err := made.Write(path); err == nil {
		t.Error("a file that is there was written over")
	}
	ticket, err := ReadTicket(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"cp1", "cp2", "cp3"} {
		ch, err := ticket.Choices(steps.Choices{}, memberNamed(name), info)
		if err != nil {
			t.Fatal(err)
		}
		if ch.Fleet.Run != theRun || ch.Fleet.Token != "etcd-rewind-"+theRun || len(ch.Fleet.Members) != 3 || *ch.Bump != 5000+1_000_000-700 {
			t.Errorf("%s: %+v, bump %d", name, ch.Fleet, *ch.Bump)
		}
		var others []string
		for _, o := range ch.Fleet.Others {
			others = append(others, o.Name+" "+o.ReadyURL+" "+o.PeerURL)
		}
		if name == "cp2" && !slices.Equal(others, []string{"cp1 https://10.0.0.1:6443/readyz https://10.0.0.1:2380", "cp3 https://10.0.0.3:6443/readyz https://10.0.0.3:2380"}) {
			t.Errorf("cp2 sees %q", others)
		}
	}
	if _, err := ticket.Choices(steps.Choices{}, memberNamed("cp9"), info); err == nil || !strings.Contains(err.Error(), "doesn't name this node's member cp9") {
		t.Error(err)
	}
	if _, err := ticket.Choices(steps.Choices{}, memberNamed("cp1"), &snapshot.Info{SHA256: strings.Repeat("cd", 32)}); err == nil || !strings.Contains(err.Error(), "another snapshot") {
		t.Error(err)
	}
}

func memberNamed(name string) *steps.Facts {
	return &steps.Facts{Etcd: &steps.Etcd{EtcdSettings: manifest.EtcdSettings{Name: name}}}
}

// Where etcd and the API servers are apart, each node waits for those that it has
// to, and no etcd's data is replaced under an API server that nobody has named.
func TestATicketNamesTheAPIServersThatAreApart(t *testing.T) {
	api, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer api.Close()
	at := "https://" + api.Addr().String() + "/readyz"
	info := &snapshot.Info{SHA256: strings.Repeat("ab", 32), Revision: 700, Members: []snapshot.Member{{Name: "etcd1"}}}
	live := &node.EtcdStatus{ClusterID: 0xaaaa, Revision: 5000, Members: []node.EtcdMember{{Name: "etcd1", PeerURLs: []string{"https://10.0.0.9:2380"}}}}
	etcd1 := memberNamed("etcd1")
	etcd1.Etcd.AdvertisePeerURLs = live.Members[0].PeerURLs
	etcd1.APIErr = steps.NotHere("kube-apiserver", "/etc/kubernetes/manifests")
	cp1 := &steps.Facts{EtcdErr: steps.NotHere("etcd", "/etc/kubernetes/manifests"), API: &steps.API{APISettings: manifest.APISettings{AdvertiseAddress: "127.0.0.1"}}}
	for _, f := range []*steps.Facts{etcd1, cp1} {
		f.Live, f.APIServers = live, []string{"127.0.0.1"}
		f.Reach.API.ReadyURL = at
		ticket, verdicts, err := NewTicket(t.Context(), f, info, steps.Choices{}, nil, time.Date(2026, 11, 21, 3, 0, 0, 0, time.UTC))
		if err != nil || len(steps.Blocking(verdicts)) > 0 {
			t.Fatal(err, verdicts)
		}
		for _, tt := range []struct {
			here *steps.Facts
			sees steps.RemoteNode
		}{
			{etcd1, steps.RemoteNode{Name: "127.0.0.1", RemoteConfig: node.RemoteConfig{ReadyURL: at}}},
			{cp1, steps.RemoteNode{Name: "etcd1", RemoteConfig: node.RemoteConfig{PeerURL: "https://10.0.0.9:2380"}}},
		} {
			ch, err := ticket.Choices(steps.Choices{}, tt.here, info)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(ch.Fleet.Others, []steps.RemoteNode{tt.sees}) || ch.Fleet.ClusterID != 0xaaaa || len(ch.Fleet.Members) != 1 {
				t.Errorf("%+v, want %+v among them", ch.Fleet, tt.sees)
			}
		}
	}

	// Where none answers at the port that was guessed, that is no API server that is
	// down; nor is one without a lease.
	api.Close()
	info.APIServers = []string{"10.0.0.7"}
	for says, servers := range map[string][]string{"nothing answers at " + at: {"127.0.0.1"}, "denied, so the ticket names no kube-apiserver": nil, "(the snapshot has 10.0.0.7)": nil} {
		etcd1.APIServers, etcd1.LeasesErr = servers, errors.New("denied")
		_, verdicts, err := NewTicket(t.Context(), etcd1, info, steps.Choices{}, nil, time.Now())
		if blocking := steps.Blocking(verdicts); err != nil || len(blocking) != 1 || blocking[0].Check != steps.CheckAPIServers || !strings.Contains(blocking[0].Cause, says) {
			t.Errorf("%s: %v, %v", says, err, verdicts)
		}
	}
}

// On stacked nodes, too, a control plane may have no etcd: a ticket for the members
// would leave its API server running.
func TestATicketForStackedNodesLeavesNoAPIServerOut(t *testing.T) {
	members := []node.EtcdMember{{Name: "cp1", PeerURLs: []string{"https://10.0.0.1:2380"}}, {Name: "cp2", PeerURLs: []string{"https://10.0.0.2:2380"}}}
	info := &snapshot.Info{SHA256: strings.Repeat("ab", 32), Revision: 700, APIServers: []string{"10.0.0.1", "10.0.0.2", "10.0.0.8"}}
	for _, m := range members {
		info.Members = append(info.Members, snapshot.Member{Name: m.Name, PeerURLs: m.PeerURLs})
	}
	cp1 := memberNamed("cp1")
	cp1.Etcd.AdvertisePeerURLs = members[0].PeerURLs
	cp1.Etcd.InitialCluster = []manifest.Member{{Name: "cp1", PeerURLs: members[0].PeerURLs}, {Name: "cp2", PeerURLs: members[1].PeerURLs}}
	cp1.API = &steps.API{APISettings: manifest.APISettings{AdvertiseAddress: "10.0.0.1"}}
	ticket := func() []steps.Verdict {
		_, verdicts, err := NewTicket(t.Context(), cp1, info, steps.Choices{}, nil, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return steps.Blocking(verdicts)
	}
	if by := ticket(); len(by) != 1 || by[0].Check != steps.CheckAPIServers || !strings.HasSuffix(by[0].Cause, ": 10.0.0.8") {
		t.Errorf("with etcd down, blocked by %+v", by)
	}
	cp1.Live = &node.EtcdStatus{ClusterID: 1, Revision: 5000, Members: members}
	cp1.APIServers = []string{"10.0.0.1", "10.0.0.2", "10.0.0.9"}
	if by := ticket(); len(by) != 1 || by[0].Check != steps.CheckAPIServers || !strings.HasSuffix(by[0].Cause, ": 10.0.0.9") {
		t.Errorf("blocked by %+v", by)
	}
	cp1.APIServers = cp1.APIServers[:2]
	if by := ticket(); len(by) > 0 {
		t.Errorf("blocked by %+v", by)
	}
}

// whole is a ticket with one thing in it that is another; the last of a name
// counts.
func whole(other string) string {
	return `{"v":1,"run":"20261121-030000","token":"t","snapshot_sha256":"` + strings.Repeat("ab", 32) + `","members":[{"Name":"cp1"}],"nodes":[{"name":"cp1"}],` + other + `}`
}

func TestATicketThatOthersMayWriteToIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ticket.json")
	if err := os.WriteFile(path, []byte(whole(`"bump":1`)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadTicket(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o622); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadTicket(path); err == nil || !strings.Contains(err.Error(), "others can write to the ticket") {
		t.Error(err)
	}
}

func TestWhatIsNoTicketIsRefused(t *testing.T) {
	for text, says := range map[string]string{
		`not json`:                                "is not a ticket",
		`{"v":2,"run":"20261121-030000"}`:         "format 2",
		`{"v":1,"run":"20261121-030000"}`:         "it is incomplete",
		`null`:                                    "format 0",
		`{"v":1,"members":[null]}`:                "null where a value is due",
		whole(`"run":"../../etc"`):                "is not the name of a run",
		whole(`"token":"a\nb"`):                   "is not the token",
		whole(`"members":[{"Name":"cp1\n; id"}]`): "is not the name of a node",
		whole(`"members":[{"Name":"cp1","PeerURLs":["https://-oProxyCommand=id"]}]`): "is not a URL",
		whole(`"nodes":[{"name":"cp2","ready_url":"file:///etc/shadow"}]`):           "is not a URL",
		whole(`"snapshot_sha256":"ab"`):                                              "it is incomplete",
		strings.Repeat(`{"v":`, 100):                                                 "in one another",
	} {
		path := filepath.Join(t.TempDir(), "ticket.json")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadTicket(path); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", text, err)
		}
	}
}
