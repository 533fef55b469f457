package ui

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"etcd-rewind/restore"
	"etcd-rewind/steps"
	"etcd-rewind/ui/print"
)

// A member that nothing but the snapshot names is asked about, and no host is
// proposed for it.
func TestTheHostOfAMemberThatOnlyTheSnapshotNamesIsAskedFor(t *testing.T) {
	p := &membersPane{}
	c := &restore.Member{Name: "cp9", PeerURLs: []string{"https://10.66.6.6:2380"}, KnownBy: []restore.Source{restore.InSnapshot}, Err: "nothing but the snapshot says where it is"}
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

func TestAHintIsPrintedOnceForSeveralNodes(t *testing.T) {
	var out bytes.Buffer
	p := print.NewText(&out, print.Options{Nodes: []string{"cp1", "cp2"}})
	f := steps.Failure{Title: "x", Cause: "it fails", Hint: "look at the disk", Choices: []steps.Choice{steps.Revert}}
	at := time.Date(2026, 11, 21, 3, 0, 0, 0, time.UTC)
	p.Event(restore.NodeEvent{Node: "cp2", Event: steps.Event{Type: steps.TypeAsk, Time: at, Failure: &f}})
	p.Event(restore.NodeEvent{Event: steps.Event{Type: steps.TypeResult, Time: at, Result: &steps.Result{Error: &steps.Failure{Cause: "cp2: it fails", Hint: "look at the disk"}}}})
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(out.String(), "look at the disk"); n != 1 {
		t.Errorf("%d times:\n%s", n, out.String())
	}
}
