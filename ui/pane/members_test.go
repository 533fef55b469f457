package pane

import (
	"strings"
	"testing"

	"etcd-rewind/restore"
)

// A member that nothing but the snapshot names is asked about, and no host is
// proposed for it.
func TestTheHostOfAMemberThatOnlyTheSnapshotNamesIsAskedFor(t *testing.T) {
	p := &Members{}
	c := &restore.Member{Name: "cp9", PeerURLs: []string{"https://10.66.6.6:2380"}, KnownBy: []restore.Source{restore.InSnapshot}, Err: "only the snapshot has its address"}
	if h := p.host(c); h != "" {
		t.Errorf("%q is proposed", h)
	}
	said := ""
	for _, f := range p.about(c) {
		said += f.Name + ": " + f.Value + "\n"
	}
	if !strings.Contains(said, "h names its host") || !strings.Contains(said, "Secrets") {
		t.Error(said)
	}
}
