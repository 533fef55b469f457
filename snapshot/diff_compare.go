package snapshot

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"

	"etcd-rewind/problem"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/server/v3/storage/mvcc"
	"go.etcd.io/etcd/server/v3/storage/schema"

	bolt "go.etcd.io/bbolt"
)

// compare does the work of Compare, in the child. The snapshot's keys are kept
// as an index; the other side goes by and is looked up in it.
func compare(req compareRequest, progress func(Progress)) (*Comparison, error) {
	ctx := context.Background() // a cancelled comparison is a killed process
	phase := func(name string) func(Progress) {
		return func(p Progress) {
			p.Phase = name
			progress(p)
		}
	}
	// The snapshot may be large, and what died is often seen to be damaged at once.
	if dir := req.Other.DataDir; dir != "" {
		if _, err := Quick(dbPath(dir)); err != nil {
			return nil, otherProblem(dir, err)
		}
	}
	// Hash and structure of the other snapshot are looked at meanwhile, and
	// report their progress when it is its turn.
	var other *hashing
	var turn atomic.Bool
	if o := req.Other.Snapshot; o != "" {
		var err error
		if other, err = startHash(inspectRequest{Path: o}, func(p Progress) {
			if turn.Load() {
				phase("other")(p)
			}
		}); err != nil {
			return nil, nameProblem(o, true, err)
		}
	}
	x := newIndex()
	info, err := inspectFile(inspectRequest{Path: req.Snapshot}, x, phase("snapshot"))
	if err != nil {
		return nil, nameProblem(req.Snapshot, req.Other.Snapshot != "", err)
	}
	if want := req.Options.ExpectSHA256; want != "" && info.SHA256 != want {
		return nil, nameProblem(req.Snapshot, req.Other.Snapshot != "", problem.Coded(CodeChanged, "inspect it again", "this isn't the file that was inspected: its sha256 differs"))
	}
	turn.Store(true)
	x.build()
	if info.Revision >= maxRevision {
		return nil, nameProblem(req.Snapshot, req.Other.Snapshot != "", problem.Coded(CodeStructure, useAnother, "revision %d is beyond what can be compared", info.Revision))
	}
	c := &comparer{
		index: x, met: make([]meeting, x.n), prefix: info.Prefix, options: req.Options,
		kinds: map[string]string{}, a: info.side(SideSnapshot, req.Snapshot),
	}
	if c.options.Limit == 0 {
		c.options.Limit = defaultLimit
	}
	c.learn(info.Kinds)

	if c.oldValues, err = openValues(req.Snapshot); err != nil {
		return nil, err
	}
	defer c.oldValues.close()
	var closeOther func()
	if closeOther, err = c.readOther(ctx, req.Other, other, phase("other")); err != nil {
		return nil, err
	}
	defer closeOther()
	if c.b.Revision >= maxRevision {
		return nil, problem.Coded(CodeStructure, useAnother, "revision %d of the other side is beyond what can be compared", c.b.Revision)
	}
	if err := guard(c.onlyInSnapshot); err != nil {
		return nil, err
	}
	if err := guard(func() error { return c.compareSame(ctx) }); err != nil {
		return nil, err
	}
	if err := guard(func() error { return c.describe(ctx) }); err != nil {
		return nil, err
	}
	return c.result(), nil
}

func (i *Info) side(what SideKind, from string) Side {
	return Side{What: what, From: from, Revision: i.Revision, Keys: i.Keys, KubeSystemUID: i.KubeSystemUID, LastWrite: i.LastWrite, SHA256: i.SHA256}
}

// comparer collects the differences between an index and another side.
type comparer struct {
	index   *index
	met     []meeting // by entry of the index
	found   int       // the entry that first has found, -1 for none
	others  hashSet   // keys that aren't in the index
	prefix  string
	options CompareOptions
	kinds   map[string]string // of the resources
	a, b    Side
	live    bool

	oldValues, newValues values

	brings, takes, turns collected
	minThen, minNow      int64
	read, unread         int // see compareSame
}

// meeting is how an entry of the index was found on the other side.
type meeting uint8

const (
	notMet     meeting = iota
	metDeleted         // the key was there
	metChanged
	metSame
)

// values reads the value of a key that was last written at a revision.
type values interface {
	value(ctx context.Context, key string, at uint64) ([]byte, error)
	close()
}

func (c *comparer) learn(kinds []Kind) {
	for _, k := range kinds {
		if k.APIVersion != "" {
			c.kinds[k.Resource] = k.Kind
		}
	}
}

func (c *comparer) hash(b []byte) uint64 { return c.index.hash(b) }

// first needs no set for the keys that are in the index.
func (c *comparer) first(key uint64) bool {
	if c.found = c.index.find(key); c.found < 0 {
		return c.others.add(key)
	}
	if c.met[c.found] != notMet {
		return false
	}
	c.met[c.found] = metDeleted // unless see follows
	return true
}

// see is shown the live records of another database, each right after first.
func (c *comparer) see(r record, _ uint64) {
	at, i := place(r.at), c.found
	if i < 0 {
		c.meet(r.key, i, at, metChanged, false)
		return
	}
	e, how := c.index.entry(i), metChanged
	if e.value == c.index.hash(r.value) {
		how = metSame
	}
	if e.at == at && how == metChanged { // one revision, two values: two histories
		lower(&c.minThen, at)
		lower(&c.minNow, at)
	}
	c.meet(r.key, i, at, how, e.at == at)
}

// seeKey is shown the live keys of a running etcd. What was last written at
// the same revision, as often, and made at the same revision, is the same.
func (c *comparer) seeKey(kv *mvccpb.KeyValue) {
	at := place(mvcc.Revision{Main: kv.ModRevision})
	i := c.index.find(c.hash(kv.Key))
	how := metChanged
	if i >= 0 && c.index.entry(i).at>>16 == at>>16 && c.index.entry(i).state == stateOf(kv.CreateRevision, kv.Version) {
		how = metSame
	}
	c.meet(kv.Key, i, at, how, how == metSame)
}

func (c *comparer) meet(key []byte, i int, at uint64, how meeting, sameAt bool) {
	c.b.Keys++
	if !sameAt {
		lower(&c.minNow, at)
	}
	if i < 0 {
		c.takes.add(c, key, 0, at)
		return
	}
	c.met[i] = how
	if !sameAt {
		lower(&c.minThen, c.index.entry(i).at)
	}
	if how == metChanged {
		c.turns.add(c, key, c.index.entry(i).at, at)
	}
}

func lower(min *int64, at uint64) {
	if rev := int64(at >> 16); *min == 0 || rev < *min {
		*min = rev
	}
}

// readOther lets the other side go by.
func (c *comparer) readOther(ctx context.Context, o Other, hash *hashing, progress func(Progress)) (closeAll func(), err error) {
	switch {
	case o.Snapshot != "":
		info, err := hash.inspect(c)
		if err != nil {
			return nil, nameProblem(o.Snapshot, true, err)
		}
		c.b = info.side(SideSnapshot, o.Snapshot)
		c.learn(info.Kinds)
		if c.newValues, err = openValues(o.Snapshot); err != nil {
			return nil, err
		}
	case o.DataDir != "":
		db := dbPath(o.DataDir)
		found, err := readBolt(db, allKeys(c, nil))
		if err != nil {
			return nil, otherProblem(o.DataDir, err)
		}
		var info Info
		found.fill(&info)
		c.b = info.side(SideDataDir, o.DataDir)
		c.learn(info.Kinds)
		if c.newValues, err = openValues(db); err != nil {
			return nil, err
		}
	default:
		return c.readLive(ctx, *o.Etcd, progress)
	}
	return c.newValues.close, nil
}

func (c *comparer) readLive(ctx context.Context, etcd Etcd, progress func(Progress)) (closeAll func(), err error) {
	l, err := dial(ctx, etcd)
	if err != nil {
		return nil, err
	}
	c.live = true
	c.b = Side{What: SideCluster, From: l.endpoint}
	c.b.Revision, err = l.eachKey(ctx, c.seeKey, func(done, total int64) { progress(Progress{Done: done, Total: total}) })
	if err != nil {
		l.close()
		return nil, err
	}
	v := &liveValues{live: l, revision: c.b.Revision}
	c.newValues = v
	if c.prefix != "" {
		if value, err := v.value(ctx, c.prefix+"/namespaces/kube-system", 0); err == nil {
			c.b.KubeSystemUID = uidOf(value)
		}
	}
	return l.close, nil
}

func uidOf(value []byte) string {
	s, ok := skim(value, false)
	if !ok {
		return ""
	}
	m, err := decodeMeta(s.meta, s.proto)
	if err != nil {
		return ""
	}
	return string(m.UID)
}

// onlyInSnapshot adds what went by on no other side.
func (c *comparer) onlyInSnapshot() error {
	v := c.oldValues.(*boltValues)
	for i, met := range c.met {
		if met > metDeleted {
			continue
		}
		e := c.index.entry(i)
		r, ok := v.record(e.at)
		if !ok {
			return errors.New("a key of the snapshot can't be found again")
		}
		if len(r.key) == 0 {
			continue // of a revision bump
		}
		lower(&c.minThen, e.at)
		c.brings.add(c, r.key, e.at, 0)
	}
	return nil
}

// compareSame looks at values that count as the same and weren't read: of a
// running etcd at the newest ones, which differ when two histories went apart.
// One that differs at the same revision proves that they did. Of files all
// values were read.
func (c *comparer) compareSame(ctx context.Context) error {
	if _, ok := c.newValues.(*boltValues); ok {
		return nil
	}
	mine := c.oldValues.(*boltValues)
	limit := newestRead
	for i, met := range c.met {
		if met != metSame {
			continue
		}
		at := c.index.entry(i).at
		if limit == newestRead && !c.oneHistory() {
			limit = mostRead
		}
		r, ok := mine.record(at)
		if o, _ := c.nameOf(r.key); !ok || limit <= c.read || len(r.key) > maxKey || isSecret(o.Resource, "") {
			c.unread++
			continue
		}
		c.read++
		now, err := c.newValues.value(ctx, string(r.key), at)
		if err != nil { // the keys were read; how far this got is shown
			c.unread++
			limit = 0
			continue
		}
		if !bytes.Equal(r.value, now) {
			c.differs(r.key, at)
		}
	}
	return nil
}

// How many values of a running etcd are read although they count as the same:
// the newest, and when its history is another.
const (
	newestRead = 200
	mostRead   = 5000
)

// differs adds what has two values at one revision.
func (c *comparer) differs(key []byte, at uint64) {
	lower(&c.minThen, at)
	lower(&c.minNow, at)
	c.turns.add(c, key, at, at)
}

func (c *comparer) oneHistory() bool {
	switch lineage(c.a, c.b, c.minThen, c.minNow).Relation {
	case SameMoment, Before, After:
		return true
	}
	return false
}

// collected are the changes in one direction.
type collected struct {
	groups   map[Group]int
	list     []Change
	keys     []string // of list
	places   [][2]uint64
	unlisted int
}

func (l *collected) add(c *comparer, key []byte, then, now uint64) {
	if len(key) == 0 {
		return
	}
	if l.groups == nil {
		l.groups = map[Group]int{}
	}
	ch := Change{Then: placeRevision(then).Main, Now: placeRevision(now).Main}
	if len(key) > maxKey {
		ch.ObjectName, ch.Noise = ObjectName{Resource: Others, Name: name(key)}, NoiseInternal
		key = nil
	} else {
		ch.ObjectName, ch.Noise = c.nameOf(key)
		ch.Resource, ch.Namespace, ch.Name = name(ch.Resource), name(ch.Namespace), name(ch.Name)
	}
	l.groups[l.group(&ch)]++
	switch {
	case ch.Noise != "" && !c.options.Noise:
	case len(l.list) == c.options.Limit:
		l.unlisted++
	default:
		l.list = append(l.list, ch)
		l.keys = append(l.keys, string(key))
		l.places = append(l.places, [2]uint64{then, now})
	}
}

// group is where a change is counted: of more than maxGroups namespaces and
// resources the rest is together.
func (l *collected) group(ch *Change) Group {
	g := Group{Namespace: ch.Namespace, Resource: ch.Resource, Noise: ch.Noise}
	if _, ok := l.groups[g]; ok || len(l.groups) < maxGroups {
		return g
	}
	if g.Namespace != "" {
		g.Namespace = Others
	}
	if _, ok := l.groups[g]; ok || len(l.groups) < maxGroups+maxKinds {
		return g
	}
	return Group{Resource: Others, Noise: ch.Noise}
}

// nameOf splits a key, and says whether a change of it is noise.
func (c *comparer) nameOf(key []byte) (ObjectName, Noise) {
	if c.prefix == "" { // an etcd without Kubernetes
		return ObjectName{Resource: "keys", Name: string(key)}, ""
	}
	rest, ok := bytes.CutPrefix(key, []byte(c.prefix+"/"))
	if !ok {
		return ObjectName{Resource: "other keys", Name: string(key)}, NoiseInternal
	}
	o, ok := splitKey(string(rest))
	if !ok {
		return ObjectName{Resource: "other keys", Name: string(key)}, NoiseInternal
	}
	switch o.Resource {
	case "events", "events.events.k8s.io":
		return o, NoiseEvent
	case "leases", "masterleases":
		return o, NoiseLease
	case "endpoints", "endpointslices":
		return o, NoiseEndpoint
	case "ranges", "peerserverleases":
		return o, NoiseInternal
	}
	return o, ""
}

// describe completes the lists from the values of both sides, as far as they
// are needed, and takes out what turns out to be the same or noise.
func (c *comparer) describe(ctx context.Context) error {
	for _, l := range []*collected{&c.brings, &c.takes, &c.turns} {
		if err := c.complete(ctx, l); err != nil {
			return err
		}
	}
	return nil
}

func (c *comparer) complete(ctx context.Context, l *collected) error {
	kept := l.list[:0]
	for i, ch := range l.list {
		then, now, err := c.valuesOf(ctx, &ch, l.keys[i], l.places[i])
		if err != nil {
			return err
		}
		before := l.group(&ch)
		if ch.Then != 0 && ch.Now != 0 && then != nil && bytes.Equal(then, now) {
			// Written, but not changed.
			l.groups[before]--
			continue
		}
		c.fill(&ch, then, now)
		if ch.Noise != before.Noise {
			l.groups[before]--
			l.groups[l.group(&ch)]++
			if !c.options.Noise {
				continue
			}
		}
		kept = append(kept, ch)
	}
	l.list = kept
	return nil
}

// valuesOf reads what is needed to describe a change. A running etcd isn't
// asked for Secrets, nor for what exists there alone, but for one of a kind
// that isn't known yet.
func (c *comparer) valuesOf(ctx context.Context, ch *Change, key string, at [2]uint64) (then, now []byte, err error) {
	if key == "" { // too long to be looked at
		return nil, nil, nil
	}
	if ch.Then != 0 {
		if then, err = c.oldValues.value(ctx, key, at[0]); err != nil {
			return nil, nil, err
		}
	}
	need := ch.Now != 0
	if c.live {
		_, known := c.kinds[ch.Resource]
		need = need && ch.Resource != "secrets" && (ch.Then != 0 || !known)
	}
	if need {
		if now, err = c.newValues.value(ctx, key, at[1]); err != nil {
			return nil, nil, err
		}
	}
	return then, now, nil
}

func (c *comparer) fill(ch *Change, then, now []byte) {
	old, isOld := skim(then, true)
	cur, isCur := skim(now, true)
	var oldUID, curUID string
	for _, s := range []struct {
		s   skimmed
		ok  bool
		uid *string
	}{{cur, isCur, &curUID}, {old, isOld, &oldUID}} {
		if !s.ok {
			continue
		}
		c.kinds[ch.Resource] = name(s.s.kind)
		if m, err := decodeMeta(s.s.meta, s.s.proto); err == nil {
			ch.Created, *s.uid = m.CreationTimestamp.Time, string(m.UID)
		}
	}
	ch.Replaced = oldUID != "" && curUID != "" && oldUID != curUID
	if ch.Then == 0 || ch.Now == 0 || !isOld || !isCur || isSecret(ch.Resource, old.kind) || isSecret(ch.Resource, cur.kind) {
		return
	}
	fields, ok := fieldDifferences(then, now)
	if !ok {
		return
	}
	if len(fields) == 0 && !ch.Replaced && ch.Noise == "" {
		ch.Noise = NoiseStatus
	}
	ch.Fields = fields
}

func isSecret(resource, kind string) bool {
	return kind == "Secret" || resource == "secrets" || strings.HasPrefix(resource, "secrets.")
}

func (c *comparer) result() *Comparison {
	out := &Comparison{Snapshot: c.a, Other: c.b, Unread: c.unread}
	out.Lineage = lineage(c.a, c.b, c.minThen, c.minNow)
	for _, d := range []struct {
		from *collected
		to   *Changes
	}{{&c.brings, &out.BringsBack}, {&c.takes, &out.TakesAway}, {&c.turns, &out.TurnsBack}} {
		*d.to = d.from.changes(c.kinds)
	}
	return out
}

func (l *collected) changes(kinds map[string]string) Changes {
	name := func(resource string) string {
		if k := kinds[resource]; k != "" {
			return k
		}
		return kindOf(resource)
	}
	var out Changes
	for g, n := range l.groups {
		if n == 0 {
			continue
		}
		g.Kind, g.Objects = name(g.Resource), n
		if g.Noise == "" {
			out.Objects += n
		} else {
			out.Noise += n
		}
		out.Groups = append(out.Groups, g)
	}
	slices.SortFunc(out.Groups, func(a, b Group) int {
		return strings.Compare(a.Namespace+" "+a.Kind+" "+a.Resource+" "+string(a.Noise), b.Namespace+" "+b.Kind+" "+b.Resource+" "+string(b.Noise))
	})
	out.List, out.Unlisted = l.list, l.unlisted
	for i := range out.List {
		out.List[i].Kind = name(out.List[i].Resource)
	}
	slices.SortFunc(out.List, func(a, b Change) int {
		return strings.Compare(a.Namespace+" "+a.Kind+" "+a.Resource+" "+a.Name, b.Namespace+" "+b.Kind+" "+b.Resource+" "+b.Name)
	})
	return out
}

// boltValues reads from a database.
type boltValues struct {
	db     *bolt.DB
	tx     *bolt.Tx
	bucket *bolt.Bucket
}

func openValues(path string) (values, error) {
	db, err := openBolt(path)
	if err != nil {
		return nil, err
	}
	tx, err := db.Begin(false)
	if err != nil {
		_ = db.Close()
		return nil, err
	}
	return &boltValues{db: db, tx: tx, bucket: tx.Bucket(schema.Key.Name())}, nil
}

func (v *boltValues) close() {
	_ = v.tx.Rollback()
	_ = v.db.Close()
}

func (v *boltValues) record(at uint64) (record, bool) {
	b := v.bucket.Get(mvcc.RevToBytes(placeRevision(at), mvcc.NewRevBytes()))
	r := record{at: placeRevision(at)}
	return r, b != nil && r.split(b) == nil
}

func (v *boltValues) value(_ context.Context, _ string, at uint64) ([]byte, error) {
	r, ok := v.record(at)
	if !ok {
		return nil, nil
	}
	return r.value, nil
}

// liveValues reads from a running etcd, all of one revision.
type liveValues struct {
	*live
	revision int64
}

func (v *liveValues) value(ctx context.Context, key string, _ uint64) ([]byte, error) {
	return v.live.value(ctx, []byte(key), v.revision)
}
