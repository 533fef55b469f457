package fleet

import (
	"bufio"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"etcd-rewind/defect"
	"etcd-rewind/manifest"
	"etcd-rewind/node"
	"etcd-rewind/problem"
	"etcd-rewind/restore"
	"etcd-rewind/snapshot"
	"etcd-rewind/steps"
	"etcd-rewind/trust"
)

// Pace is how long the conductor waits for what.
type Pace struct {
	Hello     time.Duration // for an agent to start
	Ping      time.Duration // between two words to an agent
	Silence   time.Duration // of an agent until it counts as gone
	Stagger   time.Duration // for one node's etcd to stop or start before the next
	Reconnect time.Duration // to a node that dropped off, until somebody is asked
	Pause     time.Duration // before the second try of a connection; each takes twice as long, up to 8 s

	// A node that answers pings and nothing else counts as down, too.
	Answer  time.Duration // for an answer to a question
	Still   time.Duration // without progress while a snapshot is sent or read there
	Most    time.Duration // for an answer in all; a snapshot that is being sent has none
	Staging time.Duration // without an event, until a run has staged the restore
	Quiet   time.Duration // without an event after that: a wait sends one a second
	Unheard time.Duration // without an event, until that is reported
	Behind  time.Duration // for a node whose undo has failed to come up all the same, where others wait for it
	Stop    time.Duration // without an event from a node after it was asked to stop; in all it has six times as long
}

// RealPace is for networks and machines as they are.
var RealPace = Pace{
	Hello: 60 * time.Second, // a copy of the program may be on its way
	Ping:  2 * time.Second, Silence: 10 * time.Second, Stagger: 8 * time.Second, Reconnect: 60 * time.Second, Pause: 500 * time.Millisecond,
	Answer: time.Minute, Still: 2 * time.Minute, Most: 30 * time.Minute,
	Staging: 5 * time.Minute, Quiet: 90 * time.Second, Unheard: 5 * time.Second, Behind: 20 * time.Second, Stop: 10 * time.Second,
}

// Conductor runs several nodes as one: restore.Nodes over a remote shell.
type Conductor struct {
	Dialer Dialer
	Rsh    []string // for the record: how Dialer reaches the others; nil for ssh
	Pace   Pace     // the zero value means RealPace
	// Version is this program's; agents of others are refused.
	Version string
	Now     func() time.Time // nil means time.Now
	// Answers says whether somebody listens at a URL's port; nil means to try.
	Answers func(ctx context.Context, url string) bool
	// Silent gets, once a second and from a goroutine of its own, which nodes have
	// not answered for a while and what they were asked for; "" when all have. It is
	// not called after the method that asks has returned. May be nil.
	Silent func(who string)

	want  restore.Want
	found []restore.Member
	file  *os.File // the snapshot, from the first Send to Close
	at    string   // its path, without links
	put   putOrder
	nodes []*fleetNode
	rec   restore.Record

	verb   restore.Verb              // of the earlier run; "" for a restore
	states map[string]steps.RunState // of the earlier run, by node

	waiting sync.Mutex // waits
	waits   []*awaited
	every   time.Duration // between two calls of Silent; 0 is a second

	leaving sync.Once
	left    chan struct{} // closed by Leave
	made    sync.Once     // left
}

// Leave makes what is under way return at once, with what is known: the agents
// stop by themselves when their conductor is gone. It may be called at any time
// and from any goroutine.
func (c *Conductor) Leave() { c.leaving.Do(func() { close(c.leave()) }) }

// Left says whether Leave was called.
func (c *Conductor) Left() bool {
	select {
	case <-c.leave():
		return true
	default:
		return false
	}
}

func (c *Conductor) leave() chan struct{} {
	c.made.Do(func() { c.left = make(chan struct{}) })
	return c.left
}

// fleetNode is a node of the fleet, and the connection to its agent.
type fleetNode struct {
	name  string
	at    string // the address by which it was found; "" for a member
	local bool
	try   []string // hosts
	facts *restore.NodeFacts
	link  *link
	path  string // of the snapshot there
}

func (c *Conductor) pace() Pace {
	if c.Pace == (Pace{}) {
		return RealPace
	}
	return c.Pace
}

func (c *Conductor) now() time.Time {
	if c.Now != nil {
		return c.Now()
	}
	return time.Now()
}

// Close ends the connections. Safe to call twice.
func (c *Conductor) Close() error {
	var all sync.WaitGroup
	for _, n := range c.nodes {
		switch l := n.link; {
		case l == nil:
		case c.Left():
			l.abandon(errors.New("you left"))
		default:
			all.Go(defect.Do(l.bye))
		}
		n.link = nil
	}
	all.Wait()
	if f := c.file; f != nil {
		c.file = nil
		return f.Close()
	}
	return nil
}

// Names are those of the nodes that take part: their members' names, as events
// have them.
func (c *Conductor) Names() []string {
	var names []string
	for _, n := range c.nodes {
		names = append(names, n.name)
	}
	return names
}

// command is the command that does something with this run, with the flags that
// find the nodes' files.
func (c *Conductor) command(verb string) string {
	return c.want.Paths.Command(verb, c.rec.Run)
}

// Here is the name of the node that the conductor runs on, by its kubelet: what
// the user types to confirm.
func (c *Conductor) Here() string {
	for _, n := range c.nodes {
		if n.local && n.facts != nil {
			return n.facts.Node
		}
	}
	return ""
}

// connect starts the agent of a node.
func (c *Conductor) connect(ctx context.Context, n *fleetNode, note func(message)) (*link, error) {
	dial := func(host string) (*link, error) {
		ctx, cancel := context.WithTimeout(ctx, c.pace().Hello)
		defer cancel()
		var conn *Conn
		var err error
		if n.local {
			conn, err = c.Dialer.Local(ctx)
		} else {
			conn, err = c.Dialer.Dial(ctx, host)
		}
		if err != nil {
			return nil, err
		}
		l, err := newLink(ctx, conn, c.pace(), note)
		if err != nil {
			return nil, err
		}
		if c.Version != "" && l.hello.Version != c.Version {
			l.bye()
			return nil, problem.New("use the same version on all nodes", "version %s is there, and %s here", l.hello.Version, c.Version)
		}
		if _, err := call[struct{}](ctx, l, doUse, c.want.Paths); err != nil {
			l.bye()
			return nil, err
		}
		return l, nil
	}
	hosts := n.try
	if n.local {
		hosts = []string{""}
	}
	var failed *problem.Problem
	for _, host := range hosts {
		l, err := dial(host)
		if err == nil {
			l.host = host
			return l, nil
		}
		p := problem.From(err)
		if host != "" {
			p = p.About(host)
		}
		if failed != nil {
			p.Cause, p.Hint = failed.Cause+"; "+p.Cause, cmp.Or(failed.Hint, p.Hint)
		}
		if failed = p; ctx.Err() != nil {
			break
		}
	}
	if failed == nil {
		return nil, problem.New("", "no host is known for it")
	}
	return nil, failed
}

// Discover finds the members, reaches their nodes and reads what they are.
// Nothing is changed on them, but for this program's own copy in a temporary
// directory of its own. What blocks a restore is in the verdicts; the error is
// for what makes everything else pointless.
func (c *Conductor) Discover(ctx context.Context, w restore.Want) ([]restore.Member, []steps.Verdict, error) {
	defer c.spoken()()
	c.want = w
	me := &fleetNode{local: true}
	if err := c.contact(ctx, me); err != nil {
		return nil, nil, err
	}
	if !takesPart(me.facts) {
		return nil, nil, problem.New("", "%s", cmp.Or(me.facts.EtcdErr, "this node has no etcd"))
	}
	me.name = me.facts.Name()
	c.nodes = []*fleetNode{me}
	asked, away := map[string]bool{me.name: true}, map[string]string{}
	for _, name := range w.Without {
		if name == me.name {
			return nil, nil, problem.New("run it on another node", "%s is this node: it can't be excluded", name)
		}
		asked[name] = true
	}
	if w.Nodes != nil {
		if err := c.reach(ctx, c.named(w.Nodes, me), away); err != nil {
			return nil, nil, err
		}
		for _, n := range c.nodes {
			asked[n.name] = true
		}
	}
	// Each node that is reached may name more.
	for w.Nodes == nil {
		var more []*fleetNode
		all := c.union()
		if len(all) > mostMembers {
			return nil, nil, problem.New("--nodes names those that take part", "etcd and the nodes name more than %d members", mostMembers)
		}
		for _, m := range all {
			if !asked[m.Name] {
				asked[m.Name] = true
				try := c.hosts(m)
				if len(try) == 0 {
					away[m.Name] = "only the snapshot has its address: " + cmp.Or(strings.Join(m.PeerURLs, ", "), "no address")
					continue
				}
				more = append(more, &fleetNode{name: m.Name, try: try})
			}
		}
		for _, a := range c.beyond() {
			if a.by == restore.InSnapshot && w.Hosts[a.address] == "" {
				continue // as of a member that only the snapshot names
			}
			if at := "at " + a.address; !asked[at] && !slices.Contains(w.Without, a.address) {
				asked[at] = true
				more = append(more, &fleetNode{at: a.address, try: []string{cmp.Or(w.Hosts[a.address], a.address)}})
			}
		}
		if len(more) == 0 {
			break
		}
		if err := c.reach(ctx, more, away); err != nil {
			return nil, nil, err
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	c.found = c.union()
	answers := map[string]bool{}
	for i := range c.found {
		m := &c.found[i]
		m.Out, m.Err = slices.Contains(w.Without, m.Name), away[m.Name]
		for _, n := range c.nodes {
			if n.name == m.Name {
				m.Facts, m.Roles, m.Host, m.Local = n.facts, n.facts.Roles, n.link.host, n.local
				m.PeerURLs, m.Err = n.facts.PeerURLs, "" // the node knows best
			}
		}
		if m.Out {
			answers[m.Name] = !m.OnlySnapshot() && slices.ContainsFunc(m.PeerURLs, func(u string) bool { return c.answers(ctx, u) })
		} else if m.Facts == nil && m.Err == "" {
			m.Err = "it isn't among the nodes that were named"
		}
	}
	for _, m := range c.others(away) {
		if m.Out {
			answers[m.Name] = c.answers(ctx, c.ready(m.Name))
		}
		c.found = append(c.found, m)
	}
	for _, name := range w.Without {
		if !slices.ContainsFunc(c.found, func(m restore.Member) bool { return m.Name == name }) {
			return nil, nil, problem.New("", "there is no member %s to exclude", name)
		}
	}
	verdicts := append(judge(c.found, answers), c.judgeAPI(c.found, answers)...)
	if odd := strange(w.Info); len(odd) > 0 {
		verdicts = append(verdicts, steps.Verdict{
			Check: steps.CheckMembers, Title: "Members", Level: steps.Warn,
			Cause: "the snapshot names members that can't be: " + strings.Join(odd, "; "), Hint: "is it this cluster's snapshot?",
		})
	}
	return c.found, verdicts, nil
}

// strange are the members in a snapshot whose names or addresses can't be those
// of any: they are taken for nothing.
func strange(info *snapshot.Info) []string {
	var odd []string
	if info == nil {
		return nil
	}
	for _, m := range info.Members {
		err := validURLs(m.PeerURLs)
		if m.Name != "" {
			err = cmp.Or(trust.Name(m.Name), err)
		}
		if err != nil {
			odd = append(odd, err.Error())
		}
	}
	return odd
}

// contact connects to a node and reads its facts.
func (c *Conductor) contact(ctx context.Context, n *fleetNode) error {
	connected := c.awaits(n, "connecting")
	l, err := c.connect(ctx, n, nil)
	connected()
	if err != nil {
		return err
	}
	defer c.awaits(n, "what it is")()
	if n.facts, err = call[*restore.NodeFacts](ctx, l, doFacts, struct{}{}); err != nil {
		l.bye()
		return err
	}
	n.link = l
	return nil
}

// reach connects to nodes at the same time. Who isn't reached is in away.
func (c *Conductor) reach(ctx context.Context, nodes []*fleetNode, away map[string]string) error {
	errs := make([]error, len(nodes))
	var all sync.WaitGroup
	for i, n := range nodes {
		all.Go(defect.Do(func() { errs[i] = c.contact(ctx, n) }))
	}
	all.Wait()
	var wrong error
	for i, n := range nodes {
		switch {
		case errs[i] != nil && n.at != "":
			away[n.at] = errs[i].Error()
			continue
		case errs[i] != nil && n.name == "":
			wrong = cmp.Or(wrong, errs[i])
			continue
		case errs[i] != nil:
			away[n.name] = errs[i].Error()
			continue
		}
		if n.at != "" && slices.ContainsFunc(c.nodes, func(o *fleetNode) bool { return o.facts.Node == n.facts.Node && o.name == n.facts.Name() }) {
			n.link.bye() // another address of a node that is known
			n.link = nil
			continue
		}
		c.nodes = append(c.nodes, n) // Close ends its connection in any case
		is := n.facts.Name()
		twice := slices.ContainsFunc(c.nodes[:len(c.nodes)-1], func(o *fleetNode) bool { return o.name == is })
		switch {
		case !takesPart(n.facts):
			wrong = cmp.Or(wrong, error(problem.New("", "%s: %s", n.link.host, cmp.Or(n.facts.EtcdErr, "there is no etcd"))))
		case n.name != "" && n.name != is:
			wrong = cmp.Or(wrong, error(problem.New("--host NAME=HOST names the right one", "the host %s is the member %s, not %s", n.link.host, is, n.name)))
		case twice:
			wrong = cmp.Or(wrong, error(problem.New("name each host once, and not this one", "the host %s is the member %s, which is there already", n.link.host, is)))
		}
		n.name = is
	}
	return wrong
}

// takesPart says whether a node has something to do in a restore: etcd, or an
// API server and nothing that would be an etcd.
func takesPart(f *restore.NodeFacts) bool {
	return f.Member != "" || f.Runs(steps.RoleAPI) && !f.Runs(steps.RoleEtcd)
}

// named are the nodes that the user names by their hosts.
func (c *Conductor) named(hosts []string, me *fleetNode) []*fleetNode {
	var nodes []*fleetNode
	for _, h := range hosts {
		if h == me.facts.Member || h == me.facts.Node {
			continue
		}
		try := []string{cmp.Or(c.want.Hosts[h], h)} // the user's word
		nodes = append(nodes, &fleetNode{try: try})
	}
	return nodes
}

// hosts are where a member's node may be reached: what the user says, else its
// name and its address by etcd or an etcd.yaml. What only a snapshot names is
// not dialled: the snapshot, with all Secrets in it, would be sent there.
func (c *Conductor) hosts(m restore.Member) []string {
	if h := c.want.Hosts[m.Name]; h != "" {
		return []string{h}
	}
	var try []string
	if m.OnlySnapshot() {
		return nil
	}
	for _, h := range []string{m.Name, peerHost(m.PeerURLs)} {
		if trust.Host(h) == nil && !slices.Contains(try, h) {
			try = append(try, h)
		}
	}
	return try
}

// union are the members as they are known so far.
func (c *Conductor) union() []restore.Member {
	lists := named{}
	for _, n := range c.nodes {
		lists[restore.InManifest] = append(lists[restore.InManifest], n.facts.InitialCluster...)
		if n.facts.Member != "" {
			lists[restore.InManifest] = append(lists[restore.InManifest], manifest.Member{Name: n.facts.Member, PeerURLs: n.facts.PeerURLs})
		}
		if n.facts.Live != nil {
			lists[restore.InEtcd] = append(lists[restore.InEtcd], n.facts.Live.Members...)
		}
	}
	if len(lists[restore.InEtcd]) == 0 { // none answers: they are as it was when one wrote last
		for _, n := range c.nodes {
			lists[restore.InEtcd] = append(lists[restore.InEtcd], n.facts.LastMembers...)
		}
	}
	if c.want.Info != nil {
		lists[restore.InSnapshot] = known(c.want.Info.Members)
	}
	return union(lists)
}

// known are members whose names and addresses can be those of any; strange tells
// of the others.
func known(members []snapshot.Member) (all []manifest.Member) {
	for _, m := range members {
		if trust.Name(m.Name) == nil && validURLs(m.PeerURLs) == nil {
			all = append(all, manifest.Member{Name: m.Name, PeerURLs: m.PeerURLs})
		}
	}
	return all
}

func (c *Conductor) answers(ctx context.Context, peer string) bool {
	if c.Answers != nil {
		return c.Answers(ctx, peer)
	}
	u, err := url.Parse(peer)
	if err != nil {
		return false
	}
	conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", u.Host)
	if err != nil {
		return false
	}
	return conn.Close() == nil
}

// each asks all nodes at the same time; the first error names its node.
func (c *Conductor) each(do func(n *fleetNode) error) error {
	errs := make([]error, len(c.nodes))
	var all sync.WaitGroup
	for i, n := range c.nodes {
		all.Go(defect.Do(func() { errs[i] = do(n) }))
	}
	all.Wait()
	for i, n := range c.nodes {
		if errs[i] != nil {
			return problem.From(errs[i]).About(n.name)
		}
	}
	return nil
}

// Send brings the snapshot to the other nodes, to all at the same time: the very
// file that was looked at, opened once. What is cut off is continued over a new
// connection. progress may be nil; it is called from several goroutines, with the
// node's name and bytes.
func (c *Conductor) Send(ctx context.Context, progress func(node string, done, total int64)) error {
	path, err := c.hold(ctx)
	if err != nil {
		return err
	}
	from, err := newOutgoing(c.file, c.put.Size)
	if err != nil {
		return err
	}
	return c.each(func(n *fleetNode) error {
		if n.local {
			n.path = path
			return nil
		}
		return c.bring(ctx, n, from, func(done, total int64) {
			if progress != nil {
				progress(n.name, done, total)
			}
		})
	})
}

// hold opens the snapshot, once, and makes sure that it is the one that was
// looked at. It returns where the file is: a link may lead elsewhere a moment
// later, and the file that it led to is what is restored.
func (c *Conductor) hold(ctx context.Context) (path string, err error) {
	if path, err = filepath.EvalSymlinks(c.want.Info.Path); err != nil {
		return "", err
	}
	if path, err = filepath.Abs(path); err != nil {
		return "", err
	}
	f := c.file
	if f == nil {
		if f, err = os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0); err != nil {
			return "", err
		}
		c.file, c.at = f, path
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return "", err
	}
	content := size
	if h := c.want.Info.Hash; h == snapshot.HashOK || h == snapshot.HashUnchecked {
		content -= sha256.Size
	}
	sum, in := sha256.New(), bufio.NewReaderSize(&untilDone{ctx, io.NewSectionReader(f, 0, size)}, 1<<20)
	if _, err := io.CopyN(sum, in, content); err != nil {
		return "", fmt.Errorf("read %s: %w", c.want.Info.Name, err)
	}
	if is := hex.EncodeToString(sum.Sum(nil)); is != c.want.Info.SHA256 {
		return "", problem.New("choose it again, by the name of the file and not of a link", "%s is no longer the snapshot that was verified: its sha256 is %.12s…, and was %.12s…", c.want.Info.Name, is, c.want.Info.SHA256)
	}
	if _, err := io.Copy(sum, in); err != nil {
		return "", fmt.Errorf("read %s: %w", c.want.Info.Name, err)
	}
	c.put = putOrder{Size: size, SHA256: hex.EncodeToString(sum.Sum(nil))}
	return c.at, nil
}

// untilDone reads until its context ends.
type untilDone struct {
	ctx context.Context
	r   io.Reader
}

func (u *untilDone) Read(p []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.r.Read(p)
}

// settle decides what is the same on all nodes.
func (c *Conductor) settle(ch steps.Choices) steps.Choices {
	if c.rec.Run == "" {
		var taken []string
		for _, n := range c.nodes {
			taken = append(taken, n.facts.LatestRun)
		}
		c.rec = restore.Record{Run: steps.NextRunName(c.now(), taken...), Rsh: c.Rsh, Paths: c.want.Paths}
		before := map[string]bool{}
		for i := range c.found {
			if !c.found[i].Apart {
				before[c.found[i].Name] = true
			}
		}
		c.rec.Before = len(before)
		slices.SortFunc(c.nodes, func(a, b *fleetNode) int { return cmp.Compare(a.name, b.name) })
		for _, n := range c.nodes {
			if n.facts.Member != "" {
				c.rec.Members = append(c.rec.Members, manifest.Member{Name: n.name, PeerURLs: n.facts.PeerURLs})
			}
			try := n.try
			if n.local {
				try = c.hosts(restore.Member{Name: n.name, PeerURLs: n.facts.PeerURLs})
			}
			c.rec.Nodes = append(c.rec.Nodes, restore.NodeHosts{Name: n.name, Try: try})
		}
	}
	if ch.Bump == nil && c.want.Info != nil {
		f := &steps.Facts{}
		for _, n := range c.nodes {
			if l := n.facts.Live; l != nil && (f.Live == nil || l.Revision > f.Live.Revision) {
				f.Live = &node.EtcdStatus{Revision: l.Revision}
			}
		}
		ch.Bump = f.Settle(c.want.Info, ch).Bump
	}
	if len(c.want.Without) > 0 {
		ch.Accept = append(slices.Clone(ch.Accept), "topology") // that is what --without says
	}
	return ch
}

// order is what a node gets to restore.
func (c *Conductor) order(n *fleetNode, ch steps.Choices) Order {
	f := &steps.Fleet{Run: c.rec.Run, Token: "etcd-rewind-" + c.rec.Run, Members: c.rec.Members}
	for _, o := range c.nodes {
		if o != n {
			f.Others = append(f.Others, remote(o.facts))
		}
		f.ClusterID = cmp.Or(f.ClusterID, o.facts.Cluster())
	}
	ch.Fleet = f
	o := Order{Snapshot: n.path, Choices: ch}
	if c.want.Info != nil && n.path != "" {
		o.SHA256, o.Name = c.want.Info.SHA256, trust.Clip(trust.Text(snapshot.FullName(c.want.Info.Name)), longestPath-100)
	}
	return o
}

// Check has every node look at itself and at its copy of the snapshot.
func (c *Conductor) Check(ctx context.Context, ch steps.Choices) ([]restore.Checked, error) {
	defer c.spoken()()
	ch = c.settle(ch)
	out := make([]restore.Checked, len(c.nodes))
	err := c.each(func(n *fleetNode) error {
		defer c.awaits(n, "its checks")()
		v, err := call[[]steps.Verdict](ctx, n.link, doCheck, c.order(n, ch))
		out[slices.Index(c.nodes, n)] = restore.Checked{Node: n.name, Verdicts: v}
		return err
	})
	return out, err
}

// Plan plans the restore on every node; Check comes before.
func (c *Conductor) Plan(ctx context.Context, ch steps.Choices) ([]*steps.Plan, error) {
	ch = c.settle(ch)
	return c.plans(func(n *fleetNode) (*steps.Plan, error) {
		o := c.order(n, ch)
		p, err := call[*steps.Plan](ctx, n.link, doPlan, o)
		if err != nil {
			return nil, err
		}
		if r := p.Restore; p.Kind != steps.KindRestore || r == nil || r.SnapshotSHA256 != o.SHA256 || r.Token != o.Choices.Fleet.Token {
			return nil, problem.New("use the same version on all nodes", "its plan isn't of this run and this snapshot")
		}
		return p, nil
	})
}

func (c *Conductor) plans(ask func(n *fleetNode) (*steps.Plan, error)) ([]*steps.Plan, error) {
	defer c.spoken()()
	out := make([]*steps.Plan, len(c.nodes))
	err := c.each(func(n *fleetNode) error {
		defer c.awaits(n, "its plan")()
		p, err := ask(n)
		if err == nil && p != nil && (p.Run != c.rec.Run || p.Node != n.facts.Node) {
			err = problem.New("use the same version on all nodes", "its plan is of %s and run %s", p.Node, p.Run)
		}
		out[slices.Index(c.nodes, n)] = p
		return err
	})
	return slices.DeleteFunc(out, func(p *steps.Plan) bool { return p == nil }), err
}

// Run runs what was planned last: a restore and a resume in step.
func (c *Conductor) Run(ctx context.Context, sink func(restore.NodeEvent), ask restore.Asker) (*restore.Result, error) {
	if c.rec.Run == "" {
		return nil, errors.New("there is no plan")
	}
	over := defect.During(c.command("undo --fleet"))
	res := c.conduct(ctx, c.machine(), sink, ask)
	over()
	if res.OK && c.verb == "" {
		_ = c.each(func(n *fleetNode) error {
			if n.local || n.link == nil {
				return nil
			}
			_, err := call[struct{}](ctx, n.link, doDrop, c.put)
			return err
		})
	}
	return res, nil
}

// machine is that of the run that was planned.
func (c *Conductor) machine() *machine {
	m := &machine{
		verb: c.verb, members: len(c.rec.Members), before: c.rec.Before, command: c.command, pace: c.pace(),
		opened: map[steps.Phase]time.Time{}, touched: c.verb != "",
	}
	for _, n := range c.nodes {
		of := &nodeRun{name: n.name, noEtcd: !slices.ContainsFunc(c.rec.Members, func(m manifest.Member) bool { return m.Name == n.name }), linked: n.link != nil, leader: n.facts != nil && n.facts.Live != nil && n.facts.Live.Leader}
		if c.verb == restore.Resume && c.states[n.name] == steps.RunRestored {
			of.verb, of.reached, of.res = restore.Resume, len(steps.Phases), &steps.Result{OK: true}
		}
		m.nodes = append(m.nodes, of)
	}
	return m
}

// Open finds the nodes of an earlier run, by the record that this node has of it.
// It reports in which state that run is on each; a node that can't be reached is
// RunUnreachable.
func (c *Conductor) Open(ctx context.Context, rec restore.Record) (map[string]steps.RunState, error) {
	defer c.spoken()()
	c.rec, c.want.Paths = rec, rec.Paths
	me := &fleetNode{local: true}
	if err := c.contact(ctx, me); err != nil {
		return nil, err
	}
	states := map[string]steps.RunState{}
	c.states = states
	for _, h := range rec.Nodes {
		if h.Name == rec.Me {
			me.name, me.try = h.Name, h.Try
			c.nodes = append(c.nodes, me)
			continue
		}
		c.nodes = append(c.nodes, &fleetNode{name: h.Name, try: h.Try})
	}
	if me.name == "" {
		me.link.bye()
		return nil, problem.New("", "%s takes no part in run %s", me.facts.Node, rec.Run)
	}
	var mu sync.Mutex
	err := c.each(func(n *fleetNode) error {
		state := restore.RunUnreachable
		if !n.local {
			if err := c.contact(ctx, n); err != nil {
				mu.Lock()
				defer mu.Unlock()
				states[n.name] = state
				return nil
			}
		}
		defer c.awaits(n, "its runs")()
		runs, err := call[[]steps.RunInfo](ctx, n.link, doRuns, struct{}{})
		if err != nil {
			return err
		}
		state = ""
		for _, r := range runs {
			if r.Run == rec.Run {
				state = r.State
			}
		}
		mu.Lock()
		defer mu.Unlock()
		states[n.name] = state
		return nil
	})
	return states, err
}

// PlanAgain plans what is done with the run that was opened.
func (c *Conductor) PlanAgain(ctx context.Context, v restore.Verb) ([]*steps.Plan, error) {
	c.verb = v
	if err := c.applies(v); err != nil {
		return nil, err
	}
	plans, err := c.plans(func(n *fleetNode) (*steps.Plan, error) {
		if n.link == nil {
			return nil, nil
		}
		r, err := call[planReply](ctx, n.link, doPlanAgain+string(v), RunOf{c.rec.Run})
		return r.Plan, err
	})
	if err == nil && len(plans) == 0 && v != restore.Resume {
		err = problem.New("", "there is nothing to %s on the nodes that can be reached", v)
	}
	return plans, err
}

// applies says why a verb doesn't apply to the run, nil when it does.
func (c *Conductor) applies(v restore.Verb) error {
	restored := 0
	for _, n := range c.nodes {
		switch state := c.states[n.name]; {
		case v == restore.Undo:
		case state == "":
			return problem.New("undo it on the others: "+c.command("undo --fleet"), "%s has no run %s", n.name, c.rec.Run)
		case state == steps.RunRestored:
			restored++
		case state == steps.RunUndone && v == restore.Resume:
			return problem.New("undo it on the others too: "+c.command("undo --fleet"), "run %s was undone on %s", c.rec.Run, n.name)
		case state == steps.RunUntouched && v == restore.Redo:
			return problem.New("restore the snapshot again: etcd-rewind restore --fleet", "run %s has restored nothing on %s", c.rec.Run, n.name)
		case state == restore.RunUnreachable && v == restore.Redo:
			return problem.New("the run may not have been undone there: make it reachable first", "%s can't be reached", n.name)
		}
	}
	if restored == len(c.nodes) {
		return problem.New(c.command("undo --fleet")+" reverts it", "run %s has finished on all nodes", c.rec.Run)
	}
	return nil
}
