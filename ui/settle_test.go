package ui

import (
	"context"
	"errors"
	"strings"
	"testing"

	"etcd-rewind/problem"
	"etcd-rewind/settle"
)

// owing is a cluster that owes something.
type owing struct {
	found   settle.Found
	err     error
	others  []bool
	settled []string
	fails   error
	wait    func(ctx context.Context) // before Find returns
}

func (o *owing) Find(ctx context.Context, others bool, tell func(string)) (*settle.Found, error) {
	o.others = append(o.others, others)
	tell("comparing the API, etcd and the nodes")
	if o.wait != nil {
		o.wait(ctx)
	}
	if err := errors.Join(ctx.Err(), o.err); err != nil {
		return nil, err
	}
	f := o.found
	return &f, nil
}

func (o *owing) Settle(_ context.Context, d settle.Debt) (settle.Settled, error) {
	o.settled = append(o.settled, d.Name())
	if o.fails != nil {
		return settle.Settled{Debt: d, Error: problem.Line(o.fails)}, o.fails
	}
	return settle.Settled{Debt: d, Done: true, Said: "all is well with " + d.Object}, nil
}

func owes() *owing {
	return &owing{found: settle.Found{
		Asked: []string{"cp1"}, Others: []string{"w7", "w8"},
		Debts: []settle.Debt{
			{Kind: "kubeadm-config", Object: "kube-system/kubeadm-config", Is: "etcd.local.dataDir is /var/lib/etcd, and etcd runs on /var/lib/etcd-20261120-120000", Means: "the next kubeadm upgrade writes etcd.yaml from it, and starts etcd on the old data", Commands: []string{"kubectl -n kube-system get configmap kubeadm-config -o yaml | sed 's|^\\( *dataDir: \\).*|\\1/var/lib/etcd-20261120-120000|' | kubectl replace -f -"}, Offered: true},
			{Kind: "node-missing", Object: "w7", Is: "its kubelet runs, and the node isn't in the API", Means: "its kubelet keeps running the pods it has", Commands: []string{"ssh w7 'systemctl restart kubelet'"}, Offered: true, Sure: "kubelet on w7 is restarted. Its containers keep running."},
			{Kind: "volume", Object: "pvc-1", Is: "this volume belongs to the claim shop/data, which isn't in the API", Means: "its reclaim policy is Delete: the controller deletes it with its data. Set Retain first", Commands: []string{"kubectl describe pv pvc-1"}},
		},
		Unread: []settle.Unread{{Kind: "kubelet-pods", Node: "w8", Cause: "it can't be reached: no route to host"}},
	}}
}

// After the summary of a restore comes what the cluster still owes: each debt with
// what was seen and what follows; one is settled after a question, one after two,
// and the rest is for people.
func TestWhatIsOwedIsSettledAfterTheSummary(t *testing.T) {
	o := owes()
	d := drive(t, newFake(), Options{Settling: o})
	d.to(runScreen)
	d.until("Restored:")
	d.see("enter what the cluster still owes")
	d.key("enter")
	d.until("2 to settle here, 1 to look at")
	d.see("kubeadm would start the old data", "and etcd runs on", "the next kubeadm upgrade", "$ kubectl -n kube-system", "enter settle it", "Not asked: w7 and w8")

	d.key("?")
	d.see("the data that the restore replaced")
	d.key("esc", "enter")
	d.see("Settle it: kubeadm would start the old data?", "y settle it")
	d.update(keyMsg("y")) // meant for what was there before
	if len(o.settled) > 0 {
		t.Fatal("it was settled by a key that nobody meant for the question")
	}
	d.key("n")
	if len(o.settled) > 0 {
		t.Fatal("it was settled")
	}
	d.key("enter", "y")
	d.see("Settled: all is well with kube-system/kubeadm-config.", "1 to settle here, 1 settled, 1 to look at")

	d.key("enter")
	d.see("▸ ! A node isn't in the API", "w7")
	d.key("enter", "y")
	d.see("Do it now?", "kubelet on w7 is restarted")
	if len(o.settled) != 1 {
		t.Fatalf("settled: %v", o.settled)
	}
	d.key("n", "enter", "y", "y")
	d.see("all is well with w7")

	d.key("j", "enter")
	d.see("This one is up to you", "its reclaim policy is Delete")
	if len(o.settled) != 2 {
		t.Errorf("settled: %v", o.settled)
	}
	var told strings.Builder
	tellSettled(&told, d.m.look, d.m.owed.kept)
	if strings.Count(told.String(), "settled:") != 2 {
		t.Errorf("the terminal keeps %q", told.String())
	}
	d.key("esc")
	d.see("Restored:")
}

// It is reached from the first screen, days later; a look that is left ends, and
// what fails can be tried again.
func TestWhatIsOwedIsReachedFromTheFirstScreen(t *testing.T) {
	o := owes()
	o.fails = problem.New("look at its log", "kubelet doesn't come up")
	d := drive(t, newFake(), Options{Settling: o})
	d.to(nodeScreen)
	d.see("o what is owed")
	d.key("o", "j")
	d.key("enter", "y", "y")
	d.see("Not settled: kubelet doesn't come up", "failed")
	o.fails = nil
	d.key("enter", "y", "y")
	d.see("all is well with w7")
	d.key("k", "s")
	d.see("skipped")

	d.key("a")
	if len(o.others) != 2 || !o.others[1] {
		t.Errorf("asked: %v", o.others)
	}
	d.key("esc")
	d.see("choose the snapshot")

	o.wait = func(ctx context.Context) { <-ctx.Done() }
	cmd := d.m.wish(d.m.press(keyMsg("o")))
	over := make(chan any, 1)
	go func() { over <- cmd() }()
	d.see("Checking what the cluster still owes")
	d.key("esc")
	d.update(<-over)
	d.see("choose the snapshot")

	o.wait, o.found = nil, settle.Found{Asked: []string{"cp1"}}
	d.key("o")
	d.see("The cluster owes nothing, as far as could be checked", "Kubelets asked: cp1.")
	o.err = problem.New("is the API up?", "it can't be read")
	d.key("r")
	d.see("it can't be read", "is the API up?")
}

// A wizard that can't settle offers nothing.
func TestWithoutSettlingNothingIsOffered(t *testing.T) {
	d := drive(t, newFake(), Options{})
	d.to(nodeScreen)
	d.dontSee("owed")
	d.key("o")
	d.see("choose the snapshot")
}

// Each kind that is found is explained.
func TestEachDebtIsExplained(t *testing.T) {
	for _, kind := range settle.Kinds() {
		s := owedPane{}
		s.Set(&settle.Found{Debts: []settle.Debt{{Kind: kind}}}, nil)
		if h := s.Help(); h.Title == kind || len(h.Paragraphs[0]) < 80 {
			t.Errorf("%s: %+v", kind, h)
		}
	}
}
