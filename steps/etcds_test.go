package steps

import (
	"net/netip"
	"testing"

	"etcd-rewind/manifest"
)

// A name server that is down is waited for once for each name, and not for a name
// that etcd itself is called by.
func TestANameOfEtcdServersIsLookedUpOnce(t *testing.T) {
	etcd := &manifest.EtcdSettings{
		ListenClientURLs:    []string{"https://127.0.0.1:2379", "https://10.0.0.1:2379", "https://10.0.0.1:12379"},
		AdvertiseClientURLs: []string{"https://etcd1.example:2379"},
	}
	for _, tt := range []struct {
		server string
		is     []string // by its name server
		leads  bool
		asked  int
	}{
		{"https://etcd.example:2379", nil, false, 1},
		{"https://etcd.example:2379", []string{"10.0.0.9", "10.0.0.1"}, true, 1},
		{"https://etcd.example:2379", []string{"10.0.0.9"}, false, 1},
		{"https://ETCD1.example:2379", nil, true, 0},
		{"https://etcd.example:4001", []string{"10.0.0.1"}, false, 0},
	} {
		asked := 0
		leads := leadsTo(tt.server, etcd, func(string) (all []netip.Addr) {
			asked++
			for _, ip := range tt.is {
				all = append(all, netip.MustParseAddr(ip))
			}
			return all
		})
		if leads != tt.leads || asked != tt.asked {
			t.Errorf("%s, which is %q: %v, looked up %d times, want %v and %d", tt.server, tt.is, leads, asked, tt.leads, tt.asked)
		}
	}
}
