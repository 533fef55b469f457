package pane

import (
	"fmt"
	"slices"
	"strings"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"etcd-rewind/restore"
	"etcd-rewind/steps"
	"etcd-rewind/trust"
	"etcd-rewind/ui/text"
)

// Members shows who the members are, and what is to be decided of them.
type Members struct {
	Busy  bool
	Since time.Time
	Asked int // older answers don't count

	Members []restore.Member
	Names   []string // of the nodes that take part; none for a node alone
	Err     error

	Cur    int
	scroll Scroller
	typing *Field // the host of the current one

	Hosts   map[string]string // by the user, over those of the command line
	Without []string
	kept    map[string]bool // that not all sources name, and that take part
}

// Begin waits for the members.
func (p *Members) Begin(now time.Time) {
	p.Asked++
	p.Busy, p.Since, p.Err, p.typing = true, now, nil, nil
}

// Asks says whether keys go into a host.
func (p *Members) Asks() bool { return p.typing != nil }

// Keep says that the current one takes part, though not all sources name it.
func (p *Members) Keep() {
	if p.kept == nil {
		p.kept = map[string]bool{}
	}
	p.kept[p.Current().Name] = true
	p.next()
}

// Kept says whether there are such members.
func (p *Members) Kept() bool { return len(p.kept) > 0 }

// Set takes the members as they were found.
func (p *Members) Set(members []restore.Member, names []string, err error) {
	at := ""
	if c := p.Current(); c != nil {
		at = c.Name
	}
	p.Busy, p.Err, p.Members, p.Names = false, err, members, names
	if err != nil {
		p.Members = nil
		return
	}
	p.Cur = max(0, slices.IndexFunc(p.Members, func(o restore.Member) bool { return o.Name == at }))
	if at == "" {
		p.next()
	}
}

func (p *Members) Current() *restore.Member {
	if p.Cur < 0 || p.Cur >= len(p.Members) {
		return nil
	}
	return &p.Members[p.Cur]
}

// Odd says whether a member is to be decided on: not all sources name it.
func (p *Members) Odd(m *restore.Member) bool {
	return !m.Out && len(m.Missing) > 0 && !p.kept[m.Name]
}

// open says whether there is something to settle about a member.
func (p *Members) open(m *restore.Member) bool {
	return !m.Out && m.Facts == nil || p.Odd(m)
}

// host is where a member is reached, or was tried last.
func (p *Members) host(c *restore.Member) string {
	if h := p.Hosts[c.Name]; h != "" {
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
func (p *Members) next() {
	for n := range p.Members {
		if i := (p.Cur + n) % len(p.Members); p.open(&p.Members[i]) {
			p.Cur = i
			return
		}
	}
}

// Undecided goes to a member that is to be decided on, and says so; "" when
// there is none.
func (p *Members) Undecided() string {
	if p.Err != nil || len(p.Members) == 0 {
		return "Members unknown; r retries."
	}
	p.next()
	switch c := p.Current(); {
	case !p.open(c):
		return ""
	case c.Facts == nil:
		return c.Name + " can't be reached: fix that and press r, name another host with h, or exclude it with o."
	default:
		return c.Name + " isn't named by all sources: t includes it, o excludes it."
	}
}

// TypeHost takes a key of the host; named says that it is complete.
func (p *Members) TypeHost(k tea.KeyMsg, reachedBy string) (named bool, note string) {
	switch k.String() {
	case "esc":
		p.typing = nil
	case "enter":
		host := strings.TrimSpace(p.typing.Value())
		if host == "" {
			return false, "Type a host for " + reachedBy + ", or esc."
		}
		if p.Hosts == nil {
			p.Hosts = map[string]string{}
		}
		p.Hosts[p.Current().Name] = host
		return true, ""
	default:
		p.typing.Key(k)
	}
	return false, ""
}

// Survivors are those that are left when the current member is left out.
func (p *Members) Survivors() []string {
	var names []string
	for i := range p.Members {
		if o := &p.Members[i]; !o.Out && i != p.Cur {
			names = append(names, o.Name)
		}
	}
	return names
}

// View shows the members; rsh is what reaches them, and alone says that this node
// may be restored without them.
func (p *Members) View(l text.Look, now time.Time, rsh string, alone bool, w, h int) ([]string, string, []Hint) {
	help := []Hint{{"enter", "send the snapshot"}, {"r", "read again"}}
	tail := []Hint{{"?", "help"}, {"esc", "back"}, {"q", "quit"}}
	switch {
	case p.Busy:
		took := ""
		if s := now.Sub(p.Since); s >= time.Second {
			took = "   " + text.Seconds(s.Seconds())
		}
		lines := []string{" " + text.Spin(now) + " " + l.Bold.Render("Reaching the nodes of the other members") + took, ""}
		lines = append(lines, text.Hang("   ", "Through "+rsh+", which has to work without a prompt. This program starts itself there as etcd-rewind agent; where it is missing, it is copied to a temporary directory and removed afterwards.", w-2)...)
		lines = append(lines, "")
		return append(lines, text.Hang("   ", "This only reads. Nothing is changed on any node before you have seen the plan and typed this node's name.", w-2)...), "", tail
	case p.Err != nil:
		return why(l, text.SymBad, "The members can't be found", p.Err, w), "", append(help[1:], tail...)
	}
	taken, away := 0, 0
	for i := range p.Members {
		switch {
		case p.Members[i].Taken():
			taken++
		case !p.Members[i].Out:
			away++
		}
	}
	one, many := "control plane", "control planes"
	if p.mixed() {
		one, many = "node", "nodes"
	}
	head := text.Plural(taken, one, many) + " restored as one"
	switch {
	case away > 0:
		if one != "node" {
			one, many = "member", "members"
		}
		head = text.Plural(len(p.Members), one, many) + ", " + text.Number(int64(away)) + " not reached"
	case slices.ContainsFunc(p.Members, func(o restore.Member) bool { return p.Odd(&o) }):
		head = text.Plural(taken, one, many) + "; not all are named by all sources"
	}
	lines := []string{" " + l.Bold.Render(head), ""}
	names := 0
	for _, o := range p.Members {
		names = max(names, text.Width(trust.Text(o.Name)))
	}
	names = min(names, w/3)
	var rows []string
	for i := range p.Members {
		rows = append(rows, p.row(l, i, names, w))
	}
	c := p.Current()
	var detail []string
	if p.typing != nil {
		detail = text.Hang("   ", "Where "+l.Bold.Render(trust.Text(c.Name))+" is reached by "+rsh+": a name from its configuration, a host, an address, USER@HOST.", w-2)
		detail = append(detail, "   "+p.typing.View(w-4))
		help, tail = []Hint{{"enter", "take it"}}, []Hint{{"esc", "back"}}
	} else if c != nil {
		detail = text.Indent(3, text.Facts(p.about(c), w-4))
		if !c.Local && !c.Out {
			help = slices.Insert(help, 1, Hint{"h", "host"}, Hint{"o", "exclude"})
		}
		if p.Odd(c) {
			help = append([]Hint{{"t", "include it"}}, help...)
		} else if c.Out {
			help = append([]Hint{{"t", "include it"}}, help...)
		}
	}
	if alone && p.typing == nil {
		help = append(help, Hint{"a", "this node alone"})
	}
	room := h - len(lines) - 1
	list := max(3, min(len(rows), room-len(detail)))
	p.scroll.Show(p.Cur, p.Cur, list)
	seen, where := p.scroll.Window(rows, list)
	lines = append(append(lines, seen...), "")
	if most := h - len(lines); len(detail) > most && most > 1 {
		detail = append(detail[:most-1:most-1], "   …")
	}
	return append(lines, detail...), where, append(help, tail...)
}

// row is a line about a member.
func (p *Members) row(l text.Look, i, names, w int) string {
	c := &p.Members[i]
	mark, name := "  ", text.Fit(trust.Text(c.Name), names)
	if i == p.Cur {
		mark, name = text.SymNow+" ", l.Bold.Render(name)
	}
	sym, how := text.SymDone, p.host(c)
	var say []string
	switch f := c.Facts; {
	case c.Out && c.Apart:
		sym, how, say = text.SymSkipped, "excluded", []string{"its kube-apiserver has to be down"}
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
		if p.Odd(c) {
			sym = text.SymWarn
			say = append([]string{"only in " + sourcesText(c.KnownBy, p.mixed())}, say...)
		}
	}
	return text.Cut(" "+mark+l.Symbol(sym)+" "+name+"  "+text.Fit(trust.Text(how), 15)+"  "+trust.Text(strings.Join(say, " · ")), w)
}

// firstPart is the beginning of an error, without what is behind it.
func firstPart(s string) string {
	s, _, _ = strings.Cut(s, "; ")
	return s
}

func sourcesText(sources []restore.Source, mixed bool) string {
	var s []string
	for _, src := range sources {
		word := string(src)
		if src == restore.InManifest && mixed {
			word = "etcd's settings" // a unit has no etcd.yaml
		}
		s = append(s, word)
	}
	return text.Listed(s)
}

// mixed says that not every node has a member and an API server.
func (p *Members) mixed() bool {
	return slices.ContainsFunc(p.Members, func(o restore.Member) bool { return o.Apart || text.Roles(o.Roles) != "" })
}

// about is all that is known of a member.
func (p *Members) about(c *restore.Member) []steps.Fact {
	var list text.About
	known := sourcesText(c.KnownBy, p.mixed())
	if len(c.Missing) > 0 {
		known += "; not in " + sourcesText(c.Missing, p.mixed())
	}
	if !c.Apart {
		list.Add("Member", c.Name+"  "+strings.Join(c.PeerURLs, ", "))
		list.Add("Named in", known)
	}
	if len(c.Elsewhere) > 0 {
		list.Add("In the snapshot", strings.Join(c.Elsewhere, ", "))
	}
	if p.Odd(c) {
		list.Add("Decide", "t when it belongs to the cluster (it joined later, say): it becomes a member of the restored one. o when it was removed or is lost.")
	}
	switch f := c.Facts; {
	case c.Out && c.Apart:
		list.Add("Excluded", "its kube-apiserver has to be down until the restore is done; start it again afterwards.")
	case c.Out:
		list.Add("Excluded", "the restored cluster has only the others; etcd must not run here any more. To rejoin it later:")
		list = append(list, text.Rejoin()...)
	case f == nil && c.OnlySnapshot():
		list.Add("Not reached", c.Err)
		list.Add("Decide", "Is it a node of this cluster? h names its host: the snapshot, with all Secrets, is sent there. o leaves it out.")
	case f == nil:
		list.Add("Not reached", c.Err)
		list.Add("Hint", "h names another host, r retries, o excludes it")
	default:
		if !c.Local {
			list.Add("Reached as", c.Host)
		}
		if f.Node != c.Name {
			list.Add("Node", f.Node)
		}
		switch {
		case c.Apart:
			list.Add("etcd", strings.Join(f.EtcdServers, ", "))
		case f.Live != nil:
			list.Add("etcd", fmt.Sprintf("revision %d, %s", f.Live.Revision, text.Plural(len(f.Live.Members), "member", "members")))
		default:
			list.Add("etcd", "doesn't answer: "+f.LiveErr)
		}
		if len(f.Roles) == 0 || f.Runs(steps.RoleAPI) {
			list.Add("API server", f.APIState)
		}
		if u := f.Unfinished; u != nil {
			list.Add("Earlier run", u.Run+" was interrupted there")
		}
	}
	return list
}

// Rows are the members, to be searched.
func (p *Members) Rows() []string {
	rows := make([]string, 0, len(p.Members))
	for _, o := range p.Members {
		rows = append(rows, o.Name+" "+o.Host)
	}
	return rows
}
