package ui

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"etcd-rewind/restore"
	"etcd-rewind/steps"
	"etcd-rewind/trust"
	"etcd-rewind/ui/pane"
	"etcd-rewind/ui/text"
)

// membersPane shows who the members are, and what is to be decided of them.
type membersPane struct {
	busy  bool
	since time.Time
	asked int // older answers don't count

	members []restore.Member
	names   []string // of the nodes that take part; none for a node alone
	err     error

	cur    int
	scroll pane.Scroller
	typing *pane.Field // the host of the current one

	hosts   map[string]string // by the user, over those of the command line
	without []string
	kept    map[string]bool // that not all sources name, and that take part
}

type membersMsg struct {
	asked int
	flow  restore.Flow
	names []string
	err   error
}

// toMembers shows the members of the cluster, as it is known with the chosen
// snapshot.
func (m *model) toMembers() tea.Cmd {
	m.screen = membersScreen
	if m.nodes.session != nil && m.flow.Want.Info == m.info && len(m.members.names) > 0 && m.members.err == nil {
		return nil
	}
	return m.findMembers()
}

// findMembers reaches for all nodes anew.
func (m *model) findMembers() tea.Cmd {
	p := &m.members
	p.asked++
	p.busy, p.since, p.err, p.typing = true, m.now(), nil, nil
	m.checks.asked++ // of nodes that are let go
	m.begin(func() (restore.Nodes, error) { return m.options.Nodes(nil), nil })
	asked, s, f := p.asked, m.nodes.session, m.flowNow()
	return func() tea.Msg {
		msg := membersMsg{asked: asked}
		msg.err = s.do(func(ctx context.Context, n restore.Nodes) (err error) {
			f.Nodes = n
			err = f.Find(ctx)
			msg.names = slices.Sorted(slices.Values(n.Names()))
			return err
		})
		msg.flow = f
		return msg
	}
}

func (m *model) foundMembers(msg membersMsg) {
	p := &m.members
	if msg.asked != p.asked {
		return
	}
	m.flow = msg.flow
	p.set(msg.flow.Members, msg.names, msg.err)
	// What was decided here isn't asked again among the checks.
	for _, v := range m.flow.Found() {
		if v.Check == steps.CheckMembers && v.Level == steps.Warn && len(p.kept) > 0 {
			m.checks.accepted[judged{v, text.TheCluster}.key()] = v
		}
	}
}

// set takes the members as they were found.
func (p *membersPane) set(members []restore.Member, names []string, err error) {
	at := ""
	if c := p.current(); c != nil {
		at = c.Name
	}
	p.busy, p.err, p.members, p.names = false, err, members, names
	if err != nil {
		p.members = nil
		return
	}
	p.cur = max(0, slices.IndexFunc(p.members, func(o restore.Member) bool { return o.Name == at }))
	if at == "" {
		p.next()
	}
}

func (p *membersPane) current() *restore.Member {
	if p.cur < 0 || p.cur >= len(p.members) {
		return nil
	}
	return &p.members[p.cur]
}

// odd says whether a member is to be decided on: not all sources name it.
func (p *membersPane) odd(m *restore.Member) bool {
	return !m.Out && len(m.Missing) > 0 && !p.kept[m.Name]
}

// open says whether there is something to settle about a member.
func (p *membersPane) open(m *restore.Member) bool {
	return !m.Out && m.Facts == nil || p.odd(m)
}

func (m *model) membersKey(k tea.KeyMsg) tea.Cmd {
	p := &m.members
	if p.typing != nil {
		named, note := p.typeHost(k, m.options.reachedBy())
		if m.note = note; named {
			return m.findMembers()
		}
		return nil
	}
	name := k.String()
	switch name {
	case "q":
		return m.quit()
	case "?":
		m.over = newOverlay(helpOverlay)
		return nil
	case "esc", "left":
		p.asked++
		if p.busy {
			p.busy = false
			m.nodes.close()
		}
		m.screen = chooseScreen
		return m.lookInside()
	case "r":
		return m.findMembers()
	case "a":
		if !m.here.canBeAlone() {
			m.note = "This node can't be restored alone: it is one of several members, and would become a cluster of one."
			return nil
		}
		m.here.alone = true
		m.here.judge(m.info)
		return m.thisNode()
	}
	if p.busy {
		return nil
	}
	if cur, ok := pane.Move(p.cur, len(p.members), name, 5); ok {
		p.cur = cur
		return nil
	}
	c := p.current()
	switch name {
	case "t":
		switch {
		case c == nil:
		case c.Out:
			p.without = slices.DeleteFunc(p.without, func(n string) bool { return n == c.Name })
			return m.findMembers()
		case p.odd(c):
			if p.kept == nil {
				p.kept = map[string]bool{}
			}
			p.kept[c.Name] = true
			p.next()
			m.foundMembers(membersMsg{p.asked, m.flow, p.names, nil})
		}
	case "o":
		switch {
		case c == nil:
		case c.Local:
			m.note = c.Name + " is this node. To exclude it, run etcd-rewind on another one."
		case c.Out:
			m.note = c.Name + " is excluded already; t includes it again."
		default:
			m.ask(p.askToExclude())
		}
	case "h":
		switch {
		case c == nil || c.Out:
		case c.Local:
			m.note = c.Name + " is this node: nothing has to reach it."
		default:
			p.typing = pane.NewField(m.look, p.host(c))
		}
	case "enter", "right":
		return m.membersDone()
	}
	return nil
}

// host is where a member is reached, or was tried last.
func (p *membersPane) host(c *restore.Member) string {
	if h := p.hosts[c.Name]; h != "" {
		return h
	}
	if c.Host != "" {
		return c.Host
	}
	if c.OnlySnapshot() {
		return "" // its word isn't taken for where to send a snapshot
	}
	return c.Name
}

// next goes to what is to be settled.
func (p *membersPane) next() {
	for n := range p.members {
		if i := (p.cur + n) % len(p.members); p.open(&p.members[i]) {
			p.cur = i
			return
		}
	}
}

func (m *model) membersDone() tea.Cmd {
	if m.note = m.members.undecided(); m.note != "" {
		return nil
	}
	return m.toChecks()
}

// undecided goes to a member that is to be decided on, and says so; "" when
// there is none.
func (p *membersPane) undecided() string {
	if p.err != nil || len(p.members) == 0 {
		return "Members unknown; r retries."
	}
	p.next()
	switch c := p.current(); {
	case !p.open(c):
		return ""
	case c.Facts == nil:
		return c.Name + " isn't reached: fix it and r, name another host with h, or exclude it with o."
	default:
		return c.Name + " isn't named everywhere: t includes it, o excludes it."
	}
}

// typeHost takes a key of the host; named says that it is complete.
func (p *membersPane) typeHost(k tea.KeyMsg, reachedBy string) (named bool, note string) {
	switch k.String() {
	case "esc":
		p.typing = nil
	case "enter":
		host := strings.TrimSpace(p.typing.Value())
		if host == "" {
			return false, "Type a host, as " + reachedBy + " knows it, or esc."
		}
		if p.hosts == nil {
			p.hosts = map[string]string{}
		}
		p.hosts[p.current().Name] = host
		return true, ""
	default:
		p.typing.Key(k)
	}
	return false, ""
}

// askToExclude asks before the current member is left out.
func (p *membersPane) askToExclude() question {
	name := trust.Text(p.current().Name)
	return question{
		Title: "Exclude " + name + " from the restored cluster?",
		Text:  []string{"The restored cluster then has only " + text.Listed(p.survivors()) + ". " + name + " is no longer a member, and its etcd must never run again on the data it has: stop kubelet there, or keep the machine off. To rejoin it, once the others are restored:"},
		Facts: text.Rejoin(),
		Answers: []answer{reply("y", "exclude it", func(m *model) tea.Cmd {
			p.without = append(p.without, p.current().Name)
			return m.findMembers()
		}), reply("n", "keep it", nil)},
	}
}

// survivors are those that are left when the current member is left out.
func (p *membersPane) survivors() []string {
	var names []string
	for i := range p.members {
		if o := &p.members[i]; !o.Out && i != p.cur {
			names = append(names, o.Name)
		}
	}
	return names
}

// view shows the members; rsh is what reaches them, and alone says that this node
// may be restored without them.
func (p *membersPane) view(l text.Look, now time.Time, rsh string, alone bool, w, h int) ([]string, string, []pane.Hint) {
	help := []pane.Hint{{"enter", "send the snapshot"}, {"r", "read again"}}
	tail := []pane.Hint{{"?", "help"}, {"esc", "back"}, {"q", "quit"}}
	switch {
	case p.busy:
		took := ""
		if s := now.Sub(p.since); s >= time.Second {
			took = "   " + text.Seconds(s.Seconds())
		}
		lines := []string{" " + text.Spin(now) + " " + l.Bold.Render("Reaching the nodes of the other members") + took, ""}
		lines = append(lines, text.Hang("   ", "Through "+rsh+", which has to work without a question. This program starts itself there as etcd-rewind agent; where it is missing, it is copied to a temporary directory and removed afterwards.", w-2)...)
		lines = append(lines, "")
		return append(lines, text.Hang("   ", "This only reads. Nothing is changed on any node before you have seen the plan and typed this node's name.", w-2)...), "", tail
	case p.err != nil:
		cause, advice := text.Explain(p.err)
		lines := []string{" " + l.Symbol(text.SymBad) + " " + l.Bold.Render("The members can't be found"), ""}
		return append(lines, text.Indent(3, text.Facts(text.Advice(cause, advice), w-4))...), "", append(help[1:], tail...)
	}
	taken, away := 0, 0
	for i := range p.members {
		switch {
		case p.members[i].Taken():
			taken++
		case !p.members[i].Out:
			away++
		}
	}
	head := text.Plural(taken, "control plane", "control planes") + " restored as one"
	switch {
	case away > 0:
		head = text.Plural(len(p.members), "member", "members") + ", " + text.Number(int64(away)) + " not reached"
	case slices.ContainsFunc(p.members, func(o restore.Member) bool { return p.odd(&o) }):
		head = text.Plural(taken, "control plane", "control planes") + "; not all are named everywhere"
	}
	lines := []string{" " + l.Bold.Render(head), ""}
	names := 0
	for _, o := range p.members {
		names = max(names, text.Width(trust.Text(o.Name)))
	}
	names = min(names, w/3)
	var rows []string
	for i := range p.members {
		rows = append(rows, p.row(l, i, names, w))
	}
	c := p.current()
	var detail []string
	if p.typing != nil {
		detail = text.Hang("   ", "Where "+l.Bold.Render(trust.Text(c.Name))+" is reached, as "+rsh+" knows it: a name of its configuration, a host, an address, USER@HOST.", w-2)
		detail = append(detail, "   "+p.typing.View(w-4))
		help, tail = []pane.Hint{{"enter", "take it"}}, []pane.Hint{{"esc", "back"}}
	} else if c != nil {
		detail = text.Indent(3, text.Facts(p.about(c), w-4))
		if !c.Local && !c.Out {
			help = slices.Insert(help, 1, pane.Hint{"h", "host"}, pane.Hint{"o", "exclude"})
		}
		if p.odd(c) {
			help = append([]pane.Hint{{"t", "include it"}}, help...)
		} else if c.Out {
			help = append([]pane.Hint{{"t", "include it"}}, help...)
		}
	}
	if alone && p.typing == nil {
		help = append(help, pane.Hint{"a", "this node alone"})
	}
	room := h - len(lines) - 1
	list := max(3, min(len(rows), room-len(detail)))
	p.scroll.Show(p.cur, p.cur, list)
	seen, where := p.scroll.Window(rows, list)
	lines = append(append(lines, seen...), "")
	if most := h - len(lines); len(detail) > most && most > 1 {
		detail = append(detail[:most-1:most-1], "   …")
	}
	return append(lines, detail...), where, append(help, tail...)
}

// row is a line about a member.
func (p *membersPane) row(l text.Look, i, names, w int) string {
	c := &p.members[i]
	mark, name := "  ", text.Fit(trust.Text(c.Name), names)
	if i == p.cur {
		mark, name = text.SymNow+" ", l.Bold.Render(name)
	}
	sym, how := text.SymDone, p.host(c)
	var say []string
	switch f := c.Facts; {
	case c.Out:
		sym, how, say = text.SymSkipped, "excluded", []string{"rejoin it later"}
	case f == nil:
		sym, say = text.SymBad, []string{"not reached: " + firstPart(c.Err)}
	default:
		if c.Local {
			how = "this node"
		}
		if roles := text.Roles(c.Roles); roles != "" {
			say = append(say, roles)
		}
		if f.KubernetesVersion != "" {
			say = append(say, "Kubernetes "+strings.TrimPrefix(f.KubernetesVersion, "v"))
		}
		if f.EtcdVersion != "" {
			say = append(say, "etcd "+f.EtcdVersion)
		}
		if f.FreeBytes > 0 {
			say = append(say, text.Size(int64(f.FreeBytes))+" free")
		}
		if p.odd(c) {
			sym = text.SymWarn
			say = append([]string{"only in " + sourcesText(c.KnownBy)}, say...)
		}
	}
	return text.Cut(" "+mark+l.Symbol(sym)+" "+name+"  "+text.Fit(trust.Text(how), 15)+"  "+trust.Text(strings.Join(say, " · ")), w)
}

// firstPart is the beginning of an error, without what is behind it.
func firstPart(s string) string {
	s, _, _ = strings.Cut(s, "; ")
	return s
}

func sourcesText(sources []restore.Source) string {
	var s []string
	for _, src := range sources {
		s = append(s, string(src))
	}
	return text.Listed(s)
}

// about is all that is known of a member.
func (p *membersPane) about(c *restore.Member) []steps.Fact {
	var list []steps.Fact
	add := func(name, value string) {
		if value != "" {
			list = append(list, steps.Fact{Name: name, Value: value})
		}
	}
	known := sourcesText(c.KnownBy)
	if len(c.Missing) > 0 {
		known += "; not in " + sourcesText(c.Missing)
	}
	add("Member", c.Name+"  "+strings.Join(c.PeerURLs, ", "))
	add("Named in", known)
	if len(c.Elsewhere) > 0 {
		add("In the snapshot", strings.Join(c.Elsewhere, ", "))
	}
	if p.odd(c) {
		add("Decide", "t when it belongs to the cluster (it joined later, say): it becomes a member of the restored one. o when it was removed or is lost.")
	}
	switch f := c.Facts; {
	case c.Out:
		add("Excluded", "the restored cluster has only the others; etcd must not run here any more. To rejoin it later:")
		list = append(list, text.Rejoin()...)
	case f == nil && c.OnlySnapshot():
		add("Not reached", c.Err)
		add("Decide", "Is it a node of this cluster? h names its host: the snapshot, with all Secrets, is sent there. o leaves it out.")
	case f == nil:
		add("Not reached", c.Err)
		add("Hint", "h names another host, r retries, o excludes it")
	default:
		if !c.Local {
			add("Reached as", c.Host)
		}
		if f.Node != c.Name {
			add("Node", f.Node)
		}
		if f.Live != nil {
			add("etcd", fmt.Sprintf("revision %d, %s", f.Live.Revision, text.Plural(len(f.Live.Members), "member", "members")))
		} else {
			add("etcd", "doesn't answer: "+f.LiveErr)
		}
		add("API server", f.APIState)
		if u := f.Unfinished; u != nil {
			add("Earlier run", u.Run+" was interrupted there")
		}
	}
	return list
}
